"""Laying one picture over another: local features, the affine map between them, and what the map means.

Coordinates are pixels (x, y) of pictures of `dataset.IMAGE_SIZE`; an affine map is a (2, 3) matrix that takes (x, y, 1)
of the source to (x, y) of the target.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE

#: Contrast below which a feature is dropped. Stained smears are smooth: OpenCV's 0.04 leaves some with 20 features.
_CONTRAST = 0.02
#: A match counts if its distance is below this share of that to the second-best (Lowe's ratio test).
_RATIO = 0.8
#: Pixels by which a match may miss the map and still be an inlier.
_TOLERANCE = 2.0
#: Nearest neighbours that vote for the picture they come from, and leaves of the trees looked into for them.
_NEIGHBOURS = 5
_CHECKS = 32
_TREES = 4
#: Pixels along the rim of the source's footprint that the residual leaves out: interpolation mixes them with black.
_RIM = 2


@dataclass(frozen=True)
class Features:
    """Local features of a picture.

    Attributes
    ----------
    points : ndarray of float32, shape (features, 2)
        Where they are, (x, y).
    descriptors : ndarray of uint8, shape (features, 128)
        What is there.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Index:
    """Search trees over the features of many pictures at once.

    Attributes
    ----------
    owners : ndarray of int, shape (features,)
        Which picture each feature comes from.
    n_members : int
        How many pictures there are.
    tree : cv2.flann.Index or None
        None if the pictures have too few features to search in.
    """

    owners: NDArray[np.intp]
    n_members: int
    tree: cv2.flann.Index | None


@dataclass(frozen=True)
class Fit:
    """An affine map found between two pictures.

    Attributes
    ----------
    affine : ndarray of float64, shape (2, 3)
    inliers : int
        Matches that agree with it.
    matches : int
        Matches there were.
    """

    affine: NDArray[np.float64]
    inliers: int
    matches: int


@dataclass(frozen=True)
class Transform:
    """An affine map in the terms of the image generator's recipe: turned, shifted, slanted, scaled, then flipped.

    Attributes
    ----------
    rotation : float
        Degrees, -90 to 90; positive if the picture was turned counter-clockwise.
    shift : tuple of float
        Share of the width and of the height.
    shear : float
        Degrees by which rows lean, relative to columns.
    scale : tuple of float
        Magnification along x and along y; 1 in the recipe.
    flips : tuple of bool
        Whether left and right, and whether top and bottom, changed places.
    """

    rotation: float
    shift: tuple[float, float]
    shear: float
    scale: tuple[float, float]
    flips: tuple[bool, bool]

    @property
    def mirrored(self) -> bool:
        """Whether the picture shows its source as a mirror does: flipped one way, but not both."""
        return self.flips[0] != self.flips[1]


@dataclass(frozen=True)
class Limits:
    """Largest departures from the identity (flips aside) that a map may have to be believed, as in `Transform`."""

    rotation: float
    shift: float
    shear: float
    scale: float


def detect(grey: NDArray[np.uint8], *, mirrored: bool = False) -> Features:
    """Find the features of a picture.

    Parameters
    ----------
    grey : ndarray of uint8, shape (height, width)
    mirrored : bool
        Describe each feature as a mirror shows it (SIFT tells left from right); the points stay where they are.
    """
    picture = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
    # OpenCV takes these by position only: all features, 3 layers an octave, contrast, edge, sigma, bytes, unbiased.
    sift = cv2.SIFT_create(0, 3, _CONTRAST, 10, 1.6, cv2.CV_8U, True)
    keypoints, descriptors = sift.detectAndCompute(picture, None)
    if not keypoints:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    points = np.array([k.pt for k in keypoints], np.float32)
    if mirrored:
        points[:, 0] = grey.shape[1] - 1 - points[:, 0]
    return Features(points, descriptors)


def build_index(members: Sequence[Features]) -> Index:
    """Put the features of many pictures into search trees; the same features always give the same trees."""
    owners = np.repeat(np.arange(len(members)), np.array([len(m) for m in members], int))
    if len(owners) <= _NEIGHBOURS:
        return Index(owners, len(members), None)
    cv2.setRNGSeed(0)
    descriptors = np.concatenate([m.descriptors for m in members]).astype(np.float32)
    return Index(owners, len(members), cv2.flann.Index(descriptors, {"algorithm": 1, "trees": _TREES}))


def vote(index: Index, features: Features) -> NDArray[np.float64]:
    """Let each feature of a picture vote for the members of an index that have the like of it.

    Among its nearest neighbours, each member gets the distance by which its own is nearer than the last (a local
    naive Bayes neighbour vote). Unlike a ratio test it does not fall silent where two members show the same thing.

    Returns
    -------
    ndarray of float64, shape (members,)
    """
    if index.tree is None or not len(features):
        return np.zeros(index.n_members)
    neighbours, distances = index.tree.knnSearch(
        features.descriptors.astype(np.float32), _NEIGHBOURS + 1, params={"checks": _CHECKS}
    )
    owners = index.owners[neighbours[:, :-1]]
    gains = distances[:, -1:] - distances[:, :-1]
    for j in range(1, _NEIGHBOURS):  # one vote per member: its nearest
        gains[(owners[:, :j] == owners[:, j : j + 1]).any(axis=1), j] = 0
    return np.bincount(owners.ravel(), gains.ravel(), index.n_members)


def register(source: Features, target: Features) -> Fit | None:
    """Find the affine map from one picture to another; None if too little matches."""
    if len(source) < 2 or not len(target):
        return None
    # OpenCV compares floats several times faster than bytes.
    wanted, offered = (features.descriptors.astype(np.float32) for features in (target, source))
    pairs = cv2.BFMatcher().knnMatch(wanted, offered, 2)
    matches = [best for best, second in pairs if best.distance < _RATIO * second.distance]
    if len(matches) < 3:
        return None
    cv2.setRNGSeed(0)
    affine, inliers = cv2.estimateAffine2D(
        source.points[[m.trainIdx for m in matches]],
        target.points[[m.queryIdx for m in matches]],
        ransacReprojThreshold=_TOLERANCE,
    )
    return None if affine is None else Fit(affine, int(inliers.sum()), len(matches))


def warp(reduced: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Move a picture of 320x240 by an affine map; black comes in from outside.

    Parameters
    ----------
    reduced : ndarray of uint8, shape (240, 320) or (240, 320, channels)
    affine : ndarray, shape (2, 3)
    """
    return cv2.warpAffine(reduced, affine, IMAGE_SIZE, flags=cv2.INTER_LINEAR)


def footprint(affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the target shows the source, its outermost pixels excepted: shape (240, 320)."""
    full = np.full(IMAGE_SIZE[::-1], 255, np.uint8)
    shrunk = cv2.erode(warp(full, affine), np.ones((2 * _RIM + 1,) * 2, np.uint8))
    return shrunk == 255


def compare(source: NDArray[np.uint8], target: NDArray[np.uint8], affine: NDArray[np.float64]) -> tuple[float, float]:
    """Compare a moved source with the target, pixel by pixel, inside the source's footprint.

    Returns
    -------
    gain : float
        Factor that makes the source as bright as the target (least squares).
    residual : float
        Mean absolute difference of the two in grey levels, the source brightened by the gain. Both are NaN if the
        footprint is empty.
    """
    inside = footprint(affine)
    moved = warp(source, affine)[inside].astype(np.float32)
    shown = target[inside].astype(np.float32)
    power = float(moved @ moved)
    if not power:
        return float("nan"), float("nan")
    gain = float(moved @ shown) / power
    return gain, float(np.abs(gain * moved - shown).mean())


def decompose(affine: NDArray[np.float64]) -> Transform:
    """Read an affine map in the terms of the recipe.

    The recipe says where each pixel of the image is taken from, about the middle and before the flips: a rotation of a
    shift of a shear. Turning by 180° is read as both flips, so the rotation is never more than 90°.

    Parameters
    ----------
    affine : ndarray, shape (2, 3)
        From the source's pixels to the image's.

    Raises
    ------
    ValueError
        If the map has no inverse.
    """
    affine = np.asarray(affine, float)
    linear, size = affine[:, :2], np.array(IMAGE_SIZE)
    determinant = linear[0, 0] * linear[1, 1] - linear[0, 1] * linear[1, 0]
    if not np.isfinite(affine).all() or abs(determinant) < 1e-9:
        raise ValueError("an affine map that flattens the picture cannot be decomposed")
    handed = np.sign(determinant)
    side = 1.0 if linear[0, 0] + handed * linear[1, 1] >= 0 else -1.0
    flips = np.array([side, side * handed])
    taken = np.linalg.inv(flips[:, None] * linear)
    rotation = np.arctan2(-taken[0, 1], taken[1, 1])
    back = np.array([[np.cos(rotation), np.sin(rotation)], [-np.sin(rotation), np.cos(rotation)]])
    slant = back @ taken  # lower triangular: the recipe shears rows, then turns
    middle = (size - 1) / 2
    shift = -slant @ (flips * (linear @ middle + affine[:, 2] - middle)) / size
    return Transform(
        rotation=float(np.degrees(rotation)),
        shift=(float(shift[0]), float(shift[1])),
        shear=float(np.degrees(np.arctan2(-slant[1, 0], slant[0, 0]))),
        scale=(float(1 / np.hypot(slant[0, 0], slant[1, 0])), float(1 / slant[1, 1])),
        flips=(bool(flips[0] < 0), bool(flips[1] < 0)),
    )


def is_within(affine: NDArray[np.float64], limits: Limits) -> bool:
    """Whether a map stays within limits."""
    try:
        found = decompose(affine)
    except ValueError:
        return False
    return (
        abs(found.rotation) <= limits.rotation
        and max(map(abs, found.shift)) <= limits.shift
        and abs(found.shear) <= limits.shear
        and max(abs(s - 1) for s in found.scale) <= limits.scale
    )
