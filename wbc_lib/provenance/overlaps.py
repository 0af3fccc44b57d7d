"""Photos that show, wholly or in part, the same field of view: found, recorded, and grouped.

Two photos of one field share background and may share the white cell: for an honest evaluation they are one.
"""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from wbc_lib import paths
from wbc_lib.data.dataset import DataSet, list_photos
from wbc_lib.data.hashes import read_manifest
from wbc_lib.data.images import one_thread
from wbc_lib.errors import BadDataError
from wbc_lib.provenance.candidates import read_reduced, to_grey
from wbc_lib.provenance.registration import Limits, build_index, compare, detect, footprint, is_within, register, vote
from wbc_lib.provenance.trace import AFFINE

#: Raise it whenever the same photos may give another table than before, so that cached tables are made anew.
METHOD = 1
#: Fewest inliers for two photos to show the same field, and the most that may lie between them: the stage moves,
#: but does not turn. With up to 7 inliers, specks on the camera's sensor make photos agree that have nothing in common.
MIN_SHARED = 8
STAGE = Limits(rotation=2, shift=1, shear=2, scale=0.03)

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
_DECIMALS = dict.fromkeys(AFFINE, 7) | {"a13": 4, "a23": 4, "overlap": 3, "residual": 3}


def find_pairs(data: DataSet) -> pd.DataFrame:
    """Find the pairs of photos that show, wholly or in part, the same field of view.

    Any two photos on disk may pair, whatever their labels and split. A pair may be nearly the same picture, or share a
    corner; whether it shares a white cell is for the boxes to say.

    Parameters
    ----------
    data : DataSet

    Returns
    -------
    DataFrame
        A row per pair, by photo: ``photo`` < ``other``, the map ``a11`` to ``a23`` from the one reduced to 320x240 to
        the other, its ``inliers`` and ``matches``, the ``overlap`` (share of the other that the photo covers), and the
        ``residual`` (mean absolute difference there, in grey levels).

    Raises
    ------
    BadDataError
        If a photo cannot be read.
    """
    numbers = list_photos(data)
    with one_thread(), ThreadPoolExecutor(2) as pool:
        greys = list(pool.map(lambda photo: to_grey(read_reduced(data, photo)), numbers))
        features = list(pool.map(detect, greys))
        index = build_index(features)
        pairs = set()
        for i, own in enumerate(features):
            votes = vote(index, own)
            votes[i] = -1
            pairs |= {(min(i, j), max(i, j)) for j in np.argsort(-votes, kind="stable")[:_SHORTLIST] if j != i}
        rows = []
        for i, j in sorted(pairs):
            fit = register(features[i], features[j])
            if fit and fit.inliers >= MIN_SHARED and is_within(fit.affine, STAGE):
                overlap = footprint(fit.affine).mean()
                _, difference = compare(greys[i], greys[j], fit.affine)
                rows.append(
                    (numbers[i], numbers[j], *fit.affine.ravel(), fit.inliers, fit.matches, overlap, difference)
                )
    return pd.DataFrame(rows, columns=list(_COLUMNS)).round(_DECIMALS)


def read_pairs(data: DataSet) -> pd.DataFrame:
    """The pairs of any data set: as recorded if these are the published files, else found here (see `find_pairs`).

    Raises
    ------
    BadDataError
        If a photo cannot be read, or the recorded table is damaged.
    """
    manifest = read_manifest(data)
    if manifest.is_published and recorded_path().exists():
        return read_recorded()
    cached = paths.cache() / "fields" / f"{manifest.sha256[:16]}-method{METHOD}-opencv{cv2.__version__}.csv"
    if not cached.exists():
        _write(find_pairs(data), cached)
    return _parse(cached)


def recorded_path() -> Path:
    """Where the table of the published photos is recorded in the project."""
    return paths.results() / "provenance" / "pairs.csv"


def read_recorded() -> pd.DataFrame:
    """Read the recorded table, as `find_pairs` gives it.

    Raises
    ------
    BadDataError
        If it is missing or damaged.
    """
    return _parse(recorded_path())


def write_recorded(table: pd.DataFrame) -> Path:
    """Record a table as `find_pairs` gives it."""
    _write(table, recorded_path())
    return recorded_path()


def group(photos: list[int], pairs: pd.DataFrame) -> pd.Series:
    """Tell which photos belong together: those linked by pairs, over any number of steps.

    Parameters
    ----------
    photos : list of int
        All photos in question.
    pairs : DataFrame
        With ``photo`` and ``other``; pairs with a photo that is not in question link nothing.

    Returns
    -------
    Series of int
        By photo, its field: the lowest number among the photos of its group.
    """
    field = pd.Series(photos, index=pd.Index(photos, name="photo"), name="field")
    for photo, other in zip(pairs.photo, pairs.other, strict=True):
        if photo in field.index and other in field.index:
            kept, gone = sorted((field[photo], field[other]))
            field = field.mask(field == gone, kept)
    return field


def _write(table: pd.DataFrame, target: Path) -> None:
    paths.write_text(target, table[list(_COLUMNS)].to_csv(index=False, lineterminator="\n"))


def _parse(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, float_precision="round_trip")
        if list(table.columns) != list(_COLUMNS):
            raise ValueError("other columns")
        return table.astype(_COLUMNS)
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is missing; restore it from the repository.") from error
    except ValueError as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise BadDataError(f"{path} is not a table of pairs of photos; restore or remove it.") from error
