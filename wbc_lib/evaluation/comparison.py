"""Which of two networks does better on the same photos: paired differences on TEST, by image and by photo."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.evaluation import intervals
from wbc_lib.evaluation.intervals import Interval

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

BETTER, WORSE, NOT_TOLD_APART = "better", "worse", "not told apart"
#: The photo of a monocyte whose label is doubtful, and which has more copies in TEST than any other: what hangs on it
#: is given with it and without it.
DOUBTFUL_PHOTO = 110


@dataclass(frozen=True)
class PhotoScores:
    """How often each photo of TEST is recognised, mean over runs: an entry of each array per photo."""

    photos: NDArray[np.int64]  # numbers, ascending
    labels: NDArray[np.int64]  # 1 to 4
    groups: NDArray[np.int64]  # photos of one field of view have the same number
    copies: NDArray[np.int64]
    right_copies: NDArray[np.float64]  # copies that are recognised
    # share of the runs in which the mean probability over the copies is highest for the true class
    right: NDArray[np.float64]

    @property
    def by_image(self) -> float:
        """Share of the images that are recognised."""
        return float(self.right_copies.sum() / self.copies.sum())

    @property
    def by_photo(self) -> float:
        """Share of the photos that are recognised, copies averaged."""
        return float(self.right.mean())

    @property
    def accuracy(self) -> Interval:
        """Share of the images that are recognised, with the interval that few photos leave."""
        return intervals.clustered_interval(self.right_copies, self.copies, self.labels)

    @property
    def photo_accuracy(self) -> Interval:
        """Share of the photos that are recognised, copies averaged, with its interval."""
        return intervals.clustered_interval(self.right, np.ones(len(self.right)), self.labels)

    def only(self, chosen: NDArray[np.bool_]) -> "PhotoScores":
        """The photos that are chosen, shape (photos,)."""
        return PhotoScores(*(getattr(self, field.name)[chosen] for field in fields(self)))

    def without(self, *photos: int) -> "PhotoScores":
        """The other photos."""
        return self.only(~np.isin(self.photos, photos))

    def sum_by_group(self, values: NDArray, sizes: NDArray) -> pd.DataFrame:
        """Sum values and sizes (photos,) over each group: ``value``, ``size``, and the ``label`` of its first photo.

        Photos of two classes in one field of view are rare.
        """
        grouped = pd.DataFrame({"value": values, "size": sizes, "label": self.labels}).groupby(self.groups)
        return grouped.agg({"value": "sum", "size": "sum", "label": "first"})


def score_photos(runs: Sequence["Run"], provenance: pd.DataFrame, groups: pd.Series | None = None) -> PhotoScores:
    """Score runs on TEST, at least one, photo by photo.

    `provenance` has ``image`` and ``photo``. `groups` tells, by photo, a number that photos of one field of view share;
    by default each photo is a group.
    """
    photos = provenance.set_index("image").photo.loc[runs[0].names("test")].to_numpy()
    return score_answers(runs[0].labels("test"), photos, [run.probabilities("test") for run in runs], groups)


def score_answers(
    labels: NDArray[np.integer],
    photos: NDArray[np.integer],
    answers: Sequence[NDArray[np.floating]],
    groups: pd.Series | None = None,
) -> PhotoScores:
    """Score what one or more trainings say of images, photo by photo.

    `labels`, 1 to 4, and `photos` are (images,), `answers` probabilities (images, 5) of each training. Where one names
    a class alone, it is 1 there and 0 elsewhere: then the copies vote. A photo whose copies are tied counts in part.
    `groups` are as for `score_photos`.
    """
    names, first, member, copies = np.unique(photos, return_index=True, return_inverse=True, return_counts=True)
    of_photo = labels[first].astype(int)
    right_copies, right = np.zeros(len(names)), np.zeros(len(names))
    for answer in answers:
        right_copies += np.bincount(member, answer.argmax(axis=1) == labels, len(names)) / len(answers)
        total = np.zeros((len(names), answer.shape[1]))
        np.add.at(total, member, answer)
        is_highest = total == total.max(axis=1, keepdims=True)
        right += is_highest[np.arange(len(names)), of_photo] / is_highest.sum(axis=1) / len(answers)
    group = names if groups is None else groups.loc[names].to_numpy()
    return PhotoScores(names, of_photo, group, copies, right_copies, right)


def average(scored: Sequence[PhotoScores]) -> PhotoScores:
    """Mean over trainings, at least one, that were scored on the same photos."""
    right_copies, right = (np.mean([getattr(s, name) for s in scored], axis=0) for name in ("right_copies", "right"))
    return replace(scored[0], right_copies=right_copies, right=right)


@dataclass(frozen=True)
class Comparison:
    """One network's accuracy on TEST minus another's, in points, paired.

    Intervals are the wider of the bootstrap's and of Student's t with Satterthwaite's degrees of freedom.
    """

    by_image: Interval
    by_photo: Interval

    @property
    def verdicts(self) -> tuple[str, ...]:
        """By image and by photo: `BETTER`, `WORSE` or `NOT_TOLD_APART`."""
        both = (self.by_image, self.by_photo)
        return tuple(BETTER if d.low > 0 else WORSE if d.high < 0 else NOT_TOLD_APART for d in both)


def compare(one: PhotoScores, other: PhotoScores) -> Comparison:
    """Compare two networks on the photos of TEST, photos of one field of view drawn together, within classes."""
    by_image = _difference(one.right_copies - other.right_copies, one.copies, one)
    by_photo = _difference(one.right - other.right, np.ones(len(one.photos)), one)
    return Comparison(by_image, by_photo)


def _difference(values: NDArray, sizes: NDArray, scored: PhotoScores) -> Interval:
    groups = scored.sum_by_group(values, sizes)
    few = intervals.student_interval(groups["value"], groups["size"], groups.label)
    wide = max(few, bootstrap_groups(groups), key=lambda interval: interval.width)
    return Interval(*(100 * value for value in (wide.estimate, wide.low, wide.high)))


def bootstrap_groups(groups: pd.DataFrame) -> Interval:
    """Percentile interval of a ratio of totals, groups (see `PhotoScores.sum_by_group`) drawn anew within classes."""
    weights = intervals.group_weights(groups.index, strata=groups.label).astype(float)
    values, sizes = groups["value"].to_numpy(float), groups["size"].to_numpy(float)
    return intervals.percentiles(float(values.sum() / sizes.sum()), (weights @ values) / (weights @ sizes))


def average_classes(values: ArrayLike, sizes: ArrayLike, labels: ArrayLike) -> Interval:
    """Mean over classes of a ratio of totals, such as the share of images that are right, with its 95 % interval.

    Takes of each photo its total, such as the images that are right, its size and its class, within which photos are
    drawn. The interval is the wider of the bootstrap's and of Student's t with Satterthwaite's degrees of freedom; not
    cut at 0 and 1.
    """
    photos = pd.DataFrame(
        {"value": np.asarray(values, float), "size": np.asarray(sizes, float), "label": np.asarray(labels)}
    )
    classes = photos.groupby("label")
    total, n_photos = classes["size"].transform("sum"), classes["size"].transform("size")
    mean = classes["value"].transform("sum") / total
    # Each photo's part in the mean of its class, linearised.
    part = (photos["value"] - mean * photos["size"]) / total + mean / n_photos
    few = intervals.student_interval(part, 1 / n_photos, photos.label)
    weights = intervals.group_weights(photos.index, strata=photos.label).astype(float)
    drawn = [weights[:, rows] @ photos[["value", "size"]].to_numpy()[rows] for rows in classes.indices.values()]
    resampled = np.mean([values / sizes for values, sizes in map(np.transpose, drawn)], axis=0)
    return max(few, intervals.percentiles(few.estimate, resampled), key=lambda interval: interval.width)
