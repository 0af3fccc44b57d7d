import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from wbc_lib.evaluation import scores

PAIRS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 4)), min_size=1, max_size=60).map(
    lambda pairs: tuple(np.array(column) for column in zip(*pairs, strict=True))
)


@given(PAIRS)
def test_confusion_counts_like_a_loop(pair):
    labels, predicted = pair
    matrix = np.zeros((4, 5), int)
    for label, guess in zip(labels, predicted, strict=True):
        matrix[label - 1, guess - 1 if guess else 4] += 1
    np.testing.assert_array_equal(scores.confusion(labels, predicted), matrix)


@given(PAIRS)
def test_scores_agree_with_scikit_learn_where_they_are_defined(pair):
    labels, predicted = pair
    matrix = scores.confusion(labels, predicted)
    reference = precision_recall_fscore_support(labels, predicted, labels=[1, 2, 3, 4], zero_division=0)
    report = scores.report(matrix)
    for column, expected in zip(("precision", "recall", "f1", "support"), reference, strict=True):
        np.testing.assert_allclose(report[column], expected)
    _, recall, _, support = reference
    np.testing.assert_allclose(scores.recalls(matrix), np.where(support == 0, np.nan, recall))
    assert scores.accuracy(matrix) == pytest.approx(accuracy_score(labels, predicted))


def test_scores_of_many_matrices_are_those_of_each():
    matrices = np.random.default_rng(0).integers(0, 9, (3, 2, 4, 5))
    for score in (scores.accuracy, scores.recall_of("NEUTROPHIL")):
        each = [[float(score(matrix)) for matrix in row] for row in matrices]
        np.testing.assert_allclose(score(matrices), each)


@given(PAIRS)
def test_total_variation_is_the_share_to_relabel(pair):
    labels, predicted = pair
    surplus = sum(max(0, (predicted == k).sum() - (labels == k).sum()) for k in range(5))
    assert scores.total_variation(labels, predicted) == pytest.approx(surplus / len(labels))
    assert scores.total_variation(predicted, labels) == scores.total_variation(labels, predicted)
    assert scores.total_variation(labels, predicted) <= 1 - (labels == predicted).mean() + 1e-12


@given(
    st.lists(st.tuples(st.integers(26, 99), st.booleans()), min_size=1, max_size=30), st.sampled_from([0.5, 0.9, 0.99])
)
def test_no_threshold_decides_more_at_the_accuracy_wanted(pairs, wanted):
    p, right = np.array([n / 100 for n, _ in pairs]), np.array([is_right for _, is_right in pairs])
    shares = [0.0]
    for threshold in set(p):
        chosen = p >= threshold
        if right[chosen].mean() >= wanted:
            shares.append(chosen.mean())
    assert (p >= scores.confidence_threshold(p, right, wanted)).mean() == pytest.approx(max(shares))


def history(accuracy: list[float], val_accuracy: list[float]) -> pd.DataFrame:
    epochs = range(1, len(accuracy) + 1)
    return pd.DataFrame({"epoch": epochs, "accuracy": accuracy, "val_accuracy": val_accuracy})


CURVES = st.lists(st.integers(0, 100).map(lambda n: n / 100), min_size=1, max_size=60)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), min_size=1, max_size=60))
def test_peaks_are_the_best_epochs_and_the_gap_is_that_of_the_last_fifth(pairs):
    training, validation = ([pair[i] / 100 for pair in pairs] for i in (0, 1))
    best = scores.peaks(history(training, validation))
    assert (best.training, best.validation) == (max(training), max(validation))
    n = max(1, len(pairs) // 5)
    gaps = [training[i] - validation[i] for i in range(len(pairs) - n, len(pairs))]
    assert best.gap == pytest.approx(sum(gaps) / n, abs=1e-12)


@given(CURVES)
def test_a_plateau_begins_where_the_smoothed_curve_comes_within_reach_of_its_best(curve):
    smooth = [np.mean(curve[max(0, i - 1) : i + 2]) for i in range(len(curve))]
    epoch = scores.plateau_epoch(curve)
    # A running sum and a mean of a slice may differ in the last bits.
    assert smooth[epoch - 1] >= max(smooth) - 0.01 - 1e-9
    assert all(value < max(smooth) - 0.01 + 1e-9 for value in smooth[: epoch - 1])


def test_volatility_is_zero_on_a_line_and_counts_only_the_second_half():
    assert scores.volatility(np.linspace(0, 1, 9)) == pytest.approx(0)
    assert scores.volatility([0, 1, 0, 1, 0.5, 0.5, 0.5, 0.5, 0.5]) == pytest.approx(0)
    assert scores.volatility([0, 0, 0, 0, 1, 0, 1, 0, 1]) == pytest.approx(1)


@pytest.mark.parametrize("others, is_collapsed", [(0, True), (2, True), (3, False)])
def test_collapse_is_nearly_one_answer_for_all(others, is_collapsed):
    assert scores.is_collapsed(np.repeat([2, 4], [200 - others, others])) is is_collapsed
