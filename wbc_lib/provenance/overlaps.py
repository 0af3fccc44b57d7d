"""Photos that show, wholly or in part, the same field of view: found, recorded, and grouped; the cells they share.

Two photos of one field share background and may share the white cell: for an honest evaluation they are one.
"""

import cv2
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib import paths
from wbc_lib.data.dataset import IMAGE_SIZE, PHOTO_SIZE, DataSet, list_photos
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import AFFINE, affine_maps, map_in_threads, read_reduced, to_grey
from wbc_lib.provenance.registration import Limits, build_index, compare, detect, footprint, is_within, register, vote

#: Raise it whenever the same photos may give another table than before, so that cached tables are made anew.
METHOD = 1
#: Fewest inliers for two photos to show the same field, and the most that may lie between them: the stage moves,
#: but does not turn. With up to 7 inliers, specks on the camera's sensor make photos agree that have nothing in common.
MIN_SHARED = 8
STAGE = Limits(rotation=2, shift=1, shear=2, scale=0.03)
#: Least overlap of two boxes of one field for them to hold the same cell. In the published photos boxes of different
#: cells do not overlap at all; those of one cell, drawn twice by hand and cut by the photos' edges, do by 0.38 or more.
SAME_CELL = 0.3

#: Photos of most votes that a photo is laid over.
_SHORTLIST = 6
_COLUMNS = {
    "photo": int,
    "other": int,
    **dict.fromkeys(AFFINE, float),
    "inliers": int,
    "matches": int,
    "overlap": float,
    "residual": float,
}
_REMEDY = "restore it from the repository, or remove it"
#: The table of the published photos, as `find_pairs` gives it.
RECORDED = paths.RecordedTable(("provenance", "pairs.csv"), _COLUMNS, "pairs of photos", _REMEDY)
read_recorded, write_recorded = RECORDED.read, RECORDED.write
_DECIMALS = dict.fromkeys(AFFINE, 7) | {"a13": 4, "a23": 4, "overlap": 3, "residual": 3}


def find_pairs(data: DataSet) -> pd.DataFrame:
    """Find the pairs of photos, whatever their labels and split, that show, wholly or in part, the same field of view.

    A row per pair, by photo: ``photo`` < ``other``, the map ``a11`` to ``a23`` from the one reduced to 320x240 to the
    other, its ``inliers`` and ``matches``, the ``overlap`` (share of the other that the photo covers), and the
    ``residual`` (mean absolute difference there, in grey levels). Raises `BadDataError` if a photo cannot be read.
    """
    numbers = list_photos(data)
    greys = list(map_in_threads(lambda photo: to_grey(read_reduced(data, photo)), numbers))
    features = list(map_in_threads(detect, greys))
    index = build_index(features)
    pairs = set()
    for i, of_photo in enumerate(features):
        votes = vote(index, of_photo)
        votes[i] = -1
        pairs |= {(min(i, j), max(i, j)) for j in np.argsort(-votes, kind="stable")[:_SHORTLIST] if j != i}
    rows = []
    for i, j in sorted(pairs):
        fit = register(features[i], features[j])
        if fit and fit.inliers >= MIN_SHARED and is_within(fit.affine, STAGE):
            overlap = footprint(fit.affine).mean()
            _, difference = compare(greys[i], greys[j], fit.affine)
            rows.append((numbers[i], numbers[j], *fit.affine.ravel(), fit.inliers, fit.matches, overlap, difference))
    return pd.DataFrame(rows, columns=list(_COLUMNS)).round(_DECIMALS)


def read_pairs(data: DataSet) -> pd.DataFrame:
    """The pairs of any data set: as recorded if these are the published files, else found here (see `find_pairs`)."""
    checksums = read_checksums(data)
    if checksums.is_published and RECORDED.path.exists():
        return read_recorded()
    cached = paths.cache() / "overlaps" / f"{checksums.sha256[:16]}-method{METHOD}-opencv{cv2.__version__}.csv"
    if not cached.exists():
        paths.write_table(cached, find_pairs(data))
    return paths.read_table(cached, _COLUMNS, RECORDED.what, _REMEDY)


def group(photos: list[int], pairs: pd.DataFrame) -> pd.Series:
    """Tell which photos belong together: those linked by pairs, over any number of steps.

    By photo, its field: the lowest number among the photos of its group. Pairs with a photo that is not in question
    link nothing.
    """
    field = pd.Series(photos, index=pd.Index(photos, name="photo"), name="field")
    for photo, other in zip(pairs.photo, pairs.other, strict=True):
        if photo in field.index and other in field.index:
            kept, gone = sorted((field[photo], field[other]))
            field = field.mask(field == gone, kept)
    return field


def find_fields(photos: ArrayLike, data: DataSet) -> NDArray[np.int64]:
    """The field of each photo given, as `group` tells it, all pairs of the data set counted."""
    return group(np.unique(photos).tolist(), read_pairs(data)).loc[photos].to_numpy()


def find_shared_cells(pairs: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Those pairs of photos of one field in which the same white cell is boxed.

    A box of one, carried to the other photo, covers one there: ``overlap_of_boxes`` is their intersection over union.
    """
    shrunk = IMAGE_SIZE[0] / PHOTO_SIZE[0]
    corners = {p: of_photo[["xmin", "ymin", "xmax", "ymax"]].to_numpy(float) for p, of_photo in boxes.groupby("photo")}
    overlaps = []
    for pair, affine in zip(pairs.itertuples(), affine_maps(pairs), strict=True):
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
    """The photos of TEST whose white cell is in a photo of TRAIN too, ascending.

    `shared` is what `find_shared_cells` gives; `table`, as `trace.trace` gives it, tells the split of each photo.
    """
    split = table.image.str.split("/").str[0]
    train, test = (set(table.photo[split == name]) for name in ("TRAIN", "TEST"))
    both = [*zip(shared.photo, shared.other, strict=True), *zip(shared.other, shared.photo, strict=True)]
    return sorted({one for one, other in both if one in test and other in train})


def _intersection_over_union(one: NDArray, other: NDArray) -> float:
    sides = np.minimum(one[2:], other[2:]) - np.maximum(one[:2], other[:2])
    common = float(np.prod(np.maximum(sides, 0)))
    return common / (float(np.prod(one[2:] - one[:2]) + np.prod(other[2:] - other[:2])) - common)
