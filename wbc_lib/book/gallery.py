"""Every TEST photo on one page: its picture, its box, what each network makes of it, and where the final model looks.

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
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, PHOTO_SIZE, DataSet
from wbc_lib.data.images import read_image
from wbc_lib.errors import BadDataError
from wbc_lib.figures.style import CLASS_COLOURS, nice
from wbc_lib.prediction import picture
from wbc_lib.provenance.boxes import white_cells
from wbc_lib.training.experiments import find_experiment
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Width and height of a picture on the page, and of the grid that attention is told on.
PICTURE, GRID = (280, 210), (20, 15)
_OUTPUTS = ("none", *CLASSES)
_PAGE = Template(
    """
<div class="wbc-gallery"><script type="application/json">{{ known }}</script>
<div class="wbc-controls" hidden>
<label>Class <select><option>all{% for name in cells %}<option>{{ name }}{% endfor %}</select></label>
<label>Prediction <select><option>all<option>right<option>wrong</select></label>
<label>Model <select>{% for title in models %}<option>{{ title }}{% endfor %}</select></label>
<output aria-live="polite"></output></div>
<ul class="wbc-gallery-grid">
{%- for tile in tiles %}
<li data-photo="{{ tile.photo }}"><button type="button" style="--cell: {{ tile.colour }}">
{%- if tile.picture %}<img src="{{ tile.picture }}" alt="Photo {{ tile.photo }}: {{ tile.cell }}."
 width="280" height="210">{% endif %}<b>{{ tile.photo }}: {{ tile.cell }}</b><span>{{ tile.mark }}</span></button></li>
{%- endfor %}
</ul>
<dialog aria-labelledby="wbc-gallery-title"><h2 id="wbc-gallery-title"></h2>
<div class="wbc-gallery-body"><div class="wbc-gallery-picture"></div><div class="wbc-gallery-facts"></div></div>
<p class="wbc-gallery-map"></p>
<form method="dialog" class="wbc-gallery-acts">
<label><input type="checkbox" name="box" checked> the labelled cell</label>
<label><input type="checkbox" name="map"> where the final model looks</label>
<button type="button" class="wbc-press" value="-1">Previous</button>
<button type="button" class="wbc-press" value="1">Next</button>
<button class="wbc-press" autofocus>Close</button></form></dialog></div>
""",
    autoescape=True,
)


def score_photos(runs: Sequence[Run], table: pd.DataFrame) -> pd.DataFrame:
    """What runs make of each TEST photo: means over its copies (by the provenance `table`), then over the runs.

    Returns
    -------
    DataFrame
        Indexed by ``photo``: ``cell`` (the true class), ``copies``, ``runs``, ``right`` (share of the copies told
        right, over all runs), the probability of each output (``none`` and the classes; they sum to one), ``said``
        (the likeliest) and ``is_right``.
    """
    photo_of = table.set_index("image").photo
    several = []
    for run in runs:
        labels, probabilities = run.labels("test"), run.probabilities("test")
        of_images = pd.DataFrame(probabilities, columns=list(_OUTPUTS)).assign(
            photo=photo_of.loc[run.names("test")].to_numpy(),
            label=labels,
            right=run.predicted("test") == labels,
        )
        grouped = of_images.groupby("photo")
        several.append(grouped[[*_OUTPUTS, "right"]].mean())
    found = sum(several) / len(several)
    found["copies"], found["runs"] = grouped.size(), len(runs)
    found["cell"] = np.array(_OUTPUTS)[grouped.label.first()]
    found["said"] = found[list(_OUTPUTS)].idxmax(axis=1)
    found["is_right"] = found.said == found.cell
    return found


def show(study: Study, models: Mapping[str, pd.DataFrame]) -> HTML:
    """Make the gallery of the study's photos; if it has none of its own, cards stand in their place.

    `networks` are, by title, as `score_photos` gives them, all of the same photos; the first is shown first.
    """
    if not models:
        return HTML("<p>No run is recorded, so there is nothing to show.</p>")
    first = next(iter(models.values()))
    photos = [int(photo) for photo in first.index]
    pictures, boxes, maps, run = {}, {}, {}, None
    if not study.results_of:
        pictures, boxes = read_pictures(study.data, photos), find_boxes(study.data)
        run = picture.find_run(study.store, study.data_sha256)
        maps = map_attention(run, study.data, photos) if run else {}
    known = {
        # So many digits that rounding makes no other output the likeliest.
        "models": {
            title: {"runs": int(t.runs.iloc[0]), "photos": t[[*_OUTPUTS, "right"]].round(7).T.to_dict("list")}
            for title, t in models.items()
        },
        "photos": {
            photo: {
                "cell": nice(row.cell),
                "copies": int(row.copies),
                "boxes": boxes.get(photo),
                "map": maps.get(photo),
            }
            for photo, row in first.iterrows()
        },
        "outputs": {nice(name): CLASS_COLOURS.get(name, "#666") for name in _OUTPUTS},
        "mapped": f"{find_experiment('final').title}, seed {run.seed}, {run.epochs} epochs" if run else None,
    }
    tiles = [
        {
            "photo": photo,
            "cell": nice(row.cell),
            "colour": CLASS_COLOURS[row.cell],
            "picture": pictures.get(photo),
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
        image = read_image(data.photo_path(photo))
        small = cv2.resize(image, PICTURE, interpolation=cv2.INTER_AREA)
        found[photo] = _as_uri("jpeg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 75])
    return found


def find_boxes(data: DataSet) -> dict[int, list[list[float]]]:
    """The white cells' boxes by photo: left, top, width and height of each, in percent of the photo."""
    corners = white_cells(data).set_index("photo")[["xmin", "ymin", "xmax", "ymax"]]
    corners = 100 * corners / (*PHOTO_SIZE, *PHOTO_SIZE)
    corners[["xmax", "ymax"]] -= corners[["xmin", "ymin"]].to_numpy()
    return {int(photo): some.round(1).to_numpy().tolist() for photo, some in corners.groupby("photo")}


def map_attention(run: Run, data: DataSet, photos: Sequence[int]) -> dict[int, dict[str, str]]:
    """Where a network looks on photos as they were taken: Grad-CAM for the likeliest class, as `veil` draws it.

    By photo: ``said``, the class that the map speaks for, and ``veil``, a PNG as a data URI.

    Raises
    ------
    BadDataError
        If a photo cannot be read.
    """
    found = {}
    read = picture.classify(run, [data.photo_path(photo) for photo in photos], 0.0, with_attention=True)
    for photo, one in zip(photos, read, strict=True):
        if isinstance(one, BadDataError):
            raise one
        found[photo] = {"said": nice(one.cell or "none").lower(), "veil": _as_uri("png", veil(one.attention))}
    return found


def veil(attention: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Draw a map (height, width), 0 or more, as black of `GRID` (rows, columns, 4), thin where there is attention."""
    small = cv2.resize(attention.astype(np.float32), GRID, interpolation=cv2.INTER_AREA).clip(0)
    black = np.zeros((*small.shape, 4), np.uint8)
    black[..., 3] = np.rint(166 * (1 - small / (small.max() or 1)))
    return black


def _as_uri(kind: str, image: NDArray[np.uint8], options: Sequence[int] = ()) -> str:
    _, content = cv2.imencode(f".{kind}", image, options)
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"
