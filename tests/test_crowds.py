import numpy as np
import pytest

from wbc_lib.crowds import Crowd, draw_crowd, enlarge, nearest_distances, read_crowd, write_crowd
from wbc_lib.registration import build_index, vote

PER_VIEW = 32


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return draw_crowd(24, 6, PER_VIEW)


def test_images_find_their_photo_among_many_made_up_ones(crowd):
    whole = enlarge(crowd, 500, PER_VIEW)
    index = build_index(whole.photos)
    ranks = [vote(index, image).reshape(-1, 2).max(axis=1).argmax() for image in whole.images]
    assert ranks == list(range(6))


def test_made_up_features_are_descriptors_like_any_other_and_no_two_the_same(crowd):
    made = np.concatenate([f.descriptors for f in enlarge(crowd, 200, PER_VIEW).photos[48:]])
    lengths = np.linalg.norm(made.astype(float), axis=1)
    assert made.dtype == np.uint8
    assert np.abs(lengths - 512).max() < 40
    assert len(np.unique(made, axis=0)) > 0.98 * len(made)


def test_made_up_photos_lie_as_far_from_others_as_drawn_ones(crowd):
    drawn = np.median(nearest_distances(crowd))
    both = np.median(nearest_distances(enlarge(crowd, 48, PER_VIEW)))
    assert 0.6 < both / drawn < 1.3


def test_nearest_distances_are_those_of_a_search_by_hand(crowd):
    views = [v.descriptors.astype(float) for v in crowd.photos[::2]]
    expected = sorted(
        min(np.linalg.norm(other - one, axis=1).min() for j, other in enumerate(views) if j != i)
        for i, own in enumerate(views)
        for one in own
    )
    found = np.sort(nearest_distances(crowd, n=10**6))
    assert np.allclose(found, expected, atol=0.1)


def test_a_crowd_is_read_back_as_written(crowd, tmp_path):
    write_crowd(crowd, tmp_path / "crowd.npz")
    again = read_crowd(tmp_path / "crowd.npz")
    for kind in ("photos", "images"):
        pairs = list(zip(getattr(crowd, kind), getattr(again, kind), strict=True))
        assert all(np.array_equal(a.descriptors, b.descriptors) for a, b in pairs)
        assert all(np.array_equal(a.points, b.points) for a, b in pairs)


def test_the_sizes_are_those_asked_for(crowd):
    assert (len(crowd.photos), len(crowd.images)) == (48, 6)
    assert {len(v) for v in crowd.photos} == {PER_VIEW}
    assert len(enlarge(crowd, 10, PER_VIEW).photos) == 20
    assert len(enlarge(crowd, 100, PER_VIEW).photos) == 200
