import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import certainty, intervals, scores
from wbc_lib.evaluation.photo_scores import SCORES, SHARES, HoldOut
from wbc_lib.training import paper


def hold_out(copies: dict[str, list[int]], right: dict[str, list[int]], runs: int = 1) -> HoldOut:
    """Photos of each class with so many copies, so many of them right; wrong ones go to the next class."""
    counts = []
    for row, cell in enumerate(CLASSES):
        for n, k in zip(copies.get(cell, []), right.get(cell, []), strict=True):
            own = np.zeros((4, 5), int)
            own[row, row], own[row, (row + 1) % 4] = k, n - k
            counts.append(own)
    return HoldOut(np.arange(len(counts)) + 10, np.stack([np.stack(counts)] * runs))


#: The published TEST: 48, 13, 4 and 6 photos, their copies as even as they can be.
SIZES = {
    cell: [total // n + (i < total % n) for i in range(n)]
    for cell, total, n in zip(CLASSES, (624, 623, 620, 620), (48, 13, 4, 6), strict=True)
}
#: Of every third photo no copy is right.
PUBLISHED = hold_out(SIZES, {cell: [n * (i % 3 > 0) for i, n in enumerate(sizes)] for cell, sizes in SIZES.items()})
SMALL = hold_out(
    {"NEUTROPHIL": [4, 4, 4], "EOSINOPHIL": [3, 5], "MONOCYTE": [6], "LYMPHOCYTE": [2, 2]},
    {"NEUTROPHIL": [4, 0, 2], "EOSINOPHIL": [3, 1], "MONOCYTE": [3], "LYMPHOCYTE": [2, 2]},
)


def test_errors_in_whole_photos_make_the_paper_as_unsure_as_it_can_be_and_spread_evenly_as_sure():
    judged = certainty.judge_matrix(paper.FIGURE_3_MATRIX, PUBLISHED, 2000)
    widths = {way: table.high - table.low for way, table in judged.items()}
    for score in SHARES[:4]:  # the lymphocytes' one error leaves nothing to spread or fill
        assert widths["errors spread evenly"][score] < widths["images one by one"][score]
        assert widths["images one by one"][score] < widths["errors in whole photos"][score] / 3
    for table in judged.values():
        assert table.estimate.accuracy == pytest.approx(scores.accuracy(paper.FIGURE_3_MATRIX))
    np.testing.assert_allclose(
        judged["images one by one"].loc["accuracy", ["low", "high"]].astype(float),
        proportion_confint(np.trace(paper.FIGURE_3_MATRIX), 2487, method="wilson"),
    )


def test_at_our_design_effect_the_paper_is_wilsons_interval_of_so_many_images():
    judged = certainty.judge_matrix(paper.FIGURE_3_MATRIX, PUBLISHED, 100)["as clustered as ours"]
    size = certainty.effective_sizes(PUBLISHED)["recall, monocyte"]
    share = 481 / 620
    np.testing.assert_allclose(
        judged.loc["recall, monocyte"].astype(float),
        [share, *proportion_confint(share * size, size, method="wilson")],
    )


def test_images_count_for_no_more_than_one_however_evenly_our_errors_are_spread():
    even = hold_out(SIZES, {cell: [sizes[-1] - 1 for _ in sizes] for cell, sizes in SIZES.items()})
    assert certainty.effective_sizes(even).accuracy > 2487
    judged = certainty.judge_matrix(paper.FIGURE_3_MATRIX, even, 100)
    pd.testing.assert_frame_equal(judged["as clustered as ours"], judged["images one by one"])


def test_a_matrix_of_other_images_is_judged_by_images_alone():
    assert certainty.arrange(paper.FIGURE_3_MATRIX, SMALL, packed=True) is None
    assert list(certainty.judge_matrix(paper.FIGURE_3_MATRIX, SMALL)) == ["images one by one"]


@st.composite
def matrices_of_small(draw):
    rows = []
    for cell in CLASSES:
        n = int(SMALL.copies[SMALL.cells == cell].sum())
        cuts = sorted(draw(st.lists(st.integers(0, n), min_size=4, max_size=4)))
        rows.append(np.diff([0, *cuts, n]))
    return np.array(rows)


@given(matrices_of_small(), st.booleans())
def test_dealt_predictions_add_up_to_the_matrix_and_to_each_photos_copies(matrix, packed):
    dealt = certainty.arrange(matrix, SMALL, packed=packed)
    np.testing.assert_array_equal(dealt.sum(axis=0), matrix)
    np.testing.assert_array_equal(dealt.sum(axis=(1, 2)), SMALL.copies)
    np.testing.assert_array_equal(np.array(CLASSES)[dealt.sum(axis=2).argmax(axis=1)], SMALL.cells)
    right = np.trace(dealt, axis1=1, axis2=2)
    for cell in CLASSES:
        own = SMALL.cells == cell
        if packed:
            mixed = (right[own] > 0) & (right[own] < SMALL.copies[own])
            assert mixed.sum() <= 1
        else:
            share = right[own].sum() / SMALL.copies[own].sum()
            assert (np.abs(right[own] - share * SMALL.copies[own]) <= 1.5).all()


def test_each_way_of_reckoning_is_the_one_it_says():
    found = certainty.reckon_intervals(SMALL, list(SCORES), 3000)
    assert list(found) == [
        "images one by one", "photos within classes", "photos regardless of class", "allowing for few photos",
    ]  # fmt: skip
    for way, by_class in (("photos within classes", True), ("photos regardless of class", False)):
        weights = SMALL.weights(by_class=by_class, resamples=3000)
        for score, statistic in SCORES.items():
            expected = intervals.bootstrap(SMALL.mean, weights, statistic)
            np.testing.assert_allclose(found[way].loc[score].astype(float), list(vars(expected).values()))
    naive = found["images one by one"]
    np.testing.assert_allclose(
        naive.loc["accuracy"].iloc[1:].astype(float), proportion_confint(17, 30, method="wilson")
    )
    np.testing.assert_allclose(
        naive.loc["recall, eosinophil"].iloc[1:].astype(float), proportion_confint(4, 8, method="wilson")
    )
    # The score of a class's precision varies only by what each class's images are given.
    assert naive.loc["macro-F1", "low"] < naive.loc["macro-F1", "estimate"] < naive.loc["macro-F1", "high"]
    few = found["allowing for few photos"]
    assert list(few.index) == SHARES
    own = intervals.clustered_interval([4, 0, 2], [4, 4, 4])
    np.testing.assert_allclose(few.loc["recall, neutrophil"].astype(float), list(vars(own).values()))
    whole = intervals.clustered_interval(SMALL.right, SMALL.copies, SMALL.cells)
    np.testing.assert_allclose(few.loc["accuracy"].astype(float), list(vars(whole).values()))


def test_effective_sizes_are_those_of_each_class_and_of_all_within_classes():
    sizes = certainty.effective_sizes(SMALL)
    assert sizes["recall, neutrophil"] == pytest.approx(3)  # by hand, see test_intervals
    assert sizes.accuracy == pytest.approx(
        30 / intervals.design_effect(SMALL.right, SMALL.copies, np.repeat([0, 1, 2, 3], [3, 2, 1, 2]))
    )
    assert np.isnan(sizes["recall, lymphocyte"])  # all right


def test_several_runs_are_scored_by_their_mean_and_each_image_counts_once():
    twice = HoldOut(SMALL.photos, np.concatenate([SMALL.counts, SMALL.counts]))
    for way, table in certainty.reckon_intervals(twice, SHARES, 500).items():
        pd.testing.assert_frame_equal(table, certainty.reckon_intervals(SMALL, SHARES, 500)[way])
    assert list(certainty.write_runs(twice, [0, 7], 100).index) == ["seed 0", "seed 7", "mean"]
    assert list(certainty.write_runs(SMALL, [3], 100).index) == ["seed 3"]
    written = certainty.write_runs(SMALL, [3], 100).iloc[0]
    assert written.accuracy == "56.7%"
    assert written["design effect"] * written["effective size"] == pytest.approx(30)


def test_variation_between_seeds_images_and_photos_is_each_what_it_is():
    other = hold_out(
        {c: SMALL.copies[SMALL.cells == c].tolist() for c in CLASSES},
        {"NEUTROPHIL": [4, 2, 2], "EOSINOPHIL": [3, 3], "MONOCYTE": [3], "LYMPHOCYTE": [2, 2]},
    )
    both = HoldOut(SMALL.photos, np.concatenate([SMALL.counts, other.counts]))
    table = certainty.compare_variation(both)
    assert table.seeds["accuracy"] == pytest.approx(100 * np.std([17 / 30, 21 / 30], ddof=1))
    assert table.images["recall, monocyte"] == pytest.approx(100 * np.sqrt(0.25 / 6), rel=0.05)
    assert table.photos["recall, monocyte"] == pytest.approx(0, abs=1e-12)  # one photo: always the same one is drawn
    neutrophils = np.array([4, 1, 2])  # mean of the runs, four copies each
    assert table.photos["recall, neutrophil"] == pytest.approx(100 * neutrophils.std() / 4 / np.sqrt(3), rel=0.05)
    assert certainty.compare_variation(SMALL).seeds.isna().all()


def test_six_photos_of_six_are_worth_what_the_exact_bound_says():
    perfect = hold_out(SIZES, SIZES)
    worth = certainty.weigh_class(perfect, "LYMPHOCYTE")
    assert (worth.photos_right, worth.photos, worth.others_taken, worth.others) == (6, 6, 0, 65)
    assert worth.recall_by_photo == pytest.approx(0.05 ** (1 / 6))
    assert worth.false_by_photo == pytest.approx(1 - 0.05 ** (1 / 65))
    assert worth.recall_by_image == pytest.approx(0.05 ** (1 / 620))
    caught, false = 620 * worth.recall_by_photo, (2487 - 620) * worth.false_by_photo
    assert worth.precision_by_photo == pytest.approx(caught / (caught + false))
    written = certainty.write_worth({"here": worth})
    assert written.here["photos of the class recognised"] == "6 of 6"
    assert written.here["recall by photos, at least"] == "61%"


def test_photos_are_counted_by_what_most_of_their_copies_are_given():
    worth = certainty.weigh_class(SMALL, "EOSINOPHIL")
    # Of two eosinophils one is recognised; of the others one neutrophil, with no copy right, is taken for one.
    assert (worth.photos_right, worth.photos, worth.others_taken, worth.others) == (1, 2, 1, 6)
    assert worth.recall_by_photo == pytest.approx(stats.beta.ppf(0.05, 1, 2))
    assert worth.false_by_photo == pytest.approx(stats.beta.ppf(0.95, 2, 5))


def test_parts_are_scored_each_for_itself():
    parts = certainty.compare_parts(SMALL, [11], 200)  # the neutrophil with no copy right
    assert parts.photos.tolist() == [8, 7, 1, 2]
    assert parts.images.tolist() == [30, 26, 4, 8]
    np.testing.assert_allclose(parts.accuracy, [17 / 30, 17 / 26, 0, 6 / 8])
    assert (parts.low <= parts.accuracy).all() and (parts.accuracy <= parts.high).all()
    assert certainty.compare_parts(SMALL, [], 50).index.tolist() == ["all of TEST", "without them"]


def test_with_few_photos_only_the_interval_that_allows_for_it_keeps_its_promise():
    shares = np.r_[np.ones(40), np.linspace(0, 1, 31)]
    coverage = certainty.simulate_coverage(shares, [4, 60], times=400)
    assert coverage.images.max() < 0.6
    assert coverage.photos[4] < 0.85 and coverage.photos[60] > 0.88
    assert coverage.few.min() > 0.88
    # Photos that do not differ: every way keeps its promise.
    alike = certainty.simulate_coverage(np.full(9, 0.8), [20], times=400).loc[20]
    assert 0.9 < alike.images <= 1 and 0.88 < alike.photos <= 1


@settings(max_examples=30)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=4))
def test_intervals_are_written_as_they_are(rows):
    table = pd.DataFrame(rows, columns=["estimate", "low", "high"])
    assert certainty.in_words(table).tolist() == [f"{100 * low:.1f}% to {100 * high:.1f}%" for _, low, high in rows]
    named = table.rename(index=str)
    written = certainty.write_intervals({"one": named, "other": named.iloc[:1]})
    assert written.columns.tolist() == ["score", "one", "other"]
    assert written.other.isna().sum() == len(rows) - 1
