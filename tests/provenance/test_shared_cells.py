import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.provenance import boxes as cells
from wbc_lib.provenance import overlaps, shared_cells, trace
from wbc_lib.provenance.trace import AFFINE

CORNERS = ["xmin", "ymin", "xmax", "ymax"]


def shifted(photo: int, other: int, dx: float, dy: float) -> dict[str, float]:
    """A pair whose other photo shows the field shifted by so many pixels of 320x240."""
    return {"photo": photo, "other": other, **dict(zip(AFFINE, (1, 0, dx, 0, 1, dy), strict=True))}


def boxes(rows: list[tuple[int, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["photo", *CORNERS])


def test_a_cell_that_moved_with_the_field_is_shared_and_one_that_did_not_is_another():
    pairs = pd.DataFrame([shifted(1, 2, 50, -20), shifted(1, 3, 50, -20), shifted(2, 3, 0, 0)])
    # 50 pixels of the reduced photo are 100 of the whole one.
    of_photos = boxes([(1, 100, 200, 180, 290), (2, 200, 160, 280, 250), (3, 100, 200, 180, 290)])
    found = shared_cells.find_shared_cells(pairs, of_photos)
    assert found[["photo", "other"]].to_numpy().tolist() == [[1, 2]]
    assert found.overlap_of_boxes.tolist() == pytest.approx([1])
    assert list(found.index) == [0]


def test_any_box_of_a_photo_may_be_the_shared_one_and_photos_without_boxes_share_none():
    pairs = pd.DataFrame([shifted(1, 2, 0, 0), shifted(2, 3, 0, 0)])
    of_photos = boxes([(1, 0, 0, 9, 9), (1, 100, 100, 200, 200), (2, 300, 300, 400, 400), (2, 120, 100, 220, 200)])
    found = shared_cells.find_shared_cells(pairs, of_photos)
    assert found.other.tolist() == [2]
    assert found.overlap_of_boxes.tolist() == pytest.approx([80 / 120])  # of two squares of 100, 20 apart


def test_no_pairs_share_nothing():
    assert not len(shared_cells.find_shared_cells(pd.DataFrame([shifted(1, 2, 0, 0)]).head(0), boxes([])))


BOX = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(2, 20), st.integers(2, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(BOX, BOX)
def test_boxes_overlap_as_counting_pixels_says(one, other):
    drawn = np.zeros((2, 60, 70), bool)
    for canvas, (xmin, ymin, xmax, ymax) in zip(drawn, (one, other), strict=True):
        canvas[ymin:ymax, xmin:xmax] = True
    expected = (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()
    found = shared_cells.find_shared_cells(pd.DataFrame([shifted(1, 2, 0, 0)]), boxes([(1, *one), (2, *other)]))
    if expected >= shared_cells.SAME_CELL:
        assert found.overlap_of_boxes.tolist() == pytest.approx([expected])
    else:
        assert not len(found)


def test_only_photos_of_test_paired_with_training_have_been_seen():
    table = pd.DataFrame(
        {"image": ["TRAIN/A/1", "TRAIN/A/2", "TEST/A/3", "TEST/A/4", "TEST_SIMPLE/A/5"], "photo": [1, 2, 3, 4, 4]}
    )
    shared = pd.DataFrame({"photo": [1, 1, 3, 4, 4], "other": [2, 3, 4, 9, 2]})
    # 3 with 1, 4 with 2; 3 with 4 are both of TEST, 9 has no copies.
    assert shared_cells.seen_in_training(shared, table) == [3, 4]
    assert shared_cells.seen_in_training(shared.head(1), table) == []


def test_six_cells_of_the_published_test_are_in_train_too(real_set, monkeypatch):
    monkeypatch.delenv("WBC_RESULTS")  # the recorded tables of the project
    found = shared_cells.find_shared_cells(overlaps.read_recorded(), cells.white_cells(real_set))
    # Whatever the threshold: boxes of a pair overlap well or not at all.
    assert found.overlap_of_boxes.min() > shared_cells.SAME_CELL + 0.05
    seen = shared_cells.seen_in_training(found, trace.read_recorded())
    assert seen == [204, 257, 264, 365, 377, 409]
