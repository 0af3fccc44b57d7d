"""The command ``wbc book``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.cli.train import say_basis, train_missing, train_suite
from wbc_lib.errors import RunError

if TYPE_CHECKING:
    from wbc_lib.training.study import Study

_OTHER_OUTPUT = "name another folder with --output"


def book(
    context: typer.Context,
    data: Data = None,
    profile: Annotated[
        str,
        typer.Option("--profile", help="smoke, quick or paper. Default: paper if its runs are recorded, else quick."),
    ] = "",
    output: Annotated[Path, typer.Option(help="Folder for the finished site.")] = paths.BUILD / "html",
    train: Annotated[
        bool | None,
        typer.Option(
            help="Train runs that are missing, or show those that are recorded: at least one of each experiment but "
            "those on a ready-made base. Default: the latter for paper only."
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters executed at a time.")] = 2,
) -> None:
    """Build the book; ends with the address of its front page."""
    paths.require_project("`wbc book`")
    from wbc_lib.book import site
    from wbc_lib.book.build import build_book
    from wbc_lib.training.experiments import SUITES
    from wbc_lib.training.study import open_study, prefer_recorded

    output = context.with_resource(site.claim(output))
    paths.require_writable(paths.BUILD)
    paths.require_writable(output.parent, _OTHER_OUTPUT)
    study = open_study(data, profile or "paper")
    if not profile:
        study = prefer_recorded(study)
    say_basis(study)
    if (study.profile.is_cut if train is None else train) and not study.results_of:
        train_missing(study, study.missing())
        if study.profile.name == "smoke":
            for name in SUITES:
                train_suite(study, name)
    _require_runs(study)
    with progress.bar("Chapters") as on_progress:

        def on_chapter(name: str, done: int, total: int) -> None:
            on_progress(done, total)
            progress.say(f"  {done:2d}/{total} {name}")

        with paths.named(paths.BUILD):
            page = build_book(study, output, jobs=jobs, on_chapter=on_chapter)
    progress.say(f"The book is ready: {page}")


def _require_runs(study: "Study") -> None:
    from wbc_lib.training.experiments import EXPERIMENTS

    # Our controls, and networks on a ready-made base whose weights not every machine can fetch, may be missing; pages
    # say so.
    paper = [e.name for e in EXPERIMENTS.values() if e.in_paper and not e.network.base]
    lacking = [name for name in paper if not study.recorded(name)]
    if lacking:
        remedy = "say --train" if not study.results_of else "leave out --profile, or name the photos with --data"
        raise RunError(
            f"The book needs a run of each experiment; at profile {study.profile.name} none is recorded of "
            f"{', '.join(lacking)}; {remedy}."
        )
