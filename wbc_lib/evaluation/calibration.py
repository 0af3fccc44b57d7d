"""Whether a stated probability can be believed: calibration, temperature, sets of classes, deciding only what is sure.

Copies of one photo are not independent: intervals are over photos, drawn within classes, and allow for how few photos
may carry the variance (`intervals.student_interval`, `intervals.clustered_interval`). A `Trial` tells whether what is
fitted on some predictions serves for others.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax, softmax

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.intervals import UNKNOWN, Interval, clustered_interval, student_interval
from wbc_lib.evaluation.scores import confidence_threshold

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: Lowest and highest temperature that is looked for.
TEMPERATURES = (0.1, 20.0)
N_BINS = 10
#: Least probability that is counted: the loss of a zero would be infinite.
_LEAST = 1e-12


@dataclass(frozen=True)
class Predictions:
    """What a network predicts for images, and which photos these are copies of."""

    labels: NDArray[np.integer]  # (images,), 1 to 4
    logits: NDArray[np.floating]  # (images, 5)
    photos: NDArray[np.integer]  # (images,)

    @classmethod
    def from_probabilities(
        cls, labels: NDArray[np.integer], probabilities: NDArray[np.floating], photos: NDArray[np.integer]
    ) -> "Predictions":
        """Predictions of which probabilities (images, 5) are known, summing to one."""
        return cls(labels, np.log(np.maximum(probabilities, _LEAST)), photos)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: NDArray) -> "Predictions":
        """Some of the images, by row number or mask."""
        return Predictions(self.labels[rows], self.logits[rows], self.photos[rows])

    def at(self, temperature: ArrayLike) -> "Predictions":
        """The same with logits divided by a temperature above 0, one for all or one for each image (Guo et al. 2017).

        Above 1 the network sounds less sure, below 1 surer; the likeliest class stays the same.
        """
        return replace(self, logits=self.logits / np.reshape(temperature, (-1, 1)))

    def relabel(self, labels: pd.Series) -> "Predictions":
        """The same if some photos had other labels, given by photo."""
        changed, is_other = self.labels.copy(), np.isin(self.photos, labels.index)
        changed[is_other] = labels[self.photos[is_other]]
        return replace(self, labels=changed)

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """Softmax of the logits, shape (images, 5), rows summing to one."""
        return softmax(self.logits, axis=1)

    @property
    def class_probabilities(self) -> NDArray[np.float64]:
        """Probabilities of the classes (images, 4), without the output that belongs to none; rows sum to one."""
        known = self.probabilities[:, 1:]
        return known / np.maximum(known.sum(axis=1, keepdims=True), 1e-300)

    @property
    def confidence(self) -> NDArray[np.float64]:
        """Probability of the likeliest class, shape (images,)."""
        return self.probabilities.max(axis=1)

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest label of each image, 0 to 4, shape (images,)."""
        return self.logits.argmax(axis=1)

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest class is the true one, shape (images,)."""
        return self.predicted == self.labels

    @property
    def losses(self) -> NDArray[np.float64]:
        """Negative log-likelihood of each image's true class, in nats, shape (images,)."""
        return -log_softmax(self.logits, axis=1)[np.arange(len(self)), self.labels]


def read_all(runs: "Sequence[Run]", part: str, photo_of: pd.Series) -> list[Predictions]:
    """Predictions of runs on "validation" or "test" images; `photo_of` tells the photo of each image by name."""
    return [
        Predictions(
            run.labels(part).astype(np.int64),
            run.logits(part).astype(float),
            photo_of.loc[run.names(part)].to_numpy(np.int64),
        )
        for run in runs
    ]


def pool(several: Sequence[Predictions]) -> Predictions:
    """Put the predictions of several runs one after another; copies of a photo stay together in every resample."""
    return Predictions(*(np.concatenate([getattr(p, f) for p in several]) for f in ("labels", "logits", "photos")))


def interval_of_mean(values: ArrayLike, predictions: Predictions) -> Interval:
    """Mean of a value (images,), with Student's interval over photos."""
    return student_interval(*_sum_by_photo(predictions, values, np.ones(len(predictions))))


def interval_of_share(part: ArrayLike, predictions: Predictions, whole: ArrayLike | None = None) -> Interval:
    """Share of the images of `whole` (images,), by default all, that are in `part` (images,), with its interval."""
    return clustered_interval(*_sum_by_photo(predictions, part, np.ones(len(predictions)) if whole is None else whole))


def _sum_by_photo(predictions: Predictions, values: ArrayLike, sizes: ArrayLike) -> tuple[NDArray, NDArray, NDArray]:
    # And the photos' labels.
    _, first, member = np.unique(predictions.photos, return_index=True, return_inverse=True)
    return np.bincount(member, values), np.bincount(member, sizes), predictions.labels[first]


def accuracy(several: Sequence[Predictions]) -> Interval:
    """Share of the images that several runs get right, with its interval; `UNKNOWN` of no run."""
    if not several:
        return UNKNOWN
    pooled = pool(several)
    return interval_of_share(pooled.right, pooled)


def _bin(confidence: NDArray[np.floating]) -> NDArray[np.int64]:
    # The bin of each image, from 0: of as nearly equal size as ties allow. Edges are values that occur: an interpolated
    # quantile may miss by a rounding the value that it should equal.
    edges = np.unique(np.sort(confidence)[np.arange(1, N_BINS) * len(confidence) // N_BINS])
    return np.searchsorted(edges, confidence, side="right")


def calibration_error(predictions: Predictions) -> float:
    """Expected calibration error: how far accuracy is from confidence, averaged over bins of equal mass, 0 to 1.

    Naeini et al. (2015), with the adaptive bins of Nixon et al. (2019). A sum of absolute values, it is above zero even
    for a model that is perfectly calibrated, the more so the fewer the images, or photos.
    """
    bins = _bin(predictions.confidence)
    return float(np.abs(np.bincount(bins, predictions.confidence - predictions.right)).sum() / len(bins))


def reliability(predictions: Predictions) -> pd.DataFrame:
    """What a reliability diagram shows: a row per bin of confidence.

    ``confidence`` and ``accuracy`` (means, 0 to 1), ``low`` and ``high`` of the accuracy's interval, ``images`` and
    ``photos``.
    """
    confidence, right, rows = predictions.confidence, predictions.right, []
    bins = _bin(confidence)
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


def risk_coverage(predictions: Predictions) -> pd.DataFrame:
    """Accuracy among the surest images, for ever more of them (El-Yaniv and Wiener 2010).

    A row for each of up to 100 thresholds: ``share`` of images at or above it and their ``accuracy``. Images of equal
    confidence go together.
    """
    confidence, right = predictions.confidence, predictions.right
    chosen = np.unique(np.quantile(confidence, np.linspace(0, 1, 101)[:-1], method="higher"))
    decided = confidence[:, None] >= chosen
    accuracy = (decided & right[:, None]).sum(axis=0) / decided.sum(axis=0)
    return pd.DataFrame({"share": decided.mean(axis=0), "accuracy": accuracy})


#: From (predictions to fit on, predictions to judge) to a row for each judged image.
Procedure = Callable[[Predictions, Predictions], NDArray]


def conformal_sets(fitting: Predictions, judged: Predictions, alpha: float) -> NDArray[np.bool_]:
    """Sets of classes that hold the true one with probability 1 - alpha, if `judged` is exchangeable with `fitting`.

    A class is in the set, bool (judged, 4), if its probability is no lower than a limit (Sadinle et al. 2019;
    split-conformal prediction, Angelopoulos and Bates 2023, section 1). With fewer than 1 / alpha - 1 images to fit on,
    all are. Copies of a photo are not exchangeable.
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


def tabulate_temperatures(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """By trial, ``temperature`` and the gap of confidence and accuracy (`Interval`) ``before`` and ``after`` it."""
    rows = {}
    for name, trial in trials.items():
        judged = trial.pooled
        temperatures = trial.apply(lambda fitting, some: np.full(len(some), fit_temperature(fitting)))
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
        decided = trial.apply(lambda f, j: j.confidence >= confidence_threshold(f.confidence, f.right, accuracy))
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
