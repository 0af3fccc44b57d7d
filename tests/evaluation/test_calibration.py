from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, intervals
from wbc_lib.evaluation.calibration import Predictions, Trial
from wbc_lib.evaluation.scores import confidence_threshold


def test_intervals_are_those_of_the_sums_of_each_photo():
    predictions = make(n_photos=20)
    photos = np.unique(predictions.photos)
    of_photo = [predictions.photos == photo for photo in photos]
    labels = [predictions.labels[rows][0] for rows in of_photo]
    sure = predictions.confidence > 0.8
    sums = [[values[rows].sum() for rows in of_photo] for values in (predictions.right & sure, sure)]
    assert calibration.interval_of_share(predictions.right & sure, predictions, sure) == intervals.clustered_interval(
        *sums, labels
    )
    losses, sizes = zip(*[(predictions.losses[rows].sum(), rows.sum()) for rows in of_photo], strict=True)
    found = calibration.interval_of_mean(predictions.losses, predictions)
    assert vars(found) == pytest.approx(vars(intervals.student_interval(losses, sizes, labels)))
    assert found.estimate == pytest.approx(predictions.losses.mean())
    assert calibration.accuracy([predictions]) == calibration.interval_of_share(predictions.right, predictions)
    assert calibration.accuracy([]) is intervals.UNKNOWN


CONFIDENCES = st.lists(st.tuples(st.integers(30, 99), st.booleans()), min_size=1, max_size=80)


def state(pairs: list[tuple[int, bool]]) -> Predictions:
    """Images, each of a photo of its own, of stated confidence in class 1; right or wrong."""
    p = np.array([n / 100 for n, _ in pairs])
    probabilities = np.column_stack([(1 - p) / 4, p, *[(1 - p) / 4] * 3])
    return Predictions(np.where([right for _, right in pairs], 1, 2), np.log(probabilities), np.arange(len(p)))


@given(CONFIDENCES)
def test_the_calibration_error_is_that_of_a_loop_over_bins(pairs):
    predictions, n_bins = state(pairs), calibration.N_BINS
    confidence, right = predictions.confidence, predictions.right
    inner = sorted({sorted(confidence)[int(i * len(confidence) / n_bins + 1e-9)] for i in range(1, n_bins)})
    total = 0.0
    for low, high in zip([-1.0, *inner], [*inner, 2.0], strict=True):
        inside = [i for i, c in enumerate(confidence) if low <= c < high]
        if inside:
            stated = sum(confidence[i] for i in inside) / len(inside)
            kept = sum(right[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(stated - kept)
    assert calibration.calibration_error(predictions) == pytest.approx(total)


def test_losses_are_those_of_scikit_learn_and_the_fitted_temperature_has_the_least_of_many():
    predictions = make(seed=3)
    assert predictions.losses.mean() == pytest.approx(
        log_loss(predictions.labels, predictions.probabilities, labels=range(5))
    )
    tried = np.geomspace(0.5, 3, 200)
    of_tried = [predictions.at(t).losses.mean() for t in tried]
    assert calibration.fit_temperature(predictions) == pytest.approx(tried[np.argmin(of_tried)], rel=1e-2)


def test_risk_coverage_counts_like_a_loop():
    predictions = make()
    table = calibration.risk_coverage(predictions)
    assert len(table) <= 100
    assert table.share.iloc[0] == 1
    order = np.argsort(-predictions.confidence)
    for row in table.itertuples():
        surest = order[: round(row.share * len(order))]
        assert row.accuracy == pytest.approx(predictions.right[surest].mean())


def test_reliability_counts_like_a_loop():
    predictions = make(n_photos=20)  # ten bins of one size
    table = calibration.reliability(predictions)
    order = np.argsort(predictions.confidence)
    for row, rows in zip(table.itertuples(), np.array_split(order, calibration.N_BINS), strict=True):
        assert row.confidence == pytest.approx(predictions.confidence[rows].mean())
        assert row.accuracy == pytest.approx(predictions.right[rows].mean())
        assert row.low <= row.accuracy <= row.high
        assert (row.images, row.photos) == (len(rows), len(set(predictions.photos[rows])))


def test_runs_are_read_with_the_photo_of_each_image():
    run = SimpleNamespace(
        names=lambda part: np.array(["b", "a"]),
        labels=lambda part: np.array([2, 1], np.int8),
        logits=lambda part: np.eye(5, dtype=np.float32)[:2],
    )
    found, _ = calibration.read_all([run, run], "test", pd.Series({"a": 7, "b": 9, "c": 1}))
    np.testing.assert_array_equal(found.photos, [9, 7])
    np.testing.assert_array_equal(found.labels, [2, 1])
    np.testing.assert_array_equal(found.right, [False, True])


def exchangeable(n: int, seed: int) -> Predictions:
    """Images each of a photo of its own, drawn alike."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, n)
    return Predictions(labels, rng.normal(0, 1.5, (n, 5)) + 2 * np.eye(5)[labels], np.arange(n))


def test_the_promise_is_kept_for_exchangeable_images_and_not_for_new_photos_by_copies_of_known_ones():
    n, coverage = 99, []
    for seed in range(300):
        both = exchangeable(n + 100, seed)
        fitting, judged = both.take(np.arange(n)), both.take(np.arange(n, n + 100))
        coverage.append(calibration.is_covered(calibration.conformal_sets(fitting, judged, 0.2), judged).mean())
    # With 99 to fit on, alpha is met exactly on average (Angelopoulos and Bates 2023, appendix D).
    assert np.mean(coverage) == pytest.approx(0.8, abs=0.01)
    known, new = make(n_photos=40, copies=10, seed=1, alike=1), make(n_photos=40, copies=10, seed=2, alike=3)
    assert calibration.is_covered(calibration.conformal_sets(known, new, 0.05), new).mean() < 0.9


@given(st.integers(0, 100), st.sampled_from([0.02, 0.1, 0.4]))
def test_sets_hold_every_class_that_is_probable_enough(seed, alpha):
    fitting, judged = exchangeable(60, seed), exchangeable(30, seed + 1)
    own = sorted(1 - row[label] for row, label in zip(fitting.probabilities, fitting.labels, strict=True))
    # The smallest limit below which at least (1 - alpha) of n + 1 lie.
    rank = next((r for r in range(1, 61) if r >= (61 * (1 - alpha))), None)
    limit = own[rank - 1] if rank else np.inf
    expected = [[1 - row[label] <= limit for label in (1, 2, 3, 4)] for row in judged.probabilities]
    np.testing.assert_array_equal(calibration.conformal_sets(fitting, judged, alpha), expected)
    # Too few to fit on promise nothing and keep every class.
    assert calibration.conformal_sets(exchangeable(18, 1), judged, 0.05).all()


def test_means_by_photo_are_over_its_copies():
    predictions = make(n_photos=8, copies=4)
    values = np.arange(len(predictions)) % 3 == 0
    table = calibration.mean_by_photo(values, predictions)
    assert list(table.index) == list(range(100, 108))
    assert list(table.cell) == [*CLASSES, *CLASSES]
    for photo, mean in table["mean"].items():
        assert mean == values[predictions.photos == photo].mean()


def trials() -> dict[str, Trial]:
    judged = [make(seed=s) for s in (3, 4)]
    known, new = ([make(seed=s, alike=alike) for s in (1, 2)] for alike in (0.5, 2.0))
    return {"known photos": Trial(judged, known), "new photos": Trial(judged, new)}


def test_each_fold_is_judged_by_all_others_of_its_repeat_and_by_nothing_else():
    repeats = []
    for seed in (0, 1):
        whole = make(n_photos=20, seed=seed)
        repeats.append([whole.take(whole.photos % 5 == fold) for fold in range(5)])
    trial = calibration.across_folds(repeats)
    of_first = {p for fold in repeats[0] for p in fold.logits[:, 0]}
    for fitting, judged in zip(trial.fitted_on, trial.judged, strict=True):
        assert not np.isin(judged.photos, fitting.photos).any()
        assert len(fitting) + len(judged) == 120
        assert len({p in of_first for p in [*fitting.logits[:, 0], *judged.logits[:, 0]]}) == 1
    judged_once = trial.apply(lambda fitting, judged: judged.logits[:, 0])
    assert sorted(judged_once) == sorted(p for repeat in repeats for fold in repeat for p in fold.logits[:, 0])


def test_a_photo_is_left_out_of_what_is_judged_and_of_what_is_fitted_on():
    trial = trials()["new photos"].without(103)
    for part in (*trial.judged, *trial.fitted_on):
        assert set(part.photos) == set(range(100, 124)) - {103}


def test_temperatures_are_tabulated_with_the_gap_before_and_after():
    some = trials()
    table = calibration.tabulate_temperatures(some)
    judged, fitted_on = some["new photos"].judged, some["new photos"].fitted_on
    cooled = [j.at(calibration.fit_temperature(f)) for f, j in zip(fitted_on, judged, strict=True)]
    row = table.loc["new photos"]
    for gap, part in ((row.before, calibration.pool(judged)), (row.after, calibration.pool(cooled))):
        assert gap.estimate == pytest.approx(part.confidence.mean() - part.right.mean())
    # What is fitted on photos alike serves them better.
    assert abs(row.after.estimate) < abs(table.after["known photos"].estimate)


def test_decisions_are_tabulated_by_what_they_decide():
    some = trials()
    table = calibration.tabulate_decisions(some, 0.9)
    right = chosen = 0
    for fitting, judged in zip(some["known photos"].fitted_on, some["known photos"].judged, strict=True):
        decided = judged.confidence >= confidence_threshold(fitting.confidence, fitting.right, 0.9)
        chosen += decided.sum()
        right += judged.right[decided].sum()
    row = table.loc["known photos"]
    assert row.decided.estimate == pytest.approx(chosen / len(some["known photos"].pooled))
    assert row.right.estimate == pytest.approx(right / chosen)
    assert row.right.estimate < 0.9


def test_sets_are_tabulated_with_their_size_and_the_coverage_of_each_class():
    some = trials()
    table = calibration.tabulate_sets(some, 0.1)
    sets, judged = calibration.predict_sets(some["new photos"], 0.1), some["new photos"].pooled
    covered, row = calibration.is_covered(sets, judged), table.loc["new photos"]
    assert row.coverage.estimate == pytest.approx(covered.mean())
    assert row["size"] == pytest.approx(sets.sum() / len(sets))
    assert pytest.approx(covered[judged.labels == 3].mean()) == row.MONOCYTE
    assert table.coverage["known photos"].estimate < row.coverage.estimate
    lacking = Trial([j.take(j.labels != 3) for j in some["new photos"].judged], some["new photos"].fitted_on)
    assert np.isnan(calibration.tabulate_sets({"": lacking}, 0.1).MONOCYTE.iloc[0])


def test_probabilities_of_the_classes_leave_out_what_is_none_and_sum_to_one():
    probabilities = np.random.default_rng(0).dirichlet(np.ones(5), 7)
    predictions = Predictions.from_probabilities(np.ones(7, int), probabilities, np.arange(7))
    np.testing.assert_allclose(predictions.probabilities, probabilities)
    np.testing.assert_allclose(predictions.class_probabilities, probabilities[:, 1:] / (1 - probabilities[:, :1]))
