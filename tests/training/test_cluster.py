import dataclasses
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from distributed import Client, LocalCluster
from filelock import FileLock

from tests.train_tiny import TINY_FINAL, read_history
from wbc_lib import paths
from wbc_lib.errors import RunError, WeightsError
from wbc_lib.training import cluster, experiments
from wbc_lib.training.cluster import Cluster, Job, limit_threads, train_on
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

NOT_RESULTS = {"seconds", "finished", "sha256", "files", "code_sha256"}
WANTED = [("final", seed) for seed in range(3)]


@pytest.fixture
def study(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", TINY_FINAL)
    return Study(phantom_set, experiments.PROFILES["paper"], Store(tmp_path / "runs"))


@pytest.fixture(scope="module")
def serial(phantom_set, tmp_path_factory) -> Path:
    """The store that one process makes, one training after the other, with one thread."""
    root = tmp_path_factory.mktemp("serial")
    code = f"""
from pathlib import Path
from tests.train_tiny import TINY_FINAL
from wbc_lib.data import dataset
from wbc_lib.training import experiments, runs, study
experiments.EXPERIMENTS["final"] = TINY_FINAL
data, store = dataset.open_folder({str(phantom_set.root)!r}), runs.Store(Path({str(root)!r}))
for seed in range(3):
    study.Study(data, experiments.PROFILES["paper"], store).run("final", seed)
"""
    environment = os.environ | limit_threads(1)
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, env=environment, check=True, capture_output=True)
    return root


def content(root: Path) -> dict[str, dict]:
    """All that a store holds of its runs, but times (and the source's hash: someone may be at work on it)."""
    found = {}
    for run in Store(root).whole():
        files = {name: digest for name, digest in run.record["files"].items() if name != "history.csv"}
        record = {k: v for k, v in run.record.items() if k not in NOT_RESULTS}
        history = run.history.drop(columns="seconds").to_csv()
        found[run.name] = {"files": files, "record": record, "history": history}
    return found


class Killer(threading.Thread):
    """Kills, once, a worker whose training has some epochs behind it."""

    def __init__(self, root: Path):
        super().__init__(daemon=True)
        self.root, self.key, self.training, self.behind = root, "", None, []

    def run(self) -> None:
        while not self.key:
            for process in psutil.Process().children(recursive=True):
                try:
                    locks = [Path(f.path) for f in process.open_files() if f.path.endswith(".lock")]
                except psutil.Error:
                    continue
                for lock in locks:
                    behind = read_history(self.root / ".unfinished" / f"{lock.stem}.npz")
                    if 3 <= len(behind) <= TINY_FINAL.epochs - 10:
                        os.kill(process.ppid(), signal.SIGKILL)
                        self.key, self.training, self.behind = lock.stem, process, behind
                        return
            time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing_and_a_second_call_trains_nothing(study, capsys, serial):
    root = study.store.roots[0]
    killer = Killer(root)
    killer.start()
    assert train_on(Cluster(workers=2, threads=1), study, WANTED) == []
    assert killer.key and not killer.training.is_running()
    printed = capsys.readouterr().err
    assert printed.count("goes on at another worker") == 1
    assert content(root) == content(serial) != {}
    assert list(root.glob(".unfinished/*.npz")) == []
    # Times are never the same twice: these epochs are those of the worker that was killed.
    (run,) = [run for run in Store(root).whole() if run.key == killer.key]
    assert run.history.seconds[: len(killer.behind)].tolist() == [row["seconds"] for row in killer.behind]
    assert [f"({i} of 3)" in printed for i in (1, 2, 3, 4)] == [True, True, True, False]

    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    started = time.perf_counter()
    assert train_on(Cluster(workers=2, threads=1), study, WANTED) == []
    assert time.perf_counter() - started < 2  # not even a worker is started
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before


def test_a_training_that_fails_is_tried_again_and_the_others_are_finished(study, monkeypatch):
    monkeypatch.setattr(cluster, "RETRIES", 1)
    # Workers refuse these before they load TensorFlow: they have not these photos.
    elsewhere = dataclasses.replace(study, results_of="0" * 64)
    sentences = train_on(Cluster(workers=1), elsewhere, [("final", 0), ("final", 0), ("final", 1)])
    assert sorted(sentence[:29] for sentence in sentences) == [f"Final, seed {i} failed 2 times." for i in (0, 1)]
    assert all("is not the data set that is to be trained on" in sentence for sentence in sentences)
    assert study.store.whole() == []


def test_no_more_trainings_are_given_out_than_there_are_workers(study, monkeypatch):
    # Once given out, a training stays with its worker: another that was free would wait beside a queue.
    monkeypatch.setattr(cluster, "train", lambda job: time.sleep(0.02 * (1 + job.plan.seed % 3)) or WeightsError("no"))
    jobs = [make_job(study, plan=study.plan("final", seed)) for seed in range(8)]
    given_out = []
    local = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0")
    with local, Client(local) as client:

        def finish(*_):
            given_out.append(sum(map(len, client.processing().values())))

        assert list(cluster._collect(client, study.store, jobs, finish)) == []
    assert len(given_out) == 8 and max(given_out) <= 2


@pytest.fixture
def worker(monkeypatch):
    """Stands for the dask worker that a job is on."""
    events = []
    worker = SimpleNamespace(name=1, address="a", events=events, log_event=lambda topic, row: events.append(row))
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    return worker


def make_job(study: Study, **changes) -> Job:
    plan = study.plan("final", 0)
    return dataclasses.replace(Job(plan, plan.key, study.data.root, study.store.roots), **changes)


def test_a_run_comes_back_from_a_worker_that_does_not_see_the_store(study, worker, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "worker"))
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", dataclasses.replace(TINY_FINAL, epochs=2))
    trained = cluster.train(make_job(study))
    (there,) = Store(tmp_path / "worker" / "runs").whole()
    here = study.store.add(*trained)
    assert (here.name, here.record) == (there.name, there.record)
    assert here.record["machine"]["threads"] == 1
    assert study.store.add(*trained).folder == here.folder
    assert [row["epoch"] for row in worker.events] == [0, 1, 2]


def test_a_worker_with_other_code_refuses(study, worker):
    with pytest.raises(RunError, match="bring all machines to the same version"):
        cluster.train(make_job(study, key="0" * 64))


def test_a_training_never_outlives_its_worker(study, tmp_path):
    # It waits for the right to train, as it would for hours in the middle of a training.
    job = make_job(study)
    lock = study.store.checkpoint(job.plan).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    code = f"""
import distributed, pickle, types
distributed.get_worker = lambda: types.SimpleNamespace(name=0, address="a", log_event=lambda *_: None)
from wbc_lib.training import cluster
cluster.train(pickle.loads({pickle.dumps(job)!r}))
"""
    with FileLock(lock):
        worker = psutil.Popen([sys.executable, "-c", code], cwd=paths.ROOT)
        while not (children := worker.children()):
            time.sleep(0.02)
        time.sleep(3)
        assert children[0].is_running()
        worker.kill()
        worker.wait()
        assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_scheduler_that_does_not_answer_is_named(study, monkeypatch):
    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(RunError, match=f"No dask scheduler answers at {address}"):
            train_on(Cluster(scheduler=address), study, WANTED)


def test_what_is_begun_moves_and_ends_is_said(study, capsys):
    jobs = [make_job(study), make_job(study, key="1", plan=study.plan("final", 1))]
    handlers = []
    client = SimpleNamespace(
        subscribe_topic=lambda topic, handler: handlers.append(handler), unsubscribe_topic=lambda topic: None
    )
    with cluster._reported(client, jobs) as finish:
        for key, worker in ((jobs[0].key, "a"), ("1", "b"), ("of another command", "b"), (jobs[0].key, "c")):
            handlers[0]((0.0, {"key": key, "worker": worker, "epoch": 12}))
        finish(jobs[0], "done")
        handlers[0]((0.0, {"key": jobs[0].key, "worker": "d", "epoch": 30}))  # comes in late
    assert capsys.readouterr().err.splitlines() == [
        "  Final, seed 0: is begun",
        "  Final, seed 1: is begun",
        "  Final, seed 0: goes on at another worker",
        "  Final, seed 0: done (1 of 2)",
    ]
