import json
import shutil
from pathlib import Path

import fsspec
import pytest

from tests.training.test_runs import FITTED, MATERIAL, PLAN
from wbc_lib.errors import RunError
from wbc_lib.training import remote
from wbc_lib.training.experiments import EXPERIMENTS, Plan
from wbc_lib.training.runs import Store, read

OTHER = Plan(EXPERIMENTS["final"], 2, 1, "d" * 64)


@pytest.fixture(params=["memory", "file"])
def url(request, tmp_path):
    """A store that is nowhere on disk, and one that is a folder."""
    yield f"memory://{tmp_path.name}/runs" if request.param == "memory" else f"file://{tmp_path}/there/runs"
    fsspec.filesystem("memory").store.clear()


@pytest.fixture
def run(tmp_path):
    return Store(tmp_path / "here").write(PLAN, FITTED, MATERIAL, keep_weights=True)


def test_what_one_machine_brings_another_reads_bit_for_bit(url, run, tmp_path):
    remote.push(run, url)
    (found,) = remote.fetch(url, [PLAN.key], tmp_path / "elsewhere")
    assert found.folder == tmp_path / "elsewhere" / run.name
    assert read(found.folder).record == run.record
    for file in run.folder.iterdir():
        assert (found.folder / file.name).read_bytes() == file.read_bytes()
    assert Store(tmp_path / "elsewhere").find(PLAN).key == PLAN.key
    assert [p.name for p in (tmp_path / "elsewhere").iterdir()] == [run.name]


def test_a_run_that_is_still_being_copied_is_not_there_yet(url, run, tmp_path, monkeypatch):
    files, root = fsspec.core.url_to_fs(url)
    written = []
    put = type(files).put_file

    def until_the_record(self, source, target, **options):
        written.append(Path(target).name)
        if target.endswith("run.json"):
            raise ConnectionError("the cable was pulled")
        put(self, source, target, **options)

    with monkeypatch.context() as patch:
        patch.setattr(type(files), "put_file", until_the_record)
        with pytest.raises(RunError, match=r"cannot be used as a store \(ConnectionError: the cable was pulled\)"):
            remote.push(run, url)
    assert written == ["history.csv", "predictions.npz", "weights.npz", "run.json"]
    assert remote.fetch(url, [PLAN.key], tmp_path / "elsewhere") == []
    remote.push(run, url)
    assert len(remote.fetch(url, [PLAN.key], tmp_path / "elsewhere")) == 1


def test_only_what_was_asked_for_is_fetched(url, run, tmp_path):
    assert remote.fetch(url, [PLAN.key], tmp_path / "elsewhere") == []
    remote.push(run, url)
    remote.push(Store(tmp_path / "here").write(OTHER, FITTED, MATERIAL, keep_weights=False), url)
    assert [r.key for r in remote.fetch(url, [OTHER.key], tmp_path / "elsewhere")] == [OTHER.key]
    assert Store(tmp_path / "elsewhere").find(PLAN) is None
    # The folder's name carries twelve letters of the key; the rest must agree as well.
    assert remote.fetch(url, [PLAN.key[:12] + "0" * 52], tmp_path / "third") == []


def test_what_was_damaged_there_is_named_and_never_taken_over(url, run, tmp_path):
    remote.push(run, url)
    files, root = fsspec.core.url_to_fs(url)
    files.pipe_file(f"{root}/{run.name}/history.csv", b"epoch,accuracy\n1,1.0\n")
    with pytest.raises(RunError, match=rf"The run {run.name} at .* is damaged; delete it there"):
        remote.fetch(url, [PLAN.key], tmp_path / "elsewhere")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_of_two_that_bring_the_same_run_the_first_stays(url, run, tmp_path):
    remote.push(run, url)
    later = shutil.copytree(run.folder, tmp_path / "later" / run.name)
    (later / "run.json").write_text(json.dumps(run.record | {"finished": "later"}))
    remote.push(type(run)(later, run.record), url)
    (found,) = remote.fetch(url, [PLAN.key], tmp_path / "elsewhere")
    assert found.record["finished"] == run.record["finished"]


def test_the_state_of_an_unfinished_training_travels_and_goes_away(url, tmp_path):
    here, there = tmp_path / "a" / f"{PLAN.key}.npz", tmp_path / "b" / f"{PLAN.key}.npz"
    remote.fetch_checkpoint(url, there)
    assert not there.exists()
    remote.push_checkpoint(here, url)  # has not been written yet
    here.parent.mkdir()
    for content in (b"one epoch", b"two epochs"):
        here.write_bytes(content)
        remote.push_checkpoint(here, url)
    remote.fetch_checkpoint(url, there)
    assert there.read_bytes() == b"two epochs"
    remote.drop_checkpoint(url, here)
    there.unlink()
    remote.fetch_checkpoint(url, there)
    assert not there.exists()


@pytest.mark.parametrize("address", ["nosuch://bucket/runs", "file:///proc/no/such/place"])
def test_an_address_that_will_not_do_is_one_sentence(run, address):
    with pytest.raises(RunError, match=f"{address} cannot be used as a store"):
        remote.push(run, address)
    remote.push_checkpoint(run.folder / "run.json", address)  # costs epochs, not the run
