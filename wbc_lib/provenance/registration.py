"""Laying one picture over another: local features, the affine map between them, and which of many photos fits best.

Coordinates are pixels (x, y) of pictures of `dataset.IMAGE_SIZE`; an affine map is a (2, 3) matrix that takes (x, y, 1)
of the source to (x, y) of the target.

The features of an image vote, in one search over all photos offered and their mirror images, for the photo they come
from; the few photos with most votes are laid over the image. Where two of them fit nearly as well, as two photos of the
same field of view do, the pixels decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, DataSet
from wbc_lib.data.images import read_reduced, to_grey, warp

#: Fewest inliers to believe a map. The published images have 26 and more; photos that have nothing in common, up to 7,
#: and phantoms, all drawn by one hand, up to 12, by maps that the recipe cannot make.
MIN_INLIERS = 12
#: Largest residual to believe a map, in grey levels. The published images have 1 to 2 (the JPEG's loss and what two
#: interpolations differ by); another photo of the same field of view has 2.8 and more.
MAX_RESIDUAL = 2.5

#: Contrast below which a feature is dropped. Stained smears are smooth: OpenCV's 0.04 leaves some with 20 features.
_CONTRAST = 0.02
#: A match counts if its distance is below this share of that to the second-best (Lowe's ratio test).
_RATIO = 0.8
#: Pixels by which a match may miss the map and still be an inlier.
_TOLERANCE = 2.0
#: Nearest neighbours that vote for the picture they come from, and leaves of the trees looked into for them.
_NEIGHBOURS, _CHECKS, _TREES = 5, 32, 4
#: Pixels along the rim of the source's footprint that the residual leaves out: interpolation mixes them with black.
_RIM = 2
#: Photos of most votes that are laid over an image.
_SHORTLIST = 3


@dataclass(frozen=True)
class Features:
    """Local features of a picture: where they are, (x, y), and what is there."""

    points: NDArray[np.float32]  # (features, 2)
    descriptors: NDArray[np.uint8]  # (features, 128)

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Index:
    """Search trees over the features of many pictures at once."""

    owners: NDArray[np.intp]  # (features,): which picture each comes from
    n_pictures: int
    tree: cv2.flann.Index | None  # None if there are too few features to search in


@dataclass(frozen=True)
class Fit:
    """An affine map found between two pictures: how many matches there were, and how many agree with it."""

    affine: NDArray[np.float64]
    inliers: int
    matches: int


@dataclass(frozen=True)
class Transform:
    """An affine map in the terms of the image generator's recipe: turned, shifted, slanted, scaled, then flipped."""

    rotation: float  # degrees, -90 to 90; positive if the picture was turned counter-clockwise
    shift: tuple[float, float]  # share of the width and of the height
    shear: float  # degrees by which rows lean, relative to columns
    scale: tuple[float, float]  # magnification along x and along y; 1 in the recipe
    flips: tuple[bool, bool]  # whether left and right, and whether top and bottom, changed places


@dataclass(frozen=True)
class Limits:
    """Largest departures from the identity (flips aside) that a map may have to be believed, as in `Transform`."""

    rotation: float
    shift: float
    shear: float
    scale: float


#: What the published recipe can do to a photo (±20°, ±10 %, 0.2 rad = 11.5°, no scaling), and some room for error.
RECIPE_LIMITS = Limits(rotation=21, shift=0.11, shear=13, scale=0.03)


@dataclass(frozen=True)
class Source:
    """A photo that images may have been made from."""

    photo: int  # its number
    grey: NDArray[np.uint8]  # reduced and without colour, (240, 320)
    features: tuple[Features, Features]  # of the photo as it is, and as a mirror shows it


@dataclass(frozen=True)
class SourceIndex:
    """Photos ready to be searched; member 2 i of the index is source i as it is, 2 i + 1 its mirror image."""

    sources: Sequence[Source]
    index: Index


@dataclass(frozen=True)
class Match:
    """A photo that an image may have been made from; the attributes are explained in `trace.trace`."""

    photo: int
    affine: NDArray[np.float64]
    inliers: int
    matches: int
    gain: float
    residual: float
    runner_up: int = -1
    runner_up_inliers: int = 0
    confidence: float = 0.0

    @property
    def mirrored(self) -> bool:
        """Whether the map changes left and right hand."""
        (a, b, _), (c, d, _) = self.affine
        return bool(a * d < b * c)

    @property
    def is_trusted(self) -> bool:
        """Whether the map is one that the recipe can make, and features and pixels bear it out."""
        enough = self.inliers >= MIN_INLIERS and self.residual <= MAX_RESIDUAL
        return enough and is_within(self.affine, RECIPE_LIMITS)


#: What is found when no photo can be laid over the image.
NO_MATCH = Match(-1, np.full((2, 3), np.nan), 0, 0, np.nan, np.nan)


def detect(grey: NDArray[np.uint8], *, mirrored: bool = False) -> Features:
    """Find the features of a grey picture; if `mirrored`, each is described as a mirror shows it, where it is."""
    picture = np.ascontiguousarray(grey[:, ::-1]) if mirrored else grey
    # OpenCV takes these by position only: all features, 3 layers an octave, contrast, edge, sigma, bytes, unbiased.
    sift = cv2.SIFT.create(0, 3, _CONTRAST, 10, 1.6, cv2.CV_8U, True)
    keypoints, descriptors = sift.detectAndCompute(picture, None)
    if not keypoints:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8))
    points = np.array([k.pt for k in keypoints], np.float32)
    if mirrored:
        points[:, 0] = grey.shape[1] - 1 - points[:, 0]
    return Features(points, np.asarray(descriptors, np.uint8))


def build_index(pictures: Sequence[Features]) -> Index:
    """Put the features of many pictures into search trees; the same features always give the same trees."""
    owners = np.repeat(np.arange(len(pictures)), np.array([len(p) for p in pictures], int))
    if len(owners) <= _NEIGHBOURS:
        return Index(owners, len(pictures), None)
    cv2.setRNGSeed(0)
    descriptors = np.concatenate([p.descriptors for p in pictures]).astype(np.float32)
    return Index(owners, len(pictures), cv2.flann.Index(descriptors, {"algorithm": 1, "trees": _TREES}))


def vote(index: Index, features: Features) -> NDArray[np.float64]:
    """Let each feature of a picture vote for the pictures of an index that have the like of it; shape (pictures,).

    Among its nearest neighbours, each picture gets the distance by which its feature is nearer than the last (a local
    naive Bayes neighbour vote). Unlike a ratio test it does not fall silent where two pictures show the same thing.
    """
    if index.tree is None or not len(features):
        return np.zeros(index.n_pictures)
    asking = features.descriptors.astype(np.float32)
    neighbours, distances = index.tree.knnSearch(asking, _NEIGHBOURS + 1, params={"checks": _CHECKS})
    owners = index.owners[neighbours[:, :-1]]
    gains = distances[:, -1:] - distances[:, :-1]
    for j in range(1, _NEIGHBOURS):  # one vote per picture: its nearest
        gains[(owners[:, :j] == owners[:, j : j + 1]).any(axis=1), j] = 0
    return np.bincount(owners.ravel(), gains.ravel(), index.n_pictures).astype(np.float64, copy=False)


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
    return None if affine is None else Fit(np.asarray(affine, float), int(inliers.sum()), len(matches))


def footprint(affine: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where the target shows the source, its outermost pixels excepted: shape (240, 320)."""
    full = np.full(IMAGE_SIZE[::-1], 255, np.uint8)
    return cv2.erode(warp(full, affine), np.ones((2 * _RIM + 1,) * 2, np.uint8)) == 255


def compare(source: NDArray[np.uint8], target: NDArray[np.uint8], affine: NDArray[np.float64]) -> tuple[float, float]:
    """Compare a moved source with the target, pixel by pixel, inside the source's footprint.

    Gives the gain that makes the source as bright as the target (least squares), and the mean absolute difference of
    the two in grey levels, the source brightened by it. Both are NaN if the footprint is empty.
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
    """Read an affine map in the terms of the recipe; raises `ValueError` if it has no inverse.

    The recipe says where each pixel of the image is taken from, about the middle and before the flips: a rotation of a
    shift of a shear. Turning by 180° is read as both flips, so the rotation is never more than 90°.
    """
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
        moved = decompose(affine)
    except ValueError:
        return False
    off = max(abs(s - 1) for s in moved.scale)
    found = abs(moved.rotation), max(map(abs, moved.shift)), abs(moved.shear), off
    allowed = limits.rotation, limits.shift, limits.shear, limits.scale
    return all(value <= limit for value, limit in zip(found, allowed, strict=True))


def read_source(data: DataSet, photo: int) -> Source:
    """Read a photo and describe its features."""
    grey = to_grey(read_reduced(data, photo))
    return Source(photo, grey, (detect(grey), detect(grey, mirrored=True)))


def index_sources(sources: Sequence[Source]) -> SourceIndex:
    """Make photos ready to be searched."""
    return SourceIndex(sources, build_index([features for source in sources for features in source.features]))


def find_source(grey: NDArray[np.uint8], photos: SourceIndex) -> Match:
    """Find the photo that an image, shape (240, 320), was made from."""
    features = detect(grey)
    votes = vote(photos.index, features).reshape(-1, 2)
    ranking = np.argsort(-votes.max(axis=1), kind="stable")
    attempts = []
    for i in ranking[:_SHORTLIST]:
        source = photos.sources[i]
        fit = register(source.features[int(votes[i].argmax())], features)
        if fit:
            of_pixels = compare(source.grey, grey, fit.affine)
            attempts.append(Match(source.photo, fit.affine, fit.inliers, fit.matches, *of_pixels))
    if not attempts:
        return NO_MATCH
    best = _choose(attempts)
    others = [attempt for attempt in attempts if attempt is not best]
    second = max(others, key=lambda attempt: attempt.inliers, default=NO_MATCH)
    confidence = _confidence(best, second)
    return replace(best, runner_up=second.photo, runner_up_inliers=second.inliers, confidence=confidence)


def _choose(attempts: Sequence[Match]) -> Match:
    # Of those that could be it, the one with most inliers; where another has more than half as many, the pixels decide.
    trusted = [attempt for attempt in attempts if attempt.is_trusted]
    if not trusted:
        return max(attempts, key=lambda attempt: attempt.inliers)
    most = max(attempt.inliers for attempt in trusted)
    close = [attempt for attempt in trusted if 2 * attempt.inliers > most]
    return min(close, key=lambda attempt: attempt.residual)


def _confidence(best: Match, second: Match) -> float:
    if not best.is_trusted:
        return 0.0
    by_pixels = best.residual / second.residual if second.residual > 0 else 1.0
    return 1 - min(second.inliers / best.inliers, by_pixels)
