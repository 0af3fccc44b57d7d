"""Many trainings on many workers: processes of this machine, or whatever has joined a dask scheduler.

A worker is given one training after the other, each in a process of its own (see `jobs`). What has been trained lies in
the store, so that asking again, here or elsewhere, trains only what is missing.
"""

import contextlib
import logging
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from wbc_lib import paths, stopping
from wbc_lib.errors import RunError
from wbc_lib.progress import console
from wbc_lib.training import remote
from wbc_lib.training.experiments import Plan, find_experiment
from wbc_lib.training.jobs import DONE, FAILED, IMPOSSIBLE, Job, Outcome, make_job, run_job
from wbc_lib.training.runs import Run, Store, read
from wbc_lib.training.study import Study

if TYPE_CHECKING:
    from distributed import Client, Future, LocalCluster

#: Times that a failed training is tried again.
RETRIES = 2
#: Seconds that a scheduler may take to answer, and that a shared folder may take to show a new run everywhere.
_PATIENCE = 60
#: Seconds between two lines on what is under way, where there is no terminal to show it live.
_QUIET = 60
_TOPIC = "wbc"


@dataclass(frozen=True)
class Cluster:
    """Where trainings are sent.

    Attributes
    ----------
    workers : int
        Processes of this machine, if there is no `scheduler`.
    scheduler : str
        Address of a running dask scheduler, such as ``tcp://host:8786``.
    store : str
        URL that finished runs are copied to and read from (see `remote`); "" if all workers share the study's store.
    threads : int
        That TensorFlow may use in each training. Another number gives other bits. 0: the worker's share of its cores.
    """

    workers: int = 1
    scheduler: str = ""
    store: str = ""
    threads: int = 0


@dataclass(frozen=True)
class Place:
    """What a worker says of the machine it is on."""

    host: str
    cores: int
    sees: tuple[bool, ...]


def train_on(cluster: Cluster, study: Study, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """Train on many workers; what fails is tried twice more, what was on a lost worker goes on elsewhere.

    Parameters
    ----------
    cluster : Cluster
    study : Study
    wanted : sequence of (str, int)
        Experiments and seeds; those that are there already are not trained.

    Returns
    -------
    list of str
        A sentence for each training that failed, with the file that holds its log.

    Raises
    ------
    RunError
        If the scheduler does not answer, or its workers lack the photos or the store.
    """
    asked = (study.plan(name, seed) for name, seed in wanted)
    plans = list({plan.key: plan for plan in asked}.values())  # what is asked for twice is trained once
    recorded = _find(study.store, plans)
    plans = [plan for plan in plans if plan.key not in recorded]
    if cluster.store:
        for run in recorded.values():
            remote.push(run, cluster.store)
        there = {run.key for run in remote.fetch(cluster.store, [p.key for p in plans], study.store.roots[0])}
        plans = [plan for plan in plans if plan.key not in there]
    if not plans:
        return []
    with connect(cluster) as client:
        threads = _inspect(client, cluster, study)
        jobs = [make_job(study, plan, url=cluster.store, threads=threads) for plan in plans]
        with _View(client, jobs) as view:
            return list(_gather(client, study, jobs, view))


def _find(store: Store, plans: Sequence[Plan]) -> dict[str, Run]:
    # One look at each folder: asked plan by plan, the store would look through all its runs for every one of them.
    beginnings = {path.name.rsplit("-", 1)[-1] for root in store.roots for path in root.glob("[!.]*")}
    runs = (store.find(plan) for plan in plans if plan.key[:12] in beginnings)
    return {run.key: run for run in runs if run}


@contextlib.contextmanager
def connect(cluster: Cluster) -> Iterator["Client"]:
    """Yield a client of a cluster's scheduler, or of a cluster of this machine that lives as long as the body.

    Raises
    ------
    RunError
        If the scheduler does not answer.
    """
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # lost workers are told of in our words
    with contextlib.ExitStack() as stack:
        if not cluster.scheduler:
            # Memory is not watched: what fills it is the process that trains, not the worker.
            with stopping.deaf_children():
                local = LocalCluster(
                    n_workers=cluster.workers, threads_per_worker=1, processes=True, memory_limit=0,
                    host="127.0.0.1", dashboard_address=None, silence_logs=logging.CRITICAL,
                )  # fmt: skip
            stack.enter_context(local)
        try:
            client = Client(cluster.scheduler or local, timeout=_PATIENCE)
        except (OSError, ValueError) as error:
            raise RunError(f"No dask scheduler answers at {cluster.scheduler} ({error}); start one there.") from error
        stack.enter_context(client)
        try:
            yield client
        except BaseException:
            if not cluster.scheduler:
                _kill_workers(local)
            raise


def _kill_workers(local: "LocalCluster") -> None:
    # Asked to close, a worker would wait for its training to end.
    for nanny in local.workers.values():
        nanny.auto_restart = False
        with contextlib.suppress(psutil.Error):
            psutil.Process(nanny.pid).kill()


def _inspect(client: "Client", cluster: Cluster, study: Study) -> int:
    # Workers must see the photos and the store; returns how many threads each training may use.
    if not client.nthreads():
        console.print("Waiting for a worker to join the scheduler.")
        client.wait_for_workers(1)
    root = study.store.roots[0]
    token = root / ".unfinished" / f"seen-by-all-{uuid.uuid4().hex}"
    folders = [str(study.data.root.resolve())] + ([] if cluster.store else [str(token.resolve())])
    paths.write_text(token, "")
    try:
        places = client.run(look_around, folders)
    except ImportError as error:
        raise RunError(f"A worker cannot import wbc_lib ({error}); install this project on every machine.") from error
    finally:
        token.unlink(missing_ok=True)
    for place in places.values():
        if not place.sees[0]:
            raise RunError(f"{place.host} does not see the photos at {folders[0]}; share that folder with all workers.")
        if not all(place.sees):
            raise RunError(
                f"{place.host} does not see the store at {root}; share it with all workers, or name a --store."
            )
    return cluster.threads or share_of_cores(places, client.nthreads())


def look_around(folders: Sequence[str]) -> Place:
    """Tell the worker's machine, its cores, and which of the folders (or files) it sees."""
    from dask.system import CPU_COUNT  # what a batch system or a container grants, where that is less than there are

    return Place(socket.gethostname(), CPU_COUNT, tuple(Path(folder).exists() for folder in folders))


def share_of_cores(places: dict[str, Place], slots: dict[str, int]) -> int:
    """Cores per training on the machine that has the fewest, so that all trainings round alike.

    Parameters
    ----------
    places : dict
        By the worker's address, where it is.
    slots : dict
        By the worker's address, how many trainings it takes at once.
    """
    on_host = Counter()
    for address, place in places.items():
        on_host[place.host] += slots.get(address, 1)
    return max(1, min(place.cores // on_host[place.host] for place in places.values()))


def work(job: Job) -> Outcome:
    """Do a job on a worker, telling all who listen how it goes."""
    from distributed import get_worker

    worker = get_worker()

    def tell(row: dict[str, float]) -> None:
        worker.log_event(_TOPIC, {"key": job.key, "worker": worker.address, **row})

    tell({"epoch": 0})
    return run_job(job, tell)


def _gather(client: "Client", study: Study, jobs: Sequence[Job], view: "_View") -> Iterator[str]:
    # Yields a sentence per training that has failed for good.
    from distributed import as_completed

    def send(job: Job) -> "Future":
        future = client.submit(work, job, pure=False, key=f"{_label(job)}-{uuid.uuid4().hex[:8]}")
        waiting[future.key] = job
        return future

    waiting: dict[str, Job] = {}
    logs: dict[str, list[str]] = {}
    pending = as_completed([send(job) for job in jobs])
    for future in pending:
        job = waiting.pop(future.key)
        outcome, run = _settle(future, job, study)
        if run:
            view.finish(job, _describe(run))
        elif outcome.status == IMPOSSIBLE:
            view.finish(job, f"not run. {_last_line(outcome)}")
        else:
            said = logs.setdefault(job.key, [])
            said.append(outcome.log)
            if len(said) <= RETRIES:
                view.retry(job, f"failed, is tried again ({len(said)} of {RETRIES}). {_last_line(outcome)}")
                pending.add(send(job))
                continue
            log = study.store.roots[0] / ".unfinished" / f"{_label(job)}.log"
            paths.write_text(log, "\n\n".join(f"Try {i}:\n{text}" for i, text in enumerate(said, start=1)))
            view.finish(job, f"failed. {_last_line(outcome)}")
            yield f"{_title(job)} failed {len(said)} times; its log is {log}"


def _settle(future: "Future", job: Job, study: Study) -> tuple[Outcome, Run | None]:
    if future.cancelled():
        raise RunError("The scheduler was lost. What had finished is kept: ask again, and the rest is trained.")
    error = future.exception()
    if error is not None:
        return Outcome(FAILED, log=f"{type(error).__name__}: {error}"), None
    outcome = future.result()
    if outcome.status != DONE:
        return outcome, None
    try:
        run = _collect(job, outcome, study)
    except RunError as problem:
        return Outcome(FAILED, log=str(problem)), None
    return outcome, run


def _collect(job: Job, outcome: Outcome, study: Study) -> Run:
    if job.url:
        for run in remote.fetch(job.url, [job.key], study.store.roots[0]):
            return run
    for _ in range(_PATIENCE):
        for root in study.store.roots:
            if (root / outcome.run / "run.json").exists():
                return read(root / outcome.run)
        time.sleep(1)  # a shared folder may show it late
    raise RunError(f"A worker has trained it, but {job.url or study.store.roots[0]} does not hold it.")


class _View:
    """Progress of all runs: bars of those under way in a terminal, else a line now and then."""

    def __init__(self, client: "Client", jobs: Sequence[Job]):
        self._client = client
        self._jobs = {job.key: job for job in jobs}
        self._workers: dict[str, str] = {}
        self._epochs: dict[str, int] = {}
        self._bars: dict[str, TaskID] = {}
        self._done, self._spoken = 0, time.monotonic()
        self._lock = threading.RLock()  # events come in on the client's own thread
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._total = self._progress.add_task("All runs", total=len(jobs), note="")

    def __enter__(self) -> "_View":
        self._progress.start()
        self._client.subscribe_topic(_TOPIC, self._on_event)
        return self

    def __exit__(self, *_: object) -> None:
        self._client.unsubscribe_topic(_TOPIC)
        self._progress.stop()

    def _on_event(self, event: tuple[float, dict[str, Any]]) -> None:
        with self._lock:
            self._hear(event[1])

    def _hear(self, row: dict[str, Any]) -> None:
        job = self._jobs.get(row["key"])
        if job is None:  # another client's, or finished
            return
        before, worker = self._workers.get(job.key), row["worker"]
        self._workers[job.key] = worker
        if before and before != worker:
            self.note(job, "goes on at another worker, the one it was on is lost")
        elif not before and not console.is_terminal:
            self.note(job, "is begun")
        self._epochs[job.key] = max(self._epochs.get(job.key, 0), int(row["epoch"]))
        epochs = job.config["epochs"]
        note = f"epoch {self._epochs[job.key]}/{epochs}"
        if "val_accuracy" in row:
            note += f"  validation {row['val_accuracy']:.3f}"
        if job.key not in self._bars:
            self._bars[job.key] = self._progress.add_task(_title(job), total=epochs, note=note)
        self._progress.update(self._bars[job.key], completed=self._epochs[job.key], note=note)
        self._speak()

    def _speak(self) -> None:
        if console.is_terminal or time.monotonic() - self._spoken < _QUIET:
            return
        self._spoken = time.monotonic()
        under_way = (
            f"{_label(self._jobs[k])} {self._epochs[k]}/{self._jobs[k].config['epochs']}" for k in self._epochs
        )
        console.print(f"  under way (epochs): {', '.join(under_way)}", highlight=False, soft_wrap=True)

    def note(self, job: Job, words: str) -> None:
        """Say something of a run."""
        console.print(f"  {_title(job)}: {words}", highlight=False, soft_wrap=True, markup=False)

    def retry(self, job: Job, words: str) -> None:
        """Say that a run is tried again, wherever that is."""
        with self._lock:
            self._workers.pop(job.key, None)
            self.note(job, words)

    def finish(self, job: Job, words: str) -> None:
        """Say how a run ended, and take its bar away."""
        with self._lock:
            self._done += 1
            del self._jobs[job.key]
            self._epochs.pop(job.key, None)
            if (bar := self._bars.pop(job.key, None)) is not None:
                self._progress.remove_task(bar)
            self._progress.update(self._total, completed=self._done)
            self.note(job, f"{words} ({self._done} of {self._done + len(self._jobs)})")


def _title(job: Job) -> str:
    return f"{_words(job.name)}, seed {job.config['seed']}"


def _words(name: str) -> str:
    with contextlib.suppress(Exception):
        return find_experiment(name).title
    return name


def _label(job: Job) -> str:
    return f"{job.name}-s{job.config['seed']}-{job.key[:12]}"


def _describe(run: Run) -> str:
    best = run.history.val_accuracy.max()
    return f"{run.epochs} epochs in {run.record['seconds']:.0f} s, validation accuracy up to {best:.1%}"


def _last_line(outcome: Outcome) -> str:
    lines = outcome.log.strip().splitlines()
    return lines[-1] if lines else "It said nothing."
