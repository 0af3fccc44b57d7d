"""What fanning trainings out costs besides the training, measured in parts.

``python -m wbc_lib.scaling`` measures on this machine, with tiny runs on phantoms, and writes the record that the page
"At scale" reads.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from wbc_lib import jobs, paths, phantoms, photos, scaleout
from wbc_lib.errors import DataNotFoundError, RunError
from wbc_lib.examples import gather
from wbc_lib.experiments import find_experiment, find_profile
from wbc_lib.jobs import Job, make_job
from wbc_lib.photos import DataSet, open_folder
from wbc_lib.progress import console
from wbc_lib.runs import Store
from wbc_lib.scaleout import Cluster
from wbc_lib.study import Study

if TYPE_CHECKING:
    from distributed import Client

#: What is run to measure: the final network itself, so that all but its data has its real size.
NAME = "final+fold-1"
#: What happens in a run besides its epochs, in order, in words.
PARTS = {
    "send": "dask, to the worker",
    "python": "starting Python, importing the library",
    "check": "checking photos and plan",
    "tensorflow": "importing TensorFlow",
    "arrays": "loading the arrays",
    "network": "building the network, last predictions",
    "checkpoints": "checkpoints, one an epoch",
    "write": "writing the run",
    "end": "end of the process",
    "receive": "dask, back from the worker",
}
#: Of these, what grows with the data set, and so is measured at full size besides.
OF_THE_DATA = ("check", "arrays", "network")
#: Ways of running the same trainings: in words, and on how many workers (0: one after the other in one process).
WAYS = {"one process, in turn": 0, "1 worker": 1, "2 workers": 2}
_FORMAT = 1
# What the process of a job goes through, with the time of each stage told on its last line.
_CHILD = """
import time; begun = time.time()
import wbc_lib.jobs; imported = time.time()
from wbc_lib import scaling
scaling.tell_stages(begun, imported)
"""
_IN_TURN = """
import sys
from pathlib import Path
from wbc_lib.experiments import find_profile
from wbc_lib.photos import open_folder
from wbc_lib.runs import Store
from wbc_lib.study import Study
study = Study(open_folder(sys.argv[1]), find_profile("smoke"), Store(Path(sys.argv[2])))
for seed in range(int(sys.argv[4])):
    study.run(sys.argv[3], seed)
"""


@dataclass(frozen=True)
class Record:
    """What was measured.

    Attributes
    ----------
    about : dict
        ``date``, ``machine``, ``versions``, ``load`` (other processes that wanted a core before), ``epochs`` and
        ``images`` of the tiny runs, ``repeats``, ``trainings`` in each, ``bytes`` of a ``checkpoint``.
    totals : DataFrame
        A row per way and repeat: ``way``, ``workers`` (0: one process), ``repeat``, ``wall`` and ``training`` (the
        epochs' own), both in seconds over all trainings.
    parts : DataFrame
        A row per run: ``workers``, ``repeat``, a column of seconds per key of `PARTS`, and ``training``.
    clusters : DataFrame
        A row per cluster of this machine: ``workers``, ``repeat``, seconds of its ``start`` and ``stop``.
    full_size : DataFrame
        A row per repeat of a run of no epochs on the photos: ``images`` and seconds of those parts that depend on
        them. Empty if there were no photos.
    """

    about: dict
    totals: pd.DataFrame
    parts: pd.DataFrame
    clusters: pd.DataFrame
    full_size: pd.DataFrame


def measure(
    data: DataSet | None, *, repeats: int = 5, trainings: int = 4, on_progress: Callable[[int, int], None] | None = None
) -> Record:
    """Measure on this machine what fanning out costs; nothing is kept but the figures.

    Parameters
    ----------
    data : DataSet, optional
        At full size: loaded, never trained on.
    repeats : int
        Times that everything is measured; ways take turns, so that a slow minute slows all of them.
    trainings : int
        Tiny runs in each; a multiple of the workers, or some are idle at the end.
    on_progress : callable, optional
        Called with (repeats done, repeats in all).
    """
    load = _others()
    small = phantoms.cached(scale=0.1, copies=40)
    experiment = find_experiment(NAME)
    images = len(gather(small, experiment, 0).training)  # whatever is made once per machine is made now
    if data:
        gather(data, experiment, 0)
    found: dict[str, list[dict]] = {"totals": [], "parts": [], "clusters": [], "full_size": []}
    with tempfile.TemporaryDirectory() as folder:
        stores = (Store(Path(folder) / str(i)) for i in range(10**6))
        study = Study(small, find_profile("smoke"), next(stores))
        _in_stages(make_job(study, study.plan(NAME, 0)))  # what the first process reads from the disk, the others have
        for repeat in range(repeats):
            for way, workers in WAYS.items():
                study = replace(study, store=next(stores))
                row = {"way": way, "workers": workers, "repeat": repeat}
                found["totals"].append(row | _time_all(study, workers, trainings))
            for workers in filter(None, WAYS.values()):
                rows, cluster = _fan_out(replace(study, store=next(stores)), workers, trainings)
                found["parts"] += [{"workers": workers, "repeat": repeat} | row for row in rows]
                found["clusters"].append({"workers": workers, "repeat": repeat} | cluster)
            if data:
                found["full_size"].append({"repeat": repeat} | _load_all(replace(study, data=data, store=next(stores))))
            if on_progress:
                on_progress(repeat + 1, repeats)
        (run, *_) = study.store.whole()
    checkpoint = int(found["parts"][0]["bytes"])
    about = {
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
        "machine": run.record["machine"] | {"memory_gb": round(_memory() / 1e9, 1)},
        "versions": run.record["libraries"] | {"distributed": metadata.version("distributed")},
        "load": round(load, 2), "epochs": run.epochs, "images": images, "repeats": repeats, "trainings": trainings,
        "bytes": {"checkpoint": checkpoint},
    }  # fmt: skip
    tables = {name: pd.DataFrame(rows).round(4) for name, rows in found.items()}
    return Record(
        about, tables["totals"], tables["parts"].drop(columns="bytes"), tables["clusters"], tables["full_size"]
    )


def _time_all(study: Study, workers: int, trainings: int) -> dict[str, float]:
    # The very calls of `wbc train`, with workers and without.
    started = time.perf_counter()
    if workers:
        problems = scaleout.train_on(Cluster(workers), study, [(NAME, seed) for seed in range(trainings)])
        if problems:
            raise RunError(f"Nothing was measured: {problems[0]}")
    else:
        arguments = [str(study.data.root), str(study.store.roots[0]), NAME, str(trainings)]
        _run([sys.executable, "-c", _IN_TURN, *arguments], os.environ.copy())
    wall = time.perf_counter() - started
    return {"wall": wall, "training": sum(run.history.seconds.sum() for run in study.store.whole())}


def _fan_out(study: Study, workers: int, trainings: int) -> tuple[list[dict], dict[str, float]]:
    # As `scaleout.train_on` does it, with a clock at every step.
    from distributed import as_completed

    started = time.time()
    with scaleout.connect(Cluster(workers)) as client:
        ready = time.time()
        threads = _threads(client)
        plans = [study.plan(NAME, seed) for seed in range(trainings)]
        sent = time.time()
        futures = [client.submit(work_in_stages, make_job(study, p, threads=threads), pure=False) for p in plans]
        told = []
        for future in as_completed(futures):
            told.append(future.result() | {"received": time.time()})
        stopping = time.time()
    free: dict[str, float] = {}
    rows = []
    for t in sorted(told, key=lambda t: t["begun"]):
        send = t["begun"] - free.get(t["worker"], sent)
        free[t["worker"]] = t["ended"]
        rows.append({"send": send, **_parts(t), "receive": t["received"] - t["ended"], "bytes": t["bytes"]})
    return rows, {"start": ready - started, "stop": time.time() - stopping}


def _threads(client: "Client") -> int:
    return scaleout.share_of_cores(client.run(scaleout.look_around, []), client.nthreads())


def _load_all(study: Study, name: str = NAME) -> dict[str, float]:
    told = _in_stages(make_job(study, replace(study.plan(name, 0), epochs=0)))
    parts = _parts(told)
    return {"images": told["images"]} | {part: parts[part] for part in OF_THE_DATA}


def _parts(told: Mapping[str, float]) -> dict[str, float]:
    def between(first: str, last: str) -> float:
        return told[last] - told[first]

    return {
        "python": between("spawned", "imported"),
        "check": between("ready", "checked"),
        "tensorflow": between("checked", "tensorflow"),
        "arrays": between("tensorflow", "gathered"),
        "network": between("gathered", "fitted") - told["training"] - told["checkpoints"],
        "checkpoints": told["checkpoints"],
        "write": between("fitted", "written"),
        "end": between("written", "ended"),
        "training": told["training"],
    }


def work_in_stages(job: Job) -> dict[str, float | str]:
    """Do a job on a worker as `scaleout.work` does, and tell when each stage was reached (seconds of the clock)."""
    from distributed import get_worker

    begun = time.time()
    return {"begun": begun, "worker": get_worker().address, **_in_stages(job)}


def _in_stages(job: Job) -> dict[str, float]:
    spawned = time.time()
    environment = os.environ | jobs.limit_threads(job.threads)
    said = _run([sys.executable, "-c", _CHILD], environment, json.dumps(asdict(job)) + "\n")
    return {"spawned": spawned, **json.loads(said.splitlines()[-1]), "ended": time.time()}


def _run(command: list[str], environment: Mapping[str, str], said: str = "") -> str:
    done = subprocess.run(command, input=said, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RunError(f"Nothing was measured: {(done.stderr.strip().splitlines() or ['it said nothing'])[-1]}")
    return done.stdout


def tell_stages(begun: float, imported: float) -> None:
    """Train the job on standard input as `jobs` and `study` do, and print when each stage was reached, as JSON.

    A plan of no epochs is loaded, built and asked for its predictions, but not written.

    Parameters
    ----------
    begun, imported : float
        When the interpreter and the library were there, in seconds of the clock.
    """
    at = {"begun": begun, "imported": imported, "ready": time.time()}
    job = Job(**json.loads(sys.stdin.readline()))
    plan = job.plan
    study = Study(open_folder(job.data), find_profile("paper"), job.store)
    if plan.key != job.key or study.data_sha256 != job.config["data_sha256"] or study.store.find(plan):
        raise RunError("The measuring process was given another plan or other photos than it was asked for.")
    at["checked"] = time.time()
    from wbc_lib import training
    from wbc_lib.progress import training_bar

    at["tensorflow"] = time.time()
    spent = _timed(training, "_save")
    with study.store.lock(plan):
        material = gather(study.data, plan.experiment, plan.seed)
        at["gathered"] = time.time()
        checkpoint = study.store.checkpoint(plan)
        with training_bar(plan.experiment.title) as on_step:
            fitted = training.fit(
                plan.experiment, material, plan.epochs, plan.seed, checkpoint=checkpoint, on_step=on_step
            )
        at["fitted"] = time.time()
        size = checkpoint.stat().st_size if plan.epochs else 0
        if plan.epochs:
            study.store.write(plan, fitted, material, keep_weights=False)
    at["written"] = time.time()
    epochs = float(fitted.history.seconds.sum()) if plan.epochs else 0.0
    images = len(material.training) + len(material.validation)
    print(json.dumps(at | {"training": epochs, "checkpoints": sum(spent), "bytes": size, "images": images}))


def _timed(room: object, name: str) -> list[float]:
    # Puts a clock around a function of a room; the list grows with each call.
    function, spent = getattr(room, name), []

    def with_a_clock(*arguments: object) -> object:
        started = time.perf_counter()
        try:
            return function(*arguments)
        finally:
            spent.append(time.perf_counter() - started)

    setattr(room, name, with_a_clock)
    return spent


def _others() -> float:
    # Processes that want a core besides this one, over five seconds: a load average remembers what has ended.
    try:
        seen = []
        for _ in range(20):
            time.sleep(0.25)
            seen.append(int(Path("/proc/loadavg").read_text().split()[3].split("/")[0]) - 1)
        return sum(seen) / len(seen)
    except OSError:
        return os.getloadavg()[0]


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def record_path() -> Path:
    """Where the record lies."""
    return paths.results() / "scaling" / "overhead.json"


def write_record(record: Record) -> Path:
    """Write the record, to be committed."""
    tables = {name: table.to_dict("records") for name, table in _tables(record).items()}
    lines = [f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in tables.items()]
    head = f'"format": {_FORMAT},\n"about": {json.dumps(record.about, indent=1)}'
    paths.write_text(record_path(), "{\n" + ",\n".join([head, *lines]) + "\n}\n")
    return record_path()


def read_record() -> Record | None:
    """The recorded measurement; ``None`` if there is none.

    Raises
    ------
    RunError
        If it is damaged.
    """
    path = record_path()
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError
        names = [name for name in Record.__dataclass_fields__ if name != "about"]
        return Record(content["about"], **{name: pd.DataFrame(content[name]) for name in names})
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path} is damaged; restore it, or measure anew: python -m wbc_lib.scaling") from error


def _tables(record: Record) -> dict[str, pd.DataFrame]:
    return {name: getattr(record, name) for name in Record.__dataclass_fields__ if name != "about"}


def main() -> None:
    """Measure and write the record."""
    parser = argparse.ArgumentParser(description=main.__doc__, prog="python -m wbc_lib.scaling")
    parser.add_argument("--repeats", type=int, default=5, help="times that everything is measured (5)")
    parser.add_argument("--trainings", type=int, default=4, help="tiny runs in each, an even number (4)")
    asked = parser.parse_args()
    try:
        data = photos.find(os.environ.get("WBC_DATA") or None, download=False)
    except DataNotFoundError:
        data = None
        console.print("No photos were found: loading is measured on phantoms only.")

    def on_progress(done: int, total: int) -> None:
        console.print(f"Measured {done} of {total}.")

    record = measure(data, repeats=asked.repeats, trainings=asked.trainings, on_progress=on_progress)
    print(write_record(record))


if __name__ == "__main__":
    main()
