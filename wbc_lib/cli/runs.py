"""The commands of ``wbc runs``: list the recorded runs, show, draw, verify and repeat them."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.errors import RunError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

app = typer.Typer(help="The recorded runs.", no_args_is_help=True)

ProfileName = Annotated[str, typer.Option("--profile", help="smoke (seconds), quick (minutes) or paper (hours).")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("list")
def runs_list(as_json: AsJson = False) -> None:
    """List the recorded runs, with the best accuracies in training and on validation, and the last one on TEST."""
    from wbc_lib.training.runs import Store

    store = Store(paths.results(), paths.cache() / "runs")
    rows = []
    for run in store.whole():
        best = run.history[["accuracy", "val_accuracy"]].max()
        accuracies = {"training": best.accuracy, "validation": best.val_accuracy, "TEST": run.accuracy("test")}
        rows.append({"run": run.name} | accuracies | {"minutes": round(run.record["seconds"] / 60, 1)})
    progress.print_tables(rows, as_json=as_json)
    for sentence in store.damaged():
        typer.echo(sentence, err=True)
    if store.damaged():
        raise typer.Exit(1)


@app.command("show")
def runs_show(name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")]) -> None:
    """Print what is recorded of a run."""
    for run in _find_runs(name):
        progress.write_out(json.dumps(run.record, indent=1))


@app.command("chart")
def runs_chart(
    file: Annotated[Path, typer.Argument(help="PNG or SVG file to write.")],
    data: Data = None,
    profile: ProfileName = "quick",
) -> None:
    """Draw the summary of all recorded runs of a profile; the README shows it."""
    from wbc_lib import figures
    from wbc_lib.evaluation import paper_claims
    from wbc_lib.training.experiments import EXPERIMENTS
    from wbc_lib.training.study import open_study

    if file.suffix not in {".png", ".svg"}:
        raise UnknownNameError(f"{file} is neither .png nor .svg.")
    study = open_study(data, profile, may_train=False)
    figures.use_style()
    figure = figures.draw_summary(paper_claims.summarise({name: study.recorded(name) for name in EXPERIMENTS}))
    with paths.place(file, "name another file"), paths.written_whole(file) as temporary:
        figure.savefig(temporary, format=file.suffix.removeprefix("."))


@app.command("verify")
def runs_verify(
    name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")] = "",
    everything: Annotated[bool, typer.Option("--all", help="Every run of the project's results/.")] = False,
    data: Data = None,
) -> None:
    """Check recorded runs against their hashes, and score recorded weights again on the photos."""
    from wbc_lib.data import dataset
    from wbc_lib.training.runs import Store
    from wbc_lib.training.verify import LOGIT_TOLERANCE, rescore

    store = Store(paths.results())
    runs = store.whole() if everything else _find_runs(name)
    found = dataset.find(data)
    failed = store.damaged()
    if not runs and not failed:
        raise RunError(
            f"{paths.results()} holds no run, so there is nothing to verify; name another folder with WBC_RESULTS, or "
            "record a run with `wbc train NAME --record`."
        )
    for run in runs:
        if "weights.npz" not in run.record["files"]:
            progress.write_out(f"{run.name}: files are as recorded (no weights to score)")
            continue
        try:
            comparison = rescore(run, found)
        except WeightsError as error:
            progress.write_out(f"{run.name}: files are as recorded (not scored again: {error})")
            continue
        progress.write_out(str(comparison))
        if comparison.largest > LOGIT_TOLERANCE:
            failed.append(f"{run.name}: the recorded predictions do not come out; see above.")
    for sentence in failed:
        typer.echo(sentence, err=True)
    if failed:
        raise typer.Exit(1)


@app.command("retrain")
def runs_retrain(
    name: Annotated[str, typer.Argument(help="Folder name, or the beginning of one.")],
    data: Data = None,
    threads: Annotated[int, typer.Option(min=0, help="TensorFlow's threads. Default: as many as are recorded.")] = 0,
) -> None:
    """Train recorded runs again from nothing and report every difference."""
    from wbc_lib.data import dataset
    from wbc_lib.training.verify import RETRAIN_TOLERANCE, retrain

    found = dataset.find(data)
    comparisons = [retrain(run, found, threads) for run in _find_runs(name)]
    for comparison in comparisons:
        progress.write_out(str(comparison))
    if any(abs(c.recorded - c.repeated) > RETRAIN_TOLERANCE for c in comparisons):
        typer.echo(f"TEST accuracies lie more than {RETRAIN_TOLERANCE} apart.", err=True)
        raise typer.Exit(1)


def _find_runs(name: str) -> list["Run"]:
    # Recorded or cached, and at least one.
    from wbc_lib.training.runs import Store

    matches = Store(paths.results(), paths.cache() / "runs").read_all(name) if name else []
    if not matches:
        raise UnknownNameError(f"There is no run {name!r}; `wbc runs list` shows what there is.")
    return matches


def find_one_run(name: str) -> "Run":
    """The run whose name begins with `name`; raises `UnknownNameError` if there is none, or more than one."""
    matches = _find_runs(name)
    if len(matches) > 1:
        raise UnknownNameError(f"{name!r} begins several names of runs: {', '.join(r.name for r in matches)}.")
    return matches[0]
