"""Figures of what was measured: data in, a matplotlib Figure out."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from wbc_lib.bench_record import fit_exponent
from wbc_lib.figures import GREY, draw_missing, new_figure
from wbc_lib.turns import Series

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
_MARKERS = ("o", "D", "s", "^")


def draw_growth(panels: Mapping[str, Mapping[str, Sequence[Series]]], ylabels: Mapping[str, str]) -> Figure:
    """Show how long work takes against its size, both on logarithmic scales, with the fitted exponents.

    Parameters
    ----------
    panels : mapping of str to mapping of str to sequence of Series
        By what the size counts ("images"), then by contender: a series per size. Contenders without series are left
        out; of none at all a sentence is drawn.
    ylabels : mapping of str to str
        What is measured in each panel.
    """
    shown = {unit: {name: s for name, s in own.items() if s} for unit, own in panels.items()}
    shown = {unit: own for unit, own in shown.items() if own}
    if not shown:
        return draw_missing("This is not measured yet.")
    figure, axes = new_figure(3.4, 1, len(shown))
    for axis, (unit, own) in zip(axes[0], shown.items(), strict=True):
        for (name, series), colour, marker in zip(own.items(), _COLOURS, _MARKERS, strict=False):
            _draw_line(axis, name, series, colour, marker)
        axis.set(xscale="log", yscale="log", xlabel=unit, ylabel=ylabels[unit])
        for scale in (axis.xaxis, axis.yaxis):
            scale.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
            scale.set_minor_formatter(NullFormatter())
        axis.margins(0.08)
        axis.legend(fontsize=8)
    return figure


def _draw_line(axis: Axes, name: str, series: Sequence[Series], colour: str, marker: str) -> None:
    sizes, exponent = [s.size for s in series], fit_exponent(series)
    label = name if np.isnan(exponent) else f"{name}: exponent {exponent:.2f}"
    axis.plot(sizes, [s.median for s in series], marker=marker, color=colour, lw=1.4, ms=6, label=label)
    for one in series:
        axis.plot([one.size] * len(one.values), one.values, ".", color=colour, ms=3, alpha=0.6)


def draw_shares(shares: Mapping[str, float]) -> Figure:
    """Show what time is spent on, a bar per kind of work.

    Parameters
    ----------
    shares : mapping of str to float
        0 to 1. Of none a sentence is drawn.
    """
    if not shares:
        return draw_missing("This is not measured yet.")
    figure, axes = new_figure(0.32 * len(shares) + 0.7)
    axis = axes[0, 0]
    colours = ["#0072B2" if "convolution" in kind or "dense" in kind else "#999999" for kind in shares]
    bars = axis.barh(list(shares), list(shares.values()), color=colours)
    axis.bar_label(bars, [f"{share:.0%}" for share in shares.values()], padding=3, color=GREY)
    axis.set_xlabel("share of the time")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0%}"))
    axis.margins(x=0.1)
    axis.grid(axis="y", visible=False)
    axis.invert_yaxis()
    return figure
