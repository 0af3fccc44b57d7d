import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from wbc_lib.evaluation import intervals, scores

EXAMPLES = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=60).map(
    lambda rows: tuple(np.array(column) for column in zip(*rows, strict=True))
)
MONOCYTES = scores.recall_of("MONOCYTE")


@given(EXAMPLES)
def test_resampled_scores_are_those_of_the_rows_drawn_one_by_one(examples):
    labels, predicted, groups = examples
    weights = intervals.group_weights(groups, 6)
    matrices = intervals.resample(intervals.group_counts(labels, predicted, groups), weights)
    member = np.searchsorted(np.unique(groups), groups)
    for drawn, matrix in zip(weights, matrices, strict=True):
        rows = np.repeat(np.arange(len(groups)), drawn[member])
        np.testing.assert_array_equal(matrix, scores.confusion(labels[rows], predicted[rows]))
        assert scores.accuracy(matrix) == pytest.approx((labels[rows] == predicted[rows]).mean())


@given(st.lists(st.integers(-50, 50), min_size=1, max_size=30), st.integers(1, 20), st.booleans())
def test_as_many_groups_are_drawn_as_there_are_in_every_stratum(groups, resamples, stratified):
    distinct = np.unique(groups)
    strata = distinct % 3 if stratified else np.zeros(len(distinct), int)
    weights = intervals.group_weights(groups, resamples, strata if stratified else None)
    assert weights.shape == (resamples, len(distinct)) and weights.dtype == np.int32
    assert (weights >= 0).all()
    for stratum in np.unique(strata):
        assert (weights[:, strata == stratum].sum(axis=1) == (strata == stratum).sum()).all()
    np.testing.assert_array_equal(weights, intervals.group_weights(groups, resamples, strata))


@pytest.mark.parametrize("strata", [[0, 1], [0, 1, 2, 3], [[0, 0, 0]]])
def test_strata_that_do_not_fit_the_groups_are_refused(strata):
    with pytest.raises(ValueError, match="3 groups"):
        intervals.group_weights([5, 5, 6, 7], strata=strata)


def test_groups_of_one_give_the_binomial_interval():
    n = 400
    right = np.arange(n) < 320
    counts = intervals.group_counts(np.ones(n, int), np.where(right, 1, 2), range(n))
    found = intervals.bootstrap(counts, intervals.group_weights(range(n)), scores.accuracy)
    assert found.estimate == 0.8
    # Drawing n of n with replacement, the number right is binomial: its quantiles are known exactly.
    low, high = stats.binom.ppf([0.025, 0.975], n, 0.8) / n
    assert found.low == pytest.approx(low, abs=0.004) and found.high == pytest.approx(high, abs=0.004)
    assert intervals.clustered_variance(right, np.ones(n)) == pytest.approx(0.8 * 0.2 / (n - 1))
    assert intervals.effective_sample_size(right, np.ones(n)) == pytest.approx(n - 1)


def test_the_stratified_variance_is_the_one_computed_by_hand():
    # Residuals about the overall share 1/2: (2, 0) and (-2, 0); about their strata's means: (1, -1) twice.
    right, total = [4, 2, 0, 2], [4, 4, 4, 4]
    assert intervals.clustered_variance(right, total, [0, 0, 1, 1]) == pytest.approx((2 * 2 + 2 * 2) / 16**2)
    # A stratum of one group: its whole residual, 2 squared.
    assert intervals.clustered_variance(right, total, [0, 1, 1, 1]) == pytest.approx((4 + 3 / 2 * 8 / 3) / 16**2)


GROUPS = st.lists(
    st.integers(1, 12).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), min_size=2, max_size=12
).map(lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True)))


@given(GROUPS)
def test_the_clustered_variance_is_that_of_statsmodels(groups):
    right, total = groups
    member = np.repeat(np.arange(len(total)), total)
    is_right = np.concatenate([np.arange(n) < k for k, n in zip(right, total, strict=True)]).astype(float)
    if len(is_right) < 3:
        return
    fit = sm.OLS(is_right, np.ones(len(is_right))).fit(cov_type="cluster", cov_kwds={"groups": member})
    assert intervals.clustered_variance(right, total) == pytest.approx(float(fit.bse[0]) ** 2, abs=1e-12)


def test_groups_that_do_not_differ_make_no_fewer_examples_and_nothing_varies_where_all_are_right():
    assert intervals.effective_sample_size([3, 3, 3], [4, 4, 4]) == np.inf
    interval = intervals.clustered_interval([3, 3, 3], [4, 4, 4])
    np.testing.assert_allclose([interval.low, interval.high], proportion_confint(9, 12, method="beta"))
    assert np.isnan(intervals.effective_sample_size([4, 4], [4, 4]))
    assert np.isnan(intervals.effective_sample_size([0, 0], [4, 4]))
    assert np.isnan(intervals.clustered_variance([3], [4]))


def test_classes_that_were_not_drawn_are_left_out_of_the_interval():
    counts = np.zeros((2, 4, 5), int)
    counts[0, 2, 2], counts[1, 0, 0] = 5, 5
    weights = np.array([[2, 0], [0, 2], [1, 1]])
    monocytes = intervals.bootstrap(counts, weights, MONOCYTES)
    assert monocytes == intervals.Interval(1.0, 1.0, 1.0)
    gone = intervals.bootstrap(counts, weights[1:2], MONOCYTES)
    assert np.isnan([gone.low, gone.high]).all() and gone.estimate == 1


@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95]))
def test_binomial_intervals_are_those_of_statsmodels(pair, confidence):
    successes, n = pair
    for exact, method in ((False, "wilson"), (True, "beta")):
        found = intervals.binomial_interval(successes, n, confidence, exact=exact)
        reference = proportion_confint(successes, n, 1 - confidence, method)
        np.testing.assert_allclose([found.low, found.high], reference, atol=1e-10)
        assert found.estimate == successes / n


@pytest.mark.parametrize("successes, n", [(-1, 4), (5, 4), (0, 0)])
def test_shares_that_are_none_are_refused(successes, n):
    with pytest.raises(ValueError, match="no share"):
        intervals.binomial_interval(successes, n)


@given(st.integers(1, 80).flatmap(lambda n: st.tuples(st.integers(1, n), st.just(n))))
def test_at_the_lower_bound_so_many_successes_have_a_chance_of_one_in_twenty(pair):
    successes, n = pair
    bound = intervals.lower_bound(successes, n)
    assert stats.binom.sf(successes - 1, n, bound) == pytest.approx(0.05)
    assert intervals.lower_bound(0, n) == 0


def test_the_interval_for_few_groups_is_the_one_computed_by_hand():
    # Three groups of four as above: effective size 3, times the ratio of Student's t at 11 and 2 degrees, squared.
    size = 3 * (stats.t.isf(0.025, 11) / stats.t.isf(0.025, 2)) ** 2
    found = intervals.clustered_interval([4, 0, 2], [4, 4, 4])
    expected = proportion_confint(size / 2, size, method="beta")
    np.testing.assert_allclose([found.low, found.high], expected)
    # Strata cost a degree of freedom each, and all right counts each group once.
    strata = [0, 0, 1, 1]
    stratified = intervals.clustered_interval([4, 2, 0, 2], [4] * 4, strata)
    size = 0.25 / (8 / 16**2) * (stats.t.isf(0.025, 15) / stats.t.isf(0.025, 2)) ** 2
    np.testing.assert_allclose([stratified.low, stratified.high], proportion_confint(size / 2, size, method="beta"))
    perfect = intervals.clustered_interval([103] * 6, [103] * 6)
    np.testing.assert_allclose([perfect.low, perfect.high], [0.025 ** (1 / 6), 1])
    # A stratum of four that carries the whole variance leaves three degrees of freedom, however many the others have.
    right, strata = [10] * 40 + [10, 10, 10, 0], [0] * 40 + [1] * 4
    few = intervals.clustered_interval(right, [10] * 44, strata)
    n = intervals.effective_sample_size(right, [10] * 44, strata)
    size = n * (stats.t.isf(0.025, 439) / stats.t.isf(0.025, 3)) ** 2
    np.testing.assert_allclose(few.low, proportion_confint(size * 43 / 44, size, method="beta")[0])


def test_groups_without_examples_do_not_count_and_nothing_at_all_is_unknown():
    found = intervals.clustered_interval([3, 0, 3, 0], [3, 0, 3, 0])
    np.testing.assert_allclose([found.low, found.high], [0.025 ** (1 / 2), 1])
    assert intervals.clustered_interval([0, 0], [0, 0]) is intervals.UNKNOWN


def test_images_drawn_one_by_one_vary_as_the_binomial_has_it_and_classes_keep_their_size():
    matrix = np.array([[50, 10, 0, 0, 4], [0, 30, 0, 0, 0], [5, 5, 5, 5, 5], [0, 0, 0, 0, 0]])
    drawn = intervals.draw_images(matrix)
    assert drawn.shape == (10_000, 4, 5)
    assert (drawn.sum(axis=2) == matrix.sum(axis=1)).all()
    np.testing.assert_allclose(drawn.mean(axis=0), matrix, atol=0.2)
    recalls = scores.recalls(drawn)[:, [0, 2]]
    shares = np.array([50 / 64, 5 / 25])
    np.testing.assert_allclose(recalls.var(axis=0), shares * (1 - shares) / [64, 25], rtol=0.07)
    # The paper's matrices have no fifth column, and means over runs are not whole.
    np.testing.assert_array_equal(intervals.draw_images(np.full((4, 4), 2.5)).sum(axis=2), 10)


def test_with_few_photos_only_the_interval_that_allows_for_it_comes_near_its_promise():
    shares = {"common": np.r_[np.ones(40), np.linspace(0, 1, 31)], "rare": np.linspace(0, 1, 31)}
    strata = np.repeat(["common", "rare"], [48, 4])
    coverage = intervals.simulate_coverage(shares, np.where(strata == "rare", 150, 13), strata)
    assert coverage.images < 0.5 < coverage.photos < 0.88 < coverage.few
    # Photos that do not differ: every way keeps its promise.
    alike = intervals.simulate_coverage({"one": np.array([0.8])}, np.full(20, 35), np.repeat("one", 20))
    assert 0.9 < alike.images <= 1 and 0.88 < alike.photos <= 1 and 0.9 < alike.few <= 1
