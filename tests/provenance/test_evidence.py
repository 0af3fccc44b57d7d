import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.drawn import photograph_again
from wbc_lib.data import dataset, phantoms
from wbc_lib.data.images import AFFINE, read_reduced, warp
from wbc_lib.data.phantoms import draw_photo
from wbc_lib.provenance import evidence


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    """Photos 1 and 2 show one field; images of both, the other one being the runner-up."""
    root = tmp_path_factory.mktemp("twins")
    data = dataset.DataSet(root, root, root)
    data.photo_path(1).parent.mkdir()
    first = draw_photo(("NEUTROPHIL",), np.random.default_rng(5)).image
    for number, photo in ((1, first), (2, photograph_again(first, (28, -12), 6))):
        cv2.imwrite(str(data.photo_path(number)), cv2.cvtColor(photo, cv2.COLOR_RGB2BGR))
    rng, rows = np.random.default_rng(7), []
    for i, (photo, rival) in enumerate([(1, 2), (2, 1)] * 3):
        affine = phantoms.draw_affine(rng)
        image = warp(read_reduced(data, photo), affine)
        cv2.imwrite(str(root / f"{i}.jpeg"), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        mirrored = bool(np.linalg.det(affine[:, :2]) < 0)
        rows.append((f"{i}.jpeg", photo, mirrored, *affine.ravel(), 100, 1.0, rival, 60))
    columns = ["image", "photo", "mirrored", *AFFINE, "inliers", "gain", "runner_up", "runner_up_inliers"]
    return data, pd.DataFrame(rows, columns=columns)


def test_of_two_photos_of_a_field_the_pixels_know_the_right_one(twins):
    data, table = twins
    weighed = evidence.compare_runners_up(data, table)
    assert list(weighed.image) == list(table.image)
    assert (weighed.runner_up_residual > 1.3 * weighed.residual).all() and (weighed.residual < 1.5).all()
    assert weighed.common.between(0.3, 0.95).all()
    # Only close rivals are weighed.
    assert len(evidence.compare_runners_up(data, table.head(2).assign(runner_up_inliers=[50, 51]))) == 1


def test_a_photo_makes_its_image_again_and_another_does_not(phantom_set, table):
    def difference(row: pd.Series) -> float:
        image, again = evidence.reproduce(phantom_set, row)
        assert image.shape == again.shape == (240, 320, 3) and again.dtype == np.uint8
        return float(np.abs(image.astype(int) - again).mean())

    row = table.iloc[5].copy()
    right = difference(row)
    assert right < 3
    row.photo = int(table.photo[table.photo != row.photo].iloc[0])
    assert difference(row) > 3 * right
    row = table.iloc[5].copy()
    row.gain *= 1.1
    assert difference(row) > 3 * right


def test_what_keras_does_to_a_saved_image_is_predicted(phantom_set, table):
    row = table.iloc[5]
    _, again = evidence.reproduce(phantom_set, row)
    scaled = again.astype(float) * (255 / again.max())  # as array_to_img does it
    assert evidence.predict_gain(phantom_set, row) == pytest.approx(scaled.max() / again.max(), abs=0.01)


def test_every_error_is_seen_beside_the_truth(phantom_set):
    truth = phantoms.read_truth(phantom_set)
    table = truth.sample(frac=1, random_state=1).reset_index(drop=True)
    perfect = evidence.compare_with_truth(table, truth)
    assert list(perfect.image) == list(table.image)
    assert perfect.photo_is_right.all() and perfect.mirrored_is_right.all() and (perfect.miss == 0).all()
    wrong = table.copy()
    wrong.loc[0, "photo"] += 1
    wrong.loc[1, "mirrored"] ^= True
    wrong.loc[2, "a13"] += 3.0
    wrong.loc[3, "a21"] += 0.01  # turns by a hundredth: the far corners miss by 319 hundredths
    found = evidence.compare_with_truth(wrong, truth)
    assert list(np.flatnonzero(~found.photo_is_right)) == [0]
    assert list(np.flatnonzero(~found.mirrored_is_right)) == [1]
    assert list(np.flatnonzero(found.miss)) == [2, 3]
    assert found.miss[2] == pytest.approx(3) and found.miss[3] == pytest.approx(3.19)


def test_what_is_hidden_is_not_claimed_to_be_found(tiny_set):
    truth = phantoms.read_truth(tiny_set)
    first, second = truth.photo[truth.image.str.startswith("TRAIN/MONOCYTE")].unique()[:2]
    asked = evidence.trace_with_photos_hidden(tiny_set, truth, as_pairs([(first, second, 0)]))
    assert len(asked) == 2 * asked.hidden.nunique() >= 8
    assert not asked.found.isin(asked.hidden).any() and (asked.confidence == 0).all()
    assert set(asked.hidden[asked.has_twin]) == {first}
    assert (truth.set_index("image").loc[asked.image].photo == asked.hidden.to_numpy()).all()


@given(st.lists(st.sets(st.integers(0, 9), min_size=2, max_size=2).map(sorted), max_size=20), st.data())
def test_a_hidden_photo_has_a_twin_that_is_offered(links, data):
    cells = {photo: data.draw(st.sampled_from("NE")) for photo in range(8)}
    pairs = pd.DataFrame(links, columns=["photo", "other"])
    chosen = evidence.choose_hidden(pairs, cells)
    assert len(chosen) == len(set(chosen))
    for hidden in chosen:
        others = [b if a == hidden else a for a, b in links if hidden in (a, b)]
        assert any(o in cells and o not in chosen and cells[o] == cells[hidden] for o in others)
    possible = [(a, b) for a, b in links if a in cells and b in cells and cells[a] == cells[b]]
    assert bool(chosen) == bool(possible)


@pytest.fixture
def labelled(tmp_path):
    """Photos 1 to 6 with one boxed cell each in the middle; what became of them is in the table."""
    data = dataset.DataSet(tmp_path, tmp_path, tmp_path)
    labels = {1: "MONOCYTE", 2: "MONOCYTE", 3: "LYMPHOCYTE", 4: '"MONOCYTE, NEUTROPHIL"', 5: "", 6: "MONOCYTE"}
    data.labels_path.write_text("\n".join([",Image,Category", *(f",{p},{names}" for p, names in labels.items())]))
    box = phantoms.Box("WBC", 200, 150, 400, 330)
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).mkdir()
    for photo in labels:
        cv2.imwrite(str(data.photo_path(photo)), np.full((480, 640, 3), 10 * photo, np.uint8))
        data.annotation_path(photo).write_text(phantoms.boxes_xml((box,)))
    rows = [(1, "TRAIN"), (2, "TEST"), (2, "TEST_SIMPLE"), (3, "TRAIN"), (6, "TRAIN")]
    table = pd.DataFrame({"photo": [p for p, _ in rows], "image": [f"{s}/X/{i}" for i, (_, s) in enumerate(rows)]})
    return data, table


def as_pairs(links: list[tuple[int, int, float]]) -> pd.DataFrame:
    # Photos, and by how many pixels of the reduced photo the stage was moved.
    rows = [(photo, other, 1.0, 0.0, shift, 0.0, 1.0, 0.0) for photo, other, shift in links]
    return pd.DataFrame(rows, columns=["photo", "other", *AFFINE]).astype({"photo": int, "other": int})


def test_pairs_are_described_by_what_became_of_them(labelled):
    data, table = labelled
    pairs = as_pairs([(1, 2, 0), (1, 3, 0), (1, 4, 0), (1, 5, 0), (1, 6, 150)])
    described = evidence.describe_pairs(data, pairs, table)
    across, train, unused = evidence.SIDES[2], evidence.SIDES[0], evidence.SIDES[3]
    assert list(described.side) == [across, train, unused, unused, train]
    assert list(described.other_label) == ["monocyte", "lymphocyte", "monocyte, neutrophil", "", "monocyte"]
    assert list(described.other_went) == ["TEST", "TRAIN", "not used", "not used", "TRAIN"]
    assert list(described.same_cell) == [True, True, True, True, False]
    assert list(described.is_labelled_twice) == [True, True, False, False, False]
    assert list(described.is_torn) == [False, True, False, False, False]
    assert "side" in evidence.describe_pairs(data, as_pairs([]), table)


def test_a_way_back_is_a_descent_and_neighbours_do_not_count():
    there_and_back = pd.DataFrame({"photo": [10, 11, 12, 14, 30, 40, 41], "other": [20, 19, 18, 17, 90, 91, 42]})
    assert evidence.count_descents(there_and_back) == (3, 3)
    same_way = pd.DataFrame({"photo": [10, 11, 11], "other": [20, 21, 23]})
    assert evidence.count_descents(same_way) == (0, 1)
    assert evidence.count_descents(same_way.head(0)) == (0, 0)
