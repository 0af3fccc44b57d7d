import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.made_predictions import make
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration, conformal
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.conformal import Trial


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


@given(st.integers(0, 50), st.sampled_from([2, 3, 4]))
def test_nothing_is_judged_by_what_was_fitted_on_copies_of_its_photo(seed, n_folds):
    predictions = make(seed=seed)
    folds = conformal.fold_by_group(predictions.labels, predictions.photos, n_folds, seed)

    def photo_after_checking(fitting: Predictions, judged: Predictions) -> NDArray:
        assert not np.isin(judged.photos, fitting.photos).any()
        assert len(fitting) + len(judged) == len(predictions)
        assert set(fitting.labels) == set(judged.labels) == {1, 2, 3, 4}
        return judged.photos

    np.testing.assert_array_equal(conformal.cross_fit(predictions, folds, photo_after_checking), predictions.photos)


def trials() -> dict[str, Trial]:
    known, tests = [make(seed=s, alike=0.5) for s in (1, 2)], [make(seed=s) for s in (3, 4)]
    folds = [conformal.fold_by_group(t.labels, t.photos, 3) for t in tests]
    return {"known photos": Trial(tests, known), "new photos": Trial(tests, folds=folds)}


def test_each_run_is_judged_by_what_was_fitted_on_its_own_images():
    trial = trials()["known photos"]
    found = trial.apply(conformal.fitted_temperature)
    expected = [calibration.fit_temperature(p) for p in trial.fitted_on]
    np.testing.assert_array_equal(found, np.repeat(expected, len(trial.tests[0])))
    np.testing.assert_array_equal(trial.test.photos, np.concatenate([t.photos for t in trial.tests]))


def test_photos_of_one_field_are_in_one_fold_and_each_run_has_folds_of_its_own():
    tests = [make(seed=s) for s in (3, 4)]
    field = pd.Series({photo: photo - photo % 8 if photo < 108 else photo for photo in range(100, 124)})
    trial = conformal.cross_fitted(tests, field, 3)
    for test, folds in zip(trial.tests, trial.folds, strict=True):
        assert set(folds) == {1, 2, 3}
        assert pd.Series(folds).groupby(field.loc[test.photos].to_numpy()).nunique().eq(1).all()
    of_photo = [dict(zip(t.photos, f, strict=True)) for t, f in zip(trial.tests, trial.folds, strict=True)]
    assert of_photo[0] != of_photo[1]


def test_temperatures_are_tabulated_after_what_was_trained():
    some = trials()
    weights = calibration.draw_photos(some["known photos"].test, 200)
    other = Trial([make(seed=8)], [make(seed=9)])
    table = conformal.tabulate_temperatures({**some, "others": other}, weights)
    assert list(table.index) == ["as trained", "known photos", "new photos", "as trained", "others"]
    assert (table.accuracy.iloc[:3] == table.accuracy.iloc[0]).all()
    cooled = some["known photos"].test.at(some["known photos"].apply(conformal.fitted_temperature))
    assert table.loss["known photos"] == pytest.approx(cooled.losses.mean())
    assert table.gap["known photos"].estimate == pytest.approx(cooled.confidence.mean() - cooled.right.mean())
    assert table.loss.iloc[2] < table.loss.iloc[1]  # what was fitted on photos alike serves them better


def test_decisions_are_tabulated_by_what_they_decide():
    some = trials()
    weights = calibration.draw_photos(some["known photos"].test, 200)
    table = conformal.tabulate_decisions(some, 0.9, weights)
    right = chosen = 0
    for fitting, judged in zip(some["known photos"].fitted_on, some["known photos"].tests, strict=True):
        decided = judged.confidence >= calibration.find_threshold(fitting, 0.9)
        chosen += decided.sum()
        right += judged.right[decided].sum()
    row = table.loc["known photos"]
    assert row.decided.estimate == pytest.approx(chosen / len(some["known photos"].test))
    assert row.right.estimate == pytest.approx(right / chosen)
    assert table.right["known photos"].estimate < 0.9


def test_sets_are_tabulated_for_every_score_and_trial():
    some = trials()
    weights = calibration.draw_photos(some["known photos"].test, 200)
    table = conformal.tabulate_sets(some, 0.1, weights)
    assert list(table.index) == [(s, n) for s in conformal.SCORES for n in some]
    sets = conformal.predict_sets(some["new photos"], "LAC", 0.1)
    covered = conformal.is_covered(sets, some["new photos"].test)
    assert table.coverage["LAC", "new photos"].estimate == pytest.approx(covered.mean())
    assert table.coverage["LAC", "known photos"].estimate < table.coverage["LAC", "new photos"].estimate
