"""Which of many photos an image was made from.

The features of the image vote, in one search over all the photos and their mirror images, for the photo they come from;
the few photos with most votes are laid over the image by an affine map. Where two of them fit nearly as well, as two
photos of the same field of view do, the pixels decide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, DataSet
from wbc_lib.data.images import read_image, shrink
from wbc_lib.provenance.registration import (
    Features,
    Fit,
    Index,
    Limits,
    build_index,
    compare,
    detect,
    is_within,
    register,
    vote,
)

#: Fewest inliers to believe a map. The published images have 26 and more; photos that have nothing in common, up to 7,
#: and phantoms, all drawn by one hand, up to 12, by maps that the recipe cannot make.
MIN_INLIERS = 12
#: Largest residual to believe a map, in grey levels. The published images have 1 to 2 (the JPEG's loss and what two
#: interpolations differ by); another photo of the same field of view has 2.8 and more.
MAX_RESIDUAL = 2.5
#: What the published recipe can do to a photo (±20°, ±10 %, 0.2 rad = 11.5°, no scaling), and some room for error.
RECIPE = Limits(rotation=21, shift=0.11, shear=13, scale=0.03)
#: Photos of most votes that are laid over an image.
_SHORTLIST = 3


@dataclass(frozen=True)
class Source:
    """A photo that images may have been made from.

    Attributes
    ----------
    photo : int
        Its number.
    grey : ndarray of uint8, shape (240, 320)
        The photo, reduced and without colour.
    features : tuple of Features
        Of the photo as it is, and as a mirror shows it.
    """

    photo: int
    grey: NDArray[np.uint8]
    features: tuple[Features, Features]


@dataclass(frozen=True)
class Lineup:
    """The photos that an image may have been made from.

    Attributes
    ----------
    sources : sequence of Source
    index : Index
        Its member 2 i is source i as it is, 2 i + 1 the source's mirror image.
    """

    sources: Sequence[Source]
    index: Index


@dataclass(frozen=True)
class Finding:
    """Where an image comes from; the attributes are explained in `provenance.trace`."""

    photo: int
    affine: NDArray[np.float64]
    inliers: int
    matches: int
    gain: float
    residual: float
    runner_up: int
    runner_up_inliers: int
    confidence: float

    @property
    def mirrored(self) -> bool:
        """Whether the map changes left and right hand."""
        (a, b, _), (c, d, _) = self.affine
        return bool(a * d < b * c)


#: What is found when no photo can be laid over the image.
NOTHING = Finding(-1, np.full((2, 3), np.nan), 0, 0, np.nan, np.nan, -1, 0, 0.0)


@dataclass(frozen=True)
class _Attempt:
    photo: int
    fit: Fit
    gain: float
    residual: float

    @property
    def is_trusted(self) -> bool:
        enough = self.fit.inliers >= MIN_INLIERS and self.residual <= MAX_RESIDUAL
        return enough and is_within(self.fit.affine, RECIPE)


def read_reduced(data: DataSet, photo: int) -> NDArray[np.uint8]:
    """Read a photo as the images were made from it: reduced to 320x240; shape (240, 320, RGB)."""
    return shrink(read_image(data.photo_path(photo)), IMAGE_SIZE[::-1])


def to_grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Drop the colour: shape (height, width, RGB) to (height, width)."""
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def read_source(data: DataSet, photo: int) -> Source:
    """Read a photo and describe its features, which takes a few hundredths of a second."""
    grey = to_grey(read_reduced(data, photo))
    return Source(photo, grey, (detect(grey), detect(grey, mirrored=True)))


def line_up(sources: Sequence[Source]) -> Lineup:
    """Make the photos ready to be searched."""
    return Lineup(sources, build_index([features for source in sources for features in source.features]))


def identify(grey: NDArray[np.uint8], lineup: Lineup) -> Finding:
    """Find the photo that an image, shape (240, 320), was made from."""
    features = detect(grey)
    votes = vote(lineup.index, features).reshape(-1, 2)
    ranking = np.argsort(-votes.max(axis=1), kind="stable")
    attempts = []
    for i in ranking[:_SHORTLIST]:
        source = lineup.sources[i]
        fit = register(source.features[int(votes[i].argmax())], features)
        if fit:
            attempts.append(_Attempt(source.photo, fit, *compare(source.grey, grey, fit.affine)))
    if not attempts:
        return NOTHING
    best = _choose(attempts)
    rivals = [attempt for attempt in attempts if attempt is not best]
    rival = max(rivals, key=lambda attempt: attempt.fit.inliers, default=None)
    return Finding(
        photo=best.photo,
        affine=best.fit.affine,
        inliers=best.fit.inliers,
        matches=best.fit.matches,
        gain=best.gain,
        residual=best.residual,
        runner_up=rival.photo if rival else NOTHING.runner_up,
        runner_up_inliers=rival.fit.inliers if rival else 0,
        confidence=_judge(best, rival),
    )


def _choose(attempts: Sequence[_Attempt]) -> _Attempt:
    # Of those that could be it, the one with most inliers; where another has more than half as many, the pixels decide.
    trusted = [attempt for attempt in attempts if attempt.is_trusted]
    if not trusted:
        return max(attempts, key=lambda attempt: attempt.fit.inliers)
    most = max(attempt.fit.inliers for attempt in trusted)
    close = [attempt for attempt in trusted if 2 * attempt.fit.inliers > most]
    return min(close, key=lambda attempt: attempt.residual)


def _judge(best: _Attempt, rival: _Attempt | None) -> float:
    if not best.is_trusted:
        return 0.0
    if rival is None:
        return 1.0
    by_pixels = best.residual / rival.residual if rival.residual > 0 else 1.0
    return 1 - min(rival.fit.inliers / best.fit.inliers, by_pixels)
