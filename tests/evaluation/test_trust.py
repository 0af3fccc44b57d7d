import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.made_predictions import make
from wbc_lib.evaluation import calibration, conformal, trust
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.trust import Trial


@given(st.integers(0, 50), st.sampled_from([2, 3, 4]))
def test_nothing_is_judged_by_what_was_fitted_on_copies_of_its_photo(seed, n_folds):
    predictions = make(seed=seed)
    folds = trust.fold_by_group(predictions.labels, predictions.photos, n_folds, seed)

    def photo_after_checking(fitting: Predictions, judged: Predictions) -> NDArray:
        assert not np.isin(judged.photos, fitting.photos).any()
        assert len(fitting) + len(judged) == len(predictions)
        assert set(fitting.labels) == set(judged.labels) == {1, 2, 3, 4}
        return judged.photos

    np.testing.assert_array_equal(trust.cross_fit(predictions, folds, photo_after_checking), predictions.photos)


def test_a_temperature_is_fitted_on_the_other_folds():
    predictions = make()
    folds = trust.fold_by_group(predictions.labels, predictions.photos, 2)
    found = Trial([predictions], folds=[folds]).apply(trust.temper)
    for fold in (1, 2):
        assert set(found[folds == fold]) == {calibration.fit_temperature(predictions.take(folds != fold))}


def trials() -> dict[str, Trial]:
    known, tests = [make(seed=s, alike=0.5) for s in (1, 2)], [make(seed=s) for s in (3, 4)]
    folds = [trust.fold_by_group(t.labels, t.photos, 3) for t in tests]
    return {"known photos": Trial(tests, known), "new photos": Trial(tests, folds=folds)}


def test_each_run_is_judged_by_what_was_fitted_on_its_own_images():
    trial = trials()["known photos"]
    found = trial.apply(trust.temper)
    expected = [calibration.fit_temperature(p) for p in trial.fitted_on]
    np.testing.assert_array_equal(found, np.repeat(expected, len(trial.tests[0])))
    np.testing.assert_array_equal(trial.test.photos, np.concatenate([t.photos for t in trial.tests]))


def test_photos_of_one_field_are_in_one_fold_and_each_run_has_folds_of_its_own():
    tests = [make(seed=s) for s in (3, 4)]
    field = pd.Series({photo: photo - photo % 8 if photo < 108 else photo for photo in range(100, 124)})
    trial = trust.cross_fitted(tests, field, 3)
    for test, folds in zip(trial.tests, trial.folds, strict=True):
        assert set(folds) == {1, 2, 3}
        assert pd.Series(folds).groupby(field.loc[test.photos].to_numpy()).nunique().eq(1).all()
    of_photo = [dict(zip(t.photos, f, strict=True)) for t, f in zip(trial.tests, trial.folds, strict=True)]
    assert of_photo[0] != of_photo[1]


def test_temperatures_are_tabulated_after_what_was_trained():
    some = trials()
    weights = calibration.draw_photos(some["known photos"].test, 200)
    other = Trial([make(seed=8)], [make(seed=9)])
    table = trust.tabulate_temperatures({**some, "others": other}, weights)
    assert list(table.index) == ["as trained", "known photos", "new photos", "as trained", "others"]
    assert (table.accuracy.iloc[:3] == table.accuracy.iloc[0]).all()
    cooled = some["known photos"].test.at(some["known photos"].apply(trust.temper))
    assert table.loss["known photos"] == pytest.approx(cooled.losses.mean())
    assert table.gap["known photos"].estimate == pytest.approx(cooled.confidence.mean() - cooled.right.mean())
    assert table.loss.iloc[2] < table.loss.iloc[1]  # what was fitted on photos alike serves them better


def test_decisions_are_tabulated_by_what_they_decide():
    some = trials()
    weights = calibration.draw_photos(some["known photos"].test, 200)
    table = trust.tabulate_decisions(some, 0.9, weights)
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
    table = trust.tabulate_sets(some, 0.1, weights)
    assert list(table.index) == [(s, n) for s in conformal.SCORES for n in some]
    sets = trust.predict_sets(some["new photos"], "LAC", 0.1)
    covered = conformal.is_covered(sets, some["new photos"].test)
    assert table.coverage["LAC", "new photos"].estimate == pytest.approx(covered.mean())
    assert table.coverage["LAC", "known photos"].estimate < table.coverage["LAC", "new photos"].estimate
