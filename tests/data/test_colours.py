import numpy as np
import pytest

from wbc_lib.data import colours


def test_there_and_back_again():
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (20, 30, 3)).astype(np.uint8)
    assert np.abs(colours.from_lab(colours.to_lab(picture)).astype(int) - picture).max() <= 1
    assert colours.from_lab(np.full((1, 1, 3), (150, 0, 0), np.float32)).max() == 255


def test_a_matched_picture_has_the_mean_and_the_spread_that_it_was_given():
    rng = np.random.default_rng(0)
    picture = np.clip(rng.normal((150, 120, 160), 12, (60, 60, 3)), 0, 255).astype(np.uint8)
    lab = colours.to_lab(picture).reshape(-1, 3)
    wanted = ((70, 10, -8), (6, 4, 5))
    matched = colours.to_lab(colours.match(picture, lab.mean(axis=0), lab.std(axis=0), *wanted)).reshape(-1, 3)
    assert matched.mean(axis=0) == pytest.approx(wanted[0], abs=0.3)
    assert matched.std(axis=0) == pytest.approx(wanted[1], abs=0.3)
    same = colours.match(picture, lab.mean(axis=0), lab.std(axis=0), lab.mean(axis=0), lab.std(axis=0))
    assert np.abs(same.astype(int) - picture).max() <= 1


def test_one_colour_stays_one_colour():
    plain = np.full((5, 5, 3), 90, np.uint8)
    lab = colours.to_lab(plain).reshape(-1, 3)
    matched = colours.match(plain, lab.mean(axis=0), lab.std(axis=0), (50, 0, 0), (5, 5, 5))
    assert len(np.unique(matched.reshape(-1, 3), axis=0)) == 1
