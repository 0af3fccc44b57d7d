"""Figures of where honest models end: label noise by smear and class, accuracy over the photos' numbers."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from wbc_lib.figures.evaluation import draw_intervals
from wbc_lib.figures.style import GREY, new_figure, nice

#: A colour per smear, and one per model.
_SMEARS = ("#56B4E9", "#E69F00", "#CC79A7", "#009E73", "#F0E442", "#999999")
_MODELS = ("#000000", "#0072B2", "#D55E00", "#009E73")


def draw_noise(table: pd.DataFrame) -> Figure:
    """Show the estimated share of wrong labels by class, a bar for each smear and one for all (95 % intervals).

    `table` is as `ceiling.estimate_noise` gives it, of up to three smears.
    """
    smears = table.index.get_level_values("smear").unique()
    names = {smear: f"smear {smear}" if smear.isdigit() else f"{smear.lower()} photos" for smear in smears}
    series = {names[smear]: table.loc[smear].rename(index=nice).dropna(subset="estimate") for smear in smears}
    figure = draw_intervals(series, "estimated share of labels that are wrong")
    axis = figure.axes[0]
    axis.set_xlim(-0.01, min(1.005, 1.1 * float(np.nanmax(table.high)) + 0.02))
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return figure


def draw_along_numbers(right: Mapping[str, pd.Series], smears: pd.Series, window: int = 25) -> Figure:
    """Show how many photos are right out of fold along the photos' numbers, and which smear each photo is of.

    `right` gives for each model, by photo, the share of the repeats that get it right: each curve is the mean over
    `window` photos next to each other by number. `smears` are by photo; beneath, each photo is a dash in its smear's
    row.
    """
    names = sorted(smears.unique())
    ratios = {"height_ratios": [1, 0.07 + 0.07 * len(names)]}
    figure, axes = new_figure(3.2 + 0.15 * len(names), 2, 1, sharex=True, gridspec_kw=ratios)
    curves, strip = axes[:, 0]
    for (name, of_photo), colour in zip(right.items(), _MODELS, strict=False):
        ordered = of_photo.sort_index()
        mean = ordered.rolling(window, center=True, min_periods=window // 2 + 1).mean()
        curves.plot(mean.index, mean, color=colour, label=name)
    curves.set(ylabel=f"right, mean over {window} photos", ylim=(0, 1.02))
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
