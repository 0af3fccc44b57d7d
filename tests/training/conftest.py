import shutil
from pathlib import Path

import pytest

from tests.train_tiny import TINY
from wbc_lib.data.dataset import DataSet
from wbc_lib.training import experiments, study
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


@pytest.fixture(scope="session")
def trained(phantom_set: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a store with one run of the tiny experiment, seed 0, with its weights; not to be written to."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
        patch.setattr(study, "_WITH_WEIGHTS", ("tiny",))
        store = Store(tmp_path_factory.mktemp("trained"))
        Study(phantom_set, experiments.PROFILES["smoke"], store).run("tiny")
    return store.roots[0]


@pytest.fixture
def small(phantom_set: DataSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """A study of phantoms, with the tiny experiment and no run."""
    monkeypatch.setitem(experiments.EXPERIMENTS, "tiny", TINY)
    return Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path / "runs"))


@pytest.fixture
def with_run(small: Study, trained: Path) -> Study:
    """The same study with a run, which may be changed."""
    shutil.copytree(trained, small.store.roots[0])
    return small
