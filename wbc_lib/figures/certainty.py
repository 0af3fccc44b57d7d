"""Figures of how sure the results are: data in, a matplotlib Figure out."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures.style import BOX_COLOURS, CLASS_COLOURS, GREY, new_figure, nice

_SERIES = ("#999999", "#0072B2", "#D55E00", "#009E73")
#: Dots of the strip plot closer than this, in share right, are set beside each other.
_BIN = 0.03
#: Area, in points squared, of a dot that stood for all of TEST; height of a class's row in points.
_AREA, _ROW = 2500, 68


def draw_intervals(series: Mapping[str, pd.DataFrame], xlabel: str = "score") -> Figure:
    """Show intervals of the same scores, reckoned in several ways, beneath each other.

    Parameters
    ----------
    series : mapping of str to DataFrame
        By way of reckoning, up to four: a row per score with ``estimate``, ``low`` and ``high``, 0 to 1. A score may
        be missing from a series.
    xlabel : str
    """
    scores = list(dict.fromkeys(score for table in series.values() for score in table.index))
    figure, axes = new_figure((0.16 * len(series) + 0.24) * len(scores) + 0.9)
    axis = axes[0, 0]
    step = 0.7 / len(series)
    for i, ((name, table), colour) in enumerate(zip(series.items(), _SERIES, strict=False)):
        at = np.array([scores.index(score) for score in table.index]) + (i - (len(series) - 1) / 2) * step
        axis.hlines(at, table.low, table.high, color=colour, lw=3.2, label=name)
        axis.plot(table.estimate, at, "o", color="white", mec=colour, ms=5)
    axis.set_yticks(range(len(scores)), [_start(score) for score in scores])
    axis.set(xlabel=xlabel, ylim=(len(scores) - 0.5, -0.5), xlim=(None, 1.005))
    axis.grid(axis="y", visible=False)
    for line in np.arange(0.5, len(scores) - 1):
        axis.axhline(line, color="#E4E4E4", lw=0.8)
    figure.legend(loc="outside lower center", ncols=min(2, len(series)), fontsize=8)
    return figure


def _start(score: str) -> str:
    return score[0].upper() + score[1:]


def draw_strip(photos: pd.DataFrame, named: Collection[int] = ()) -> Figure:
    """Show every photo as a dot: how many of its copies are recognised; the area is its share of TEST.

    Parameters
    ----------
    photos : DataFrame
        Indexed by ``photo``: ``cell``, ``copies``, ``share`` (of TEST's images, 0 to 1) and ``right`` (of the copies,
        0 to 1).
    named : collection of int
        Photos whose number is written beside their dot.
    """
    figure, axes = new_figure(4.6)
    axis = axes[0, 0]
    for row, cell in enumerate(CLASSES):
        own = photos[photos.cell == cell].sort_values("right")
        areas = _AREA * own.share
        offsets = _fan(own.right.to_numpy(), np.sqrt(areas.to_numpy()) / _ROW)
        axis.scatter(own.right, row + offsets, s=areas, color=CLASS_COLOURS[cell], alpha=0.75, lw=0.5, ec="white")
        for (photo, right), offset, area in zip(own.right.items(), offsets, areas, strict=True):
            if photo in named:
                beside = (np.sqrt(area) / 2 + 2, 0)
                axis.annotate(
                    str(photo), (right, row + offset), beside, textcoords="offset points", va="center", fontsize=7
                )
    axis.set_yticks(range(len(CLASSES)), [nice(cell) for cell in CLASSES])
    axis.set(xlabel="share of the photo's copies predicted right", xlim=(-0.04, 1.08), ylim=(len(CLASSES) - 0.5, -0.5))
    axis.grid(axis="y", visible=False)
    return figure


def _fan(values: NDArray[np.floating], widths: NDArray[np.floating]) -> NDArray[np.float64]:
    # Offsets within a row's band, of ascending values: dots of nearly the same value are set beside each other.
    offsets, start = np.zeros(len(values)), 0
    while start < len(values):
        stop = start + int(np.searchsorted(values[start:], values[start] + _BIN, side="right"))
        if stop - start > 1:
            reach = min(0.44, widths[start:stop].mean() * (stop - start - 1) / 2)
            offsets[start:stop] = np.linspace(-reach, reach, stop - start)
        start = stop
    return offsets


def draw_variation(table: pd.DataFrame) -> Figure:
    """Show standard deviations of scores by what is varied, a group of bars per score.

    Parameters
    ----------
    table : DataFrame
        A row per score, a column per kind of variation, in points; NaN where there is none to show.
    """
    shown = table.dropna(axis="columns", how="all")
    figure, axes = new_figure(0.17 * table.size + 0.9)
    axis = axes[0, 0]
    step = 0.8 / shown.shape[1]
    colours = dict(zip(table.columns, ("#E69F00", "#999999", "#0072B2"), strict=True))
    for i, (name, column) in enumerate(shown.items()):
        at = np.arange(len(shown)) + (i - (shown.shape[1] - 1) / 2) * step
        bars = axis.barh(at, column, height=0.9 * step, color=colours[name], label=name)
        axis.bar_label(bars, [f"{value:.1f}" for value in column], padding=3, fontsize=8)
    axis.set_yticks(range(len(shown)), [_start(score) for score in shown.index])
    axis.set(xlabel="standard deviation, points", ylim=(len(shown) - 0.5, -0.5))
    axis.margins(x=0.08)
    axis.grid(axis="y", visible=False)
    axis.legend(fontsize=8)
    return figure


def draw_photos_and_cells(
    pictures: Sequence[tuple[str, NDArray[np.uint8], tuple[int, int, int, int] | None]],
) -> Figure:
    """Show photos with the box of their white cell, and that cell enlarged beside each.

    Parameters
    ----------
    pictures : sequence of (title, image, box)
        Image: uint8 (height, width, RGB). Box: xmin, ymin, xmax, ymax in its pixels, ``None`` if it has none. Of no
        pictures a sentence is drawn.
    """
    if not pictures:
        figure, axes = new_figure(0.6)
        axes[0, 0].set_axis_off()
        axes[0, 0].text(0, 0.5, "The photos behind these results are not on this machine.", va="center")
        return figure
    rows = -(-len(pictures) // 2)
    figure, axes = new_figure(1.75 * rows, rows, 4, width_ratios=[4, 3, 4, 3])
    for axis in axes.flat:
        axis.set_axis_off()
    for (title, image, box), (whole, close) in zip(pictures, axes.reshape(-1, 2), strict=False):
        whole.imshow(image)
        whole.set_title(title, loc="left", fontsize=8)
        if box is not None:
            xmin, ymin, xmax, ymax = box
            size = (xmax - xmin, ymax - ymin)
            whole.add_patch(Rectangle((xmin, ymin), *size, fill=False, lw=1.4, ec=BOX_COLOURS["WBC"]))
            close.imshow(image[ymin:ymax, xmin:xmax], interpolation="bicubic")
    return figure


def draw_coverage(table: pd.DataFrame, promised: float) -> Figure:
    """Show how often intervals hold the truth, by the number of photos they are made from.

    Parameters
    ----------
    table : DataFrame
        Indexed by the number of photos, a column per way of reckoning, 0 to 1.
    promised : float
        What the intervals claim, 0 to 1.
    """
    figure, axes = new_figure(2.6)
    axis = axes[0, 0]
    axis.axhline(promised, color=GREY, ls=":", lw=1)
    axis.text(1.5, promised + 0.015, "promised", color=GREY, fontsize=8, ha="center")
    for (name, column), colour in zip(table.items(), _SERIES, strict=False):
        axis.plot(range(len(table)), column, "o-", color=colour, label=name)
    axis.set_xticks(range(len(table)), [str(n) for n in table.index])
    axis.set(xlabel="photos", ylabel="intervals that hold the truth", ylim=(0, 1.08))
    axis.legend(fontsize=8, loc="lower right")
    return figure
