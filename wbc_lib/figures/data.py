"""Charts of photos, of what the data set holds, and of where its images come from: copies, geometry, overlaps."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from wbc_lib.data.dataset import PHOTO_SIZE
from wbc_lib.figures.style import (
    BOX_COLOURS,
    CLASS_COLOURS,
    GREY,
    PAPER,
    TEST,
    TRAINING,
    VALIDATION,
    WIDTH,
    draw_boxes,
    draw_missing,
    new_chart,
    new_figure,
    new_grid,
)
from wbc_lib.provenance.evidence import SIDES

#: How much a difference of two pictures is amplified to be seen.
AMPLIFIED = 8
_SIDE_COLOURS = dict(zip(SIDES, ("#56B4E9", "#0072B2", "#D55E00", PAPER), strict=True))
_FIRST, _SECOND = "#0072B2", "#D55E00"


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
    """Show photos, each (title, image, boxes as `style.draw_boxes` takes them); of no photos a sentence is drawn."""
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
    figure, axis = new_chart(2.4)
    for (name, sample), colour in zip(values.items(), ("#D55E00", "#009E73", "#0072B2", GREY), strict=False):
        axis.hist(np.ravel(sample), bins=80, histtype="step", density=True, lw=1.5, color=colour, label=name)
    axis.set(xlabel=xlabel, ylabel="density")
    axis.legend()
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
                look = {"ha": "center", "va": "center", "fontsize": 8}
                ink = "black" if colour == TRAINING else "white"
                axis.text(left + size / 2, 0, f"{name}\n{size:,}", color=ink, **look)
            left += size
        axis.set_xlim(0, left)
        axis.set_xticks([])
        axis.grid(visible=False)
        axis.spines["bottom"].set_visible(False)
    return figure


# Where images come from ------------------------------------------------------------------------------------------


def draw_places(places: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    """Show from which photo the images of each place in the file name come, a panel per class.

    Of each class the place of each image in its name, and its photo's rank in the class, both from 0.
    """
    figure, axes = new_figure(WIDTH * 0.62, 2, 2)
    for axis in axes.flat[len(places) :]:
        axis.set_axis_off()
    for axis, (cell, (place, photo)) in zip(axes.flat, places.items(), strict=False):
        top = max(np.max(place), np.max(photo))
        axis.plot([0, top], [0, top], color=PAPER, lw=6, alpha=0.45, solid_capstyle="round")
        axis.plot(place, photo, ".", ms=2.2, alpha=0.5, color=CLASS_COLOURS.get(cell, GREY), rasterized=True)
        axis.set_title(cell.capitalize(), loc="left", color=CLASS_COLOURS.get(cell, "black"), fontweight="bold")
        axis.grid(visible=False)
        axis.locator_params(integer=True)
    for axis in axes[-1]:
        axis.set_xlabel("number in the file name")
    for axis in axes[:, 0]:
        axis.set_ylabel("source photo")
    return figure


def draw_copies(counted: pd.DataFrame) -> Figure:
    """Show how many photos have how many copies (`recipe.count_copies`), beside what independent draws would give."""
    splits = list(dict.fromkeys(counted.index.get_level_values("split")))
    columns = int(counted.groupby("split").size().max())
    figure, axes = new_figure(1.75 * len(splits) + 0.4, len(splits), columns)
    for axis in axes.flat:
        axis.set_axis_off()
    for (split, cell), row in counted.iterrows():
        cells = list(counted.loc[split].index)
        axis = axes[splits.index(split), cells.index(cell)]
        axis.set_axis_on()
        chance = stats.binom(row.images, 1 / row.photos)
        values = np.arange(min(chance.ppf(0.001), *row.copies), max(chance.ppf(0.999), *row.copies) + 1)
        found = [np.count_nonzero(row.copies == value) for value in values]
        axis.bar(values, found, width=1, color=CLASS_COLOURS.get(cell, GREY))
        marker = "." if len(values) < 40 else ""
        axis.plot(values, row.photos * chance.pmf(values), color="black", lw=1, marker=marker)
        axis.set_title(f"{split}, {cell.capitalize()[:5]}.", loc="left", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("copies of a photo")
    for axis in axes[:, 0]:
        axis.set_ylabel("photos")
    handles = [Line2D([], [], color=GREY, lw=6), Line2D([], [], color="black", lw=1, marker=".")]
    labels = ["found", "expected if each image drew its photo by itself"]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def draw_unnoticed(chances: Mapping[int, float]) -> Figure:
    """Show the chance that wrongly placed images go unnoticed, by how many they are."""
    figure, axis = new_chart(2.2)
    axis.axhline(0.05, ls=":", color=GREY)
    axis.text(max(chances), 0.05, "5% ", color=GREY, ha="right", va="bottom")
    axis.plot(list(chances), list(chances.values()), "o-", color=_FIRST, ms=4)
    axis.set(xlabel="images put down to a wrong photo of their class", ylabel="chance to go unnoticed")
    axis.set_ylim(0, 1.02)
    axis.locator_params(axis="x", integer=True)
    return figure


def draw_moves(moves: Mapping[str, tuple[ArrayLike, float]]) -> Figure:
    """Show how each quantity of the maps is distributed, beside the recipe's even draw within plus or minus a limit."""
    figure, axes = new_figure(WIDTH * 0.5, 2, 2)
    for axis, (label, (values, limit)) in zip(axes.flat, moves.items(), strict=False):
        sample = np.asarray(values, float)
        edge = max(limit, float(np.abs(sample).max(initial=limit)))
        bins = np.unique([-edge, *np.linspace(-limit, limit, 41), edge])  # what lies beyond has bins of its own
        axis.hist(sample, bins=bins, density=True, color="#56B4E9")
        axis.plot([-limit, -limit, limit, limit], [0, 0.5 / limit, 0.5 / limit, 0], color="black", lw=1.2)
        axis.set_xlabel(label)
        axis.locator_params("x", nbins=5)
        axis.set_yticks([])
        axis.grid(visible=False)
    for axis in axes[:, 0]:
        axis.set_ylabel("density")
    return figure


def draw_residuals(residuals: ArrayLike, rivals: pd.DataFrame) -> Figure:
    """Show how well photos reproduce their images (in grey levels), and `evidence.compare_runners_up` of close ones."""
    figure, axes = new_figure(2.7, 1, 2)
    left, right = axes[0]
    left.hist(np.asarray(residuals, float), bins=60, color=_FIRST)
    left.set(xlabel="residual of the photo found (grey levels)", ylabel="images")
    if len(rivals):
        right.plot(rivals.residual, rivals.runner_up_residual, ".", color=_SECOND, ms=5, alpha=0.7)
        top = float(rivals.runner_up_residual.max()) * 1.05
        right.plot([0, top], [0, top], color=GREY, ls=":")
        right.text(top * 0.97, top * 0.78, "both alike", color=GREY, ha="right")
        right.set(xlim=(0, top), ylim=(0, top))
    else:
        right.text(0.5, 0.5, "no image with a close runner-up", ha="center", transform=right.transAxes, color=GREY)
    right.set(xlabel="residual of the photo found", ylabel="of the runner-up")
    return figure


def draw_confidence(confidence: ArrayLike, hidden: ArrayLike) -> Figure:
    """Show how sure the tracing is (0 to 1) of all images, and of images whose photo was hidden from it."""
    figure, axis = new_chart(2.4)
    values = {"all images": np.asarray(confidence, float), "images whose photo was hidden": np.asarray(hidden, float)}
    colours = [_FIRST, _SECOND]
    sns.histplot(values, bins=np.linspace(0, 1, 51), palette=colours, alpha=1, lw=0, ax=axis)
    axis.set_yscale("log")
    axis.set(xlabel="confidence", ylabel="images", xlim=(-0.02, 1.02))
    sns.move_legend(axis, "upper center")
    return figure


def draw_field_map(pairs: pd.DataFrame) -> Figure:
    """Show photos as a line, by number, and pairs of one field (`evidence.describe_pairs`) as arcs over it."""
    figure, axis = new_chart(2.6)
    for pair in pairs.itertuples():
        span = pair.other - pair.photo
        turn = np.linspace(0, np.pi, 60)
        x, y = pair.photo + span / 2 * (1 - np.cos(turn)), np.sqrt(span) * np.sin(turn)  # low arcs are to be seen, too
        axis.plot(x, y, color=_SIDE_COLOURS[pair.side], lw=0.9, ls="-" if pair.same_cell else ":")
    handles = [
        Line2D([], [], color=colour, lw=2, label=f"{side} ({np.count_nonzero(pairs.side == side)})")
        for side, colour in _SIDE_COLOURS.items()
    ]
    handles += [
        Line2D([], [], color="black", lw=1.3, ls=ls, label=n) for ls, n in (("-", "same white cell"), (":", "not"))
    ]
    axis.set(xlabel="number of the photo", ylim=(0, None))
    axis.set_yticks([])
    axis.spines["left"].set_visible(False)
    axis.grid(visible=False)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure
