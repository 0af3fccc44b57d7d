import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from tests.conftest import photographed_again
from wbc_lib import paths
from wbc_lib.data import dataset
from wbc_lib.data.phantoms import draw_photo
from wbc_lib.errors import BadDataError
from wbc_lib.provenance import overlaps, registration, trace


def test_planted_near_duplicates_are_found(tmp_path):
    data = dataset.DataSet(tmp_path, tmp_path, tmp_path)
    data.photo_path(0).parent.mkdir()
    drawn = [draw_photo((cell,), np.random.default_rng(seed)).image for seed, cell in enumerate(dataset.CLASSES * 2)]
    drawn.append(photographed_again(drawn[3], (200, -120), 1))
    for number, photo in enumerate(drawn):
        cv2.imwrite(str(data.photo_path(number)), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    found = overlaps.find_pairs(data)
    assert list(zip(found.photo, found.other, strict=True)) == [(3, 8)]
    affine = found[trace.AFFINE].to_numpy().reshape(2, 3)
    assert affine @ [0, 0, 1] == pytest.approx([100, -60], abs=1)
    assert not registration.decompose(affine).mirrored
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


def test_a_pair_with_a_photo_that_is_not_in_question_links_nothing():
    assert list(overlaps.group([1, 3], pairs_of([(1, 2), (2, 3)]))) == [1, 3]


def test_pairs_are_found_once_and_then_read_back(phantom_set, monkeypatch):
    first = overlaps.read_pairs(phantom_set)
    monkeypatch.setattr(overlaps, "find_pairs", None)
    pd.testing.assert_frame_equal(overlaps.read_pairs(phantom_set), first)


def test_the_published_photos_are_read_from_the_record(real_set, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_RESULTS", str(paths.ROOT / "results"))
    table = overlaps.read_pairs(real_set)
    assert (table.photo < table.other).all() and not table.duplicated(["photo", "other"]).any()
    assert (table.inliers >= overlaps.MIN_SHARED).all()
    # Known to be nearly the same picture.
    assert ((table.photo == 37) & (table.other == 38)).any()


def test_a_damaged_record_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    table = pd.DataFrame([[1, 2, *np.eye(2, 3).ravel(), 9, 9, 0.5, 1.0]], columns=list(overlaps._COLUMNS))
    path = overlaps.write_recorded(table)
    pd.testing.assert_frame_equal(overlaps._parse(path), table)
    path.write_text(path.read_text().replace("other", "others"))
    with pytest.raises(BadDataError, match="not a table of pairs"):
        overlaps._parse(path)
