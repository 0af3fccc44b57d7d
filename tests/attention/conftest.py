import dataclasses

import pytest

from tests.train_tiny import TINY
from wbc_lib.attention import measure
from wbc_lib.training import experiments, study
from wbc_lib.training.plan import Network
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


@pytest.fixture(scope="package")
def tiny_study(phantom_set, tmp_path_factory):
    """A study with a small network of three convolutions, registered as ``tiny``."""
    network = Network(convolutions=(4, 4, 4), dense=(8,))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(experiments.EXPERIMENTS, "tiny", dataclasses.replace(TINY, network=network, epochs=2))
        patch.setattr(study, "_WITH_WEIGHTS", ("tiny",))
        patch.setattr(measure, "DRAWS", 1)
        yield Study(phantom_set, experiments.PROFILES["smoke"], Store(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="package")
def run(tiny_study):
    return tiny_study.run("tiny")
