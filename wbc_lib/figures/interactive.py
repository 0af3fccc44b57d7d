"""What a reader may choose from on a page: curves to switch on and off, and matrices to pick one of.

What lets them act in the browser is ``book/_static/explore``. Without scripts, and on paper, a still picture or the
first matrix takes their place.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from html import escape

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML
from jinja2 import Template
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.figures.style import BOX_COLOURS, CLASS_COLOURS, GREY, TEST, TRAINING, encode_png, nice

_COLOURS = (*CLASS_COLOURS.values(), TRAINING, BOX_COLOURS["RBC"], TEST, GREY)
_DASHES = ("solid", "dash", "dot")
_AXIS = {"gridcolor": "#E4E4E4", "zeroline": False, "linecolor": GREY, "automargin": True}
_MATRICES = Template(
    """
<div class="wbc-choice"><div class="wbc-controls" hidden><label>Model <select>
{%- for title in matrices %}<option>{{ title }}</option>{% endfor %}</select></label></div>
{%- for title, rows in matrices.items() %}
<table class="table wbc-matrix"{{ "" if loop.first else " hidden" }}><caption>{{ title }}</caption><thead><tr>
<th scope="col">label</th>{% for name in columns %}<th scope="col"><abbr title="{{ name }}">{{ name[:5] }}.</abbr></th>
{%- endfor %}{% if with_none %}<th scope="col">none</th>{% endif %}</tr></thead><tbody>
{%- for name, cells in rows %}<tr><th scope="row">{{ name }}</th>
{%- for count, share in cells %}<td style="--share: {{ "%.3f" | format(share) }}">{{ "{:,}".format(count) }}<br>
<small>{{ "{:.1%}".format(share) }}</small></td>{% endfor %}</tr>{% endfor %}</tbody></table>{% endfor %}</div>""",
    autoescape=True,
)


def draw_curves(histories: Mapping[str, Sequence[pd.DataFrame]], shown: Collection[str]) -> go.Figure:
    """Show training and validation accuracy over the epochs, a line per experiment: mean over seeds, range as a band.

    `histories` are by title, one per seed, as `training.Fitted.history`. The titles in `shown` are switched on at
    first; if none of these is there, all are.
    """
    figure = go.Figure(
        layout=go.Layout(
            template="none", paper_bgcolor="rgba(0,0,0,0)", plot_bgcolor="rgba(0,0,0,0)", height=760, autosize=True,
            # On a phone the legend takes more rows. Fonts are those of the page.
            meta={"narrow_height": 900}, margin={"l": 10, "r": 10, "t": 10, "b": 10}, dragmode=False,
            font={"color": TEST, "size": 13, "family": "inherit"}, hovermode="closest", xaxis=_AXIS, yaxis=_AXIS,
            legend={"orientation": "h", "yref": "container", "yanchor": "bottom", "y": 0, "x": 0},
        )
    )  # fmt: skip
    on = set(shown) & set(histories) or set(histories)
    for number, (title, some) in enumerate(histories.items()):
        look = {"legendgroup": title, "name": title, "visible": True if title in on else "legendonly"}
        # A colour of its own, and once all are taken, another kind of line.
        colour, dash = _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]
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


def embed(figure: go.Figure, still: Figure, alt: str) -> HTML:
    """Put a figure on a page: its data for the script, and a still picture, told in `alt`, for where there is none."""
    data = json.dumps(json.loads(figure.to_json()), separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    source = f"data:image/png;base64,{encode_png(still, scale=1, colours=64)[0]}"
    words = escape(alt, quote=True)
    return HTML(
        f'<div class="wbc-plot"><script type="application/json">{data}</script>'
        f'<div class="wbc-plot-live" role="group" aria-label="{words}" hidden></div>'
        f'<img class="wbc-plot-still" src="{source}" alt="{words}"></div>'
    )


def show_matrices(matrices: Mapping[str, NDArray[np.integer]]) -> HTML:
    """Show confusion matrices, (4, 5) as `scores.confusion` makes them, by title; a menu picks one, the first at first.

    Each cell has its count and its share of the true class. The column of the class that is none is there only if some
    matrix needs it.
    """
    n_columns = len(CLASSES) + any(matrix[:, -1].any() for matrix in matrices.values())
    names = [nice(cell) for cell in CLASSES]
    shown = {}
    for title, matrix in matrices.items():
        shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
        pairs = (
            zip(c[:n_columns].tolist(), s[:n_columns].tolist(), strict=True)
            for c, s in zip(matrix, shares, strict=True)
        )
        shown[title] = list(zip(names, map(list, pairs), strict=True))
    return HTML(_MATRICES.render(matrices=shown, columns=names, with_none=n_columns > len(names)))


def _plain(values: pd.Series) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 4) for v in values]
