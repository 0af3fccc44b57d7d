"""Which images are learned from and which are held back."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Split:
    """Row numbers of a division in two; together they are all rows, and no row is in both."""

    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def split_at_random(n: int, share: float, seed: int) -> Split:
    """Hold back a random share of `n` images, as the paper's figures imply.

    Copies of one photo land on both sides: this is the protocol under test, not one to follow.

    Parameters
    ----------
    n : int
        Number of images.
    share : float
        Held back for validation, 0 to 1 (rounded to whole images).
    seed : int
        Same seed, same split.

    Returns
    -------
    Split
        Row numbers, each part ascending.
    """
    order = np.random.default_rng([seed, 0]).permutation(n)
    held_back = round(n * share)
    return Split(np.sort(order[held_back:]), np.sort(order[:held_back]))


def undersample(labels: NDArray[np.integer], seed: int) -> NDArray[np.int64]:
    """Choose as many rows of every class as the rarest class has.

    Parameters
    ----------
    labels : ndarray of int, shape (rows,)
    seed : int

    Returns
    -------
    ndarray of int
        Row numbers, ascending.
    """
    rng = np.random.default_rng([seed, 1])
    classes, counts = np.unique(labels, return_counts=True)
    chosen = [rng.choice(np.flatnonzero(labels == c), counts.min(), replace=False) for c in classes]
    return np.sort(np.concatenate(chosen))
