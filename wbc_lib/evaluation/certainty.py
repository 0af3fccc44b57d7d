"""What the scores on TEST are worth, its images being copies of a few photos."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import intervals
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.evaluation.photo_scores import SCORES, SHARES, HoldOut, vote


def by_image(matrix: NDArray, score: str) -> Interval:
    """Interval of a score as if images were independent: Wilson's for a share, else images drawn one by one.

    Parameters
    ----------
    matrix : ndarray, shape (4, 4) or (4, 5)
        Confusion matrix; a mean over runs on the same images counts each image once.
    score : str
        One of `SCORES`.
    """
    if score in SHARES:
        row = slice(None) if score == "accuracy" else slice(SHARES.index(score) - 1, SHARES.index(score))
        right = np.diagonal(matrix)[row].sum()
        return intervals.binomial_interval(float(right), float(matrix[row].sum()))
    drawn = SCORES[score](intervals.draw_images(matrix))
    return intervals.percentiles(float(SCORES[score](matrix)), drawn)


def by_photo(found: HoldOut, score: str, weights: NDArray[np.integer]) -> Interval:
    """Interval of one of `SCORES` when photos are drawn with all their copies."""
    return intervals.bootstrap(found.mean, weights, SCORES[score])


def for_few(found: HoldOut, score: str) -> Interval:
    """Interval of one of `SHARES` that allows for how few photos there are (see `intervals.clustered_interval`)."""
    if score == "accuracy":
        return intervals.clustered_interval(found.right, found.copies, found.cells)
    own = found.of(CLASSES[SHARES.index(score) - 1])
    return intervals.clustered_interval(own.right, own.copies)


def reckon_intervals(found: HoldOut, scores: Sequence[str], resamples: int = 10_000) -> dict[str, pd.DataFrame]:
    """Reckon the intervals of several scores in each way this room knows.

    Parameters
    ----------
    found : HoldOut
    scores : sequence of str
        Of `SCORES`.
    resamples : int
        Of the photos.

    Returns
    -------
    dict of str to DataFrame
        By way: ``images one by one``, ``photos within classes``, ``photos regardless of class`` and, for `SHARES`,
        ``allowing for few photos``; a row per score with ``estimate``, ``low`` and ``high``.
    """
    within, plain = (found.weights(by_class=by_class, resamples=resamples) for by_class in (True, False))
    return {
        "images one by one": as_table({s: by_image(found.matrix, s) for s in scores}),
        "photos within classes": as_table({s: by_photo(found, s, within) for s in scores}),
        "photos regardless of class": as_table({s: by_photo(found, s, plain) for s in scores}),
        "allowing for few photos": as_table({s: for_few(found, s) for s in scores if s in SHARES}),
    }


def as_table(found: Mapping[str, Interval]) -> pd.DataFrame:
    """Intervals by name as a table: ``estimate``, ``low``, ``high``."""
    return pd.DataFrame([vars(interval) for interval in found.values()], index=list(found))


def in_words(table: pd.DataFrame) -> pd.Series:
    """Write the intervals of a table for readers: ``84.6% to 87.3%``."""
    return pd.Series([f"{i.low:.1%} to {i.high:.1%}" for i in table.itertuples()], table.index, dtype=str)


def write_intervals(series: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`reckon_intervals` for readers: the score, and its interval in each way."""
    first = next(iter(series.values()))
    table = pd.DataFrame({"score": first.estimate.map("{:.1%}".format)})
    return table.join(pd.DataFrame({way: in_words(found) for way, found in series.items()}).reindex(first.index))


def write_runs(found: HoldOut, seeds: Sequence[int], resamples: int = 10_000) -> pd.DataFrame:
    """Describe each run's accuracy for readers, and that of their mean.

    Returns
    -------
    DataFrame
        A row per run and, of several, one for the mean: ``accuracy``, its interval in two ways, the ``design effect``
        and the ``effective size``.
    """
    parts = {f"seed {seed}": found.of_run(i) for i, seed in enumerate(seeds)}
    if len(seeds) > 1:
        parts["mean"] = found
    weights, rows = found.weights(resamples=resamples), {}
    for name, part in parts.items():
        ways = as_table({"images one by one": by_image(part.matrix, "accuracy"),
                         "photos within classes": by_photo(part, "accuracy", weights)})  # fmt: skip
        size = effective_sizes(part).accuracy
        rows[name] = {"accuracy": f"{ways.estimate.iloc[0]:.1%}", **in_words(ways)}
        rows[name] |= {"design effect": part.copies.sum() / size, "effective size": size}
    return pd.DataFrame(rows.values(), index=list(rows))


def effective_sizes(found: HoldOut) -> pd.Series:
    """Effective sample size of each of `SHARES` (see `intervals.effective_sample_size`); NaN where nothing varies."""
    sizes = {"accuracy": intervals.effective_sample_size(found.right, found.copies, found.cells)}
    for score, cell in zip(SHARES[1:], CLASSES, strict=True):
        own = found.of(cell)
        sizes[score] = intervals.effective_sample_size(own.right, own.copies)
    return pd.Series(sizes)


def compare_variation(found: HoldOut, scores: Sequence[str] = tuple(SHARES)) -> pd.DataFrame:
    """Standard deviations of scores, in points: from seed to seed, image to image, photo to photo.

    Returns
    -------
    DataFrame
        A row per score: ``seeds`` (NaN of one run), ``images`` and ``dataset`` (photos of each class drawn anew, in the
        mean of the runs).
    """
    each = {score: SCORES[score](found.counts.sum(axis=1)) for score in scores}
    images = intervals.draw_images(found.matrix)
    photos = intervals.resample(found.mean, found.weights())
    return 100 * pd.DataFrame(
        {
            "seeds": [each[s].std(ddof=1) if len(each[s]) > 1 else np.nan for s in scores],
            "images": [np.nanstd(SCORES[s](images)) for s in scores],
            "photos": [np.nanstd(SCORES[s](photos)) for s in scores],
        },
        index=list(scores),
    )


def arrange(matrix: NDArray[np.integer], found: HoldOut, *, packed: bool) -> NDArray[np.int64] | None:
    """Deal the predictions of a confusion matrix of unknown photos out to known ones.

    Parameters
    ----------
    matrix : ndarray of int, shape (4, 4) or (4, 5)
        Such as the paper's.
    found : HoldOut
        Its photos, classes and copies are used, not its predictions.
    packed : bool
        Whether the wrong copies of a class fill whole photos, which makes photos differ as much as they can, or are
        spread evenly over all photos, so that they hardly differ.

    Returns
    -------
    ndarray of int, shape (photos, 4, 5)
        Sums to `matrix`; ``None`` if the matrix does not have as many images of each class as the photos have copies.
    """
    labels, predicted, photos = [], [], []
    for row, cell in enumerate(CLASSES):
        own = found.of(cell)
        guesses = np.repeat(np.arange(1, matrix.shape[1] + 1) % 5, matrix[row])
        # The right ones first: what is left over at the end are photos of wrong copies.
        guesses = np.concatenate([guesses[guesses == row + 1], guesses[guesses != row + 1]])
        if len(guesses) != own.copies.sum():
            return None
        places = np.repeat(own.photos, own.copies)
        if not packed:
            turn = np.concatenate([(np.arange(n) + 0.5) / n for n in own.copies])
            places = places[np.argsort(turn, kind="stable")]
        labels.append(np.full(len(guesses), row + 1))
        predicted.append(guesses)
        photos.append(places)
    return intervals.group_counts(*(np.concatenate(parts) for parts in (labels, predicted, photos)))


def judge_matrix(matrix: NDArray[np.integer], found: HoldOut, resamples: int = 10_000) -> dict[str, pd.DataFrame]:
    """What intervals a confusion matrix of unknown photos could have, its images being those of known ones.

    Parameters
    ----------
    matrix : ndarray of int, shape (4, 4) or (4, 5)
        Such as the paper's.
    found : HoldOut
        Ours on the same images: its photos and, for the second way, its effective sample sizes are used.
    resamples : int
        Of the photos.

    Returns
    -------
    dict of str to DataFrame
        Intervals of `SHARES` if images were independent, at our effective sample sizes, if errors were spread evenly
        over the photos of each class, and if they filled whole photos; only the first if these are not the same images.
    """
    even, whole = (arrange(matrix, found, packed=packed) for packed in (False, True))
    naive = {score: by_image(matrix, score) for score in SHARES}
    if even is None or whole is None:
        return {"images one by one": as_table(naive)}
    sizes = effective_sizes(found)
    # Errors spread so evenly that images count for more than one are not relied on.
    sizes = np.minimum(sizes, [matrix.sum(), *matrix.sum(axis=1)])
    ours = {s: intervals.binomial_interval(naive[s].estimate * n, n) for s, n in sizes.dropna().items()}
    weights = found.weights(resamples=resamples)
    dealt = [{s: intervals.bootstrap(c, weights, SCORES[s]) for s in SHARES} for c in (even, whole)]
    names = ("images one by one", "as clustered as ours", "errors spread evenly", "errors in whole photos")
    return dict(zip(names, map(as_table, (naive, ours, *dealt)), strict=True))


def simulate_coverage(
    shares: ArrayLike, sizes: Sequence[int], copies: int = 35, times: int = 1000, seed: int = 0
) -> pd.DataFrame:
    """How often intervals hold the true share when few photos are drawn from many of known shares.

    Parameters
    ----------
    shares : array_like, shape (photos,)
        Share of copies right of each photo that may be drawn; their mean is the truth to be held.
    sizes : sequence of int
        Numbers of photos to draw, each at least 2.
    copies : int
        Images of each photo.
    times : int
        Simulated hold-out sets for each size.
    seed : int
        Same seed, same sets.

    Returns
    -------
    DataFrame
        By number of photos: the share of sets whose interval holds the truth, for ``images`` (Wilson's), ``dataset``
        (photos drawn anew, percentiles) and ``few`` (`intervals.clustered_interval`).
    """
    shares, rng = np.asarray(shares, float), np.random.default_rng(seed)
    truth, rows = shares.mean(), {}
    for n in sizes:
        right = rng.binomial(copies, rng.choice(shares, (times, n)))
        values = right @ intervals.group_weights(range(n), 1000).T / (n * copies)
        low, high = np.quantile(values, [0.025, 0.975], axis=1)
        images = [intervals.binomial_interval(k, n * copies) for k in right.sum(axis=1)]
        few = [intervals.clustered_interval(k, np.full(n, copies)) for k in right]
        rows[n] = {
            "images": np.mean([i.low <= truth <= i.high for i in images]),
            "photos": np.mean((low <= truth) & (truth <= high)),
            "few": np.mean([i.low <= truth <= i.high for i in few]),
        }
    return pd.DataFrame(rows.values(), index=pd.Index(rows, name="photos"))


@dataclass(frozen=True)
class Worth:
    """What the scores of one class are worth, bounds being one-sided and exact, at 95 %.

    Attributes
    ----------
    images, images_right : float
        Of the class; mean over runs.
    recall_by_image : float
        Lowest recall compatible with them if images were independent.
    photos, photos_right : int
        Of the class; right if most copies are.
    recall_by_photo : float
        Lowest share of photos recognised that is compatible with them.
    others, others_taken : int
        Photos of other classes; those most of whose copies are given this class.
    false_by_photo : float
        Highest share of other photos taken for the class that is compatible with them.
    precision_by_photo : float
        Precision at `recall_by_photo` and `false_by_photo`, the classes mixed as in TEST.
    """

    images: float
    images_right: float
    recall_by_image: float
    photos: int
    photos_right: int
    recall_by_photo: float
    others: int
    others_taken: int
    false_by_photo: float
    precision_by_photo: float


def weigh_class(found: HoldOut, cell: str) -> Worth:
    """Count the photos behind the recall and precision of one class, and bound both by them."""
    own, voted = found.cells == cell, vote(found).to_numpy() == cell
    images, right = float(found.copies[own].sum()), float(found.right[own].sum())
    photos, photos_right = int(own.sum()), int((own & voted).sum())
    others, taken = int((~own).sum()), int((~own & voted).sum())
    recall, false = intervals.lower_bound(photos_right, photos), 1 - intervals.lower_bound(others - taken, others)
    mix = images / found.copies.sum()
    precision = mix * recall / (mix * recall + (1 - mix) * false)
    by_image = intervals.lower_bound(right, images)
    return Worth(images, right, by_image, photos, photos_right, recall, others, taken, false, precision)


def write_worth(worths: Mapping[str, Worth]) -> pd.DataFrame:
    """Describe by name what the scores of one class are worth, for readers."""
    rows = {
        "images of the class recognised": lambda w: f"{w.images_right:,.0f} of {w.images:,.0f}",
        "recall by images, at least": lambda w: f"{w.recall_by_image:.1%}",
        "photos of the class recognised": lambda w: f"{w.photos_right} of {w.photos}",
        "recall by photos, at least": lambda w: f"{w.recall_by_photo:.0%}",
        "other photos taken for it": lambda w: f"{w.others_taken} of {w.others}",
        "false alarms by photos, at most": lambda w: f"{w.false_by_photo:.1%}",
        "precision at both these bounds": lambda w: f"{w.precision_by_photo:.0%}",
    }
    return pd.DataFrame({name: [write(w) for write in rows.values()] for name, w in worths.items()}, index=list(rows))


def compare_parts(found: HoldOut, apart: Sequence[int], resamples: int = 10_000) -> pd.DataFrame:
    """Score all photos, all but some, and those few beside the others of their classes.

    Parameters
    ----------
    found : HoldOut
    apart : sequence of int
        Photos to be set apart.
    resamples : int
        Of the photos.

    Returns
    -------
    DataFrame
        A row per part that has photos: ``dataset``, ``images``, ``accuracy`` and ``low``, ``high`` of its interval,
        photos drawn within classes.
    """
    is_apart = np.isin(found.photos, list(apart))
    of_their_classes = np.isin(found.cells, found.cells[is_apart])
    parts = {
        "all of TEST": np.ones(len(is_apart), bool),
        "without them": ~is_apart,
        "they alone": is_apart,
        "the others of their classes": of_their_classes & ~is_apart,
    }
    rows = {}
    for name, chosen in parts.items():
        if chosen.any():
            part = found.only(chosen)
            interval = by_photo(part, "accuracy", part.weights(resamples=resamples))
            rows[name] = {"photos": chosen.sum(), "images": part.copies.sum(), "accuracy": interval.estimate}
            rows[name] |= {"low": interval.low, "high": interval.high}
    return pd.DataFrame(rows.values(), index=list(rows))
