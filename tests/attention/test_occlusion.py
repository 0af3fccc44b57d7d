import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from wbc_lib.attention import occlusion
from wbc_lib.data.images import AFFINE, INPUT_SHAPE, load_images
from wbc_lib.provenance import boxes as cells
from wbc_lib.provenance import trace


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
    moved = occlusion.move_away(mask, free)
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
    masks = occlusion.photo_masks(table.iloc[rows], INPUT_SHAPE)
    black = images.pixels[rows].max(axis=3) < 8
    assert black.mean() > 0.05  # there is some to be told apart
    assert (black & masks).mean() < 0.002
    grown = np.stack([cv2.dilate(m.astype(np.uint8), np.ones((5, 5), np.uint8)) for m in masks]).astype(bool)
    assert (~black & ~grown).mean() < 0.01


def test_the_background_colour_is_its_mean_and_grey_where_there_is_none():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 8, 3)).astype(np.uint8)
    background = np.zeros((2, 6, 8), bool)
    background[0, :3] = True
    colours = occlusion.background_colours(pixels, background)
    np.testing.assert_allclose(colours[0], pixels[0, :3].reshape(-1, 3).mean(axis=0), atol=0.51)
    assert tuple(colours[1]) == cells.COVER_COLOUR


@pytest.mark.parametrize("colours", [np.uint8([1, 2, 3]), np.uint8([[1, 2, 3], [1, 2, 3]])])
def test_paint_covers_the_mask_and_nothing_else(colours):
    pixels = np.full((2, 4, 4, 3), 200, np.uint8)
    masks = np.zeros((2, 4, 4), bool)
    masks[1, 2] = True
    painted = occlusion.paint(pixels, masks, colours)
    assert (painted[masks] == (1, 2, 3)).all() and (painted[~masks] == 200).all()
    assert painted.dtype == np.uint8 and (pixels == 200).all()


def test_what_is_covered_elsewhere_is_as_large_as_the_cell_and_is_background_that_counts(phantom_set):
    table, images, boxes = trace.read(phantom_set), load_images(phantom_set), cells.white_cells(phantom_set)
    rows = np.flatnonzero((images.index.split == "TEST") & table.photo.isin(boxes.photo))
    cell = cells.cell_masks(table.iloc[rows], boxes, INPUT_SHAPE)
    photo = occlusion.photo_masks(table.iloc[rows], INPUT_SHAPE)
    seen = np.ones(INPUT_SHAPE, bool)
    seen[-6:] = False
    masks, colours = occlusion.cover(np.array(images.pixels[rows]), cell, photo, seen)
    assert list(masks) == list(occlusion.COVERS) and list(colours) == list(occlusion.FILLS)
    has_room = masks["elsewhere"].any(axis=(1, 2))
    assert has_room.mean() > 0.3
    np.testing.assert_array_equal(masks["elsewhere"].sum(axis=(1, 2))[has_room], cell.sum(axis=(1, 2))[has_room])
    assert not (masks["elsewhere"] & (cell | ~photo | ~seen)).any()
    np.testing.assert_array_equal(masks["rest"], ~masks["cell"])


def test_pixels_that_are_partly_black_are_not_called_photo():
    shifted = pd.DataFrame([[1.0, 0, 5, 0, 1, 0]], dtype=float, columns=AFFINE)
    mask = occlusion.photo_masks(shifted, INPUT_SHAPE)[0]
    assert not mask[:, :2].any() and mask[5:-5, 3:-3].all()
