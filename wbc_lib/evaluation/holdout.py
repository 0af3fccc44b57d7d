"""Accuracy by image and by photo: what scores on TEST are worth, its images being copies of a few photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import intervals, scores
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.training.runs import Run

#: The scores that are given intervals, by the name a reader sees.
SCORES: dict[str, scores.Statistic] = {
    "accuracy": scores.accuracy,
    "macro-F1": scores.macro_f1,
    **{f"recall, {cell.lower()}": scores.of_class(scores.recalls, cell) for cell in CLASSES},
    **{f"precision, {cell.lower()}": scores.of_class(scores.precisions, cell) for cell in CLASSES},
}
#: Those that are the share of a fixed set of images: of all, or of a class.
SHARES = ["accuracy", *(f"recall, {cell.lower()}" for cell in CLASSES)]
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

    def of(self, cell: str) -> "HoldOut":
        """The photos of one class."""
        return self.only(self.cells == cell)

    def only(self, chosen: NDArray[np.bool_]) -> "HoldOut":
        """The photos that are chosen, shape (photos,)."""
        return HoldOut(self.photos[chosen], self.counts[:, chosen])

    def of_run(self, run: int) -> "HoldOut":
        """One of the runs, by its place."""
        return HoldOut(self.photos, self.counts[run : run + 1])

    def weights(self, *, by_class: bool = True, resamples: int = 10_000) -> NDArray[np.int32]:
        """Draw photos anew (see `intervals.group_weights`), within each class or regardless of it."""
        return intervals.group_weights(self.photos, resamples, strata=self.cells if by_class else None)


def count_by_photo(runs: Sequence[Run], provenance: pd.DataFrame) -> HoldOut:
    """Count the predictions of runs on TEST by the photo each image was made from.

    Raises `ValueError` if the runs, at least one, were scored on different images, or `provenance` lacks one of these.
    """
    source = provenance.set_index("image").photo
    names = runs[0].names("test")
    if not pd.Index(names).isin(source.index).all():
        raise ValueError("the table of provenance lacks images of TEST; trace the images these runs were scored on")
    if any((run.names("test") != names).any() for run in runs):
        raise ValueError("these runs were scored on different images")
    photos = source.loc[names].to_numpy()
    counts = [intervals.group_counts(run.labels("test"), run.predicted("test"), photos) for run in runs]
    return HoldOut(np.unique(photos), np.stack(counts))


def tabulate_classes(holdout: HoldOut) -> pd.DataFrame:
    """What TEST is made of: per class its photos, their images, and the share of TEST that one photo can have."""
    photos = pd.DataFrame({"cell": holdout.cells, "copies": holdout.copies}).groupby("cell").copies
    table = photos.agg(["size", "sum", "min", "max"]).reindex([c for c in CLASSES if c in holdout.cells])
    table.columns = pd.Index(["photos", "images", "fewest copies", "most copies"])
    table["largest share of TEST"] = table["most copies"] / holdout.copies.sum()
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


def most_influential(photos: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows of `tabulate_photos` without which the accuracy would change most, in either direction."""
    return photos.loc[photos.influence.abs().sort_values(ascending=False, kind="stable").index[:n]]


def leave_each_out(holdout: HoldOut) -> pd.DataFrame:
    """The range of each of `SHARES` that is defined when any one photo is left out.

    ``all``, ``lowest`` and ``without_lowest`` (the photo left out), ``highest`` and ``without_highest``.
    """
    rows = {}
    for score in SHARES:
        values = SCORES[score](holdout.without_each)
        if np.isnan(values).all():
            continue
        low, high = int(np.nanargmin(values)), int(np.nanargmax(values))
        rows[score] = {
            "all": float(SCORES[score](holdout.matrix)),
            "lowest": values[low],
            "without_lowest": holdout.photos[low],
            "highest": values[high],
            "without_highest": holdout.photos[high],
        }
    return pd.DataFrame(rows.values(), index=list(rows))


def compare_parts(holdout: HoldOut, apart: Sequence[int], resamples: int = 10_000) -> pd.DataFrame:
    """Score all photos, all but those set `apart`, and those few beside the others of their classes.

    A row per part that has photos: ``photos``, ``images``, ``accuracy`` and ``low``, ``high`` of its interval, photos
    drawn within classes.
    """
    is_apart = np.isin(holdout.photos, list(apart))
    of_their_classes = np.isin(holdout.cells, holdout.cells[is_apart])
    parts = {
        "all of TEST": np.ones(len(is_apart), bool),
        "without them": ~is_apart,
        "they alone": is_apart,
        "the others of their classes": of_their_classes & ~is_apart,
    }
    rows = {}
    for name, chosen in parts.items():
        if chosen.any():
            part = holdout.only(chosen)
            interval = interval_by_photo(part, "accuracy", part.weights(resamples=resamples))
            rows[name] = {"photos": chosen.sum(), "images": part.copies.sum(), "accuracy": interval.estimate}
            rows[name] |= {"low": interval.low, "high": interval.high}
    return pd.DataFrame(rows.values(), index=list(rows))


def interval_by_image(matrix: NDArray, score: str) -> Interval:
    """Interval of one of `SCORES` as if images were independent: Wilson's for a share, else images drawn one by one.

    In a confusion matrix that is a mean over runs on the same images each image counts once.
    """
    if score in SHARES:
        row = slice(None) if score == "accuracy" else slice(SHARES.index(score) - 1, SHARES.index(score))
        right = np.diagonal(matrix)[row].sum()
        return intervals.binomial_interval(float(right), float(matrix[row].sum()))
    drawn = SCORES[score](intervals.draw_images(matrix))
    return intervals.percentiles(float(SCORES[score](matrix)), drawn)


def interval_by_photo(holdout: HoldOut, score: str, weights: NDArray[np.integer]) -> Interval:
    """Interval of one of `SCORES` when photos are drawn with all their copies."""
    return intervals.bootstrap(holdout.mean, weights, SCORES[score])


def interval_for_few_photos(holdout: HoldOut, score: str) -> Interval:
    """Interval of one of `SHARES` that allows for how few photos there are (see `intervals.clustered_interval`)."""
    return intervals.clustered_interval(*_right_and_copies(holdout, score))


def effective_sizes(holdout: HoldOut) -> pd.Series:
    """Effective sample size of each of `SHARES` (see `intervals.effective_sample_size`); NaN where nothing varies."""
    return pd.Series({s: intervals.effective_sample_size(*_right_and_copies(holdout, s)) for s in SHARES})


def _right_and_copies(holdout: HoldOut, score: str) -> tuple[NDArray, NDArray, NDArray | None]:
    # By photo; for the accuracy also the class, within which photos are drawn.
    if score == "accuracy":
        return holdout.right, holdout.copies, holdout.cells
    part = holdout.of(CLASSES[SHARES.index(score) - 1])
    return part.right, part.copies, None


def compute_intervals(holdout: HoldOut, names: Sequence[str], resamples: int = 10_000) -> dict[str, pd.DataFrame]:
    """Intervals of several of `SCORES`, a row each with ``estimate``, ``low`` and ``high``, computed in each way.

    By way: ``images one by one``, ``photos within classes``, ``photos regardless of class`` and, for `SHARES`,
    ``allowing for few photos``.
    """
    within, plain = (holdout.weights(by_class=by_class, resamples=resamples) for by_class in (True, False))
    return {
        "images one by one": _as_table({s: interval_by_image(holdout.matrix, s) for s in names}),
        "photos within classes": _as_table({s: interval_by_photo(holdout, s, within) for s in names}),
        "photos regardless of class": _as_table({s: interval_by_photo(holdout, s, plain) for s in names}),
        "allowing for few photos": _as_table({s: interval_for_few_photos(holdout, s) for s in names if s in SHARES}),
    }


def _as_table(by_name: Mapping[str, Interval]) -> pd.DataFrame:
    return pd.DataFrame([vars(interval) for interval in by_name.values()], index=list(by_name))


def compare_variation(holdout: HoldOut) -> pd.DataFrame:
    """Standard deviations of `SHARES`, in points: from seed to seed, image to image, photo to photo.

    ``seeds`` (NaN of one run), ``images`` and ``photos`` (of each class drawn anew, in the mean of the runs).
    """
    images = intervals.draw_images(holdout.matrix)
    photos = intervals.resample(holdout.mean, holdout.weights())
    rows = {}
    for score in SHARES:
        by_run = SCORES[score](holdout.counts.sum(axis=1))
        rows[score] = {
            "seeds": by_run.std(ddof=1) if len(by_run) > 1 else np.nan,
            "images": np.nanstd(SCORES[score](images)),
            "photos": np.nanstd(SCORES[score](photos)),
        }
    return 100 * pd.DataFrame(rows.values(), index=list(rows))


def distribute(matrix: NDArray[np.integer], holdout: HoldOut, *, packed: bool) -> NDArray[np.int64] | None:
    """Distribute the predictions of a confusion matrix of unknown photos over known ones, (photos, 4, 5).

    The wrong copies of a class fill whole photos (`packed`), which makes photos differ as much as they can, or are
    spread evenly over all, so that they hardly differ. ``None`` if the matrix, (4, 4) or (4, 5), does not have as many
    images of each class as the photos have copies.
    """
    labels, predicted, photos = [], [], []
    for row, cell in enumerate(CLASSES):
        part = holdout.of(cell)
        guesses = np.repeat(np.arange(1, matrix.shape[1] + 1) % 5, matrix[row])
        # The right ones first: what is left over at the end are photos of wrong copies.
        guesses = np.concatenate([guesses[guesses == row + 1], guesses[guesses != row + 1]])
        if len(guesses) != part.copies.sum():
            return None
        places = np.repeat(part.photos, part.copies)
        if not packed:
            position = np.concatenate([(np.arange(n) + 0.5) / n for n in part.copies])
            places = places[np.argsort(position, kind="stable")]
        labels.append(np.full(len(guesses), row + 1))
        predicted.append(guesses)
        photos.append(places)
    return intervals.group_counts(np.concatenate(labels), np.concatenate(predicted), np.concatenate(photos))


def bound_matrix(matrix: NDArray[np.integer], holdout: HoldOut, resamples: int = 10_000) -> dict[str, pd.DataFrame]:
    """Which intervals of `SHARES` a confusion matrix of unknown photos could have, its images being known.

    If images were independent, at our effective sample sizes (of `holdout`), if errors were spread evenly over the
    photos of each class, and if they filled whole photos; only the first if these are not the same images.
    """
    even, whole = (distribute(matrix, holdout, packed=packed) for packed in (False, True))
    naive = {score: interval_by_image(matrix, score) for score in SHARES}
    if even is None or whole is None:
        return {"images one by one": _as_table(naive)}
    # Errors spread so evenly that images count for more than one are not relied on.
    sizes = np.minimum(effective_sizes(holdout), [matrix.sum(), *matrix.sum(axis=1)])
    ours = {s: intervals.binomial_interval(naive[s].estimate * n, n) for s, n in sizes.dropna().items()}
    weights = holdout.weights(resamples=resamples)
    of_even, of_whole = ({s: intervals.bootstrap(c, weights, SCORES[s]) for s in SHARES} for c in (even, whole))
    return {
        "images one by one": _as_table(naive),
        "as clustered as ours": _as_table(ours),
        "errors spread evenly": _as_table(of_even),
        "errors in whole photos": _as_table(of_whole),
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
