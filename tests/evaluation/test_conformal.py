import numpy as np
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


@pytest.mark.parametrize("alpha", [0.05, 0.2])
def test_the_promise_is_kept_for_exchangeable_images(alpha):
    n, coverage = 99, []
    for seed in range(300):
        both = exchangeable(n + 100, seed)
        fitting, judged = both.take(np.arange(n)), both.take(np.arange(n, n + 100))
        coverage.append(conformal.is_covered(conformal.conformal_sets(fitting, judged, alpha), judged).mean())
    # With 99 to fit on, alpha is met exactly on average (Angelopoulos and Bates 2023, appendix D).
    assert np.mean(coverage) == pytest.approx(1 - alpha, abs=0.01)


def test_the_promise_is_not_kept_for_new_photos_by_copies_of_the_old_ones():
    known, new = make(n_photos=40, copies=10, seed=1, alike=1), make(n_photos=40, copies=10, seed=2, alike=3)
    assert conformal.is_covered(conformal.conformal_sets(known, new, 0.05), new).mean() < 0.9


@given(st.integers(0, 100), st.sampled_from([0.02, 0.1, 0.4]))
def test_sets_hold_every_class_that_is_probable_enough(seed, alpha):
    fitting, judged = exchangeable(60, seed), exchangeable(30, seed + 1)
    own = sorted(1 - row[label] for row, label in zip(fitting.probabilities, fitting.labels, strict=True))
    # The smallest limit below which at least (1 - alpha) of n + 1 lie.
    rank = next((r for r in range(1, 61) if r >= (61 * (1 - alpha))), None)
    limit = own[rank - 1] if rank else np.inf
    expected = [[1 - row[label] <= limit for label in (1, 2, 3, 4)] for row in judged.probabilities]
    np.testing.assert_array_equal(conformal.conformal_sets(fitting, judged, alpha), expected)


def test_too_few_images_to_fit_on_promise_nothing_and_keep_every_class():
    judged = exchangeable(30, 0)
    assert conformal.conformal_sets(exchangeable(18, 1), judged, 0.05).all()
    assert not conformal.conformal_sets(exchangeable(19, 1), judged, 0.05).all()


def test_means_by_photo_are_over_its_copies():
    predictions = make(n_photos=8, copies=4)
    values = np.arange(len(predictions)) % 3 == 0
    table = conformal.mean_by_photo(values, predictions)
    assert list(table.index) == list(range(100, 108))
    assert list(table.cell) == [*CLASSES, *CLASSES]
    for photo, mean in table["mean"].items():
        assert mean == values[predictions.photos == photo].mean()


def trials() -> dict[str, Trial]:
    judged = [make(seed=s) for s in (3, 4)]
    known, new = ([make(seed=s, alike=alike) for s in (1, 2)] for alike in (0.5, 2.0))
    return {"known photos": Trial(judged, known), "new photos": Trial(judged, new)}


def test_each_run_is_judged_by_what_was_fitted_on_its_own_images():
    trial = trials()["known photos"]
    found = trial.apply(conformal.fitted_temperature)
    expected = [calibration.fit_temperature(p) for p in trial.fitted_on]
    np.testing.assert_array_equal(found, np.repeat(expected, len(trial.judged[0])))
    np.testing.assert_array_equal(trial.pooled.photos, np.concatenate([t.photos for t in trial.judged]))


def test_each_fold_is_judged_by_all_others_of_its_repeat_and_by_nothing_else():
    repeats = []
    for seed in (0, 1):
        whole = make(n_photos=20, seed=seed)
        repeats.append([whole.take(whole.photos % 5 == fold) for fold in range(5)])

    def check(fitting: Predictions, judged: Predictions) -> NDArray:
        assert not np.isin(judged.photos, fitting.photos).any()
        assert len(fitting) + len(judged) == 120
        return judged.logits[:, 0]

    # The logits of the two repeats differ: a fold of the one is never fitted on the other.
    assert set(conformal.across_folds(repeats).apply(check)) == {p for r in repeats for f in r for p in f.logits[:, 0]}
    of_first = {p for fold in repeats[0] for p in fold.logits[:, 0]}
    for fitting, judged in zip(*vars(conformal.across_folds(repeats)).values(), strict=True):
        assert len({p in of_first for p in [*fitting.logits[:, 0], *judged.logits[:, 0]]}) == 1


def test_a_photo_is_left_out_of_what_is_judged_and_of_what_is_fitted_on():
    trial = trials()["new photos"].without(103)
    for part in (*trial.judged, *trial.fitted_on):
        assert set(part.photos) == set(range(100, 124)) - {103}


def test_temperatures_are_tabulated_with_the_gap_before_and_after():
    some = trials()
    table = conformal.tabulate_temperatures(some)
    judged = some["new photos"].pooled
    cooled = judged.at(some["new photos"].apply(conformal.fitted_temperature))
    row = table.loc["new photos"]
    assert row.before.estimate == pytest.approx(judged.confidence.mean() - judged.right.mean())
    assert row.after.estimate == pytest.approx(cooled.confidence.mean() - cooled.right.mean())
    # What is fitted on photos alike serves them better.
    assert abs(row.after.estimate) < abs(table.after["known photos"].estimate)


def test_decisions_are_tabulated_by_what_they_decide():
    some = trials()
    table = conformal.tabulate_decisions(some, 0.9)
    right = chosen = 0
    for fitting, judged in zip(some["known photos"].fitted_on, some["known photos"].judged, strict=True):
        decided = judged.confidence >= calibration.find_threshold(fitting, 0.9)
        chosen += decided.sum()
        right += judged.right[decided].sum()
    row = table.loc["known photos"]
    assert row.decided.estimate == pytest.approx(chosen / len(some["known photos"].pooled))
    assert row.right.estimate == pytest.approx(right / chosen)
    assert row.right.estimate < 0.9


def test_sets_are_tabulated_with_their_size_and_the_coverage_of_each_class():
    some = trials()
    table = conformal.tabulate_sets(some, 0.1)
    sets, judged = conformal.predict_sets(some["new photos"], 0.1), some["new photos"].pooled
    covered, row = conformal.is_covered(sets, judged), table.loc["new photos"]
    assert row.coverage.estimate == pytest.approx(covered.mean())
    assert row["size"] == pytest.approx(sets.sum() / len(sets))
    assert pytest.approx(covered[judged.labels == 3].mean()) == row.MONOCYTE
    assert table.coverage["known photos"].estimate < row.coverage.estimate
    lacking = Trial([j.take(j.labels != 3) for j in some["new photos"].judged], some["new photos"].fitted_on)
    assert np.isnan(conformal.tabulate_sets({"": lacking}, 0.1).MONOCYTE.iloc[0])
