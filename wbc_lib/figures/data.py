"""Charts of photos and of what the data set holds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from wbc_lib.data.dataset import PHOTO_SIZE
from wbc_lib.figures.style import (
    BOX_COLOURS,
    CLASS_COLOURS,
    GREY,
    TEST,
    TRAINING,
    VALIDATION,
    WIDTH,
    draw_boxes,
    draw_missing,
    new_figure,
    new_grid,
)

#: How much a difference of two pictures is amplified to be seen.
AMPLIFIED = 8


def draw_cells(images: Mapping[str, Sequence[NDArray[np.uint8]]]) -> Figure:
    """Show images (height, width, RGB) of each class, a row a class."""
    columns = max(len(row) for row in images.values())
    figure, axes = new_grid(1.25, len(images), columns)
    for row, (cell, pictures) in zip(axes, images.items(), strict=True):
        for axis, picture in zip(row, pictures, strict=False):
            axis.imshow(picture, interpolation="nearest")
        row[0].set_title(cell.capitalize(), loc="left", color=CLASS_COLOURS.get(cell, "black"), fontweight="bold")
    return figure


def draw_photos(photos: Sequence[tuple[str, NDArray[np.uint8], pd.DataFrame]], columns: int = 2) -> Figure:
    """Show photos with their boxes, each (title, image, boxes as `style.draw_boxes` takes them).

    Of no photos a sentence is drawn.
    """
    if not photos:
        return draw_missing("There are no such photos in this data set.")
    rows = -(-len(photos) // columns)
    figure, axes = new_grid(WIDTH / columns * PHOTO_SIZE[1] / PHOTO_SIZE[0] + 0.2, rows, columns)
    for axis, (title, image, boxes) in zip(axes.flat, photos, strict=False):
        axis.imshow(image)
        axis.set_title(title, loc="left", fontsize=9 if columns < 4 else 7)
        draw_boxes(axis, boxes)
    if any("cell" in boxes for _, _, boxes in photos):
        handles = [Patch(fill=False, ec=colour, label=cell) for cell, colour in BOX_COLOURS.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def draw_reproductions(rows: Sequence[tuple[str, NDArray[np.uint8], NDArray[np.uint8]]]) -> Figure:
    """Show images beside what was made again from their photos, (title, one, other), and the difference, amplified."""
    figure, axes = new_grid(1.95, len(rows), 3)
    for row, (title, image, again) in zip(axes, rows, strict=True):
        difference = np.abs(image.astype(int) - again).mean(axis=-1)
        row[0].imshow(image)
        row[1].imshow(again)
        row[2].imshow(np.clip(AMPLIFIED * difference, 0, 255), cmap="gray", vmin=0, vmax=255)
        row[0].set_title(title, loc="left", fontsize=8)
        row[1].set_title("made again", loc="left", fontsize=8)
        row[2].set_title(f"difference, times {AMPLIFIED}", loc="left", fontsize=8)
    return figure


def draw_balance(counts: pd.DataFrame) -> Figure:
    """Show how many pictures each class (a row) has, a panel per data set (a column)."""
    figure, axes = new_figure(0.36 * len(counts) + 0.9, 1, counts.shape[1], sharey=True)
    for axis, (name, column) in zip(axes[0], counts.items(), strict=True):
        colours = [CLASS_COLOURS.get(cell, GREY) for cell in column.index]
        bars = axis.barh([cell.capitalize() for cell in column.index], column.to_numpy(), color=colours)
        axis.bar_label(bars, [f"{n:,.0f}" for n in column], padding=3)
        axis.set_title(name)
        axis.margins(x=0.2)
        axis.grid(axis="y", visible=False)
    axes[0, 0].invert_yaxis()
    return figure


def draw_side_by_side(pictures: Mapping[str, NDArray[np.uint8]]) -> Figure:
    """Show pictures beside each other at the same size, each pixel as a square."""
    figure, axes = new_grid(0.8 * WIDTH / len(pictures) + 0.3, 1, len(pictures))
    for axis, (title, picture) in zip(axes[0], pictures.items(), strict=True):
        axis.imshow(picture, interpolation="nearest")
        axis.set_title(title)
    return figure


def draw_histogram(values: Mapping[str, NDArray], xlabel: str) -> Figure:
    """Show how values are distributed, an outline per name."""
    figure, axes = new_figure(2.4)
    for (name, sample), colour in zip(values.items(), ("#D55E00", "#009E73", "#0072B2", GREY), strict=False):
        axes[0, 0].hist(np.ravel(sample), bins=80, histtype="step", density=True, lw=1.5, color=colour, label=name)
    axes[0, 0].set(xlabel=xlabel, ylabel="density")
    axes[0, 0].legend()
    return figure


def draw_parts(sizes: Mapping[str, Sequence[int]]) -> Figure:
    """Show how large the training, validation and TEST parts are, a stacked bar per unit ("images", "photos").

    A validation of 0 means that this part shares its units with training.
    """
    figure, axes = new_figure(2.1, len(sizes), 1)
    for axis, (unit, (training, validation, test)) in zip(axes[:, 0], sizes.items(), strict=True):
        left = 0
        shared = "training and validation" if not validation else "training"
        parts = ((shared, training, TRAINING), ("validation", validation, VALIDATION), ("TEST", test, TEST))
        for name, size, colour in parts:
            if size:
                axis.barh([unit], [size], left=left, color=colour, edgecolor="white")
                colour_of_text = "black" if colour == TRAINING else "white"
                axis.text(
                    left + size / 2, 0, f"{name}\n{size:,}", ha="center", va="center", color=colour_of_text, fontsize=8
                )
            left += size
        axis.set_xlim(0, left)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.spines["bottom"].set_visible(False)
    return figure
