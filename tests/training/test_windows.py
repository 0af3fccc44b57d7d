import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn import GROUND, VIOLET, draw_field
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import CLOSE
from wbc_lib.training import windows
from wbc_lib.training.windows import BARCELONA, IMAGES, KEPT, PHOTOS, SIDE


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Two pictures with a cell, off the middle, and one with a piece of a nucleus that is too small for one."""
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    pictures = {f"{x}": draw_field(40, [(x, 120)], size=(240, 320)) for x in (100, 230)}
    pictures["none"] = draw_field(40, [], size=(240, 320))
    cv2.circle(pictures["none"], (300, 60), 8, VIOLET, -1)
    read = []

    def open_picture(name):
        read.append(name)
        return pictures[name]

    table = pd.DataFrame({"picture": list(pictures), "kind": "", "cell": "", "held_back": False})
    return PictureSet("drawn", table, open_picture, "0" * 64), pictures, read


def test_a_window_is_cut_around_each_cell_once_or_around_what_is_most_like_one(drawn):
    pictures, by_name, read = drawn
    cut = windows.load_windows(pictures, 40)
    assert cut.shape == (3, KEPT, KEPT, 3)
    middle = cut[:, KEPT // 2 - 2 : KEPT // 2 + 2, KEPT // 2 - 2 : KEPT // 2 + 2].mean(axis=(1, 2))
    assert np.abs(middle - VIOLET).max() < 25
    np.testing.assert_array_equal(windows.load_windows(pictures, 40), cut)
    assert sorted(read) == sorted(by_name)  # the second time they come from the cache
    seen = CLOSE.cut(by_name["100"], (100, 120), 40)
    assert np.abs(windows.take_middle(cut)[0].astype(int) - seen).mean() < 4


@given(seed=st.integers(0, 2**32 - 1))
def test_a_varied_window_still_shows_its_cell_near_the_middle(seed):
    window = np.full((KEPT, KEPT, 3), GROUND, np.uint8)
    cv2.circle(window, (KEPT // 2, KEPT // 2), 14, VIOLET, -1)
    varied = windows.vary(window, np.random.default_rng(seed))
    assert varied.shape == (SIDE, SIDE, 3) and varied.dtype == np.uint8
    np.testing.assert_array_equal(varied, windows.vary(window, np.random.default_rng(seed)))
    violet = varied[..., 2].astype(int) - varied[..., 1]
    rows, columns = np.nonzero(violet > (violet.min() + violet.max()) / 2)
    assert np.hypot(rows.mean() - SIDE / 2, columns.mean() - SIDE / 2) < 0.13 * SIDE


def test_each_source_has_its_share_and_its_classes_evenly():
    rng = np.random.default_rng(0)
    sources = np.repeat([PHOTOS, IMAGES, BARCELONA], [100, 900, 500])
    labels = np.concatenate([rng.integers(1, 5, 1000), rng.choice([0, 1, 2, 3, 4], 500, p=[0.8] + [0.05] * 4)])
    rows = windows.choose_rows(labels.astype(np.int32), sources, 20_000, rng)
    shares = np.bincount(sources[rows]) / len(rows)
    np.testing.assert_allclose(shares, [0.375, 0.375, 0.25], atol=0.02)
    for source, n in ((PHOTOS, 4), (IMAGES, 4), (BARCELONA, 5)):
        counts = np.bincount(labels[rows][sources[rows] == source], minlength=5)
        np.testing.assert_allclose(counts[counts > 0] / counts.sum(), 1 / n, atol=0.03)
    alone = windows.choose_rows(labels.astype(np.int32)[sources == BARCELONA], sources[sources == BARCELONA], 50, rng)
    assert len(alone) == 50 and alone.max() < 500
