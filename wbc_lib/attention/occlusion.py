"""Images with a part painted over: the white cell, as much background, or all but the cell. Pure functions."""

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.images import affine_maps
from wbc_lib.provenance.boxes import COVER_COLOUR
from wbc_lib.provenance.registration import footprint

#: What is painted over, and what a reader sees it called.
COVERS = {"elsewhere": "background covered", "cell": "cell covered", "rest": "only the cell left"}
#: What it is painted with: one grey for all, or the image's own mean background colour.
FILLS = {"grey": "grey", "own": "the image's own background colour"}


def photo_masks(table: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels that the photo covers, (images, height, width); the others are the black from outside.

    Pixels that are partly black are not marked. The table is as `provenance.trace` gives it; `shape` is that of a
    320x240 image shrunk.
    """
    affines = affine_maps(table)
    whole = (footprint(affine).astype(np.float32) for affine in affines)
    return np.stack([cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_AREA) > 0.999 for mask in whole])


def move_away(mask: NDArray[np.bool_], free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Shift a mask to where all of it lies on free pixels, as near to the middle of the image as can be.

    Both are (height, width), and the result has as many pixels; all False if there is no room, or no mask.
    """
    moved = np.zeros_like(mask)
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return moved
    shape = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
    height, width = shape.shape
    # For every place of the shape's upper left pixel, how many pixels would not be free.
    taken = cv2.filter2D((~free).astype(np.float32), -1, shape, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    places = np.argwhere(taken[: len(mask) - height + 1, : mask.shape[1] - width + 1] < 0.5)
    if not len(places):
        return moved
    middle = (np.array(mask.shape) - (height, width)) / 2
    y, x = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    moved[y : y + height, x : x + width] = shape > 0
    return moved


def background_colours(pixels: NDArray[np.uint8], background: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mean colour (images, RGB) of each image's background; `boxes.COVER_COLOUR`, a grey, where there is none."""
    total = background.sum(axis=(1, 2))
    sums = np.einsum("nyxc,nyx->nc", pixels.astype(np.float32), background.astype(np.float32), optimize=True)
    means = np.rint(sums / np.maximum(total, 1)[:, None]).astype(np.uint8)
    return np.where(total[:, None] > 0, means, np.array(COVER_COLOUR, np.uint8))


def paint(pixels: NDArray[np.uint8], masks: NDArray[np.bool_], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of images with masks (images, height, width) painted over in colours, (images, RGB) or (RGB,)."""
    colours = np.broadcast_to(colours, (len(pixels), pixels.shape[-1]))[:, None, None]
    return np.where(masks[..., None], colours, pixels)


def cover(
    pixels: NDArray[np.uint8], cell: NDArray[np.bool_], photo: NDArray[np.bool_], used: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.uint8]]]:
    """Find what to paint over, masks for each of `COVERS`, and with what, colours (images, RGB) for each of `FILLS`.

    The cover "elsewhere" is the cell's own mask moved onto background, empty where it has no room.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (images, height, width, RGB)
    cell, photo : ndarray of bool, shape (images, height, width)
        As `boxes.cell_masks` and `photo_masks` give them.
    used : ndarray of bool, shape (height, width)
        Pixels that can make a difference to the network: only these are background worth covering.
    """
    background = photo & ~cell
    elsewhere = np.stack([move_away(*pair) for pair in zip(cell, background & used, strict=True)])
    grey = np.broadcast_to(np.array(COVER_COLOUR, np.uint8), (len(pixels), 3))
    masks = {"elsewhere": elsewhere, "cell": cell, "rest": ~cell}
    return masks, {"grey": grey, "own": background_colours(pixels, background)}
