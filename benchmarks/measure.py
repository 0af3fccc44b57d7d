"""Time the work behind the book against the usual ways of doing the same.

    python benchmarks/measure.py [--only training,book] [--repeats 5] [--data DIR] [--record]

Ways of doing one thing take turns, A B C A B C, so that whatever else the machine does meets all of them alike; every
turn is a process of its own. Leave the machine idle: all parts take about half an hour on two cores. With ``--record``
every value goes to ``record.json``, which the book's page on reproducing it shows; a figure that is not measured again
stays there.
"""

import argparse
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from subprocess import PIPE
from typing import Any

import cv2
import numpy as np

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, index_photos, list_images, open_folder
from wbc_lib.data.images import INPUT_SHAPE, load_images, one_thread, read_image, to_grey
from wbc_lib.errors import WbcError
from wbc_lib.provenance.registration import find_source, index_sources, read_source
from wbc_lib.training.arrays import Examples, Material
from wbc_lib.training.experiments import find_experiment
from wbc_lib.training.plan import Experiment
from wbc_lib.training.study import Study, open_study

ROOT = Path(__file__).resolve().parents[1]
RECORD, SAMPLE = Path(__file__).with_name("record.json"), "sample.npz"
LIBRARIES = ("tensorflow", "keras", "numpy", "opencv-python-headless", "pandas", "jupyter-book")
#: Load above which a machine is not idle: processes that want a core, averaged over the minute before.
IDLE = 0.5
#: Of a training: the first traces the graph, the second is timed, the third is for one that runs beside it.
EPOCHS, TIMED = 3, 2
#: Parts whose files are to be in memory for the first turn as for all others.
READ_TWICE = ("arrays", "start")
THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much there is to do."""

    images: int = 4000  # of an epoch
    frozen: int = 600  # images that go through a frozen base
    epochs: int = 30  # on a frozen base
    traced: int = 100  # images
    files: int = 0  # of the data set
    pages: tuple[str, ...] = ()  # of the book; all if none is named


#: For a check that every part runs; the figures mean nothing. The first page is made here, and none links to others.
SMALL = Sizes(64, 32, 2, 2, pages=("book/small", "book/glossary", "book/references"))


@dataclass(frozen=True)
class Way:
    """A way of doing something, and the process that does it."""

    name: str  # for readers
    work: Callable[..., Figures]  # a function of this file; returns what it measured, by quantity
    options: dict[str, Any]  # of the function, plain values
    size: int | None = None  # of the job, where it can be had at several sizes
    at_once: int = 1  # processes side by side, each on a core of its own; the slowest counts
    threads: int = 0  # of each process; 0 for as many as there are cores


# What is done in a turn. TensorFlow is imported only where it is needed.


def train_here(sample: str, images: int, trainings: int = 1) -> Figures:
    """Train the final network as `wbc train` does; validation is not timed."""
    from wbc_lib.training.fit import Step, fit

    seconds: list[float] = []

    def on_step(step: Step) -> None:
        if step.epoch == TIMED and step.share == 1 and len(step.history) < TIMED:
            seconds.append(step.seconds)

    examples = _read_sample(sample, images)
    one = examples.take(np.arange(1))  # as little as can be to score
    for seed in range(trainings):
        fit(find_experiment("final"), Material(examples, one, one), EPOCHS, seed, on_step=on_step)
    return {"seconds": sum(seconds)}


def train_in_keras(sample: str, images: int, trainings: int = 1) -> Figures:
    """Train the final network the usual way: arrays of floats, `compile`, `fit`."""
    from wbc_lib.training.networks import keras

    experiment, examples = find_experiment("final"), _read_sample(sample, images)
    inputs = examples.inputs.astype(np.float32) / 127.5 - 1
    seconds = 0.0
    for _ in range(trainings):
        stack: list[Any] = []
        for filters in experiment.network.convolutions:
            stack += [keras.layers.Conv2D(filters, 3, activation="relu"), keras.layers.MaxPooling2D(2)]
        stack = [keras.Input(inputs.shape[1:]), *stack, keras.layers.Flatten()]
        ends = _fit_keras(stack, experiment, inputs, examples.labels, EPOCHS)
        seconds += ends[TIMED] - ends[TIMED - 1]
    return {"seconds": seconds}


def learn_from_cached_features(sample: str, images: int, experiment: str, epochs: int) -> Figures:
    """Learn on a frozen base as this book does: features once, then all epochs of the dense head."""
    from wbc_lib.training.fit import fit
    from wbc_lib.training.networks import build_base

    chosen = find_experiment(experiment)

    def learn(examples: Examples, epochs: int) -> float:
        started = time.perf_counter()
        base = build_base(chosen.network.base, chosen.network.base_weights, examples.inputs.shape[1:3])
        pixels = examples.inputs.astype(np.float32)
        features = np.concatenate([base.predict_on_batch(pixels[i : i + 64]) for i in range(0, len(pixels), 64)])
        seen = Examples(features, examples.labels, examples.names)
        fit(chosen, Material(seen, seen.take(np.arange(1)), seen.take(np.arange(1))), epochs, 0)
        return time.perf_counter() - started

    examples = _read_sample(sample, images)
    learn(examples.take(np.arange(min(images, chosen.settings.batch_size))), 1)  # what a process does only once
    return {"seconds": learn(examples, epochs)}


def learn_through_frozen_base(sample: str, images: int, experiment: str) -> Figures:
    """Learn on a frozen base the usual way, inside the network; two epochs, as the others would be like the second."""
    from wbc_lib.training.networks import build_base, keras

    chosen, examples = find_experiment(experiment), _read_sample(sample, images)
    inputs = examples.inputs.astype(np.float32)
    for n in (chosen.settings.batch_size, images):  # the first time for what a process does only once
        started = time.perf_counter()
        keras.utils.clear_session()
        base = build_base(chosen.network.base, chosen.network.base_weights, inputs.shape[1:3])
        ends = _fit_keras([base], chosen, inputs[:n], examples.labels[:n], 2)
    return {"seconds to the first epoch's end": ends[1] - started, "seconds per further epoch": ends[2] - ends[1]}


def read_cold(data: str) -> Figures:
    """Read all images as the library does when nothing is cached: hash, decode, shrink, keep."""
    paths.cache().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=paths.cache()) as cache:
        os.environ["WBC_CACHE"] = cache
        return read_warm(data)


def read_warm(data: str) -> Figures:
    """Read all images as the library does when they are cached; every page of the mapped file is touched."""
    started = time.perf_counter()
    load_images(open_folder(data)).pixels.reshape(-1)[::4096].max()
    return {"seconds": time.perf_counter() - started}


def read_in_usual_loop(data: str) -> Figures:
    """Read all images the usual way: imread, resize, append; then make an array of the list."""
    found = open_folder(data)
    files = [str(found.image_path(image)) for image in list_images(found).image]
    started = time.perf_counter()
    pictures = []
    for file in files:
        pictures.append(cv2.resize(cv2.imread(file), INPUT_SHAPE[::-1]))  # noqa: PERF401 - the usual way
    np.array(pictures)
    return {"seconds": time.perf_counter() - started}


def trace_images(data: str, images: int) -> Figures:
    """Find the photos of images, on one core."""
    found = open_folder(data)
    listed = list_images(found)
    index = index_photos(found)
    single = index[(index.kind == "single") & index.has_photo]
    chosen = listed.iloc[np.random.default_rng(0).permutation(len(listed))[:images]]
    with one_thread():
        started = time.perf_counter()
        photos = {c: index_sources([read_source(found, p) for p in single.index[single.labels == c]]) for c in CLASSES}
        ready = time.perf_counter()
        for image, cell in zip(chosen.image, chosen.cell, strict=True):
            find_source(to_grey(read_image(found.image_path(image))), photos[cell])
        per_image = (time.perf_counter() - ready) / len(chosen)
    return {"seconds to line the photos up": ready - started, "seconds per image": per_image}


def build_book(folder: str, data: str, state: str, pages: Sequence[str] = ()) -> Figures:
    """Build a copy of the book: from nothing, with a sentence added to a chapter, or with nothing changed."""
    root = Path(folder)
    if state == "fresh":
        shutil.rmtree(root, ignore_errors=True)
        left_out = shutil.ignore_patterns(".*", "_build", "results", "tests", "__pycache__", "*.egg-info")
        shutil.copytree(ROOT, root, ignore=left_out)
        (root / "results").symlink_to(paths.results().resolve(), target_is_directory=True)
        if pages:
            _cut_down(root, pages)
    elif state == "changed":
        listed = (root / "_toc.yml").read_text(encoding="utf-8")
        chapters = [p for p in sorted((root / "book").glob("*.ipynb")) if f"book/{p.stem}\n" in listed]
        chapter = chapters[np.random.default_rng().integers(len(chapters))]
        notebook = json.loads(chapter.read_text(encoding="utf-8"))
        cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"][-1]
        cell["source"] = "".join(cell["source"]) + "\n\nA sentence more.\n"
        chapter.write_text(json.dumps(notebook), encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": folder, "WBC_RESULTS": str(root / "results")}
    command = [sys.executable, "-m", "wbc_lib", "book", "--data", data, "--no-train"]
    started = time.perf_counter()
    subprocess.run(command, cwd=root, env=environment, check=True, stdout=sys.stderr)
    return {"seconds": time.perf_counter() - started}


def _cut_down(root: Path, pages: Sequence[str]) -> None:
    # A book of these pages alone, the first of them written here: it opens the study and says nothing.
    import nbformat
    import yaml

    lines = ["format: jb-book", f"root: {pages[0]}", "chapters:", *(f"  - file: {page}" for page in pages[1:])]
    (root / "_toc.yml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    config = yaml.safe_load((root / "_config.yml").read_text(encoding="utf-8"))
    config["sphinx"]["config"]["moved_pages"] = {}
    (root / "_config.yml").write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    given = nbformat.v4.new_code_cell('DATA = ""\nPROFILE = "quick"', metadata={"tags": ["parameters"]})
    opened = "from wbc_lib.book.chapter import open_chapter\n\nstudy = open_chapter(DATA, PROFILE)"
    cells = [nbformat.v4.new_markdown_cell("# Small"), given, nbformat.v4.new_code_cell(opened)]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / f"{pages[0]}.ipynb")


def import_module(module: str) -> Figures:
    """Import a module and all that it needs; the start of the interpreter is not timed."""
    code = f"import time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=PIPE, text=True)
    return {"seconds": float(done.stdout)}


def _read_sample(sample: str, images: int) -> Examples:
    with np.load(sample) as file:
        return Examples(file["pixels"][:images], file["labels"][:images], np.arange(images).astype(str))


def _fit_keras(
    stack: list[Any], experiment: Experiment, inputs: np.ndarray, labels: np.ndarray, epochs: int
) -> list[float]:
    # The experiment's dense layers on the stack, compiled and fitted; when each epoch ended, after when it all began.
    from wbc_lib.training.networks import keras

    network, ends = experiment.network, [time.perf_counter()]
    penalty = keras.regularizers.L1L2(network.kernel_l1, network.kernel_l2) if network.kernel_l1 else None
    for units in network.dense:
        stack = [*stack, keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty)]
        stack += [keras.layers.Dropout(network.dropout)] if network.dropout else []
    model = keras.Sequential([*stack, keras.layers.Dense(5, kernel_regularizer=penalty)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(experiment.settings.learning_rate), loss, metrics=["accuracy"])
    timer = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: ends.append(time.perf_counter()))
    model.fit(inputs, labels, experiment.settings.batch_size, epochs, verbose=0, callbacks=[timer])
    return ends


def list_parts(data: str, folder: Path, sizes: Sizes) -> dict[str, list[Way]]:
    """List the ways of doing each thing, given the folders of the photos and to work in."""
    n, files, sample = sizes.images, sizes.files, str(folder / SAMPLE)
    one = {"sample": sample, "images": n}
    two, aside = one | {"trainings": 2}, {"at_once": 2, "threads": 1}
    frozen = {"sample": sample, "images": sizes.frozen, "experiment": "vgg16-random"}  # weights do not matter for speed
    book = {"folder": str(folder / "book"), "data": "recorded" if sizes.pages else data, "pages": sizes.pages}
    # fmt: off
    return {
        "training": [Way("this book's loop", train_here, one, n), Way("plain Keras fit", train_in_keras, one, n)],
        "two trainings": [
            Way("side by side, a thread each", train_here, one, n, **aside),
            Way("one after the other, all threads", train_here, two, n),
            Way("plain Keras, side by side, a thread each", train_in_keras, one, n, **aside),
            Way("plain Keras, one after the other, all threads", train_in_keras, two, n),
        ],
        "arrays": [
            Way("imread, resize, append", read_in_usual_loop, {"data": data}, files),
            Way("cold cache", read_cold, {"data": data}, files),
            Way("warm cache", read_warm, {"data": data}, files),
        ],
        "transfer": [
            Way("cached features", learn_from_cached_features, frozen | {"epochs": sizes.epochs}, sizes.frozen),
            Way("frozen base in the loop", learn_through_frozen_base, frozen, sizes.frozen),
        ],
        "tracing": [Way("tracing", trace_images, {"data": data, "images": sizes.traced})],
        "book": [
            Way("whole book", build_book, book | {"state": "fresh"}),
            Way("one chapter changed", build_book, book | {"state": "changed"}),
            Way("nothing changed", build_book, book | {"state": "same"}),
        ],
        "start": [
            Way("library without TensorFlow", import_module, {"module": "wbc_lib.training.study"}),
            Way("what a chapter imports", import_module, {"module": "wbc_lib.book.chapter"}),
            Way("with TensorFlow", import_module, {"module": "wbc_lib.training.fit"}),
        ],
    }
    # fmt: on


def measure(ways: Sequence[Way], repeats: int) -> list[dict[str, Any]]:
    """Let the ways take turns; a row per way and quantity, with the value of every turn."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for _ in range(repeats):
        for way in ways:
            for quantity, value in take_turn(way).items():
                row = {"way": way.name, "quantity": quantity, "size": way.size, "values": []}
                rows.setdefault((way.name, quantity), row)["values"].append(float(f"{value:.5g}"))
    return list(rows.values())


def take_turn(way: Way) -> Figures:
    """Do the work once, in a process of its own or several side by side; the largest value of each quantity."""
    threads = dict.fromkeys(THREADS, str(way.threads)) if way.threads else {}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | threads
    command = [sys.executable, __file__, "--turn", way.work.__name__, json.dumps(way.options)]
    running = []
    for core in range(way.at_once):
        pinned = [*command, "--core", str(core)] if way.at_once > 1 else command
        running.append(subprocess.Popen(pinned, stdout=PIPE, stderr=PIPE, text=True, env=environment))
    found: Figures = {}
    for out, log, code in [(*process.communicate(), process.returncode) for process in running]:
        if code:
            sys.exit(f"{way.name} ended with code {code}:\n{log[-2000:]}")
        for quantity, value in json.loads(out.splitlines()[-1]).items():
            found[quantity] = max(value, found.get(quantity, value))
    return found


def write_record(part: str, rows: Sequence[dict[str, Any]], taking: dict[str, Any], path: Path = RECORD) -> None:
    """Put figures in place of the same ones measured before; all others stay."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"takings": {}, "figures": []}
    when = datetime.now(UTC).isoformat(timespec="seconds")
    names = {(part, row["way"], row["quantity"], row["size"]) for row in rows}
    kept = [f for f in record["figures"] if (f["part"], f["way"], f["quantity"], f["size"]) not in names]
    figures = [*kept, *({"part": part, **row, "taken": when} for row in rows)]
    used = {figure["taken"] for figure in figures}
    takings = {k: v for k, v in (record["takings"] | {when: taking}).items() if k in used}
    first = ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in takings.items())
    second = ",\n".join(map(json.dumps, figures))
    paths.write_text(path, f'{{\n"takings": {{\n{first}\n}},\n"figures": [\n{second}\n]\n}}\n')


def describe(study: Study, load: float, sizes: Sizes) -> dict[str, Any]:
    """Describe the machine, the libraries and the photos that figures belong to."""
    cpu = Path("/proc/cpuinfo")
    models = re.findall(r"^model name\s*: (.*)$", cpu.read_text() if cpu.exists() else "", re.M)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    machine = {"system": platform.system(), "processor": (models or [platform.processor()])[0]}
    return {
        "machine": machine | {"cores": os.cpu_count(), "memory": round(memory / 1e9)},
        "libraries": {name: metadata.version(name) for name in LIBRARIES} | {"python": platform.python_version()},
        "photos": study.data.title,
        "sha256": study.checksums.sha256,
        "load_before": round(load, 2),
        "settings": asdict(sizes),
    }


def main() -> None:
    """Measure the parts asked for, print a line per figure, and record them if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="parts, such as training,book; all by default")
    parser.add_argument("--repeats", type=int, default=5, help="turns of each way; the median counts")
    parser.add_argument("--data", help="folder of the photos")
    parser.add_argument("--record", action="store_true", help="write to record.json, to be committed")
    parser.add_argument("--small", action="store_true", help="only check that everything runs")
    parser.add_argument("--turn", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.turn:
        if asked.core is not None and hasattr(os, "sched_setaffinity"):
            cores = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {cores[asked.core % len(cores)]})
        work, options = asked.turn
        print("\n" + json.dumps(globals()[work](**json.loads(options))))
        return
    if asked.small and asked.record:
        parser.error("what --small measures means nothing, so it is not recorded; leave out one of the two")
    try:
        _run(asked, SMALL if asked.small else Sizes())
    except WbcError as error:
        sys.exit(str(error))


def _run(asked: argparse.Namespace, sizes: Sizes) -> None:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    if load > IDLE:
        print(f"The machine is not idle (its load is {load:.1f}), which will show in the figures.", file=sys.stderr)
    study = open_study(asked.data, "smoke" if sizes.pages else "quick", may_train=False)
    if study.results_of:
        sys.exit("There are no photos to measure with; name their folder with --data, or say --data phantoms.")
    with tempfile.TemporaryDirectory() as name:
        images = load_images(study.data)  # from here on in the cache
        pixels, labels = images.of("TRAIN")
        rows = np.resize(np.random.default_rng(0).permutation(len(labels)), max(sizes.images, sizes.frozen))
        np.savez(Path(name) / SAMPLE, pixels=pixels[rows], labels=labels[rows].astype(np.int32))
        sizes = replace(sizes, files=len(images.pixels))
        parts = list_parts(str(study.data.root.resolve()), Path(name), sizes)
        chosen = [part.strip() for part in asked.only.split(",") if part.strip()] or list(parts)
        if unknown := [part for part in chosen if part not in parts]:
            sys.exit(f"There is no part {unknown[0]!r} to measure; choose from: {', '.join(parts)}.")
        for part in chosen:
            if part in READ_TWICE:
                measure(parts[part], 1)
            figures = measure(parts[part], asked.repeats)
            for f in figures:
                middle = f"{statistics.median(f['values']):.4g} ({min(f['values']):.4g} to {max(f['values']):.4g})"
                print(f"{part} | {f['way']} | {f['quantity']} | {middle}", flush=True)
            if asked.record:
                write_record(part, figures, describe(study, load, sizes))


if __name__ == "__main__":
    main()
