"""Charts of where the images come from: copies, residuals, geometry, overlaps."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy import stats

from wbc_lib.figures.style import CLASS_COLOURS, GREY, PAPER, WIDTH, new_figure
from wbc_lib.provenance.evidence import SIDES

_SIDE_COLOURS = dict(zip(SIDES, ("#56B4E9", "#0072B2", "#D55E00", PAPER), strict=True))
_FIRST, _SECOND = "#0072B2", "#D55E00"


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
        _draw_copies_of(axis, row, CLASS_COLOURS.get(cell, GREY))
        axis.set_title(f"{split}, {cell.capitalize()[:5]}.", loc="left", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("copies of a photo")
    for axis in axes[:, 0]:
        axis.set_ylabel("photos")
    handles = [Line2D([], [], color=GREY, lw=6), Line2D([], [], color="black", lw=1, marker=".")]
    labels = ["found", "expected if each image drew its photo by itself"]
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def _draw_copies_of(axis: Axes, row: pd.Series, colour: str) -> None:
    chance = stats.binom(row.images, 1 / row.photos)
    values = np.arange(min(chance.ppf(0.001), *row.copies), max(chance.ppf(0.999), *row.copies) + 1)
    found = [np.count_nonzero(row.copies == value) for value in values]
    axis.bar(values, found, width=1, color=colour)
    axis.plot(values, row.photos * chance.pmf(values), color="black", lw=1, marker="." if len(values) < 40 else "")


def draw_unnoticed(chances: Mapping[int, float]) -> Figure:
    """Show the chance that wrongly placed images go unnoticed, by how many they are."""
    figure, axes = new_figure(2.2)
    axis = axes[0, 0]
    axis.axhline(0.05, ls=":", color=GREY)
    axis.text(max(chances), 0.05, "5% ", color=GREY, ha="right", va="bottom")
    axis.plot(list(chances), list(chances.values()), "o-", color=_FIRST, ms=4)
    axis.set(xlabel="images put down to a wrong photo of their class", ylabel="chance to go unnoticed")
    axis.set_ylim(0, 1.02)
    axis.xaxis.get_major_locator().set_params(integer=True)
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
    """Show how well photos reproduce their images (mean absolute difference, in grey levels), and close runners-up.

    These are as `evidence.compare_runners_up` gives them.
    """
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
    figure, axes = new_figure(2.4)
    axis = axes[0, 0]
    values = {"all images": np.asarray(confidence, float), "images whose photo was hidden": np.asarray(hidden, float)}
    colours = [_FIRST, _SECOND]
    sns.histplot(values, bins=np.linspace(0, 1, 51), palette=colours, alpha=1, lw=0, ax=axis)
    axis.set_yscale("log")
    axis.set(xlabel="confidence", ylabel="images", xlim=(-0.02, 1.02))
    sns.move_legend(axis, "upper center")
    return figure


def draw_field_map(pairs: pd.DataFrame) -> Figure:
    """Show photos as a line, by number, and pairs of one field (`evidence.describe_pairs`) as arcs over it."""
    figure, axes = new_figure(2.6)
    axis = axes[0, 0]
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
