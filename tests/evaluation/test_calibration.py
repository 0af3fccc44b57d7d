from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss

from tests.made_predictions import make
from wbc_lib.evaluation import calibration, intervals
from wbc_lib.evaluation.calibration import Predictions


def test_copies_that_stand_or_fall_together_make_a_wider_interval():
    predictions = make(n_photos=40, copies=10)
    alone = Predictions(predictions.labels, predictions.logits, np.arange(len(predictions)))
    gaps = [calibration.summarise(p).gap.width for p in (predictions, alone)]
    shares = [calibration.interval_of_share(p.right, p).width for p in (predictions, alone)]
    assert gaps[0] > 1.8 * gaps[1] and shares[0] > 1.8 * shares[1]


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


CONFIDENCES = st.lists(st.tuples(st.integers(30, 99), st.booleans()), min_size=1, max_size=80)


def state(pairs: list[tuple[int, bool]]) -> Predictions:
    """Images, each of a photo of its own, of stated confidence in class 1; right or wrong."""
    p = np.array([n / 100 for n, _ in pairs])
    probabilities = np.column_stack([(1 - p) / 4, p, *[(1 - p) / 4] * 3])
    return Predictions(np.where([right for _, right in pairs], 1, 2), np.log(probabilities), np.arange(len(p)))


@given(CONFIDENCES, st.integers(1, 15))
def test_the_calibration_error_is_that_of_a_loop_over_bins(pairs, n_bins):
    predictions = state(pairs)
    confidence, right = predictions.confidence, predictions.right
    inner = sorted({sorted(confidence)[int(i * len(confidence) / n_bins + 1e-9)] for i in range(1, n_bins)})
    total = 0.0
    for low, high in zip([-1.0, *inner], [*inner, 2.0], strict=True):
        inside = [i for i, c in enumerate(confidence) if low <= c < high]
        if inside:
            stated = sum(confidence[i] for i in inside) / len(inside)
            kept = sum(right[i] for i in inside) / len(inside)
            total += len(inside) / len(confidence) * abs(stated - kept)
    assert calibration.calibration_error(predictions, n_bins) == pytest.approx(total)


def test_losses_are_those_of_scikit_learn():
    predictions = make()
    assert predictions.losses.mean() == pytest.approx(
        log_loss(predictions.labels, predictions.probabilities, labels=range(5))
    )


def test_the_fitted_temperature_has_the_least_loss_of_many():
    predictions = make(seed=3)
    tried = np.geomspace(0.5, 3, 300)
    of_tried = [log_loss(predictions.labels, predictions.at(t).probabilities, labels=range(5)) for t in tried]
    assert calibration.fit_temperature(predictions) == pytest.approx(tried[np.argmin(of_tried)], rel=7e-3)


def test_labels_drawn_from_the_stated_probabilities_ask_for_no_change():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20_000, 5))
    chances = Predictions(np.zeros(len(logits), int), logits, np.arange(len(logits))).probabilities
    labels = (rng.random((len(logits), 1)) < chances.cumsum(axis=1)).argmax(axis=1)
    predictions = Predictions(labels, logits, np.arange(len(logits)))
    assert calibration.fit_temperature(predictions) == pytest.approx(1, abs=0.03)
    assert calibration.calibration_error(predictions) < 0.015


def test_risk_coverage_counts_like_a_loop():
    predictions = make()
    table = calibration.risk_coverage(predictions, points=20)
    assert len(table) <= 20
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


def test_runs_put_together_are_summarised_by_their_means():
    runs = [make(seed=0), make(seed=0).at(3)]
    apart = [calibration.summarise(run) for run in runs]
    together = calibration.summarise(calibration.pool(runs))
    for name in ("accuracy", "confidence", "loss"):
        assert getattr(together, name) == pytest.approx(np.mean([getattr(one, name) for one in apart]))
    assert together.gap.estimate == pytest.approx(np.mean([one.gap.estimate for one in apart]))
    assert together.gap.estimate == pytest.approx(together.confidence - together.accuracy)
    same = calibration.summarise(calibration.pool(runs[:1] * 2))
    assert vars(same.gap) == pytest.approx(vars(apart[0].gap))


def test_a_run_is_read_with_the_photo_of_each_image():
    run = SimpleNamespace(
        names=lambda part: np.array(["b", "a"]),
        labels=lambda part: np.array([2, 1], np.int8),
        logits=lambda part: np.eye(5, dtype=np.float32)[:2],
    )
    found = calibration.read_predictions(run, "test", pd.Series({"a": 7, "b": 9, "c": 1}))
    np.testing.assert_array_equal(found.photos, [9, 7])
    np.testing.assert_array_equal(found.labels, [2, 1])
    np.testing.assert_array_equal(found.right, [False, True])
    assert len(calibration.read_all([run, run], "test", pd.Series({"a": 7, "b": 9}))) == 2


def test_the_accuracy_of_several_runs_is_of_all_their_images_and_of_no_run_unknown():
    runs = [make(seed=0), make(seed=1)]
    both = calibration.pool(runs)
    assert calibration.accuracy(runs) == calibration.interval_of_share(both.right, both)
    assert calibration.accuracy(runs).estimate == pytest.approx(np.mean([run.right.mean() for run in runs]))
    assert calibration.accuracy([]) is intervals.UNKNOWN
