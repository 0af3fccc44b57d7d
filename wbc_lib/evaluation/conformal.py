"""Sets of classes that are to hold the true one, and whether what is fitted on some predictions serves for others.

What is fitted: a temperature, a threshold of confidence, or the limit of conformal sets (split-conformal prediction,
Angelopoulos and Bates 2023, section 1), whose promise is one for exchangeable examples; copies of a photo are not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.data import splits
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.calibration import Predictions, find_threshold, fit_temperature, pool, summarise
from wbc_lib.evaluation.intervals import Interval, ratio_interval

#: What a procedure may be fitted on: validation images, other photos of TEST, or validation images of other photos.
BY_VALIDATION, BY_PHOTO, HELD_BACK = "validation", "TEST, by photo", "validation by photo"
#: From (predictions to fit on, predictions to judge) to a row for each judged image.
Procedure = Callable[[Predictions, Predictions], NDArray]


def least_ambiguous(probabilities: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """LAC scores of the four classes, shape (images, 4): one minus the probability (Sadinle et al. 2019)."""
    return 1 - probabilities[:, 1:]


def adaptive(probabilities: NDArray[np.float64], chance: NDArray[np.float64]) -> NDArray[np.float64]:
    """APS scores of the four classes, shape (images, 4): the probability of all likelier classes and part of its own.

    Romano et al. (2020): the part, drawn from 0 to 1 for each image, keeps the sets from being larger than needed.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty(probabilities.shape)
    np.put_along_axis(scores, order, np.cumsum(ordered, axis=1) - (1 - chance[:, None]) * ordered, axis=1)
    return scores[:, 1:]


#: How badly a class fits an image: from probabilities (images, 5) and chance (images,), 0 to 1, to (images, 4).
SCORES = {"LAC": least_ambiguous, "APS": adaptive}


def conformal_sets(
    fitting: Predictions, judged: Predictions, score: str, alpha: float = 0.05, seed: int = 0
) -> NDArray[np.bool_]:
    """Sets of classes that hold the true one with probability 1 - alpha, if `judged` is exchangeable with `fitting`.

    Parameters
    ----------
    fitting, judged : Predictions
    score : str
        One of `SCORES`.
    alpha : float
        Share of misses that is accepted, above 0 and below 1.
    seed : int
        Of the chance in APS.

    Returns
    -------
    ndarray of bool, shape (judged, 4)
        Whether each class is in the set. With fewer than 1 / alpha - 1 images to fit on, all are.
    """
    rng = np.random.default_rng(seed)
    scores, known = (SCORES[score](p.probabilities, rng.random(len(p))) for p in (judged, fitting))
    ordered = np.sort(known[np.arange(len(fitting)), fitting.labels - 1])
    rank = int(np.ceil((len(ordered) + 1) * (1 - alpha)))
    return scores <= (ordered[rank - 1] if rank <= len(ordered) else np.inf)


def is_covered(sets: NDArray[np.bool_], predictions: Predictions) -> NDArray[np.bool_]:
    """Whether each image's set holds its true class, shape (images,)."""
    return sets[np.arange(len(sets)), predictions.labels - 1]


def describe_sets(
    sets: NDArray[np.bool_], predictions: Predictions, weights: NDArray[np.integer]
) -> dict[str, Interval | float]:
    """How often the sets (images, 4) hold the true class, and how large they are.

    Returns
    -------
    dict
        ``coverage`` (`Interval`, photos drawn anew); ``size`` (mean number of classes in a set); and the coverage of
        each class under its name (NaN if it is absent).
    """
    covered = is_covered(sets, predictions)
    of_class = {cell: covered[predictions.labels == label] for label, cell in enumerate(CLASSES, start=1)}
    return {
        "coverage": ratio_interval(covered, 1, predictions.photos, weights),
        "size": float(sets.sum(axis=1).mean()),
        **{cell: float(known.mean()) if len(known) else float("nan") for cell, known in of_class.items()},
    }


def mean_by_photo(values: NDArray, predictions: Predictions) -> pd.DataFrame:
    """Mean of a value (images,) over the copies of each photo.

    Returns
    -------
    DataFrame
        Indexed by photo: ``cell`` (its class) and ``mean``.
    """
    table = pd.DataFrame({"cell": np.array(CLASSES)[predictions.labels - 1], "mean": np.asarray(values, float)})
    return table.groupby(predictions.photos).agg({"cell": "first", "mean": "mean"}).rename_axis("photo")


# Fitted on some, judged on others -------------------------------------------------------------------------------------


def fold_by_group(labels: NDArray[np.integer], groups: ArrayLike, n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """The fold of each image, from 1, shape (images,): each fold has as many groups of each class.

    Images of one group, such as the copies of a photo, are in one fold. With more folds than the rarest class has
    groups, some lack that class.
    """
    folds = np.zeros(len(labels), np.int64)
    for fold in range(1, n_folds + 1):
        folds[splits.split_by_group(labels, np.asarray(groups), fold, n_folds, seed).validation] = fold
    return folds


def cross_fit(predictions: Predictions, folds: NDArray[np.integer], procedure: Procedure) -> NDArray:
    """Outcome of a procedure for each image, (images, ...), fitted on the folds (images,) that it is not in.

    This evaluates the procedure; nothing in it may be carried over to a use of the network.
    """
    parts = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    others = [np.flatnonzero(folds != fold) for fold in np.unique(folds)]
    outcomes = [procedure(predictions.take(o), predictions.take(p)) for o, p in zip(others, parts, strict=True)]
    return np.concatenate(outcomes)[np.argsort(np.concatenate(parts))]


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
            by_run = zip(self.tests, self.folds, strict=True)
            return np.concatenate([cross_fit(test, folds, procedure) for test, folds in by_run])
        return np.concatenate([procedure(f, test) for f, test in zip(self.fitted_on, self.tests, strict=True)])


def cross_fitted(tests: Sequence[Predictions], group_of: pd.Series, n_folds: int = 4) -> Trial:
    """A trial within TEST, whose photos are dealt out to folds anew for each run.

    Parameters
    ----------
    tests : sequence of Predictions
    group_of : Series of int
        By photo, as `overlaps.group` gives it: photos of one group are in one fold.
    n_folds : int
    """
    folds = [fold_by_group(t.labels, group_of.loc[t.photos], n_folds, seed) for seed, t in enumerate(tests)]
    return Trial(tests, folds=folds)


def fitted_temperature(fitting: Predictions, judged: Predictions) -> NDArray[np.float64]:
    """The fitted temperature, for each judged image: a `Procedure`."""
    return np.full(len(judged), fit_temperature(fitting))


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
        ``temperature`` and the columns of `calibration.Summary`.
    """
    rows: list[dict[str, object]] = []
    tests: Sequence[Predictions] = ()
    for name, trial in trials.items():
        if trial.tests is not tests:
            tests = trial.tests
            before = summarise(trial.test, weights)
            rows.append({"temperature from": "as trained", "temperature": 1.0, **vars(before)})
        temperatures = trial.apply(fitted_temperature)
        after = summarise(trial.test.at(temperatures), weights)
        rows.append({"temperature from": name, "temperature": temperatures.mean(), **vars(after)})
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
        test = trial.test
        decided = trial.apply(lambda fitting, judged: judged.confidence >= find_threshold(fitting, accuracy))
        rows[name] = {
            "decided": ratio_interval(decided, 1, test.photos, weights),
            "right": ratio_interval(decided & test.right, decided, test.photos, weights),
        }
    return pd.DataFrame(rows).T.rename_axis("threshold from")


def tabulate_sets(trials: Mapping[str, Trial], alpha: float, weights: NDArray[np.integer]) -> pd.DataFrame:
    """Conformal sets on TEST: a row per ``score`` and trial (``limit from``), with what `describe_sets` gives."""
    rows = {
        (score, name): describe_sets(predict_sets(trial, score, alpha), trial.test, weights)
        for score in SCORES
        for name, trial in trials.items()
    }
    return pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows, names=["score", "limit from"]))


def predict_sets(trial: Trial, score: str, alpha: float) -> NDArray[np.bool_]:
    """The conformal sets of a trial, shape (images, 4)."""
    return trial.apply(lambda fitting, judged: conformal_sets(fitting, judged, score, alpha))
