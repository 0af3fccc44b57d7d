"""The published images as arrays, with splits that do not leak: ``splits.csv`` travels with the library."""

from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data import dataset
from wbc_lib.errors import BadDataError, UnknownNameError

#: The table as it is shipped; `evaluation.submission_report` makes it from the recorded provenance.
SPLITS_PATH = Path(__file__).with_name("splits.csv")
#: Repeats of the cross-validation, each with a fold for every image.
REPEATS = ("s0", "s1", "s2")
COLUMNS = ("image", "photo", "class", "split", "field", *(f"fold_{repeat}" for repeat in REPEATS))


@cache
def read_splits() -> pd.DataFrame:
    """The published images, one a row; not to be changed in place.

    ``image`` (``SPLIT/CLASS/FILE``), ``photo`` (number of the photo that it is a copy of), ``class``, ``split``,
    ``field`` (a number that photos of one field of view share) and ``fold_s0`` to ``fold_s2`` (1 to 5: the part that a
    repeat of cross-validation holds back).
    """
    return pd.read_csv(SPLITS_PATH)


def load(
    split: str = "TRAIN",
    size: tuple[int, int] = (60, 80),
    *,
    data: str | Path | None = None,
    splits: pd.DataFrame | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
    """Load one of the published splits.

    Parameters
    ----------
    split : str
        "TRAIN", "TEST" or "TEST_SIMPLE".
    size : tuple of int
        Height and width in pixels.
    data : path, optional
        Folder or zip of the photos. By default they are found, or downloaded, as `dataset.find` does.
    splits : DataFrame, optional
        As `read_splits` gives it, the default: for another data set in the same layout.

    Returns
    -------
    X : ndarray of uint8, shape (images, height, width, RGB)
        In the order of the rows of `splits`.
    y : ndarray of int64, shape (images,)
        Position of the class in `dataset.CLASSES`, 0 to 3.
    groups : ndarray of int64, shape (images,)
        Field of view, for ``GroupKFold``: copies of one photo, and photos that overlap, share it.

    Raises
    ------
    UnknownNameError
        If there is no such split.
    BadDataError
        If an image cannot be read, or the folder holds others than the table names.
    """
    from wbc_lib.data.images import load_images

    if split not in dataset.SPLITS:
        raise UnknownNameError(f"There is no split {split!r}; choose one of: {', '.join(dataset.SPLITS)}.")
    found = dataset.find(data)
    table = read_splits() if splits is None else splits
    rows = table[table.split == split]
    images = load_images(found, size)
    listed = images.index[images.index.split == split]
    if listed.image.tolist() != rows.image.tolist():
        odd = sorted(set(listed.image) ^ set(rows.image))
        what = f"{odd[0]} is only in one of them" if odd else "their order differs"
        raise BadDataError(f"{found.root} does not hold the images of splits.csv ({what}); name another with `data`.")
    pixels, labels = images.of(split)
    return np.array(pixels), labels.astype(np.int64) - 1, rows.field.to_numpy(np.int64)
