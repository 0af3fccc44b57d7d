import numpy as np
import pandas as pd
import pytest

from tests.drawn import draw_field
from wbc_lib.data.images import to_lab
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import background_colour
from wbc_lib.prediction import changes, refusal
from wbc_lib.prediction.changes import Target

YELLOW = Target("yellow", np.array([70, 5, 30]), np.array([10, 8, 12]), np.array([80, -5, 40]), 4.0)


@pytest.fixture(scope="module")
def seen():
    table = pd.DataFrame({"picture": ["a", "b"], "kind": "monocyte", "cell": "MONOCYTE", "held_back": False})
    drawn = {"a": draw_field(60, [(300, 240)], seed=1), "b": draw_field(60, [(200, 200)], seed=2)}
    return changes.look_changed(PictureSet("test-photos", table, drawn.__getitem__, "0", 60.0), [YELLOW])


def under(seen, kind, amount):
    rows = (seen.table.change == kind) & (seen.table.amount == amount)
    return seen.windows[rows], np.stack([refusal.colour_numbers(c) for c in seen.colours[rows]])


def test_each_photo_is_seen_under_each_change(seen):
    assert len(seen.table) == 2 * len(changes.list_changes([YELLOW]))
    assert set(seen.table.change) == set(changes.KINDS)
    assert not seen.table.duplicated(["picture", "change", "towards", "amount"]).any()


def test_a_change_of_stain_ends_at_the_colours_of_the_other_set(seen):
    _, start = under(seen, "scale", 1.0)
    distances = []
    wanted = [i for i, name in enumerate(refusal.NUMBERS) if name.endswith("mean")]
    for share in (0.25, 0.5, 0.75, 1.0):
        _, numbers = under(seen, "stain", share)
        distances.append(np.abs(numbers[:, wanted] - YELLOW.mean).max())
    assert np.abs(start[:, wanted] - YELLOW.mean).max() > distances[0] > distances[1] > distances[2] > distances[3]
    assert distances[3] < 3


def test_a_change_of_background_leaves_the_nucleus(seen):
    before, _ = under(seen, "scale", 1.0)
    after, _ = under(seen, "background", 1.0)
    for one, other in zip(before, after, strict=True):
        assert np.abs(one[30, 40].astype(int) - other[30, 40]).max() <= 2
        moved = to_lab(background_colour(other)[None, None])[0, 0]
        assert moved == pytest.approx(YELLOW.background, abs=4)


def test_a_smaller_field_is_filled_outside_and_a_larger_scale_shows_the_middle(seen):
    before, _ = under(seen, "scale", 1.0)
    less, _ = under(seen, "field", 4.0)
    for one, other in zip(before, less, strict=True):
        assert np.array_equal(one[20:40, 30:50], other[20:40, 30:50])
        assert len(np.unique(other[:, :10].reshape(-1, 3), axis=0)) == 1
    larger, _ = under(seen, "scale", 2.0)
    violet = [(w[..., 2].astype(int) - w[..., 1] > 80).sum(axis=(1, 2)) for w in (before, larger)]
    assert violet[1] / violet[0] == pytest.approx(4, rel=0.15)


def test_a_blur_takes_detail_away(seen):
    sharp = [under(seen, "blur", sd)[0].std(axis=(1, 2)).mean() for sd in (0.02, 0.08, 0.16)]
    assert sharp[0] > sharp[1] > sharp[2]
