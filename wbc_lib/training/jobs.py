"""One training as a job: a process of its own, its share of the cores, its progress told, its end known for sure.

The process reads its job from standard input and ends when that is closed (see `stopping`). So no training outlives its
worker to run beside the one that takes its place.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from filelock import FileLock, Timeout

from wbc_lib import paths, stopping
from wbc_lib.data.dataset import open_folder
from wbc_lib.errors import RunError, WbcError, WeightsError
from wbc_lib.training import remote
from wbc_lib.training.experiments import Plan, find_profile, read_plan
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

DONE, FAILED, IMPOSSIBLE = "done", "failed", "impossible"
#: What a process reads its number of threads from. TensorFlow goes by the first two; the sums of its matrix products
#: are split among these threads, so that another number rounds differently: it decides the bits of a result.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
#: Exit code of a process that can never do its job here, however often it is asked.
_EXIT_IMPOSSIBLE = 3
#: Seconds between two looks at the checkpoint.
_LOOK = 0.5
_LOG_TAIL = 20_000


@dataclass(frozen=True)
class Job:
    """All that a worker needs to know of one training.

    Attributes
    ----------
    name : str
        Of the experiment.
    config : dict
        As `Plan.config` gives it.
    key : str
        Of the plan: a worker whose code or data make another one refuses the job.
    data : str
        Folder of the photos, as the worker sees it.
    roots : tuple of str
        Folders of the store, as the worker sees them; empty for the worker's own.
    url : str
        Where finished runs are copied to (see `remote`); "" for nowhere.
    threads : int
        That TensorFlow may use; 0 for all cores.
    """

    name: str
    config: dict[str, Any] = field(repr=False)
    key: str
    data: str
    roots: tuple[str, ...] = ()
    url: str = ""
    threads: int = 0

    @property
    def plan(self) -> Plan:
        """What is to be trained."""
        return read_plan(self.name, self.config)

    @property
    def store(self) -> Store:
        """Where it is trained."""
        return Store(*map(Path, self.roots or (paths.cache() / "runs", paths.results())))


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes
    ----------
    status : str
        "done", "failed", or "impossible": it cannot be done here (weights that cannot be had).
    run : str
        Name of the run's folder, if it is done.
    seconds : float
        That the process lived.
    log : str
        What it said, or the end of that.
    """

    status: str
    run: str = ""
    seconds: float = 0.0
    log: str = ""


def make_job(study: Study, plan: Plan, *, url: str = "", threads: int = 0) -> Job:
    """Describe the training of a plan to a worker; with a `url` it trains in its own store, else in the study's."""
    roots = () if url else tuple(str(root.resolve()) for root in study.store.roots)
    data = str(study.data.root.resolve())
    return Job(plan.experiment.name, plan.config, plan.key, data, roots, url, threads)


def limit_threads(threads: int) -> dict[str, str]:
    """Variables that cap the threads of a process started with them; none if `threads` is 0."""
    return dict.fromkeys(_THREADS, str(threads)) if threads else {}


def pin_to_cores(threads: int, folder: Path) -> list[FileLock]:
    """Keep this process on as many free cores as it has threads, so that trainings side by side share no cache.

    Parameters
    ----------
    threads : int
    folder : Path
        Where this machine's processes tell each other which cores are taken.

    Returns
    -------
    list of FileLock
        One for each core, held until the process ends; empty where the system cannot pin or too few cores are free.
    """
    if not threads or not hasattr(os, "sched_setaffinity"):
        return []
    taken: dict[int, FileLock] = {}
    for core in sorted(os.sched_getaffinity(0)):
        if len(taken) == threads:
            break
        lock = FileLock(folder / f"core-{core}.lock")
        with suppress(Timeout):
            lock.acquire(blocking=False)
            taken[core] = lock
    if len(taken) < threads:
        for lock in taken.values():
            lock.release()
        return []
    os.sched_setaffinity(0, taken)
    return list(taken.values())


def run_job(job: Job, on_epoch: Callable[[dict[str, float]], None] | None = None) -> Outcome:
    """Train in a process of its own and wait for its end.

    Parameters
    ----------
    job : Job
    on_epoch : callable, optional
        Told the last row of the history (see `training.Fitted`) when an epoch is finished.

    Raises
    ------
    RunError
        If the finished run cannot be copied to the job's URL.
    """
    started = time.perf_counter()
    plan, store = job.plan, job.store
    checkpoint = store.checkpoint(plan)
    if job.url and not checkpoint.exists():
        remote.fetch_checkpoint(job.url, checkpoint)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        code = _watch(job, checkpoint, log, on_epoch or (lambda _: None))
        log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
        said = log.read()
    seconds = time.perf_counter() - started
    if code:
        status = IMPOSSIBLE if code == _EXIT_IMPOSSIBLE else FAILED
        return Outcome(status, seconds=seconds, log=said + _say_killed(code))
    run = store.find(plan)
    if run is None:
        raise RunError(f"{store.roots[0]} does not hold the run of {job.name} that was just written to it.")
    if job.url:
        remote.push(run, job.url)
        remote.drop_checkpoint(job.url, checkpoint)
    return Outcome(DONE, run.name, seconds, said)


def _say_killed(code: int) -> str:
    if code >= 0:
        return ""
    return f"\nKilled by signal {-code}" + (", most often for lack of memory." if code == -signal.SIGKILL else ".")


def _watch(job: Job, checkpoint: Path, log: IO[str], on_epoch: Callable[[dict[str, float]], None]) -> int:
    environment = os.environ | limit_threads(job.threads)
    command = [sys.executable, "-m", "wbc_lib.training.jobs"]
    options = {"stdout": log, "stderr": log, "env": environment, "text": True, "start_new_session": True}
    with subprocess.Popen(command, stdin=subprocess.PIPE, **options) as child:
        try:
            try:
                child.stdin.write(json.dumps(asdict(job)) + "\n")
                child.stdin.flush()
            except BrokenPipeError:  # its exit code will tell why
                with suppress(BrokenPipeError):
                    child.stdin.close()  # now, or what it still holds is written, in vain again, when it is left
            seen = 0
            while child.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    child.wait(_LOOK)
                history = read_history(checkpoint)
                if len(history) > seen:
                    seen = len(history)
                    on_epoch(history[-1])
                    if job.url:
                        remote.push_checkpoint(checkpoint, job.url)
        except BaseException:
            child.kill()
            raise
        return child.returncode


def read_history(checkpoint: Path) -> list[dict[str, float]]:
    """The epochs that an unfinished training has behind it, a row each; none if there is no readable checkpoint."""
    with suppress(Exception), np.load(checkpoint, allow_pickle=False) as file:
        return json.loads(file["history"].tobytes())
    return []


def _main() -> None:
    job = Job(**json.loads(sys.stdin.readline()))
    stopping.end_with_stdin()
    folder = Path(tempfile.gettempdir()) / f"wbc-cores-{os.getuid() if hasattr(os, 'getuid') else ''}"
    folder.mkdir(exist_ok=True)
    pinned = pin_to_cores(job.threads, folder)  # noqa: F841 (held for the life of the process)
    try:
        _train(job)
    except WeightsError as error:
        print(error, file=sys.stderr)
        sys.exit(_EXIT_IMPOSSIBLE)
    except WbcError as error:
        sys.exit(str(error))


def _train(job: Job) -> None:
    study = Study(open_folder(job.data), find_profile("paper"), job.store)
    if job.plan.key != job.key:
        raise RunError(f"This worker's code gives {job.name} another key: bring all machines to the same version.")
    if study.data_sha256 != job.config["data_sha256"]:
        raise RunError(f"{job.data} is not the data set that {job.name} is to be trained on: compare the copies.")
    run = study.store.find(job.plan) or study.train(job.plan)
    print(run.name)


if __name__ == "__main__":
    _main()
