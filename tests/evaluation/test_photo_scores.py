from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.data import dataset
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import photo_scores, scores
from wbc_lib.evaluation.photo_scores import SCORES, SHARES, HoldOut


@dataclass(frozen=True)
class Scored:
    """As much of a run as is scored: images, labels and predictions of TEST."""

    images: np.ndarray
    true: np.ndarray
    guessed: np.ndarray

    def names(self, part: str) -> np.ndarray:
        assert part == "test"
        return self.images

    def labels(self, part: str) -> np.ndarray:
        return self.true

    def predicted(self, part: str) -> np.ndarray:
        return self.guessed


#: Photos 7 and 9 are neutrophils with three and two copies, 8 a monocyte with four.
PHOTO = np.array([7, 7, 7, 8, 8, 8, 8, 9, 9])
LABELS = np.array([1, 1, 1, 3, 3, 3, 3, 1, 1])
NAMES = np.array([f"TEST/X/{i}.jpeg" for i in range(9)])
TABLE = pd.DataFrame({"image": NAMES[::-1], "photo": PHOTO[::-1]})
FIRST = Scored(NAMES, LABELS, np.array([1, 1, 1, 1, 1, 1, 3, 0, 2]))
SECOND = Scored(NAMES, LABELS, np.array([1, 1, 2, 1, 1, 3, 3, 1, 2]))
FOUND = photo_scores.count_photos([FIRST, SECOND], TABLE)


def test_every_photo_has_its_own_matrix_in_every_run():
    assert FOUND.photos.tolist() == [7, 8, 9]
    for i, run in enumerate((FIRST, SECOND)):
        for j, photo in enumerate((7, 8, 9)):
            own = photo == PHOTO
            np.testing.assert_array_equal(FOUND.counts[i, j], scores.confusion(LABELS[own], run.guessed[own]))
    assert FOUND.copies.tolist() == [3, 4, 2]
    assert FOUND.right.tolist() == [2.5, 1.5, 0.5]
    assert FOUND.cells.tolist() == ["NEUTROPHIL", "MONOCYTE", "NEUTROPHIL"]
    np.testing.assert_allclose(FOUND.right_by_run, [[1, 1 / 4, 0], [2 / 3, 2 / 4, 1 / 2]])
    np.testing.assert_array_equal(FOUND.of_run(1).counts[0], FOUND.counts[1])


def test_a_photo_is_described_by_what_it_costs():
    table = photo_scores.tabulate_photos(FOUND)
    assert table.cell.tolist() == ["NEUTROPHIL", "MONOCYTE", "NEUTROPHIL"]
    np.testing.assert_allclose(table.right, [2.5 / 3, 1.5 / 4, 0.5 / 2])
    # Photo 9 was taken once for none and twice for an eosinophil.
    assert table.taken_for.tolist() == ["EOSINOPHIL", "NEUTROPHIL", "EOSINOPHIL"]
    np.testing.assert_allclose(table.share, [3 / 9, 4 / 9, 2 / 9])
    np.testing.assert_allclose(table.influence, [2 / 6 - 4.5 / 9, 3 / 5 - 4.5 / 9, 4 / 7 - 4.5 / 9])
    assert photo_scores.most_decisive(table, 2).index.tolist() == [7, 8]


def test_a_photo_that_is_all_right_is_taken_for_nothing():
    perfect = Scored(NAMES, LABELS, LABELS)
    found = photo_scores.count_photos([perfect], TABLE)
    assert photo_scores.tabulate_photos(found).taken_for.tolist() == ["", "", ""]
    assert photo_scores.write_decisive(photo_scores.tabulate_photos(found), None)["taken for"].tolist() == ["–"] * 3


def test_the_classes_of_test_are_counted():
    table = photo_scores.tabulate_classes(FOUND)
    assert table.index.tolist() == ["Neutrophil", "Monocyte"]
    assert table.loc["Neutrophil"].tolist() == [2, 5, 2, 3, 3 / 9]
    assert table.loc["Monocyte"].tolist() == [1, 4, 4, 4, 4 / 9]


HOLD_OUTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 4)), min_size=2, max_size=40).map(
    lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True))
)


@given(HOLD_OUTS)
def test_leaving_out_each_photo_is_scoring_the_rest(examples):
    photo, label, guess = examples
    label = label[np.unique(photo, return_index=True)[1]][np.unique(photo, return_inverse=True)[1]]  # one per photo
    names = np.array([str(i) for i in range(len(photo))])
    found = photo_scores.count_photos([Scored(names, label, guess)], pd.DataFrame({"image": names, "photo": photo}))
    if len(found.photos) < 2:
        return
    table = photo_scores.leave_each_out(found)
    rest = {p: (label[photo != p] == guess[photo != p]).mean() for p in found.photos}
    assert table.lowest.accuracy == pytest.approx(min(rest.values()))
    assert table.highest.accuracy == pytest.approx(max(rest.values()))
    assert rest[table.without_lowest.accuracy] == pytest.approx(min(rest.values()))
    assert rest[table.without_highest.accuracy] == pytest.approx(max(rest.values()))
    influence = photo_scores.tabulate_photos(found).influence
    np.testing.assert_allclose([rest[p] - (label == guess).mean() for p in found.photos], influence, atol=1e-12)


def test_recall_without_the_only_photo_of_a_class_is_not_asked_for():
    table = photo_scores.leave_each_out(FOUND)
    assert table.loc["recall, monocyte", ["lowest", "highest"]].tolist() == [1.5 / 4, 1.5 / 4]
    assert table.loc["recall, neutrophil", ["lowest", "highest"]].tolist() == [0.5 / 2, 2.5 / 3]
    assert table.loc["recall, neutrophil", ["without_lowest", "without_highest"]].tolist() == [7, 9]
    written = photo_scores.write_left_out(FOUND)
    assert written.loc["Recall, neutrophil"].tolist() == ["60.0%", "25.0% without 7", "83.3% without 9"]


def test_a_class_with_no_photo_has_no_range():
    table = photo_scores.leave_each_out(FOUND)
    assert "recall, lymphocyte" not in table.index


def test_copies_vote_over_all_runs():
    # Photo 8: five votes for neutrophil against three; photo 9: two for eosinophil, one each for neutrophil and none.
    assert photo_scores.vote(FOUND).to_dict() == {7: "NEUTROPHIL", 8: "NEUTROPHIL", 9: "EOSINOPHIL"}


def test_decisive_photos_are_written_beside_other_networks():
    table = photo_scores.write_decisive(photo_scores.tabulate_photos(FOUND).loc[[8, 7]], FOUND)
    assert table.index.tolist() == ["photo 8", "photo 7"]
    assert table["right"].tolist() == ["38%", "83%"]
    assert table["other networks"].tolist() == ["25% to 50%, median 38%", "67% to 100%, median 83%"]
    assert table["accuracy without it"].tolist() == ["+10.0", "-16.7"]


def test_photos_are_drawn_within_their_classes_or_regardless_of_them():
    within, plain = FOUND.weights(resamples=400), FOUND.weights(by_class=False, resamples=400)
    assert (within[:, 1] == 1).all() and (within[:, [0, 2]].sum(axis=1) == 2).all()
    assert (plain.sum(axis=1) == 3).all() and plain[:, 1].max() > 1


def test_some_photos_can_be_taken_alone():
    assert FOUND.of("NEUTROPHIL").photos.tolist() == [7, 9]
    assert FOUND.only(np.array([False, True, False])).copies.tolist() == [4]
    assert isinstance(FOUND.of("LYMPHOCYTE"), HoldOut) and not len(FOUND.of("LYMPHOCYTE").photos)


def test_runs_on_other_images_or_untraced_ones_are_refused():
    other = Scored(NAMES[::-1], LABELS, LABELS)
    with pytest.raises(ValueError, match="different images"):
        photo_scores.count_photos([FIRST, other], TABLE)
    with pytest.raises(ValueError, match="lacks images"):
        photo_scores.count_photos([FIRST], TABLE.iloc[1:])


def test_every_score_has_a_name_and_shares_are_among_them():
    matrix = np.arange(1, 21).reshape(4, 5)
    assert set(SHARES) < set(SCORES)
    report = scores.report(matrix)
    for cell in CLASSES:
        for score in ("recall", "precision"):
            assert float(SCORES[f"{score}, {cell.lower()}"](matrix)) == pytest.approx(report[score][cell])
    assert float(SCORES["macro-F1"](matrix)) == pytest.approx(report.f1.mean())
    assert float(SCORES["accuracy"](matrix)) == pytest.approx(scores.accuracy(matrix))


def test_pictures_come_with_the_box_of_the_first_white_cell(phantom_set):
    index = dataset.index_photos(phantom_set).query("has_photo and kind == 'single'")
    boxes = dataset.read_boxes(phantom_set).query("cell == 'WBC' and not is_degenerate")
    boxed, bare = boxes.photo.iloc[0], next(p for p in index.index if p not in set(boxes.photo))
    rows = pd.DataFrame({"cell": ["MONOCYTE"] * 2, "right": [0.5, 1.0]}, index=[boxed, bare])
    (title, image, box), (_, _, none) = photo_scores.read_pictures(phantom_set, rows)
    assert title == f"{boxed}: monocyte, 50% right"
    assert image.shape == (480, 640, 3)
    assert box == tuple(boxes.iloc[0][["xmin", "ymin", "xmax", "ymax"]])
    assert none is None


def test_doubts_about_labels_are_about_photos_that_are_described():
    doubted = photo_scores.find_doubted(photo_scores.SEEN)
    assert doubted and set(doubted) < set(photo_scores.SEEN)
    assert photo_scores.find_doubted([-1]) == []
