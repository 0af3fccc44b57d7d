"""Accuracy by image and by photo on TEST."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import holdout, intervals, scores
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.holdout import BY_IMAGE, FEW, SCORES, WITHIN, HoldOut
from wbc_lib.training import paper

#: Photos 7 and 9 are neutrophils with three and two copies, 8 a monocyte with four.
PHOTO = np.array([7, 7, 7, 8, 8, 8, 8, 9, 9])
LABELS = np.array([1, 1, 1, 3, 3, 3, 3, 1, 1])
FIRST = Predictions(LABELS, np.eye(5)[[1, 1, 1, 1, 1, 1, 3, 0, 2]], PHOTO)
SECOND = Predictions(LABELS, np.eye(5)[[1, 1, 2, 1, 1, 3, 3, 1, 2]], PHOTO)
FOUND = holdout.count_by_photo([FIRST, SECOND])


def test_every_photo_has_its_own_matrix_in_every_run():
    assert FOUND.photos.tolist() == [7, 8, 9]
    for i, run in enumerate((FIRST, SECOND)):
        for j, photo in enumerate((7, 8, 9)):
            own = photo == PHOTO
            np.testing.assert_array_equal(FOUND.counts[i, j], scores.confusion(LABELS[own], run.predicted[own]))
    np.testing.assert_allclose(FOUND.right_by_run, [[1, 1 / 4, 0], [2 / 3, 2 / 4, 1 / 2]])
    # Photo 8: five votes for neutrophil against three; photo 9: two for eosinophil, one each for neutrophil and none.
    assert FOUND.votes.tolist() == ["NEUTROPHIL", "NEUTROPHIL", "EOSINOPHIL"]
    weights = FOUND.weights(400)  # photos are drawn within their classes
    assert (weights[:, 1] == 1).all() and (weights[:, [0, 2]].sum(axis=1) == 2).all()


def test_a_photo_is_described_by_what_it_costs():
    table = holdout.tabulate_photos(FOUND)
    assert table.copies.tolist() == [3, 4, 2]
    assert table.cell.tolist() == ["NEUTROPHIL", "MONOCYTE", "NEUTROPHIL"]
    np.testing.assert_allclose(table.right, [2.5 / 3, 1.5 / 4, 0.5 / 2])
    # Photo 9 was taken once for none and twice for an eosinophil; where all is right, there is nothing to take it for.
    assert table.taken_for.tolist() == ["EOSINOPHIL", "NEUTROPHIL", "EOSINOPHIL"]
    np.testing.assert_allclose(table.share, [3 / 9, 4 / 9, 2 / 9])
    np.testing.assert_allclose(table.influence, [2 / 6 - 4.5 / 9, 3 / 5 - 4.5 / 9, 4 / 7 - 4.5 / 9])
    perfect = holdout.count_by_photo([Predictions(LABELS, np.eye(5)[LABELS], PHOTO)])
    assert holdout.tabulate_photos(perfect).taken_for.tolist() == ["", "", ""]


def test_the_classes_of_test_are_counted():
    table = holdout.tabulate_classes(FOUND)
    assert table.index.tolist() == ["Neutrophil", "Monocyte"]
    assert table.loc["Neutrophil"].tolist() == [2, 5, 2, 3, 1]
    assert table.loc["Monocyte"].tolist()[:4] == [1, 4, 4, 4]  # one photo tells no variance
    of_small = holdout.tabulate_classes(SMALL)["share of the variance"]
    variance = intervals.variance_by_stratum(SMALL.right, SMALL.copies, SMALL.cells)
    assert of_small["Eosinophil"] == pytest.approx(variance["EOSINOPHIL"] / variance.sum())


HOLD_OUTS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 4), st.integers(0, 4)), min_size=2, max_size=40).map(
    lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True))
)


@given(HOLD_OUTS)
def test_leaving_out_each_photo_is_scoring_the_rest(examples):
    photo, label, guess = examples
    label = label[np.unique(photo, return_index=True)[1]][np.unique(photo, return_inverse=True)[1]]  # one per photo
    found = holdout.count_by_photo([Predictions(label, np.eye(5)[guess], photo)])
    if len(found.photos) < 2:
        return
    table = holdout.leave_each_out(found)
    rest = {p: (label[photo != p] == guess[photo != p]).mean() for p in found.photos}
    assert table.lowest.accuracy == pytest.approx(min(rest.values()))
    assert table.highest.accuracy == pytest.approx(max(rest.values()))
    assert rest[table.without_lowest.accuracy] == pytest.approx(min(rest.values()))
    assert rest[table.without_highest.accuracy] == pytest.approx(max(rest.values()))
    influence = holdout.tabulate_photos(found).influence
    np.testing.assert_allclose([rest[p] - (label == guess).mean() for p in found.photos], influence, atol=1e-12)


def test_another_label_moves_a_photos_answers_to_another_row_and_leaves_the_rest():
    changed = FOUND.relabel(8, "NEUTROPHIL")
    assert changed.cells.tolist() == ["NEUTROPHIL"] * 3
    np.testing.assert_array_equal(changed.counts[:, 1, 0], FOUND.counts[:, 1, 2])
    np.testing.assert_array_equal(changed.counts[:, [0, 2]], FOUND.counts[:, [0, 2]])
    assert changed.counts.sum() == FOUND.counts.sum()
    assert scores.accuracy(changed.matrix) == pytest.approx((2.5 + 2.5 + 0.5) / 9)  # five of eight votes of photo 8


def test_recall_without_the_only_photo_of_a_class_is_not_asked_for():
    table = holdout.leave_each_out(FOUND)
    assert table.loc["recall, monocyte", ["lowest", "highest"]].tolist() == [1.5 / 4, 1.5 / 4]
    assert table.loc["recall, neutrophil"].tolist() == [3 / 5, 0.5 / 2, 7, 2.5 / 3, 9]
    assert "recall, lymphocyte" not in table.index


def test_runs_on_other_images_are_refused():
    with pytest.raises(ValueError, match="different images"):
        holdout.count_by_photo([FIRST, SECOND.take(PHOTO > 7)])


def make_holdout(copies: dict[str, list[int]], right: dict[str, list[int]]) -> HoldOut:
    """Photos of each class with so many copies, so many of them right; wrong ones go to the next class."""
    counts = []
    for row, cell in enumerate(CLASSES):
        for n, k in zip(copies.get(cell, []), right.get(cell, []), strict=True):
            own = np.zeros((4, 5), int)
            own[row, row], own[row, (row + 1) % 4] = k, n - k
            counts.append(own)
    return HoldOut(np.arange(len(counts)) + 10, np.array([counts]))


#: The published TEST: 48, 13, 4 and 6 photos, their copies as even as they can be.
SIZES = {
    cell: [total // n + (i < total % n) for i in range(n)]
    for cell, total, n in zip(CLASSES, (624, 623, 620, 620), (48, 13, 4, 6), strict=True)
}
#: Of every third photo no copy is right.
PUBLISHED = make_holdout(SIZES, {cell: [n * (i % 3 > 0) for i, n in enumerate(sizes)] for cell, sizes in SIZES.items()})
SMALL = make_holdout(
    {"NEUTROPHIL": [4, 4, 4], "EOSINOPHIL": [3, 5], "MONOCYTE": [6], "LYMPHOCYTE": [2, 2]},
    {"NEUTROPHIL": [4, 0, 2], "EOSINOPHIL": [3, 1], "MONOCYTE": [3], "LYMPHOCYTE": [2, 2]},
)


def test_errors_in_whole_photos_make_the_paper_less_sure_than_images_do():
    judged = holdout.bound_matrix(paper.FIGURE_3_MATRIX, PUBLISHED)
    widths = {way: table.high - table.low for way, table in judged.items()}
    for score in list(SCORES)[:4]:  # the lymphocytes' one error leaves nothing to fill
        assert widths[BY_IMAGE][score] < widths["errors in whole photos"][score] / 3
    for table in judged.values():
        assert table.estimate.accuracy == pytest.approx(scores.accuracy(paper.FIGURE_3_MATRIX))
    np.testing.assert_allclose(
        judged[BY_IMAGE].loc["accuracy", ["low", "high"]].astype(float),
        proportion_confint(np.trace(paper.FIGURE_3_MATRIX), 2487, method="wilson"),
    )
    # As clustered as ours, it has the exact interval of as many images as ours are worth.
    own, share = PUBLISHED.of("MONOCYTE"), 481 / 620
    size = intervals.size_for_few_groups(own.right, own.copies)
    np.testing.assert_allclose(
        judged["as clustered as ours"].loc["recall, monocyte"].astype(float),
        [share, *proportion_confint(share * size, size, method="beta")],
    )


def test_a_matrix_of_other_images_is_judged_by_images_alone():
    assert holdout.pack_errors(paper.FIGURE_3_MATRIX, SMALL) is None
    assert list(holdout.bound_matrix(paper.FIGURE_3_MATRIX, SMALL)) == [BY_IMAGE]


@st.composite
def matrices_of_small(draw):
    rows = []
    for cell in CLASSES:
        n = int(SMALL.copies[SMALL.cells == cell].sum())
        cuts = sorted(draw(st.lists(st.integers(0, n), min_size=4, max_size=4)))
        rows.append(np.diff([0, *cuts, n]))
    return np.array(rows)


@given(matrices_of_small())
def test_packed_predictions_add_up_to_the_matrix_and_to_each_photos_copies(matrix):
    packed = holdout.pack_errors(matrix, SMALL)
    np.testing.assert_array_equal(packed.matrix, matrix)
    np.testing.assert_array_equal(packed.copies, SMALL.copies)
    np.testing.assert_array_equal(packed.cells, SMALL.cells)
    for cell in CLASSES:
        own = SMALL.cells == cell
        assert ((packed.right[own] > 0) & (packed.right[own] < SMALL.copies[own])).sum() <= 1


def test_each_interval_is_of_the_way_that_it_says():
    found = holdout.compute_intervals(SMALL, 3000)
    assert list(found) == [FEW, WITHIN, BY_IMAGE]
    expected = {
        (WITHIN, score): vars(intervals.bootstrap(SMALL.mean, SMALL.weights(3000), statistic)).values()
        for score, statistic in SCORES.items()
    }
    expected[BY_IMAGE, "accuracy"] = (17 / 30, *proportion_confint(17, 30, method="wilson"))
    expected[BY_IMAGE, "recall, eosinophil"] = (4 / 8, *proportion_confint(4, 8, method="wilson"))
    expected[FEW, "recall, neutrophil"] = vars(intervals.clustered_interval([4, 0, 2], [4, 4, 4])).values()
    expected[FEW, "accuracy"] = vars(intervals.clustered_interval(SMALL.right, SMALL.copies, SMALL.cells)).values()
    for (way, score), values in expected.items():
        np.testing.assert_allclose(found[way].loc[score].astype(float), list(values))
    assert "recall, lymphocyte" not in holdout.compute_intervals(FOUND, 50)[FEW].index


def test_several_runs_are_scored_by_their_mean_and_each_image_counts_once():
    twice = HoldOut(SMALL.photos, np.concatenate([SMALL.counts, SMALL.counts]))
    for way, table in holdout.compute_intervals(twice, 500).items():
        pd.testing.assert_frame_equal(table, holdout.compute_intervals(SMALL, 500)[way])


def test_variation_between_seeds_images_and_photos_is_each_what_it_is():
    other = make_holdout(
        {c: SMALL.copies[SMALL.cells == c].tolist() for c in CLASSES},
        {"NEUTROPHIL": [4, 2, 2], "EOSINOPHIL": [3, 3], "MONOCYTE": [3], "LYMPHOCYTE": [2, 2]},
    )
    both = HoldOut(SMALL.photos, np.concatenate([SMALL.counts, other.counts]))
    table = holdout.compare_variation(both)
    assert table.seeds["accuracy"] == pytest.approx(100 * np.std([17 / 30, 21 / 30], ddof=1))
    assert table.images["recall, monocyte"] == pytest.approx(100 * np.sqrt(0.25 / 6), rel=0.05)
    assert table.photos["recall, monocyte"] == pytest.approx(0, abs=1e-12)  # one photo: always the same one is drawn
    neutrophils = np.array([4, 1, 2])  # mean of the runs, four copies each
    assert table.photos["recall, neutrophil"] == pytest.approx(100 * neutrophils.std() / 4 / np.sqrt(3), rel=0.05)
    assert holdout.compare_variation(SMALL).seeds.isna().all()


def test_photos_are_counted_by_what_most_of_their_copies_are_given():
    worth = holdout.bound_class(SMALL, "EOSINOPHIL")
    # Of two eosinophils one is recognised; of the others one neutrophil, with no copy right, is taken for one.
    assert (worth.photos_right, worth.photos, worth.others_taken, worth.others) == (1, 2, 1, 6)
    assert worth.recall_by_photo == pytest.approx(stats.beta.ppf(0.05, 1, 2))
    assert worth.false_by_photo == pytest.approx(stats.beta.ppf(0.95, 2, 5))
    assert worth.recall_by_image == pytest.approx(stats.beta.ppf(0.05, 4, 5))  # four of its eight images
    caught, false = 8 * worth.recall_by_photo, (30 - 8) * worth.false_by_photo
    assert worth.precision_by_photo == pytest.approx(caught / (caught + false))


def test_parts_are_scored_each_for_itself():
    parts = holdout.compare_parts(SMALL, [11])  # the neutrophil with no copy right
    assert parts.photos.tolist() == [8, 7, 1, 2]
    assert parts.images.tolist() == [30, 26, 4, 8]
    np.testing.assert_allclose([i.estimate for i in parts.accuracy], [17 / 30, 17 / 26, 0, 6 / 8])
    assert vars(parts.accuracy.iloc[0]) == vars(SMALL.accuracy)
    assert holdout.compare_parts(SMALL, []).index.tolist() == ["all of TEST", "without them"]
