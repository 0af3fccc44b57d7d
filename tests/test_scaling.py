import dataclasses
import json
import os

import numpy as np
import pandas as pd
import pytest

from tests.train_tiny import TINY
from wbc_lib import experiments, jobs, scaling
from wbc_lib.errors import RunError
from wbc_lib.jobs import make_job
from wbc_lib.runs import Store
from wbc_lib.scaling import OF_THE_DATA, PARTS, Record
from wbc_lib.study import Study


def made_record(*, with_photos: bool = True, repeats: int = 5) -> Record:
    """A measurement as it might be, drawn at random: the same each time."""
    rng = np.random.default_rng(0)
    seconds = dict(zip(PARTS, (0.02, 0.6, 0.01, 3, 0.05, 0.8, 0.06, 0.02, 0.9, 0.01), strict=True))
    totals, parts, clusters, full_size = [], [], [], []
    for repeat in range(repeats):
        for way, workers in scaling.WAYS.items():
            row = {"way": way, "workers": workers, "repeat": repeat}
            totals.append(row | {"wall": rng.uniform(20, 30) / max(workers, 1), "training": rng.uniform(4, 5)})
        for workers in (1, 2):
            clusters.append({"workers": workers, "repeat": repeat, "start": rng.uniform(1, 2), "stop": 0.5})
            for _ in range(4):
                row = {part: mean * workers * rng.uniform(0.8, 1.3) for part, mean in seconds.items()}
                parts.append({"workers": workers, "repeat": repeat} | row | {"training": rng.uniform(1, 2)})
        if with_photos:
            row = {part: 10 * seconds[part] * rng.uniform(0.8, 1.3) for part in OF_THE_DATA}
            full_size.append({"repeat": repeat, "images": 12_444} | row)
    about = {
        "date": "2026-01-02T03:04+00:00",
        "machine": {"system": "Linux", "processor": "Some", "cores": 2, "memory_gb": 25.0},
        "versions": {"python": "3.11.7"}, "load": 0.5, "epochs": 2, "images": 149, "repeats": repeats, "trainings": 4,
        "bytes": {"checkpoint": 5_089_186},
    }  # fmt: skip
    return Record(about, *map(pd.DataFrame, (totals, parts, clusters, full_size)))


@pytest.fixture
def study(phantom_set, tmp_path, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", dataclasses.replace(TINY, epochs=3))
    return Study(phantom_set, experiments.PROFILES["paper"], Store(tmp_path / "runs"))


def test_the_process_with_the_clocks_leaves_the_very_run_that_a_job_leaves(study, tmp_path):
    plain = dataclasses.replace(study, store=Store(tmp_path / "plain"))
    plan = study.plan("tiny", 0)
    told = scaling._in_stages(make_job(study, plan, threads=1))
    assert jobs.run_job(make_job(plain, plan, threads=1)).status == jobs.DONE
    (measured,), (expected,) = study.store.whole(), plain.store.whole()
    assert measured.record["files"]["predictions.npz"] == expected.record["files"]["predictions.npz"]
    assert measured.record["config"] == expected.record["config"]
    assert measured.record["files"].keys() == expected.record["files"].keys()
    # Every second between start and end is somewhere, but for those that it takes to load the clocks themselves.
    parts = scaling._parts(told)
    clocks = told["ready"] - told["imported"]
    assert sum(parts.values()) + clocks == pytest.approx(told["ended"] - told["spawned"], abs=1e-3)
    assert min(parts.values()) >= 0
    assert parts["training"] == pytest.approx(measured.history.seconds.sum())
    # Weights and both moments in float32, and little besides.
    assert told["bytes"] == pytest.approx(3 * 4 * measured.record["parameters"], abs=20_000)

    with pytest.raises(RunError, match="was given another plan"):  # it is there already: nothing would be measured
        scaling._in_stages(make_job(study, plan))


def test_a_run_of_no_epochs_is_loaded_and_leaves_nothing(study):
    row = scaling._load_all(dataclasses.replace(study), name="tiny")
    assert set(row) == {"images", *OF_THE_DATA}
    assert row["images"] == sum(study.images.index.split == "TRAIN")
    assert study.store.whole() == [] and list(study.store.roots[0].glob(".unfinished/*.npz")) == []


@pytest.mark.slow
def test_a_measurement_has_every_part_of_every_run(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    done = []
    record = scaling.measure(None, repeats=1, trainings=2, on_progress=lambda *at: done.append(at))
    assert done == [(1, 1)]
    assert record.totals.way.tolist() == list(scaling.WAYS)
    assert record.parts.workers.tolist() == [1, 1, 2, 2]
    assert (record.parts[list(PARTS)] >= 0).all(axis=None)
    assert (record.parts[list(PARTS)].sum(axis=1) > 1).all()
    assert (record.totals.wall > record.totals.training / record.totals.workers.clip(lower=1)).all()
    assert record.about["machine"]["cores"] == os.cpu_count()
    assert len(record.full_size) == 0
    # The final network's own checkpoint, though the photos are few.
    assert record.about["bytes"]["checkpoint"] == pytest.approx(3 * 4 * 423_237, rel=0.01)
    scaling.write_record(record)
    assert scaling.read_record().parts.equals(record.parts)


def test_a_record_is_read_as_it_was_written_and_one_line_holds_one_row(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    assert scaling.read_record() is None
    for record in (made_record(), made_record(with_photos=False)):
        path = scaling.write_record(record)
        found = scaling.read_record()
        assert found.about == record.about
        for name in ("totals", "parts", "clusters", "full_size"):
            pd.testing.assert_frame_equal(getattr(found, name), getattr(record, name))
        lines = path.read_text().splitlines()
        assert sum(line.startswith('{"workers"') for line in lines) == len(record.parts) + len(record.clusters)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 0, "about": {}}', "null"])
def test_a_damaged_record_is_told_of_with_its_remedy(tmp_path, monkeypatch, content):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    (tmp_path / "scaling").mkdir()
    (tmp_path / "scaling" / "overhead.json").write_text(content)
    with pytest.raises(RunError, match=r"overhead\.json is damaged; .* python -m wbc_lib\.scaling"):
        scaling.read_record()


def test_the_recorded_measurement_is_whole_and_has_five_repeats(monkeypatch):
    monkeypatch.delenv("WBC_RESULTS")
    if not scaling.record_path().exists():
        pytest.skip("no measurement is recorded")
    record = scaling.read_record()
    assert record.about["repeats"] >= 5 and record.about["trainings"] >= 2
    assert set(record.parts.columns) == {"workers", "repeat", "training", *PARTS}
    assert record.totals.groupby("way").size().to_dict() == dict.fromkeys(scaling.WAYS, record.about["repeats"])
    assert len(record.parts) == 2 * record.about["repeats"] * record.about["trainings"]
    assert (record.parts[list(PARTS)] >= 0).all(axis=None)
    assert json.dumps(record.about).count("/") == 0  # no path of a machine
