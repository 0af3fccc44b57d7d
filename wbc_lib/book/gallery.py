"""Every TEST photo on one page: its picture, its box, and what each network makes of it.

What filters and opens the tiles in the browser is ``book/_static/gallery``; without scripts the tiles are a plain list.
"""

import base64
import json
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
import pandas as pd
from IPython.display import HTML
from jinja2 import Template
from markupsafe import Markup

from wbc_lib.data.dataset import CLASSES, PHOTO_SIZE, DataSet
from wbc_lib.data.images import read_image
from wbc_lib.figures.style import CLASS_COLOURS, nice
from wbc_lib.provenance.boxes import white_cells
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Width and height of a picture on the page.
PICTURE = (280, 210)
_OUTPUTS = ("none", *CLASSES)
_PAGE = Template(
    """
<div class="wbc-gallery"><script type="application/json">{{ known }}</script>
<div class="wbc-controls" hidden>
<label>Class <select><option>all{% for name in cells %}<option>{{ name }}{% endfor %}</select></label>
<label>Answer <select><option>all<option>right<option>wrong</select></label>
<label>Model <select>{% for title in models %}<option>{{ title }}{% endfor %}</select></label>
<output aria-live="polite"></output></div>
<ul class="wbc-gallery-grid">
{%- for tile in tiles %}
<li data-photo="{{ tile.photo }}"><button type="button" style="--cell: {{ tile.colour }}">
{%- if tile.picture %}<span class="wbc-gallery-picture"><img src="{{ tile.picture }}" width="280" height="210"
 alt="Photo {{ tile.photo }}: {{ tile.cell }}.">{% for x, y, w, h in tile.boxes -%}
<i style="left:{{ x }}%;top:{{ y }}%;width:{{ w }}%;height:{{ h }}%"></i>{% endfor %}</span>{% endif %}
<b>{{ tile.photo }}: {{ tile.cell }}</b><span>{{ tile.mark }}</span></button></li>
{%- endfor %}
</ul>
<dialog aria-labelledby="wbc-gallery-title"><h2 id="wbc-gallery-title"></h2><div class="wbc-gallery-body"></div>
<form method="dialog"><button class="wbc-press" autofocus>Close</button></form></dialog></div>
""",
    autoescape=True,
)


def score_photos(runs: Sequence[Run], table: pd.DataFrame) -> pd.DataFrame:
    """What runs make of each TEST photo: means over its copies (by the provenance `table`), then over the runs.

    Indexed by ``photo``: ``cell`` (the true class), ``copies``, ``runs``, ``right`` (share of the copies told right,
    over all runs), the probability of each output (``none`` and the classes; they sum to one), ``said`` (the likeliest)
    and ``is_right``.
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


def show(study: Study, models: Mapping[str, pd.DataFrame]) -> HTML:
    """Make the gallery of the study's photos; if it has none of its own, cards stand in their place.

    `models` are, by title, as `score_photos` gives them, all of the same photos; the first is shown first.
    """
    if not models:
        return HTML("<p>No run is recorded, so there is nothing to show.</p>")
    first = next(iter(models.values()))
    photos = [] if study.results_of else [int(photo) for photo in first.index]
    pictures, boxes = read_pictures(study.data, photos), find_boxes(study.data) if photos else {}
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
            "picture": pictures.get(photo),
            "boxes": boxes.get(photo, ()),
            "mark": "right" if row.is_right else f"taken for {row.said.lower()}",
        }
        for photo, row in first.iterrows()
    ]
    data = json.dumps(known, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    cells = [nice(cell) for cell in CLASSES]
    return HTML(_PAGE.render(known=Markup(data), cells=cells, models=models, tiles=tiles).strip())


def read_pictures(data: DataSet, photos: Sequence[int]) -> dict[int, str]:
    """Small JPEGs of photos as data URIs."""
    found = {}
    for photo in photos:
        small = cv2.resize(read_image(data.photo_path(photo)), PICTURE, interpolation=cv2.INTER_AREA)
        _, content = cv2.imencode(".jpeg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
        found[photo] = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return found


def find_boxes(data: DataSet) -> dict[int, list[list[float]]]:
    """The white cells' boxes by photo: left, top, width and height of each, in percent of the photo."""
    corners = white_cells(data).set_index("photo")[["xmin", "ymin", "xmax", "ymax"]]
    corners = 100 * corners / (*PHOTO_SIZE, *PHOTO_SIZE)
    corners[["xmax", "ymax"]] -= corners[["xmin", "ymin"]].to_numpy()
    return {int(photo): some.round(1).to_numpy().tolist() for photo, some in corners.groupby("photo")}
