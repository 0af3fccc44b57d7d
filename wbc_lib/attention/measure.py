"""What recorded networks look at: measured once for each run, on TEST and on validation images, and recorded.

``python -m wbc_lib.attention.measure [DATA]`` records it for every run of the final model in ``results/`` that lacks
it.
"""

import gzip
import io
import itertools
import json
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import softmax

from wbc_lib import paths, progress
from wbc_lib.attention import saliency
from wbc_lib.attention.saliency import COVERS, FILLS
from wbc_lib.data import dataset
from wbc_lib.data.dataset import PHOTO_SIZE, DataSet
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import OnProgress, load_images
from wbc_lib.errors import RunError
from wbc_lib.provenance import trace
from wbc_lib.provenance.boxes import cell_masks, white_cells
from wbc_lib.training.runs import Run, Store
from wbc_lib.training.study import Study
from wbc_lib.training.verify import LOGIT_TOLERANCE

if TYPE_CHECKING:
    import keras

#: Raise it whenever the same run may give other tables than before, so that recorded ones are made anew.
METHOD = 1
#: Times that weights are drawn anew at each depth of the check of the maps themselves.
DRAWS = 5
#: A box that ends this near the photo's edge, in pixels of 640x480, is of a cell that the edge cuts.
_EDGE = 2
#: TEST comes last: its maps are kept.
_PARTS = ("validation", "test")


@dataclass(frozen=True)
class Attention:
    """What one run looks at."""

    # A row per image in which some of the white cell's box is to be seen: ``part`` ("test" or "validation"), ``image``,
    # ``photo``, ``label`` and ``predicted`` (1 to 4, and 0 for none); ``is_cut``, whether the photo's edge cuts the
    # box; shares of the image, 0 to 1: ``area`` of the box, and how much of the attention lies inside it: ``even`` (of
    # an even map), ``share`` (of Grad-CAM for the predicted class), ``share_true`` (for the true one), ``by_position``
    # (of HiResCAM for the predicted one), NaN where a map is empty; ``p``, the probability of the true class. For each
    # of `COVERS` and `FILLS` that probability (``p_cell_grey``) and the predicted label (``as_cell_grey``) with a part
    # painted over; NaN and -1 where there was no room for it.
    images: pd.DataFrame
    # A row per number of topmost ``layers`` drawn anew, ``draw`` and ``photo`` of TEST (its first image): the rank
    # ``correlation`` of the map for the true class with the trained network's, and the map's ``share`` in the box.
    randomised: pd.DataFrame
    # By ``image`` and ``of`` ("predicted" or "true"): Grad-CAM maps of the images above and of those that `choose`
    # chooses, row by row, the highest value of each 1.
    maps: pd.DataFrame


def measure(run: Run, data: DataSet, on_progress: OnProgress) -> Attention:
    """Measure what a run looks at, on the augmented images that it was trained on.

    Raises `RunError` if the run has no weights or no convolution of its own, was made of other data or of other images,
    or its recorded predictions do not come out again.
    """
    n_layers = len(run.weights()) // 2
    total, steps = len(_PARTS) * (3 + len(COVERS) * len(FILLS)) + n_layers * DRAWS, itertools.count(1)

    def tick() -> None:
        on_progress(next(steps), total)

    model = saliency.rebuild(run)
    tables = []
    for part in _PARTS:
        inputs = _load(run, part, data)
        images, maps, maps_true = _measure_maps(run, model, inputs, tick)
        images = images.join(_measure_covers(model, inputs, tick)).round(4)
        tables.append(images)
    sample = np.sort(np.unique(images.photo, return_index=True)[1])
    randomised = _measure_randomised(run, inputs, sample, maps_true[sample], tick)
    kept = np.union1d(sample, choose(images).row)
    flat = [_flatten(images.image[kept], of, m[kept]) for of, m in (("predicted", maps), ("true", maps_true))]
    return Attention(pd.concat(tables, ignore_index=True), randomised.round(4), pd.concat(flat))


@dataclass(frozen=True)
class _Inputs:
    # Images as one network meets them: an entry of each per image.
    part: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer]
    logits: NDArray[np.float32]
    masks: NDArray[np.bool_]
    origin: pd.DataFrame
    is_cut: NDArray[np.bool_]
    convolutions: int


def _load(run: Run, part: str, data: DataSet) -> _Inputs:
    config = run.record["config"]
    if config["data_sha256"] != read_checksums(data).sha256:
        raise RunError(f"{run.name} was made of other data than {data.root}; name the right folder with --data.")
    if config["material"] != "augmented" or config.get("protocol", "random").startswith("fold-"):
        raise RunError(f"{run.name} is not scored on the images of TEST as they are; choose a run such as `final`'s.")
    height, width = config["input_shape"]
    images, origin, boxes = load_images(data, (height, width)), trace.read(data), white_cells(data)
    rows = np.flatnonzero(images.index.image.isin(run.names(part)))
    masks = cell_masks(origin.iloc[rows], boxes, (height, width))
    rows, masks = rows[masks.any(axis=(1, 2))], masks[masks.any(axis=(1, 2))]
    origin = origin.iloc[rows].reset_index(drop=True)
    return _Inputs(
        part,
        np.array(images.pixels[rows]),
        images.index.label.to_numpy()[rows],
        pd.DataFrame(run.logits(part), index=run.names(part)).loc[origin.image].to_numpy(),
        masks,
        origin,
        origin.photo.isin(_cut_by_edge(boxes)).to_numpy(),
        len(run.plan.experiment.network.convolutions),
    )


def _cut_by_edge(boxes: pd.DataFrame) -> NDArray[np.int64]:
    # Photos with a box that ends at the photo's edge.
    width, height = PHOTO_SIZE
    at_start = (boxes[["xmin", "ymin"]] <= _EDGE).any(axis=1)
    return boxes.photo[at_start | (boxes.xmax >= width - _EDGE) | (boxes.ymax >= height - _EDGE)].unique()


def _measure_maps(
    run: Run, model: "keras.Model", inputs: _Inputs, tick: Callable[[], None]
) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float32]]:
    from wbc_lib.training.fit import predict

    logits = predict(model, inputs.pixels)
    if np.abs(logits - inputs.logits).max() > LOGIT_TOLERANCE:
        raise RunError(f"The predictions recorded of {run.name} do not come out here; see `wbc runs verify`.")
    tick()
    predicted, inside = logits.argmax(axis=1), saliency.downsample_masks(inputs.masks, inputs.convolutions)
    maps, by_position = saliency.compute_maps(model, inputs.pixels, predicted)
    tick()
    maps_true, _ = saliency.compute_maps(model, inputs.pixels, inputs.labels)
    tick()
    images = {
        "part": inputs.part,
        "image": inputs.origin.image,
        "photo": inputs.origin.photo,
        "label": inputs.labels,
        "predicted": predicted,
        "is_cut": inputs.is_cut,
        "area": inputs.masks.mean(axis=(1, 2)),
        "even": inside[:, saliency.is_pooled(maps.shape[1:])].mean(axis=1),
        "share": saliency.share_inside(maps, inside),
        "share_true": saliency.share_inside(maps_true, inside),
        "by_position": saliency.share_inside(by_position, inside),
        "p": _probability(logits, inputs.labels),
    }
    return pd.DataFrame(images), maps, maps_true


def _measure_covers(model: "keras.Model", inputs: _Inputs, tick: Callable[[], None]) -> pd.DataFrame:
    from wbc_lib.training.fit import predict

    height, width = inputs.masks.shape[1:]
    photo = saliency.photo_masks(inputs.origin, (height, width))
    used = saliency.used_pixels((height, width), inputs.convolutions)
    masks, colours = saliency.cover(inputs.pixels, inputs.masks, photo, used)
    columns = {}
    for cover, mask in masks.items():
        has_room = mask.any(axis=(1, 2))
        for fill, colour in colours.items():
            logits = predict(model, saliency.paint(inputs.pixels, mask, colour))
            columns[f"p_{cover}_{fill}"] = np.where(has_room, _probability(logits, inputs.labels), np.nan)
            columns[f"as_{cover}_{fill}"] = np.where(has_room, logits.argmax(axis=1), -1)
            tick()
    return pd.DataFrame(columns)


def _probability(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    return softmax(logits.astype(float), axis=1)[np.arange(len(labels)), labels]


def _measure_randomised(
    run: Run, inputs: _Inputs, sample: NDArray[np.integer], maps: NDArray[np.float32], tick: Callable[[], None]
) -> pd.DataFrame:
    inside = saliency.downsample_masks(inputs.masks[sample], inputs.convolutions)
    photo = inputs.origin.photo.to_numpy()[sample]

    def compare(layers: int, draw: int, others: NDArray[np.float32]) -> pd.DataFrame:
        columns = {"correlation": saliency.correlate(maps, others), "share": saliency.share_inside(others, inside)}
        return pd.DataFrame({"layers": layers, "draw": draw, "photo": photo, **columns})

    tables = [compare(0, 0, maps)]
    for layers in range(1, len(run.weights()) // 2 + 1):
        for draw in range(DRAWS):
            model = saliency.randomise(run, layers, draw)
            others, _ = saliency.compute_maps(model, inputs.pixels[sample], inputs.labels[sample])
            tables.append(compare(layers, draw, others))
            tick()
    return pd.concat(tables, ignore_index=True)


def choose(images: pd.DataFrame) -> pd.DataFrame:
    """Choose an image of each class that is predicted right and one that is predicted wrong, to be shown.

    Each is the one whose share of attention inside the box is the median of its kind, so that neither the best nor
    the worst is shown. Returns ``row`` of `images`, ``label`` and ``is_right``; a class that lacks one kind lacks its
    row.
    """
    kinds = images.assign(is_right=images.label == images.predicted, row=np.arange(len(images)))
    ordered = kinds.dropna(subset="share").sort_values(["share", "row"])
    chosen = ordered.groupby(["label", "is_right"]).row.agg(lambda rows: rows.iloc[(len(rows) - 1) // 2])
    return chosen.reset_index()[["row", "label", "is_right"]]


def _flatten(images: pd.Series, of: str, maps: NDArray[np.float32]) -> pd.DataFrame:
    highest = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    values = np.round(maps / highest, 3).reshape(len(maps), -1).astype(float)
    columns = [f"{row}/{column}" for row, column in np.ndindex(maps.shape[1:])]
    return pd.DataFrame(values, pd.MultiIndex.from_product([images, [of]], names=["image", "of"]), columns)


def unflatten(maps: pd.DataFrame) -> NDArray[np.float64]:
    """The maps of some rows of `Attention.maps`, shape (maps, rows, columns)."""
    rows, columns = (int(n) + 1 for n in maps.columns[-1].split("/"))
    return maps.to_numpy().reshape(len(maps), rows, columns)


def folder() -> Path:
    """Where measurements are recorded in the project."""
    return paths.results() / "attention"


def write(attention: Attention, run: Run, target: Path) -> None:
    """Write a measurement into a folder, a file per table; the same tables give the same bytes."""
    head = json.dumps({"key": run.key, "method": METHOD})
    for part in fields(Attention):
        table = getattr(attention, part.name)
        text = f"# {head}\n" + table.to_csv(index=part.name == "maps", lineterminator="\n")
        with paths.written_whole(_path(run, part.name, target)) as temporary:
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def _path(run: Run, part: str, source: Path) -> Path:
    return source / f"{run.name}-{part}.csv.gz"


def read(run: Run, source: Path) -> Attention | None:
    """Read a run's measurement from a folder; ``None`` if there is none by this method, `RunError` if it is damaged."""
    tables = [_read_table(run, part.name, source) for part in fields(Attention)]
    return None if any(table is None for table in tables) else Attention(*tables)


def _read_table(run: Run, part: str, source: Path) -> pd.DataFrame | None:
    path = _path(run, part, source)
    try:
        head, _, text = gzip.decompress(path.read_bytes()).decode().partition("\n")
        if json.loads(head.removeprefix("# ")) != {"key": run.key, "method": METHOD}:
            return None
        table = pd.read_csv(io.StringIO(text), float_precision="round_trip")
        return table.set_index(["image", "of"]).astype(float) if part == "maps" else table
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        remedy = "restore it from the repository, or delete it and run `python -m wbc_lib.attention.measure`"
        raise RunError(f"{path} is damaged ({type(error).__name__}); {remedy}.") from error


def read_or_measure(study: Study, name: str = "final") -> list[Attention]:
    """What the runs of an experiment look at: as recorded, as measured before, or measured now (half a minute each).

    By seed; runs that are not measured, and cannot be since their weights or photos are not here, are left out. Raises
    `RunError` if no run is left.
    """
    measured = []
    cache = paths.cache() / "attention"
    for run in study.runs(name, optional=True):
        attention = read(run, folder()) or read(run, cache)
        if attention is None and not study.results_of and _has_weights(run):
            attention = _measure_into(run, study.data, cache)
        if attention is not None:
            measured.append(attention)
    if not measured:
        raise RunError(f"What `{name}` looks at is not recorded, and no run of it is here whole; see `wbc train`.")
    return measured


def record(data: DataSet) -> list[str]:
    """Measure and record the final model's runs in ``results/`` of this data that lack it; gives their names."""
    sha256, names = read_checksums(data).sha256, []
    for run in Store(paths.results()).read_all("final"):
        is_final = run.record["experiment"] == "final" and run.record["config"]["data_sha256"] == sha256
        if is_final and _has_weights(run) and read(run, folder()) is None:
            _measure_into(run, data, folder())
            names.append(run.name)
    return names


def _has_weights(run: Run) -> bool:
    return "weights.npz" in run.record["files"]


def _measure_into(run: Run, data: DataSet, target: Path) -> Attention:
    with progress.bar(f"{run.name}: what it looks at") as on_progress:
        attention = measure(run, data, on_progress)
    write(attention, run, target)
    return attention


if __name__ == "__main__":
    for name in record(dataset.find(sys.argv[1] if len(sys.argv) > 1 else None)):
        progress.say(f"{name}: recorded")
