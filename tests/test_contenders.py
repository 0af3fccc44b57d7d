import sys

import numpy as np
import pytest

from wbc_lib import contenders, paths
from wbc_lib.bench import KERAS, OURS
from wbc_lib.contenders import KINDS, OTHER_WORK, as_plain, name_kind, read_sample, write_sample
from wbc_lib.experiments import EXPERIMENTS
from wbc_lib.turns import Contender, race

COMMAND = (sys.executable, "-m", "wbc_lib.contenders")
IMAGES = 64


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sample")
    rng = np.random.default_rng(0)
    write_sample(folder, rng.integers(0, 256, (IMAGES, 60, 80, 3), dtype=np.uint8), rng.integers(1, 5, IMAGES))
    return str(folder)


def test_all_ways_of_training_train_the_same_network_and_tell_seconds_per_epoch(sample):
    options = {"sample": sample, "images": IMAGES}
    ways = [
        Contender(OURS, COMMAND, "train_with_our_loop", options),
        Contender(KERAS, COMMAND, "train_with_keras", options),
    ]
    outcome = race(ways, 2)
    assert {(s.contender, s.size, len(s.values)) for s in outcome.series} == {(OURS, 64, 2), (KERAS, 64, 2)}
    assert all(0 < v < 60 for s in outcome.series for v in s.values)
    assert int(outcome.about[KERAS]["parameters"]) == EXPERIMENTS["final"].reported.parameters


@pytest.mark.slow
def test_learning_on_a_frozen_base_is_timed_both_ways(sample):
    options = {"sample": sample, "images": 32, "experiment": "vgg16-random"}
    ways = [
        Contender("cached", COMMAND, "learn_from_cached_features", options | {"epochs": 2}),
        Contender("loop", COMMAND, "learn_through_frozen_base", options),
    ]
    found = {(s.contender, s.quantity): s.median for s in race(ways, 1).series}
    assert found["cached", "seconds"] > 0
    assert 0 < found["loop", "seconds per further epoch"] < found["loop", "seconds to the first epoch's end"]


@pytest.mark.slow
def test_a_profile_tells_shares_of_the_whole_mostly_convolutions(sample):
    way = Contender("profile", COMMAND, "profile_our_loop", {"sample": sample, "images": IMAGES})
    outcome = race([way], 2)
    if outcome.missing:
        pytest.skip(outcome.missing["profile"])
    shares = {s.quantity: s.values for s in outcome.series}
    assert set(shares) <= {*KINDS, OTHER_WORK}
    for turn in (0, 1):
        assert sum(values[turn] for values in shares.values()) == pytest.approx(1)
        assert sum(v[turn] for kind, v in shares.items() if kind.startswith("convolutions")) > 0.4


def test_matrix_products_are_counted_as_operations_per_second(monkeypatch):
    told = []

    class StopError(Exception):
        pass

    def turn(*figures, **about):
        told.append(figures)
        if len(told) == 2:
            raise StopError

    seconds = iter([10.0, 14.0])
    monkeypatch.setattr(contenders.time, "perf_counter", lambda: next(seconds))
    with pytest.raises(StopError):
        contenders.multiply_in_numpy(turn, 8, 3)
    assert told == [(), (("operations/s", None, 2 * 8**3 * 3 / 4),)]


def test_a_sample_is_read_back_as_far_as_it_is_wanted(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (5, 4, 6, 3), dtype=np.uint8)
    write_sample(tmp_path, pixels[:, ::-1], np.array([1, 2, 3, 4, 1]))
    found = read_sample(str(tmp_path), 3)
    assert np.array_equal(found.inputs, pixels[:3, ::-1])
    assert found.labels.tolist() == [1, 2, 3] and found.labels.dtype == np.int32


@pytest.mark.parametrize(
    "operation, kind",
    {
        "GRAD/conv2d/Conv2DBackpropFilter:_MklNativeConv2DBackpropFilter": "convolutions, gradient of weights",
        "GRAD/conv2d/convolution/Conv2DBackpropInput:_MklNativeConv2DBackpropInput": "convolutions, gradient of inputs",
        "while/functional_1/conv2d_1/Relu:_MklNativeFusedConv2D": "convolutions, forward",
        "GRAD/functional_1/dense_1/MatMul/MatMul_1:_MklMatMul": "dense layers",
        "GRAD/max_pooling2d_1/MaxPool2d/MaxPoolGrad:_MklNativeMaxPoolGrad": "pooling",
        "GRAD/functional_1/conv2d_1/ReluGrad:ReluGrad": "ReLU, backward",
        "while/adam/Sub_27:Sub": "optimizer",
        "while/AddN_1:AddN": OTHER_WORK,
    }.items(),
)
def test_operations_are_told_apart(operation, kind):
    assert name_kind(operation) == kind


def test_the_network_goes_to_the_other_interpreter_as_plain_values():
    plain = as_plain("final")
    assert plain["network"]["dense"] == (64, 32)
    assert plain["settings"]["batch_size"] == 32
    assert paths.ROOT.joinpath("wbc_lib/torch_contender.py").exists()
