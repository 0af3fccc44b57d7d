import dataclasses

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.signal import correlate2d
from scipy.stats import spearmanr

from wbc_lib.attention import saliency
from wbc_lib.data.images import AFFINE, INPUT_SHAPE, Scale, load_images
from wbc_lib.errors import RunError
from wbc_lib.provenance import boxes as cells
from wbc_lib.provenance import trace
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
    grad_cam, hires_cam = saliency.compute_maps(model, pixels, classes)
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
    upsampled = saliency.upsample(saliency.compute_maps(model, pixels, np.array([2]))[0], INPUT_SHAPE, 3)[0]
    rows, columns = np.indices(INPUT_SHAPE)
    centre = ((upsampled * rows).sum() / upsampled.sum(), (upsampled * columns).sum() / upsampled.sum())
    assert centre == pytest.approx((y, x), abs=1.5)


def test_what_is_called_unseen_changes_nothing_and_what_is_next_to_it_does():
    model = build(Network(convolutions=(2, 2, 2), dense=()), INPUT_SHAPE)
    for variable in model.trainable_variables:
        variable.assign(np.abs(variable.numpy()) + 0.01)
    used = saliency.used_pixels(INPUT_SHAPE, 3)
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
    assert saliency.map_shape(shape, convolutions) == outputs[-1]


@given(hnp.arrays(float, (2, 11, 16), elements=st.floats(0, 1)), hnp.arrays(bool, (2, *INPUT_SHAPE)))
def test_the_share_inside_is_that_of_the_placed(maps, masks):
    upsampled = saliency.upsample(maps, INPUT_SHAPE, 3)
    shares = saliency.share_inside(maps, saliency.downsample_masks(masks, 3))
    for one, mask, share in zip(upsampled, masks, shares, strict=True):
        if one.sum() > 1e-6:
            assert share == pytest.approx(one[mask].sum() / one.sum(), abs=1e-9)
    everything = saliency.share_inside(maps + 1e-3, saliency.downsample_masks(np.ones_like(masks), 3))
    np.testing.assert_allclose(everything, 1)
    assert np.isnan(saliency.share_inside(0 * maps, saliency.downsample_masks(masks, 3))).all()


@given(hnp.arrays(np.int64, (2, 5, 6), elements=st.integers(0, 9)), st.integers(0, 99))
def test_correlations_are_scipys_on_the_pooled_part(first, seed):
    second = np.random.default_rng(seed).integers(0, 9, first.shape)
    correlations = saliency.correlate(first, second)
    for a, b, correlation in zip(first[:, :4], second[:, :4], correlations, strict=True):
        is_flat = (a == a[0, 0]).all() or (b == b[0, 0]).all()
        expected = 0 if is_flat else spearmanr(a.ravel(), b.ravel()).statistic
        assert correlation == pytest.approx(expected, abs=1e-9)


def test_layers_are_drawn_anew_from_the_output_down(run):
    trained = run.weights()
    for layers in range(len(trained) // 2 + 1):
        model = saliency.randomise(run, layers, seed=3)
        same = [np.array_equal(v.numpy(), w) for v, w in zip(model.trainable_variables, trained, strict=True)]
        kept = len(trained) - 2 * layers
        assert all(same[:kept]) and not any(same[kept:])
    again, other = (saliency.randomise(run, 2, seed).trainable_variables[-2].numpy() for seed in (3, 4))
    drawn = saliency.randomise(run, 2, seed=3).trainable_variables[-2].numpy()
    assert np.array_equal(drawn, again) and not np.array_equal(drawn, other)


def test_a_network_without_a_convolution_of_its_own_is_refused(run):
    record = {**run.record, "config": {**run.record["config"]}}
    record["config"]["network"] = {**record["config"]["network"], "base": "vgg16", "convolutions": []}
    with pytest.raises(RunError, match="no convolution of its own"):
        saliency.rebuild(dataclasses.replace(run, record=record))


# Painted over ---------------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**32), st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 1))
def test_a_moved_mask_lies_where_a_search_of_all_places_puts_it(seed, height, width, share):
    rng = np.random.default_rng(seed)
    free = rng.random((12, 15)) < share
    piece = rng.random((height, width)) < 0.8
    assume(piece.any(axis=1)[[0, -1]].all() and piece.any(axis=0)[[0, -1]].all())
    mask = np.zeros_like(free)
    mask[3 : 3 + height, 5 : 5 + width] = piece
    places = {}
    for y in range(12 - height + 1):
        for x in range(15 - width + 1):
            if free[y : y + height, x : x + width][piece].all():
                places[y, x] = (y + height / 2 - 6) ** 2 + (x + width / 2 - 7.5) ** 2
    moved = saliency.move_away(mask, free)
    if not places:
        assert not moved.any()
        return
    ys, xs = np.nonzero(moved)
    assert places[ys.min(), xs.min()] == min(places.values())
    np.testing.assert_array_equal(moved[ys.min() : ys.min() + height, xs.min() : xs.min() + width], piece)
    assert moved.sum() == mask.sum() and not (moved & ~free).any()


def test_the_black_of_turning_and_shifting_is_not_called_photo(phantom_set):
    table, images = trace.read(phantom_set), load_images(phantom_set)
    rows = np.flatnonzero(images.index.split == "TEST")
    masks = saliency.photo_masks(table.iloc[rows], INPUT_SHAPE)
    black = images.pixels[rows].max(axis=3) < 8
    assert black.mean() > 0.05  # there is some to be told apart
    assert (black & masks).mean() < 0.002
    grown = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((5, 5), np.uint8)) for m in masks]).astype(bool)
    assert (~black & ~grown).mean() < 0.01


def test_the_background_colour_is_its_mean_and_grey_where_there_is_none():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    background = np.zeros((2, 6, 8), bool)
    background[0, :3] = True
    colours = saliency.background_colours(pixels, background)
    np.testing.assert_allclose(colours[0], pixels[0, :3].reshape(-1, 3).mean(axis=0), atol=0.51)
    assert tuple(colours[1]) == cells.COVER_COLOUR


@pytest.mark.parametrize("colours", [np.uint8([1, 2, 3]), np.uint8([[1, 2, 3], [1, 2, 3]])])
def test_paint_covers_the_mask_and_nothing_else(colours):
    pixels = np.full((2, 4, 4, 3), 200, np.uint8)
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 2] = True
    painted = saliency.paint(pixels, masks, colours)
    assert (painted[masks] == (1, 2, 3)).all() and (painted[~masks] == 200).all()
    assert painted.dtype == np.uint8 and (pixels == 200).all()


def test_what_is_covered_elsewhere_is_as_large_as_the_cell_and_is_background_that_counts(phantom_set):
    table, images, boxes = trace.read(phantom_set), load_images(phantom_set), cells.white_cells(phantom_set)
    rows = np.flatnonzero((images.index.split == "TEST") & table.photo.isin(boxes.photo))
    cell = cells.cell_masks(table.iloc[rows], boxes, INPUT_SHAPE)
    photo = saliency.photo_masks(table.iloc[rows], INPUT_SHAPE)
    seen = np.ones(INPUT_SHAPE, bool)
    seen[-6:] = False
    masks, colours = saliency.cover(np.array(images.pixels[rows]), cell, photo, seen)
    assert list(masks) == list(saliency.COVERS) and list(colours) == list(saliency.FILLS)
    has_room = masks["elsewhere"].any(axis=(1, 2))
    assert has_room.mean() > 0.3
    np.testing.assert_array_equal(masks["elsewhere"].sum(axis=(1, 2))[has_room], cell.sum(axis=(1, 2))[has_room])
    assert not (masks["elsewhere"] & (cell | ~photo | ~seen)).any()
    np.testing.assert_array_equal(masks["rest"], ~masks["cell"])


def test_pixels_that_are_partly_black_are_not_called_photo():
    shifted = pd.DataFrame([[1.0, 0, 5, 0, 1, 0]], dtype=float, columns=AFFINE)
    mask = saliency.photo_masks(shifted, INPUT_SHAPE)[0]
    assert not mask[:, :2].any() and mask[5:-5, 3:-3].all()
