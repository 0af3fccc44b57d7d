"""How much of what recorded models look at lies on the white cell itself, by masks drawn of it: on the photos of TEST.

A cell is always in the middle of the window that a model sees, so that a map which knew nothing but that would do well
too. The maps of all other photos tell how well.
"""

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data import external
from wbc_lib.data.dataset import LABELS, photo_number
from wbc_lib.data.external import External
from wbc_lib.data.picture_sets import PictureSet
from wbc_lib.data.windows import Window, background_colour, find_cells
from wbc_lib.evaluation.comparison import average_classes
from wbc_lib.training.runs import Run

_COLUMNS = {
    **{"model": str, "seed": int, "photo": int, "cell": str, "right": bool},
    **dict.fromkeys(("even", "share", "share_swapped"), float),
    **dict.fromkeys(("right_covered", "right_alone"), bool),
}
_REMEDY = "restore it, or make it with `wbc external attention`"
#: The shares of the recorded models, as `measure_shares` gives them.
RECORDED = paths.RecordedTable(("attention", "masks.csv"), _COLUMNS, "shares", _REMEDY, of_project=True)
read_recorded = RECORDED.read
#: What is painted over is this much wider than the mask, as a share of the window's width: a rim would give it away.
_RIM = 0.02


@dataclass(frozen=True)
class Masked:
    """Photos as a model sees them, and where in them the white cell is; those that show none are left out."""

    table: pd.DataFrame  # a row per photo: ``photo``, its number, and ``cell``, its class
    windows: NDArray[np.uint8]  # shape (photos, height, width, RGB)
    backgrounds: NDArray[np.uint8]  # colour between the cells, shape (photos, RGB)
    masks: NDArray[np.float32]  # how much of each pixel is cell, 0 to 1, shape (photos, height, width)


def look(photos: PictureSet, elsewhere: External, window: Window) -> Masked:
    """Cut the window around the cell with the largest nucleus out of each photo, and out of its mask.

    Raises `BadDataError` if a mask is missing.
    """
    rows, windows, backgrounds, masks = [], [], [], []
    for picture, cell in zip(photos.table.picture, photos.table.cell, strict=True):
        pixels, photo = photos.read(picture), photo_number(picture)
        for found in find_cells(pixels, photos.red_cell)[:1]:
            place = (found.x, found.y), photos.red_cell
            rows.append((photo, cell))
            windows.append(window.cut(pixels, *place))
            backgrounds.append(background_colour(pixels))
            masks.append(window.cut_mask(external.read_cell(elsewhere, photo), *place))
    table = pd.DataFrame(rows, columns=["photo", "cell"])
    return Masked(table, np.stack(windows), np.stack(backgrounds), np.stack(masks))


def measure_shares(run: Run, seen: Masked) -> pd.DataFrame:
    """Measure how much of a run's Grad-CAM for the class that it predicts lies on the cell.

    A row per photo: ``model`` (the run's experiment), ``seed``, ``photo``, ``cell``, whether the prediction is
    ``right``, and what share of a map lies on the cell: ``even`` (of an even map), ``share`` (of the photo's own),
    ``share_swapped`` (mean over the maps of all other photos). NaN where a map is empty. And whether the prediction is
    right with the cell painted over in the background's colour, ``right_covered``, and with all but the cell,
    ``right_alone``.
    """
    from wbc_lib.training.fit import predict

    experiment, model = run.plan.experiment, saliency.rebuild(run)
    side = 2 * round(_RIM * seen.windows.shape[2]) + 1
    cell = np.stack([cv2.dilate(mask, np.ones((side, side), np.uint8)) for mask in seen.masks]) > 0
    covered, alone = (saliency.paint(seen.windows, m, seen.backgrounds) for m in (cell, ~cell))
    predicted, without_cell, without_rest = (
        predict(model, windows, experiment.settings.views).argmax(axis=1) for windows in (seen.windows, covered, alone)
    )
    labels = seen.table.cell.map(LABELS).to_numpy()
    maps = saliency.map_attention(model, experiment.network, seen.windows, predicted)
    shares = share_on_cells(maps, seen.masks)
    others = np.where(np.eye(len(shares), dtype=bool), np.nan, shares)
    even = saliency.map_evenly(experiment.network, seen.windows.shape[1:3])
    columns = {
        "right": predicted == labels,
        "right_covered": without_cell == labels,
        "right_alone": without_rest == labels,
        "even": share_on_cells(even[None], seen.masks)[:, 0],
        "share": shares.diagonal(),
        "share_swapped": pd.DataFrame(others).mean(axis=1),
    }
    return seen.table.assign(**columns, model=experiment.name, seed=run.seed)[list(_COLUMNS)]


def share_on_cells(maps: NDArray[np.floating], masks: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of each map (maps, height, width) on the cell of each mask, shape (masks, maps); NaN for an empty map."""
    flat = maps.reshape(len(maps), -1)
    total = flat.sum(axis=1)
    on_cells = masks.reshape(len(masks), -1).astype(float) @ flat.T
    return np.divide(on_cells, total, out=np.full(on_cells.shape, np.nan), where=total > 0)


def tabulate_masks(table: pd.DataFrame) -> pd.DataFrame:
    """How much of the attention lies on the cells' masks, mean over photos, of each the mean over its seeds.

    Takes what `measure_shares` gives of some runs. A row per model: ``even``, 0 to 1, and, each an `Interval`,
    ``share`` and ``more``, which is ``share`` less ``share_swapped``.
    """
    rows = {}
    for model, of_model in table.groupby("model"):
        photos = of_model.groupby("photo")[["even", "share", "share_swapped"]].mean().dropna()
        ones, one_class = np.ones(len(photos)), np.zeros(len(photos))
        rows[model] = {
            "even": photos.even.mean(),
            "share": average_classes(photos.share, ones, one_class),
            "more": average_classes(photos.share - photos.share_swapped, ones, one_class),
        }
    return pd.DataFrame(list(rows.values()), pd.Index(rows, name="model"))


def write_recorded(table: pd.DataFrame) -> Path:
    """Record rows as `measure_shares` gives them."""
    return RECORDED.write(table.round(4))
