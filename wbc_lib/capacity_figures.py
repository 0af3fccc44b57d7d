"""Figures of what many runs cost. Data in, a Figure out."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from wbc_lib.capacity import Basis, estimate, write_time
from wbc_lib.figures import GREY, TRAINING, VALIDATION, new_figure
from wbc_lib.scaling import PARTS

_OVERHEAD = "#D55E00"
_TIMES = (60, 600, 3600, 6 * 3600, 86400, 7 * 86400, 30 * 86400, 365 * 86400)
_NAMES = ("1 minute", "10 minutes", "1 hour", "6 hours", "1 day", "1 week", "1 month", "1 year")


def draw_overhead(overhead: pd.DataFrame, training: float) -> Figure:
    """Show where one run's time goes: the whole, and then the parts besides its epochs.

    Parameters
    ----------
    overhead : DataFrame
        As `capacity.tabulate_overhead` gives it.
    training : float
        Seconds of the epochs.
    """
    figure, axes = new_figure(3.9, 2, 1, gridspec_kw={"height_ratios": [1, 7]})
    whole, parts = axes[:, 0]
    rest = overhead.middle.sum()
    whole.barh([0], [training], color=TRAINING)
    whole.barh([0], [rest], left=training, color=_OVERHEAD)
    whole.text(training / 2, 0, f"epochs, {write_time(training)}", ha="center", va="center", fontsize=8)
    whole.text(training + rest, 0, f" besides, {write_time(rest)}", va="center", fontsize=8)
    whole.set_xlim(0, 1.22 * (training + rest))
    whole.set_axis_off()
    rows = np.arange(len(overhead))
    colours = [VALIDATION if is_full else _OVERHEAD for is_full in overhead.full_size]
    parts.barh(rows, overhead.middle, color=colours, height=0.7)
    parts.hlines(rows, overhead.low, overhead.high, color="black", lw=1)
    for row, (middle, high) in enumerate(zip(overhead.middle, overhead.high, strict=True)):
        parts.text(high, row, f"  {middle:.2f}", va="center", fontsize=8)
    parts.set_yticks(rows, [PARTS[part] for part in overhead.index])
    parts.set(xlabel="seconds per run", xlim=(0, 1.15 * max(overhead.high.max(), 0.1)), ylim=(len(rows) - 0.4, -0.6))
    parts.grid(visible=False, axis="y")
    if overhead.full_size.any():
        parts.plot([], [], "s", color=_OVERHEAD, label="as measured in tiny runs")
        parts.plot([], [], "s", color=VALIDATION, label="measured on all photos")
        parts.legend(loc="lower right", fontsize=8)
    return figure


def draw_time(n_runs: int, basis: Basis, workers: Sequence[int]) -> Figure:
    """Show the time that many runs take over the number of workers, both on logarithmic scales.

    Parameters
    ----------
    n_runs : int
    basis : Basis
    workers : sequence of int
        To be marked with their times.
    """
    figure, axes = new_figure(3.6)
    axis = axes[0, 0]
    at = np.unique(np.geomspace(1, 4 * n_runs, 600).round().astype(int))

    def times(seconds: float) -> list[float]:
        return [estimate(n_runs, seconds, int(n)).wall for n in at]

    low, high = times(basis.low + basis.overhead), times(basis.high + basis.overhead)
    axis.fill_between(at, low, high, color=VALIDATION, alpha=0.15, lw=0, label="at the quickest and slowest speed")
    axis.plot(at, n_runs * basis.training / at, ls=":", color=GREY, label="ideal: epochs only, shared out evenly")
    axis.plot(at, times(basis.seconds), color=VALIDATION, label="with what comes besides, in whole runs")
    for n in workers:
        wall = estimate(n_runs, basis.seconds, n).wall
        axis.plot(n, wall, "o", color=VALIDATION)
        note = {"xytext": (6, 6), "textcoords": "offset points", "fontsize": 8}
        axis.annotate(f"{n} worker{'s' * (n > 1)}: {write_time(wall)}", (n, wall), **note)
    bottom, top = 0.4 * basis.seconds, 3 * times(basis.high + basis.overhead)[0]
    axis.set(xscale="log", yscale="log", xlabel="workers", ylabel="time", xlim=(0.8, at[-1]), ylim=(bottom, top))
    shown = [(t, name) for t, name in zip(_TIMES, _NAMES, strict=True) if bottom < t < top]
    axis.set_yticks([t for t, _ in shown], [name for _, name in shown])
    axis.set_xticks([n for n in (1, 10, 100, 1000, 10_000) if n < at[-1]])
    axis.xaxis.set_major_formatter("{x:,.0f}")
    axis.minorticks_off()
    axis.legend(fontsize=8, loc="lower left")
    return figure
