"""Windows around the white cell: cut from pictures of any microscope at one scale, and drawn anew for each epoch."""

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.images import OnProgress, load_pictures
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import CLOSE, find_cells, find_most_violet

SIDE = CLOSE.shape[0]
#: Side of what is kept around the window in pixels, at the same scale, so that it can be turned and shifted.
KEPT = 144
#: Of what the examples of an epoch are drawn: photos, images made of them, pictures of the Barcelona set.
PHOTOS, IMAGES, BARCELONA = range(3)
_SHARES = (0.375, 0.375, 0.25)
#: Raise it whenever the same picture may give another window.
_METHOD = 2

# How far windows are changed at random. Shapes: scale and ratio of the sides as powers, shift in sides, shear.
_SCALE, _RATIO, _SHIFT, _SHEAR = np.log(1.25), np.log(1.1), 0.08, 0.15
# Colours, in optical density: spread of a factor for all channels, of one for each, and of what is added to each.
_DENSITY, _CHANNEL, _ADDED = 0.15, 0.1, 0.04
# Saturation, within this of 1; share of windows that are blurred, and the largest standard deviation in pixels.
_SATURATION, _BLURRED, _BLUR = 0.3, 0.3, 1.2


def load_windows(pictures: PictureSet, red_cell: float, on_progress: OnProgress | None = None) -> NDArray[np.uint8]:
    """Cut a window around the largest nucleus of each picture, or around what is most like one if it shows none.

    Shape (pictures, `KEPT`, `KEPT`, RGB), from the cache or made; `red_cell` is a red cell's diameter in pixels.
    """
    name = f"{pictures.name}-{pictures.sha256[:16]}-{red_cell:.2f}-opencv{cv2.__version__}-{_METHOD}.npy"

    def cut(name: str) -> NDArray[np.uint8]:
        picture = pictures.read(name)
        cells = find_cells(picture, red_cell)
        centre = (cells[0].x, cells[0].y) if cells else find_most_violet(picture, red_cell)
        return CLOSE.widened(KEPT).cut(picture, centre, red_cell)

    cached = paths.cache() / "windows" / name
    return load_pictures(cached, pictures.table.picture.tolist(), (KEPT, KEPT), cut, on_progress)


def take_middle(windows: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What the network sees of windows that `load_windows` gives, shape (windows, `SIDE`, `SIDE`, RGB)."""
    edge = (KEPT - SIDE) // 2
    return np.ascontiguousarray(windows[:, edge : edge + SIDE, edge : edge + SIDE])


def turn(pixels: NDArray[np.uint8], views: int) -> list[NDArray[np.uint8]]:
    """Pictures (pictures, height, width, RGB) in one or eight `views`: turned by quarters, and mirrored."""
    if views == 1:
        return [pixels]
    return [np.rot90(b, k, axes=(1, 2)) for b in (pixels, pixels[:, :, ::-1]) for k in range(views // 2)]


def choose_rows(
    labels: NDArray[np.int32], sources: NDArray[np.integer], n: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose `n` examples at random: of each source its share, and of each source its classes evenly."""
    present = np.unique(sources)
    shares = np.array([_SHARES[s] for s in present])
    chosen = rng.choice(present, n, p=shares / shares.sum())
    rows = np.zeros(n, np.int64)
    for source in present:
        of_class = [np.flatnonzero((sources == source) & (labels == c)) for c in np.unique(labels[sources == source])]
        drawn = np.flatnonzero(chosen == source)
        classes = rng.integers(len(of_class), size=len(drawn))
        rows[drawn] = [rng.choice(of_class[c]) for c in classes]
    return rows


def vary(window: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """What the network learns from of a window with its margin: turned, scaled, shifted and mirrored at random.

    Its colours are moved, and some are blurred; shape (`SIDE`, `SIDE`, RGB).
    """
    turn, scale, ratio = rng.uniform(0, 2 * np.pi), rng.uniform(-_SCALE, _SCALE), rng.uniform(-_RATIO, _RATIO)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    sheared = np.array([[1, rng.uniform(-_SHEAR, _SHEAR)], [0, 1]])
    sides = np.diag(np.exp([scale + ratio / 2, scale - ratio / 2]) * (rng.choice([-1, 1]), 1))
    linear = rotation @ sheared @ sides
    to = np.full(2, SIDE / 2 - 0.5) + rng.uniform(-_SHIFT, _SHIFT, 2) * SIDE
    affine = np.column_stack([linear, to - linear @ np.full(2, KEPT / 2 - 0.5)])
    moved = cv2.warpAffine(window, affine, (SIDE, SIDE), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    if rng.random() < _BLURRED:
        moved = cv2.GaussianBlur(moved, (0, 0), rng.uniform(0.3, _BLUR))
    # Stains are thicker or thinner in optical density (Tellez et al. 2018 do so in a stain's own axes).
    density = -np.log((moved.astype(np.float32) + 1) / 256)
    grey = density.mean(axis=2, keepdims=True)
    density = grey + rng.uniform(1 - _SATURATION, 1 + _SATURATION) * (density - grey)
    factors = np.exp(rng.normal(0, _DENSITY) + rng.normal(0, _CHANNEL, 3))
    density = density * factors + rng.normal(0, _ADDED, 3)
    return np.clip(np.rint(256 * np.exp(-density) - 1), 0, 255).astype(np.uint8)
