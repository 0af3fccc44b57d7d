"""Which smear each photo is of, by the colours of its background and its stain; labels and answers are not looked at.

Only hues count (a and b of CIE Lab). Lightness changes with the exposure, and that of a nucleus with the class of cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from wbc_lib import paths
from wbc_lib.data.dataset import DataSet, list_photos
from wbc_lib.data.images import map_in_threads, read_image, to_lab
from wbc_lib.data.windows import RED_CELL, background_colour, find_nuclei

#: What is measured: a and b (CIE 1976, D65) of the light between cells, of red cells, and of nuclei.
COLOURS = tuple(f"{what}_{axis}" for what in ("background", "red", "nucleus") for axis in "ab")
#: Most smears that are tried.
MOST = 6
#: Red cells are measured farther from a nucleus than this share of their diameter: nearer lies its cell's own plasma.
_APART = 0.45
# Added to the variances of standardised colours, so that a few equal photos make no cluster of no extent.
_FLOOR, _STARTS = 1e-3, 10
_COLUMNS = {"photo": int, **dict.fromkeys(COLOURS, float), "smear": int, "probability": float}
#: The table of the published photos, as `find_smears` gives it.
RECORDED = paths.RecordedTable(("provenance", "smears.csv"), _COLUMNS, "smears", of_project=True)
read_recorded, write_recorded = RECORDED.read, RECORDED.write


@dataclass(frozen=True)
class Agreement:
    """How well smears agree with the order in which photos are numbered, which was not used to find them."""

    neighbours: float  # share of photos that are of the same smear as the next by number
    by_chance: float  # the same, expected of photos in random order
    cut: int  # the first photo beyond the place that parts the two largest smears best by number alone
    parted: float  # share of all photos that are on their smear's side of it


def measure_colours(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Measure the six `COLOURS` of a photo; NaN where none is seen.

    Each is the median over what is background, red cells, and stained nuclei.
    """
    nuclei = find_nuclei(picture, RED_CELL / 30)
    green = cv2.GaussianBlur(picture, (0, 0), RED_CELL / 30)[..., 1]
    _, dark = cv2.threshold(green, 0, 255, cv2.THRESH_BINARY_INV | cv2.THRESH_OTSU)
    size = 2 * round(_APART / 2 * RED_CELL) + 1
    near = cv2.dilate(nuclei.astype(np.uint8), np.ones((size, size), np.uint8)) > 0
    medians = [background_colour(picture)]
    for mask in ((dark > 0) & ~near, nuclei):
        medians.append(np.median(picture[mask], axis=0) if mask.any() else np.full(3, np.nan))
    known = np.nan_to_num(np.array(medians, float)).astype(np.uint8)
    hues = to_lab(known[None])[0, :, 1:].astype(float)
    hues[np.isnan(np.array(medians, float)).any(axis=1)] = np.nan
    return hues.ravel()


def cluster(
    colours: NDArray[np.floating], order: Sequence[int] | NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Divide photos by their colours (photos, numbers) with a mixture of Gaussians.

    Of 1 to `MOST` clusters as many are taken as have the lowest Bayesian information criterion (Schwarz 1978).
    What is missing counts as the mean. Gives the number of each photo's cluster, and the probability that it is of
    this one. Clusters are numbered, from 1, by the median of their photos' `order`, such as their numbers, which
    decides nothing else.
    """
    from sklearn.mixture import GaussianMixture

    centre, spread = np.nanmean(colours, axis=0), np.nanstd(colours, axis=0)
    z = np.nan_to_num((colours - centre) / np.where(spread > 0, spread, 1))
    tried = range(1, min(MOST, len(z)) + 1)
    with threadpool_limits(1):  # of so few numbers several threads take a hundred times as long on a busy machine
        fits = [GaussianMixture(k, n_init=_STARTS, random_state=0, reg_covar=_FLOOR).fit(z) for k in tried]
    chosen = min(fits, key=lambda fit: fit.bic(z))
    member = chosen.predict(z)
    middles = pd.Series(np.asarray(order)).groupby(member).median().sort_values(kind="stable")
    numbers = pd.Series(np.arange(1, len(middles) + 1), middles.index)
    return numbers.loc[member].to_numpy(np.int64), chosen.predict_proba(z).max(axis=1)


def find_smears(data: DataSet) -> pd.DataFrame:
    """Find the smear of each photo of a data set, whatever its label.

    A row per photo, by number: ``photo``, its `COLOURS`, its ``smear`` (from 1) and the ``probability`` of that smear
    (see `cluster`). Raises `BadDataError` if a photo cannot be read.
    """
    numbers = list_photos(data)
    measured = map_in_threads(lambda photo: measure_colours(read_image(data.photo_path(photo))), numbers)
    # Rounded first, so that the recorded colours give the recorded smears.
    colours = np.round(np.array(list(measured)), 2)
    smear, probability = cluster(colours, numbers)
    table = pd.DataFrame(colours, columns=list(COLOURS))
    table.insert(0, "photo", numbers)
    return table.assign(smear=smear, probability=probability.round(3))


def compare_with_numbers(smears: pd.Series) -> Agreement:
    """Compare smears, by photo, with the photos' numbers: photos taken one after the other tend to be of one smear.

    The cut is between the two largest smears; photos of others count as parted wrongly.
    """
    ordered = smears.sort_index()
    values = ordered.to_numpy()
    shares = ordered.value_counts()
    n = len(values)
    by_chance = float((shares * (shares - 1)).sum() / (n * (n - 1))) if n > 1 else float("nan")
    neighbours = float((values[1:] == values[:-1]).mean()) if n > 1 else float("nan")
    # The largest two, by where their photos lie; one smear alone lies beyond the cut.
    pair = sorted(shares.index[:2], key=lambda smear: float(np.flatnonzero(values == smear).mean()))
    before = np.concatenate([[0], np.cumsum(values == pair[0])])[:-1]
    beyond = np.cumsum((values == pair[-1])[::-1])[::-1]
    right = before + beyond
    best = int(right.argmax())
    return Agreement(neighbours, by_chance, int(ordered.index[best]), float(right[best] / n))
