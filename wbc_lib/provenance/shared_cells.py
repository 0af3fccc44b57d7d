"""Which photos of one field of view show the very same white cell, by their boxes."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, PHOTO_SIZE
from wbc_lib.provenance.trace import AFFINE

#: Least overlap of two boxes of one field for them to hold the same cell. In the published photos boxes of different
#: cells do not overlap at all; those of one cell, drawn twice by hand and cut by the photos' edges, do by 0.38 or more.
SAME_CELL = 0.3


def find_shared_cells(pairs: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Those pairs of photos of one field in which the same white cell is boxed.

    Parameters
    ----------
    pairs : DataFrame
        As `overlaps.read_pairs` gives it.
    boxes : DataFrame
        As `boxes.white_cells` gives it.

    Returns
    -------
    DataFrame
        The rows of `pairs` in which a box, carried to the other photo, covers one there, with ``overlap_of_boxes``
        (intersection over union, 0 to 1).
    """
    shrunk = IMAGE_SIZE[0] / PHOTO_SIZE[0]
    corners = {p: own[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float) for p, own in boxes.groupby("photo")}
    overlaps = []
    for pair, affine in zip(pairs.itertuples(), pairs[AFFINE].to_numpy().reshape(-1, 2, 3), strict=True):
        best = 0.0
        for box in corners.get(pair.photo, []):
            # A box's edges lie between pixels, the map's coordinates in their middles; the stage does not turn.
            ends = (box.reshape(2, 2) * shrunk - 0.5) @ affine[:, :2].T + affine[:, 2]
            moved = ((ends + 0.5) / shrunk).ravel()
            best = max([best, *(_intersection_over_union(moved, other) for other in corners.get(pair.other, []))])
        overlaps.append(best)
    table = pairs.assign(overlap_of_boxes=overlaps)
    return table[table.overlap_of_boxes >= SAME_CELL].reset_index(drop=True)


def seen_in_training(shared: pd.DataFrame, table: pd.DataFrame) -> list[int]:
    """The photos of TEST whose white cell is in a photo of TRAIN too.

    Parameters
    ----------
    shared : DataFrame
        As `find_shared_cells` gives it.
    table : DataFrame
        Provenance, as `provenance.trace` gives it: ``image`` tells the split of its ``photo``.

    Returns
    -------
    list of int
        Ascending.
    """
    split = table.image.str.split("/").str[0]
    train, test = (set(table.photo[split == name]) for name in ("TRAIN", "TEST"))
    both = [*zip(shared.photo, shared.other, strict=True), *zip(shared.other, shared.photo, strict=True)]
    return sorted({one for one, other in both if one in test and other in train})


def _intersection_over_union(one: NDArray, other: NDArray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common)
