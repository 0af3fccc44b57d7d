"""Figures of what a network looks at: data in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Polygon
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from wbc_lib.attention.summary import Panel
from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures.style import BOX_COLOURS, CLASS_COLOURS, GREY, WIDTH, draw_missing, new_chart, new_figure, new_grid

#: What is left of the brightness of a picture where a network pays no attention.
_DIM = 0.35
_COVER_COLOURS = ("#000000", "#56B4E9", "#D55E00", "#009E73")
_EVEN: dict[str, Any] = {"color": "black", "lw": 2, "ls": (0, (1.2, 0.8))}
_MEAN: dict[str, Any] = {"color": "black", "marker": "D", "mfc": "white", "ms": 7, "mew": 1.6, "ls": "", "zorder": 4}


def draw_panels(panels: Sequence[Panel | None], columns: int) -> Figure:
    """Show pictures in rows, attention as bright as it is strong; ``None`` is an empty place, of none a sentence."""
    if not panels:
        return draw_missing("The photos that these maps belong to are not on this machine.")
    rows = -(-len(panels) // columns)
    figure, axes = new_grid(0.75 * WIDTH / columns + 0.28, rows, columns)
    for axis, panel in zip(axes.flat, panels, strict=False):
        if panel is not None:
            _draw_panel(axis, panel)
    return figure


def _draw_panel(axis: Axes, panel: Panel) -> None:
    height, width = panel.picture.shape[:2]
    axis.imshow(panel.picture, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="nearest")
    if panel.attention is not None:
        # A black veil, thin where there is attention.
        veil = np.zeros((*panel.attention.shape, 4))
        veil[..., 3] = (1 - _DIM) * (1 - panel.attention)
        axis.imshow(veil, extent=(-0.5, width - 0.5, height - 0.5, -0.5), interpolation="bilinear")
    for corners in panel.corners if panel.corners is not None else ():
        axis.add_patch(Polygon(corners, fill=False, ec=BOX_COLOURS["WBC"], lw=1.4))
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    axis.set_title(panel.title, loc="left")


def draw_shares(photos: pd.DataFrame, table: pd.DataFrame) -> Figure:
    """Show, photo by photo, how much of the attention lies inside the cell's box.

    `photos` is as `summary.mean_by_photo` gives it; `table`, as `summary.tabulate_shares` does, holds the mean and its
    interval, and what an even map would have.
    """
    kinds = [(cell, kind) for cell in CLASSES for kind in ("right", "wrong")]
    names = [f"{cell.capitalize()}, {kind}" for cell, kind in kinds]
    figure, axis = new_chart(0.48 * len(kinds) + 1.1)
    for row, (cell, kind) in enumerate(kinds):
        if (cell, kind) not in table.index:
            axis.text(0.01, row, "none", color=GREY, va="center")
            continue
        dots = photos[(photos.cell == cell) & (photos.is_right == (kind == "right"))].assign(kind=names[row])
        colour, summary = CLASS_COLOURS[cell], table.loc[(cell, kind)]
        marker, size = ("o", 5.5) if kind == "right" else ("$\\circ$", 7)
        look = {"marker": marker, "size": size, "color": colour, "alpha": 0.75, "warn_thresh": 1}
        sns.swarmplot(dots, x="share", y="kind", order=names, ax=axis, **look)
        axis.plot([summary.even] * 2, [row - 0.36, row + 0.36], **_EVEN)
        if len(dots) > 1:
            below = row + 0.32  # where it hides no photo
            axis.hlines(below, summary.low, summary.high, color="black", lw=2, zorder=3)
            axis.plot(summary.share, below, **_MEAN)
    axis.set_yticks(range(len(kinds)), names)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(kinds) - 0.5, -0.5), ylabel="")
    axis.set_xlabel("share of the attention inside the cell's box")
    axis.xaxis.set_major_formatter(PercentFormatter(1))
    axis.grid(axis="y", visible=False)
    handles = [
        axis.plot([], [], "o", color=GREY, mec=GREY, mfc=GREY, alpha=0.7, label="a photo")[0],
        axis.plot([], [], label="mean, interval", **_MEAN)[0],
        axis.plot([], [], label="attention spread evenly", **_EVEN)[0],
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    return figure


def draw_covered(tables: Mapping[str, pd.DataFrame], chance: float) -> Figure:
    """Show accuracy with parts painted over, a panel per fill, a group of bars per class.

    Tables are by title, as `summary.tabulate_covered` gives them; `chance`, the accuracy of naming one class always, is
    a line.
    """
    figure, axes = new_figure(4.6, 1, len(tables), sharey=True)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        cells = list(dict.fromkeys(table.index.get_level_values("cell")))
        covers = list(dict.fromkeys(table.index.get_level_values("cover")))
        step = 0.84 / len(covers)
        for i, (cover, colour) in enumerate(zip(covers, _COVER_COLOURS, strict=True)):
            tint = tuple((1 + part) / 2 for part in to_rgb(colour))  # on which the interval's line is seen
            own = table.xs(cover, level="cover").reindex(cells)
            at = np.arange(len(cells)) + (i - (len(covers) - 1) / 2) * step
            axis.barh(at, own.accuracy, height=0.92 * step, color=tint, edgecolor=colour, lw=0.8, label=cover)
            axis.hlines(at, own.low, own.high, color="black", lw=1)
        axis.axvline(chance, color=GREY, ls=":", lw=1.2)
        axis.set_title(title)
        axis.set(xlim=(0, 1.02), ylim=(len(cells) - 0.5, -0.5))
        axis.set_xlabel("accuracy")
        axis.xaxis.set_major_formatter(PercentFormatter(1))
        axis.set_yticks(range(len(cells)), [cell.capitalize() for cell in cells])
        axis.grid(axis="y", visible=False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure


def draw_randomised(table: pd.DataFrame, even: float, between_runs: NDArray[np.floating]) -> Figure:
    """Show what becomes of the maps as the network's weights are drawn anew, from the output down.

    The table is as `summary.tabulate_randomised` gives it. Lines are at the share of an `even` map inside the boxes,
    and at the median rank correlation of the maps of two trainings (perhaps none).
    """
    figure, axes = new_figure(0.42 * len(table) + 1.3, 1, 2, sharey=True)
    rows = np.arange(len(table))
    left, right = axes[0]
    left.hlines(rows, table.low, table.high, color="#0072B2", lw=5, alpha=0.4)
    left.plot(table.correlation, rows, "o", color="#0072B2", ms=8)
    left.axvline(0, color=GREY, lw=1)
    if len(between_runs):
        middle = float(np.median(between_runs))
        left.axvline(middle, color=GREY, ls=":", lw=1.5)
        left.text(middle, -0.6, "two trainings ", color=GREY, ha="right")
    left.set(xlim=(-1.02, 1.05), ylim=(len(table) - 0.5, -0.85))
    left.set_xlabel("rank correlation with the trained map")
    right.plot(table.share, rows, "o", color="#D55E00", ms=8)
    right.axvline(even, **_EVEN)
    right.text(even, -0.6, "  spread evenly", color="black", ha="left")
    right.set(xlim=(0, 1.02))
    right.set_xlabel("share inside the box, mean")
    right.xaxis.set_major_formatter(PercentFormatter(1))
    names = [table.index[0], *(f"+ {name}" if i else name for i, name in enumerate(table.index[1:]))]
    left.set_yticks(rows, names)
    for axis in axes[0]:
        axis.grid(axis="y", visible=False)
    return figure
