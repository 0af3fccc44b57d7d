"""What is fitted on some predictions, put to the test on others: temperatures, thresholds, sets. Pure functions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.data import splits
from wbc_lib.evaluation.calibration import Predictions, find_threshold, fit_temperature, pool, ratio_interval, summarise
from wbc_lib.evaluation.conformal import SCORES, conformal_sets, describe_sets

#: What a procedure may be fitted on: validation images, other photos of TEST, or validation images of other photos.
BY_VALIDATION, BY_PHOTO, HELD_BACK = "validation", "TEST, by photo", "validation by photo"
#: From (predictions to fit on, predictions to judge) to a row for each judged image.
Procedure = Callable[[Predictions, Predictions], NDArray]


def fold_by_group(labels: NDArray[np.integer], groups: ArrayLike, n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Deal the groups of each class out to folds as evenly as they go; shape (images,), from 1.

    Parameters
    ----------
    labels : ndarray of int, shape (images,)
    groups : array_like, shape (images,)
        Images of one group, such as the copies of a photo, are in one fold.
    n_folds : int
        At most the number of groups of the rarest class, if each fold is to have every class.
    seed : int
    """
    folds = np.zeros(len(labels), np.int64)
    for fold in range(1, n_folds + 1):
        folds[splits.split_by_group(labels, np.asarray(groups), fold, n_folds, seed).validation] = fold
    return folds


def cross_fit(predictions: Predictions, folds: NDArray[np.integer], procedure: Procedure) -> NDArray:
    """Judge a procedure on each fold after fitting it on the others.

    Parameters
    ----------
    predictions : Predictions
    folds : ndarray of int, shape (images,)
    procedure : callable
        From (predictions to fit on, predictions to judge) to a row for each judged image.

    Returns
    -------
    ndarray, shape (images, ...)
        This evaluates the procedure; nothing in it may be carried over to a use of the network.
    """
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    every = np.arange(len(predictions))
    found = [procedure(predictions.take(np.setdiff1d(every, rows)), predictions.take(rows)) for rows in parts]
    return np.concatenate(found)[np.argsort(np.concatenate(parts))]


@dataclass(frozen=True)
class Trial:
    """Predictions of some runs on TEST, and what a procedure may be fitted on before it is judged by them.

    Attributes
    ----------
    tests : sequence of Predictions
        One per run.
    fitted_on : sequence of Predictions
        One per run, such as its validation images; unused with `folds`.
    folds : sequence of ndarray of int, shape (images,)
        One per run: the procedure is cross-fitted within TEST.
    """

    tests: Sequence[Predictions]
    fitted_on: Sequence[Predictions] = ()
    folds: Sequence[NDArray[np.integer]] = ()

    @property
    def test(self) -> Predictions:
        """The predictions on TEST of all runs, one after another."""
        return pool(self.tests)

    def apply(self, procedure: Procedure) -> NDArray:
        """Outcome of a procedure for each image of `test`, fitted for each run by itself."""
        if len(self.folds):
            pairs = zip(self.tests, self.folds, strict=True)
            return np.concatenate([cross_fit(test, folds, procedure) for test, folds in pairs])
        pairs = zip(self.fitted_on, self.tests, strict=True)
        return np.concatenate([procedure(fitted_on, test) for fitted_on, test in pairs])


def cross_fitted(tests: Sequence[Predictions], field: pd.Series, n_folds: int = 4) -> Trial:
    """A trial within TEST, whose photos are dealt out anew for each run.

    Parameters
    ----------
    tests : sequence of Predictions
    field : Series of int
        By photo, its field of view, as `overlaps.group` tells it: photos of one field are in one fold.
    n_folds : int
    """
    folds = [fold_by_group(t.labels, field.loc[t.photos], n_folds, seed) for seed, t in enumerate(tests)]
    return Trial(tests, folds=folds)


def temper(fitting: Predictions, judged: Predictions) -> NDArray[np.float64]:
    """The fitted temperature, for each judged image: a `Procedure`."""
    return np.full(len(judged), fit_temperature(fitting))


def decide(accuracy: float) -> Procedure:
    """Decide the images at or above the threshold that gives this accuracy: a `Procedure` from and to a mask."""
    return lambda fitting, judged: judged.confidence >= find_threshold(fitting, accuracy)


def tabulate_temperatures(trials: Mapping[str, Trial], weights: NDArray[np.integer]) -> pd.DataFrame:
    """Calibration on TEST before and after each trial's temperature.

    Parameters
    ----------
    trials : mapping of str to Trial
        By what the temperature is fitted on. Trials of the same runs follow one another.
    weights : ndarray of int, shape (resamples, photos)
        As `calibration.draw_photos` gives it.

    Returns
    -------
    DataFrame
        Indexed by ``temperature from``: "as trained" before the first trial of the same runs, then each trial; mean
        ``temperature`` and what `calibration.summarise` gives.
    """
    rows, tests = [], None
    for name, trial in trials.items():
        if trial.tests is not tests:
            tests = trial.tests
            rows.append({"temperature from": "as trained", "temperature": 1.0, **summarise(trial.test, weights)})
        temperatures = trial.apply(temper)
        after = summarise(trial.test.at(temperatures), weights)
        rows.append({"temperature from": name, "temperature": temperatures.mean(), **after})
    return pd.DataFrame(rows).set_index("temperature from")


def tabulate_decisions(trials: Mapping[str, Trial], accuracy: float, weights: NDArray[np.integer]) -> pd.DataFrame:
    """What is decided on TEST, and how much of it is right, by thresholds that were to give an accuracy.

    Returns
    -------
    DataFrame
        A row per trial: ``decided``, the share of images, and ``right``, the share of these (`Interval`).
    """
    rows = {}
    for name, trial in trials.items():
        test, chosen = trial.test, trial.apply(decide(accuracy))
        rows[name] = {
            "decided": ratio_interval(chosen, 1, test.photos, weights),
            "right": ratio_interval(chosen & test.right, chosen, test.photos, weights),
        }
    return pd.DataFrame(rows).T.rename_axis("threshold from")


def tabulate_sets(trials: Mapping[str, Trial], alpha: float, weights: NDArray[np.integer]) -> pd.DataFrame:
    """What conformal sets hold on TEST.

    Returns
    -------
    DataFrame
        A row per score and trial, indexed by ``score`` and ``limit from``: what `conformal.describe_sets` gives.
    """
    rows = {
        (score, name): describe_sets(predict_sets(trial, score, alpha), trial.test, weights)
        for score in SCORES
        for name, trial in trials.items()
    }
    return pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows, names=["score", "limit from"]))


def predict_sets(trial: Trial, score: str, alpha: float) -> NDArray[np.bool_]:
    """The conformal sets of a trial, shape (images, 4)."""
    return trial.apply(lambda fitting, judged: conformal_sets(fitting, judged, score, alpha))
