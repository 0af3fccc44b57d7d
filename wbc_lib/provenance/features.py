"""Local features of pictures of any size and origin, and whether two pictures show the same thing by an affine map.

What was found of many pictures is kept, so that interrupted work goes on.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.images import MapTasks, OnProgress
from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, printable

#: Raise it whenever the same pictures may get other features, candidates or links than before: what is cached is then
#: made anew.
METHOD = 2
#: Features kept of a picture: those of most contrast.
N_FEATURES = 150
#: Longer side, in pixels, to which a larger picture is reduced.
LONGEST = 400
#: Fewest inliers of a map. Of 6,400 pairs at random of two sets, two had more than 7, before the map's limits.
MIN_INLIERS = 8
#: Inliers of a map that is believed alone; of others it takes two to join two groups.
CLEAR_INLIERS = 13
#: What a believed map may do: how much larger it may make one direction than another (Keras' shear of 0.2, twice and
#: opposed, makes 1.5), and how much larger or smaller the whole.
_MAX_STRETCH, _MAX_SCALE = 1.6, 4.5

_CONTRAST = 0.01
_RATIO = 0.85
#: Pixels of the reduced picture by which a match may miss the map and still be an inlier; and the rim, in pixels, along
#: which no feature is expected to be found again.
_TOLERANCE, _RIM = 3.0, 4.0
#: SIFT describes a feature by 4 x 4 places of 8 directions each, along its own direction. As a mirror shows it, the
#: places across that direction and the sense of turning are reversed.
_MIRROR = np.arange(128).reshape(4, 4, 8)[::-1][:, :, -np.arange(8) % 8].ravel()
#: Log-odds that a map joins two pictures made from one photo rather than from two photos of one field of view, of the
#: logarithm of the share of features found again and of the median distance of descriptors. By logistic regression, on
#: pairs of TRAIN images and on copies of pictures of PBC that no reported figure is about.
_LOG_ODDS = (16.1, 7.1, -37.0)
#: Pictures that are described in a piece of work.
_CHUNK = 64

Picture = PictureFile | Path | str | NDArray[np.uint8]
# Of a picture: a file's bytes, the array itself, or why it cannot be read.
_Content = bytes | NDArray[np.uint8] | BadDataError


@dataclass(frozen=True)
class Features:
    """Local features of a picture: where they are, and what is there."""

    points: NDArray[np.float32]  # (features, 2): x, y in pixels of the reduced picture
    descriptors: NDArray[np.uint8]  # (features, 128)
    size: tuple[int, int]  # width and height of the whole picture
    scale: float  # of the reduced picture: 1 if it is the whole one

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Described:
    """What is kept of a picture."""

    features: Features
    content: str  # hash of the file's bytes, or of the array; "" if the file cannot be read
    problem: str  # a sentence if there is no picture; else ""


@dataclass(frozen=True)
class Link:
    """An affine map found between two pictures."""

    affine: NDArray[np.float64]  # (2, 3): from pixels (x, y, 1) of the first picture to (x, y) of the second
    inliers: int
    log_odds: float  # that the two were made from one photo, rather than from two that overlap

    def inverted(self) -> "Link":
        """The map from the second picture to the first."""
        return Link(np.asarray(cv2.invertAffineTransform(self.affine), float), self.inliers, self.log_odds)


def describe(picture: NDArray[np.uint8]) -> Features:
    """Find the features of a picture, grey or RGB."""
    height, width = picture.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) if picture.ndim == 3 else picture
    if scale < 1:
        grey = cv2.resize(grey, (round(width * scale) or 1, round(height * scale) or 1), interpolation=cv2.INTER_AREA)
    # OpenCV takes these by position only: number, layers an octave, contrast, edge, sigma, bytes.
    sift = cv2.SIFT.create(N_FEATURES, 3, _CONTRAST, 10, 1.6, cv2.CV_8U)
    keypoints, descriptors = sift.detectAndCompute(np.ascontiguousarray(grey), None)
    points = np.array([k.pt for k in keypoints], np.float32).reshape(-1, 2)[:N_FEATURES]
    found = np.empty((0, 128), np.uint8) if descriptors is None else np.asarray(descriptors[:N_FEATURES], np.uint8)
    return Features(points, found, (width, height), scale)


def compare_by_root(descriptors: NDArray[np.uint8], *, mirrored: bool = False) -> NDArray[np.float32]:
    """Bring descriptors to length 1, shape (features, 128), so that common directions do not outweigh all others.

    The square root of each (Arandjelovic and Zisserman 2012); `mirrored` gives those of the mirrored picture.
    """
    roots = np.sqrt((descriptors[:, _MIRROR] if mirrored else descriptors).astype(np.float32))
    return roots / np.maximum(np.linalg.norm(roots, axis=1, keepdims=True), 1e-6)


def find_link(first: Features, second: Features, *, mirrored: bool) -> Link | None:
    """Find the map from one picture to another, near a similarity; None if fewer than `MIN_INLIERS` agree on one."""
    if min(len(first), len(second)) < MIN_INLIERS:
        return None
    ours, theirs = compare_by_root(first.descriptors, mirrored=mirrored), compare_by_root(second.descriptors)
    distances, nearest = cv2.batchDistance(ours, theirs, cv2.CV_32F, normType=cv2.NORM_L2, K=2)
    is_match = distances[:, 0] < _RATIO * distances[:, 1]
    if is_match.sum() < MIN_INLIERS:
        return None
    start, end = first.points[is_match], second.points[nearest[is_match, 0]]
    cv2.setRNGSeed(0)
    found, inside = cv2.estimateAffine2D(start, end, ransacReprojThreshold=_TOLERANCE, maxIters=1000, confidence=0.995)
    if found is None:
        return None
    affine = np.asarray(found, float)
    is_inlier = inside.ravel().astype(bool)
    inliers = len(np.unique(end[is_inlier].view(np.complex64)))  # several features may have been matched to one
    stretches = np.linalg.svd(affine[:, :2], compute_uv=False)
    if inliers < MIN_INLIERS or stretches[1] < 1 / _MAX_SCALE or stretches[0] > _MAX_SCALE:
        return None
    if stretches[0] > _MAX_STRETCH * stretches[1] or (np.linalg.det(affine[:, :2]) < 0) != mirrored:
        return None
    inverse = np.asarray(cv2.invertAffineTransform(affine), float)
    there, back = _count_inside(first, second, affine), _count_inside(second, first, inverse)
    found_again = inliers / max(min(there, back), inliers)
    constant, by_share, by_distance = _LOG_ODDS
    distance = float(np.median(distances[is_match, 0][is_inlier]))
    log_odds = constant + by_share * np.log(found_again) + by_distance * distance
    whole = affine * first.scale / second.scale
    whole[:, 2] = affine[:, 2] / second.scale
    return Link(whole, inliers, float(log_odds))


def find_best_link(first: Features, second: Features) -> Link | None:
    """Find the map as the picture is and mirrored; the one with more inliers."""
    links = [find_link(first, second, mirrored=mirrored) for mirrored in (False, True)]
    return max(filter(None, links), key=lambda link: link.inliers, default=None)


def _count_inside(first: Features, second: Features, affine: NDArray[np.float64]) -> int:
    # Features of the first that the map puts inside the second.
    moved = first.points @ affine[:, :2].T + affine[:, 2]
    limit = np.array(second.size) * second.scale - _RIM
    return int(((moved >= _RIM) & (moved < limit)).all(axis=1).sum())


def describe_all(
    pictures: Sequence[Picture], map_tasks: MapTasks, cache: Path | None, on_progress: OnProgress
) -> list[Described]:
    """Describe pictures, in their order; what is in the cache is not described again."""
    chunks = (pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK))
    described: list[Described] = []
    for part in map_tasks(partial(_describe_chunk, cache=cache), chunks):
        described += part
        on_progress(len(described), len(pictures))
    return described


def name_kept(cache: Path | None, kind: str, contents: Sequence[object]) -> Path | None:
    """Where something that follows from contents (their hashes) is kept; None without a cache."""
    joined = hashlib.sha256(repr(contents).encode()).hexdigest()[:32]
    return cache / f"{kind}-{joined}-method{METHOD}-opencv{cv2.__version__}.npz" if cache else None


def _describe_chunk(pictures: Sequence[Picture], cache: Path | None) -> list[Described]:
    contents = [_read(picture) for picture in pictures]
    hashes = [_hash(content) for content, _ in contents]

    def make() -> dict[str, NDArray]:
        features = [_describe(content, name)[0] for content, name in contents]
        return {
            "counts": np.array([len(f) for f in features]),
            "points": np.concatenate([f.points for f in features]),
            "descriptors": np.concatenate([f.descriptors for f in features]),
            "sizes": np.array([f.size for f in features]),
            "scales": np.array([f.scale for f in features]),
        }

    kept = paths.keep_arrays(name_kept(cache, "features", hashes), make)
    ends = np.cumsum(kept["counts"])[:-1]
    points, descriptors = np.split(kept["points"], ends), np.split(kept["descriptors"], ends)
    sizes, scales = (kept[name].tolist() for name in ("sizes", "scales"))
    features = [Features(p, d, tuple(s), k) for p, d, s, k in zip(points, descriptors, sizes, scales, strict=True)]
    # A sentence names the file, and the same bytes may have had another name before: it is not kept.
    problems = ["" if all(f.size) else _describe(*content)[1] for f, content in zip(features, contents, strict=True)]
    return list(map(Described, features, hashes, problems))


def _read(picture: Picture) -> tuple[_Content, str]:
    if isinstance(picture, np.ndarray):
        return picture, "an array"
    file = picture if isinstance(picture, PictureFile) else PictureFile(Path(picture), str(picture))
    try:
        return file.read(), printable(file.name)
    except BadDataError as error:
        return error, printable(file.name)


def _hash(content: _Content) -> str:
    if isinstance(content, BadDataError):
        return ""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(str(content.shape).encode() + np.ascontiguousarray(content).tobytes()).hexdigest()


def _describe(content: _Content, name: str) -> tuple[Features, str]:
    try:
        if isinstance(content, BadDataError):
            raise content
        return describe(content if isinstance(content, np.ndarray) else decode_picture(content, name)), ""
    except BadDataError as error:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), (0, 0), 1.0), str(error)
