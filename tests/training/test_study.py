import contextlib
import dataclasses
import hashlib
import itertools
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from tests.drawn_runs import record_drawn
from tests.train_tiny import TINY_FINAL
from wbc_lib import paths
from wbc_lib.data.hashes import PUBLISHED_SHA256
from wbc_lib.errors import BadDataError, DataNotFoundError, RunError, UnknownNameError, WeightsError
from wbc_lib.provenance import trace
from wbc_lib.training import arrays, experiments, study
from wbc_lib.training.experiments import SUITES
from wbc_lib.training.plan import Plan
from wbc_lib.training.runs import Run, Store, read
from wbc_lib.training.study import RECORDED, Study, open_study, prefer_recorded

TRAIN = [sys.executable, "-m", "tests.train_tiny"]
ROOT = paths.ROOT


def bits(run) -> str:
    parts = [*run.weights(), run.logits("validation"), run.logits("test")]
    parts.append(run.history.drop(columns="seconds").to_numpy())
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


def stamp(run) -> tuple[int, int]:
    written = (run.folder / "run.json").stat()
    return written.st_ino, written.st_mtime_ns


@pytest.mark.slow
def test_two_processes_that_ask_for_the_same_run_train_it_once(phantom_set, tmp_path):
    command = [*TRAIN, phantom_set.root, tmp_path / "runs", "2"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    answers = [p.communicate(timeout=300)[0] for p in both]
    assert [p.returncode for p in both] == [0, 0]
    assert answers[0].startswith("tiny-e2-s0")
    assert answers[0] == answers[1]  # the very same file, written once
    assert len(Store(tmp_path / "runs").whole()) == 1


def test_who_asks_for_a_run_that_another_trains_waits_and_reads_it(small, trained, monkeypatch):
    (expected,) = Store(trained).whole()
    monkeypatch.setattr(Study, "_train_alone", None)  # nothing is left to be trained
    with ThreadPoolExecutor(1) as thread:
        with small.store.lock(expected.plan):
            asked = thread.submit(small.run, "tiny")
            time.sleep(0.5)
            assert not asked.done()
            shutil.copytree(expected.folder, small.store.roots[0] / expected.name)
        assert asked.result(timeout=60).record == expected.record


def test_nothing_that_a_training_chooses_depends_on_test(with_run, monkeypatch):
    monkeypatch.setattr(study, "_WITH_WEIGHTS", ("tiny",))
    honest = with_run.run("tiny")
    gather = arrays.gather

    def with_test_spoilt(*arguments):
        material = gather(*arguments)
        noise = np.random.default_rng(0).integers(0, 256, material.test.inputs.shape, np.uint8)
        others = np.roll(material.test.labels, 7)
        return dataclasses.replace(material, test=dataclasses.replace(material.test, inputs=noise, labels=others))

    monkeypatch.setattr(arrays, "gather", with_test_spoilt)
    spoilt = dataclasses.replace(with_run, store=Store(with_run.store.roots[0] / "spoilt")).run("tiny")
    assert not np.array_equal(spoilt.logits("test"), honest.logits("test"))
    assert not np.array_equal(spoilt.labels("test"), honest.labels("test"))
    assert all(map(np.array_equal, spoilt.weights(), honest.weights()))
    assert np.array_equal(spoilt.logits("validation"), honest.logits("validation"))
    assert spoilt.history.drop(columns="seconds").equals(honest.history.drop(columns="seconds"))


def test_a_run_is_trained_once_and_a_changed_setting_is_one_more(with_run):
    first = with_run.run("tiny")
    other = with_run.run("tiny", dropout=0.1)
    assert other.key != first.key
    assert other.record["config"]["network"]["dropout"] == 0.1
    assert [stamp(with_run.run("tiny")), stamp(with_run.run("tiny", dropout=0.1))] == [stamp(first), stamp(other)]
    assert {r.name for r in with_run.store.whole()} == {first.name, other.name}


def test_a_run_that_may_not_be_trained_is_said_to_be_missing(small, trained):
    careful = dataclasses.replace(small, may_train=False)
    with pytest.raises(RunError, match="Tiny.*wbc train"):
        careful.runs("tiny")
    assert careful.runs("tiny", optional=True) == []
    shutil.copytree(trained, small.store.roots[0])
    assert len(careful.runs("tiny")) == 1
    assert careful.missing(["tiny"]) == []


def test_one_run_per_seed_and_the_first_seeds_are_missing_first(small, trained, monkeypatch):
    two = dataclasses.replace(small, profile=dataclasses.replace(small.profile, seeds=(1, 0)))
    assert two.missing(["tiny", "final"]) == [("tiny", 1), ("final", 1), ("tiny", 0), ("final", 0)]
    shutil.copytree(trained, small.store.roots[0])
    assert two.missing(["tiny"]) == [("tiny", 1)]
    assert [run.seed for run in two.recorded("tiny")] == [0]
    assert two.missing(["tiny"], seeds=[5]) == [("tiny", 5)]
    monkeypatch.setattr(Study, "train", lambda self, plan: plan)  # only that of seed 1 is to be trained
    assert [(type(run), run.seed) for run in two.runs("tiny")] == [(Plan, 1), (Run, 0)]


def test_a_base_without_its_weights_is_an_error_unless_it_is_optional(with_run, monkeypatch):
    def train(self, plan):
        raise WeightsError("not here")

    monkeypatch.setattr(Study, "train", train)
    with pytest.raises(WeightsError):
        with_run.runs("vgg16")
    assert with_run.runs("vgg16", optional=True) == []
    # What is recorded of it is shown all the same.
    two = dataclasses.replace(with_run, profile=dataclasses.replace(with_run.profile, seeds=(0, 1)))
    assert [run.seed for run in two.runs("tiny", optional=True)] == [0]


def test_a_base_whose_weights_are_damaged_is_an_error_even_if_it_is_optional(small, monkeypatch, tmp_path):
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"anything")
    monkeypatch.setenv("WBC_WEIGHTS", str(tmp_path))
    for optional in (False, True):
        with pytest.raises(BadDataError, match="download it again"):
            small.runs("vgg16", optional=optional)
    assert small.store.whole() == []


def test_only_an_absent_run_is_not_run_a_damaged_one_is_an_error(with_run):
    run = with_run.run("tiny")
    (run.folder / "history.csv").write_text("epoch\n")
    for may_train, optional in itertools.product((False, True), repeat=2):
        with pytest.raises(RunError, match=run.name):
            dataclasses.replace(with_run, may_train=may_train).runs("tiny", optional=optional)
    assert (run.folder / "history.csv").read_text() == "epoch\n"  # it was not trained over


def test_photos_that_are_in_the_cache_but_not_whole_are_not_passed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    (tmp_path / "blood-cells" / "dataset-master" / "JPEGImages").mkdir(parents=True)
    with pytest.raises(DataNotFoundError, match="dataset2-master"):
        study.open_study()


def test_a_full_disk_is_said_and_the_training_goes_on_once_there_is_room(small, trained, full_disk):
    with full_disk(50_000), pytest.raises(RunError, match=r"could not keep its state.*make room"):
        small.run("tiny")
    assert small.store.whole() == [] and small.store.damaged() == []
    assert [p.suffix for p in (small.store.roots[0] / ".unfinished").iterdir()] == [".lock"]
    (expected,) = Store(trained).whole()
    np.testing.assert_array_equal(small.run("tiny").logits("test"), expected.logits("test"))


def test_photos_are_used_if_named_and_phantoms_only_if_nothing_is(monkeypatch, tmp_path, phantom_set):
    with pytest.raises(DataNotFoundError):
        study.open_study(tmp_path, "smoke")
    with pytest.raises(UnknownNameError):
        study.open_study(None, "nope")
    with monkeypatch.context() as patch:
        patch.setattr(study.dataset, "find", lambda: study.dataset.open_folder("/no/such/folder"))
        assert study.open_study(None, "smoke").data.is_phantom
    assert study.open_study(str(phantom_set.root), "smoke").data == phantom_set
    monkeypatch.setenv("WBC_DATA", str(tmp_path))
    with pytest.raises(DataNotFoundError):
        study.open_study(None, "smoke")
    assert study.open_study("phantoms", "smoke").data.is_phantom
    # The same data are opened again by what they are named.
    named = study.open_study(str(phantom_set.root), "smoke").named
    assert Path(named).is_absolute() and study.open_study(named, "smoke").data == phantom_set
    # New runs go to the cache unless they are to be recorded.
    roots = [study.open_study(phantom_set.root, "smoke", record=record).store.roots for record in (False, True)]
    assert roots[0] == (paths.cache() / "runs", paths.results()) == roots[1][::-1]


def test_without_photos_the_recorded_results_are_shown_and_nothing_is_trained(monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(ROOT / "results"))
    monkeypatch.setattr(study.dataset, "find", lambda: study.dataset.open_folder("/no/such/folder"))
    for found in (study.open_study("recorded", "paper"), study.open_study(None, "paper")):
        assert found.data.is_phantom and not found.may_train and found.named == RECORDED
        assert found.data_sha256 == PUBLISHED_SHA256 != found.checksums.sha256
        (first, *_) = found.runs("final")
        assert first.record["config"]["data_sha256"] == PUBLISHED_SHA256
        assert set(first.names("test")) <= set(found.provenance.image)
        assert len(set(found.pairs.photo) & set(found.provenance.photo)) > 10
        with pytest.raises(RunError):
            found.run("final", dropout=0.123)


def test_phantoms_are_traced_and_paired_themselves(small):
    assert set(small.provenance.image) == set(small.images.index.image)
    assert small.provenance.equals(trace.read(small.data))
    assert len(small.pairs) == 0


def kill_at_random(process: subprocess.Popen, root: Path, moment: str, rng: random.Random) -> bool:
    """Kill a training while it starts, while it trains, or while it records; tell whether it was still alive."""
    if moment == "starting":
        time.sleep(rng.uniform(0, 4))
    else:
        sign = ".*.wbc.tmp" if moment == "recording" else ".unfinished/*.npz"
        before = {p: p.stat().st_mtime_ns for p in root.glob(sign)}
        while process.poll() is None:
            with contextlib.suppress(FileNotFoundError):
                if {p: p.stat().st_mtime_ns for p in root.glob(sign)} != before:
                    break
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.03 if moment == "recording" else 0.4))
    process.kill()
    return process.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_at_random_a_training_ends_with_the_same_bits(phantom_set, tmp_path):
    def train(root: Path) -> subprocess.Popen:
        command = [*TRAIN, phantom_set.root, root, "40"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    assert train(tmp_path / "whole").wait() == 0
    expected = bits(Store(tmp_path / "whole").whole()[0])
    rng, kills = random.Random(0), dict.fromkeys(("starting", "training", "recording"), 0)
    root = tmp_path / "killed"
    while min(kills.values()) < 8:
        moment = min(kills, key=lambda m: kills[m])
        kills[moment] += kill_at_random(train(root), root, moment, rng)
        store = Store(root)
        assert store.damaged() == []
        for run in store.whole():
            assert bits(run) == expected
            shutil.rmtree(root)  # it had come to its end: from the start again
    assert train(root).wait() == 0
    (run,) = Store(root).whole()
    assert bits(run) == expected
    assert read(run.folder).key == run.key
    assert list(root.glob(".unfinished/*.npz")) == []


def test_of_a_design_what_is_there_is_given_by_name_and_seed(small, monkeypatch):
    monkeypatch.setitem(experiments.EXPERIMENTS, "final", TINY_FINAL)
    assert small.suite("leakage") == {name: [] for name in SUITES["leakage"].in_smoke}
    wanted, at_its_profile = small.wanted("leakage")
    assert at_its_profile is small and set(wanted.values()) == {(0,)}
    record_drawn(at_its_profile, "final+by-photo", 0, np.random.default_rng(0))
    found = small.suite("leakage")
    assert [run.record["experiment"] for run in found["final+by-photo"]] == ["final+by-photo"]
    assert found["final"] == []
    full = dataclasses.replace(small, profile=experiments.PROFILES["quick"])
    assert full.wanted("leakage")[1].profile is experiments.PROFILES["paper"]
    assert full.suite("leakage")["final+by-photo"] == []  # that was a run of two epochs


def test_full_length_is_preferred_where_the_final_model_is_recorded(phantom_set, monkeypatch):
    study = open_study(str(phantom_set.root), "smoke")
    assert prefer_recorded(study).profile.name == "quick"
    monkeypatch.setattr(Study, "recorded", lambda self, name: ["run"] if self.profile.name == "paper" else [])
    assert prefer_recorded(study).profile.name == "paper"
