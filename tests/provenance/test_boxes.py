import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.data import dataset, phantoms
from wbc_lib.data.images import AFFINE
from wbc_lib.provenance import boxes as cells

WIDTH, HEIGHT = dataset.IMAGE_SIZE


@pytest.fixture(scope="module")
def boxes(phantom_set):
    return cells.white_cells(phantom_set)


def one(affine: np.ndarray, photo: int = 1) -> pd.DataFrame:
    return pd.DataFrame([[photo, *affine.ravel()]], columns=["photo", *AFFINE])


def box(xmin: int, ymin: int, xmax: int, ymax: int, photo: int = 1) -> pd.DataFrame:
    return pd.DataFrame([[photo, xmin, ymin, xmax, ymax]], columns=["photo", "xmin", "ymin", "xmax", "ymax"])


def test_nothing_of_a_drawn_cell_is_left_and_the_rest_is_untouched(phantom_set, table, boxes):
    # The nucleus is the only dark violet thing in a phantom.
    def violet(pixels):
        return (pixels[..., 2].astype(int) - pixels[..., 1] > 60) & (pixels[..., 1] < 110)

    rows = np.flatnonzero(table.photo.isin(boxes.photo))[::7]
    pixels = np.stack([cv2.imread(str(phantom_set.image_path(i)))[..., ::-1] for i in table.image.iloc[rows]])
    covered = cells.cover_cells(pixels, table.iloc[rows], boxes)
    masks = cells.cell_masks(table.iloc[rows], boxes, (HEIGHT, WIDTH))
    seen = violet(pixels) & masks
    assert seen.any(axis=(1, 2)).mean() > 0.9
    assert (violet(covered) & masks).sum() == 0
    assert (covered[masks] == cells.COVER_COLOUR).all()
    changed = (covered != pixels).any(axis=3)
    discs = changed.sum(axis=(1, 2))
    assert discs.max() < 1.05 * np.pi * (cells.COVER_RADIUS * HEIGHT) ** 2
    np.testing.assert_array_equal(pixels[~changed], covered[~changed])


@given(st.integers(0, 2**32), st.integers(100, 500), st.integers(100, 360), st.integers(40, 120), st.integers(40, 120))
def test_a_mask_is_the_warped_box(seed, x, y, width, height):
    affine = phantoms.draw_affine(np.random.default_rng(seed))
    where = box(x, y, min(x + width, 640), min(y + height, 480))
    photo = np.zeros((480, 640), np.uint8)
    photo[y : y + height, x : x + width] = 255
    expected = cv2.warpAffine(cv2.resize(photo, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), affine, (WIDTH, HEIGHT))
    found = cells.cell_masks(one(affine), where, (HEIGHT, WIDTH))[0]
    # They may differ along the edges, by about a pixel.
    assert (found != (expected > 127)).sum() <= 1.5 * (2 * (width + height) / 2) + 8


def test_all_discs_have_one_size():
    blank = np.zeros((1, 60, 80, 3), np.uint8)
    still = one(np.eye(2, 3))
    areas = {(cells.cover_cells(blank, still, box(320 - s, 240 - s, 320 + s, 240 + s)) > 0).sum() for s in (5, 60, 140)}
    assert len(areas) == 1


def test_several_boxes_are_all_covered_and_a_photo_without_one_is_left_alone():
    table = pd.concat([one(np.eye(2, 3), 1), one(np.eye(2, 3), 2)])
    boxes = pd.concat([box(0, 0, 40, 40), box(600, 440, 640, 480)])
    masks = cells.cell_masks(table, boxes, (HEIGHT, WIDTH))
    assert masks[0, 5, 5] and masks[0, -5, -5] and not masks[0, 120, 160]
    assert not masks[1].any()
    assert list(cells.carry_boxes(table, boxes).row) == [0, 0]


def test_degenerate_boxes_are_not_used(phantom_set):
    every = dataset.read_boxes(phantom_set).query("cell == 'WBC'")
    assert len(cells.white_cells(phantom_set)) == (~every.is_degenerate).sum() > 0
