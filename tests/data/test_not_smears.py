import importlib.util

import numpy as np
import pytest

from wbc_lib.data import not_smears
from wbc_lib.errors import BadDataError, DataNotFoundError


def test_what_is_drawn_is_given_by_the_seed_and_no_two_are_alike():
    drawn, again, other = not_smears.draw(0), not_smears.draw(0), not_smears.draw(1)
    assert {d.kind for d in drawn} == set(not_smears.DRAWN)
    for one, same in zip(drawn, again, strict=True):
        assert one.picture.shape == (*not_smears.SIZE, 3) and one.picture.dtype == np.uint8
        assert np.array_equal(one.picture, same.picture)
    pictures = {d.picture.tobytes() for d in (*drawn, *other)}
    assert len(pictures) == 2 * len(drawn) == 2 * len({d.name for d in drawn})


def test_crops_of_what_scikit_learn_ships_are_of_its_pictures():
    samples = not_smears._read_samples("sklearn", "datasets/images", not_smears._LEARN_FILES, not_smears._LEARN_SHA256)
    assert sorted(samples) == ["china.jpg", "flower.jpg"]
    rng = np.random.default_rng(0)
    crops = [not_smears._crop(samples["china.jpg"], rng) for _ in range(5)]
    assert len({c.tobytes() for c in crops}) == 5 and all(c.shape == (240, 320, 3) for c in crops)


def test_other_pictures_than_those_recorded_with_and_a_missing_package_are_said(monkeypatch):
    with pytest.raises(BadDataError, match="not hold the pictures of the version"):
        not_smears._read_samples("sklearn", "datasets/images", not_smears._LEARN_FILES, "0" * 64)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataNotFoundError, match="pip install scikit-image"):
        not_smears.make()


@pytest.mark.skipif(importlib.util.find_spec("skimage") is None, reason="needs scikit-image's pictures")
def test_there_are_two_hundred_of_them():
    made = not_smears.make()
    assert len(made) == len({m.picture.tobytes() for m in made}) == 200
