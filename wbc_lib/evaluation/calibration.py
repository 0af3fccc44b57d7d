"""Whether a stated probability can be believed: calibration, temperature, and deciding only what is sure.

Pure functions. Copies of one photo stand or fall together: every interval draws photos anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.evaluation.intervals import CONFIDENCE, Interval, group_weights, percentiles

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: Temperatures among which the best is looked for.
TEMPERATURES = np.geomspace(0.1, 20, 300)
N_BINS = 10


@dataclass(frozen=True)
class Predictions:
    """What a network said of images, and which photos these are copies of.

    Attributes
    ----------
    labels : ndarray of int, shape (images,)
        True classes, 1 to 4.
    logits : ndarray of float, shape (images, 5)
    photos : ndarray of int, shape (images,)
    """

    labels: NDArray[np.integer]
    logits: NDArray[np.floating]
    photos: NDArray[np.integer]

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray) -> "Predictions":
        """Some of the images, by row number or mask."""
        return Predictions(self.labels[rows], self.logits[rows], self.photos[rows])

    def at(self, temperature: ArrayLike) -> "Predictions":
        """The same with logits divided by a temperature above 0, one for all or one for each image (Guo et al. 2017).

        Above 1 the network sounds less sure, below 1 surer; what it thinks likeliest stays the same.
        """
        return Predictions(self.labels, self.logits / np.reshape(temperature, (-1, 1)), self.photos)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, shape (images, 5), rows summing to one."""
        from scipy.special import softmax

        return softmax(self.logits, axis=1)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the likeliest class, shape (images,)."""
        return self.probabilities.max(axis=1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the true one, shape (images,)."""
        return self.logits.argmax(axis=1) == self.labels

    @property
    def losses(self) -> NDArray[np.float64]:
        """Negative log-likelihood of each image's true class, in nats, shape (images,)."""
        top = self.logits.max(axis=1)
        own = self.logits[np.arange(len(self)), self.labels]
        return np.log(np.exp(self.logits - top[:, None]).sum(axis=1)) + top - own


def gather(run: "Run", part: str, photo_of: pd.Series) -> Predictions:
    """Read what a run said of "validation" or "test".

    Parameters
    ----------
    run : Run
    part : str
    photo_of : Series of int
        By image, the number of its photo, as `provenance.read` tells it.
    """
    photos = photo_of.loc[run.names(part)].to_numpy(np.int64)
    return Predictions(run.labels(part).astype(np.int64), run.logits(part).astype(float), photos)


def pool(several: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several runs one after another; copies of a photo stay together in every resample."""
    return Predictions(*(np.concatenate([getattr(p, f) for p in several]) for f in ("labels", "logits", "photos")))


def draw_photos(predictions: Predictions, resamples: int = 2000, seed: int = 0) -> NDArray[np.int32]:
    """Draw as many photos of each class as it has, with replacement (see `intervals.group_weights`).

    Returns
    -------
    ndarray of int32, shape (resamples, photos)
        How often each is drawn, in the order of ``np.unique(predictions.photos)``.
    """
    _, first = np.unique(predictions.photos, return_index=True)
    return group_weights(predictions.photos, resamples, seed, strata=predictions.labels[first])


def sum_by_photo(values: NDArray, photos: ArrayLike) -> NDArray[np.float64]:
    """Sum values (images, ...) over each photo, shape (photos, ...), in the order of ``np.unique(photos)``."""
    names, member = np.unique(photos, return_inverse=True)
    sums = np.zeros((len(names), *values.shape[1:]))
    np.add.at(sums, member, values)
    return sums


def ratio_interval(part: ArrayLike, whole: ArrayLike, photos: ArrayLike, weights: NDArray[np.integer]) -> Interval:
    """Interval of a ratio of two sums over images, photos drawn anew: a mean, an accuracy, a share, a coverage.

    Parameters
    ----------
    part, whole : array_like, shape (images,)
        Summed above and below the line; `whole` may be a single number for all.
    photos : array_like, shape (images,)
    weights : ndarray of int, shape (resamples, photos)
        As `intervals.group_weights` gives it.

    Returns
    -------
    Interval
        NaN where nothing is below the line.
    """
    above = np.asarray(part, float)
    both = np.column_stack([above, np.broadcast_to(np.asarray(whole, float), above.shape)])
    sums = sum_by_photo(both, photos)
    with np.errstate(invalid="ignore", divide="ignore"):
        estimate, values = (np.divide(*s.T) for s in (sums.sum(axis=0), weights.astype(float) @ sums))
    return percentiles(float(estimate), values)


def write_interval(interval: Interval, *, signed: bool = False) -> str:
    """An interval for readers: ``86.3% (73.7 to 95.0)``, a difference ``+1.2 (-0.4 to +2.9)``, none at all a dash."""
    if np.isnan(interval.estimate):
        return "–"
    numbers = (100 * value for value in (interval.estimate, interval.low, interval.high))
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*numbers) if signed else "{:.1f}% ({:.1f} to {:.1f})".format(*numbers)


# Calibration ----------------------------------------------------------------------------------------------------------


def bin_by_confidence(confidence: NDArray[np.floating], n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Sort images into bins of as nearly equal size as ties allow, shape (images,), from 0; equals stay together."""
    # Edges are values that occur: an interpolated quantile may miss by a rounding the value that it should equal.
    edges = np.unique(np.sort(confidence)[np.arange(1, n_bins) * len(confidence) // n_bins])
    return np.searchsorted(edges, confidence, side="right")


def calibration_error(confidence: NDArray[np.floating], right: NDArray[np.bool_], n_bins: int = N_BINS) -> float:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of equal mass.

    Naeini et al. (2015), with the adaptive bins of Nixon et al. (2019). A sum of absolute values, it is above zero even
    for a model that is perfectly calibrated, the more so the fewer the images, or photos.

    Parameters
    ----------
    confidence : ndarray of float, shape (images,)
        Of the likeliest class, 0 to 1.
    right : ndarray of bool, shape (images,)
    n_bins : int

    Returns
    -------
    float
        0 to 1.
    """
    bins = bin_by_confidence(confidence, n_bins)
    return float(np.abs(np.bincount(bins, confidence - right)).sum() / len(confidence))


def calibration_errors(
    predictions: Predictions, weights: NDArray[np.integer], n_bins: int = N_BINS
) -> NDArray[np.float64]:
    """`calibration_error` of each resample of photos, shape (resamples,), the bins kept.

    Parameters
    ----------
    predictions : Predictions
    weights : ndarray of int, shape (resamples, photos)
    n_bins : int
    """
    confidence = predictions.confidence
    bins = bin_by_confidence(confidence, n_bins)
    gaps = np.zeros((len(bins), bins.max() + 2))
    gaps[np.arange(len(bins)), bins] = confidence - predictions.right
    gaps[:, -1] = 1  # counts the images
    sums = weights.astype(float) @ sum_by_photo(gaps, predictions.photos)
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def reliability(predictions: Predictions, weights: NDArray[np.integer], n_bins: int = N_BINS) -> pd.DataFrame:
    """What a reliability diagram shows: a row per bin of confidence.

    Returns
    -------
    DataFrame
        ``confidence`` and ``accuracy`` (means, 0 to 1), ``low`` and ``high`` (the accuracy's interval, photos drawn
        anew), ``images`` and ``dataset``.
    """
    confidence, right, rows = predictions.confidence, predictions.right, []
    bins = bin_by_confidence(confidence, n_bins)
    for number in np.unique(bins):
        inside = bins == number
        interval = ratio_interval(right & inside, inside, predictions.photos, weights)
        ends = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high}
        n_photos = len(np.unique(predictions.photos[inside]))
        rows.append({"confidence": confidence[inside].mean(), **ends, "images": inside.sum(), "photos": n_photos})
    return pd.DataFrame(rows)


def summarise(predictions: Predictions, weights: NDArray[np.integer], n_bins: int = N_BINS) -> dict[str, object]:
    """How far the stated confidence can be believed.

    Returns
    -------
    dict
        ``accuracy``, ``confidence`` and ``loss`` (means); ``gap``, confidence minus accuracy, and ``error``, the
        expected calibration error (`Interval`, photos drawn anew).
    """
    confidence, right = predictions.confidence, predictions.right
    error = calibration_error(confidence, right, n_bins)
    return {
        "accuracy": right.mean(),
        "confidence": confidence.mean(),
        "gap": ratio_interval(confidence - right, 1, predictions.photos, weights),
        "error": percentiles(error, calibration_errors(predictions, weights, n_bins)),
        "loss": predictions.losses.mean(),
    }


# Temperature ----------------------------------------------------------------------------------------------------------


def fit_temperature(predictions: Predictions) -> float:
    """The temperature of the least mean loss (Guo et al. 2017, section 4.2), within the range of `TEMPERATURES`.

    Predictions without a fault would be sharpened without end: then it is the lowest of them.
    """
    from scipy.optimize import minimize_scalar  # slow to load, and a score needs no temperature

    found = minimize_scalar(
        lambda log: predictions.at(np.exp(log)).losses.mean(),
        bounds=tuple(np.log(TEMPERATURES[[0, -1]])),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(found.x))


def losses_by_photo(predictions: Predictions) -> NDArray[np.float64]:
    """Summed losses of each photo at each of `TEMPERATURES`, shape (photos, temperatures)."""
    every = np.column_stack([predictions.at(t).losses for t in TEMPERATURES])
    return sum_by_photo(every, predictions.photos)


def temperature_interval(predictions: Predictions, weights: NDArray[np.integer]) -> Interval:
    """`fit_temperature` with its interval, photos drawn anew, to the nearest of `TEMPERATURES`."""
    best = TEMPERATURES[(weights.astype(float) @ losses_by_photo(predictions)).argmin(axis=1)]
    return percentiles(fit_temperature(predictions), best)


# Deciding some, referring the rest ------------------------------------------------------------------------------------


def find_threshold(predictions: Predictions, accuracy: float = 0.99) -> float:
    """The lowest confidence at and above which no fewer than `accuracy` are right; above 1 if there is none.

    It decides `scores.automatic_share` of the images (El-Yaniv and Wiener 2010).
    """
    order = np.argsort(-predictions.confidence, kind="stable")
    confidence = predictions.confidence[order]
    running = np.cumsum(predictions.right[order]) / np.arange(1, len(order) + 1)
    is_last_of_ties = np.append(confidence[1:] < confidence[:-1], True)
    enough = np.flatnonzero((running >= accuracy) & is_last_of_ties)
    return float(confidence[enough[-1]]) if len(enough) else float(np.nextafter(1, 2))


def risk_coverage(predictions: Predictions, weights: NDArray[np.integer], points: int = 100) -> pd.DataFrame:
    """Accuracy among the surest images, for ever more of them (El-Yaniv and Wiener 2010).

    Returns
    -------
    DataFrame
        A row per threshold: ``share`` of images at or above it, their ``accuracy``, and ``low`` and ``high``, the
        accuracy's interval when photos are drawn anew. At most `points` rows; images of equal confidence go together.
    """
    confidence = predictions.confidence
    chosen = np.unique(np.quantile(confidence, np.linspace(0, 1, points + 1)[:-1], method="higher"))
    decided = confidence[:, None] >= chosen
    sums = [sum_by_photo(v, predictions.photos) for v in (decided & predictions.right[:, None], decided)]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (weights.astype(float) @ sums[0]) / (weights.astype(float) @ sums[1])
        low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    right, total = (s.sum(axis=0) for s in sums)
    return pd.DataFrame({"share": total / len(confidence), "accuracy": right / total, "low": low, "high": high})
