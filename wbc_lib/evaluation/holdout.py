"""Accuracy by image and by photo: what scores on TEST are worth, its images being copies of a few photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import intervals, scores
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.intervals import Interval

#: The scores that are given intervals, by the name a reader sees. Each is the share of a fixed set of images.
SCORES: dict[str, scores.Statistic] = {
    "accuracy": scores.accuracy,
    **{f"recall, {cell.lower()}": scores.recall_of(cell) for cell in CLASSES},
}
#: Ways to compute an interval, the widest first.
FEW, WITHIN, BY_IMAGE = "allowing for few photos", "photos within classes", "images one by one"
_CLASSES_OR_NONE = np.array([*CLASSES, "none"])


@dataclass(frozen=True)
class HoldOut:
    """The predictions of one or more runs on TEST, counted photo by photo."""

    photos: NDArray[np.int64]  # numbers, ascending
    counts: NDArray[np.int64]  # a confusion matrix per run and photo, (runs, photos, 4, 5)

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean over the runs, shape (photos, 4, 5)."""
        return self.counts.mean(axis=0)

    @cached_property
    def matrix(self) -> NDArray[np.float64]:
        """Confusion matrix of all photos, mean over the runs, shape (4, 5)."""
        return self.mean.sum(axis=0)

    @cached_property
    def without_each(self) -> NDArray[np.float64]:
        """Confusion matrices without each photo in turn, mean over the runs, shape (photos, 4, 5)."""
        return self.matrix - self.mean

    @cached_property
    def copies(self) -> NDArray[np.int64]:
        """Images of each photo, shape (photos,)."""
        return self.counts[0].sum(axis=(1, 2))

    @cached_property
    def right(self) -> NDArray[np.float64]:
        """Images of each photo that are predicted right, mean over the runs, shape (photos,)."""
        return np.trace(self.mean, axis1=1, axis2=2)

    @cached_property
    def right_by_run(self) -> NDArray[np.float64]:
        """Share of each photo's copies that each run predicts right, shape (runs, photos)."""
        return np.trace(self.counts, axis1=2, axis2=3) / self.copies

    @cached_property
    def cells(self) -> NDArray[np.str_]:
        """True class of each photo, shape (photos,)."""
        return np.array(CLASSES)[self.counts[0].sum(axis=2).argmax(axis=1)]

    @cached_property
    def votes(self) -> NDArray[np.str_]:
        """Class that most copies of each photo are given, over all runs, shape (photos,); "none" is possible."""
        return _CLASSES_OR_NONE[self.mean.sum(axis=1).argmax(axis=1)]

    @property
    def accuracy(self) -> Interval:
        """Share of the images that are predicted right, with the interval that few photos leave."""
        return intervals.clustered_interval(self.right, self.copies, self.cells)

    def of(self, cell: str) -> "HoldOut":
        """The photos of one class."""
        return self.only(self.cells == cell)

    def only(self, chosen: NDArray[np.bool_]) -> "HoldOut":
        """The photos that are chosen, shape (photos,)."""
        return HoldOut(self.photos[chosen], self.counts[:, chosen])

    def weights(self, resamples: int = 10_000) -> NDArray[np.int32]:
        """Draw as many photos of each class as it has (see `intervals.group_weights`)."""
        return intervals.group_weights(self.photos, resamples, strata=self.cells)

    def relabel(self, photo: int, cell: str) -> "HoldOut":
        """The same if the copies of a photo were of another class."""
        counts, at = self.counts.copy(), self.photos == photo
        predicted = counts[:, at].sum(axis=2)
        counts[:, at] = 0
        counts[:, at, CLASSES.index(cell)] = predicted
        return HoldOut(self.photos, counts)


def count_by_photo(runs: Sequence[Predictions]) -> HoldOut:
    """Count what one or more runs predict of TEST by the photo that each image was made from.

    Raises `ValueError` if the runs were scored on different images.
    """
    if any(not np.array_equal(run.photos, runs[0].photos) for run in runs):
        raise ValueError("these runs were scored on different images")
    counts = [intervals.group_counts(run.labels, run.predicted, run.photos) for run in runs]
    return HoldOut(np.unique(runs[0].photos), np.stack(counts))


def tabulate_classes(holdout: HoldOut) -> pd.DataFrame:
    """What TEST is made of: per class its photos, their images, and what it adds to the variance of the accuracy."""
    photos = pd.DataFrame({"cell": holdout.cells, "copies": holdout.copies}).groupby("cell").copies
    table = photos.agg(["size", "sum", "min", "max"]).reindex([c for c in CLASSES if c in holdout.cells])
    table.columns = pd.Index(["photos", "images", "fewest copies", "most copies"])
    variance = intervals.variance_by_stratum(holdout.right, holdout.copies, holdout.cells)
    table["share of the variance"] = (variance / variance.sum()).reindex(table.index)
    return table.rename(index=str.capitalize)


def tabulate_photos(holdout: HoldOut) -> pd.DataFrame:
    """Describe every ``photo``: how it fares, and what the result owes to it.

    Columns: ``cell``, ``copies``, ``right`` (share of them, mean over runs), ``taken_for`` (the class its wrong copies
    are given most often, "" if none is wrong), ``share`` (of TEST's images) and ``influence``: by how much the accuracy
    would rise without it.
    """
    wrong = holdout.mean * (1 - np.eye(*holdout.matrix.shape))
    taken_for = np.where(wrong.sum(axis=(1, 2)) > 0, _CLASSES_OR_NONE[wrong.sum(axis=1).argmax(axis=1)], "")
    columns = {
        "cell": holdout.cells,
        "copies": holdout.copies,
        "right": holdout.right / holdout.copies,
        "taken_for": taken_for,
        "share": holdout.copies / holdout.copies.sum(),
        "influence": scores.accuracy(holdout.without_each) - scores.accuracy(holdout.matrix),
    }
    return pd.DataFrame(columns, index=pd.Index(holdout.photos, name="photo"))


def leave_each_out(holdout: HoldOut) -> pd.DataFrame:
    """The range of each of `SCORES` that is defined when any one photo is left out.

    ``all``, ``lowest`` and ``without_lowest`` (the photo left out), ``highest`` and ``without_highest``.
    """
    rows = {}
    for score, statistic in SCORES.items():
        values = statistic(holdout.without_each)
        if np.isnan(values).all():
            continue
        low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
        ends = (values[low], holdout.photos[low], values[high], holdout.photos[high])
        rows[score] = [float(statistic(holdout.matrix)), *ends]
    columns = ["all", "lowest", "without_lowest", "highest", "without_highest"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def compare_parts(holdout: HoldOut, apart: Sequence[int]) -> pd.DataFrame:
    """Score all photos, all but those set `apart`, and those few beside the others of their classes.

    A row per part that has photos: ``photos``, ``images``, and ``accuracy`` (`Interval`).
    """
    is_apart = np.isin(holdout.photos, list(apart))
    of_their_classes = np.isin(holdout.cells, holdout.cells[is_apart])
    parts = {
        "all of TEST": np.ones(len(is_apart), bool),
        "without them": ~is_apart,
        "they alone": is_apart,
        "the others of their classes": of_their_classes & ~is_apart,
    }
    some = {name: holdout.only(chosen) for name, chosen in parts.items() if chosen.any()}
    columns = {
        "photos": {name: len(part.photos) for name, part in some.items()},
        "images": {name: part.copies.sum() for name, part in some.items()},
        "accuracy": {name: part.accuracy for name, part in some.items()},
    }
    return pd.DataFrame(columns).loc[list(some)]


def interval_by_image(matrix: NDArray, score: str) -> Interval:
    """Wilson's interval of one of `SCORES`, as if images were independent.

    In a confusion matrix that is a mean over runs on the same images each image counts once.
    """
    row = slice(None) if score == "accuracy" else list(SCORES).index(score) - 1
    return intervals.binomial_interval(float(np.diagonal(matrix)[row].sum()), float(matrix[row].sum()))


def _parts(holdout: HoldOut) -> dict[str, HoldOut]:
    # By score the photos whose share right it is.
    return dict(zip(SCORES, [holdout, *map(holdout.of, CLASSES)], strict=True))


def compute_intervals(holdout: HoldOut, resamples: int = 10_000) -> dict[str, pd.DataFrame]:
    """Intervals of `SCORES`, a row each with ``estimate``, ``low`` and ``high``: by `FEW`, `WITHIN` and `BY_IMAGE`.

    Classes without photos are left out.
    """
    parts = {score: part for score, part in _parts(holdout).items() if len(part.photos)}
    weights = holdout.weights(resamples)
    return {
        FEW: _as_table({score: part.accuracy for score, part in parts.items()}),
        WITHIN: _as_table({score: intervals.bootstrap(holdout.mean, weights, SCORES[score]) for score in parts}),
        BY_IMAGE: _as_table({score: interval_by_image(holdout.matrix, score) for score in parts}),
    }


def _as_table(by_name: Mapping[str, Interval]) -> pd.DataFrame:
    return pd.DataFrame([vars(interval) for interval in by_name.values()], index=list(by_name))


def compare_variation(holdout: HoldOut) -> pd.DataFrame:
    """Standard deviations of `SCORES`, in points: from seed to seed, image to image, photo to photo.

    ``seeds`` (NaN of one run), ``images`` and ``photos`` (of each class drawn anew, in the mean of the runs).
    """
    images = intervals.draw_images(holdout.matrix)
    photos = intervals.resample(holdout.mean, holdout.weights())
    rows = {}
    for score, statistic in SCORES.items():
        by_run = statistic(holdout.counts.sum(axis=1))
        between = by_run.std(ddof=1) if len(by_run) > 1 else np.nan
        rows[score] = [between, np.nanstd(statistic(images)), np.nanstd(statistic(photos))]
    return 100 * pd.DataFrame.from_dict(rows, orient="index", columns=["seeds", "images", "photos"])


def pack_errors(matrix: NDArray[np.integer], holdout: HoldOut) -> HoldOut | None:
    """Distribute the predictions of a confusion matrix over known photos so that errors fill whole photos.

    Photos then differ as much as they can. ``None`` if the matrix, (4, 4) or (4, 5), does not have as many images of
    each class as the photos have copies.
    """
    labels, predicted, photos = [], [], []
    for row, cell in enumerate(CLASSES):
        part = holdout.of(cell)
        guesses = np.repeat(np.arange(1, matrix.shape[1] + 1) % 5, matrix[row])
        # The right ones first: what is left over at the end are photos of wrong copies.
        guesses = np.concatenate([guesses[guesses == row + 1], guesses[guesses != row + 1]])
        if len(guesses) != part.copies.sum():
            return None
        labels.append(np.full(len(guesses), row + 1))
        predicted.append(guesses)
        photos.append(np.repeat(part.photos, part.copies))
    counts = intervals.group_counts(np.concatenate(labels), np.concatenate(predicted), np.concatenate(photos))
    return HoldOut(holdout.photos, counts[None])


def bound_matrix(matrix: NDArray[np.integer], holdout: HoldOut) -> dict[str, pd.DataFrame]:
    """Which intervals of `SCORES` a confusion matrix of unknown photos could have, its images being known.

    If its errors filled whole photos, if they were as clustered as ours (of `holdout`), and if images were independent;
    only the last if these are not the same images.
    """
    naive = {score: interval_by_image(matrix, score) for score in SCORES}
    packed = pack_errors(matrix, holdout)
    if packed is None:
        return {BY_IMAGE: _as_table(naive)}
    sizes = {s: intervals.size_for_few_groups(p.right, p.copies, p.cells) for s, p in _parts(holdout).items()}
    ours = {
        s: intervals.binomial_interval(naive[s].estimate * size, size, exact=True)
        for s, size in sizes.items()
        if not np.isnan(size)
    }
    return {
        "errors in whole photos": _as_table({score: part.accuracy for score, part in _parts(packed).items()}),
        "as clustered as ours": _as_table(ours),
        BY_IMAGE: _as_table(naive),
    }


@dataclass(frozen=True)
class ClassBounds:
    """What the scores of one class are worth; bounds are one-sided and exact, at 95 %."""

    images: float  # of the class
    images_right: float  # mean over runs
    recall_by_image: float  # lowest that is compatible with these, were images independent
    photos: int
    photos_right: int  # most copies are
    recall_by_photo: float  # lowest share of photos recognised that is compatible with these
    others: int  # photos of other classes
    others_taken: int  # those most of whose copies are given this class
    false_by_photo: float  # highest share of other photos taken for the class that is compatible with these
    precision_by_photo: float  # at `recall_by_photo` and `false_by_photo`, the classes mixed as in TEST


def bound_class(holdout: HoldOut, cell: str) -> ClassBounds:
    """Count the photos behind the recall and precision of one class, and bound both by them."""
    is_cell, is_voted = holdout.cells == cell, holdout.votes == cell
    images, right = float(holdout.copies[is_cell].sum()), float(holdout.right[is_cell].sum())
    photos, photos_right = int(is_cell.sum()), int((is_cell & is_voted).sum())
    others, taken = int((~is_cell).sum()), int((~is_cell & is_voted).sum())
    recall, false = intervals.lower_bound(photos_right, photos), 1 - intervals.lower_bound(others - taken, others)
    mix = images / holdout.copies.sum()
    precision = mix * recall / (mix * recall + (1 - mix) * false)
    by_image = intervals.lower_bound(right, images)
    return ClassBounds(images, right, by_image, photos, photos_right, recall, others, taken, false, precision)
