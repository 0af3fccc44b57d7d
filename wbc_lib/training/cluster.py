"""Many trainings at once: in processes of this machine, or on the workers of a dask scheduler.

A worker gives each training a process of its own and sends the finished run back. A training on a lost worker goes on
at another, from its checkpoint if that one sees the same store.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path
from subprocess import PIPE
from typing import TYPE_CHECKING, Any

import psutil
from tqdm import tqdm

from wbc_lib import paths, stopping
from wbc_lib.data.dataset import open_folder
from wbc_lib.data.images import MapTasks, map_ahead
from wbc_lib.errors import RunError, WbcError, WeightsError
from wbc_lib.progress import Step, say
from wbc_lib.training.experiments import find_profile, read_plan
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

if TYPE_CHECKING:
    from distributed import Client

#: Times that a failed training is tried again.
RETRIES = 2
#: Seconds that a scheduler may take to answer.
_PATIENCE = 60
#: Last lines of what a process that failed has printed.
_LOG_LINES = 30
_TOPIC = "wbc"
# A finished run on its way back: its folder's name, and its files by name.
Trained = tuple[str, dict[str, bytes]]
#: What a process reads its number of threads from, when it loads TensorFlow (the first two) and NumPy.
_THREADS = ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Cluster:
    """Where trainings are sent: to processes of this machine, or to the workers of a dask scheduler."""

    workers: int = 1  # processes of this machine, if there is no scheduler
    scheduler: str = ""  # address, such as tcp://host:8786
    # TensorFlow's, in each training; another number gives other bits; 0: the cores divided among the workers, or one
    threads: int = 0


@dataclass(frozen=True)
class Job:
    """A training, as it is sent to a worker."""

    plan: Plan
    key: str  # of the plan: a worker whose code gives it another key refuses it
    data: Path  # folder of the photos
    roots: tuple[Path, ...]  # folders of the store; a worker that does not see the first trains in its own user cache
    threads: int = 1
    cores: tuple[int, ...] = ()  # that the workers share out among themselves; empty if they are not pinned


def limit_threads(threads: int) -> dict[str, str]:
    """Environment variables that set the threads of a process before it loads TensorFlow; none for 0."""
    return dict.fromkeys(_THREADS, str(threads)) if threads else {}


def train_on(cluster: Cluster, study: Study, wanted: Sequence[tuple[str, int]]) -> list[str]:
    """Train experiments and seeds that are not recorded yet on many workers; one that fails is tried twice more.

    Returns a sentence for each training that failed. Raises `RunError` if the scheduler does not answer, or is lost.
    """
    plans = {plan.key: plan for plan in (study.plan(name, seed) for name, seed in wanted)}
    # One look at each folder first: asked plan by plan, the store would look through all its runs for every one.
    endings = {path.name[-12:] for root in study.store.roots for path in root.glob("[!.]*")}
    plans = {k: plan for k, plan in plans.items() if k[:12] not in endings or study.store.find(plan) is None}
    if not plans:
        return []
    roots = tuple(root.resolve() for root in study.store.roots)
    roots[0].mkdir(parents=True, exist_ok=True)
    cores = tuple(sorted(os.sched_getaffinity(0))) if hasattr(os, "sched_setaffinity") else ()
    share = 1 if cluster.scheduler else max(1, (len(cores) or os.cpu_count() or 1) // cluster.workers)
    threads = cluster.threads or share
    if cluster.scheduler or cluster.workers * threads < len(cores):
        cores = ()  # trainings of another command may be at work on the others
    data = study.data.root.resolve()
    jobs = [Job(plan, key, data, roots, threads, cores) for key, plan in plans.items()]
    with connect(cluster) as client, _reported(client, jobs) as finish:
        return list(_collect(client, study.store, jobs, finish))


@contextmanager
def connect(cluster: Cluster) -> Iterator["Client"]:
    """Yield a client of a cluster's scheduler, or of workers of this machine that live as long as the body.

    Raises `RunError` if the scheduler does not answer.
    """
    from distributed import Client, LocalCluster

    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # lost workers are reported here
    with ExitStack() as stack:
        if not cluster.scheduler:
            with stopping.deaf_children():
                local = LocalCluster(
                    n_workers=cluster.workers, threads_per_worker=1, processes=True, memory_limit=0,
                    host="127.0.0.1", dashboard_address="127.0.0.1:0", silence_logs=logging.CRITICAL,
                )  # fmt: skip
            stack.enter_context(local)
        try:
            client = stack.enter_context(Client(cluster.scheduler or local, timeout=_PATIENCE))
        except (OSError, ValueError) as error:
            raise RunError(f"No dask scheduler answers at {cluster.scheduler} ({error}); start one there.") from error
        if not client.nthreads():
            say("Waiting for a worker to join the scheduler.")
        try:
            yield client
        except BaseException:
            if not cluster.scheduler:  # asked to close, a worker would wait for its training to end
                for nanny in local.workers.values():
                    nanny.auto_restart = False
                    with suppress(psutil.Error):
                        psutil.Process(nanny.pid).kill()
            raise


def map_on(client: "Client") -> MapTasks:
    """A `map` whose tasks are done by the workers of a cluster."""
    return partial(map_ahead, partial(client.submit, pure=False), 2 * sum(client.nthreads().values()))


def train(job: Job) -> Trained | WeightsError:
    """Train on a dask worker, which tells all who listen of every epoch; see `train_in_process`."""
    from distributed import get_worker

    worker: Any = get_worker()

    def report(epoch: int) -> None:
        worker.log_event(_TOPIC, {"key": job.key, "worker": worker.address, "epoch": epoch})

    if job.cores:
        first = worker.name * job.threads
        job = replace(job, cores=job.cores[first : first + job.threads] or job.cores)
    report(0)
    return train_in_process(job, report)


def train_in_process(job: Job, on_epoch: Callable[[int], None]) -> Trained | WeightsError:
    """Train in a process of its own: what Keras draws at random depends on the threads beside it.

    `on_epoch` is told of each epoch that is done. Returns a `WeightsError` if a frozen base's weights cannot be had;
    raises `RunError` if anything else fails.
    """
    message: dict[str, Any] = {"name": job.plan.experiment.name, "config": job.plan.config, "key": job.key}
    message |= {"data": str(job.data), "roots": list(map(str, job.roots)), "cores": job.cores}
    options: dict[str, Any] = {"stdin": PIPE, "stdout": PIPE, "text": True, "start_new_session": True}
    options["env"] = os.environ | limit_threads(job.threads)
    command, event = [sys.executable, "-m", "wbc_lib.training.cluster"], {}
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log,
        subprocess.Popen(command, stderr=log, **options) as child,
    ):
        try:
            assert child.stdin and child.stdout  # pipes
            child.stdin.write(json.dumps(message) + "\n")
            child.stdin.flush()
            for line in child.stdout:
                event = json.loads(line)
                if "epoch" in event:
                    on_epoch(event["epoch"])
            child.wait()
        except BaseException:
            child.kill()
            raise
        log.seek(0)
        printed = "\n".join(log.read().splitlines()[-_LOG_LINES:])
    if "weights" in event:
        return WeightsError(event["weights"])
    if child.returncode:
        killed = f"It was killed by signal {-child.returncode}, most often for lack of memory."
        raise RunError(event.get("error") or (killed if child.returncode < 0 else printed))
    run = _open_store(job.roots).find(job.plan)
    if run is None:
        raise RunError(f"The run of {job.plan.title} that was just written cannot be found.")
    return run.name, run.read_files()


def _open_store(roots: Sequence[Path]) -> Store:
    return Store(*roots) if roots[0].is_dir() else Store(paths.cache() / "runs")


def _main() -> None:
    # The process of one training: a job comes in as a line of JSON; a line goes out for each epoch and for an error.
    job = json.loads(sys.stdin.readline())
    stopping.end_with_stdin()
    channel = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no message

    def send(**event: object) -> None:
        print(json.dumps(event), file=channel, flush=True)

    def on_step(step: Step) -> None:
        if len(step.history) == step.epoch:
            send(epoch=step.epoch)

    if job["cores"]:
        os.sched_setaffinity(0, job["cores"])
    plan = read_plan(job["name"], job["config"])
    try:
        study = Study(open_folder(job["data"]), find_profile("paper"), _open_store([Path(r) for r in job["roots"]]))
        if plan.key != job["key"]:
            raise RunError("This worker's code gives the plan another key: bring all machines to the same version.")
        if study.data_sha256 != plan.data_sha256:
            raise RunError(f"{job['data']} is not the data set that is to be trained on: compare the copies.")
        if study.store.find(plan) is None:
            study.train(plan, on_step)
    except WeightsError as error:
        send(weights=str(error))
    except WbcError as error:
        send(error=str(error))
        sys.exit(1)


def _collect(client: "Client", store: Store, jobs: Sequence[Job], finish: Callable[[Job, str], None]) -> Iterator[str]:
    # Yields a sentence per training that failed for good.
    from distributed import Future, KilledWorker, as_completed

    # No more than there are workers: each is given at once to one of them, and another that is free does not get it.
    rest, done = iter(jobs), as_completed()
    futures: dict[Future, Job] = {}

    def begin() -> None:
        for job in islice(rest, max(1, sum(client.nthreads().values())) - len(futures)):
            key = f"{job.plan.title}-{uuid.uuid4().hex[:8]}"
            future = client.submit(train, job, key=key, pure=False, retries=RETRIES)
            futures[future] = job
            done.add(future)

    begin()
    for future in done:
        job = futures.pop(future)  # or all runs would stay in memory
        if future.cancelled():
            raise RunError("The scheduler was lost. What had finished is kept: ask again, and the rest is trained.")
        error = future.exception()
        if error is not None:
            sentence = str(error) if isinstance(error, WbcError) else f"{type(error).__name__}: {error}"
            if isinstance(error, KilledWorker):
                sentence = "Its worker was killed each time, most often for lack of memory."
            finish(job, f"failed. {sentence}")
            yield f"{job.plan.title} failed {1 + RETRIES} times. {sentence}"
        elif isinstance(trained := future.result(), WeightsError):
            finish(job, f"not run. {trained}")
        else:
            finish(job, store.add(*trained).describe())
        begin()


@contextmanager
def _reported(client: "Client", jobs: Sequence[Job]) -> Iterator[Callable[[Job, str], None]]:
    # A bar for what is done, and a line for each beginning, move and end; yields what is told of an end.
    waiting = {job.key: job for job in jobs}
    workers: dict[str, str] = {}
    with tqdm(total=len(jobs), desc="Trainings", file=sys.stderr, disable=None, dynamic_ncols=True) as bar:

        def on_event(event: tuple[float, dict[str, Any]]) -> None:
            row = event[1]
            job = waiting.get(row["key"])
            if job is None:  # another client's, or finished
                return
            before, workers[job.key] = workers.get(job.key), row["worker"]
            if before != row["worker"]:
                say(f"  {job.plan.title}: {'goes on at another worker' if before else 'is begun'}")
            bar.set_postfix_str(f"{job.plan.title}: epoch {row['epoch']}/{job.plan.epochs}")

        def finish(job: Job, sentence: str) -> None:
            del waiting[job.key]
            bar.update()
            say(f"  {job.plan.title}: {sentence} ({len(jobs) - len(waiting)} of {len(jobs)})")

        client.subscribe_topic(_TOPIC, on_event)
        try:
            yield finish
        finally:
            with suppress(Exception):  # a scheduler that is lost has no topics
                client.unsubscribe_topic(_TOPIC)


if __name__ == "__main__":
    _main()
