from pathlib import Path

import pytest
from filelock import FileLock

from tests.train_tiny import SMALL
from wbc_lib.data.dataset import DataSet
from wbc_lib.training import experiments
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Run, Store
from wbc_lib.training.study import Study


@pytest.fixture(scope="session")
def small_run(tiny_set: DataSet, run_folder: Path) -> Run:
    """A run of a small network on few phantoms, in place of the final model's; trained by the worker that is first."""
    with FileLock(run_folder / "small-run.lock"), pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "final", SMALL)
        return Study(tiny_set, PROFILES["smoke"], Store(run_folder / "small-run")).run("final")
