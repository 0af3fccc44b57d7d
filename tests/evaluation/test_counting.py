from math import comb
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, counting, scores
from wbc_lib.evaluation.calibration import Predictions

EVEN, HEALTHY = np.full(4, 0.25), counting.MIXES[counting.HEALTHY]
WEIGHTS = st.lists(st.floats(0.05, 1), min_size=4, max_size=4).map(lambda w: np.array(w) / sum(w))


def faultless(n_photos: int = 40) -> Predictions:
    """As `make`, but never wrong and never in doubt."""
    some = make(n_photos, copies=3)
    return Predictions(some.labels, 50.0 * np.eye(5)[some.labels], some.photos)


@settings(max_examples=15)
@given(WEIGHTS, st.integers(0, 1000))
def test_expectation_maximisation_finds_what_a_general_optimiser_finds(prior, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 4, 60)
    logits = rng.normal(0, 1, (60, 4)) + 2 * np.eye(4)[labels]
    posteriors = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cells = rng.integers(0, 4, (1, 60))
    cells[0, 0] += 1

    def loss(mix: np.ndarray) -> float:
        return -(cells[0] * np.log(posteriors @ (mix / prior))).sum() / cells.sum()

    best = minimize(
        loss, EVEN, method="SLSQP", bounds=[(1e-9, 1)] * 4, options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "eq", "fun": lambda mix: mix.sum() - 1},
    )  # fmt: skip
    with mock.patch.multiple(counting, TOLERANCE=1e-9, ROUNDS=100_000):
        [found] = counting.expectation_maximisation(cells, posteriors, prior)
    assert loss(found) <= best.fun + 1e-7
    np.testing.assert_allclose(found, best.x, atol=2e-3)


def test_expectation_maximisation_softens_by_the_temperature_of_validation():
    test, validation = make(seed=1), make(seed=2, alike=4)
    cells = counting.draw_cells(np.full((3, len(test)), 1 / len(test)), 200, 0)
    found = counting.make_estimators(test, validation)[counting.EM](cells)
    posteriors = test.at(calibration.fit_temperature(validation)).probabilities[:, 1:]
    prior = np.bincount(validation.labels, minlength=5)[1:] + 1.0
    expected = counting.expectation_maximisation(cells, posteriors, prior / prior.sum())
    np.testing.assert_allclose(found, expected)
    as_stated = counting.expectation_maximisation(cells, test.probabilities[:, 1:], prior / prior.sum())
    assert abs(found - as_stated).max() > 0.01


@given(WEIGHTS, st.lists(WEIGHTS, min_size=4, max_size=4))
def test_adjusted_counting_recovers_the_mix_from_exact_rates_and_gives_no_share_below_zero(mix, rows):
    rates = 0.5 * np.eye(4) + 0.5 * np.array(rows)  # each class is told right more often than not
    np.testing.assert_allclose(counting.adjusted_count((mix @ rates)[None], rates)[0], mix, atol=1e-9)
    solved = np.linalg.solve(rates.T, counted := np.array([0.9, 0.08, 0.02, 0.0])).clip(0)
    np.testing.assert_allclose(counting.adjusted_count(counted[None], rates)[0], solved / solved.sum(), atol=1e-9)


@given(WEIGHTS, st.integers(1, 60))
def test_the_error_of_a_faultless_reader_is_the_sum_over_all_outcomes(mix, n):
    total = sum(comb(n, k) * p**k * (1 - p) ** (n - k) * abs(k / n - p) for p in mix for k in range(n + 1))
    assert float(counting.expected_distance(mix, n)) == pytest.approx(total / 2)


@given(WEIGHTS, st.integers(2, 500))
def test_the_equivalent_count_is_the_first_that_errs_no_more(mix, n):
    error = float(counting.expected_distance(mix, n))
    found = counting.equivalent_cells(mix, error + 1e-12)
    assert found <= n
    assert float(counting.expected_distance(mix, found)) <= error + 1e-12
    assert found == 1 or float(counting.expected_distance(mix, found - 1)) > error


def test_counts_are_worth_as_many_cells_as_a_reader_needs_for_the_same_error():
    errors = counting.summarise_errors(counting.simulate([(make(), make(seed=5))], counting.MIXES, (60,), 20))
    table = counting.compare_with_reader(errors, 60)
    ways = [counting.COUNTING, counting.ADJUSTED, counting.EM]
    assert (list(table.index), list(table)) == (list(counting.MIXES), ways)
    sizes = [table.loc[counting.HEALTHY, counting.COUNTING] + d for d in (-1, 0)]
    less, enough = counting.expected_distance(HEALTHY, sizes)
    assert less > errors.error[counting.HEALTHY, 60, counting.COUNTING] >= enough


@given(st.floats(0.01, 0.99))
def test_limits_of_a_readers_count_leave_out_no_more_than_promised(share):
    reader = counting.describe_reader(np.array([share, 1 - share, 0, 0])).iloc[0]
    chances = [comb(100, k) * share**k * (1 - share) ** (100 - k) for k in range(101)]
    outside = [sum(c for k, c in enumerate(chances) if k < round(100 * reader.low)),
               sum(c for k, c in enumerate(chances) if k > round(100 * reader.high))]  # fmt: skip
    assert max(outside) <= 0.025 + 1e-9


@given(st.floats(0.01, 0.99), st.integers(10, 200), st.integers(0, 10), st.integers(10, 20))
def test_the_chance_of_a_false_alarm_is_that_of_all_counts_outside(share, n, low, high):
    chances = [comb(n, k) * share**k * (1 - share) ** (n - k) for k in range(n + 1)]
    outside = sum(c for k, c in enumerate(chances) if 20 * k < low * n or 20 * k > high * n)
    assert counting.probability_outside(share, n, (low / 20, high / 20)) == pytest.approx(outside, abs=1e-12)


@given(st.sampled_from(list(counting.MIXES)), st.integers(0, 100))
def test_cells_come_in_the_mix_that_was_asked_for_and_from_photos_that_were_drawn(name, seed):
    mix, predictions = counting.MIXES[name], make(n_photos=22)
    half = counting.split_halves(predictions, 3, seed)
    chances = counting.sampling_probabilities(predictions, mix, half)
    for row, drawn in zip(chances, half, strict=True):
        for label, share in enumerate(mix, start=1):
            assert row[predictions.labels == label].sum() == pytest.approx(share)
        left_out = np.isin(predictions.photos, np.unique(predictions.photos)[~drawn])
        assert (row[left_out] == 0).all()
    cells = counting.draw_cells(chances, 70, seed)
    assert (cells.sum(axis=1) == 70).all()
    assert (cells[chances == 0] == 0).all()


@given(st.integers(0, 100))
def test_halves_split_every_class_in_two(seed):
    predictions = make(n_photos=22)
    photos, first = np.unique(predictions.photos, return_index=True)
    half = counting.split_halves(predictions, 20, seed)
    assert half.shape == (20, len(photos))
    for label in (1, 2, 3, 4):
        own = predictions.labels[first] == label
        assert set(half[:, own].sum(axis=1)) <= {own.sum() // 2, -(-own.sum() // 2)}
    assert len(np.unique(half, axis=0)) > 1
    with pytest.raises(ValueError, match="LYMPHOCYTE"):
        counting.split_halves(make(n_photos=7), 10, 0)  # a single photo of a class cannot be dealt out


def test_rates_are_those_of_the_confusion_matrix():
    some = make()
    predictions = some.take(some.labels != 3)
    rates = counting.confusion_rates(predictions)
    guessed = predictions.logits[:, 1:].argmax(axis=1) + 1  # without the output that belongs to no class
    for label in (1, 2, 4):
        own = guessed[predictions.labels == label]
        np.testing.assert_allclose(rates[label - 1], [(own == k).mean() for k in (1, 2, 3, 4)])
    np.testing.assert_array_equal(rates[2], [0, 0, 1, 0])


def test_a_faultless_network_errs_like_a_faultless_reader_in_every_way():
    test = faultless()
    counts = counting.simulate([(test, test)], {"healthy": HEALTHY}, (100,), 600)
    errors = counting.summarise_errors(counts).error.droplevel(["mix", "n"])
    assert len(errors) == 3
    np.testing.assert_allclose(errors, float(counting.expected_distance(HEALTHY, 100)), rtol=0.05)


def test_counting_predictions_tends_to_the_confused_mix():
    test = make(n_photos=40)
    mix = counting.MIXES["eosinophilia"]
    counts = counting.simulate([(test, test)], {"m": mix}, (100_000,), 5, halves=False)
    confused = mix @ counting.confusion_rates(test)
    found = counts[counts.way == counting.COUNTING][list(CLASSES)]
    np.testing.assert_allclose(found, np.tile(confused, (5, 1)), atol=0.01)
    # Adjusted by rates that are exact, for every image may be drawn, the truth comes back.
    adjusted = counts[counts.way == counting.ADJUSTED]
    assert adjusted.error.max() < 0.02


def test_resamples_are_shared_out_among_the_runs():
    runs = [(make(seed=s), make(seed=s + 10)) for s in (0, 1, 2)]
    counts = counting.simulate(runs, {"even": EVEN}, (50, 80), 10)
    assert counts.groupby(["n", "way"]).size().eq(10).all()
    own = counts[(counts.n == 80) & (counts.way == counting.COUNTING)]
    shares = own[list(CLASSES)].to_numpy()
    np.testing.assert_allclose(scores.mix_distance(shares, EVEN), own.error)
    row = counting.summarise_errors(counts).loc["even", 80, counting.COUNTING]
    assert tuple(row) == pytest.approx((own.error.mean(), *np.quantile(own.error, [0.025, 0.975])))
