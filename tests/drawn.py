"""Pictures made up for tests."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, PHOTO_SIZE
from wbc_lib.data.images import shrink, to_grey
from wbc_lib.data.phantoms import draw_photo

GROUND, RED, VIOLET = (220, 225, 222), (200, 140, 130), (110, 40, 170)


def draw_discs(seed: int, width: int = 220, height: int = 200) -> NDArray[np.uint8]:
    """Discs of many sizes and shades, unlike any other seed's."""
    rng = np.random.default_rng(seed)
    picture = np.full((height, width, 3), 225, np.uint8)
    for _ in range(90):
        place, axes = (tuple(int(v) for v in rng.integers(*limits, 2)) for limits in ((0, width), (4, 20)))
        colour = tuple(int(v) for v in rng.integers(60, 230, 3))
        cv2.ellipse(picture, place, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1, cv2.LINE_AA)
    return picture


def turn(picture: NDArray[np.uint8], angle: float) -> NDArray[np.uint8]:
    """The same picture, turned about its middle."""
    return cv2.warpAffine(picture, cv2.getRotationMatrix2D((110, 100), angle, 1), (220, 200))


def draw_field(
    red_cell: int, cells: list[tuple[int, int]], size: tuple[int, int] = (480, 640), seed: int = 0, lobes: int = 1
) -> NDArray[np.uint8]:
    """A field of red cells, some cut and some touching, with white cells at the places given."""
    rng = np.random.default_rng(seed)
    picture = np.full((*size, 3), GROUND, np.uint8)
    for _ in range(round(1.2 * size[0] * size[1] / red_cell**2)):
        place = rng.uniform((0, 0), size[::-1])
        if all(np.hypot(*(place - cell)) > 1.6 * red_cell for cell in cells):
            cv2.circle(picture, place.astype(int).tolist(), round(red_cell / 2), RED, -1, cv2.LINE_AA)
    for x, y in cells:
        for i in range(lobes):
            at = (round(x + (i - (lobes - 1) / 2) * red_cell * 0.75), y)
            cv2.circle(picture, at, round((0.6 if lobes == 1 else 0.33) * red_cell), VIOLET, -1, cv2.LINE_AA)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


def draw_reduced(cell: str, seed: int) -> NDArray[np.uint8]:
    """A phantom of a class, reduced to 320x240 and in grey."""
    return to_grey(shrink(draw_photo((cell,), np.random.default_rng(seed)).image, IMAGE_SIZE[::-1]))


def photograph_again(photo: NDArray[np.uint8], shift: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """The same field in another exposure, the stage moved: slightly out of focus, with noise of its own."""
    affine = np.float64([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(photo, affine, PHOTO_SIZE, borderValue=[190] * 3)  # what comes into view is grey
    noise = np.random.default_rng(seed).normal(0, 4, moved.shape)
    return np.clip(cv2.GaussianBlur(moved, (0, 0), 1.0) + noise, 0, 255).astype(np.uint8)
