import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tests.drawn import photograph_again
from wbc_lib import paths
from wbc_lib.data import dataset
from wbc_lib.data.images import AFFINE, affine_maps
from wbc_lib.data.phantoms import draw_photo
from wbc_lib.provenance import boxes as cells
from wbc_lib.provenance import overlaps, registration, trace


def test_planted_near_duplicates_are_found(tmp_path):
    data = dataset.DataSet(tmp_path, tmp_path, tmp_path)
    data.photo_path(0).parent.mkdir()
    drawn = [draw_photo((cell,), np.random.default_rng(seed)).image for seed, cell in enumerate(dataset.CLASSES * 2)]
    drawn.append(photograph_again(drawn[3], (200, -120), 1))
    for number, photo in enumerate(drawn):
        cv2.imwrite(str(data.photo_path(number)), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    found = overlaps.find_pairs(data)
    assert list(zip(found.photo, found.other, strict=True)) == [(3, 8)]
    affine = affine_maps(found)[0]
    assert affine @ [0, 0, 1] == pytest.approx([100, -60], abs=1)
    assert not any(registration.decompose(affine).flips)
    assert found.overlap[0] == pytest.approx(220 / 320 * 180 / 240, abs=0.03)
    for number in range(1, 9):
        data.photo_path(number).unlink()
    assert len(overlaps.find_pairs(data)) == 0


def pairs_of(links: list[tuple[int, int]]) -> pd.DataFrame:
    return pd.DataFrame(links, columns=["photo", "other"], dtype=int)


@given(st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=25))
def test_groups_are_the_connected_components(links):
    field = overlaps.group(list(range(20)), pairs_of(links))
    graph = coo_matrix((np.ones(len(links)), tuple(zip(*links, strict=True)) or ([], [])), shape=(20, 20))
    n, component = connected_components(graph, directed=False)
    assert field.nunique() == n
    assert all(len(set(component[field.to_numpy() == f])) == 1 for f in field)
    assert all(field[field.index == f].iloc[0] == f == field.index[field == f].min() for f in field)
    # A pair with a photo that is not in question links nothing.
    assert list(overlaps.group([1, 3], pairs_of([(1, 2), (2, 3)]))) == [1, 3]


def test_the_published_photos_are_read_from_the_record(real_set, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_RESULTS", str(paths.ROOT / "results"))
    table = overlaps.read_pairs(real_set)
    assert (table.photo < table.other).all() and not table.duplicated(["photo", "other"]).any()
    assert (table.inliers >= overlaps.MIN_SHARED).all()
    # Known to be nearly the same picture.
    assert ((table.photo == 37) & (table.other == 38)).any()


# --- the cells that photos share


def shifted(photo: int, other: int, dx: float, dy: float) -> dict[str, float]:
    """A pair whose other photo shows the field shifted by so many pixels of 320x240."""
    return {"photo": photo, "other": other, **dict(zip(AFFINE, (1, 0, dx, 0, 1, dy), strict=True))}


def boxes(rows: list[tuple[int, ...]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["photo", "xmin", "ymin", "xmax", "ymax"])


def test_a_cell_that_moved_with_the_field_is_shared_and_one_that_did_not_is_another():
    pairs = pd.DataFrame([shifted(1, 2, 50, -20), shifted(1, 3, 50, -20), shifted(2, 3, 0, 0)])
    # 50 pixels of the reduced photo are 100 of the whole one.
    of_photos = boxes([(1, 100, 200, 180, 290), (2, 200, 160, 280, 250), (3, 100, 200, 180, 290)])
    found = overlaps.find_shared_cells(pairs, of_photos)
    assert found[["photo", "other"]].to_numpy().tolist() == [[1, 2]]
    assert found.overlap_of_boxes.tolist() == pytest.approx([1])
    assert list(found.index) == [0]
    # Any box of a photo may be the shared one, and a photo without boxes shares none.
    pairs = pd.DataFrame([shifted(1, 2, 0, 0), shifted(2, 3, 0, 0)])
    of_photos = boxes([(1, 0, 0, 9, 9), (1, 100, 100, 200, 200), (2, 300, 300, 400, 400), (2, 120, 100, 220, 200)])
    found = overlaps.find_shared_cells(pairs, of_photos)
    assert found.other.tolist() == [2]
    assert found.overlap_of_boxes.tolist() == pytest.approx([80 / 120])  # of two squares of 100, 20 apart
    assert not len(overlaps.find_shared_cells(pairs.head(0), boxes([])))


BOX = st.tuples(st.integers(0, 40), st.integers(0, 30), st.integers(2, 20), st.integers(2, 20)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(BOX, BOX)
def test_boxes_overlap_as_counting_pixels_says(one, other):
    drawn = np.zeros((2, 60, 70), bool)
    for canvas, (xmin, ymin, xmax, ymax) in zip(drawn, (one, other), strict=True):
        canvas[ymin:ymax, xmin:xmax] = True
    expected = (drawn[0] & drawn[1]).sum() / (drawn[0] | drawn[1]).sum()
    found = overlaps.find_shared_cells(pd.DataFrame([shifted(1, 2, 0, 0)]), boxes([(1, *one), (2, *other)]))
    if expected >= overlaps.SAME_CELL:
        assert found.overlap_of_boxes.tolist() == pytest.approx([expected])
    else:
        assert not len(found)


def test_only_photos_of_test_paired_with_training_have_been_seen():
    table = pd.DataFrame(
        {"image": ["TRAIN/A/1", "TRAIN/A/2", "TEST/A/3", "TEST/A/4", "TEST_SIMPLE/A/5"], "photo": [1, 2, 3, 4, 4]}
    )
    shared = pd.DataFrame({"photo": [1, 1, 3, 4, 4], "other": [2, 3, 4, 9, 2]})
    # 3 with 1, 4 with 2; 3 with 4 are both of TEST, 9 has no copies.
    assert overlaps.seen_in_training(shared, table) == [3, 4]
    assert overlaps.seen_in_training(shared.head(1), table) == []


def test_six_cells_of_the_published_test_are_in_train_too(real_set, monkeypatch):
    monkeypatch.delenv("WBC_RESULTS")  # the recorded tables of the project
    found = overlaps.find_shared_cells(overlaps.read_recorded(), cells.white_cells(real_set))
    # Whatever the threshold: boxes of a pair overlap well or not at all.
    assert found.overlap_of_boxes.min() > overlaps.SAME_CELL + 0.05
    seen = overlaps.seen_in_training(found, trace.read_recorded())
    assert seen == [204, 257, 264, 365, 377, 409]
