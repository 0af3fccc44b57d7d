"""The commands ``wbc train`` and ``wbc experiments``."""

import os
from typing import TYPE_CHECKING, Annotated

import typer

from wbc_lib import paths, progress
from wbc_lib.cli.data import Data
from wbc_lib.cli.runs import AsJson, ProfileName
from wbc_lib.errors import DataNotFoundError, UnknownNameError, WeightsError

if TYPE_CHECKING:
    from wbc_lib.training.cluster import Cluster
    from wbc_lib.training.study import Study


def train(
    names: Annotated[list[str] | None, typer.Argument(help="Experiments, as `wbc experiments` lists them.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every experiment of the registry.")] = False,
    data: Data = None,
    profile: ProfileName = "quick",
    seeds: Annotated[str, typer.Option(help="Such as 0-2 or 0,5. Default: the profile's.")] = "",
    record: Annotated[bool, typer.Option(help="Write to the project's results/, to be committed.")] = False,
    suite: Annotated[str, typer.Option(help="All runs of a suite, as `wbc experiments` lists them.")] = "",
    workers: Annotated[int, typer.Option(min=0, help="Train so many at a time, each in a process of its own.")] = 0,
    scheduler: Annotated[str, typer.Option(help="Train on the workers of this dask scheduler: tcp://host:8786.")] = "",
    threads: Annotated[int, typer.Option(min=0, help="TensorFlow's threads per training; decides its bits.")] = 0,
) -> None:
    """Train experiments that are not recorded yet; an interrupted one goes on where it stopped.

    A name may be followed by variations, as in final+by-photo+painted; `wbc experiments` lists them. Experiments that
    learn from pictures from elsewhere (pbc, stronger) find them by WBC_EXTERNAL, and are not among --all.
    """
    from wbc_lib.training.experiments import EXPERIMENTS, find_experiment, find_suite

    cluster = None
    if workers or scheduler or threads:
        from wbc_lib.training.cluster import Cluster

        cluster = Cluster(workers or 1, scheduler, threads)
    if suite:
        find_suite(suite)
        train_suite(_open_to_train(data, profile, record), suite, cluster)
        return
    if not names and not everything:
        raise UnknownNameError(f"Name an experiment, or say --all. There are: {', '.join(EXPERIMENTS)}.")
    chosen = list(EXPERIMENTS) if everything else [find_experiment(name).name for name in names or ()]
    named = parse_seeds(seeds)
    study = _open_to_train(data, profile, record)
    wanted = named or study.profile.seeds
    asked = [(name, seed) for seed in wanted for name in chosen]
    train_missing(study, asked if cluster else study.missing(chosen, wanted), cluster)
    if record:
        found = (study.store.find(study.plan(name, seed)) for name in chosen for seed in wanted)
        for run in filter(None, found):
            study.store.keep(run)


def experiments(as_json: AsJson = False) -> None:
    """List the experiments of the registry, their variations, and the suites made of them."""
    from wbc_lib.training.experiments import BEYOND, EXPERIMENTS, SUITES, VARIATIONS

    registry = [
        {"name": e.name, "title": e.title, "epochs": e.epochs, "material": e.material, "in the paper": e.in_paper}
        for e in (*EXPERIMENTS.values(), *BEYOND.values())
    ]
    variations = [{"variation": f"+{name}", "what it changes": words} for name, (words, _) in VARIATIONS.items()]
    suites = [
        {"suite": s.name, "question": s.title, "runs": sum(map(len, s.seeds.values())), "profile": s.profile}
        for s in SUITES.values()
    ]
    progress.print_tables(registry, variations, suites, as_json=as_json)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Read seeds such as ``0-2,7`` as (0, 1, 2, 7)."""
    seeds: list[int] = []
    try:
        for part in filter(None, text.split(",")):
            first, _, last = part.partition("-")
            seeds += range(int(first), int(last or first) + 1)
        if text and not seeds or any(seed >= 2**32 for seed in seeds):
            raise ValueError("out of range")
    except ValueError as error:
        raise UnknownNameError(f"{text!r} names no seeds; write them like 0-2 or 0,5.") from error
    return tuple(seeds)


def _open_to_train(data: str | None, profile: str, record: bool) -> "Study":
    if record and not os.environ.get("WBC_RESULTS"):
        paths.require_project("`wbc train --record`")
    from wbc_lib.training.study import open_study

    study = open_study(data, profile, record=record)
    if study.results_of:
        raise DataNotFoundError(
            "No photos were found to train on; name their folder with --data, or say --data phantoms."
        )
    say_basis(study)
    return study


def say_basis(study: "Study") -> None:
    """Say which photos a command works with, and what follows."""
    published = ", the published files bit for bit" if study.checksums.is_published else ""
    typer.echo(f"Working with {study.data.title}{published}: {study.data.root}", err=True)
    if study.results_of:
        said = "No photos were found: results are those recorded on the published photos, nothing is trained."
        typer.echo(said, err=True)


def train_suite(study: "Study", name: str, cluster: "Cluster | None" = None) -> None:
    """Train what a suite lacks."""
    seeds, at_its_profile = study.wanted(name)
    asked = [(experiment, seed) for experiment in seeds for seed in seeds[experiment]]
    missing = asked if cluster else [m for name, seed in asked for m in at_its_profile.missing([name], [seed])]
    # First seeds first, so that an early stop leaves something of everything.
    train_missing(at_its_profile, sorted(missing, key=lambda m: m[1]), cluster)


def train_missing(study: "Study", wanted: list[tuple[str, int]], cluster: "Cluster | None" = None) -> None:
    """Train experiments with these seeds, here one after another, or on a cluster."""
    from wbc_lib.training.experiments import find_experiment

    if cluster:
        from wbc_lib.training.cluster import train_on

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
            progress.say(f"Not run: {title}. {error}")
        else:
            progress.say(f"  {i:2d}/{len(wanted)} {title}: {run.describe()}")
