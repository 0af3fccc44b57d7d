"""Every TEST photo on one page: its picture, its box, what each network makes of it, and where the final model looks.

What filters and opens the tiles in the browser is ``book/_static/gallery``; without scripts the tiles are a plain list.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape

import cv2
import numpy as np
import pandas as pd
from IPython.display import HTML
from numpy.typing import NDArray

from wbc_lib import prediction
from wbc_lib.cells import white_cells
from wbc_lib.errors import BadDataError
from wbc_lib.figures import CLASS_COLOURS, nice
from wbc_lib.images import read_image
from wbc_lib.photos import CLASSES, PHOTO_SIZE, DataSet
from wbc_lib.runs import Run
from wbc_lib.study import Study

#: Width and height of a picture on the page, and of the grid that attention is told on.
PICTURE, GRID = (280, 210), (20, 15)
_QUALITY = 75
_OUTPUTS = ("none", *CLASSES)


def score_photos(runs: Sequence[Run], table: pd.DataFrame) -> pd.DataFrame:
    """What runs make of each TEST photo: means over its augmented copies, then over the runs.

    Parameters
    ----------
    runs : sequence of Run
        At least one, scored on augmented images.
    table : DataFrame
        Provenance, with ``image`` and ``photo``.

    Returns
    -------
    DataFrame
        Indexed by ``photo``: ``cell`` (the true class), ``copies``, ``right`` (share of them told right), the
        probability of each output (``none`` and the classes; they sum to one), ``said`` (the likeliest) and
        ``is_right``.
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
    found["copies"], found["cell"] = grouped.size(), np.array(_OUTPUTS)[grouped.label.first()]
    found["said"] = found[list(_OUTPUTS)].idxmax(axis=1)
    found["is_right"] = found.said == found.cell
    return found


def show(study: Study, models: Mapping[str, pd.DataFrame]) -> HTML:
    """Make the gallery.

    Parameters
    ----------
    study : Study
        Its photos are shown; if it has none of its own, cards stand in their place.
    models : mapping of str to DataFrame
        By title, as `score_photos` gives them, all of the same photos; the first is shown first.
    """
    if not models:
        return HTML("<p>No run is recorded, so there is nothing to show.</p>")
    first_title, first = next(iter(models.items()))
    photos = [int(photo) for photo in first.index]
    pictures = {} if study.results_of else read_pictures(study.data, photos)
    boxes = {} if study.results_of else find_boxes(study.data)
    maps = {} if study.results_of else map_attention(study, photos)
    told = {
        "models": {title: {int(photo): _tell(row) for photo, row in t.iterrows()} for title, t in models.items()},
        "photos": {
            photo: {"cell": nice(row.cell), "copies": int(row.copies)}
            | ({"box": boxes[photo]} if photo in boxes else {})
            | ({"map": maps[photo]} if photo in maps else {})
            for photo, row in first.iterrows()
        },
        "outputs": [nice(name) for name in _OUTPUTS],
        "colours": {nice(cell): colour for cell, colour in CLASS_COLOURS.items()},
        "grid": GRID,
    }
    data = json.dumps(told, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    tiles = "".join(_write_tile(photo, first.loc[photo], pictures.get(photo, ""), first_title) for photo in photos)
    return HTML(
        f'<div class="wbc-gallery"><script type="application/json">{data}</script>'
        f'<div class="wbc-gallery-controls"></div><ul class="wbc-gallery-grid">{tiles}</ul></div>'
    )


def _tell(row: pd.Series) -> list[float]:
    return [round(float(row[name]), 4) for name in (*_OUTPUTS, "right")]


def _write_tile(photo: int, row: pd.Series, picture: str, title: str) -> str:
    cell, said = nice(row.cell), nice(row.said)
    alt = escape(f"Photo {photo}: {cell}. {title}: {said}.")
    shown = f'<img src="{picture}" alt="{alt}" width="{PICTURE[0]}" height="{PICTURE[1]}">' if picture else ""
    mark = "right" if row.is_right else f"taken for {said.lower()}"
    return (
        f'<li data-photo="{photo}"><button type="button" style="--cell: {CLASS_COLOURS[row.cell]}">{shown}'
        f'<span class="wbc-gallery-cell">{photo}: {cell}</span><span class="wbc-gallery-said">{mark}</span>'
        "</button></li>"
    )


def read_pictures(data: DataSet, photos: Sequence[int]) -> dict[int, str]:
    """Small JPEGs of photos as data URIs; a photo that cannot be read has none."""
    found = {}
    for photo in photos:
        try:
            image = read_image(data.photo_path(photo))
        except BadDataError:
            continue
        small = cv2.resize(image, PICTURE, interpolation=cv2.INTER_AREA)
        _, content = cv2.imencode(".jpg", small[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        found[photo] = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
    return found


def find_boxes(data: DataSet) -> dict[int, list[list[float]]]:
    """The white cells' boxes by photo: left, top, width and height of each, in percent of the photo."""
    width, height = PHOTO_SIZE
    found: dict[int, list[list[float]]] = {}
    for box in white_cells(data).itertuples():
        size = (100 * (box.xmax - box.xmin) / width, 100 * (box.ymax - box.ymin) / height)
        place = (100 * box.xmin / width, 100 * box.ymin / height, *size)
        found.setdefault(int(box.photo), []).append([round(float(edge), 1) for edge in place])
    return found


def map_attention(study: Study, photos: Sequence[int]) -> dict[int, list[int]]:
    """Where the final model looks on photos as they were taken: Grad-CAM for the likeliest class, on a coarse grid.

    Returns
    -------
    dict of int to list of int
        By photo, row by row of `GRID`: 0 to 99, the most of each map. Empty if no run has weights.
    """
    run = prediction.find_run(study.store, study.data_sha256)
    if run is None:
        return {}
    paths = [study.data.photo_path(photo) for photo in photos]
    said = prediction.classify(run, paths, 0.0, with_attention=True)
    return {
        photo: coarsen(one.attention)
        for photo, one in zip(photos, said, strict=True)
        if not isinstance(one, BadDataError)
    }


def coarsen(attention: NDArray[np.floating]) -> list[int]:
    """Write a map (height, width), 0 to 1, on `GRID`, as whole numbers 0 to 99, row by row."""
    small = cv2.resize(attention.astype(np.float32), GRID, interpolation=cv2.INTER_AREA)
    return np.rint(99 * small.clip(0, 1)).astype(int).ravel().tolist()
