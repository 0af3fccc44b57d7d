"""The commands ``wbc book`` and ``wbc lab``: the chapters built, or opened to be changed and run again."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.cli.train import say_basis, train_missing, train_suite
from wbc_lib.errors import RunError

if TYPE_CHECKING:
    from wbc_lib.training.study import Study

Profile = Annotated[
    str,
    typer.Option("--profile", help="smoke, quick or paper. Default: paper if its runs are recorded, else quick."),
]


def book(
    context: typer.Context,
    data: Data = None,
    profile: Profile = "",
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

    output = context.with_resource(site.claim(output))
    paths.require_writable(paths.BUILD)
    paths.require_writable(output.parent, "name another folder with --output")
    study = _open(data, profile)
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


def _open(data: str | None, profile: str) -> "Study":
    from wbc_lib.training.study import open_study, prefer_recorded

    study = open_study(data, profile or "paper")
    return study if profile else prefer_recorded(study)


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


def lab(
    chapter: Annotated[str, typer.Argument(help="Such as 7b, or 7b-transfer. Default: the front page.")] = "index",
    options: Annotated[
        list[str] | None, typer.Argument(help="Passed on to JupyterLab, after --: -- --port=9000 --allow-root")
    ] = None,
    data: Data = None,
    profile: Profile = "",
    folder: Annotated[Path, typer.Option(help="Where the chapters are copied to; what you change there stays.")] = Path(
        "wbc-chapters"
    ),
    browser: Annotated[bool, typer.Option(help="Open a browser, or only say the address.")] = True,
) -> None:
    """Open JupyterLab on the chapters, with the kernel and the photos in place."""
    from wbc_lib.book import lab as laying_out

    passed_on = list(options or [])
    if chapter.startswith("-"):  # all that was said are JupyterLab's options
        passed_on, chapter = [chapter, *passed_on], "index"
    if not browser:
        passed_on.append("--no-browser")
    command = laying_out.command(folder, laying_out.find_chapter(chapter), passed_on)
    study = _open(data, profile)
    laid_out = laying_out.lay_out(folder, study.profile.name)
    said = [f"Chapters: {folder.resolve()}; data: {study.data.title}; profile: {study.profile.name}"]
    if study.results_of:
        said += [
            "There are no photos: results are those recorded on the published ones, and nothing can be trained.",
            "To train, name their folder with --data, or say --data phantoms.",
        ]
    if laid_out.kept:
        said.append(f"Kept as they are, for they were changed here: {', '.join(laid_out.kept)}.")
    if laid_out.outdated:
        said.append(
            f"Of these, older than the library and perhaps no longer running with it: {', '.join(laid_out.outdated)}. "
            "Rename yours and run this again to have the new ones beside them."
        )
    if laid_out.gone:
        said.append(f"No longer in the book, and left as they are: {', '.join(laid_out.gone)}; see CHANGELOG.md.")
    typer.echo("\n".join(said), err=True)
    os.execve(command[0], command, laying_out.environment(study.named))
