"""How sure a score is: intervals for images that come in groups, copies of one photo. Pure functions.

Copies of one photo are not independent: what can be drawn anew is the photo, with all its copies. The cluster bootstrap
does that (Field and Welsh 2007). All scores here are functions of a confusion matrix, so that a resample is a weighted
sum of the photos' own matrices, and all resamples are one product of two arrays.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import special

from wbc_lib.data.dataset import CLASSES, N_OUTPUTS
from wbc_lib.evaluation.scores import Statistic

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """An estimate and the interval around it."""

    estimate: float
    low: float
    high: float

    @property
    def width(self) -> float:
        """From the low end to the high one."""
        return self.high - self.low

    def __format__(self, spec: str) -> str:
        """Write as ``86.1% (81.2% to 90.3%)``, each number by the format."""
        return f"{self.estimate:{spec}} ({self.low:{spec}} to {self.high:{spec}})"


#: Of what is not there.
UNKNOWN = Interval(np.nan, np.nan, np.nan)


def format_interval(interval: Interval, *, signed: bool = False) -> str:
    """An interval for readers: ``86.3% (73.7 to 95.0)``, signed ``+1.2 (-0.4 to +2.9)``, an undefined one a dash."""
    if np.isnan(interval.estimate):
        return "–"
    # Halves are rounded up on every processor, whose last bit would else decide.
    numbers = (100 * value + 1e-9 for value in (interval.estimate, interval.low, interval.high))
    return "{:+.1f} ({:+.1f} to {:+.1f})".format(*numbers) if signed else "{:.1f}% ({:.1f} to {:.1f})".format(*numbers)


def group_weights(groups: ArrayLike, resamples: int = 10_000, strata: ArrayLike | None = None) -> NDArray[np.int32]:
    """Draw groups with replacement, many times, and count how often each is drawn, shape (resamples, groups).

    Takes the group of each example, such as the photo of each image. `strata` are those of the distinct groups, such as
    their classes, in the order of ``np.unique(groups)``, as the columns are: then as many groups are drawn from each
    stratum as it has. Raises `ValueError` if there are not as many strata as groups, or no group.
    """
    n_groups = len(np.unique(groups))
    strata = np.zeros(n_groups, int) if strata is None else np.asarray(strata)
    if not n_groups or strata.shape != (n_groups,):
        raise ValueError(f"need a stratum for each of {n_groups} groups, at least one; got {strata.shape}")
    return _draw_weights(tuple(np.unique(strata, return_inverse=True)[1].tolist()), resamples)


@lru_cache(maxsize=4)  # a page asks for many scores of the same groups
def _draw_weights(strata: tuple[int, ...], resamples: int) -> NDArray[np.int32]:
    n_groups, members_of = len(strata), np.array(strata)
    rng = np.random.default_rng(0)
    weights = np.empty((resamples, n_groups), np.int32)
    for stratum in range(max(strata) + 1):
        members = np.flatnonzero(members_of == stratum)
        # Counts of n draws with replacement from n are multinomial: no index array is needed.
        weights[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), resamples)
    weights.flags.writeable = False
    return weights


def group_counts(labels: NDArray[np.integer], predicted: NDArray[np.integer], groups: ArrayLike) -> NDArray[np.int64]:
    """Confusion matrix (see `scores.confusion`) of each group, shape (groups, 4, 5), in the order of ``np.unique``."""
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), len(CLASSES), N_OUTPUTS), np.int64)
    # Column -1 is the last: predictions of the class that is none.
    np.add.at(counts, (member, np.asarray(labels) - 1, np.asarray(predicted) - 1), 1)
    return counts


def resample(counts: NDArray[np.number], weights: NDArray[np.integer]) -> NDArray[np.float64]:
    """Confusion matrices of all resamples, (resamples, 4, 5), of what `group_counts` and `group_weights` give."""
    # As floats, because only those are multiplied by BLAS.
    flat = counts.reshape(len(counts), -1).astype(float)
    return (weights.astype(float) @ flat).reshape(len(weights), *counts.shape[1:])


def draw_images(matrix: NDArray[np.number]) -> NDArray[np.float64]:
    """Confusion matrices (10,000, 4, 5), images drawn one by one within each class as if independent.

    The rows of `matrix`, (4, 4) or (4, 5), sum to whole numbers; its entries, if means over runs, need not be whole.
    """
    rng = np.random.default_rng(0)
    drawn = np.zeros((10_000, len(CLASSES), N_OUTPUTS))
    for row, counts in enumerate(np.asarray(matrix, float)):
        if counts.any():
            drawn[:, row, : len(counts)] = rng.multinomial(round(counts.sum()), counts / counts.sum(), len(drawn))
    return drawn


def bootstrap(counts: NDArray[np.number], weights: NDArray[np.integer], statistic: Statistic) -> Interval:
    """Percentile interval of a score, groups drawn anew (Efron and Tibshirani 1993, chapter 13).

    Takes what `resample` does. Resamples in which the score, such as ``scores.recall_of(cell)``, is undefined are left
    out.
    """
    return percentiles(float(statistic(counts.sum(axis=0))), statistic(resample(counts, weights)))


def percentiles(estimate: float, values: NDArray[np.floating]) -> Interval:
    """The middle `CONFIDENCE` of resampled values, shape (resamples,); NaN are left out, and remain if all are."""
    known = values[~np.isnan(values)]
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(known, [tail, 1 - tail]) if len(known) else (np.nan, np.nan)
    return Interval(estimate, float(low), float(high))


def binomial_interval(successes: float, n: float, confidence: float = CONFIDENCE, *, exact: bool = False) -> Interval:
    """Interval of a share if every example were independent; `n` may be an effective sample size, not whole.

    Wilson's (1927), or, if it is to be `exact`, Clopper and Pearson's (1934), which never covers too little. Raises
    `ValueError` unless 0 <= successes <= n and n > 0.
    """
    if not (0 <= successes <= n and n > 0):
        raise ValueError(f"{successes} successes of {n} make no share")
    share, tail = float(successes / n), (1 - confidence) / 2
    if exact:
        low = special.betaincinv(successes, n - successes + 1, tail) if successes > 0 else 0.0
        high = special.betainccinv(successes + 1, n - successes, tail) if successes < n else 1.0
        return Interval(share, float(low), float(high))
    z = -special.ndtri(tail)
    centre, spread = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    low, high = (centre - spread) / (1 + z**2 / n), (centre + spread) / (1 + z**2 / n)
    return Interval(share, float(max(0, low)) if successes else 0.0, float(min(1, high)) if successes < n else 1.0)


def lower_bound(successes: float, n: float) -> float:
    """The lowest share that is still compatible with this many successes (one-sided, Clopper and Pearson 1934).

    For n of n it is (1 - `CONFIDENCE`) ** (1 / n), which the rule of three, 1 - 3 / n, approximates (Hanley and
    Lippman-Hand 1983).
    """
    return binomial_interval(successes, n, 2 * CONFIDENCE - 1, exact=True).low


def clustered_variance(right: ArrayLike, total: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Sampling variance of the share right when whole groups are drawn, by linearisation (Cochran 1977, chapter 6).

    Takes the examples right, and the examples, of each group. Groups are drawn within strata; a stratum of one group is
    set against the overall share. NaN if there is but one group.
    """
    if len(np.atleast_1d(total)) < 2:
        return float("nan")
    return float(_stratify(right, total, strata)[2].sum())


def _stratify(
    values: ArrayLike, sizes: ArrayLike, strata: ArrayLike | None
) -> tuple[NDArray, NDArray[np.int64], NDArray[np.float64]]:
    # The strata, the groups of each, and what each adds to the variance of the ratio of totals.
    values, sizes = np.asarray(values, float), np.asarray(sizes, float)
    strata = np.zeros(len(sizes), int) if strata is None else strata
    names, member, n = np.unique(strata, return_inverse=True, return_counts=True)
    residuals = (values - sizes * values.sum() / sizes.sum()) / sizes.sum()
    means = np.where(n > 1, np.bincount(member, residuals) / n, 0)
    squares = np.bincount(member, (residuals - means[member]) ** 2)
    return names, n, squares * n / np.maximum(n - 1, 1)


def effective_sample_size(right: ArrayLike, total: ArrayLike, strata: ArrayLike | None = None) -> float:
    """How many independent examples would make the share as sure as these are (Kish 1965, section 8.2).

    The examples over their design effect: how many times larger `clustered_variance` is than the binomial variance.
    Infinite if all groups have the same share right, NaN if all examples are right or none.
    """
    n = float(np.sum(total))
    share = float(np.sum(right)) / n
    binomial = share * (1 - share) / n
    effect = clustered_variance(right, total, strata) / binomial if binomial > 0 else float("nan")
    return n / effect if effect else float("inf")


def size_for_few_groups(right: ArrayLike, total: ArrayLike, strata: ArrayLike | None = None) -> float:
    """The effective sample size, cut for how badly few groups tell their own spread (Korn and Graubard 1998).

    By the ratio of Student's t with as many degrees of freedom as there are examples to that with `degrees_of_freedom`,
    squared; never more than there are examples. NaN if all examples are right or none, or if no group can differ.
    """
    right, total = np.asarray(right, float), np.asarray(total, float)
    tail = (1 - CONFIDENCE) / 2
    freedom = degrees_of_freedom(right, total, strata)
    if np.isnan(freedom):  # no stratum of several groups varies
        freedom = len(total) - (1 if strata is None else len(np.unique(strata)))
    if freedom < 1:
        return float("nan")
    cut = (special.stdtrit(total.sum() - 1, tail) / special.stdtrit(freedom, tail)) ** 2
    return float(np.minimum(effective_sample_size(right, total, strata) * cut, total.sum()))


def clustered_interval(right: ArrayLike, total: ArrayLike, strata: ArrayLike | None = None) -> Interval:
    """Exact binomial interval at the size that few groups are worth (`size_for_few_groups`; Korn and Graubard 1998).

    Where the bootstrap can only shuffle the groups at hand, this allows for how badly few groups tell their own spread.
    Takes what `clustered_variance` does; groups without examples are left out. If all examples are right, or none, each
    group counts once: Clopper and Pearson's. NaN without examples.
    """
    right, total = np.asarray(right, float), np.asarray(total, float)
    counted = total > 0
    if not counted.any():
        return UNKNOWN
    right, total = right[counted], total[counted]
    size = size_for_few_groups(right, total, None if strata is None else np.asarray(strata)[counted])
    size = len(total) if np.isnan(size) else size
    return binomial_interval(min(right.sum() / total.sum() * size, size), size, exact=True)


def variance_by_stratum(values: ArrayLike, sizes: ArrayLike, strata: ArrayLike) -> pd.Series:
    """Sampling variance of a ratio of totals over groups drawn within strata: what each stratum adds to it.

    Takes of each group its total, such as the images that are right (or one network's minus another's), and its size.
    Linearised (Cochran 1977, chapter 6); a stratum of one group is left out.
    """
    names, n, variances = _stratify(values, sizes, strata)
    return pd.Series(variances, names)[n > 1]


def degrees_of_freedom(values: ArrayLike, sizes: ArrayLike, strata: ArrayLike | None) -> float:
    """Effective degrees of freedom of `variance_by_stratum` (Satterthwaite 1946); NaN if nothing varies.

    Where a stratum of few groups carries most of the variance they are about that stratum's.
    """
    _, n, variances = _stratify(values, sizes, strata)
    n, variances = n[n > 1], variances[n > 1]
    weighted = (variances**2 / (n - 1)).sum()
    return float(variances.sum() ** 2 / weighted) if weighted > 0 else float("nan")


def student_interval(values: ArrayLike, sizes: ArrayLike, strata: ArrayLike) -> Interval:
    """Student's t interval of a ratio of totals (see `variance_by_stratum`); not cut at 0 and 1."""
    ratio = float(np.sum(values) / np.sum(sizes))
    freedom = degrees_of_freedom(values, sizes, strata)
    if np.isnan(freedom):
        return Interval(ratio, ratio, ratio)
    spread = np.sqrt(variance_by_stratum(values, sizes, strata).sum())
    half = float(-special.stdtrit(freedom, (1 - CONFIDENCE) / 2) * spread)
    return Interval(ratio, ratio - half, ratio + half)


def simulate_coverage(
    shares: Mapping[str, NDArray[np.floating]], copies: NDArray[np.integer], strata: NDArray
) -> pd.Series:
    """How often intervals of a share hold the truth if photos are drawn from populations in which it is known.

    `shares` gives for each stratum the shares of the copies right of the photos that may be drawn. As many are drawn as
    there are `copies` and `strata` (photos,); the truth is their expected share right. By way, the share of intervals
    that hold it: ``few`` (`clustered_interval`), ``photos`` (drawn anew within strata, percentiles) and ``images``
    (Wilson's).
    """
    rng, times = np.random.default_rng(0), 1000
    truth = sum(shares[s].mean() * n for s, n in zip(strata, copies, strict=True)) / copies.sum()
    right = rng.binomial(copies, np.column_stack([rng.choice(shares[s], times) for s in strata]))
    weights = group_weights(np.arange(len(copies)), 1000, strata=strata).astype(float)
    low, high = np.quantile((right @ weights.T) / (weights @ copies), [0.025, 0.975], axis=1)
    few = [clustered_interval(row, copies, strata) for row in right]
    images = [binomial_interval(row.sum(), copies.sum()) for row in right]
    held = {"few": [i.low <= truth <= i.high for i in few], "photos": (low <= truth) & (truth <= high)}
    held["images"] = [i.low <= truth <= i.high for i in images]
    return pd.Series({way: np.mean(some) for way, some in held.items()})
