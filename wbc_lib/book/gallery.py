"""Every TEST photo on one page: its picture, its box, and what each network makes of it.

What filters and opens the tiles in the browser is ``book/_static/gallery``; without scripts the tiles are a plain list.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

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

#: Width and height of a picture on the page, which its template names too.
_SIZE = (280, 210)
_OUTPUTS = ("none", *CLASSES)
_TEMPLATE = Path(__file__).with_name("gallery.html.jinja")


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
    data = json.dumps(known, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    cells = [nice(cell) for cell in CLASSES]
    page = Template(_TEMPLATE.read_text(encoding="utf-8"), autoescape=True)
    return HTML(page.render(known=Markup(data), cells=cells, models=models, tiles=tiles))


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
