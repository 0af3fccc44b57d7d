"""The `wbc` command."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Column, Table

from wbc_lib import paths, photos, progress
from wbc_lib.designs import DESIGNS, find_design
from wbc_lib.errors import DataNotFoundError, UnknownNameError, WbcError, WeightsError
from wbc_lib.experiments import EXPERIMENTS, VARIATIONS, find_experiment, find_profile
from wbc_lib.progress import console
from wbc_lib.runs import Run, Store
from wbc_lib.scaleout import Cluster, train_on
from wbc_lib.study import Study, open_study

app = typer.Typer(help="White blood cells, classified again: data, trainings, and the book.", no_args_is_help=True)
data_app = typer.Typer(help="The photos: find, check, or draw a stand-in.", no_args_is_help=True)
runs_app = typer.Typer(help="The recorded runs.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(runs_app, name="runs")

Data = Annotated[
    str | None,
    typer.Option(
        "--data", help="Folder or zip of the photos, or 'phantoms'. Default: WBC_DATA, the cache, a download."
    ),
]
Folder = Annotated[str | None, typer.Option("--data", help="Folder of the photos.")]
ProfileName = Annotated[str, typer.Option("--profile", help="smoke (seconds), quick (minutes) or paper (hours).")]


@app.command()
def book(
    data: Data = None,
    profile: Annotated[
        str,
        typer.Option("--profile", help="smoke, quick or paper. Default: paper if its runs are recorded, else quick."),
    ] = "",
    output: Annotated[Path, typer.Option(help="Folder for the finished site.")] = paths.BUILD / "html",
    train: Annotated[
        bool | None,
        typer.Option(help="Train runs that are missing, or show them as not run. Default: the latter for paper only."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Chapters executed at a time.")] = 2,
) -> None:
    """Build the book; ends with the address of its front page."""
    from wbc_lib.book import build_book

    study = open_study(data, profile or "paper")
    if not profile and not study.recorded("final"):
        study = replace(study, profile=find_profile("quick"))
    _say_basis(study)
    if (study.profile.is_cut if train is None else train) and not study.results_of:
        _train_missing(study, study.missing())
        if study.profile.name == "smoke":
            for name in DESIGNS:
                _train_design(study, name)
    with progress.bar("Chapters") as on_progress:

        def on_chapter(name: str, done: int, total: int) -> None:
            on_progress(done, total)
            console.print(f"  {done:2d}/{total} {name}", highlight=False)

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
    study = _open_to_train(data, profile, record)
    wanted = parse_seeds(seeds) or study.profile.seeds
    asked = [(name, seed) for seed in wanted for name in chosen]
    _train_missing(study, asked if cluster else study.missing(chosen, wanted), cluster)
    if record:
        found = (study.store.find(study.plan(name, seed)) for name in chosen for seed in wanted)
        for run in filter(None, found):
            study.store.keep(run)


@app.command()
def experiments() -> None:
    """List the experiments of the registry, their variations, and the designs made of them."""
    table = Table(Column("name", no_wrap=True), "title", "epochs", "material", "in the paper")
    for e in EXPERIMENTS.values():
        table.add_row(e.name, e.title, str(e.epochs), e.material, "yes" if e.in_paper else "our control")
    progress.console.print(table)
    variations = Table(Column("variation", no_wrap=True), "what it changes")
    for name, (words, _) in VARIATIONS.items():
        variations.add_row(f"+{name}", words)
    progress.console.print(variations)
    designs = Table(Column("design", no_wrap=True), "its question", "runs", "profile")
    for d in DESIGNS.values():
        designs.add_row(d.name, d.title, str(sum(map(len, d.seeds.values()))), d.profile)
    progress.console.print(designs)


@data_app.command("where")
def data_where(data: Folder = None) -> None:
    """Print the folder of the photos that would be used."""
    typer.echo(photos.find(data).root)


@data_app.command("check")
def data_check(data: Folder = None) -> None:
    """Check every file of the data set; exits 1 and names each that is not as it should be."""
    from wbc_lib.check import check

    found = photos.find(data)
    with progress.bar("Checking") as on_progress:
        outcome = check(found, on_progress)
    table = Table("split", *(photos.CLASSES), "in all")
    for split, row in outcome.counts.iterrows():
        table.add_row(split, *(f"{n:,}" for n in row), f"{row.sum():,}")
    console.print(table)
    for problem in outcome.problems:
        typer.echo(problem, err=True)
    if outcome.manifest:
        same = "the published files, bit for bit" if outcome.manifest.is_published else "not the published files"
        typer.echo(f"manifest sha256 {outcome.manifest.sha256} ({same})")
    if outcome.problems:
        raise typer.Exit(1)
    typer.echo(f"{found.root}: {outcome.counts.to_numpy().sum():,} images and {outcome.n_photos} photos, all readable")


@data_app.command("phantoms")
def data_phantoms(
    folder: Annotated[Path, typer.Argument(help="Folder to draw into; it must not exist yet.")],
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pictures.")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Share of the real number of photos.")] = 1.0,
    copies: Annotated[int, typer.Option(min=8, help="TRAIN images per class.")] = 2500,
) -> None:
    """Draw a synthetic stand-in for the data set, in the same layout."""
    from wbc_lib.phantoms import write_phantoms

    with progress.bar("Drawing phantoms") as on_progress:
        write_phantoms(folder, seed=seed, scale=scale, copies=copies, on_progress=on_progress)
    typer.echo(f"Phantoms are in {folder}; use them with --data {folder}")


@runs_app.command("list")
def runs_list() -> None:
    """List the recorded runs."""
    store = Store(paths.results(), paths.cache() / "runs")
    table = Table("run", "training", "validation", "TEST", "minutes")
    for run in store.whole():
        best = run.history[["accuracy", "val_accuracy"]].max()
        minutes = f"{run.record['seconds'] / 60:.1f}"
        table.add_row(
            run.name,
            f"{best.accuracy:.3f}",
            f"{best.val_accuracy:.3f}",
            f"{run.accuracy('test'):.3f}",
            minutes,
        )
    console.print(table)
    for sentence in store.damaged():
        typer.echo(sentence, err=True)
    if store.damaged():
        raise typer.Exit(1)


@runs_app.command("show")
def runs_show(name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")]) -> None:
    """Print what is recorded of a run."""
    for run in _find_runs(name):
        typer.echo(json.dumps(run.record, indent=1))


@runs_app.command("chart")
def runs_chart(
    file: Annotated[Path, typer.Argument(help="PNG or SVG file to write.")],
    data: Data = None,
    profile: ProfileName = "quick",
) -> None:
    """Draw the summary of all recorded runs of a profile; the README shows it."""
    from wbc_lib import claims, figures

    if file.suffix not in {".png", ".svg"}:
        raise UnknownNameError(f"{file} is neither .png nor .svg.")
    study = open_study(data, profile, may_train=False)
    figures.use_style()
    figure = figures.draw_summary(claims.summarise({name: study.recorded(name) for name in EXPERIMENTS}))
    with paths.written_whole(file) as temporary:
        figure.savefig(temporary, format=file.suffix.removeprefix(".") or "png")


@runs_app.command("verify")
def runs_verify(
    name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every run of the project's results/.")] = False,
    data: Data = None,
) -> None:
    """Check recorded runs against their hashes, and score recorded weights again on the photos."""
    from wbc_lib.verify import LOGIT_TOLERANCE, rescore

    store = Store(paths.results())
    runs = store.whole() if everything else _find_runs(name)
    found = photos.find(data)
    failed = store.damaged()
    for run in runs:
        if "weights.npz" not in run.record["files"]:
            typer.echo(f"{run.name}: files are as recorded (no weights to score)")
            continue
        comparison = rescore(run, found)
        typer.echo(str(comparison))
        if comparison.largest > LOGIT_TOLERANCE:
            failed.append(f"{run.name}: the recorded predictions do not come out; see above.")
    for sentence in failed:
        typer.echo(sentence, err=True)
    if failed:
        raise typer.Exit(1)


@runs_app.command("retrain")
def runs_retrain(
    name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")],
    data: Data = None,
) -> None:
    """Train recorded runs again from nothing and report every difference."""
    from wbc_lib.verify import RETRAIN_TOLERANCE, retrain

    found = photos.find(data)
    comparisons = [retrain(run, found) for run in _find_runs(name)]
    for comparison in comparisons:
        typer.echo(str(comparison))
    if any(abs(c.recorded - c.repeated) > RETRAIN_TOLERANCE for c in comparisons):
        typer.echo(f"TEST accuracies lie more than {RETRAIN_TOLERANCE} apart.", err=True)
        raise typer.Exit(1)


def _find_runs(name: str) -> list[Run]:
    matches = [r for r in Store(paths.results(), paths.cache() / "runs").whole() if name and r.name.startswith(name)]
    if not matches:
        raise UnknownNameError(f"There is no run {name!r}; `wbc runs list` shows what there is.")
    return matches


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
    study = open_study(data, profile, record=record)
    if study.results_of:
        raise DataNotFoundError(
            "No photos were found to train on; name their folder with --data, or say --data phantoms."
        )
    _say_basis(study)
    return study


def _say_basis(study: Study) -> None:
    published = ", the published files bit for bit" if study.manifest.is_published else ""
    typer.echo(f"Working with {study.data.title}{published}: {study.data.root}")
    if study.results_of:
        typer.echo("No photos were found: results are those recorded on the published photos, nothing is trained.")


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
    try:
        app()
    except SystemExit as done:
        if done.code == 130:
            console.print("Stopped; what had finished is kept.")
        raise
    except WbcError as error:
        console.print(str(error), style="red", soft_wrap=True, highlight=False, markup=False)
        sys.exit(1)
    except OSError as error:
        place = error.filename or "A file"
        console.print(
            f"{place}: {error.strerror or error}; make room, or name other folders with WBC_CACHE and --output."
        )
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped; what had finished is kept.")
        sys.exit(130)


if __name__ == "__main__":
    main()
