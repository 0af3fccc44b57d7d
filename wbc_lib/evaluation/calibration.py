"""Whether a stated probability can be believed: calibration, temperature, and deciding only what is sure.

Pure functions. Copies of one photo stand or fall together: every interval draws photos anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from wbc_lib.evaluation.intervals import CONFIDENCE, Interval, group_weights, percentiles, ratio_interval, sum_by_group
from wbc_lib.evaluation.scores import confidence_threshold

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: Temperatures among which the best is looked for.
TEMPERATURES = np.geomspace(0.1, 20, 300)
N_BINS = 10


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for images, and which photos these are copies of.

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

        Above 1 the network sounds less sure, below 1 surer; the likeliest class stays the same.
        """
        return Predictions(self.labels, self.logits / np.reshape(temperature, (-1, 1)), self.photos)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, shape (images, 5), rows summing to one."""
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
        return -log_softmax(self.logits, axis=1)[np.arange(len(self)), self.labels]


def read_predictions(run: "Run", part: str, photo_of: pd.Series) -> Predictions:
    """Predictions of a run on its "validation" or "test" images; `photo_of` tells the photo of each image by name."""
    photos = photo_of.loc[run.names(part)].to_numpy(np.int64)
    return Predictions(run.labels(part).astype(np.int64), run.logits(part).astype(float), photos)


def pool(several: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several runs one after another; copies of a photo stay together in every resample."""
    return Predictions(*(np.concatenate([getattr(p, f) for p in several]) for f in ("labels", "logits", "photos")))


def draw_photos(predictions: Predictions, resamples: int = 2000, seed: int = 0) -> NDArray[np.int32]:
    """Draw as many photos of each class as it has, with replacement, shape (resamples, photos)."""
    _, first = np.unique(predictions.photos, return_index=True)
    return group_weights(predictions.photos, resamples, seed, strata=predictions.labels[first])


# Calibration ----------------------------------------------------------------------------------------------------------


def bin_by_confidence(confidence: NDArray[np.floating], n_bins: int = N_BINS) -> NDArray[np.int64]:
    """Sort images into bins of as nearly equal size as ties allow, shape (images,), from 0; equals stay together."""
    # Edges are values that occur: an interpolated quantile may miss by a rounding the value that it should equal.
    edges = np.unique(np.sort(confidence)[np.arange(1, n_bins) * len(confidence) // n_bins])
    return np.searchsorted(edges, confidence, side="right")


def calibration_errors(
    predictions: Predictions, weights: NDArray[np.integer], n_bins: int = N_BINS
) -> NDArray[np.float64]:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of equal mass, 0 to 1.

    Naeini et al. (2015), with the adaptive bins of Nixon et al. (2019). A sum of absolute values, it is above zero even
    for a model that is perfectly calibrated, the more so the fewer the images, or photos.

    Parameters
    ----------
    predictions : Predictions
        Of all photos; they settle the bins.
    weights : ndarray of int, shape (resamples, photos)
        As `draw_photos` gives it; a row of ones asks for the error of the predictions themselves.
    n_bins : int

    Returns
    -------
    ndarray of float, shape (resamples,)
    """
    confidence = predictions.confidence
    bins = bin_by_confidence(confidence, n_bins)
    gaps = np.zeros((len(bins), bins.max() + 2))
    gaps[np.arange(len(bins)), bins] = confidence - predictions.right
    gaps[:, -1] = 1  # counts the images
    sums = weights.astype(float) @ sum_by_group(gaps, predictions.photos)
    return np.abs(sums[:, :-1]).sum(axis=1) / sums[:, -1]


def reliability(predictions: Predictions, weights: NDArray[np.integer], n_bins: int = N_BINS) -> pd.DataFrame:
    """What a reliability diagram shows: a row per bin of confidence.

    Returns
    -------
    DataFrame
        ``confidence`` and ``accuracy`` (means, 0 to 1), ``low`` and ``high`` (the accuracy's interval, photos drawn
        anew), ``images`` and ``photos``.
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


@dataclass(frozen=True)
class Summary:
    """How far stated confidence can be believed: three means, and two intervals with photos drawn anew.

    `gap` is the mean confidence minus the accuracy, `error` the expected calibration error.
    """

    accuracy: float
    confidence: float
    gap: Interval
    error: Interval
    loss: float


def summarise(predictions: Predictions, weights: NDArray[np.integer]) -> Summary:
    """Summarise the calibration of predictions; `weights` as `draw_photos` gives it."""
    confidence, right = predictions.confidence, predictions.right
    error = calibration_errors(predictions, np.ones((1, weights.shape[1]), int))[0]
    return Summary(
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        gap=ratio_interval(confidence - right, 1, predictions.photos, weights),
        error=percentiles(float(error), calibration_errors(predictions, weights)),
        loss=float(predictions.losses.mean()),
    )


# Temperature ----------------------------------------------------------------------------------------------------------


def fit_temperature(predictions: Predictions) -> float:
    """The temperature of the least mean loss (Guo et al. 2017, section 4.2), within the range of `TEMPERATURES`.

    Predictions without a fault would be sharpened without end: then it is the lowest of them.
    """
    from scipy.optimize import minimize_scalar  # slow to load, and a score needs no temperature

    best = minimize_scalar(
        lambda log: predictions.at(np.exp(log)).losses.mean(),
        bounds=tuple(np.log(TEMPERATURES[[0, -1]])),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(best.x))


def losses_by_photo(predictions: Predictions) -> NDArray[np.float64]:
    """Summed losses of each photo at each of `TEMPERATURES`, shape (photos, temperatures)."""
    losses = np.column_stack([predictions.at(t).losses for t in TEMPERATURES])
    return sum_by_group(losses, predictions.photos)


def best_temperatures(predictions: Predictions, weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """The one of `TEMPERATURES` with the least loss in each resample (resamples, photos), shape (resamples,)."""
    return TEMPERATURES[(weights.astype(float) @ losses_by_photo(predictions)).argmin(axis=1)]


def temperature_interval(predictions: Predictions, weights: NDArray[np.integer]) -> Interval:
    """`fit_temperature` with its interval, photos drawn anew, to the nearest of `TEMPERATURES`."""
    return percentiles(fit_temperature(predictions), best_temperatures(predictions, weights))


# Deciding some, referring the rest ------------------------------------------------------------------------------------


def find_threshold(predictions: Predictions, accuracy: float = 0.99) -> float:
    """The lowest confidence at and above which no fewer than `accuracy` are right; above 1 if there is none."""
    return confidence_threshold(predictions.confidence, predictions.right, accuracy)


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
    sums = [sum_by_group(v, predictions.photos) for v in (decided & predictions.right[:, None], decided)]
    with np.errstate(invalid="ignore", divide="ignore"):
        drawn = (weights.astype(float) @ sums[0]) / (weights.astype(float) @ sums[1])
        low, high = np.nanquantile(drawn, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
    right, total = (s.sum(axis=0) for s in sums)
    return pd.DataFrame({"share": total / len(confidence), "accuracy": right / total, "low": low, "high": high})
