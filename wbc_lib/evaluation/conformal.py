"""Sets of classes that are to hold the true one, and whether what is fitted on some predictions serves for others.

What is fitted: a temperature, a threshold of confidence, or the limit of conformal sets (split-conformal prediction,
Angelopoulos and Bates 2023, section 1), whose promise is one for exchangeable examples; copies of a photo are not.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.calibration import (
    Predictions,
    find_threshold,
    fit_temperature,
    interval_of_mean,
    interval_of_share,
    pool,
)

#: From (predictions to fit on, predictions to judge) to a row for each judged image.
Procedure = Callable[[Predictions, Predictions], NDArray]


def conformal_sets(fitting: Predictions, judged: Predictions, alpha: float = 0.05) -> NDArray[np.bool_]:
    """Sets of classes that hold the true one with probability 1 - alpha, if `judged` is exchangeable with `fitting`.

    A class is in the set, bool (judged, 4), if its probability is no lower than a limit (Sadinle et al. 2019). With
    fewer than 1 / alpha - 1 images to fit on, all are.
    """
    known = np.sort(1 - fitting.probabilities[np.arange(len(fitting)), fitting.labels])
    rank = int(np.ceil((len(known) + 1) * (1 - alpha)))
    return 1 - judged.probabilities[:, 1:] <= (known[rank - 1] if rank <= len(known) else np.inf)


def is_covered(sets: NDArray[np.bool_], predictions: Predictions) -> NDArray[np.bool_]:
    """Whether each image's set holds its true class, shape (images,)."""
    return sets[np.arange(len(sets)), predictions.labels - 1]


def mean_by_photo(values: NDArray, predictions: Predictions) -> pd.DataFrame:
    """Mean of a value (images,) over the copies of each photo: ``cell`` (its class) and ``mean``."""
    table = pd.DataFrame({"cell": np.array(CLASSES)[predictions.labels - 1], "mean": np.asarray(values, float)})
    return table.groupby(predictions.photos).agg({"cell": "first", "mean": "mean"}).rename_axis("photo")


@dataclass(frozen=True)
class Trial:
    """Predictions to judge a procedure by, one per run, and those that it is fitted on before."""

    judged: Sequence[Predictions]
    fitted_on: Sequence[Predictions]

    @property
    def pooled(self) -> Predictions:
        """The judged predictions of all runs, one after another."""
        return pool(self.judged)

    def apply(self, procedure: Procedure) -> NDArray:
        """Outcome of a procedure for each image of `pooled`, fitted for each run by itself."""
        return np.concatenate([procedure(f, j) for f, j in zip(self.fitted_on, self.judged, strict=True)])

    def without(self, photo: int) -> "Trial":
        """The same without the copies of a photo, be they judged or fitted on."""
        parts = ([p.take(p.photos != photo) for p in some] for some in (self.judged, self.fitted_on))
        return Trial(*parts)


def across_folds(repeats: Sequence[Sequence[Predictions]]) -> Trial:
    """A trial by cross-validation: each fold is judged by what is fitted on the other folds of its repeat.

    Takes, for each repeat, what the networks of its folds predict for the photos held back from them.
    """
    judged = [fold for folds in repeats for fold in folds]
    others = [pool([*folds[:k], *folds[k + 1 :]]) for folds in repeats for k in range(len(folds))]
    return Trial(judged, others)


def fitted_temperature(fitting: Predictions, judged: Predictions) -> NDArray[np.float64]:
    """The fitted temperature, for each judged image: a `Procedure`."""
    return np.full(len(judged), fit_temperature(fitting))


def tabulate_temperatures(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Calibration before and after each trial's temperature.

    A row per trial: mean ``temperature``, and the gap between mean confidence and accuracy, ``before`` and ``after``
    (`Interval`).
    """
    rows = {}
    for name, trial in trials.items():
        judged, temperatures = trial.pooled, trial.apply(fitted_temperature)
        cooled = judged.at(temperatures)
        rows[name] = {
            "temperature": temperatures.mean(),
            "before": interval_of_mean(judged.confidence - judged.right, judged),
            "after": interval_of_mean(cooled.confidence - cooled.right, cooled),
        }
    return pd.DataFrame(rows).T


def tabulate_decisions(trials: Mapping[str, Trial], accuracy: float) -> pd.DataFrame:
    """What is ``decided`` by thresholds that were to give an accuracy, and how much of it is ``right``, by trial."""
    rows = {}
    for name, trial in trials.items():
        judged = trial.pooled
        decided = trial.apply(lambda fitting, some: some.confidence >= find_threshold(fitting, accuracy))
        rows[name] = {
            "decided": interval_of_share(decided, judged),
            "right": interval_of_share(decided & judged.right, judged, decided),
        }
    return pd.DataFrame(rows).T


def tabulate_sets(trials: Mapping[str, Trial], alpha: float) -> pd.DataFrame:
    """How often conformal sets hold the true class, and how large they are: a row per trial.

    ``coverage`` (`Interval`); ``size`` (mean number of classes in a set); and the coverage of each class under its name
    (NaN if it is absent).
    """
    rows = {}
    for name, trial in trials.items():
        judged, sets = trial.pooled, predict_sets(trial, alpha)
        covered = is_covered(sets, judged)
        of_class = {cell: covered[judged.labels == label] for label, cell in enumerate(CLASSES, start=1)}
        rows[name] = {
            "coverage": interval_of_share(covered, judged),
            "size": float(sets.sum(axis=1).mean()),
            **{cell: float(some.mean()) if len(some) else float("nan") for cell, some in of_class.items()},
        }
    return pd.DataFrame(rows).T


def predict_sets(trial: Trial, alpha: float) -> NDArray[np.bool_]:
    """The conformal sets of a trial, shape (images, 4)."""
    return trial.apply(lambda fitting, judged: conformal_sets(fitting, judged, alpha))
