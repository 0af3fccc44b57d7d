"""Where honest models end on these photos, and why: disputed labels, an estimate of label noise, accuracy by smear.

Predictions are out of fold, of one repeat of cross-validation each: by models that had not seen the photo. What is said
of TEST itself decides nothing.
"""

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import comparison, intervals
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.training.runs import Run

#: What rows are called that hold all photos, and all classes.
ALL = "All"
#: Photos counted as certain of a class may fall short of its threshold by this, as in cleanlab.
_TOLERANCE = 1e-6
#: Resamples that are counted at once.
_AT_ONCE = 200


def find_disputed(first: Sequence[Predictions], second: Sequence[Predictions]) -> pd.DataFrame:
    """Find the photos whose label every repeat of two architectures contradicts out of fold.

    Neither may be the model that is later scored on the photos left. A row per disputed photo, by number: its
    ``label``, and what the ``first`` and the ``second`` call it (names of classes, by the mean probability), which need
    not be the same. Raises `ValueError` if they are not about the same photos in the same order.
    """
    both, names = (*first, *second), np.array(CLASSES)
    if any(not np.array_equal(repeat.photos, first[0].photos) for repeat in both):
        raise ValueError("each architecture has to answer about every photo in every repeat")
    columns = {"label": names[first[0].labels - 1]}
    for name, repeats in {"first": first, "second": second}.items():
        mean = np.mean([repeat.class_probabilities for repeat in repeats], axis=0)
        columns[name] = names[mean.argmax(axis=1)]
    is_right_once = np.any([repeat.right for repeat in both], axis=0)
    return pd.DataFrame(columns, pd.Index(first[0].photos, name="photo"))[~is_right_once].sort_index()


def estimate_noise(
    repeats: Sequence[Predictions], fields: pd.Series, smears: pd.Series, resamples: int
) -> pd.DataFrame:
    """Estimate what share of labels is wrong, by smear and class, with confident learning (Northcutt et al. 2021).

    A photo counts where a model is as sure of a class as it is on average of that class' own photos; of those that
    count, the share under another label is the estimate, by cleanlab. It measures disagreement: what a model
    systematically mistakes counts as noise, and what it learned wrongly from wrong labels does not.

    `fields` (a number that overlapping photos share) and `smears` are by photo. A row per smear and class, `ALL` for
    all of them: ``photos``, and ``estimate`` (mean over repeats), ``low`` and ``high``, shares from 0 to 1. Thresholds
    are those of all photos. A smear's or set's estimate weighs its classes by their photos. The interval is for a new
    training on other photos: fields are drawn with replacement, each draw is counted with each repeat's predictions.
    """
    photos, y = repeats[0].photos, repeats[0].labels - 1
    groups = np.unique(fields.loc[photos], return_inverse=True)[1]
    drawn = intervals.group_weights(groups, resamples)[:, groups]
    of_photo = smears.loc[photos].to_numpy()
    parts = {ALL: np.ones(len(y), bool)} | {str(smear): of_photo == smear for smear in np.unique(of_photo)}
    estimates, spreads = [], []
    for repeat in repeats:
        probabilities = repeat.class_probabilities
        estimates.append(_count_with_cleanlab(y, probabilities, parts))
        shares = [_count_noise(y, probabilities, parts, drawn[i : i + _AT_ONCE]) for i in range(0, resamples, _AT_ONCE)]
        spreads.append(np.concatenate(shares))
    mean, values = np.nanmean(estimates, axis=0), np.concatenate(spreads)
    rows = {}
    for i, (part, mask) in enumerate(parts.items()):
        for j, cell in enumerate((ALL, *CLASSES)):
            n_photos = int((mask & (y == j - 1)).sum() if j else mask.sum())
            found = intervals.percentiles(float(mean[i, j]), values[:, i, j])
            rows[part, cell] = {"photos": n_photos} | vars(found)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["smear", "cell"])


def score_test(runs: Sequence[Run], provenance: pd.DataFrame, disputed: Sequence[int]) -> pd.DataFrame:
    """Accuracy of runs on TEST as published, and on the photos of it that are not `disputed`: both are always given.

    A row each: ``photos``, ``images``, ``by_image`` and ``by_photo`` (copies averaged), each an `Interval` that allows
    for few photos. Which photos are disputed may not come from the model that is scored.
    """
    scored = comparison.score_photos(runs, provenance)
    parts = {"as published": scored, "undisputed": scored.only(~np.isin(scored.photos, list(disputed)))}
    rows: dict[str, dict[str, int | Interval]] = {
        name: {
            "photos": len(part.photos),
            "images": int(part.copies.sum()),
            "by_image": part.accuracy,
            "by_photo": part.photo_accuracy,
        }
        for name, part in parts.items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _count_with_cleanlab(
    y: NDArray[np.integer], probabilities: NDArray[np.floating], parts: Mapping[str, NDArray[np.bool_]]
) -> NDArray[np.float64]:
    # As `_count_noise`, without resampling, shape (parts, 5).
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in a notebook its progress bars ask for a package that none of them needs
        from cleanlab.count import compute_confident_joint, get_confident_thresholds

    thresholds = get_confident_thresholds(y, probabilities)
    rows = []
    for mask in parts.values():
        joint = compute_confident_joint(y[mask], probabilities[mask], thresholds=thresholds, calibrate=False)
        rows.append(_weigh(joint[None].astype(float), np.bincount(y[mask], minlength=len(CLASSES))[None])[0])
    return np.array(rows)


def _count_noise(
    y: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    parts: Mapping[str, NDArray[np.bool_]],
    weights: NDArray[np.integer],
) -> NDArray[np.float64]:
    # What cleanlab counts, for all resamples at once: shares of noise, shape (resamples, parts, 5), all classes first.
    own = y[:, None] == np.arange(len(CLASSES))
    drawn = weights.astype(float)
    with np.errstate(invalid="ignore"):
        thresholds = (drawn @ (own * probabilities)) / (drawn @ own.astype(float))
    # A class that was not drawn has no threshold, and no photo is certain of it.
    sure = probabilities >= np.nan_to_num(thresholds, nan=np.inf)[:, None] - _TOLERANCE
    several = sure.sum(axis=2) > 1
    guess = np.where(several, probabilities.argmax(axis=1), sure.argmax(axis=2))
    counted = np.where(sure.any(axis=2), weights, 0)
    shares = []
    for mask in parts.values():
        joint = np.zeros((len(weights), len(CLASSES), len(CLASSES)))
        for given in range(len(CLASSES)):
            rows = mask & (y == given)
            for other in range(len(CLASSES)):
                joint[:, given, other] = (counted[:, rows] * (guess[:, rows] == other)).sum(axis=1)
        diagonal = np.arange(len(CLASSES))
        joint[:, diagonal, diagonal] = np.maximum(joint[:, diagonal, diagonal], 1)
        shares.append(_weigh(joint, drawn[:, mask] @ own[mask].astype(float)))
    return np.stack(shares, axis=1)


def _weigh(joint: NDArray[np.float64], photos: NDArray[np.number]) -> NDArray[np.float64]:
    # Shares off the diagonal of joints (..., label, guess): (..., 5), first of all, classes weighing as their photos.
    by_class = 1 - np.diagonal(joint, axis1=-2, axis2=-1) / joint.sum(axis=-1)
    by_class = np.where(photos > 0, by_class, np.nan)
    overall = np.nansum(by_class * photos, axis=-1) / photos.sum(axis=-1)
    return np.concatenate([overall[..., None], by_class], axis=-1)
