"""What recorded networks look at: measured once for each run, on TEST and on validation images, and recorded.

``python -m wbc_lib.attention.measure [DATA]`` records it for every run of the final model in ``results/`` that lacks
it.
"""

import gzip
import io
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

from wbc_lib import paths, progress
from wbc_lib.attention import gradcam, occlusion
from wbc_lib.attention.occlusion import COVERS, FILLS
from wbc_lib.data import dataset
from wbc_lib.data.dataset import PHOTO_SIZE, DataSet
from wbc_lib.data.hashes import read_manifest
from wbc_lib.data.images import load_images
from wbc_lib.errors import RunError
from wbc_lib.provenance import trace
from wbc_lib.provenance.boxes import cell_masks, white_cells
from wbc_lib.training.runs import Run, Store
from wbc_lib.training.study import Study
from wbc_lib.training.verify import LOGIT_TOLERANCE

#: Raise it whenever the same run may give other tables than before, so that recorded ones are made anew.
METHOD = 1
#: Times that weights are drawn anew at each depth of the check of the maps themselves.
DRAWS = 5
#: A box that ends this near the photo's edge, in pixels of 640x480, is of a cell that the edge cuts.
_EDGE = 2
#: What a run is asked about; TEST comes last, for its maps are looked into.
_PARTS = ("validation", "test")

_OF_COVERED = {"p": float, "as": int}
_IMAGES = {
    "part": str,
    "image": str,
    "photo": int,
    "label": int,
    "predicted": int,
    "is_cut": bool,
    "area": float,
    "even": float,
    "share": float,
    "share_true": float,
    "by_position": float,
    "p": float,
    **{f"{value}_{cover}_{fill}": kind for cover in COVERS for fill in FILLS for value, kind in _OF_COVERED.items()},
}
#: Of the table of maps, before the values.
_KEYS = ["image", "of"]
_RANDOMISED = {"layers": int, "draw": int, "photo": int, "correlation": float, "share": float}

if TYPE_CHECKING:
    import keras

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class Attention:
    """What one run looks at.

    Attributes
    ----------
    run : str
        Its name.
    images : DataFrame
        A row per image in which some of the white cell's box is to be seen: ``part`` ("test" or "validation"),
        ``image``, ``photo``, ``label`` and ``predicted`` (1 to 4, and 0 for none); ``is_cut``, whether the edge of the
        photo cuts the box; shares of the image, 0 to 1: ``area`` of the box, and how much of the attention lies inside
        it: ``even`` (of an even map), ``share`` (of Grad-CAM for the predicted class), ``share_true`` (for the true
        one) and ``by_position`` (of HiResCAM for the predicted one), NaN where a map is empty; ``p``, the probability
        of the true class. Then, for each of `occlusion.COVERS` and `occlusion.FILLS`, that probability
        (``p_cell_grey``) and the predicted label (``as_cell_grey``) with a part painted over; NaN and -1 where there
        was no room for it.
    randomised : DataFrame
        A row per number of topmost ``layers`` drawn anew, ``draw`` and ``photo`` of TEST (its first image): the rank
        ``correlation`` of the map for the true class with the trained network's, and the map's ``share`` in the box.
    maps : DataFrame
        Indexed by ``image`` and ``of`` ("predicted" or "true"): Grad-CAM maps of the images above and of those that
        `choose` chooses, row by row, the highest value of each 1.
    """

    run: str
    images: pd.DataFrame
    randomised: pd.DataFrame
    maps: pd.DataFrame


def measure(run: Run, data: DataSet, on_progress: OnProgress | None = None) -> Attention:
    """Measure what a run looks at.

    Parameters
    ----------
    run : Run
        With weights, trained on the augmented images of `data` as they are.
    data : DataSet
    on_progress : callable, optional
        Called with (steps done, steps in all).

    Raises
    ------
    RunError
        If the run has no weights or no convolution of its own, was made of other data or of other images, or its
        recorded predictions do not come out again.
    """
    n_layers = len(run.weights()) // 2
    tick = _count_steps(len(_PARTS) * (3 + len(COVERS) * len(FILLS)) + n_layers * DRAWS, on_progress)
    model = gradcam.rebuild(run)
    tables = []
    for part in _PARTS:
        scene = _gather(run, part, data)
        images, maps, maps_true = _look(run, model, scene, tick)
        images = images.join(_cover(model, scene, tick)).round(4)
        tables.append(images)
    sample = np.sort(np.unique(images.photo, return_index=True)[1])
    randomised = _randomise(run, scene, sample, maps_true[sample], tick)
    kept = np.union1d(sample, choose(images).row)
    flat = [_flatten(images.image[kept], of, some[kept]) for of, some in (("predicted", maps), ("true", maps_true))]
    return Attention(run.name, pd.concat(tables, ignore_index=True), randomised.round(4), pd.concat(flat))


@dataclass(frozen=True)
class _Scene:
    # Images as one network meets them: an entry of each per image.
    part: str
    pixels: NDArray[np.uint8]
    labels: NDArray[np.integer]
    logits: NDArray[np.float32]
    masks: NDArray[np.bool_]
    origin: pd.DataFrame
    is_cut: NDArray[np.bool_]
    convolutions: int


def _gather(run: Run, part: str, data: DataSet) -> _Scene:
    config = run.record["config"]
    if config["data_sha256"] != read_manifest(data).sha256:
        raise RunError(f"{run.name} was made of other data than {data.root}; name the right folder with --data.")
    if config["material"] != "augmented" or config.get("protocol", "random").startswith("fold-"):
        raise RunError(f"{run.name} is not scored on the images of TEST as they are; choose a run such as `final`'s.")
    shape = tuple(config["input_shape"])
    images, origin, boxes = load_images(data, shape), trace.read(data), white_cells(data)
    rows = np.flatnonzero(images.index.image.isin(run.names(part)))
    masks = cell_masks(origin.iloc[rows], boxes, shape)
    rows, masks = rows[masks.any(axis=(1, 2))], masks[masks.any(axis=(1, 2))]
    origin = origin.iloc[rows].reset_index(drop=True)
    logits = pd.DataFrame(run.logits(part), index=run.names(part)).loc[origin.image].to_numpy()
    return _Scene(
        part,
        np.array(images.pixels[rows]),
        images.index.label.to_numpy()[rows],
        logits,
        masks,
        origin,
        origin.photo.isin(_cut_by_edge(boxes)).to_numpy(),
        len(gradcam.read_network(run).convolutions),
    )


def _cut_by_edge(boxes: pd.DataFrame) -> NDArray[np.int64]:
    # Photos with a box that ends at the photo's edge.
    width, height = PHOTO_SIZE
    at_start = (boxes[["xmin", "ymin"]] <= _EDGE).any(axis=1)
    return boxes.photo[at_start | (boxes.xmax >= width - _EDGE) | (boxes.ymax >= height - _EDGE)].unique()


def _look(
    run: Run, model: "keras.Model", scene: _Scene, tick: Callable[[], None]
) -> tuple[pd.DataFrame, NDArray[np.float32], NDArray[np.float32]]:
    from wbc_lib.training.fit import predict

    logits = predict(model, scene.pixels)
    if np.abs(logits - scene.logits).max() > LOGIT_TOLERANCE:
        raise RunError(f"The predictions recorded of {run.name} do not come out here; see `wbc runs verify`.")
    tick()
    predicted, reached = logits.argmax(axis=1), gradcam.reach(scene.masks, scene.convolutions)
    maps, by_position = gradcam.look(model, scene.pixels, predicted)
    tick()
    maps_true, _ = gradcam.look(model, scene.pixels, scene.labels)
    tick()
    images = {
        "part": scene.part,
        "image": scene.origin.image,
        "photo": scene.origin.photo,
        "label": scene.labels,
        "predicted": predicted,
        "is_cut": scene.is_cut,
        "area": scene.masks.mean(axis=(1, 2)),
        "even": reached[:, gradcam.is_pooled(maps.shape[1:])].mean(axis=1),
        "share": gradcam.share_inside(maps, reached),
        "share_true": gradcam.share_inside(maps_true, reached),
        "by_position": gradcam.share_inside(by_position, reached),
        "p": _probability(logits, scene.labels),
    }
    return pd.DataFrame(images), maps, maps_true


def _cover(model: "keras.Model", scene: _Scene, tick: Callable[[], None]) -> pd.DataFrame:
    from wbc_lib.training.fit import predict

    shape = scene.masks.shape[1:]
    photo, seen = occlusion.photo_masks(scene.origin, shape), gradcam.seen(shape, scene.convolutions)
    masks, colours = occlusion.cover(scene.pixels, scene.masks, photo, seen)
    columns = {}
    for cover, mask in masks.items():
        has_room = mask.any(axis=(1, 2))
        for fill, colour in colours.items():
            logits = predict(model, occlusion.paint(scene.pixels, mask, colour))
            columns[f"p_{cover}_{fill}"] = np.where(has_room, _probability(logits, scene.labels), np.nan)
            columns[f"as_{cover}_{fill}"] = np.where(has_room, logits.argmax(axis=1), -1)
            tick()
    return pd.DataFrame(columns)


def _randomise(
    run: Run, scene: _Scene, sample: NDArray[np.integer], maps: NDArray[np.float32], tick: Callable[[], None]
) -> pd.DataFrame:
    reached = gradcam.reach(scene.masks[sample], scene.convolutions)
    photo = scene.origin.photo.to_numpy()[sample]

    def compare(layers: int, draw: int, others: NDArray[np.float32]) -> pd.DataFrame:
        both = {"correlation": gradcam.correlate(maps, others), "share": gradcam.share_inside(others, reached)}
        return pd.DataFrame({"layers": layers, "draw": draw, "photo": photo, **both})

    tables = [compare(0, 0, maps)]
    for layers in range(1, len(run.weights()) // 2 + 1):
        for draw in range(DRAWS):
            strange = gradcam.randomise(run, layers, draw)
            others, _ = gradcam.look(strange, scene.pixels[sample], scene.labels[sample])
            tables.append(compare(layers, draw, others))
            tick()
    return pd.concat(tables, ignore_index=True)


def _flatten(images: pd.Series, of: str, maps: NDArray[np.float32]) -> pd.DataFrame:
    highest = np.maximum(maps.max(axis=(1, 2), keepdims=True), np.finfo(np.float32).tiny)
    values = np.round(maps / highest, 3).reshape(len(maps), -1).astype(float)
    columns = [f"{row}/{column}" for row, column in np.ndindex(maps.shape[1:])]
    return pd.DataFrame(values, pd.MultiIndex.from_product([images, [of]], names=_KEYS), columns)


def _probability(logits: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=float)
    return powers[np.arange(len(labels)), labels] / powers.sum(axis=1)


def _count_steps(total: int, on_progress: OnProgress | None) -> Callable[[], None]:
    steps = iter(range(1, total + 1))
    return lambda: on_progress(next(steps), total) if on_progress else None


def choose(images: pd.DataFrame) -> pd.DataFrame:
    """Choose an image of each class that is predicted right and one that is predicted wrong, to be shown.

    Each is the one whose share of attention inside the box is the median of its kind, so that neither the best nor
    the worst is shown.

    Parameters
    ----------
    images : DataFrame
        As in `Attention`.

    Returns
    -------
    DataFrame
        ``row`` of `images`, ``label`` and ``is_right``; a class that lacks one kind lacks its row.
    """
    kinds = images.assign(is_right=images.label == images.predicted, row=np.arange(len(images)))
    ordered = kinds.dropna(subset="share").sort_values(["share", "row"])
    chosen = ordered.groupby(["label", "is_right"]).row.agg(lambda rows: rows.iloc[(len(rows) - 1) // 2])
    return chosen.reset_index()[["row", "label", "is_right"]]


def unflatten(maps: pd.DataFrame) -> NDArray[np.float64]:
    """The maps of some rows of `Attention.maps`, shape (maps, rows, columns)."""
    rows, columns = (int(n) + 1 for n in maps.columns[-1].split("/"))
    return maps.to_numpy().reshape(len(maps), rows, columns)


def folder() -> Path:
    """Where measurements are recorded in the project."""
    return paths.results() / "attention"


def write(found: Attention, run: Run, target: Path) -> None:
    """Write a measurement into a folder, a file per table; the same tables give the same bytes."""
    head = json.dumps({"key": run.key, "method": METHOD})
    for part in fields(Attention)[1:]:
        table = getattr(found, part.name)
        text = f"# {head}\n" + table.to_csv(index=part.name == "maps", lineterminator="\n")
        with paths.written_whole(_path(run, part.name, target)) as temporary:
            temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def _path(run: Run, part: str, place: Path) -> Path:
    return place / f"{run.name}-{part}.csv.gz"


def read(run: Run, place: Path) -> Attention | None:
    """Read the measurement of a run from a folder; ``None`` if there is none of this run by this method.

    Raises
    ------
    RunError
        If a file is damaged.
    """
    tables = [_read_table(run, part.name, place) for part in fields(Attention)[1:]]
    return None if any(table is None for table in tables) else Attention(run.name, *tables)


def _read_table(run: Run, part: str, place: Path) -> pd.DataFrame | None:
    path = _path(run, part, place)
    try:
        head, _, text = gzip.decompress(path.read_bytes()).decode().partition("\n")
        if json.loads(head.removeprefix("# ")) != {"key": run.key, "method": METHOD}:
            return None
        table = pd.read_csv(io.StringIO(text), float_precision="round_trip")
        if part == "maps":
            return table.set_index(_KEYS).astype(float)
        kinds = _IMAGES if part == "images" else _RANDOMISED
        return table[list(kinds)].astype(kinds)
    except FileNotFoundError:
        return None
    except (OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        remedy = "restore it from the repository, or delete it and run `python -m wbc_lib.attention.measure`"
        raise RunError(f"{path} is damaged ({type(error).__name__}); {remedy}.") from error


def read_or_measure(study: Study, name: str = "final") -> list[Attention]:
    """What the runs of an experiment look at: as recorded, as measured before, or measured now (half a minute each).

    Returns
    -------
    list of Attention
        By seed; runs that are not measured, and cannot be since their weights or photos are not here, are left out.
    """
    found = []
    for run in study.runs(name, optional=True):
        places = (folder(), paths.cache() / "attention")
        known = next((known for place in places if (known := read(run, place))), None)
        if known is None and not study.results_of and _has_weights(run):
            with progress.bar(f"{run.name}: what it looks at") as on_progress:
                known = measure(run, study.data, on_progress)
            write(known, run, places[1])
        if known is not None:
            found.append(known)
    return found


def _has_weights(run: Run) -> bool:
    return "weights.npz" in run.record["files"]


def record(data: DataSet) -> list[str]:
    """Measure and record every run of the final model in ``results/`` that is of this data and is not measured yet.

    Returns
    -------
    list of str
        Names of the runs that were measured now.
    """
    sha256, done = read_manifest(data).sha256, []
    for run in Store(paths.results()).read_all("final"):
        is_wanted = run.record["experiment"] == "final" and run.record["config"]["data_sha256"] == sha256
        if is_wanted and _has_weights(run) and read(run, folder()) is None:
            with progress.bar(f"{run.name}: what it looks at") as on_progress:
                write(measure(run, data, on_progress), run, folder())
            done.append(run.name)
    return done


if __name__ == "__main__":
    for name in record(dataset.find(sys.argv[1] if len(sys.argv) > 1 else None)):
        progress.console.print(f"{name}: recorded")
