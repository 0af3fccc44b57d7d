"""Whether a stated probability can be believed: calibration, temperature, and deciding only what is sure.

Pure functions. Copies of one photo are not independent: intervals are over photos, drawn within classes, and allow
for how few photos may carry the variance (`intervals.student_interval`, `intervals.clustered_interval`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from wbc_lib.evaluation.intervals import (
    UNKNOWN,
    Interval,
    clustered_interval,
    student_interval,
    sum_by_group,
)
from wbc_lib.evaluation.scores import confidence_threshold

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: Lowest and highest temperature that is looked for.
TEMPERATURES = (0.1, 20.0)
N_BINS = 10


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for images, and which photos these are copies of."""

    labels: NDArray[np.integer]  # (images,), 1 to 4
    logits: NDArray[np.floating]  # (images, 5)
    photos: NDArray[np.integer]  # (images,)

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


def read_all(runs: "Sequence[Run]", part: str, photo_of: pd.Series) -> list[Predictions]:
    """`read_predictions` of each of several runs."""
    return [read_predictions(run, part, photo_of) for run in runs]


def pool(several: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several runs one after another; copies of a photo stay together in every resample."""
    return Predictions(*(np.concatenate([getattr(p, f) for p in several]) for f in ("labels", "logits", "photos")))


def interval_of_mean(values: ArrayLike, predictions: Predictions) -> Interval:
    """Mean of a value (images,), with Student's interval over photos."""
    values = np.asarray(values, float)
    sums, sizes = sum_by_group(np.column_stack([values, np.ones(len(values))]), predictions.photos).T
    return student_interval(sums, sizes, _labels_of_photos(predictions))


def interval_of_share(part: ArrayLike, predictions: Predictions, whole: ArrayLike | None = None) -> Interval:
    """Share of the images of `whole` (images,), by default all, that are in `part` (images,), with its interval."""
    part = np.asarray(part, float)
    both = np.column_stack([part, np.ones(len(part)) if whole is None else np.asarray(whole, float)])
    right, total = sum_by_group(both, predictions.photos).T
    return clustered_interval(right, total, _labels_of_photos(predictions))


def accuracy(several: Sequence[Predictions]) -> Interval:
    """Share of the images that several runs get right, with its interval; `UNKNOWN` of no run."""
    if not several:
        return UNKNOWN
    pooled = pool(several)
    return interval_of_share(pooled.right, pooled)


def _labels_of_photos(predictions: Predictions) -> NDArray[np.integer]:
    return predictions.labels[np.unique(predictions.photos, return_index=True)[1]]


def bin_by_confidence(confidence: NDArray[np.floating], n_bins: int) -> NDArray[np.int64]:
    """Sort images into bins of as nearly equal size as ties allow, shape (images,), from 0; equals stay together."""
    # Edges are values that occur: an interpolated quantile may miss by a rounding the value that it should equal.
    edges = np.unique(np.sort(confidence)[np.arange(1, n_bins) * len(confidence) // n_bins])
    return np.searchsorted(edges, confidence, side="right")


def calibration_error(predictions: Predictions, n_bins: int = N_BINS) -> float:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of equal mass, 0 to 1.

    Naeini et al. (2015), with the adaptive bins of Nixon et al. (2019). A sum of absolute values, it is above zero even
    for a model that is perfectly calibrated, the more so the fewer the images, or photos.
    """
    bins = bin_by_confidence(predictions.confidence, n_bins)
    return float(np.abs(np.bincount(bins, predictions.confidence - predictions.right)).sum() / len(bins))


def reliability(predictions: Predictions) -> pd.DataFrame:
    """What a reliability diagram shows: a row per bin of confidence.

    ``confidence`` and ``accuracy`` (means, 0 to 1), ``low`` and ``high`` of the accuracy's interval, ``images`` and
    ``photos``.
    """
    confidence, right, rows = predictions.confidence, predictions.right, []
    bins = bin_by_confidence(confidence, N_BINS)
    for number in np.unique(bins):
        inside = bins == number
        interval = interval_of_share(right & inside, predictions, inside)
        ends = {"accuracy": interval.estimate, "low": interval.low, "high": interval.high}
        n_photos = len(np.unique(predictions.photos[inside]))
        rows.append({"confidence": confidence[inside].mean(), **ends, "images": inside.sum(), "photos": n_photos})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Summary:
    """How far stated confidence can be believed: means over images, 0 to 1.

    `gap` is the mean confidence minus the accuracy, `error` the expected calibration error, `loss` the mean negative
    log-likelihood of the true class, in nats.
    """

    accuracy: float
    confidence: float
    gap: Interval
    error: float
    loss: float


def summarise(predictions: Predictions) -> Summary:
    """Summarise the calibration of predictions."""
    confidence, right = predictions.confidence, predictions.right
    return Summary(
        accuracy=float(right.mean()),
        confidence=float(confidence.mean()),
        gap=interval_of_mean(confidence - right, predictions),
        error=calibration_error(predictions),
        loss=float(predictions.losses.mean()),
    )


def fit_temperature(predictions: Predictions) -> float:
    """The temperature of the least mean loss (Guo et al. 2017, section 4.2), within the range of `TEMPERATURES`.

    Predictions without a fault would be sharpened without end: then it is the lowest of them.
    """
    from scipy.optimize import minimize_scalar  # slow to load, and a score needs no temperature

    best = minimize_scalar(
        lambda log: predictions.at(np.exp(log)).losses.mean(),
        bounds=tuple(np.log(TEMPERATURES)),
        method="bounded",
        options={"xatol": 1e-6},
    )
    return float(np.exp(best.x))


def find_threshold(predictions: Predictions, accuracy: float) -> float:
    """The lowest confidence at and above which no fewer than `accuracy` are right; above 1 if there is none."""
    return confidence_threshold(predictions.confidence, predictions.right, accuracy)


def risk_coverage(predictions: Predictions, points: int = 100) -> pd.DataFrame:
    """Accuracy among the surest images, for ever more of them (El-Yaniv and Wiener 2010).

    A row per threshold, at most `points`: ``share`` of images at or above it and their ``accuracy``. Images of equal
    confidence go together.
    """
    confidence, right = predictions.confidence, predictions.right
    chosen = np.unique(np.quantile(confidence, np.linspace(0, 1, points + 1)[:-1], method="higher"))
    decided = confidence[:, None] >= chosen
    accuracy = (decided & right[:, None]).sum(axis=0) / decided.sum(axis=0)
    return pd.DataFrame({"share": decided.mean(axis=0), "accuracy": accuracy})
