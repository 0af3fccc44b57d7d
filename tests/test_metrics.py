import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sklearn_metrics

from wbc_lib import metrics

PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=60).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True))
)


@given(PAIRS)
def test_confusion_counts_like_a_loop(pair):
    labels, predicted = pair
    matrix = np.zeros((4, 5), int)
    for label, guess in zip(labels, predicted, strict=True):
        matrix[label - 1, guess - 1 if guess else 4] += 1
    np.testing.assert_array_equal(metrics.confusion(labels, predicted), matrix)


@given(PAIRS)
def test_the_report_agrees_with_scikit_learn(pair):
    labels, predicted = pair
    report = metrics.report(metrics.confusion(labels, predicted))
    reference = sklearn_metrics.precision_recall_fscore_support(labels, predicted, labels=[1, 2, 3, 4], zero_division=0)
    for column, values in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose(report[column], values)
    matrix = metrics.confusion(labels, predicted)
    assert metrics.accuracy(matrix) == pytest.approx(sklearn_metrics.accuracy_score(labels, predicted))


@given(PAIRS)
def test_total_variation_is_the_share_to_relabel(pair):
    labels, predicted = pair
    surplus = sum(max(0, (predicted == k).sum() - (labels == k).sum()) for k in range(5))
    assert metrics.total_variation(labels, predicted) == pytest.approx(surplus / len(labels))
    assert metrics.total_variation(labels, predicted) <= 1 - (labels == predicted).mean() + 1e-12


@given(
    st.lists(st.tuples(st.integers(26, 99), st.booleans()), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.99])
)
def test_the_automatic_share_is_the_largest_over_all_thresholds(pairs, wanted):
    # Class 1 has the stated probability; the rest is spread evenly, so class 1 is always the likeliest.
    p = np.array([n / 100 for n, _ in pairs])
    probabilities = np.column_stack([p, *[(1 - p) / 4] * 4])
    labels = np.where([right for _, right in pairs], 0, 1)
    shares = [0.0]
    for threshold in set(p):
        chosen = p >= threshold
        if (labels[chosen] == 0).mean() >= wanted:
            shares.append(chosen.mean())
    assert metrics.automatic_share(probabilities, labels, wanted) == pytest.approx(max(shares))


def history(accuracy: list[float], val_accuracy: list[float]) -> pd.DataFrame:
    epochs = range(1, len(accuracy) + 1)
    return pd.DataFrame({"epoch": epochs, "accuracy": accuracy, "val_accuracy": val_accuracy})


def test_peaks_are_the_best_epochs_and_the_gap_is_that_of_the_last_fifth():
    peaks = metrics.peaks(history([0.5, 0.7, 0.9, 0.8, 0.8], [0.4, 0.8, 0.6, 0.6, 0.7]))
    assert (peaks.training, peaks.validation, peaks.validation_epoch) == (0.9, 0.8, 2)
    assert peaks.gap == pytest.approx(0.1)


def test_a_plateau_begins_where_the_smoothed_curve_comes_within_reach_of_its_best():
    curve = np.concatenate([np.linspace(0, 0.9, 10), np.full(10, 0.9)])
    smooth = [np.mean(curve[max(0, i - 1) : i + 2]) for i in range(20)]
    expected = next(i + 1 for i, v in enumerate(smooth) if v >= max(smooth) - 0.01)
    assert metrics.plateau_epoch(curve) == expected == 10 + 1
    assert metrics.plateau_epoch([0.5, 0.5, 0.5]) == 1


def test_volatility_is_zero_on_a_line_and_counts_only_the_second_half():
    assert metrics.volatility(np.linspace(0, 1, 9)) == pytest.approx(0)
    assert metrics.volatility([0, 1, 0, 1, 0.5, 0.5, 0.5, 0.5, 0.5]) == pytest.approx(0)
    assert metrics.volatility([0, 0, 0, 0, 1, 0, 1, 0, 1]) == pytest.approx(1)


@pytest.mark.parametrize("others, expected", [(0, True), (1, True), (2, False)])
def test_collapse_is_nearly_one_answer_for_all(others, expected):
    assert metrics.is_collapsed(np.array([3] * (100 - others) + [1] * others)) is expected
