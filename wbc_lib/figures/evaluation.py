"""Figures of what predictions are worth: intervals, calibration, conformal sets, counts, wrong labels."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures.style import (
    CLASS_COLOURS,
    GREY,
    TEST,
    VALIDATION,
    draw_boxes,
    draw_missing,
    new_chart,
    new_figure,
    new_grid,
    nice,
)

#: Ways of computing an interval; validation, TEST and folds; ways of counting.
_INTERVALS = ("#0072B2", "#D55E00", "#999999", "#009E73")
_PARTS = (VALIDATION, TEST, "#D55E00")
_WAYS = ("#D55E00", "#009E73", "#0072B2", "#CC79A7")
#: A colour per smear, and one per model; photos next to each other by number that a curve is the mean over.
_SMEARS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#999999")
_MODELS = ("#000000", "#0072B2", "#D55E00", "#009E73")
_NEIGHBOURS = 25
#: Dots of the strip plot closer than this, in share right, are set beside each other.
_BIN = 0.03
#: What is changed: how the axis is called, and where on it nothing is changed.
_CHANGED = {
    "stain": ("share of the way to the set", 0),
    "background": ("share of the way to the set", 0),
    "field": ("red cells shown", 480 / 90),
    "scale": ("cells look larger by a factor of", 1),
    "blur": ("standard deviation, red cells", 0),
}
_CHANGES = ("#0072B2", "#D55E00", "#009E73")
#: Area, in points squared, of a dot that stood for all of TEST; height of a class's row in points.
_AREA, _ROW = 2500, 68


def draw_intervals(
    series: Mapping[str, pd.DataFrame], xlabel: str = "score", *, are_differences: bool = False
) -> Figure:
    """Show intervals of the same scores, computed in up to four ways, beneath each other.

    Of each way a table: a row per score with ``estimate``, ``low`` and ``high``, 0 to 1; some may lack a score.
    Differences may be of any size: a line marks where there is none.
    """
    scores = list(dict.fromkeys(score for table in series.values() for score in table.index))
    figure, axis = new_chart((0.16 * len(series) + 0.24) * len(scores) + 0.9)
    step = 0.7 / len(series)
    for i, ((name, table), colour) in enumerate(zip(series.items(), _INTERVALS, strict=False)):
        at = np.array([scores.index(score) for score in table.index]) + (i - (len(series) - 1) / 2) * step
        axis.hlines(at, table.low, table.high, color=colour, lw=3.2, label=name)
        axis.plot(table.estimate, at, "o", color="white", mec=colour, ms=5)
    axis.set_yticks(range(len(scores)), [_start(score) for score in scores])
    axis.set(xlabel=xlabel, ylim=(len(scores) - 0.5, -0.5))
    if are_differences:
        axis.axvline(0, color=GREY, lw=1)
    else:
        axis.set_xlim(None, 1.005)
    axis.grid(axis="y", visible=False)
    for line in np.arange(0.5, len(scores) - 1):
        axis.axhline(line, color="#E4E4E4", lw=0.8)
    figure.legend(loc="outside lower center", ncols=min(2, len(series)), fontsize=8)
    return figure


def _start(score: str) -> str:
    return score[0].upper() + score[1:]


def draw_strip(photos: pd.DataFrame, named: Collection[int] = ()) -> Figure:
    """Show every photo as a dot: how many of its copies are recognised; the area is its share of TEST.

    `photos` is as `holdout.tabulate_photos` gives it; beside those that are `named` stands their number.
    """
    figure, axis = new_chart(4.6)
    for row, cell in enumerate(CLASSES):
        of_class = photos[photos.cell == cell].sort_values("right")
        areas = _AREA * of_class.share
        offsets = _fan(of_class.right.to_numpy(), np.sqrt(areas.to_numpy()) / _ROW)
        axis.scatter(of_class.right, row + offsets, s=areas, color=CLASS_COLOURS[cell], alpha=0.75, lw=0.5, ec="white")
        for (photo, right), offset, area in zip(of_class.right.items(), offsets, areas, strict=True):
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
    """Show standard deviations of scores (rows), in points, by what is varied (columns); NaN where there is none."""
    shown = table.dropna(axis="columns", how="all")
    figure, axis = new_chart(0.17 * table.size + 0.9)
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
    """Show photos with the box of their white cell, and that cell enlarged beside each; of none a sentence is drawn.

    Each is (title, image, box): xmin, ymin, xmax, ymax in pixels of the image, ``None`` if it has none.
    """
    if not pictures:
        return draw_missing("The photos behind these results are not on this machine.")
    figure, axes = new_grid(1.75, -(-len(pictures) // 2), 4, width_ratios=[4, 3, 4, 3])
    for (title, image, box), (whole, close) in zip(pictures, axes.reshape(-1, 2), strict=False):
        whole.imshow(image)
        whole.set_title(title, loc="left", fontsize=8)
        if box is not None:
            xmin, ymin, xmax, ymax = box
            draw_boxes(whole, pd.DataFrame([box], columns=["xmin", "ymin", "xmax", "ymax"]))
            close.imshow(image[ymin:ymax, xmin:xmax], interpolation="bicubic")
    return figure


def draw_reliability(tables: Mapping[str, pd.DataFrame]) -> Figure:
    """Show accuracy against stated confidence (`calibration.reliability`), a panel per set of predictions.

    On the dotted line confidence is deserved. It is drawn on a scale that spreads what is nearly certain; beyond 99.99
    % it is put at the edge.
    """
    figure, axes = new_figure(2.9, 1, len(tables), sharey=True)
    for axis, (title, table), colour in zip(axes[0], tables.items(), _PARTS, strict=False):
        deserved = np.linspace(0.2, 0.9999, 2000)
        at = np.minimum(table.confidence, 0.9999)
        axis.plot(deserved, deserved, ls=":", color=GREY)
        axis.vlines(at, table.low, table.high, color=colour, alpha=0.45, lw=2.5)
        axis.plot(at, table.accuracy, "o-", color=colour, ms=4, lw=1, clip_on=False)
        axis.set_xscale("logit")
        axis.set(title=title, xlabel="stated confidence, %", xlim=(0.2, 0.99993), ylim=(0, 1.02))
        axis.set_xticks([0.5, 0.9, 0.99, 0.999, 0.9999], ["50", "90", "99", "99.9", "99.99"], fontsize=8)
        axis.minorticks_off()
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0, 0].set_ylabel("share that is right")
    return figure


def draw_risk_coverage(tables: Mapping[str, pd.DataFrame], wanted: float) -> Figure:
    """Show accuracy over the share of images decided (`calibration.risk_coverage`); what is `wanted` is a line."""
    figure, axis = new_chart(2.9)
    for (name, table), colour in zip(tables.items(), _PARTS, strict=False):
        axis.plot(table.share, table.accuracy, color=colour, label=name)
    axis.axhline(wanted, ls=":", color=GREY, label="wanted")
    floor = min(table.accuracy.min() for table in tables.values())
    axis.set(xlabel="share decided automatically, surest first", ylabel="accuracy among them")
    axis.set(xlim=(0, 1.01), ylim=(max(0, floor - 0.02), 1.005))
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.yaxis.set_major_locator(MaxNLocator(8, steps=[1, 2, 5, 10], min_n_ticks=3))  # whole percents
    axis.legend(fontsize=8, loc="lower left")
    return figure


def draw_coverage_of_photos(tables: Mapping[str, pd.DataFrame], promised: float) -> Figure:
    """Show, for each photo (`calibration.mean_by_photo`), how many of its copies have a set that holds the true class.

    A panel per calibration; `promised` is a line.
    """
    figure, axes = new_figure(2.9, 1, len(tables), sharey=True)
    for axis, (title, table) in zip(axes[0], tables.items(), strict=True):
        for column, cell in enumerate(CLASSES):
            means = np.sort(table.loc[table.cell == cell, "mean"])
            places = column + (np.linspace(-0.36, 0.36, len(means)) if len(means) > 1 else np.zeros(len(means)))
            axis.plot(places, means, "o", color=CLASS_COLOURS[cell], ms=3.5, alpha=0.8)
        axis.axhline(promised, ls=":", color=GREY)
        axis.set_xticks(range(len(CLASSES)), [nice(cell)[:5] + "." for cell in CLASSES])
        axis.set_title(title)
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes[0, 0].set(ylabel="copies whose set holds the truth", ylim=(-0.03, 1.03))
    return figure


def draw_differential(counts: pd.DataFrame, reference: Mapping[str, tuple[float, float]], mix: NDArray) -> Figure:
    """Show what different counts say of the same blood, a panel per class.

    `counts` has a row per class and way of counting: ``mean``, ``low`` and ``high``, shares 0 to 1. The range of
    `reference` is shaded, and the true `mix` a line.
    """
    ways = list(counts.index.get_level_values(1).unique())
    figure, axes = new_figure(0.24 * len(ways) + 1.35, 1, len(CLASSES), sharey=True)
    for axis, cell, truth in zip(axes[0], CLASSES, mix, strict=True):
        shares = counts.loc[cell].loc[ways]
        axis.axvspan(*reference[cell], color=CLASS_COLOURS[cell], alpha=0.15, lw=0)
        axis.axvline(truth, color=CLASS_COLOURS[cell], lw=1)
        axis.hlines(range(len(ways)), shares.low, shares.high, color=TEST, lw=1.5)
        axis.plot(shares["mean"], range(len(ways)), "o", color=TEST, ms=4.5)
        axis.set_title(nice(cell), color=CLASS_COLOURS[cell], fontweight="bold", fontsize=9)
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.margins(x=0.12)
        axis.locator_params(axis="x", nbins=4)
    axes[0, 0].set_yticks(range(len(ways)), ways)
    axes[0, 0].set_ylim(len(ways) - 0.5, -0.5)
    return figure


def draw_counting_errors(errors: pd.DataFrame, readers: pd.DataFrame, ways: Mapping[str, str]) -> Figure:
    """Show the error of the estimated mix over the number of cells counted, a panel per mix.

    `errors` are as `counting.summarise_errors`, `readers` as `counting.expected_errors` gives them, with a row for 100
    cells. Of the `ways` of estimating, with what to call each, the first is shown with the middle 95 % of its errors.
    """
    columns = 3
    rows = -(-(readers.shape[1] + 1) // columns)
    figure, axes = new_figure(2.2 * rows, rows, columns, sharex=True, sharey=True)
    for axis, mix in zip(axes.flat, readers, strict=False):
        axis.plot(readers.index, 100 * readers[mix], color=GREY, ls="--", lw=1, label="faultless reader")
        axis.axhline(100 * readers[mix][100], color=GREY, lw=1, ls=":", label="the same, 100 cells")
        for i, ((way, name), colour) in enumerate(zip(ways.items(), _WAYS, strict=False)):
            curve = errors.xs((mix, way), level=("mix", "way"))
            axis.plot(curve.index, 100 * curve.error, "o-", color=colour, ms=3, lw=1.3, label=name)
            if i == 0:
                axis.fill_between(curve.index, 100 * curve.low, 100 * curve.high, color=colour, alpha=0.15, lw=0)
        axis.set(xscale="log", yscale="log")
        axis.set_title(mix, fontsize=9)
        axis.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
        axis.set_xticks([100, 1000, 10_000], ["100", "1,000", "10,000"], fontsize=8)
        axis.minorticks_off()
    for axis in axes.flat[readers.shape[1] :]:
        axis.set_axis_off()
    axes.flat[readers.shape[1]].legend(*axes[0, 0].get_legend_handles_labels(), loc="center", fontsize=8)
    figure.supxlabel("cells counted", fontsize=9)
    figure.supylabel("cells in the wrong pile, of 100", fontsize=9)
    return figure


def draw_changes(changes: pd.DataFrame, usual: float, levels: Mapping[str, float]) -> Figure:
    """Show the balanced accuracy on photos over how far one of their properties is changed, a panel for each.

    `changes` are as `elsewhere.score_changes` gives them, with sets named in ``towards`` where a change leads there;
    `usual` is the accuracy on unchanged photos. `levels` are the accuracies on the sets themselves: dotted lines.
    """
    figure, axes = new_figure(4.4, 2, 3, sharey=True)
    colours = dict(zip(levels, _CHANGES, strict=False)) | {"": TEST}
    for axis, (kind, (xlabel, unchanged)) in zip(axes.flat, _CHANGED.items(), strict=False):
        panel = changes[changes.change == kind]
        for towards, rows in panel.groupby("towards", sort=False):
            curve = rows.sort_values("amount")
            if unchanged == 0:
                axis.plot([0, curve.amount.iloc[0]], [usual, curve.estimate.iloc[0]], "-", color=colours[towards])
            axis.fill_between(curve.amount, curve.low, curve.high, color=colours[towards], alpha=0.12, lw=0)
            axis.vlines(curve.amount, curve.low, curve.high, color=colours[towards], lw=0.6)
            axis.plot(curve.amount, curve.estimate, "o-", color=colours[towards], ms=3)
        axis.plot(unchanged, usual, "s", color=TEST, ms=5, clip_on=False)
        for name, level in levels.items():
            axis.axhline(level, ls=":", lw=1, color=colours[name])
        axis.set_title(kind, fontsize=9)
        axis.set(xlabel=xlabel, ylim=(0, 1.02))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    for row in axes:
        row[0].set_ylabel("balanced accuracy")
    axes[1, 2].set_axis_off()
    handles = [Line2D([], [], color=colours[name], label=name) for name in levels]
    handles += [Line2D([], [], color=GREY, ls=":", label="on the set itself")]
    handles += [Line2D([], [], color=TEST, marker="s", ls="", label="unchanged photos of TEST")]
    axes[1, 2].legend(handles=handles, loc="center", fontsize=8)
    return figure


def draw_noise(table: pd.DataFrame) -> Figure:
    """Show the estimated share of wrong labels by class, a bar for each smear and one for all (95 % intervals).

    `table` is as `crossvalidation.estimate_noise` gives it, of up to three smears.
    """
    smears = table.index.get_level_values("smear").unique()
    names = {smear: f"smear {smear}" if smear.isdigit() else f"{smear.lower()} photos" for smear in smears}
    series = {names[smear]: table.loc[smear].rename(index=nice).dropna(subset="estimate") for smear in smears}
    figure = draw_intervals(series, "estimated share of labels that are wrong")
    axis = figure.axes[0]
    axis.set_xlim(-0.01, min(1.005, 1.1 * float(np.nanmax(table.high)) + 0.02))
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def draw_along_numbers(right: Mapping[str, pd.Series], smears: pd.Series) -> Figure:
    """Show how many photos are right out of fold along the photos' numbers, and which smear each photo is of.

    `right` gives for each model, by photo, the share of the repeats that get it right: each curve is the mean over
    `_NEIGHBOURS` photos by number. `smears` are by photo; beneath, each photo is a dash in its smear's row.
    """
    names = sorted(smears.unique())
    ratios = {"height_ratios": [1, 0.07 + 0.07 * len(names)]}
    figure, axes = new_figure(3.2 + 0.15 * len(names), 2, 1, sharex=True, gridspec_kw=ratios)
    curves, strip = axes[:, 0]
    for (name, of_photo), colour in zip(right.items(), _MODELS, strict=False):
        ordered = of_photo.sort_index()
        mean = ordered.rolling(_NEIGHBOURS, center=True, min_periods=_NEIGHBOURS // 2 + 1).mean()
        curves.plot(mean.index, mean, color=colour, label=name)
    curves.set(ylabel=f"right, mean over {_NEIGHBOURS} photos", ylim=(0, 1.02))
    curves.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    curves.legend(loc="lower right")
    for row, (smear, colour) in enumerate(zip(names, _SMEARS, strict=False)):
        numbers = smears.index[smears == smear]
        strip.plot(numbers, np.full(len(numbers), row), "|", color=colour, ms=9, mew=1.3)
    strip.set_yticks(range(len(names)), [f"smear {smear}" for smear in names])
    strip.set(xlabel="number of the photo", ylim=(len(names) - 0.4, -0.6))
    strip.grid(axis="y", visible=False)
    strip.tick_params(axis="y", labelcolor=GREY)
    return figure
