import dataclasses
import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.special import softmax

from wbc_lib import paths
from wbc_lib.data.images import Scale
from wbc_lib.errors import PlaceError, RunError
from wbc_lib.training import runs
from wbc_lib.training.arrays import Examples, Material
from wbc_lib.training.experiments import BEYOND, EXPERIMENTS
from wbc_lib.training.fit import Fitted
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Store

PLAN, OTHER = (Plan(EXPERIMENTS["final"], 2, seed, "d" * 64) for seed in (0, 1))


def examples(n: int) -> Examples:
    labels = np.arange(n, dtype=np.int32) % 4 + 1
    return Examples(np.zeros((n, 2, 2, 3), np.uint8), labels, np.array([f"TRAIN/{i}" for i in range(n)]))


RNG = np.random.default_rng(0)
MATERIAL = Material(examples(8), examples(6), examples(10))
FITTED = Fitted(
    pd.DataFrame({"epoch": [1, 2], "accuracy": [0.1, 1 / 3], "val_accuracy": [0.1, 0.2], "seconds": [1.0, 1.0]}),
    [RNG.normal(size=(3, 4)).astype(np.float32), np.zeros(4, np.float32)],
    Scale((1.0,) * 3, (0.0,) * 3),
    RNG.normal(size=(6, 5)).astype(np.float32),
    RNG.normal(size=(10, 5)).astype(np.float32),
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "runs")


@pytest.fixture
def run(store):
    return store.write(PLAN, FITTED, MATERIAL, keep_weights=True)


def test_what_is_written_is_read_back_bit_for_bit(store, run):
    found = store.find(PLAN)
    assert found.name == run.name == f"final-e2-s0-{PLAN.key[:12]}"
    pd.testing.assert_frame_equal(found.history, FITTED.history)
    np.testing.assert_array_equal(found.logits("validation"), FITTED.validation_logits)
    np.testing.assert_array_equal(found.logits("test"), FITTED.test_logits)
    np.testing.assert_array_equal(found.labels("test"), MATERIAL.test.labels)
    for a, b in zip(found.weights(), FITTED.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert found.record["config"] == PLAN.config
    assert found.record["parameters"] == 16
    assert store.find(OTHER) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


@pytest.mark.parametrize("name", ["history.csv", "predictions.npz", "weights.npz", "run.json"])
@pytest.mark.parametrize("damage", [truncate, Path.unlink], ids=["truncated", "missing"])
def test_a_damaged_run_is_reported_and_never_used(store, run, name, damage):
    damage(run.folder / name)
    with pytest.raises(RunError, match=re.escape(run.folder.name)):
        store.find(PLAN)
    assert store.whole() == []
    assert len(store.damaged()) == 1
    with pytest.raises(RunError, match=re.escape(run.folder.name)):
        store.read_all()
    assert store.read_all("other") == []


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_flipped_bit_is_noticed(run, data):
    path = run.folder / data.draw(st.sampled_from(sorted(p.name for p in run.folder.iterdir())))
    good = path.read_bytes()
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    path.write_bytes(good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :])
    try:
        record = runs.read(run.folder).record
    except RunError as error:
        assert run.name in str(error)
    else:
        # The one thing that a bit may change unnoticed is how the same record is written, such as 1e5 for 1E5.
        assert path.name == "run.json"
        assert record == run.record
    finally:
        path.write_bytes(good)


def test_the_whole_key_decides_and_not_the_beginning_that_the_folder_shows(store, run):
    run.folder.rename(run.folder.with_name(f"final-e2-s1-{OTHER.key[:12]}"))
    assert store.find(OTHER) is None


def test_an_unfinished_folder_is_no_run_and_no_damaged_one(store, run):
    unfinished = store.roots[0] / f".{run.name}.abcd1234.wbc.tmp"
    unfinished.mkdir()
    shutil.copy(run.folder / "history.csv", unfinished)
    (store.roots[0] / "notes").mkdir()
    (store.roots[0] / ".run-notes").mkdir()
    os.utime(store.roots[0] / ".run-notes", (0, 0))
    store.write(OTHER, FITTED, MATERIAL, keep_weights=False)
    assert {r.seed for r in store.whole()} == {0, 1}
    assert store.damaged() == []
    assert (store.roots[0] / ".run-notes").is_dir()  # its name is only like that of an unfinished run


def test_what_somebody_else_put_in_a_runs_place_stays_there(store, run, tmp_path):
    foreign = store.roots[0] / f"final-e2-s1-{OTHER.key[:12]}"
    foreign.mkdir()
    (foreign / "mine").write_text("x")
    with pytest.raises(RunError, match="could not be written"):
        store.write(OTHER, FITTED, MATERIAL, keep_weights=False)
    assert (foreign / "mine").read_text() == "x"
    assert sorted(p.name for p in store.roots[0].iterdir()) == sorted([run.name, foreign.name])


@pytest.mark.parametrize("room", [0, 100, 20_000])
def test_a_full_disk_leaves_the_store_intact_and_the_training_kept(store, run, full_disk, room):
    store.checkpoint(OTHER).parent.mkdir(parents=True, exist_ok=True)
    store.checkpoint(OTHER).write_bytes(b"state")
    heavy = dataclasses.replace(FITTED, weights=[RNG.normal(size=(100, 100)).astype(np.float32)])
    with full_disk(room), pytest.raises(RunError, match=r"(too large|No space).*make room.*training itself is kept"):
        store.write(OTHER, heavy, MATERIAL, keep_weights=True)
    assert [r.name for r in store.whole()] == [run.name]
    assert sorted(p.name for p in store.roots[0].iterdir()) == [".unfinished", run.name]
    assert store.checkpoint(OTHER).read_bytes() == b"state"
    assert store.write(OTHER, heavy, MATERIAL, keep_weights=True).record["parameters"] == 10_000
    assert not store.checkpoint(OTHER).exists()


def test_a_store_where_there_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    blocked = Store(tmp_path / "file" / "runs")
    with pytest.raises(RunError, match="could not be written.*a file is where a folder should be"):
        blocked.write(PLAN, FITTED, MATERIAL, keep_weights=False)
    with pytest.raises(RunError, match="a file is where a folder should be"), blocked.lock(PLAN):
        pass


def deny(monkeypatch, folder):
    """Let a folder be one that may not be looked into; tests may run as root, who may."""
    scandir = os.scandir

    def refuse(path="."):
        if os.fspath(path) == str(folder):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)


def test_a_folder_that_may_not_be_read_is_said_and_those_that_may_are_read_all_the_same(
    tmp_path, store, run, monkeypatch
):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    both = Store(tmp_path / "cache", *store.roots)
    deny(monkeypatch, tmp_path / "cache")
    assert both.find(PLAN) == run
    assert [r.name for r in both.whole()] == [run.name]
    assert ["WBC_CACHE" in sentence for sentence in both.damaged()] == [True]
    with pytest.raises(PlaceError, match="WBC_CACHE"):  # it may be there: to say that it is not recorded would be wrong
        both.find(OTHER)
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "other"))
    assert Store(tmp_path / "other", *store.roots).damaged() == []


def test_a_run_that_may_not_be_read_is_not_called_damaged(store, run, monkeypatch):
    def refuse(path, *args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(runs, "hash_file", refuse)
    assert ["may not be read" in s and "rights" in s for s in store.damaged()] == [True]


def test_what_a_run_said_follows_from_its_logits(run):
    likeliest = FITTED.test_logits.argmax(axis=1)
    np.testing.assert_array_equal(run.predicted("test"), likeliest)
    assert run.accuracy("test") == (likeliest == MATERIAL.test.labels).mean()
    np.testing.assert_allclose(run.probabilities("test"), softmax(FITTED.test_logits.astype(float), axis=1))


def test_the_first_root_is_written_to_and_all_are_read(tmp_path, store, run):
    both = Store(tmp_path / "second", store.roots[0])
    assert both.find(PLAN).folder == run.folder
    kept = both.keep(both.find(PLAN))  # copies it whole
    assert kept.folder.parent == tmp_path / "second" and kept.record == run.record
    assert both.keep(kept) is kept
    assert [p.name for p in (tmp_path / "second").iterdir()] == [run.name]
    # Listed once, and read from the first.
    assert [r.folder for r in both.whole()] == [kept.folder] and both.damaged() == []
    assert both.write(OTHER, FITTED, MATERIAL, keep_weights=False).folder.parent == tmp_path / "second"


def test_the_recorded_runs_of_the_project_are_whole():
    recorded = Store(paths.ROOT / "results")
    assert recorded.damaged() == []
    names = {run.record["experiment"] for run in recorded.whole()}
    wanted = {*EXPERIMENTS, *BEYOND, *(f"stronger+fold-{k}" for k in range(1, 6))}
    assert wanted - {"vgg16", "resnet50"} <= names
    (asked,) = (run for run in recorded.read_all("stronger-") if run.seed == 0)
    assert (asked.folder / "weights.npz").stat().st_size < 12_000_000
    size = sum(p.stat().st_size for p in (paths.ROOT / "results").glob("[!.]*/*"))
    assert size < 60_000_000
