"""Which of two networks does better on the same photos: paired differences on TEST, by image and by photo."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.evaluation import intervals
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.training.runs import Run

BETTER, WORSE, NOT_TOLD_APART = "better", "worse", "not told apart"


@dataclass(frozen=True)
class PhotoScores:
    """How often each photo of TEST is recognised, mean over runs.

    Attributes
    ----------
    photos : ndarray of int, shape (photos,)
        Their numbers, ascending.
    labels : ndarray of int, shape (photos,)
        True labels 1 to 4.
    groups : ndarray of int, shape (photos,)
        Photos of one field of view have the same number.
    copies : ndarray of int, shape (photos,)
    right_copies : ndarray of float, shape (photos,)
        Copies that are recognised.
    right : ndarray of float, shape (photos,)
        Share of the runs in which the mean probability over the copies is highest for the true class.
    """

    photos: NDArray[np.int64]
    labels: NDArray[np.int64]
    groups: NDArray[np.int64]
    copies: NDArray[np.int64]
    right_copies: NDArray[np.float64]
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
        parts = (self.right_copies, self.copies, self.labels)
        return intervals.clustered_interval(*parts, freedom=intervals.degrees_of_freedom(*parts))

    @property
    def photo_accuracy(self) -> Interval:
        """Share of the photos that are recognised, copies averaged, with its interval."""
        parts = (self.right, np.ones(len(self.right)), self.labels)
        return intervals.clustered_interval(*parts, freedom=intervals.degrees_of_freedom(*parts))

    def without(self, photo: int) -> "PhotoScores":
        """The other photos."""
        kept = self.photos != photo
        return PhotoScores(*(getattr(self, field.name)[kept] for field in fields(self)))


def score_photos(runs: Sequence[Run], provenance: pd.DataFrame, groups: pd.Series | None = None) -> PhotoScores:
    """Score runs on TEST, photo by photo.

    Parameters
    ----------
    runs : sequence of Run
        At least one.
    provenance : DataFrame
        ``image`` and ``photo``.
    groups : Series, optional
        By photo, a number that photos of one field of view share. Default: each photo is a group.
    """
    photo_of = provenance.set_index("image").photo.loc[runs[0].names("test")].to_numpy()
    photos, member, copies = np.unique(photo_of, return_inverse=True, return_counts=True)
    labels = runs[0].labels("test")[np.unique(photo_of, return_index=True)[1]].astype(int)
    right_copies, right = np.zeros(len(photos)), np.zeros(len(photos))
    for run in runs:
        probabilities = run.probabilities("test")
        hits = probabilities.argmax(axis=1) == run.labels("test")
        right_copies += np.bincount(member, hits, len(photos)) / len(runs)
        total = np.zeros((len(photos), probabilities.shape[1]))
        np.add.at(total, member, probabilities)
        right += (total.argmax(axis=1) == labels) / len(runs)
    group = photos if groups is None else groups.loc[photos].to_numpy()
    return PhotoScores(photos, labels, group, copies, right_copies, right)


@dataclass(frozen=True)
class Comparison:
    """One network's accuracy on TEST minus another's, in points, paired.

    Attributes
    ----------
    by_image, by_photo : Interval
        The wider of the bootstrap's and of Student's t with Satterthwaite's degrees of freedom.
    """

    by_image: Interval
    by_photo: Interval

    @property
    def verdicts(self) -> tuple[str, str]:
        """By image and by photo: `BETTER`, `WORSE` or `NOT_TOLD_APART`."""
        return tuple(
            BETTER if i.low > 0 else WORSE if i.high < 0 else NOT_TOLD_APART for i in (self.by_image, self.by_photo)
        )


def compare(one: PhotoScores, other: PhotoScores, resamples: int = 10_000) -> Comparison:
    """Compare two networks on the photos of TEST, photos of one field of view drawn together, within classes."""
    ones = np.ones(len(one.copies))
    by_image = _difference(one.right_copies - other.right_copies, one.copies, one, resamples)
    by_photo = _difference(one.right - other.right, ones, one, resamples)
    return Comparison(by_image, by_photo)


def _difference(values: NDArray, sizes: NDArray, scored: PhotoScores, resamples: int) -> Interval:
    # A group of overlapping photos belongs to the class of its first: two classes in one field are rare.
    grouped = pd.DataFrame({"value": values, "size": sizes, "label": scored.labels}).groupby(scored.groups)
    sums, strata = grouped[["value", "size"]].sum(), grouped.label.first().to_numpy()
    weights = intervals.group_weights(np.arange(len(sums)), resamples, strata=strata)
    drawn = (weights @ sums.value.to_numpy()) / (weights @ sums["size"].to_numpy())
    few = intervals.student_interval(sums.value, sums["size"], strata)
    many = intervals.percentiles(few.estimate, drawn)
    wide = max(few, many, key=lambda interval: interval.width)
    return Interval(*(100 * value for value in (wide.estimate, wide.low, wide.high)))
