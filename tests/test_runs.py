import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.special import softmax

from wbc_lib import paths, runs
from wbc_lib.errors import RunError
from wbc_lib.examples import Examples, Material
from wbc_lib.experiments import EXPERIMENTS, Plan
from wbc_lib.images import Scale
from wbc_lib.runs import Store
from wbc_lib.training import Fitted

PLAN = Plan(EXPERIMENTS["final"], 2, 0, "d" * 64)


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
    assert store.find(Plan(EXPERIMENTS["final"], 2, 1, "d" * 64)) is None


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["history.csv", "predictions.npz", "weights.npz", "run.json"])
@pytest.mark.parametrize("damage", [truncate, flip, Path.unlink], ids=["truncated", "flipped", "missing"])
def test_a_damaged_run_is_reported_and_never_used(store, run, name, damage):
    damage(run.folder / name)
    with pytest.raises(RunError, match=re.escape(run.folder.name)):
        store.find(PLAN)
    assert store.whole() == []
    if name != "run.json" or damage is not Path.unlink:
        assert len(store.damaged()) == 1


def test_an_edited_record_is_noticed(store, run):
    record = json.loads((run.folder / "run.json").read_text())
    record["config"]["seed"] = 7
    (run.folder / "run.json").write_text(json.dumps(record))
    with pytest.raises(RunError, match="record of run"):
        store.find(PLAN)


def test_a_full_disk_leaves_the_store_intact_and_the_training_kept(store, run, monkeypatch):
    other = Plan(EXPERIMENTS["final"], 2, 1, "d" * 64)
    store.checkpoint(other).parent.mkdir(parents=True, exist_ok=True)
    store.checkpoint(other).write_bytes(b"state")

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RunError, match=r"No space left on device.*make room"):
        store.write(other, FITTED, MATERIAL, keep_weights=False)
    assert [r.name for r in store.whole()] == [run.name]
    assert sorted(p.name for p in store.roots[0].iterdir()) == [".unfinished", run.name]
    assert store.checkpoint(other).exists()


def test_probabilities_are_the_softmax_of_the_logits(run):
    np.testing.assert_allclose(run.probabilities("test"), softmax(FITTED.test_logits.astype(float), axis=1))
    np.testing.assert_array_equal(run.predicted("test"), FITTED.test_logits.argmax(axis=1))
    assert run.accuracy("test") == (FITTED.test_logits.argmax(axis=1) == MATERIAL.test.labels).mean()


def test_a_run_without_weights_says_so(store):
    run = store.write(PLAN, FITTED, MATERIAL, keep_weights=False)
    with pytest.raises(RunError, match="without weights"):
        run.weights()


def test_the_first_root_is_written_to_and_all_are_read(tmp_path, store, run):
    both = Store(tmp_path / "second", store.roots[0])
    assert both.find(PLAN).folder == run.folder
    shutil.rmtree(run.folder)
    assert both.write(PLAN, FITTED, MATERIAL, keep_weights=False).folder.parent == tmp_path / "second"


def test_a_run_of_another_folder_is_kept_by_copying_it_whole(tmp_path, store, run):
    other = Store(tmp_path / "second", store.roots[0])
    kept = other.keep(other.find(PLAN))
    assert kept.folder.parent == tmp_path / "second"
    assert kept.record == run.record
    assert other.keep(kept) is kept
    assert [p.name for p in (tmp_path / "second").iterdir()] == [run.name]


def test_nothing_is_unpickled_and_no_model_is_stored():
    source = "\n".join(p.read_text() for p in (paths.ROOT / "wbc_lib").glob("*.py"))
    for forbidden in ("import pickle", "allow_pickle=True", "safe_mode=False", "load_model(", ".save(", "joblib"):
        assert forbidden not in source
    assert runs.Run.weights.__doc__


def test_the_recorded_runs_of_the_project_are_whole():
    recorded = Store(paths.ROOT / "results")
    assert recorded.damaged() == []
    names = {run.record["experiment"] for run in recorded.whole()}
    assert {n for n in EXPERIMENTS if n not in ("vgg16", "resnet50")} <= names
    size = sum(p.stat().st_size for p in (paths.ROOT / "results").glob("[!.]*/*"))
    assert size < 40_000_000
