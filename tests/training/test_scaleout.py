import dataclasses
import io
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from tests.train_tiny import TINY
from wbc_lib import paths
from wbc_lib.cli import main
from wbc_lib.errors import RunError
from wbc_lib.training import experiments, jobs, scaleout
from wbc_lib.training.experiments import vary
from wbc_lib.training.jobs import make_job, read_history
from wbc_lib.training.runs import Store
from wbc_lib.training.scaleout import Cluster, Place, share_of_cores, train_on
from wbc_lib.training.study import Study

NAMED_FINAL = dataclasses.replace(TINY, name="final", title="Final", epochs=30)  # its weights are kept
SEEDS = (0, 1, 2)
NOT_RESULTS = {"seconds", "finished", "sha256", "files", "code_sha256"}
WANTED = [("final", seed) for seed in SEEDS]


@pytest.fixture
def study(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", NAMED_FINAL)
    return Study(phantom_set, experiments.PROFILES["paper"], Store(tmp_path / "runs"))


@pytest.fixture
def said(monkeypatch):
    """What is told while trainings run, without a terminal."""
    text = io.StringIO()
    monkeypatch.setattr(scaleout, "console", Console(file=text, width=200))
    return text


@pytest.fixture
def local():
    """A cluster as another command would have started it: two workers of a machine."""
    from distributed import LocalCluster

    with LocalCluster(2, threads_per_worker=1, processes=True, memory_limit=0, dashboard_address=None) as cluster:
        yield cluster


def content(root: Path) -> dict[str, dict]:
    """All that a store holds of its runs, but times (and the source's hash: someone may be at work on it)."""
    found = {}
    for run in Store(root).whole():
        files = {name: digest for name, digest in run.record["files"].items() if name != "history.csv"}
        record = {k: v for k, v in run.record.items() if k not in NOT_RESULTS}
        history = run.history.drop(columns="seconds").to_csv()
        found[run.name] = {"files": files, "record": record, "history": history}
    return found


@pytest.fixture(scope="module")
def serial(phantom_set, tmp_path_factory) -> Path:
    """The store that one process makes, one training after the other, with one thread."""
    root = tmp_path_factory.mktemp("serial")
    code = f"""
import dataclasses
from pathlib import Path
from tests.training.test_scaleout import NAMED_FINAL, SEEDS
from wbc_lib.data import dataset
from wbc_lib.training import experiments, runs, study
experiments.EXPERIMENTS["final"] = NAMED_FINAL
data, store = dataset.open_folder({str(phantom_set.root)!r}), runs.Store(Path({str(root)!r}))
for seed in SEEDS:
    study.Study(data, experiments.PROFILES["paper"], store).run("final", seed)
"""
    environment = os.environ | jobs.limit_threads(1)
    subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, env=environment, check=True, capture_output=True)
    return root


def trainings() -> dict[str, psutil.Process]:
    """The processes that train just now below this one, by the key of their run."""
    found = {}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "wbc_lib.training.jobs" in process.cmdline():
                found |= {Path(f.path).stem: process for f in process.open_files() if f.path.endswith(".lock")}
    return found


class Killer(threading.Thread):
    """Kills, once, a worker whose training has some epochs behind it."""

    def __init__(self, root: Path):
        super().__init__(daemon=True)
        self.root, self.key, self.training, self.behind = root, "", None, []

    def run(self) -> None:
        while not self.key:
            for key, training in trainings().items():
                behind = read_history(self.root / ".unfinished" / f"{key}.npz")
                if 3 <= len(behind) <= NAMED_FINAL.epochs - 10:
                    os.kill(training.ppid(), signal.SIGKILL)
                    self.key, self.training, self.behind = key, training, behind
                    return
            time.sleep(0.01)


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_changes_nothing(study, said, local, serial):
    root = study.store.roots[0]
    killer = Killer(root)
    killer.start()
    assert train_on(Cluster(scheduler=local.scheduler_address, threads=1), study, WANTED) == []
    assert killer.key and not killer.training.is_running()
    assert said.getvalue().count("goes on at another worker") == 1
    assert content(root) == content(serial) != {}
    assert list(root.glob(".unfinished/*.npz")) == []
    # Times are never the same twice: these epochs are those of the worker that was killed.
    (run,) = [run for run in Store(root).whole() if run.key == killer.key]
    assert run.history.seconds[: len(killer.behind)].tolist() == [row["seconds"] for row in killer.behind]


@pytest.mark.slow
def test_many_workers_leave_what_one_process_leaves_and_a_second_call_trains_nothing(study, said, serial):
    assert train_on(Cluster(workers=2, threads=1), study, WANTED) == []
    assert content(study.store.roots[0]) == content(serial)
    lines = said.getvalue().splitlines()
    assert len([line for line in lines if re.search(r"Final, seed \d: is begun", line)]) == 3
    ends = [
        re.search(r"Final, seed \d: 30 epochs in \d+ s, validation accuracy up to .*% \((\d) of 3\)", s) for s in lines
    ]
    assert [end[1] for end in ends if end] == ["1", "2", "3"]

    before = {p: p.stat().st_mtime_ns for p in study.store.roots[0].rglob("*")}
    started = time.perf_counter()
    assert train_on(Cluster(workers=2, threads=1), study, WANTED) == []
    assert time.perf_counter() - started < 2  # not even a worker is started
    assert {p: p.stat().st_mtime_ns for p in study.store.roots[0].rglob("*")} == before


@pytest.mark.slow
def test_workers_that_share_no_folder_meet_at_a_url(study, said, tmp_path, monkeypatch, serial):
    url = f"file://{tmp_path}/there"
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "workers"))  # of the workers: the study's store is elsewhere
    assert train_on(Cluster(workers=2, threads=1, store=url), study, WANTED[:2]) == []
    expected = {name: run for name, run in content(serial).items() if "-s2-" not in name}
    assert content(tmp_path / "workers" / "runs") == content(tmp_path / "there") == expected
    assert content(study.store.roots[0]) == expected

    # Another machine, with nothing of its own, reads them from there; what only it has it brings along.
    other = dataclasses.replace(study, store=Store(tmp_path / "other"))
    for run in Store(serial).whole():
        if run.seed == 2:
            other.store.keep(run)
    monkeypatch.setattr(scaleout, "connect", lambda _: pytest.fail("nothing is to be trained"))
    assert train_on(Cluster(store=url), other, WANTED) == []
    assert content(other.store.roots[0]) == content(tmp_path / "there") == content(serial)


@pytest.mark.slow
def test_the_command_reports_a_training_that_fails_and_finishes_the_others(phantom_set, monkeypatch, capfd):
    broken = vary(TINY, name="broken", title="Broken", material="nowhere")
    for experiment in (dataclasses.replace(TINY, name="tiny"), broken):
        monkeypatch.setitem(experiments.EXPERIMENTS, experiment.name, experiment)
    command = ["wbc", "train", "broken", "tiny", "--seeds", "7-8", "--workers", "2", "--profile", "smoke"]
    monkeypatch.setattr(sys, "argv", [*command, "--data", str(phantom_set.root)])
    with pytest.raises(SystemExit) as done:
        main.main()
    errors = capfd.readouterr().err
    assert done.value.code == 1
    store = Store(paths.cache() / "runs")
    assert {(r.record["experiment"], r.seed) for r in store.whole() if r.seed in (7, 8)} == {("tiny", 7), ("tiny", 8)}
    for seed in (7, 8):
        log = re.search(rf"Broken, seed {seed} failed 3 times; its log is (\S+)", errors)
        assert Path(log[1]).read_text().count("There is no material 'nowhere' to train on.") == 3
    assert "Traceback" not in errors


def test_a_failing_run_is_tried_twice_more_and_its_log_is_kept(study, said):
    # Workers refuse before they load TensorFlow: these are not the photos that the plan names.
    elsewhere = dataclasses.replace(study, results_of="0" * 64)
    (sentence,) = train_on(Cluster(workers=1), elsewhere, [("final", 0), ("final", 0)])
    log = Path(re.fullmatch(r"Final, seed 0 failed 3 times; its log is (.+)", sentence)[1])
    assert log.read_text().count("is not the data set that final is to be trained on") == 3
    lines = said.getvalue()
    assert [lines.count(f"failed, is tried again ({i} of 2)") for i in (1, 2, 3)] == [1, 1, 0]
    assert lines.count("is begun") == 3 and lines.count("failed. ") == 1
    assert study.store.whole() == []


def test_a_scheduler_that_does_not_answer_is_named(study, monkeypatch):
    monkeypatch.setattr(scaleout, "_PATIENCE", 1)
    for address in ("tcp://127.0.0.1:9", "nonsense://x"):
        with pytest.raises(RunError, match=f"No dask scheduler answers at {address}"):
            train_on(Cluster(scheduler=address), study, WANTED)


class FakeClient:
    """Stands for workers that see only some of the folders."""

    def __init__(self, sees):
        self.sees = sees

    def nthreads(self):
        return {"tcp://a:1": 1}

    def run(self, function, folders):
        assert function is scaleout.look_around and all(Path(f).exists() for f in folders)
        return {"tcp://a:1": Place("node7", 4, self.sees[: len(folders)])}


def test_workers_without_the_photos_or_the_store_are_told_of_before_anything_is_trained(study):
    for sees, complaint in (
        ((False, True), "node7 does not see the photos"),
        ((True, False), "does not see the store"),
    ):
        with pytest.raises(RunError, match=complaint):
            scaleout._inspect(FakeClient(sees), Cluster(), study)
    assert scaleout._inspect(FakeClient((True, True)), Cluster(), study) == 4
    assert scaleout._inspect(FakeClient((True, True)), Cluster(threads=3), study) == 3
    assert scaleout._inspect(FakeClient((True, False)), Cluster(store="memory://x"), study) == 4
    assert list(study.store.roots[0].rglob("seen-by-all-*")) == []


@given(
    st.dictionaries(
        st.sampled_from("abcdefgh"),
        st.tuples(st.sampled_from(["node1", "node2", "node3"]), st.integers(1, 8)),
        min_size=1,
    ),
    st.fixed_dictionaries({host: st.integers(1, 64) for host in ("node1", "node2", "node3")}),
)
def test_no_machine_is_asked_for_more_threads_than_it_has_cores(workers, cores):
    places = {address: Place(host, cores[host], ()) for address, (host, _) in workers.items()}
    slots = {address: n for address, (_, n) in workers.items()}
    share = share_of_cores(places, slots)
    used = {host: sum(n for h, n in workers.values() if h == host) for host in {h for h, _ in workers.values()}}

    def fits(threads: int) -> bool:
        return all(threads * n <= cores[host] for host, n in used.items())

    assert share == 1 or fits(share)
    assert not fits(share + 1)


def test_in_a_terminal_runs_have_bars_and_lines_stay_above_them(study, monkeypatch):
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(scaleout, "console", console)
    sent = [make_job(study, study.plan("final", seed)) for seed in (0, 1)]
    heard = []

    class Listener:
        subscribe_topic = staticmethod(lambda topic, handler: heard.append(handler))
        unsubscribe_topic = staticmethod(lambda topic: None)

    with scaleout._View(Listener(), sent) as view:
        (hear,) = heard
        hear((0.0, {"key": sent[0].key, "worker": "a", "epoch": 12, "val_accuracy": 0.5}))
        hear((0.0, {"key": sent[1].key, "worker": "b", "epoch": 0}))
        hear((0.0, {"key": "of another command", "worker": "b", "epoch": 3}))
        view._progress.refresh()
        assert "Final, seed 0" in screen.getvalue() and "epoch 12/30  validation 0.500" in screen.getvalue()
        hear((0.0, {"key": sent[0].key, "worker": "c", "epoch": 0}))  # lost, and begun again elsewhere: not fewer
        assert screen.getvalue().count("goes on at another worker") == 1
        view.finish(sent[0], "done")
        hear((0.0, {"key": sent[0].key, "worker": "c", "epoch": 30}))  # comes in late
        screen.truncate(screen.seek(0))
        view._progress.refresh()
        assert "seed 0" not in screen.getvalue() and "Final, seed 1" in screen.getvalue()
