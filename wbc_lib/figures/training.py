"""Charts of trainings and of what they end in."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.figures.style import GREY, TEST, TRAINING, VALIDATION, WIDTH, new_chart, new_figure


def draw_curves(
    histories: Sequence[pd.DataFrame], paper_training: float | None = None, paper_validation: float | None = None
) -> Figure:
    """Show accuracy and loss as the paper's Figure 2, mean and range over seeds; its peaks, if given, are dotted."""
    figure, axes = new_figure(2.9, 1, 2)
    for axis, value in zip(axes[0], ("accuracy", "loss"), strict=True):
        _draw_band(axis, histories, value, "training", TRAINING)
        _draw_band(axis, histories, f"val_{value}", "validation", VALIDATION)
        axis.set(xlabel="epoch", ylabel=value)
    peaks = ((paper_training, TRAINING, "training"), (paper_validation, VALIDATION, "validation"))
    for peak, colour, part in peaks:
        if peak is not None:
            axes[0, 0].axhline(peak, ls=":", color=colour, label=f"paper's peak, {part}")
    axes[0, 0].set_ylim(0, 1.02)
    axes[0, 1].set_ylim(0, None)
    axes[0, 0].legend(loc="lower right")
    return figure


def draw_multiples(
    histories: Mapping[str, Sequence[pd.DataFrame]], test: Mapping[str, Sequence[float]] | None = None, columns: int = 4
) -> Figure:
    """Show the accuracy curves of many experiments, by title, on one scale, a small panel each.

    TEST accuracies after the last epoch, where they are given, are marked at the end of the curves.
    """
    columns = min(columns, len(histories))
    rows = -(-len(histories) // columns)
    figure, axes = new_figure(1.75 * rows + 0.3, rows, columns, sharex=True, sharey=True)
    for axis in axes.flat[len(histories) :]:
        axis.set_axis_off()
    for axis, (title, seeds) in zip(axes.flat, histories.items(), strict=False):
        _draw_band(axis, seeds, "accuracy", "training", TRAINING)
        _draw_band(axis, seeds, "val_accuracy", "validation", VALIDATION)
        if test:
            last = [int(h.epoch.iloc[-1]) for h in seeds]
            axis.plot(last, test[title], "D", color=TEST, ms=5, ls="", label="TEST", clip_on=False)
        axis.set_title(textwrap.fill(title, 104 // columns), fontsize=8)
        axis.set(ylabel="", ylim=(0, 1.02))
    for axis in axes.flat[max(0, len(histories) - columns) : len(histories)]:
        axis.tick_params(labelbottom=True)  # the lowest panel of each column, whether or not its row is full
        axis.set_xlabel("epoch")
    axes[0, 0].legend(loc="lower right", fontsize=7)
    return figure


def _draw_band(axis: Axes, histories: Sequence[pd.DataFrame], value: str, label: str, colour: str) -> None:
    # The mean over seeds and their whole range.
    table = pd.concat(histories, ignore_index=True)
    sns.lineplot(table, x="epoch", y=value, errorbar=("pi", 100), color=colour, label=label, legend=False, ax=axis)


def draw_confusion(matrices: Mapping[str, NDArray[np.integer]]) -> Figure:
    """Show confusion matrices side by side: counts, coloured by their share of the true class.

    A fifth column, the predictions of the class that is none, is shown only if it is not empty.
    """
    figure, axes = new_figure(0.62 * WIDTH if len(matrices) > 1 else 4.2, 1, len(matrices))
    names = [f"{cell.capitalize()[:5]}." for cell in CLASSES]
    for axis, (title, matrix) in zip(axes[0], matrices.items(), strict=True):
        n_columns = matrix.shape[1] if matrix[:, len(CLASSES) :].any() else len(CLASSES)
        counts = pd.DataFrame(matrix[:, :n_columns], names, [*names, "none"][:n_columns])
        shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
        texts = counts.map("{:,.0f}".format) + "\n" + shares.map("{:.0%}".format)
        sns.heatmap(shares, vmin=0, vmax=1, cmap="Blues", annot=texts, fmt="", square=True, cbar=False, ax=axis)
        axis.set(title=title, xlabel="predicted", ylabel="true")
        axis.tick_params(rotation=0)
        if len(matrices) > 2:
            axis.tick_params(labelsize=6.5)
    return figure


def draw_summary(table: pd.DataFrame) -> Figure:
    """Show training, validation and TEST accuracy of every experiment, and the paper's where it gives them.

    The table is as `paper_claims.summarise` gives it. Rows without figures of ours are marked "not run".
    """
    figure, axis = new_chart(0.36 * len(table) + 1.1)
    rows = np.arange(len(table))
    series = (("training", TRAINING, "o"), ("validation", VALIDATION, "o"), ("test", TEST, "D"))
    for name, colour, marker in series:
        label = "TEST" if name == "test" else name
        symbol: dict[str, Any] = {"color": colour, "marker": marker, "ms": 6, "ls": ""}
        axis.plot(table[f"paper_{name}"], rows + 0.17, mfc="none", label=f"{label}, paper", **symbol)
        axis.plot(table[name], rows - 0.1, label=f"{label}, measured", **symbol)
    for row, missing in enumerate(table.training.isna()):
        if missing:
            axis.text(0.02, row, "not run here", color=GREY, va="center")
    axis.axvline(0.25, color=GREY, ls=":", lw=1)
    axis.text(0.25, -0.75, " chance", color=GREY)
    axis.set_yticks(rows, table.index)
    axis.set(xlim=(0, 1.01), ylim=(len(table) - 0.4, -0.9), xlabel="accuracy")
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def draw_estimates(
    estimates: Mapping[str, Interval], colours: Mapping[str, str], reported: Mapping[str, float]
) -> Figure:
    """Show accuracies with their intervals (NaN where there is none), a row each, and the paper's where it has one."""
    figure, axis = new_chart(0.42 * len(estimates) + 0.9)
    for row, (title, interval) in enumerate(estimates.items()):
        axis.hlines(row, interval.low, interval.high, color=colours[title], lw=5, alpha=0.35)
        axis.plot(interval.estimate, row, "o", color=colours[title], ms=7)
        place = (interval.estimate, row)
        axis.annotate(f"{interval.estimate:.0%}", place, (0, 7), textcoords="offset points", ha="center")
    rows = [list(estimates).index(title) for title in reported]
    axis.plot(list(reported.values()), rows, "D", mfc="none", color=TEST, ms=10, ls="", label="the paper's figure")
    axis.axvline(0.25, color=GREY, ls=":", lw=1, label="chance")
    axis.set_yticks(range(len(estimates)), list(estimates))
    axis.set(xlim=(0.2, 1.01), ylim=(len(estimates) - 0.4, -0.7), xlabel="share recognised by the final model")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axis.grid(axis="y", visible=False)
    figure.legend(loc="outside lower center", ncols=2)
    return figure
