"""PyTorch is no dependency: what needs it is skipped unless WBC_TEST_TORCH names an interpreter that has it."""

import os
import sys

import numpy as np
import pytest

from wbc_lib.contenders import as_plain, write_sample
from wbc_lib.turns import Contender, race

TORCH = os.environ.get("WBC_TEST_TORCH", "")


@pytest.fixture
def options(tmp_path):
    rng = np.random.default_rng(0)
    write_sample(tmp_path, rng.integers(0, 256, (40, 60, 80, 3), dtype=np.uint8), rng.integers(1, 5, 40))
    return {"sample": str(tmp_path), "images": 40, **as_plain("final")}


def contend(python, options):
    return race([Contender("torch", (python, "-m", "wbc_lib.torch_contender"), "train_in_torch", options)], 2)


def test_without_pytorch_it_takes_no_part_and_says_why(options):
    outcome = contend(sys.executable, options)
    assert outcome.missing == {"torch": "PyTorch is not installed"}
    assert outcome.series == ()


@pytest.mark.skipif(not TORCH, reason="WBC_TEST_TORCH names no interpreter with PyTorch")
def test_with_pytorch_it_trains_the_same_network(options):
    outcome = contend(TORCH, options)
    (series,) = outcome.series
    assert (series.quantity, series.size, len(series.values)) == ("seconds", 40, 2)
    assert outcome.about["torch"]["parameters"] == "423237"
