from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, conformal
from wbc_lib.evaluation.calibration import Predictions


def exchangeable(n: int, seed: int) -> Predictions:
    """Images each of a photo of its own, drawn alike."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, n)
    return Predictions(labels, rng.normal(0, 1.5, (n, 5)) + 2 * np.eye(5)[labels], np.arange(n))


@pytest.mark.parametrize("score", conformal.SCORES)
@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_is_kept_for_exchangeable_images(score, alpha):
    n, coverage = 99, []
    for seed in range(300):
        both = exchangeable(n + 100, seed)
        fitting, judged = both.take(np.arange(n)), both.take(np.arange(n, n + 100))
        coverage.append(
            conformal.is_covered(conformal.conformal_sets(fitting, judged, score, alpha, seed), judged).mean()
        )
    # With 99 to fit on, alpha is met exactly on average (Angelopoulos and Bates 2023, appendix D).
    assert np.mean(coverage) == pytest.approx(1 - alpha, abs=0.01)


def test_the_promise_is_not_kept_for_new_photos_by_copies_of_the_old_ones():
    known, new = make(n_photos=40, copies=10, seed=1, alike=1), make(n_photos=40, copies=10, seed=2, alike=3)
    sets = conformal.conformal_sets(known, new, "LAC", 0.05)
    assert conformal.is_covered(sets, new).mean() < 0.9


@given(st.integers(0, 100), st.sampled_from([0.02, 0.1, 0.4]))
def test_sets_of_least_ambiguity_hold_every_class_that_is_probable_enough(seed, alpha):
    fitting, judged = exchangeable(60, seed), exchangeable(30, seed + 1)
    own = sorted(1 - row[label] for row, label in zip(fitting.probabilities, fitting.labels, strict=True))
    # The smallest limit below which at least (1 - alpha) of n + 1 lie.
    rank = next((r for r in range(1, 61) if r >= (61 * (1 - alpha))), None)
    limit = own[rank - 1] if rank else np.inf
    expected = [[1 - row[label] <= limit for label in (1, 2, 3, 4)] for row in judged.probabilities]
    np.testing.assert_array_equal(conformal.conformal_sets(fitting, judged, "LAC", alpha), expected)


@pytest.mark.parametrize("score", conformal.SCORES)
@given(seed=st.integers(0, 50), n=st.integers(20, 60))
def test_of_the_images_it_is_fitted_on_the_limit_keeps_as_many_as_it_must(score, seed, n):
    some = exchangeable(n, seed)
    scores = conformal.SCORES[score](some.probabilities, np.random.default_rng(seed).random(n))
    own = scores[np.arange(n), some.labels - 1]
    limit = np.sort(own)[int(np.ceil((n + 1) * 0.9)) - 1]
    # The same chance for both: the very scores that the limit was set by.
    chance = np.random.default_rng(seed).random(n)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(np.random, "default_rng", lambda _: SimpleNamespace(random=lambda _: chance))
        sets = conformal.conformal_sets(some, some, score, 0.1)
    np.testing.assert_array_equal(sets, scores <= limit)


@given(st.integers(0, 100))
def test_adaptive_scores_add_up_the_likelier_classes(seed):
    predictions = exchangeable(20, seed)
    chance = np.random.default_rng(seed).random(20)
    scores = conformal.adaptive(predictions.probabilities, chance)
    for row, part, found in zip(predictions.probabilities, chance, scores, strict=True):
        for label in (1, 2, 3, 4):
            likelier = sum(p for p in row if p > row[label])
            assert found[label - 1] == pytest.approx(likelier + part * row[label])


@pytest.mark.parametrize("score", conformal.SCORES)
def test_too_few_images_to_fit_on_promise_nothing_and_keep_every_class(score):
    judged = exchangeable(30, 0)
    assert conformal.conformal_sets(exchangeable(18, 1), judged, score, 0.05).all()
    assert not conformal.conformal_sets(exchangeable(19, 1), judged, score, 0.05).all()


def test_sets_are_described_by_their_coverage_and_size():
    predictions = make()
    sets = np.zeros((len(predictions), 4), bool)
    sets[:, 0] = True
    sets[predictions.photos == 101, 1] = True
    found = conformal.describe_sets(sets, predictions, calibration.draw_photos(predictions))
    assert [found[cell] for cell in CLASSES] == [1, pytest.approx(1 / 6), 0, 0]
    assert found["coverage"].estimate == pytest.approx(7 / 24)
    assert found["coverage"].low <= 7 / 24 <= found["coverage"].high
    assert found["size"] == pytest.approx(25 / 24)


def test_a_class_that_is_absent_has_no_coverage():
    predictions = make()
    some = predictions.take(predictions.labels != 3)
    found = conformal.describe_sets(np.ones((len(some), 4), bool), some, calibration.draw_photos(some))
    assert np.isnan(found["MONOCYTE"])
    assert found["LYMPHOCYTE"] == 1


def test_means_by_photo_are_over_its_copies():
    predictions = make(n_photos=8, copies=4)
    values = np.arange(len(predictions)) % 3 == 0
    table = conformal.mean_by_photo(values, predictions)
    assert list(table.index) == list(range(100, 108))
    assert list(table.cell) == [*CLASSES, *CLASSES]
    for photo, mean in table["mean"].items():
        assert mean == values[predictions.photos == photo].mean()
