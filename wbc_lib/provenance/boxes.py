"""Where the labelled white cell lies in each augmented image: its box, carried along with the photo."""

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import IMAGE_SIZE, PHOTO_SIZE, DataSet, read_boxes
from wbc_lib.data.images import AFFINE, affine_maps

#: Radius of the disc that covers a cell, as a share of an image's height: more than half the diagonal of the largest
#: published box. One radius for all, so that the disc does not tell the size of the cell.
COVER_RADIUS = 0.45
#: What the cell is painted over with: a mid grey, RGB.
COVER_COLOUR = (128, 128, 128)


def white_cells(data: DataSet) -> pd.DataFrame:
    """Boxes of the white cells, in pixels of the 640x480 photo; degenerate ones are left out.

    ``photo``, ``xmin``, ``ymin``, ``xmax``, ``ymax``; a photo may have several rows.
    """
    boxes = read_boxes(data).query("cell == 'WBC' and not is_degenerate")
    return boxes[["photo", "xmin", "ymin", "xmax", "ymax"]].reset_index(drop=True)


def carry_boxes(table: pd.DataFrame, boxes: pd.DataFrame) -> pd.DataFrame:
    """Carry boxes, as `white_cells` gives them, from photos into the augmented images made of them (`trace.trace`).

    A row per image and box, in the order of `table`: ``row`` (of `table`, from 0) and the corners ``x0``, ``y0`` …
    ``x3``, ``y3`` in pixels of the 320x240 image, in order around the box (it is turned with the photo and may reach
    outside the image). Images whose photo has no box have no row.
    """
    placed = table.reset_index(drop=True).rename_axis("row").reset_index()
    joined = placed[["row", "photo", *AFFINE]].merge(boxes, on="photo")
    joined = joined.sort_values("row", kind="stable", ignore_index=True)
    shrunk = IMAGE_SIZE[0] / PHOTO_SIZE[0]
    affine = affine_maps(joined)
    corners = joined[["xmin", "ymin", "xmax", "ymin", "xmax", "ymax", "xmin", "ymax"]].to_numpy(float)
    # A box's edges lie between pixels, the map's coordinates in their middles.
    corners = corners.reshape(-1, 4, 2) * shrunk - 0.5
    moved = corners @ affine[:, :, :2].transpose(0, 2, 1) + affine[:, None, :, 2]
    columns = [f"{axis}{i}" for i in range(4) for axis in "xy"]
    return joined[["row"]].join(pd.DataFrame(moved.reshape(-1, 8), columns=columns))


def cell_masks(table: pd.DataFrame, boxes: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the white cells' boxes in images shrunk to a shape, (images, height, width); table as of `carry_boxes`."""
    masks = np.zeros((len(table), *shape), np.uint8)
    carried = carry_boxes(table, boxes)
    for row, corners in zip(carried.row, _to_shape(carried, shape), strict=True):
        cv2.fillConvexPoly(masks[row], np.rint(corners).astype(np.int32), 1)
    return masks.astype(bool)


def cover_cells(pixels: NDArray[np.uint8], table: pd.DataFrame, boxes: pd.DataFrame) -> NDArray[np.uint8]:
    """Paint the white cells over: a disc of one size on each, and the box itself where it reaches further.

    A copy of the pixels (images, height, width, RGB) of the images of `table`. Images whose photo has no box are left
    as they are: leave them out.
    """
    covered = np.array(pixels)
    shape = pixels.shape[1:3]
    carried = carry_boxes(table, boxes)
    radius = round(COVER_RADIUS * shape[0])
    for row, corners in zip(carried.row, _to_shape(carried, shape), strict=True):
        cv2.fillConvexPoly(covered[row], np.rint(corners).astype(np.int32), COVER_COLOUR)
        centre = np.rint(corners.mean(axis=0)).astype(int)
        cv2.circle(covered[row], centre.tolist(), radius, COVER_COLOUR, cv2.FILLED)
    return covered


def _to_shape(carried: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.float64]:
    # From pixels of the 320x240 image to those of a smaller one, shape (boxes, corners, xy).
    factor = np.array(shape[::-1]) / IMAGE_SIZE
    return (carried.drop(columns="row").to_numpy().reshape(-1, 4, 2) + 0.5) * factor - 0.5
