import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from tests.train_tiny import TINY
from wbc_lib import paths
from wbc_lib.training import experiments, jobs, remote
from wbc_lib.training.experiments import Plan, vary
from wbc_lib.training.jobs import DONE, FAILED, IMPOSSIBLE, Job, make_job, read_history, run_job
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

NAMED_FINAL = dataclasses.replace(TINY, name="final", epochs=30)  # its weights are kept


@pytest.fixture
def study(phantom_set, tmp_path):
    return Study(phantom_set, experiments.PROFILES["paper"], Store(tmp_path / "runs"))


def plan_of(study: Study, experiment=NAMED_FINAL, seed: int = 0) -> Plan:
    return Plan(experiment, experiment.epochs, seed, study.data_sha256)


def children(pid: int) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        return [c for c in psutil.Process(pid).children(recursive=True) if "wbc_lib.training.jobs" in c.cmdline()]
    return []


def wait_for(condition, seconds: float = 120):
    for _ in range(int(seconds / 0.02)):
        if found := condition():
            return found
        time.sleep(0.02)
    raise TimeoutError


def test_a_training_never_outlives_its_worker(study, tmp_path):
    # It waits for the right to train, as it would for hours in the middle of a training.
    job = make_job(study, plan_of(study))
    lock = study.store.checkpoint(job.plan).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    code = f"from wbc_lib.training.jobs import Job, run_job; run_job(Job(**{dataclasses.asdict(job)!r}))"
    with FileLock(lock):
        worker = subprocess.Popen([sys.executable, "-c", code], cwd=paths.ROOT)
        (training,) = wait_for(lambda: children(worker.pid))
        time.sleep(3)
        assert training.is_running()
        worker.send_signal(signal.SIGKILL)
        worker.wait()
        assert psutil.wait_procs([training], timeout=30)[1] == []


def test_a_process_that_is_killed_is_said_to_have_been(study):
    job = make_job(study, plan_of(study))
    lock = study.store.checkpoint(job.plan).with_suffix(".lock")
    lock.parent.mkdir(parents=True)
    outcomes = []
    with FileLock(lock):
        waiting = threading.Thread(target=lambda: outcomes.append(run_job(job)))
        waiting.start()
        wait_for(lambda: children(os.getpid()))[0].kill()
        waiting.join()
    assert outcomes[0].status == FAILED and "Killed by signal 9" in outcomes[0].log


@pytest.mark.parametrize(
    "change, complaint",
    [
        ({"key": "0" * 64}, "another key: bring all machines to the same version"),
        ({"data": "/no/such/folder"}, "There is no folder '/no/such/folder'"),
    ],
)
def test_a_worker_with_other_code_or_without_the_photos_refuses(study, change, complaint):
    job = dataclasses.replace(make_job(study, plan_of(study)), **change)
    outcome = run_job(job)
    assert outcome.status == FAILED and complaint in outcome.log and "Traceback" not in outcome.log
    assert study.store.whole() == []


def test_a_worker_with_other_photos_refuses(study):
    elsewhere = dataclasses.replace(study, results_of="0" * 64)
    outcome = run_job(make_job(elsewhere, plan_of(elsewhere)))
    assert outcome.status == FAILED and "is not the data set that final is to be trained on" in outcome.log


@given(
    seed=st.integers(0, 2**32 - 1),
    dropout=st.floats(0, 0.9),
    dense=st.lists(st.integers(1, 600), max_size=5),
    name=st.sampled_from(["final", "final+fold-3", "raw-cropped", "vgg16-hed+120x160+linear"]),
)
def test_a_worker_reads_the_very_plan_that_was_sent(seed, dropout, dense, name):
    plan = Plan(vary(experiments.find_experiment(name), dropout=dropout, dense=dense), 7, seed, "a" * 64)
    job = Job(name, plan.config, plan.key, "/photos", ("/store",))
    arrived = Job(**json.loads(json.dumps(dataclasses.asdict(job))))
    assert arrived.plan.key == plan.key and arrived.plan.experiment.name == name


def test_of_a_checkpoint_the_epochs_are_read_and_of_anything_else_none(tmp_path):
    rows = [{"epoch": 1, "val_accuracy": 0.5}, {"epoch": 2, "val_accuracy": 0.75}]
    file = tmp_path / "c.npz"
    assert read_history(file) == []
    np.savez(file, history=np.frombuffer(json.dumps(rows).encode(), np.uint8), v0000=np.zeros(1000))
    assert read_history(file) == rows
    whole = file.read_bytes()
    for damaged in (b"", whole[:100], whole[: len(whole) // 2], b"not a zip"):
        file.write_bytes(damaged)
        assert read_history(file) == []


def test_no_cap_leaves_the_environment_alone():
    assert jobs.limit_threads(0) == {}
    assert set(jobs.limit_threads(3).values()) == {"3"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc")
def test_tensorflow_obeys_the_cap():
    code = """
import os
import tensorflow as tf
tf.linalg.matmul(tf.ones((500, 500)), tf.ones((500, 500))).numpy()
print(len(os.listdir("/proc/self/task")))
"""

    def count(threads: int) -> int:
        environment = os.environ | jobs.limit_threads(threads)
        return int(
            subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True).stdout
        )

    assert count(24) - count(4) >= 20


@pytest.mark.slow
def test_the_number_of_threads_alone_decides_the_bits(study, tmp_path):
    def train(threads: int, place: str) -> str:
        job = make_job(dataclasses.replace(study, store=Store(tmp_path / place)), plan_of(study), threads=threads)
        outcome = run_job(job)
        assert outcome.status == DONE, outcome.log
        return job.store.find(job.plan).record["files"]["weights.npz"]

    one, two = train(1, "one"), train(2, "two")
    assert train(1, "one again") == one
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        assert train(2, "two on one core") == two
    finally:
        os.sched_setaffinity(0, cores)


@pytest.mark.slow
def test_weights_that_cannot_be_had_make_a_job_impossible_not_failed(study, tmp_path, monkeypatch):
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"anything")
    monkeypatch.setenv("WBC_WEIGHTS", str(tmp_path))
    outcome = run_job(make_job(study, study.plan("vgg16", 0)))
    assert outcome.status == IMPOSSIBLE


@pytest.mark.slow
def test_without_a_shared_folder_a_lost_run_goes_on_from_its_state_at_the_url(study, tmp_path, monkeypatch):
    url = f"file://{tmp_path}/there"
    job = make_job(study, plan_of(study), url=url, threads=1)

    class LostError(Exception):
        pass

    there = tmp_path / "there" / ".unfinished" / f"{job.key}.npz"

    def lose(row):
        # On a busy machine the first look may find more epochs, and the state is copied only after it.
        if row["epoch"] >= 10 and there.exists():
            raise LostError

    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "first machine"))
    with pytest.raises(LostError):
        run_job(job, lose)
    assert children(os.getpid()) == []
    behind = read_history(there)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "second machine"))
    outcome = run_job(job)
    assert outcome.status == DONE, outcome.log
    (run,) = remote.fetch(url, [job.key], tmp_path / "fetched")
    # Times are never the same twice: these epochs are the first machine's.
    assert len(behind) >= 1
    assert run.history.seconds[: len(behind)].tolist() == [row["seconds"] for row in behind]
    assert list((tmp_path / "there" / ".unfinished").iterdir()) == []

    monkeypatch.delenv("WBC_CACHE")
    whole = make_job(dataclasses.replace(study, store=Store(tmp_path / "whole")), job.plan, threads=1)
    assert run_job(whole).status == DONE
    assert whole.store.find(whole.plan).record["files"]["weights.npz"] == run.record["files"]["weights.npz"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot pin a process")
def test_trainings_side_by_side_have_cores_of_their_own(tmp_path):
    code = """
import os, sys
from pathlib import Path
from wbc_lib.training.jobs import pin_to_cores
held = pin_to_cores(1, Path(sys.argv[1]))
print(len(held), sorted(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""
    command = [sys.executable, "-c", code, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": paths.ROOT}
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        said = []
        for _ in range(len(cores) + 1):
            process = stack.enter_context(subprocess.Popen(command, **pipes))
            stack.callback(process.kill)
            said.append(process.stdout.readline().strip())
    assert said == [f"1 [{core}]" for core in cores] + [f"0 {cores}"]
