"""Conformal prediction: sets of classes that hold the true one as often as promised, if new images are like the old.

Pure functions.
"""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.calibration import Predictions, ratio_interval


def least_ambiguous(probabilities: NDArray[np.floating], chance: NDArray[np.floating]) -> NDArray[np.float64]:
    """LAC scores of the four classes, shape (images, 4): one minus the probability (Sadinle et al. 2019)."""
    return 1 - probabilities[:, 1:]


def adaptive(probabilities: NDArray[np.floating], chance: NDArray[np.floating]) -> NDArray[np.float64]:
    """APS scores of the four classes, shape (images, 4): the probability of all likelier classes and part of its own.

    Romano et al. (2020): the part, drawn from 0 to 1 for each image, keeps the sets from being larger than needed.
    """
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ordered = np.take_along_axis(probabilities, order, axis=1)
    scores = np.empty(probabilities.shape)
    np.put_along_axis(scores, order, np.cumsum(ordered, axis=1) - (1 - chance[:, None]) * ordered, axis=1)
    return scores[:, 1:]


#: Ways to tell how ill a class fits an image: from probabilities (images, 5) and chance (images,) to (images, 4).
SCORES = {"LAC": least_ambiguous, "APS": adaptive}


def conformal_sets(
    fitting: Predictions, judged: Predictions, score: str, alpha: float = 0.05, seed: int = 0
) -> NDArray[np.bool_]:
    """Sets of classes that hold the true one with probability 1 - alpha, if what is judged is like what was fitted.

    Split-conformal prediction (Angelopoulos and Bates 2023, section 1). The promise is one for exchangeable examples,
    and copies of a photo are not.

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
    scores, own = (SCORES[score](p.probabilities, rng.random(len(p))) for p in (judged, fitting))
    own = np.sort(own[np.arange(len(fitting)), fitting.labels - 1])
    rank = int(np.ceil((len(own) + 1) * (1 - alpha)))
    return scores <= (own[rank - 1] if rank <= len(own) else np.inf)


def describe_sets(sets: NDArray[np.bool_], predictions: Predictions, weights: NDArray[np.integer]) -> dict[str, object]:
    """How often the sets hold the true class, and how large they are.

    Parameters
    ----------
    sets : ndarray of bool, shape (images, 4)
    predictions : Predictions
        Of the same images.
    weights : ndarray of int, shape (resamples, photos)

    Returns
    -------
    dict
        ``coverage`` (`Interval`, photos drawn anew); ``size`` (mean number of classes in a set);
        and the coverage of each class under its name (NaN if it is absent).
    """
    covered = is_covered(sets, predictions)
    of_class = {cell: predictions.labels == label for label, cell in enumerate(CLASSES, start=1)}
    return {
        "coverage": ratio_interval(covered, 1, predictions.photos, weights),
        "size": sets.sum(axis=1).mean(),
        **{cell: covered[rows].mean() if rows.any() else float("nan") for cell, rows in of_class.items()},
    }


def is_covered(sets: NDArray[np.bool_], predictions: Predictions) -> NDArray[np.bool_]:
    """Whether each image's set holds its true class, shape (images,)."""
    return sets[np.arange(len(sets)), predictions.labels - 1]


def mean_by_photo(values: NDArray, predictions: Predictions) -> pd.DataFrame:
    """Mean of a value (images,) over the copies of each photo.

    Returns
    -------
    DataFrame
        Indexed by photo: ``cell`` (its class) and ``mean``.
    """
    table = pd.DataFrame({"cell": np.array(CLASSES)[predictions.labels - 1], "mean": np.asarray(values, float)})
    return table.groupby(predictions.photos).agg({"cell": "first", "mean": "mean"}).rename_axis("photo")
