"""Crowds of phantom photos to search in, as many as wanted: some drawn, the others made of the features of these.

Drawing tens of thousands of photos would take hours. A made-up photo is a set of features, each halfway between two
features of drawn photos: as unlike any drawn one as these are unlike each other, and never twice the same.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wbc_lib.images import one_thread, shrink
from wbc_lib.lineup import to_grey
from wbc_lib.phantoms import augment, draw_affine, draw_photo
from wbc_lib.photos import CLASSES, IMAGE_SIZE
from wbc_lib.registration import Features, detect

_LENGTH = 512  # of a SIFT descriptor


@dataclass(frozen=True)
class Crowd:
    """Photos to search in, and images made from some of them.

    Attributes
    ----------
    photos : sequence of Features
        Two of each photo, as in `lineup.Lineup`: as it is, and as a mirror shows it.
    images : sequence of Features
        Image i was made from photo i.
    """

    photos: Sequence[Features]
    images: Sequence[Features]


def draw_crowd(
    n_photos: int, n_images: int, per_view: int, on_photo: Callable[[int, int], None] = lambda done, total: None
) -> Crowd:
    """Draw phantom photos, and an image of each of the first ones by the published recipe.

    Parameters
    ----------
    n_photos, n_images : int
        Images at most as many as photos.
    per_view : int
        Features, drawn at random, that each view of a photo keeps; an image keeps all.
    on_photo : callable
        Told (photos done, photos in all).
    """

    def draw(photo: int) -> tuple[list[Features], list[Features]]:
        rng = np.random.default_rng([photo, n_photos])
        reduced = shrink(draw_photo((CLASSES[photo % len(CLASSES)],), rng).image, IMAGE_SIZE[::-1])
        grey = to_grey(reduced)
        views = [_some(detect(grey, mirrored=mirrored), per_view, rng) for mirrored in (False, True)]
        images = [detect(to_grey(augment(reduced, draw_affine(rng))))] if photo < n_images else []
        return views, images

    photos: list[Features] = []
    images: list[Features] = []
    with one_thread(), ThreadPoolExecutor(os.cpu_count()) as pool:
        for done, (views, made) in enumerate(pool.map(draw, range(n_photos)), start=1):
            photos += views
            images += made
            on_photo(done, n_photos)
    return Crowd(photos, images)


def enlarge(crowd: Crowd, n_photos: int, per_view: int, seed: int = 0) -> Crowd:
    """Bring a crowd to `n_photos`: its first ones, then made-up ones."""
    drawn = crowd.photos[: 2 * n_photos]
    missing = 2 * n_photos - len(drawn)
    if not missing:
        return Crowd(drawn, crowd.images)
    rng = np.random.default_rng(seed)
    known = np.concatenate([f.descriptors for f in drawn])
    points = np.zeros((per_view, 2), np.float32)
    made = [Features(points, _mix(known, per_view, rng)) for _ in range(missing)]
    return Crowd([*drawn, *made], crowd.images)


def _some(features: Features, n: int, rng: np.random.Generator) -> Features:
    rows = np.sort(rng.permutation(len(features))[:n])
    return Features(features.points[rows], features.descriptors[rows])


def _mix(known: NDArray[np.uint8], n: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    pairs = known[rng.integers(0, len(known), (2, n))].astype(np.float32)
    middle = pairs.sum(axis=0)
    middle *= _LENGTH / np.linalg.norm(middle, axis=1, keepdims=True)
    return np.clip(np.rint(middle), 0, 255).astype(np.uint8)


def write_crowd(crowd: Crowd, path: Path) -> None:
    """Write a drawn crowd to an ``.npz`` file."""
    arrays = {}
    for kind in ("photos", "images"):
        for i, features in enumerate(getattr(crowd, kind)):
            arrays[f"{kind}-points-{i}"] = features.points
            arrays[f"{kind}-descriptors-{i}"] = features.descriptors
    np.savez(path, **arrays)


def read_crowd(path: Path) -> Crowd:
    """Read what `write_crowd` wrote."""
    with np.load(path, allow_pickle=False) as file:

        def read(kind: str) -> list[Features]:
            n = sum(name.startswith(f"{kind}-points-") for name in file.files)
            return [Features(file[f"{kind}-points-{i}"], file[f"{kind}-descriptors-{i}"]) for i in range(n)]

        return Crowd(read("photos"), read("images"))


def nearest_distances(crowd: Crowd, n: int = 500, seed: int = 0) -> NDArray[np.float32]:
    """How far features of a crowd's photos lie from the nearest of any other photo; shape (n,).

    Parameters
    ----------
    crowd : Crowd
        Of at most a few hundred photos: every pair is compared.
    n : int
        Features looked at, drawn at random.
    seed : int
    """
    views = crowd.photos[::2]
    owners = np.repeat(np.arange(len(views)), [len(v) for v in views])
    all_of_them = np.concatenate([v.descriptors for v in views]).astype(np.float32)
    rows = np.random.default_rng(seed).permutation(len(owners))[:n]
    lengths = np.square(all_of_them).sum(axis=1)
    squares = lengths[rows][:, None] + lengths[None, :] - 2 * all_of_them[rows] @ all_of_them.T
    squares[owners[rows][:, None] == owners[None, :]] = np.inf
    return np.sqrt(squares.min(axis=1).clip(0))
