"""Figures that answer to a hand: data in, a plotly Figure out, and the HTML that puts one on a page.

What draws them in the browser is ``book/_static/explore``. Without scripts, and on paper, a still picture takes their
place.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import NamedTuple

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.figures.style import (
    BOX_COLOURS,
    CLASS_COLOURS,
    GREY,
    TEST,
    TRAINING,
    VALIDATION,
    encode_png,
    new_figure,
    nice,
)

_COLOURS = (*CLASS_COLOURS.values(), TRAINING, BOX_COLOURS["RBC"], TEST, GREY)
#: Of lines and of points, as plotly and as matplotlib call them.
_DASHES, _SYMBOLS = {"solid": "-", "dash": "--", "dot": ":"}, {"circle": "o", "diamond": "D", "square": "s"}
_SHORT = [nice(cell)[:5] + "." for cell in CLASSES]
_AXIS = {"gridcolor": "#E4E4E4", "zeroline": False, "linecolor": GREY, "automargin": True}


class Choice(NamedTuple):
    """One position of a control: its entry or sentence, and what it changes, as ``Plotly.update`` takes it."""

    name: str
    traces: dict[str, object]
    layout: dict[str, object]


class Control(NamedTuple):
    """A menu or a slider above a figure; `start` is the choice that it begins with."""

    label: str
    choices: tuple[Choice, ...]
    start: int = 0
    is_slider: bool = False


def draw_curves(histories: Mapping[str, Sequence[pd.DataFrame]], shown: Collection[str]) -> go.Figure:
    """Show training and validation accuracy over the epochs, a line per experiment: mean over seeds, range as a band.

    `histories` are by title, one per seed, as `training.Fitted.history`. The titles in `shown` are switched on at
    first; if none of these is there, all are.
    """
    figure = _new_figure(760, 900)
    on = set(shown) & set(histories) or set(histories)
    for number, (title, some) in enumerate(histories.items()):
        look = {"legendgroup": title, "name": title, "visible": True if title in on else "legendonly"}
        colour, dash = _style(number, _DASHES)
        for axis, column in (("y", "accuracy"), ("y2", "val_accuracy")):
            table = pd.concat([h.set_index("epoch")[column] for h in some], axis=1)
            epochs, low, high = table.index.tolist(), _plain(table.min(axis=1)), _plain(table.max(axis=1))
            if len(some) > 1:
                figure.add_scatter(
                    x=epochs + epochs[::-1], y=high + low[::-1], yaxis=axis, fill="toself", fillcolor=colour,
                    opacity=0.15, line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, **look,
                )  # fmt: skip
            figure.add_scatter(
                x=epochs, y=_plain(table.mean(axis=1)), yaxis=axis, mode="lines", showlegend=axis == "y",
                line={"color": colour, "dash": dash, "width": 2}, customdata=list(zip(low, high, strict=True)),
                hovertemplate=f"<b>{escape(title)}</b><br>epoch %{{x}}: %{{y:.1%}}<br>"
                f"seeds ({len(some)}): %{{customdata[0]:.1%}} to %{{customdata[1]:.1%}}<extra></extra>", **look,
            )  # fmt: skip
    figure.update_layout(
        xaxis={"title": "epoch", "anchor": "y2"},
        yaxis={"title": "training accuracy", "domain": [0.53, 1], "range": [0, 1.02], "tickformat": ".0%"},
        yaxis2={"title": "validation accuracy", "domain": [0, 0.47], "range": [0, 1.02], "tickformat": ".0%"} | _AXIS,
    )
    return figure


def draw_confusion(matrices: Mapping[str, NDArray[np.integer]], start: str) -> tuple[go.Figure, list[Control]]:
    """Show the confusion matrix of one model at a time, as counts or as percentages of each true class.

    `matrices` are by title, (4, 5), as `scores.confusion`; `start` is shown first. The column of the class that is
    none is shown only if it is not empty.
    """
    titles = list(matrices)
    first = titles.index(start) if start in titles else 0
    figure = _new_figure(480, 420)
    for number, matrix in enumerate(matrices.values()):
        counts = matrix if matrix[:, -1].any() else matrix[:, : len(CLASSES)]
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        said = [*_SHORT, "none"][: counts.shape[1]]
        true = np.repeat(_SHORT, len(said)).tolist()
        # A cell is a bar of height one: the small plotly has no heat maps.
        figure.add_bar(
            x=said * len(_SHORT), y=[1] * counts.size, base=np.repeat(range(len(_SHORT)), len(said)).tolist(), width=1,
            marker={"color": shares.ravel().round(4).tolist(), "cmin": 0, "cmax": 1, "colorscale": "Blues",
                    "line": {"width": 2, "color": "#FFFFFF"}},
            customdata=list(zip(shares.ravel().round(4).tolist(), true, strict=True)),
            text=[f"{n:,}" for n in counts.ravel()], texttemplate="%{text}", textposition="inside", textangle=0,
            insidetextanchor="middle", visible=number == first, showlegend=False,
            hovertemplate="true: %{customdata[1]}<br>predicted: %{x}<br>%{text} images, "
            "%{customdata[0]:.1%} of the class<extra></extra>",
        )  # fmt: skip
    rows = {"tickvals": [i + 0.5 for i in range(len(_SHORT))], "ticktext": _SHORT, "range": [len(_SHORT), 0]}
    figure.update_layout(
        barmode="overlay",
        xaxis={"title": "predicted", "showgrid": False},
        yaxis={"title": "true", "showgrid": False} | rows,
    )
    models = (Choice(t, {"visible": [t == other for other in titles]}, {}) for t in titles)
    units = {"counts": "%{text}", "row percentages": "%{customdata[0]:.1%}"}
    shown = (Choice(name, {"texttemplate": text}, {}) for name, text in units.items())
    return figure, [Control("Model", tuple(models), first), Control("Shown as", tuple(shown))]


def tabulate_thresholds(parts: Mapping[str, Predictions], marked: float) -> pd.DataFrame:
    """What is decided, and how well, at every threshold of confidence that the slider stops at.

    `marked`, as `calibration.find_threshold` gives it, is a stop of its own, unless it is above 1.

    Returns
    -------
    DataFrame
        Indexed by threshold, 0.2 to 1; columns (name, ``coverage``) and (name, ``accuracy``), 0 to 1. The accuracy is
        NaN where nothing is decided.
    """
    stops = {*np.round(np.linspace(0.2, 1, 161), 3).tolist(), *([marked] if marked <= 1 else [])}
    table = {}
    for name, predictions in parts.items():
        decided = predictions.confidence >= np.array(sorted(stops))[:, None]
        right = (decided & predictions.right).sum(axis=1)
        table[name, "coverage"] = decided.mean(axis=1)
        table[name, "accuracy"] = right / np.where(decided.any(axis=1), decided.sum(axis=1), np.nan)
    return pd.DataFrame(table, index=pd.Index(sorted(stops), name="threshold"))


def draw_thresholds(table: pd.DataFrame, marked: float, wanted: float) -> tuple[go.Figure, list[Control]]:
    """Show coverage and accuracy over the threshold of confidence, with a slider that reads them out.

    `table` is as `tabulate_thresholds` gives it, for two sets of images at most. `marked`, the threshold chosen on
    validation for the accuracy `wanted`, is a dotted line, and where the slider starts; none is drawn above 1.
    """
    figure = _new_figure(440, 480)
    for name, colour in zip(table.columns.unique(0), (VALIDATION, TEST), strict=False):
        for value, dash in (("accuracy", "solid"), ("coverage", "dash")):
            figure.add_scatter(
                x=table.index.tolist(), y=_plain(table[name, value]), mode="lines", name=f"{name}, {value}",
                line={"color": colour, "dash": dash, "width": 2},
                hovertemplate=f"{escape(name)}, {value}: %{{y:.1%}}<br>threshold %{{x:.1%}}<extra></extra>",
            )  # fmt: skip
    start = int(np.abs(table.index - (marked if marked <= 1 else 0.5)).argmin())
    figure.add_vline(float(table.index[start]), line={"color": _COLOURS[1], "width": 3})
    if marked <= 1:
        note = {"text": f"{wanted:.0%} on validation", "xanchor": "right", "yanchor": "bottom", "y": 0.02}
        figure.add_vline(marked, line={"color": TEST, "width": 1.5, "dash": "dot"}, annotation=note)
    figure.update_layout(
        xaxis={"title": "threshold of confidence", "range": [0.2, 1.005], "tickformat": ".0%"},
        yaxis={"title": "share of images", "range": [0, 1.02], "tickformat": ".0%"},
    )
    stops = [Choice(_read_out(t, row), {}, {"shapes[0].x0": t, "shapes[0].x1": t}) for t, row in table.iterrows()]
    return figure, [Control("Threshold", tuple(stops), start, is_slider=True)]


def _read_out(threshold: float, row: pd.Series) -> str:
    shares = {name: (row[name, "coverage"], row[name, "accuracy"]) for name in row.index.unique(0)}
    said = [f"{name} {n:.1%} decided, {right:.1%} of them right" if n else f"{name} none decided"
            for name, (n, right) in shares.items()]  # fmt: skip
    return f"{threshold:.1%}: {'; '.join(said)}."


def draw_agreement(scores: Mapping[str, pd.DataFrame]) -> go.Figure:
    """Show TEST accuracy against validation accuracy: a large mark per experiment, the mean; a small one per seed.

    `scores` are by title, indexed by seed: ``validation`` and ``test``, 0 to 1, after the last epoch.
    """
    figure = _new_figure(760, 860)
    for number, (title, table) in enumerate(scores.items()):
        colour, symbol = _style(number, _SYMBOLS)
        seeds = [f"seed {s}: validation {v:.1%}, TEST {t:.1%}" for s, v, t in table.itertuples()]
        lines = [f"<b>{escape(title)}</b>", "mean: validation %{x:.1%}, TEST %{y:.1%}", *seeds]
        for points, size in ((table, 5), (table.mean().to_frame().T, 12)):
            figure.add_scatter(
                x=_plain(points.validation), y=_plain(points.test), mode="markers", name=title, legendgroup=title,
                showlegend=size > 5, marker={"color": colour, "symbol": symbol, "size": size},
                **({"hovertemplate": "<br>".join(lines) + "<extra></extra>"} if size > 5 else {"hoverinfo": "skip"}),
            )  # fmt: skip
    figure.add_shape(type="line", x0=0, y0=0, x1=1, y1=1, line={"color": GREY, "dash": "dot", "width": 1})
    low = min((float(table.to_numpy().min()) for table in scores.values()), default=0.0)
    both = {"range": [max(0.0, low - 0.05), 1.02], "tickformat": ".0%"}
    figure.update_layout(xaxis=both | {"title": "validation accuracy"}, yaxis=both | {"title": "TEST accuracy"})
    return figure


def draw_still(figure: go.Figure) -> Figure:
    """Draw the lines and points of an interactive figure with matplotlib, for paper."""
    still, axes = new_figure(4.2)
    axis, layout = axes[0, 0], figure.layout
    for one in figure.data:
        label = one.name if one.showlegend is not False else None
        marks = {"ls": _DASHES.get(one.line.dash, ""), "color": one.line.color or one.marker.color}
        if one.mode == "markers":
            marks |= {"marker": _SYMBOLS[one.marker.symbol], "ms": 0.6 * one.marker.size}
        axis.plot(one.x, np.array(one.y, float), label=label, **marks)
    for shape in layout.shapes:
        scale = axis.get_xaxis_transform() if shape.yref else axis.transData
        axis.plot([shape.x0, shape.x1], [shape.y0, shape.y1], ":", color=GREY, lw=1, transform=scale)
    axis.set(xlabel=layout.xaxis.title.text, ylabel=layout.yaxis.title.text)
    axis.set(xlim=layout.xaxis.range, ylim=layout.yaxis.range)
    still.legend(loc="outside lower center", ncols=3, fontsize=8)
    return still


def embed(figure: go.Figure, still: Figure, alt: str, controls: Sequence[Control] = ()) -> HTML:
    """Put a figure on a page: its data for the script, and a still picture, told in `alt`, for where there is none."""
    content = json.loads(figure.to_json()) | {
        "controls": [c._asdict() | {"choices": [choice._asdict() for choice in c.choices]} for c in controls]
    }
    data = json.dumps(content, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    source = f"data:image/png;base64,{encode_png(still, scale=1, colours=64)[0]}"
    words = escape(alt, quote=True)
    return HTML(
        f'<div class="wbc-plot"><script type="application/json">{data}</script>'
        f'<div class="wbc-plot-live" role="group" aria-label="{words}" hidden></div>'
        f'<img class="wbc-plot-still" src="{source}" alt="{words}"></div>'
    )


def _new_figure(height: int, narrow: int) -> go.Figure:
    # `narrow` is the height on a phone, where the legend takes more rows. Fonts are those of the page.
    return go.Figure(
        layout=go.Layout(
            template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", height=height, autosize=True,
            meta={"narrow_height": narrow}, margin={"l": 10, "r": 10, "t": 10, "b": 10}, dragmode=False,
            font={"color": TEST, "size": 13, "family": "inherit"}, hovermode="closest", xaxis=_AXIS, yaxis=_AXIS,
            legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        )
    )  # fmt: skip


def _style(number: int, kinds: Mapping[str, str]) -> tuple[str, str]:
    # A colour of its own, and once all are taken, another kind of line or point.
    return _COLOURS[number % len(_COLOURS)], list(kinds)[number // len(_COLOURS) % len(kinds)]


def _plain(values: pd.Series) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 4) for v in values]
