"""What is measured: the parts of the benchmark, each a race between ways of doing the same work."""

import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wbc_lib import book_contenders, paths
from wbc_lib.bench_record import PartRecord, describe_libraries, describe_machine, describe_now
from wbc_lib.contenders import as_plain, write_sample
from wbc_lib.crowds import draw_crowd, write_crowd
from wbc_lib.data_contenders import link_some
from wbc_lib.errors import BenchError, UnknownNameError
from wbc_lib.experiments import find_experiment
from wbc_lib.images import load_images
from wbc_lib.operations import operations_per_image
from wbc_lib.photos import list_images
from wbc_lib.study import Study
from wbc_lib.turns import Contender, Outcome, order, race

OURS = "this book's loop"
KERAS = "plain Keras fit"
TORCH = "PyTorch, eager"
PRODUCTS = ("matrix products, TensorFlow", "matrix products, NumPy")
PROFILE = "this book's loop, profiled"
COLD, USUAL, WARM = "cold cache", "imread, resize, append", "warm cache"
CACHED, IN_LOOP = "cached features", "frozen base in the loop"
TRACING, INDEXED, ONE_BY_ONE = "tracing", "index over all photos", "one photo after the other"
BUILDS = {
    book_contenders.FRESH: "whole book",
    book_contenders.PAGES: "pages made anew",
    book_contenders.CHANGED: "one chapter changed",
    book_contenders.SAME: "nothing changed",
}
#: Rooms that are imported, by what they stand for.
ROOMS = {"study": "library without TensorFlow", "chapter": "what a chapter imports", "training": "with TensorFlow"}

#: Load above which a machine is not idle: processes that want a core, averaged over the minute before.
IDLE = 0.5

OnTurn = Callable[[int, int], None]
#: A whole book takes minutes: unless the book alone is measured, it is built so many times at most.
_FEW_BUILDS = 2
#: Turns of the profiler: it tells shares, which hardly differ.
_PROFILES = 1


@dataclass(frozen=True)
class Sizes:
    """How much work the contenders do."""

    training: tuple[int, ...] = (640, 1600, 4000)  # images of an epoch
    side: int = 2048  # of the matrices
    products: int = 40
    shares: tuple[float, ...] = (0.1, 0.3, 1.0)  # of the images
    transfer: tuple[int, ...] = (96, 240, 600)  # images
    base: str = "vgg16-random"  # weights decide nothing about speed, and these are at hand everywhere
    epochs: int = 30
    traced: int = 100  # images a turn
    drawn: int = 350  # photos
    asked: int = 40  # images of them
    photos: tuple[int, ...] = (350, 3500, 35000)
    per_view: int = 48  # features
    compared: int = 2  # images that are compared with every photo
    compared_photos: int = 3500  # at most
    pages: tuple[str, ...] = ()  # of the book; all if none is named
    profile: str = ""


#: For a check that everything runs; what it measures means nothing. Its pages link to each other only.
SMALL = Sizes(
    training=(64, 96), side=64, products=2, shares=(0.5, 1.0), transfer=(16, 32), epochs=2, traced=2,
    drawn=8, asked=3, photos=(8, 24), per_view=16, compared=1, compared_photos=8,
    pages=("book/how-made", "book/runs", "book/glossary", "book/references"), profile="smoke",
)  # fmt: skip


@dataclass(frozen=True)
class Setup:
    """What a part is measured with.

    Attributes
    ----------
    study : Study
        Where the photos are.
    folder : Path
        For what contenders read; removed afterwards.
    repeats : int
        Turns of each contender.
    sizes : Sizes
    torch : str
        An interpreter that has PyTorch; "" if there is none.
    builds : int
        Whole builds of the book.
    """

    study: Study
    folder: Path
    repeats: int = 5
    sizes: Sizes = field(default_factory=Sizes)
    torch: str = ""
    builds: int = _FEW_BUILDS


def measure(
    part: str,
    study: Study,
    *,
    repeats: int = 5,
    torch: str = "",
    load_before: float = 0.0,
    sizes: Sizes | None = None,
    is_alone: bool = False,
    on_turn: OnTurn = lambda done, total: None,
) -> PartRecord:
    """Measure one part.

    Parameters
    ----------
    part : str
        One of `PARTS`.
    study : Study
        With photos.
    repeats : int
        Turns of each contender.
    torch : str
        An interpreter that has PyTorch, by its path or name; "" to leave that contender out.
    load_before : float
        As `read_load` gave it before anything was measured.
    sizes : Sizes, optional
    is_alone : bool
        Whether there is time for as many builds of the whole book as for everything else.
    on_turn : callable
        Told (turns done, turns in all).

    Raises
    ------
    UnknownNameError
        If there is no such part.
    BenchError
        If there are no photos to measure with, or a contender fails.
    """
    (chosen,) = find_parts(part)
    if study.results_of:
        raise BenchError("There are no photos to measure with; name their folder with --data, or say --data phantoms.")
    started = describe_now()
    with tempfile.TemporaryDirectory(prefix="wbc-bench-") as folder:
        torch = str(Path(torch).expanduser().absolute()) if os.sep in torch else torch
        builds = repeats if is_alone else min(repeats, _FEW_BUILDS)
        setup = Setup(study, Path(folder), repeats, sizes or Sizes(), torch, builds)
        outcome, settings = PARTS[chosen].measure(setup, on_turn)
    data = {"title": study.data.title, "sha256": study.manifest.sha256}
    return PartRecord(
        chosen, started, data, describe_machine(), describe_libraries(), round(load_before, 2), settings, outcome
    )


def read_load() -> float:
    """How many processes wanted a core on average in the last minute; 0 where the system does not say."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def find_parts(names: str) -> list[str]:
    """Read names of parts such as ``training,book``; all parts if empty.

    Raises
    ------
    UnknownNameError
        If there is no such part.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in PARTS:
            raise UnknownNameError(f"There is no part {name!r} to measure; choose one of: {', '.join(PARTS)}.")
    return [part for part in PARTS if part in chosen] or list(PARTS)


def _run(*modules: str) -> tuple[str, ...]:
    return (sys.executable, "-m", *modules)


_NETWORKS = _run("wbc_lib.contenders")
_DATA = _run("wbc_lib.data_contenders")
_BOOK = _run("wbc_lib.book_contenders")


def _race_all(races: Sequence[Sequence[Contender]], rounds: int, on_turn: OnTurn) -> Outcome:
    # One race after the other, with one count of turns.
    total = sum(len(order(contenders, rounds)) for contenders in races)
    before, outcomes = 0, []
    for contenders in races:
        offset = before
        outcomes.append(race(contenders, rounds, lambda done, _, offset=offset: on_turn(offset + done, total)))
        before += len(order(contenders, rounds))
    return Outcome(
        tuple(series for outcome in outcomes for series in outcome.series),
        {name: facts for outcome in outcomes for name, facts in outcome.about.items()},
        {name: why for outcome in outcomes for name, why in outcome.missing.items()},
    )


def _write_sample(setup: Setup, images: int) -> str:
    # Images of TRAIN in random order, again from the start if there are too few of them.
    pixels, labels = load_images(setup.study.data).of("TRAIN")
    rows = np.resize(np.random.default_rng(0).permutation(len(labels)), images)
    write_sample(setup.folder, pixels[rows], labels[rows])
    return str(setup.folder)


def _measure_training(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    sizes, largest = setup.sizes, max(setup.sizes.training)
    sample = _write_sample(setup, largest)
    races = []
    for images in sizes.training:
        # A process that has waited for its turn may stand still for seconds in the next, plain Keras above all. So
        # every turn has a process of its own, which times its second epoch.
        options = {"sample": sample, "images": images}
        races.append(
            [
                Contender(OURS, _NETWORKS, "train_with_our_loop", options, is_fresh=True),
                Contender(KERAS, _NETWORKS, "train_with_keras", options, is_fresh=True),
            ]
        )
        if setup.torch:
            command = (setup.torch, "-m", "wbc_lib.torch_contender")
            races[-1].append(Contender(TORCH, command, "train_in_torch", options | as_plain("final"), is_fresh=True))
    products = {"side": sizes.side, "products": sizes.products}
    for name, does in zip(PRODUCTS, ("multiply_in_tensorflow", "multiply_in_numpy"), strict=True):
        races[-1].append(Contender(name, _NETWORKS, does, products))
    races.append([Contender(PROFILE, _NETWORKS, "profile_our_loop", {"sample": sample, "images": largest}, _PROFILES)])
    outcome = _race_all(races, setup.repeats, on_turn)
    if not setup.torch:
        outcome = replace(outcome, missing=outcome.missing | {TORCH: "no interpreter with PyTorch was named"})
    network = find_experiment("final").network
    settings = {"batch_size": find_experiment("final").settings.batch_size, "side": sizes.side}
    return outcome, settings | {"operations_per_image": operations_per_image(network)}


def _measure_arrays(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    data, cache = setup.study.data, setup.folder / "cache"
    races = []
    for i, share in enumerate(setup.sizes.shares):
        folder = str((data if share == 1 else link_some(data, setup.folder / str(i), share)).root)
        races.append(
            [
                Contender(COLD, _DATA, "read_cold", {"data": folder}, is_fresh=True),
                Contender(USUAL, _DATA, "read_in_usual_loop", {"data": folder}, is_fresh=True),
                Contender(WARM, _DATA, "read_warm", {"data": folder, "cache": str(cache / str(i))}, is_fresh=True),
            ]
        )
    # Once beforehand, so that every file is in memory for all contenders alike, and the warm cache is warm.
    race([contenders[-1] for contenders in races[-1:]], 1)
    for contenders in races[:-1]:
        race(contenders[-1:], 1)
    return _race_all(races, setup.repeats, on_turn), {"images": len(list_images(data))}


def _measure_transfer(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    sizes = setup.sizes
    sample = _write_sample(setup, max(sizes.transfer))
    races = []
    for images in sizes.transfer:
        options = {"sample": sample, "images": images, "experiment": sizes.base}
        cached = options | {"epochs": sizes.epochs}
        races.append(
            [
                Contender(CACHED, _NETWORKS, "learn_from_cached_features", cached),
                Contender(IN_LOOP, _NETWORKS, "learn_through_frozen_base", options),
            ]
        )
    settings = {"epochs": sizes.epochs, "measured_epochs": 2, "base": find_experiment(sizes.base).title}
    return _race_all(races, setup.repeats, on_turn), settings


def _measure_provenance(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    sizes, crowd = setup.sizes, setup.folder / "crowd.npz"
    write_crowd(draw_crowd(sizes.drawn, sizes.asked, sizes.per_view), crowd)
    options = {"data": str(setup.study.data.root), "images": sizes.traced}
    races = [[Contender(TRACING, _DATA, "trace_images", options)]]
    for photos in sizes.photos:
        options = {"crowd": str(crowd), "photos": photos, "per_view": sizes.per_view}
        races.append([Contender(INDEXED, _DATA, "search_by_index", options)])
        if photos <= sizes.compared_photos:
            compared = options | {"images": sizes.compared}
            races[-1].append(Contender(ONE_BY_ONE, _DATA, "search_one_by_one", compared))
    settings = {"drawn": sizes.drawn, "per_view": sizes.per_view, "asked": sizes.asked, "traced": sizes.traced}
    return _race_all(races, setup.repeats, on_turn), settings


def _measure_book(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    data, folder = setup.study.data, setup.folder / "project"
    book_contenders.copy_project(paths.ROOT, paths.results(), folder)
    if setup.sizes.pages:
        first, *others = setup.sizes.pages
        lines = ["format: jb-book", f"root: {first}", "chapters:", *(f"  - file: {page}" for page in others)]
        (folder / "_toc.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    options = {"folder": str(folder), "profile": setup.sizes.profile}
    options["data"] = "phantoms" if data.is_phantom else str(data.root.resolve())
    rounds = {book_contenders.FRESH: min(setup.builds, setup.repeats)}
    contenders = [
        Contender(name, _BOOK, "build_book", options | {"state": state}, rounds.get(state, 0))
        for state, name in BUILDS.items()
    ]
    toc = (folder / "_toc.yml").read_text(encoding="utf-8")
    chapters = sum(f"book/{path.stem}" in toc for path in (folder / "book").glob("*.ipynb"))
    return _race_all([contenders], setup.repeats, on_turn), {"chapters": chapters}


def _measure_start(setup: Setup, on_turn: OnTurn) -> tuple[Outcome, dict[str, Any]]:
    contenders = [Contender(name, _BOOK, "import_room", {"room": room}, is_fresh=True) for room, name in ROOMS.items()]
    race(contenders, 1)  # once beforehand, so that the files are in memory
    return _race_all([contenders], setup.repeats, on_turn), {}


@dataclass(frozen=True)
class Part:
    """A part of the benchmark: what it is called for readers, and how it is measured."""

    title: str
    measure: Callable[[Setup, OnTurn], tuple[Outcome, dict[str, Any]]]


PARTS = {
    "training": Part("Training the final model", _measure_training),
    "arrays": Part("From JPEGs to an array", _measure_arrays),
    "transfer": Part("Learning on a frozen base", _measure_transfer),
    "provenance": Part("Finding the photo behind an image", _measure_provenance),
    "book": Part("Building the book", _measure_book),
    "start": Part("Starting", _measure_start),
}
