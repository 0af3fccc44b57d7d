"""Counting a smear's cells by class: simulated differential counts, three ways to estimate the mix, a reader's error.

Pure functions. A mix is an array of four shares in the order of `dataset.CLASSES`. Cells are drawn from images whose
class is known; since copies of one photo show one cell, it is photos that stand for the cells of a smear.
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import scores
from wbc_lib.evaluation.calibration import Predictions, fit_temperature

#: Shares of white cells in a healthy adult, from and to (Pagana and Pagana 2018); basophils, below 1 %, are left out.
REFERENCE = {
    "NEUTROPHIL": (0.55, 0.70),
    "EOSINOPHIL": (0.01, 0.04),
    "MONOCYTE": (0.02, 0.08),
    "LYMPHOCYTE": (0.20, 0.40),
}
#: `expectation_maximisation` ends once no share changes by as much, or after so many rounds.
TOLERANCE, ROUNDS = 1e-4, 1000
#: Ways to estimate a mix, and the blood that is told of at length.
COUNTING, ADJUSTED, EM = "predictions counted", "adjusted", "EM"
HEALTHY = "healthy adult"
_MIDDLES = np.array([sum(REFERENCE[cell]) / 2 for cell in CLASSES])
_HEALTHY = _MIDDLES / _MIDDLES.sum()


def _mix_with(cell: str, share: float) -> NDArray[np.float64]:
    # The healthy mix with one class at another share, the rest keeping their proportions.
    is_cell = np.array(CLASSES) == cell
    return np.where(is_cell, share, _HEALTHY * (1 - share) / _HEALTHY[~is_cell].sum())


#: Mixes by name. The shares that make the disease-like ones are ours, each well outside the reference range.
MIXES = {
    HEALTHY: _HEALTHY,
    "lymphocytosis": _mix_with("LYMPHOCYTE", 0.60),
    "eosinophilia": _mix_with("EOSINOPHIL", 0.25),
    "neutropenia": _mix_with("NEUTROPHIL", 0.15),
    "as in the data set": np.full(len(CLASSES), 1 / len(CLASSES)),
}


def expected_distance(mix: NDArray[np.floating], n: ArrayLike) -> NDArray[np.float64]:
    """Mean `scores.mix_distance` of a faultless count of `n` cells from the mix (4,) of the blood; shape as `n`.

    Each class is binomial; its mean absolute deviation is de Moivre's, 2 m (1 - p) P(X = m) with m the whole number
    above n p (Diaconis and Zabell 1991).
    """
    n = np.asarray(n)[..., None]
    m = np.floor(n * mix) + 1
    return (m * (1 - mix) * stats.binom.pmf(m, n, mix) / n).sum(axis=-1)


def probability_outside(share: float, n: int, limits: tuple[float, float]) -> float:
    """Probability that a faultless count of `n` cells puts a class of this share outside the limits."""
    low, high = (np.round(n * limit, 9) for limit in limits)  # 100 x 0.07 is not 7
    return float(stats.binom.cdf(np.ceil(low) - 1, n, share) + stats.binom.sf(np.floor(high), n, share))


def equivalent_cells(mix: NDArray[np.floating], error: float) -> int:
    """The fewest cells a faultless reader must count for an `expected_distance` up to `error`; at most a million."""
    # More cells never make the expected error larger, so that the sizes can be searched by halving.
    return bisect_left(range(1, 1_000_000), True, key=lambda n: bool(expected_distance(mix, n) <= error)) + 1


def expected_errors(mixes: Mapping[str, NDArray[np.floating]], sizes: Sequence[int]) -> pd.DataFrame:
    """`expected_distance` of each mix, a column, for each number of cells, a row."""
    return pd.DataFrame({name: expected_distance(mix, sizes) for name, mix in mixes.items()}, index=list(sizes))


def count_photos(predictions: Predictions) -> dict[str, int]:
    """How many photos of each class there are."""
    return {c: len(np.unique(predictions.photos[predictions.labels == k])) for k, c in enumerate(CLASSES, start=1)}


def split_halves(predictions: Predictions, resamples: int, seed: int) -> NDArray[np.bool_]:
    """Split the photos of each class into two halves at random, many times: bool (resamples, photos).

    The odd photo falls to either half. Columns are in the order of ``np.unique(predictions.photos)``. Raises
    `ValueError` if a class has a single photo, which cannot be in both halves.
    """
    _, first = np.unique(predictions.photos, return_index=True)
    label_of_photo = predictions.labels[first]
    rng = np.random.default_rng(seed)
    halves = np.zeros((resamples, len(first)), bool)
    for label in np.unique(label_of_photo):
        columns = np.flatnonzero(label_of_photo == label)
        if len(columns) < 2:
            raise ValueError(f"class {CLASSES[label - 1]} has one photo, which cannot be split into two halves")
        rank = rng.random((resamples, len(columns))).argsort(axis=1).argsort(axis=1)
        size = len(columns) // 2 + (len(columns) % 2) * rng.integers(0, 2, (resamples, 1))
        halves[:, columns] = rank < size
    return halves


def sampling_probabilities(
    predictions: Predictions, mix: NDArray[np.floating], photo_weights: NDArray
) -> NDArray[np.float64]:
    """How probable it is that each image is the next cell of a smear, (resamples, images); rows sum to one.

    `mix` (4,) is that of the blood. `photo_weights` (resamples, photos) are those of each photo in its class; every
    class of the mix must have one above zero. Copies of one photo are equally probable.
    """
    _, member, copies = np.unique(predictions.photos, return_inverse=True, return_counts=True)
    weight = np.asarray(photo_weights, float)[:, member] / copies[member]
    of_class = predictions.labels[:, None] == np.arange(1, len(CLASSES) + 1)
    total = weight @ of_class
    scale = np.divide(mix, total, out=np.zeros_like(total), where=total > 0)
    return weight * scale[:, predictions.labels - 1]


def draw_cells(probabilities: NDArray[np.floating], n: int, seed: int) -> NDArray[np.int64]:
    """Draw `n` cells with these probabilities (resamples, images): how often each image came, of the same shape."""
    chances = probabilities / probabilities.sum(axis=1, keepdims=True)
    # In whole steps: processors add up in different orders, and the last bit would draw other cells.
    return np.random.default_rng(seed).multinomial(n, (chances * (1 - 1e-8)).round(12))


def count_predictions(cells: NDArray[np.integer], predictions: Predictions) -> NDArray[np.float64]:
    """Share of each class among the likeliest classes of the drawn cells (resamples, images), shape (resamples, 4)."""
    likeliest = predictions.logits[:, 1:].argmax(axis=1)
    return cells @ np.eye(len(CLASSES))[likeliest] / cells.sum(axis=1, keepdims=True)


def confusion_rates(predictions: Predictions) -> NDArray[np.float64]:
    """How often each class (rows, summing to one) is taken for each, shape (4, 4).

    A class that is absent is taken to be recognised without fault.
    """
    counts = scores.confusion(predictions.labels, predictions.logits[:, 1:].argmax(axis=1) + 1)[:, : len(CLASSES)]
    total = counts.sum(axis=1, keepdims=True)
    return np.where(total > 0, counts / np.maximum(total, 1), np.eye(len(CLASSES)))


def adjusted_count(counted: NDArray[np.floating], rates: NDArray[np.floating]) -> NDArray[np.float64]:
    """Solve for the mix that, confused at these rates, would be counted so (adjusted counting, Forman 2008).

    Takes what `count_predictions` and `confusion_rates` give, shapes (resamples, 4) and (4, 4); returns shares
    (resamples, 4) that sum to one, those below zero set to zero.
    """
    solved = counted @ np.linalg.pinv(rates)
    clipped = np.maximum(solved, 0)
    total = clipped.sum(axis=1, keepdims=True)
    return np.where(total > 0, clipped / np.maximum(total, 1e-300), 1 / len(CLASSES))


def expectation_maximisation(
    cells: NDArray[np.integer], posteriors: NDArray[np.floating], prior: NDArray[np.floating]
) -> NDArray[np.float64]:
    """The likeliest mix by expectation-maximisation from the probabilities of each cell (Saerens et al. 2002).

    Takes how often each image was drawn (resamples, images), its probabilities (images, 4), and the mix (4,) of the
    images that the network learned from, none zero.
    """
    seen = cells.any(axis=0)
    share = cells[:, seen] / cells.sum(axis=1, keepdims=True)
    likelihood = posteriors[seen] / prior
    mix = np.broadcast_to(prior / prior.sum(), (len(cells), len(prior))).copy()
    left = np.arange(len(cells))
    for _ in range(ROUNDS):
        before = mix[left]
        updated = before * (share[left] / np.maximum(before @ likelihood.T, 1e-300) @ likelihood)
        mix[left] = updated / updated.sum(axis=1, keepdims=True)
        left = left[np.abs(mix[left] - before).max(axis=1) >= TOLERANCE]
        if not len(left):
            break
    return mix


def make_estimators(test: Predictions, validation: Predictions) -> dict[str, Callable[[NDArray], NDArray]]:
    """The ways to estimate a mix from a network's predictions on `test`: `COUNTING`, `ADJUSTED` and `EM`.

    Each takes the cells drawn (resamples, images) and gives mixes (resamples, 4). Validation gives confusion rates, a
    temperature, and the mix of the images learned from.
    """
    prior = np.bincount(validation.labels, minlength=len(CLASSES) + 1)[1:] + 1.0  # one more, lest a class have none
    rates = confusion_rates(validation)
    stated = test.at(fit_temperature(validation)).class_probabilities
    return {
        COUNTING: lambda cells: count_predictions(cells, test),
        ADJUSTED: lambda cells: adjusted_count(count_predictions(cells, test), rates),
        EM: lambda cells: expectation_maximisation(cells, stated, prior / prior.sum()),
    }


def simulate(
    runs: Sequence[tuple[Predictions, Predictions]],
    mixes: Mapping[str, NDArray[np.floating]],
    sizes: Sequence[int],
    resamples: int,
    *,
    halves: bool = True,
) -> pd.DataFrame:
    """Simulate differential counts and estimate each of the `mixes` in every way.

    Of each run takes the predictions that cells are drawn from and those that it is calibrated by; the counts of each
    mix and size, `resamples`, are divided among the runs. In `halves` each count draws its cells from the copies of a
    random half of the photos of each class (`ValueError` if a class has but one); otherwise from all images, as if
    these were all the cells there are.

    A row per mix, size, way and resample: ``mix``, ``n``, ``way``, the estimated share of each class under its name,
    and ``error``, the `scores.mix_distance` from the mix.
    """
    tables = []
    for i, (test, validation) in enumerate(runs):
        n_counts = len(range(i, resamples, len(runs)))
        drawn = split_halves(test, n_counts, i) if halves else np.ones((n_counts, len(np.unique(test.photos))))
        estimators = make_estimators(test, validation)
        for name, mix in mixes.items():
            probabilities = sampling_probabilities(test, mix, drawn)
            for n in sizes:
                cells = draw_cells(probabilities, n, i)
                for way, estimate in estimators.items():
                    shares = estimate(cells)
                    table = pd.DataFrame(shares, columns=list(CLASSES)).assign(error=scores.mix_distance(shares, mix))
                    tables.append(table.assign(mix=name, n=n, way=way))
    return pd.concat(tables, ignore_index=True)


def summarise_errors(counts: pd.DataFrame) -> pd.DataFrame:
    """Mean error of each mix, size and way of `simulate`, and the middle 95 % of its errors: ``error, low, high``."""
    groups = counts.groupby(["mix", "n", "way"], sort=False).error
    return pd.DataFrame({"error": groups.mean(), "low": groups.quantile(0.025), "high": groups.quantile(0.975)})


def format_errors(errors: pd.DataFrame, n: int) -> pd.DataFrame:
    """The errors of counts of `n` cells for readers, in cells of a hundred: a row per way, a column per mix."""
    table = 100 * errors.xs(n, level="n")
    text = pd.Series([f"{r.error:.1f} ({r.low:.1f} to {r.high:.1f})" for r in table.itertuples()], table.index)
    mixes, ways = (list(dict.fromkeys(table.index.get_level_values(level))) for level in ("mix", "way"))
    return text.unstack("mix").loc[ways, mixes]


def compare_with_reader(errors: pd.DataFrame, n: int) -> pd.DataFrame:
    """What counts of `n` cells are worth: `equivalent_cells` of their mean error, a row per mix, a column per way.

    Takes what `summarise_errors` gives, for all `MIXES`.
    """
    mean = errors.error.xs(n, level="n").unstack("way", sort=False)
    worth = {name: {way: equivalent_cells(mix, mean.loc[name, way]) for way in mean} for name, mix in MIXES.items()}
    return pd.DataFrame(worth).T


def describe_shares(counts: pd.DataFrame) -> pd.DataFrame:
    """Estimated shares of each class over the resamples: ``mean``, and ``low`` and ``high`` of the middle 95 %."""
    shares = counts[list(CLASSES)]
    return pd.DataFrame({"mean": shares.mean(), "low": shares.quantile(0.025), "high": shares.quantile(0.975)})


def describe_reader(mix: NDArray[np.floating]) -> pd.DataFrame:
    """What a faultless reader of 100 cells finds: `describe_shares` by binomial limits (Rümke 1985)."""
    low, high = stats.binom.interval(0.95, 100, mix)
    return pd.DataFrame({"mean": mix, "low": low / 100, "high": high / 100}, list(CLASSES))
