"""A second opinion on each photo that is no convolutional network: numbers that are measured, and a forest of trees.

The white cell's nucleus is outlined by its colour, and what lies around it counts as its plasma. Their colours, their
texture and the shape of the nucleus are measured, none of which depends on how the photo is turned.
"""

from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, LABELS, DataSet
from wbc_lib.data.images import map_in_threads, read_image, to_grey, to_lab
from wbc_lib.data.splits import REPEATS, read_splits
from wbc_lib.data.windows import RED_CELL, background_colour, disc, find_cells, find_nuclei
from wbc_lib.errors import BadDataError
from wbc_lib.evaluation.calibration import Predictions

#: What is measured of colours in a part of the cell, for each of L, a and b.
_STATISTICS = ("mean", "sd", "10 %", "50 %", "90 %")
#: Parts of a cell, by how far they reach from the nucleus, in red cells.
_RINGS = {"near": 0.12, "far": 0.3}
#: Openings of the nucleus that part its lobes, and distances of texture, in red cells.
_OPENINGS, _DISTANCES = (0.06, 0.12, 0.18), (0.02, 0.05)
#: Trees, and photos in a leaf at least; fixed before any answer was seen.
_TREES, _LEAF = 1000, 2
#: Half of the window around a cell, in red cells.
_REACH = 1.6
_COLUMNS = {"repeat": int, "photo": int, **dict.fromkeys(CLASSES, float)}
#: The answers about the published photos, as `answer_published` gives them.
RECORDED = paths.RecordedTable(("ceiling", "features.csv.gz"), _COLUMNS, "answers", of_project=True)


def measure(picture: NDArray[np.uint8]) -> pd.Series:
    """Measure the white cell with the largest nucleus in a photo, by the name of what is measured.

    Lengths are told in red cells, and colours beside the background's. Raises `BadDataError` if there is no white cell.
    """
    cells = find_cells(picture, RED_CELL)
    if not cells:
        raise BadDataError("There is no white cell in the picture; choose a photo with a stained nucleus.")
    cell, reach = cells[0], round(_REACH * RED_CELL)
    rows, columns = (slice(max(0, round(middle) - reach), round(middle) + reach + 1) for middle in (cell.y, cell.x))
    window, nuclei = picture[rows, columns], find_nuclei(picture, RED_CELL / 30)[rows, columns].astype(np.uint8)
    # Of nuclei in the window, only what lies within the cell's own box.
    left, top, right, bottom = cell.box
    own = np.zeros_like(nuclei)
    inside = (slice(top - rows.start, bottom - rows.start), slice(left - columns.start, right - columns.start))
    own[inside] = nuclei[inside]
    parts = {"nucleus": own > 0}
    grown = own
    for name, width in _RINGS.items():
        wider = np.asarray(cv2.dilate(own, disc(width * RED_CELL)), np.uint8)
        parts[name] = (wider > 0) & (grown == 0) & (nuclei == 0)
        grown = wider
    ground = to_lab(background_colour(picture)[None, None])[0, 0]
    found = _describe_colours(to_lab(window) - ground, parts) | _describe_shape(own)
    return pd.Series(found | _describe_texture(to_grey(window), parts), dtype=float)


def answer_out_of_fold(features: pd.DataFrame, labels: pd.Series, folds: pd.Series, seed: int) -> pd.DataFrame:
    """Ask about the photos of each fold a forest (Geurts et al. 2006) that was grown on those of the others.

    `features`, `labels` (1 to 4) and `folds` are by photo. A row per photo, with a probability per class, named as in
    `dataset.CLASSES`, summing to one; 0 for a class that is in no other fold.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict

    forest = ExtraTreesClassifier(_TREES, min_samples_leaf=_LEAF, class_weight="balanced", random_state=seed, n_jobs=1)
    y, division = labels.loc[features.index], PredefinedSplit(folds.loc[features.index])
    shares = cross_val_predict(forest, features.to_numpy(), y, cv=division, method="predict_proba")
    answers = pd.DataFrame(shares, features.index, [CLASSES[label - 1] for label in np.unique(y)])
    return answers.reindex(columns=list(CLASSES), fill_value=0.0).sort_index().rename_axis("photo")


def answer_published(data: DataSet) -> pd.DataFrame:
    """Answer about every published photo out of fold, once in each repeat of the recorded folds (`splits.REPEATS`).

    A row per repeat and photo: ``repeat``, ``photo``, and a probability per class. Raises `BadDataError` if a photo
    cannot be read.
    """
    photos = read_splits().query("split != 'TEST_SIMPLE'").drop_duplicates("photo").set_index("photo").sort_index()
    rows = map_in_threads(lambda photo: measure(read_image(data.photo_path(photo))), photos.index.tolist())
    features = pd.DataFrame(list(rows), photos.index)
    labels = photos["class"].map(LABELS)
    parts = [
        answer_out_of_fold(features, labels, photos[f"fold_{name}"], seed).reset_index().assign(repeat=seed)
        for seed, name in enumerate(REPEATS)
    ]
    return pd.concat(parts, ignore_index=True)[list(_COLUMNS)]


def write_recorded(answers: pd.DataFrame) -> Path:
    """Record answers: ``repeat``, ``photo`` and a probability per class."""
    return RECORDED.write(answers.round(4))


def read_recorded(labels: pd.Series) -> list[Predictions]:
    """Read the recorded answers about photos whose `labels`, 1 to 4, are given by photo, those of each repeat."""
    table = RECORDED.read().set_index("photo")
    shares = [repeat.loc[labels.index, list(CLASSES)].to_numpy() for _, repeat in table.groupby("repeat")]
    # No tree names the output that belongs to no class.
    return [
        Predictions.from_probabilities(labels.to_numpy(), np.insert(share, 0, 0, axis=1), labels.index.to_numpy())
        for share in shares
    ]


def _describe_colours(lab: NDArray[np.floating], parts: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    found: dict[str, float] = {}
    for part, mask in parts.items():
        pixels = lab[mask] if mask.any() else np.zeros((1, 3))
        numbers = [pixels.mean(axis=0), pixels.std(axis=0), *np.percentile(pixels, [10, 50, 90], axis=0)]
        for statistic, of_channel in zip(_STATISTICS, numbers, strict=True):
            found |= {f"{part} {c} {statistic}": float(v) for c, v in zip("Lab", of_channel, strict=True)}
    return found


def _describe_shape(nucleus: NDArray[np.uint8]) -> dict[str, float]:
    outlines = cv2.findContours(nucleus, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)[0]
    points = np.concatenate(list(outlines))
    hull = cv2.convexHull(points)
    area, around = float(nucleus.sum()), sum(cv2.arcLength(outline, True) for outline in outlines)
    _, (width, height), _ = cv2.minAreaRect(points)
    hu = cv2.HuMoments(cv2.moments(nucleus, binaryImage=True)).ravel()
    found = {
        "area": area / RED_CELL**2,
        "perimeter": around / RED_CELL,
        "roundness": 4 * np.pi * area / max(around, 1.0) ** 2,
        "solidity": area / max(cv2.contourArea(hull), 1.0),
        "elongation": max(width, height) / max(min(width, height), 1.0),
        "thickness": float(cv2.distanceTransform(nucleus, cv2.DIST_L2, 5).max()) / RED_CELL,
        "pieces": float(len(outlines)),
    }
    for width in _OPENINGS:
        opened = cv2.morphologyEx(nucleus, cv2.MORPH_OPEN, disc(width * RED_CELL))
        found[f"lobes at {width}"] = float(cv2.connectedComponents(opened)[0] - 1)
        found[f"left at {width}"] = float(opened.sum()) / area
    return found | {f"Hu {i}": float(np.sign(h) * np.log1p(1e6 * abs(h))) for i, h in enumerate(hu, start=1)}


def _describe_texture(grey: NDArray[np.uint8], parts: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    # Local binary patterns of eight neighbours, uniform and whichever way they are turned (Ojala et al. 2002).
    found: dict[str, float] = {}
    for distance in _DISTANCES:
        patterns = _local_patterns(grey, distance * RED_CELL)
        for part, mask in parts.items():
            counts = np.bincount(patterns[mask], minlength=10)
            for i, share in enumerate(counts / max(counts.sum(), 1)):
                found[f"{part} pattern {i} at {distance}"] = float(share)
    return found


def _local_patterns(grey: NDArray[np.uint8], radius: float) -> NDArray[np.int64]:
    # Of each pixel how many neighbours are no darker, 0 to 8, or 9 if these are not next to each other.
    height, width = grey.shape
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    brighter = []
    for angle in np.arange(8) * np.pi / 4:
        places = (columns + np.float32(radius * np.cos(angle)), rows + np.float32(radius * np.sin(angle)))
        moved = cv2.remap(grey.astype(np.float32), *places, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        brighter.append(moved >= grey)
    ring = np.array(brighter)
    changes = (ring != np.roll(ring, 1, axis=0)).sum(axis=0)
    return np.where(changes <= 2, ring.sum(axis=0), 9)
