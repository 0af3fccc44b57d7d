"""What the published recipe predicts of the traced images, and whether they agree: names, copies, moves.

The recipe is Keras's image generator, one image at a time: it goes through the photos of a class in epochs, each in an
order drawn anew; it names an image by its place in the epoch and by a number below `N_MARKS` drawn at random, and an
image that is given the name of an earlier one takes its place.
"""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wbc_lib.data.dataset import MAX_ROTATION, MAX_SHIFT, N_MARKS, SHEAR
from wbc_lib.data.images import AFFINE, affine_maps
from wbc_lib.errors import BadDataError
from wbc_lib.provenance.registration import decompose

_NAME = r"^(?P<split>[^/]+)/(?P<cell>[^/]+)/_(?P<place>\d+)_(?P<mark>\d+)\.jpe?g$"


def read_names(images: pd.Series) -> pd.DataFrame:
    """Read what the names of augmented images, ``SPLIT/CLASS/_PLACE_MARK.jpeg``, say.

    ``split``, ``cell``, ``place`` (in its epoch, from 0) and ``mark`` (random). Raises `BadDataError` if a name is of
    another form.
    """
    parts = images.str.extract(_NAME)
    other = images[parts.mark.isna()]
    if len(other):
        raise BadDataError(f"{other.iloc[0]} is not named as the recipe names images; restore the published file.")
    return parts.astype({"place": int, "mark": int})


def read_moves(table: pd.DataFrame) -> pd.DataFrame:
    """Read each image's map, where it has one, in the recipe's terms (see `registration.Transform`).

    ``rotation`` and ``shear`` in degrees, ``shift_x``, ``shift_y`` as shares of width and height, ``scale_x``,
    ``scale_y`` (1: not scaled), and ``flip_x``, ``flip_y`` (whether left and right, top and bottom changed places).
    """
    mapped = table[table[AFFINE].notna().all(axis=1)]
    transforms = [decompose(affine) for affine in affine_maps(mapped)]
    columns = ["rotation", "shear", "shift_x", "shift_y", "scale_x", "scale_y", "flip_x", "flip_y"]
    rows = [(t.rotation, t.shear, *t.shift, *t.scale, *t.flips) for t in transforms]
    return pd.DataFrame(rows, columns=columns, index=mapped.index).astype({"flip_x": bool, "flip_y": bool})


def fewest_draws(places: ArrayLike, n_photos: int) -> int:
    """How many images must have been drawn of a class, at least, for its names to be possible.

    As many epochs as a place (in the epoch, 0 to `n_photos` - 1) has images must have reached it, the last of them
    perhaps no further.
    """
    per_place = np.bincount(np.asarray(places, int), minlength=1)
    reached = np.flatnonzero(per_place)
    return int(((per_place[reached] - 1) * n_photos + reached + 1).max(initial=0))


def count_copies(table: pd.DataFrame) -> pd.DataFrame:
    """Count the copies of each photo of TRAIN and TEST, class by class, and what the recipe says of them.

    Indexed by ``split`` and ``cell``: ``photos``, ``images``, ``copies`` (array of int, one per photo), ``at_least``
    (see `fewest_draws`), ``draws`` (the largest ``at_least`` of the split: the recipe draws as many of each class),
    ``lost`` (draws of which there is no image) and ``ceiling`` (the most copies that a photo can have).
    """
    named = table[["photo"]].join(read_names(table.image))
    rows = {}
    for key, part in named[named.split != "TEST_SIMPLE"].groupby(["split", "cell"], sort=False):
        copies = part.groupby("photo").size().to_numpy()
        rows[key] = (len(copies), len(part), copies, fewest_draws(part.place, len(copies)))
    counted = pd.DataFrame.from_dict(rows, orient="index", columns=["photos", "images", "copies", "at_least"])
    counted.index = pd.MultiIndex.from_tuples(counted.index, names=["split", "cell"])
    counted["draws"] = np.maximum(counted.groupby("split").at_least.transform("max"), counted.images)
    counted["lost"] = counted.draws - counted.images
    counted["ceiling"] = -(-counted.draws // counted.photos)
    return counted


def simulate_copies(n_photos: int, draws: int, resamples: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Follow the recipe many times, and count the copies of each photo that remain, (resamples, n_photos).

    Of the images drawn, `draws`, some are lost to names given twice.
    """
    n_epochs = -(-draws // n_photos)
    copies = np.empty((resamples, n_photos), np.int64)
    is_drawn = np.arange(n_epochs * n_photos).reshape(n_epochs, n_photos) < draws
    for i in range(resamples):
        photo = rng.permuted(np.tile(np.arange(n_photos), (n_epochs, 1)), axis=1)
        mark = rng.integers(N_MARKS, size=(n_epochs, n_photos))
        mark[~is_drawn] = -1 - np.flatnonzero(~is_drawn)  # clashes with nothing
        order = np.argsort(mark, axis=0, kind="stable")
        by_mark = np.take_along_axis(mark, order, axis=0)
        # Of equal marks at one place, each but the last drawn is overwritten.
        epoch, place = np.nonzero(by_mark[:-1] == by_mark[1:])
        remains = is_drawn.copy()
        remains[order[epoch, place], place] = False
        copies[i] = np.bincount(photo[remains], minlength=n_photos)
    return copies


def assess_evenness(copies: NDArray[np.integer], simulated: NDArray[np.integer]) -> tuple[float, float]:
    """Hold the copies found per photo against two accounts of how they were drawn.

    Gives the probability of so even a spread, or a more even one, if each image had drawn its photo by itself, and the
    two-sided probability of a spread as unusual as this if the recipe was followed, as in `simulate_copies`.
    """
    # How far the copies are from alike: chi-square if each image drew its photo by itself.
    observed, followed = (stats.chisquare(some, axis=-1).statistic for some in (copies, simulated))
    return float(stats.chi2.cdf(observed, len(copies) - 1)), two_sided(float(observed), followed)


def judge_copies(counted: pd.DataFrame, resamples: int) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """Hold the copies of each class and split against both accounts of how they were drawn.

    Gives ``p_independent`` and ``p_recipe`` (see `assess_evenness`; NaN where there is one photo), and how many images
    were lost to names given twice each time the recipe was followed.
    """
    rng = np.random.default_rng(0)
    rows, lost = [], np.zeros(resamples, int)
    for row in counted.itertuples():
        simulated = simulate_copies(row.photos, row.draws, resamples, rng)
        rows.append(assess_evenness(row.copies, simulated) if row.photos > 1 else (np.nan, np.nan))
        lost += row.draws - simulated.sum(axis=1)
    return pd.DataFrame(rows, columns=["p_independent", "p_recipe"], index=counted.index), lost


def judge_moves(moves: pd.DataFrame) -> pd.DataFrame:
    """Hold the maps against an even draw between the recipe's limits (Kolmogorov-Smirnov).

    A row per quantity, of which the shear has two, its limit being read in radians or in degrees: ``column`` (of
    `moves`), ``limit``, ``lowest``, ``highest``, ``distance`` (largest, of the distribution functions) and ``p``.
    """
    quantities = {
        "rotation (degrees)": ("rotation", MAX_ROTATION),
        "shift along the width": ("shift_x", MAX_SHIFT),
        "shift along the height": ("shift_y", MAX_SHIFT),
        "shear (degrees)": ("shear", float(np.degrees(SHEAR))),
        "shear (0.2 taken for degrees)": ("shear", SHEAR),
    }
    rows = {}
    for name, (column, limit) in quantities.items():
        values = moves[column]
        test = stats.kstest(values, "uniform", args=(-limit, 2 * limit))
        rows[name] = (column, limit, values.min(), values.max(), float(test.statistic), float(test.pvalue))
    columns = ["column", "limit", "lowest", "highest", "distance", "p"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)


def two_sided(observed: float, simulated: NDArray) -> float:
    """Share of simulated values, the observed one counted in, as far out as it: a Monte Carlo p (Davison 1997)."""
    tolerance = 1e-9 * max(1.0, abs(observed))  # the same sum in another order differs in the last bit
    at_most = 1 + np.count_nonzero(simulated <= observed + tolerance)
    at_least = 1 + np.count_nonzero(simulated >= observed - tolerance)
    return float(min(1.0, 2 * min(at_most, at_least) / (len(simulated) + 1)))


def chance_unnoticed(counted: pd.DataFrame, n_wrong: int, resamples: int) -> float:
    """Chance that images put down to a wrong photo of their class leave no photo with more copies than it can have.

    The `n_wrong` images and their wrong photos are drawn at random; wrong photos that look like the right one are
    another matter. The chance is 0 if a photo has too many copies as it is.
    """
    rng = np.random.default_rng(0)
    photos = counted.photos.to_numpy()
    owner = np.repeat(np.arange(photos.sum()), np.concatenate(counted.copies.to_list()))
    ceiling = np.repeat(counted.ceiling.to_numpy(), photos)
    first, size = np.repeat(photos.cumsum() - photos, photos), np.repeat(photos, photos)
    copies = np.bincount(owner, minlength=len(ceiling))
    unnoticed = 0
    for _ in range(resamples):
        left = owner[rng.choice(len(owner), n_wrong, replace=False)]
        step = rng.integers(1, np.maximum(size[left], 2))  # never back to the same photo, where there is another
        gained = first[left] + (left - first[left] + step) % size[left]
        now = copies.copy()
        np.subtract.at(now, left, 1)
        np.add.at(now, gained, 1)
        unnoticed += bool((now <= ceiling).all())
    return unnoticed / resamples


def name_groups(table: pd.DataFrame) -> pd.DataFrame:
    """What grouping the images of TRAIN by the place in their name would do, class by class.

    ``images`` and ``photos`` behind one place (medians), ``expected`` photos if the order of each epoch is drawn anew,
    and ``leaked``: if each fifth place is held back, the share of the images held back of whose photo other copies are
    not (0: a clean split; 1: no image is new).
    """
    named = table[["photo"]].join(read_names(table.image))
    rows = {}
    for cell, part in named[named.split == "TRAIN"].groupby("cell", sort=False):
        n_photos = part.photo.nunique()
        by_place = part.groupby("place").photo
        images, distinct = by_place.size(), by_place.nunique()
        is_held_back = part.place % 5 == 0
        leaked = part.photo[is_held_back].isin(part.photo[~is_held_back]).mean()
        expected = n_photos * (1 - (1 - 1 / n_photos) ** images).median()
        rows[cell] = (float(images.median()), float(distinct.median()), expected, float(leaked))
    columns = ["images", "photos", "expected", "leaked"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("cell")
