"""The `wbc` command."""

import json
import os
import sys
from contextlib import nullcontext
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer

from wbc_lib import paths, progress, stopping
from wbc_lib.cli import data as data_commands
from wbc_lib.cli import lab, runs
from wbc_lib.cli.data import Data
from wbc_lib.cli.runs import AsJson, ProfileName, find_one_run
from wbc_lib.errors import DataNotFoundError, RunError, UnknownNameError, WbcError, WeightsError
from wbc_lib.progress import console
from wbc_lib.training.designs import DESIGNS, find_design
from wbc_lib.training.experiments import EXPERIMENTS, VARIATIONS, find_experiment
from wbc_lib.training.runs import Store
from wbc_lib.training.scaleout import Cluster, train_on
from wbc_lib.training.study import Study, open_study, prefer_recorded

app = typer.Typer(help="White blood cells, classified again: data, trainings, and the book.", no_args_is_help=True)
app.add_typer(data_commands.app, name="data")
app.add_typer(runs.app, name="runs")
app.command("lab")(lab.open_lab)

_OTHER_OUTPUT = "name another folder with --output"


def _say_version(is_wanted: bool) -> None:
    if is_wanted:
        progress.write_out(f"wbc {metadata.version('wbc')}")
        raise typer.Exit


@app.callback()
def _begin(
    version: Annotated[
        bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
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

    output = context.with_resource(site.claim(output))
    paths.require_writable(paths.BUILD)
    paths.require_writable(output.parent, _OTHER_OUTPUT)
    study = open_study(data, profile or "paper")
    if not profile:
        study = prefer_recorded(study)
    _say_basis(study)
    if (study.profile.is_cut if train is None else train) and not study.results_of:
        _train_missing(study, study.missing())
        if study.profile.name == "smoke":
            for name in DESIGNS:
                _train_design(study, name)
    _require_runs(study)
    with progress.bar("Chapters") as on_progress:

        def on_chapter(name: str, done: int, total: int) -> None:
            on_progress(done, total)
            console.print(f"  {done:2d}/{total} {name}", highlight=False)

        with paths.named(paths.BUILD):
            page = build_book(study, output, jobs=jobs, on_chapter=on_chapter)
    console.print(f"The book is ready: {page}", soft_wrap=True, highlight=False)


@app.command()
def train(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments, as `wbc experiments` lists them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment of the registry.")] = False,
    data: Data = None,
    profile: ProfileName = "quick",
    seeds: Annotated[str, typer.Option(help="Such as 0-2 or 0,5. Default: the profile's.")] = "",
    record: Annotated[bool, typer.Option(help="Write to the project's results/, to be committed.")] = False,
    design: Annotated[str, typer.Option(help=f"All runs of a design: {', '.join(DESIGNS)}.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Train so many at a time, each in a process of its own.")] = 0,
    scheduler: Annotated[str, typer.Option(help="Train on the workers of this dask scheduler: tcp://host:8786.")] = "",
    store: Annotated[str, typer.Option(help="Store for workers that share no folder: s3://bucket/runs.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="TensorFlow's threads per training; decides its bits.")] = 0,
) -> None:
    """Train experiments that are not recorded yet; an interrupted one goes on where it stopped.

    A name may be followed by variations, as in final+by-photo+painted; `wbc experiments` lists them.
    """
    cluster = Cluster(workers or 1, scheduler, store, threads) if workers or scheduler or store or threads else None
    if design:
        find_design(design)
        _train_design(_open_to_train(data, profile, record), design, cluster)
        return
    if not names and not everything:
        raise UnknownNameError(f"Name an experiment, or say --all. There are: {', '.join(EXPERIMENTS)}.")
    chosen = list(EXPERIMENTS) if everything else [find_experiment(name).name for name in names]
    named = parse_seeds(seeds)
    study = _open_to_train(data, profile, record)
    wanted = named or study.profile.seeds
    asked = [(name, seed) for seed in wanted for name in chosen]
    _train_missing(study, asked if cluster else study.missing(chosen, wanted), cluster)
    if record:
        found = (study.store.find(study.plan(name, seed)) for name in chosen for seed in wanted)
        for run in filter(None, found):
            study.store.keep(run)


@app.command()
def predict(
    images: Annotated[list[str], typer.Argument(help="Pictures, folders of them, or patterns such as 'smears/*.png'.")],
    run: Annotated[
        str, typer.Option(help="Run to ask, by its name. Default: the final model that was trained longest.")
    ] = "",
    accuracy: Annotated[
        float, typer.Option(min=0.5, max=1, help="Of validation images it does not abstain on, this share is right.")
    ] = 0.99,
    as_json: AsJson = False,
    map_to: Annotated[
        Path | None, typer.Option("--map", help="Show where it looks: a .png or .svg file to write, or a folder.")
    ] = None,
) -> None:
    """Say which cell pictures show, how surely, and whether the model would rather abstain.

    It looks at 80x60 pixels. A JPEG of 320x240, as the data set has, is brought to that as for a training: decoded at
    half size, then averaged. Of any other picture (JPEG, PNG, TIFF, BMP, WebP) the middle, cut to 4:3, is averaged; it
    should show one white cell in a field about six red cells wide. Exits 1 if a picture cannot be read.
    """
    from wbc_lib.data.pictures import find_pictures
    from wbc_lib.prediction import picture

    found = find_pictures(images)
    pictures, problems = found.pictures, list(found.problems)
    maps = picture.map_paths(map_to, pictures) if map_to else []
    report: dict[str, object] = {"images": (said := []), "passed_over": list(map(str, found.passed_over))}
    lines = []
    if pictures:
        asked = find_one_run(run) if run else picture.find_run(Store(paths.results(), paths.cache() / "runs"))
        if asked is None:
            raise RunError("No run of the final model on the published photos is recorded; name another with --run.")
        threshold = picture.choose_threshold(asked, accuracy)
        typer.echo(picture.describe_basis(asked, threshold, accuracy), err=True)
        report |= {"run": asked.name, "accuracy": accuracy, "threshold": threshold}
        with progress.bar("Looking") if len(pictures) > 20 else nullcontext() as on_progress:
            answers = picture.classify(asked, pictures, threshold, with_attention=bool(maps), on_progress=on_progress)
            for i, answer in enumerate(answers):
                if isinstance(answer, WbcError):
                    problems.append(str(answer))
                    continue
                said.append(answer.as_plain())
                lines.append(answer.describe())
                if maps:
                    with paths.place(maps[i], "name another file or folder with --map"):
                        picture.write_map(answer, maps[i])
                    said[-1]["map"] = str(maps[i])
    # Not before the bar is through, which would take it for its own.
    if as_json or lines:
        progress.write_out(json.dumps(report | {"problems": problems}, indent=1) if as_json else "\n".join(lines))
    for sentence in filter(None, (*problems, found.describe_passed_over())):
        typer.echo(sentence, err=True)
    if problems:
        raise typer.Exit(1)


@app.command()
def experiments(as_json: AsJson = False) -> None:
    """List the experiments of the registry, their variations, and the designs made of them."""
    registry = [
        {"name": e.name, "title": e.title, "epochs": e.epochs, "material": e.material, "in the paper": e.in_paper}
        for e in EXPERIMENTS.values()
    ]
    variations = [{"variation": f"+{name}", "what it changes": words} for name, (words, _) in VARIATIONS.items()]
    designs = [
        {"design": d.name, "its question": d.title, "runs": sum(map(len, d.seeds.values())), "profile": d.profile}
        for d in DESIGNS.values()
    ]
    progress.print_tables(registry, variations, designs, as_json=as_json)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as ``0-2,7`` as (0, 1, 2, 7)."""
    seeds: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
    except ValueError as error:
        raise UnknownNameError(f"{text!r} names no seeds; write them like 0-2 or 0,5.") from error
    if text and not seeds or any(seed >= 2**32 for seed in seeds):
        raise UnknownNameError(f"{text!r} names no seeds; write them like 0-2 or 0,5.")
    return tuple(seeds)


def _open_to_train(data: str | None, profile: str, record: bool) -> Study:
    if record and not os.environ.get("WBC_RESULTS"):
        paths.require_project("`wbc train --record`")
    study = open_study(data, profile, record=record)
    if study.results_of:
        raise DataNotFoundError(
            "No photos were found to train on; name their folder with --data, or say --data phantoms."
        )
    _say_basis(study)
    return study


def _say_basis(study: Study) -> None:
    published = ", the published files bit for bit" if study.checksums.is_published else ""
    typer.echo(f"Working with {study.data.title}{published}: {study.data.root}", err=True)
    if study.results_of:
        said = "No photos were found: results are those recorded on the published photos, nothing is trained."
        typer.echo(said, err=True)


def _require_runs(study: Study) -> None:
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


def _train_design(study: Study, name: str, cluster: Cluster | None = None) -> None:
    seeds, at_its_profile = study.wanted(name)
    asked = [(experiment, seed) for experiment in seeds for seed in seeds[experiment]]
    missing = asked if cluster else [m for name, seed in asked for m in at_its_profile.missing([name], [seed])]
    # First seeds first, so that an early stop leaves something of everything.
    _train_missing(at_its_profile, sorted(missing, key=lambda m: m[1]), cluster)


def _train_missing(study: Study, wanted: list[tuple[str, int]], cluster: Cluster | None = None) -> None:
    if cluster:
        failed = train_on(cluster, study, wanted)
        for sentence in failed:
            typer.echo(sentence, err=True)
        if failed:
            raise typer.Exit(1)
        return
    for i, (name, seed) in enumerate(wanted, start=1):
        title = f"{find_experiment(name).title}, seed {seed}"
        try:
            run = study.run(name, seed)
        except WeightsError as error:
            console.print(f"Not run: {title}. {error}", soft_wrap=True, highlight=False)
        else:
            best = run.history.val_accuracy.max()
            seconds = run.record["seconds"]
            console.print(
                f"  {i:2d}/{len(wanted)} {title}: {run.epochs} epochs in {seconds:.0f} s, "
                f"validation accuracy up to {best:.1%}",
                highlight=False,
                soft_wrap=True,
            )


def main() -> None:
    """Run the command line; what a user can mend is told in one sentence."""
    paths.settle_home()
    paths.make_absolute()
    with stopping.heeded():
        _run()


def _run() -> None:
    try:
        app(prog_name="wbc")
    except WbcError as error:
        console.print(str(error), style="red", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)
    except OSError as error:
        console.print(paths.explain(error), style="red", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)


if __name__ == "__main__":
    main()
