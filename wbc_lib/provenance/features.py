"""Local features of pictures of any size and origin, and whether two pictures show the same thing by an affine map."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True)
class Features:
    """What is kept of a picture."""

    points: NDArray[np.float32]  # (features, 2): x, y in pixels of the reduced picture
    descriptors: NDArray[np.uint8]  # (features, 128)
    size: tuple[int, int]  # width and height of the whole picture
    scale: float  # of the reduced picture: 1 if it is the whole one

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Link:
    """An affine map found between two pictures.

    Attributes
    ----------
    affine : ndarray of float, shape (2, 3)
        From pixels (x, y, 1) of the first picture to (x, y) of the second.
    inliers : int
    log_odds : float
        That the two were made from one photo, rather than from two that overlap.
    """

    affine: NDArray[np.float64]
    inliers: int
    log_odds: float

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
    log_odds = (
        constant + by_share * np.log(found_again) + by_distance * float(np.median(distances[is_match, 0][is_inlier]))
    )
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
