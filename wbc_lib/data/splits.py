"""Which images are learned from and which are held back; the published images with splits that do not leak."""

import warnings
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.errors import BadDataError, UnknownNameError

#: The published images with their splits, as they travel with the library; `evaluation.submission_report` makes it.
SPLITS_PATH = Path(__file__).with_name("splits.csv")
#: Repeats of the cross-validation, each with a fold for every image.
REPEATS = ("s0", "s1", "s2")
COLUMNS = ("image", "photo", "class", "split", "field", *(f"fold_{repeat}" for repeat in REPEATS))


@dataclass(frozen=True)
class Split:
    """Row numbers of a division in two; together they are all rows, and no row is in both."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_at_random(n: int, share: float, seed: int) -> Split:
    """Hold back a random share of `n` images, as the paper's figures imply; row numbers are ascending.

    Copies of one photo land on both sides: this is the protocol under test, not one to follow.
    """
    order = np.random.default_rng([seed, 0]).permutation(n)
    held_back = round(n * share)
    return Split(np.sort(order[held_back:]), np.sort(order[:held_back]))


def split_by_group(
    labels: NDArray[np.integer], groups: NDArray[np.integer], fold: int, n_folds: int, seed: int
) -> Split:
    """Hold back one of `n_folds` parts that share no group, with as many groups of each class in every part.

    Rows of one group, such as the copies of a photo, stay together; a group counts for its commonest class. Folds are
    counted from 1: over all folds of one seed every row is held back once. Row numbers are ascending. Raises
    `ValueError` if there is no such fold, or fewer groups than folds.
    """
    if not 1 <= fold <= n_folds:
        raise ValueError(f"there are folds 1 to {n_folds}, not {fold}")
    from sklearn.model_selection import StratifiedKFold  # half a second to load, and most chapters split nothing

    # scikit-learn's StratifiedGroupKFold sorts groups by size after shuffling them: nearly every seed gives the same.
    names, member = np.unique(groups, return_inverse=True)
    counts = np.zeros((len(names), labels.max() + 1), int)
    np.add.at(counts, (member, labels), 1)
    parts = StratifiedKFold(n_folds, shuffle=True, random_state=seed).split(names, counts.argmax(axis=1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a class of fewer groups than folds is absent from some
        chosen = next(islice(parts, fold - 1, None))[1]
    is_held_back = np.isin(member, chosen)
    return Split(np.flatnonzero(~is_held_back), np.flatnonzero(is_held_back))


def undersample(labels: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Choose as many rows of every class as the rarest class has; row numbers, ascending."""
    rng = np.random.default_rng([seed, 1])
    classes, counts = np.unique(labels, return_counts=True)
    chosen = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return np.sort(np.concatenate(chosen))


def choose_share(
    labels: NDArray[np.integer], photos: NDArray[np.integer], share: float, seed: int
) -> NDArray[np.int64]:
    """Choose the rows of a share of each class's photos; a smaller share is part of a larger one.

    At least one photo of each class is chosen; a photo counts for the label of its first row.
    """
    names, first = np.unique(photos, return_index=True)
    of_photo = labels[first]
    order = np.random.default_rng([seed, 2]).permutation(len(names))
    chosen = []
    for label in np.unique(of_photo):
        mine = order[of_photo[order] == label]
        chosen.extend(mine[: max(1, round(share * len(mine)))])
    return np.flatnonzero(np.isin(photos, names[chosen]))


def published_split(index: pd.DataFrame) -> pd.Series:
    """Tell which split each photo's copies went to, by the recipe that gives the published class counts.

    Single-label photos in the label file's order, basophils counted in, and scikit-learn's split with these very
    arguments. `index` has ``kind``, ``has_photo`` and ``labels`` as in `index_photos`; the outcome is TRAIN, TEST or ""
    (no augmented image was made of it).
    """
    from sklearn.model_selection import train_test_split

    eligible = index.index[(index.kind == "single") & index.has_photo]
    train, test = train_test_split(eligible, test_size=0.2, random_state=10)
    split = pd.Series("", index=index.index)
    split[train], split[test] = "TRAIN", "TEST"
    split[index.labels == "BASOPHIL"] = ""
    return split


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
    """Load one of the published splits ("TRAIN", "TEST" or "TEST_SIMPLE") at a size (height, width).

    `data` is a folder or zip of the photos, by default what `dataset.find` finds or downloads. `splits` is the table of
    another data set in the same layout, by default `read_splits`. Gives, in the order of its rows, the pixels, uint8
    (images, height, width, RGB), the position of the class in `dataset.CLASSES`, 0 to 3, and the field of view, for
    ``GroupKFold``: copies of one photo, and photos that overlap, share it. Raises `UnknownNameError` if there is no
    such split, and `BadDataError` if an image cannot be read, or the folder holds others than the table names.
    """
    from wbc_lib.data import dataset  # which builds on this module
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
