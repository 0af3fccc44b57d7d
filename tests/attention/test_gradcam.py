import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import correlate2d
from scipy.stats import spearmanr

from wbc_lib.attention import gradcam
from wbc_lib.data.images import INPUT_SHAPE, Scale, load_images
from wbc_lib.errors import RunError
from wbc_lib.training.plan import Network

PLAIN = Scale((1 / 255,) * 3, (0.0,) * 3)


def build(network: Network, shape: tuple[int, int], seed: int = 0):
    import keras

    from wbc_lib.training.networks import build

    keras.utils.set_random_seed(seed)
    return build(network, (*shape, 3), PLAIN)


def head(features: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
    """Pooling and dense layers in plain numpy: features (n, rows, columns, filters) to logits (n, 5)."""
    n, rows, columns, filters = features.shape
    cut = features[:, : rows // 2 * 2, : columns // 2 * 2]
    x = cut.reshape(n, rows // 2, 2, columns // 2, 2, filters).max(axis=(2, 4)).reshape(n, -1)
    for i in range(0, len(weights) - 2, 2):
        x = np.maximum(x @ weights[i] + weights[i + 1], 0)
    return x @ weights[-2] + weights[-1]


def test_maps_are_those_of_numerical_gradients_in_plain_numpy():
    model = build(Network(convolutions=(3,), dense=(6,)), (9, 12))
    weights = [v.numpy().astype(float) for v in model.trainable_variables]
    pixels = np.random.default_rng(1).integers(0, 256, (4, 9, 12, 3)).astype(np.uint8)
    classes = np.array([1, 4, 0, 2])
    grad_cam, hires_cam = gradcam.compute_maps(model, pixels, classes)
    kernel, bias = weights[:2]
    step = 1e-6
    for image, wanted, averaged, by_position in zip(pixels, classes, grad_cam, hires_cam, strict=True):
        layers = [
            sum(correlate2d(image[..., c] / 255, kernel[:, :, c, k], "valid") for c in range(3)) + bias[k]
            for k in range(3)
        ]
        features = np.maximum(np.stack(layers, axis=-1), 0)
        moved = features + step * np.eye(features.size).reshape(-1, *features.shape)
        moved_back = features - step * np.eye(features.size).reshape(-1, *features.shape)
        slope = (head(moved, weights[2:]) - head(moved_back, weights[2:]))[:, wanted] / (2 * step)
        gradient = slope.reshape(features.shape)
        expected = np.maximum((features * gradient.mean(axis=(0, 1))).sum(axis=-1), 0)
        expected[6:] = 0  # of seven rows the pooling takes six
        np.testing.assert_allclose(averaged, expected, atol=1e-5)
        np.testing.assert_allclose(by_position, np.maximum((features * gradient).sum(axis=-1), 0), atol=1e-5)
    assert grad_cam.max() > 0.01 and (hires_cam[:, 6:] == 0).all()


@pytest.mark.parametrize(("y", "x"), [(14, 13), (37, 61)])
def test_a_bright_spot_is_found_where_it_is(y, x):
    model = build(Network(convolutions=(1, 1, 1), dense=()), INPUT_SHAPE)
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape) if len(variable.shape) > 1 else np.zeros(variable.shape))
    pixels = np.zeros((1, *INPUT_SHAPE, 3), np.uint8)
    pixels[0, y - 2 : y + 3, x - 2 : x + 3] = 255
    upsampled = gradcam.upsample(gradcam.compute_maps(model, pixels, np.array([2]))[0], INPUT_SHAPE, 3)[0]
    rows, columns = np.indices(INPUT_SHAPE)
    centre = ((upsampled * rows).sum() / upsampled.sum(), (upsampled * columns).sum() / upsampled.sum())
    assert centre == pytest.approx((y, x), abs=1.5)


def test_what_is_called_unseen_changes_nothing_and_what_is_next_to_it_does():
    model = build(Network(convolutions=(2, 2, 2), dense=()), INPUT_SHAPE)
    for variable in model.trainable_variables:
        variable.assign(np.abs(variable.numpy()) + 0.01)
    used = gradcam.used_pixels(INPUT_SHAPE, 3)
    blank = np.full((1, *INPUT_SHAPE, 3), 100, np.float32)
    noisy = np.where(used[..., None], blank, np.random.default_rng(0).uniform(0, 255, blank.shape)).astype(np.float32)
    assert (~used).any() and not np.array_equal(noisy, blank)
    np.testing.assert_array_equal(model(noisy), model(blank))
    for y, x in ((np.flatnonzero(used.any(axis=1))[-1], 40), (30, np.flatnonzero(used.any(axis=0))[-1])):
        touched = blank.copy()
        touched[0, y, x] = 255
        assert not np.array_equal(model(touched), model(blank))


@pytest.mark.parametrize(("shape", "convolutions"), [(INPUT_SHAPE, 3), ((37, 53), 2), ((120, 160), 1)])
def test_the_shape_of_a_map_is_that_of_the_last_convolution(shape, convolutions):
    model = build(Network(convolutions=(2,) * convolutions, dense=()), shape)
    outputs = [layer.output.shape[1:3] for layer in model.layers if "conv2d" in layer.name]
    assert gradcam.map_shape(shape, convolutions) == outputs[-1]


@given(
    hnp.arrays(float, (2, 11, 16), elements=st.floats(0, 1)),
    hnp.arrays(bool, (2, *INPUT_SHAPE)),
)
def test_the_share_inside_is_that_of_the_placed(maps, masks):
    upsampled = gradcam.upsample(maps, INPUT_SHAPE, 3)
    shares = gradcam.share_inside(maps, gradcam.downsample_masks(masks, 3))
    for one, mask, share in zip(upsampled, masks, shares, strict=True):
        if one.sum() > 1e-6:
            assert share == pytest.approx(one[mask].sum() / one.sum(), abs=1e-9)
    everything = gradcam.share_inside(maps + 1e-3, gradcam.downsample_masks(np.ones_like(masks), 3))
    np.testing.assert_allclose(everything, 1)
    assert np.isnan(gradcam.share_inside(0 * maps, gradcam.downsample_masks(masks, 3))).all()


@given(hnp.arrays(np.int64, (2, 5, 6), elements=st.integers(0, 9)), st.integers(0, 99))
def test_correlations_are_scipys_on_the_pooled_part(first, seed):
    second = np.random.default_rng(seed).integers(0, 9, first.shape)
    correlations = gradcam.correlate(first, second)
    for a, b, correlation in zip(first[:, :4], second[:, :4], correlations, strict=True):
        is_flat = (a == a[0, 0]).all() or (b == b[0, 0]).all()
        expected = 0 if is_flat else spearmanr(a.ravel(), b.ravel()).statistic
        assert correlation == pytest.approx(expected, abs=1e-9)


def test_the_rebuilt_network_gives_the_recorded_predictions(run, phantom_set):
    images = load_images(phantom_set)
    rows = np.flatnonzero(images.index.image.isin(run.names("test")))
    logits = np.asarray(gradcam.rebuild(run)(images.pixels[rows].astype(np.float32)))
    np.testing.assert_allclose(logits, run.logits("test"), atol=1e-3)


def test_layers_are_drawn_anew_from_the_output_down(run):
    trained = run.weights()
    for layers in range(len(trained) // 2 + 1):
        model = gradcam.randomise(run, layers, seed=3)
        same = [np.array_equal(v.numpy(), w) for v, w in zip(model.trainable_variables, trained, strict=True)]
        kept = len(trained) - 2 * layers
        assert all(same[:kept]) and not any(same[kept:])
    again, other = (gradcam.randomise(run, 2, seed).trainable_variables[-2].numpy() for seed in (3, 4))
    drawn = gradcam.randomise(run, 2, seed=3).trainable_variables[-2].numpy()
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)
    with pytest.raises(ValueError, match="cannot randomise"):
        gradcam.randomise(run, len(trained), seed=0)


def test_a_network_without_a_convolution_of_its_own_is_refused(run):
    record = {**run.record, "config": {**run.record["config"]}}
    record["config"]["network"] = {**record["config"]["network"], "base": "vgg16", "convolutions": []}
    with pytest.raises(RunError, match="no convolution of its own"):
        gradcam.rebuild(dataclasses.replace(run, record=record))
