import dataclasses
import hashlib
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.train_tiny import TINY
from wbc_lib import experiments, study
from wbc_lib.errors import DataNotFoundError, RunError, UnknownNameError
from wbc_lib.runs import Store, read
from wbc_lib.study import Study

TRAIN = [sys.executable, "-m", "tests.train_tiny"]
ROOT = Path(__file__).parents[1]


@pytest.fixture
def small(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    return Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path / "runs"))


def bits(run) -> str:
    files = ("predictions.npz", "history.csv")
    parts = [run.logits("validation").tobytes(), run.logits("test").tobytes()]
    parts.append(run.history.drop(columns="seconds").to_numpy().tobytes())
    assert all((run.folder / name).exists() for name in files)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_two_processes_that_ask_for_the_same_run_train_it_once(phantom_set, tmp_path):
    command = [*TRAIN, phantom_set.root, tmp_path / "runs"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    answers = {p.communicate(timeout=300)[0] for p in both}
    assert [p.returncode for p in both] == [0, 0]
    assert len(answers) == 1  # the same folder, finished at the same time
    assert len(Store(tmp_path / "runs").whole()) == 1


def test_a_run_is_trained_once_and_a_changed_setting_is_one_more(small):
    first = small.run("tiny")
    again = small.run("tiny")
    assert again.record == first.record
    other = small.run("tiny", dropout=0.1)
    assert other.key != first.key
    assert len(small.store.whole()) == 2


def test_a_run_that_may_not_be_trained_is_said_to_be_missing(small):
    careful = dataclasses.replace(small, may_train=False)
    with pytest.raises(RunError, match="Tiny.*wbc train"):
        careful.runs("tiny")
    assert careful.runs("tiny", optional=True) == []
    small.run("tiny")
    assert len(careful.runs("tiny")) == 1
    assert careful.missing(["tiny"]) == []


def test_a_damaged_run_is_not_trained_over(small):
    run = small.run("tiny")
    (run.folder / "history.csv").write_text("epoch\n")
    with pytest.raises(RunError, match="not what was recorded"):
        small.run("tiny")


def test_a_store_that_cannot_be_written_to_is_named(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    (tmp_path / "file").write_text("")
    blocked = Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path / "file" / "runs"))
    with pytest.raises(RunError, match="cannot be written to"):
        blocked.run("tiny")


def test_reading_a_run_does_not_load_tensorflow(small):
    run = small.run("tiny")
    code = (
        "import sys; from pathlib import Path; from wbc_lib import chapter, claims, figures, metrics, study, runs;"
        f"r = runs.read(Path({str(run.folder)!r})); r.history; r.probabilities('test');"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_photos_are_used_if_named_and_phantoms_only_if_nothing_is(monkeypatch, tmp_path, phantom_set):
    with pytest.raises(DataNotFoundError):
        study.open_study(tmp_path, "smoke")
    with pytest.raises(UnknownNameError):
        study.open_study(None, "nope")
    assert study.open_study(None, "smoke", download=False).data.is_phantom
    assert study.open_study(str(phantom_set.root), "smoke").data == phantom_set


@pytest.mark.slow
def test_killed_at_random_twenty_times_a_training_ends_with_the_same_bits(phantom_set, tmp_path):
    subprocess.run([*TRAIN, phantom_set.root, tmp_path / "whole"], check=True, cwd=ROOT, capture_output=True)
    expected = bits(Store(tmp_path / "whole").whole()[0])
    rng, kills, finished = random.Random(0), 0, 0
    while kills < 20:
        root = tmp_path / f"killed{finished}"
        started = time.monotonic()
        process = subprocess.Popen([*TRAIN, phantom_set.root, root], cwd=ROOT, stdout=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(3, 9))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
            assert Store(root).damaged() == []
            assert time.monotonic() - started < 60
        else:
            assert process.returncode == 0
            assert bits(Store(root).whole()[0]) == expected
            finished += 1
    subprocess.run([*TRAIN, phantom_set.root, root], check=True, cwd=ROOT, capture_output=True)
    run = Store(root).whole()[0]
    assert bits(run) == expected
    assert read(run.folder).key == run.key
    assert [p for p in (root / ".unfinished").iterdir() if p.suffix == ".npz"] == []
