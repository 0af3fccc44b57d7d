import pytest

from tests.train_tiny import SMALL
from wbc_lib.data.dataset import DataSet
from wbc_lib.training import experiments
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Run, Store
from wbc_lib.training.study import Study


@pytest.fixture(scope="session")
def small_run(tiny_set: DataSet, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of a small network on few phantoms, in place of the final model's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "final", SMALL)
        return Study(tiny_set, PROFILES["smoke"], Store(tmp_path_factory.mktemp("runs"))).run("final")
