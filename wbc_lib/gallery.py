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
from wbc_lib.experiments import find_experiment
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
    run = None if study.results_of else prediction.find_run(study.store, study.data_sha256)
    maps = map_attention(run, study.data, photos) if run else {}
    told = {
        "models": {
            title: {"runs": int(t.runs.iloc[0]), "photos": {int(photo): _tell(row) for photo, row in t.iterrows()}}
            for title, t in models.items()
        },
        "photos": {
            photo: {"cell": nice(row.cell), "copies": int(row.copies)}
            | ({"box": boxes[photo]} if photo in boxes else {})
            | ({"map": maps[photo]} if photo in maps else {})
            for photo, row in first.iterrows()
        },
        "outputs": [nice(name) for name in _OUTPUTS],
        "colours": {nice(cell): colour for cell, colour in CLASS_COLOURS.items()},
        "grid": GRID,
        "mapped": {"title": find_experiment("final").title, "seed": run.seed, "epochs": run.epochs} if run else None,
    }
    data = json.dumps(told, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    tiles = "".join(_write_tile(photo, first.loc[photo], pictures.get(photo, ""), first_title) for photo in photos)
    return HTML(
        f'<div class="wbc-gallery"><script type="application/json">{data}</script>'
        f'<div class="wbc-controls"></div><ul class="wbc-gallery-grid">{tiles}</ul></div>'
    )


def _tell(row: pd.Series) -> list[float]:
    # So many digits that rounding makes no other output the likeliest.
    return [round(float(row[name]), 7) for name in (*_OUTPUTS, "right")]


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
    """Small JPEGs of photos as data URIs."""
    found = {}
    for photo in photos:
        image = read_image(data.photo_path(photo))
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


def map_attention(run: Run, data: DataSet, photos: Sequence[int]) -> dict[int, dict]:
    """Where a network looks on photos as they were taken: Grad-CAM for the likeliest class, on a coarse grid.

    Parameters
    ----------
    run : Run
        With weights.
    data : DataSet
    photos : sequence of int

    Returns
    -------
    dict of int to dict
        By photo: ``said``, the class that the map speaks for, and ``values``, as `coarsen` gives them.

    Raises
    ------
    BadDataError
        If a photo cannot be read.
    """
    found = {}
    read = prediction.classify(run, [data.photo_path(photo) for photo in photos], 0.0, with_attention=True)
    for photo, one in zip(photos, read, strict=True):
        if isinstance(one, BadDataError):
            raise one
        found[photo] = {"said": nice(one.cell or "none"), "values": coarsen(one.attention)}
    return found


def coarsen(attention: NDArray[np.floating]) -> list[int]:
    """Write a map (height, width), 0 or more, on `GRID`: row by row, in percent of its highest place there."""
    small = cv2.resize(attention.astype(np.float32), GRID, interpolation=cv2.INTER_AREA).clip(0)
    return np.rint(100 * small / (small.max() or 1)).astype(int).ravel().tolist()
