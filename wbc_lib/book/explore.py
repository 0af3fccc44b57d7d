"""What answers to a reader's hand: the photos of TEST, each with what each network makes of it; matrices; curves.

What lets them act in the browser is ``book/_static/gallery`` and ``book/_static/explore``. Without scripts, and on
paper, a plain list, the first matrix and a still picture take their place.
"""

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import plotly.graph_objects as go
from IPython.display import HTML
from jinja2 import Template
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, PHOTO_SIZE, DataSet
from wbc_lib.data.images import read_image
from wbc_lib.figures.style import BOX_COLOURS, CLASS_COLOURS, GREY, TEST, TRAINING, encode_png, nice
from wbc_lib.provenance.boxes import white_cells
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Width and height of a picture on the page, which its template names too.
_SIZE = (280, 210)
_OUTPUTS = ("none", *CLASSES)
_TEMPLATE = Path(__file__).with_name("gallery.html.jinja")
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


def score_photos(runs: Sequence[Run], table: pd.DataFrame) -> pd.DataFrame:
    """What runs make of each TEST photo: means over its copies (by the provenance `table`), then over the runs.

    Indexed by ``photo``: ``cell`` (the true class), ``copies``, ``right`` (share of the copies told right, over all
    runs), the probability of each output (``none`` and the classes; they sum to one), ``said`` (the likeliest) and
    ``is_right``.
    """
    photos = table.set_index("image").photo.loc[runs[0].names("test")].to_numpy()
    labels = runs[0].labels("test")
    answers = pd.DataFrame(np.mean([run.probabilities("test") for run in runs], axis=0), columns=list(_OUTPUTS))
    answers["right"] = np.mean([run.predicted("test") == labels for run in runs], axis=0)
    found = answers.groupby(photos).mean().rename_axis("photo")
    found["copies"] = np.unique(photos, return_counts=True)[1]
    found["cell"] = np.array(_OUTPUTS)[pd.Series(labels).groupby(photos).first()]
    found["said"] = found[list(_OUTPUTS)].idxmax(axis=1)
    found["is_right"] = found.said == found.cell
    return found


def show_photos(study: Study, models: Mapping[str, pd.DataFrame]) -> HTML:
    """Make the gallery of the study's photos; if it has none of its own, cards stand in their place.

    `models` are, by title, as `score_photos` gives them, all of the same photos; the first is shown first.
    """
    if not models:
        return HTML("<p>No run is recorded, so there is nothing to show.</p>")
    first = next(iter(models.values()))
    has_photos = not study.results_of
    boxes = find_boxes(study.data) if has_photos else {}
    known = {
        # So many digits that rounding makes no other output the likeliest.
        "models": {title: table[[*_OUTPUTS, "right"]].round(7).T.to_dict("list") for title, table in models.items()},
        "photos": {photo: {"cell": nice(row.cell), "copies": int(row.copies)} for photo, row in first.iterrows()},
        "outputs": {nice(name): CLASS_COLOURS.get(name, "#666") for name in _OUTPUTS},
    }
    tiles = [
        {
            "photo": photo,
            "cell": nice(row.cell),
            "colour": CLASS_COLOURS[row.cell],
            "picture": _read_small(study.data, int(photo)) if has_photos else None,
            "boxes": boxes.get(photo, ()),
            "mark": "right" if row.is_right else f"taken for {row.said.lower()}",
        }
        for photo, row in first.iterrows()
    ]
    cells = [nice(cell) for cell in CLASSES]
    page = Template(_TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    return HTML(page.render(known=Markup(_dump(known)), cells=cells, models=models, tiles=tiles))


def _read_small(data: DataSet, photo: int) -> str:
    # As a data URI.
    small = cv2.resize(read_image(data.photo_path(photo)), _SIZE, interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpeg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def find_boxes(data: DataSet) -> dict[int, list[list[float]]]:
    """The white cells' boxes by photo: left, top, width and height of each, in percent of the photo."""
    corners = white_cells(data).set_index("photo")[["xmin", "ymin", "xmax", "ymax"]]
    corners = 100 * corners / (*PHOTO_SIZE, *PHOTO_SIZE)
    corners[["xmax", "ymax"]] -= corners[["xmin", "ymin"]].to_numpy()
    return {int(photo): some.round(1).to_numpy().tolist() for photo, some in corners.groupby("photo")}


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
    source = f"data:image/png;base64,{encode_png(still, scale=1, colours=64)[0]}"
    words = escape(alt, quote=True)
    return HTML(
        f'<div class="wbc-plot"><script type="application/json">{_dump(json.loads(figure.to_json()))}</script>'
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


def _dump(data: object) -> str:
    # As JSON that can stand in a script.
    return json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
