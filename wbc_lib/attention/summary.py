"""Measurements of attention summarised: tables with intervals, and pictures with their maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.attention import saliency
from wbc_lib.attention.measure import Attention, choose, unflatten
from wbc_lib.attention.saliency import COVERS
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.images import INPUT_SHAPE, read_image
from wbc_lib.evaluation.comparison import average_classes
from wbc_lib.evaluation.intervals import UNKNOWN, Interval
from wbc_lib.provenance import trace
from wbc_lib.provenance.boxes import carry_boxes, cell_masks, white_cells
from wbc_lib.training.plan import Network
from wbc_lib.training.study import Study

#: The images with nothing painted over, and all of their classes.
UNCHANGED = "unchanged"
ALL = "all classes"


def average(values: ArrayLike, images: pd.DataFrame, *, equally: bool = False) -> Interval:
    """Average over images, classes counting alike, with its interval over photos (see `average_classes`).

    `images` have ``photo`` and ``label``. NaN are left out; of nothing else the average is unknown. If `equally`, each
    photo counts once, by the mean of its images, rather than each image.
    """
    known = images[["photo", "label"]].assign(value=np.asarray(values, float)).dropna()
    if known.empty:
        return UNKNOWN
    photos = known.groupby("photo").agg(total=("value", "sum"), n=("value", "size"), label=("label", "first"))
    if equally:
        photos = photos.assign(total=photos.total / photos.n, n=1)
    return average_classes(photos.total, photos.n, photos.label)


def _within_range(share: Interval) -> Interval:
    return Interval(share.estimate, max(0.0, share.low), min(1.0, share.high))


def tabulate_shares(images: pd.DataFrame, n_runs: int) -> pd.DataFrame:
    """How much of the attention lies inside the cells' boxes, by class, for right and wrong predictions.

    Takes images as of `Attention.images`, of so many runs, with ``is_right``. A row per class and kind ("right",
    "wrong") that there is: ``images`` (mean over runs), ``photos``; averages in which each photo counts once, 0 to 1:
    ``area`` of the box, ``even`` (an even map's share inside it), ``share`` with its interval ``low`` to ``high`` (NaN
    for a single photo), ``share_true`` and ``by_position``; and ``times``, ``share`` over ``even``.
    """
    rows = {}
    for (label, is_right), kind in images.groupby(["label", "is_right"]):
        photos = kind.groupby("photo")
        share = _within_range(average(kind.share, kind, equally=True))
        means = {c: photos[c].mean().mean() for c in ("area", "even", "share_true", "by_position")}
        rows[CLASSES[label - 1], "right" if is_right else "wrong"] = {
            "images": len(kind) / n_runs,
            "photos": len(photos),
            **means,
            "share": share.estimate,
            "low": share.low if len(photos) > 1 else np.nan,
            "high": share.high if len(photos) > 1 else np.nan,
            "times": share.estimate / means["even"] if means["even"] else np.nan,
        }
    index = pd.MultiIndex.from_tuples(rows, names=["cell", "kind"])
    return pd.DataFrame(list(rows.values()), index).sort_index(
        key=lambda level: level.map([*CLASSES, "right", "wrong"].index)
    )


def format_shares(table: pd.DataFrame) -> pd.DataFrame:
    """`tabulate_shares` for readers: a row per class and kind, shares as percentages."""
    percent = "{:.0%}".format
    is_wrong = table.index.get_level_values("kind") == "wrong"
    return pd.DataFrame(
        {
            "images": table.images.map("{:,.0f}".format),
            "photos": table.photos,
            "box": table.area.map(percent),
            "spread evenly": table.even.map(percent),
            "attention": table.share.map(percent),
            "interval": (table.low.map(percent) + " to " + table.high.map(percent)).mask(table.low.isna(), "one photo"),
            "times": table.times.map("{:.1f}".format),
            "by position": table.by_position.map(percent),
            "for the true class": table.share_true.map(percent).where(is_wrong, "–"),
        }
    ).set_axis([f"{cell.capitalize()}, {kind}" for cell, kind in table.index])


def mean_by_photo(images: pd.DataFrame) -> pd.DataFrame:
    """``share`` of each photo and kind of prediction, mean over its images, with ``cell`` and ``is_right``."""
    known = images.dropna(subset="share")
    table = known.groupby(["photo", "label", "is_right"], as_index=False).share.mean()
    return table.assign(cell=np.array(CLASSES)[table.label - 1])


def tabulate_covered(images: pd.DataFrame, fill: str, n_runs: int) -> pd.DataFrame:
    """Accuracy with parts painted over in one of `FILLS`, on the images that have room for all of them.

    Takes what `tabulate_shares` does. A row per class (and `ALL`) and cover (`UNCHANGED`, then the values of `COVERS`):
    ``images`` (mean over runs), ``accuracy`` with ``low`` and ``high``, and ``loss`` against the unchanged images with
    ``loss_low`` and ``loss_high``; 0 to 1. In `ALL` the classes count alike.
    """
    images = images[_have_room(images)]
    rows = {}
    parts = {cell: images[images.label == label] for label, cell in enumerate(CLASSES, 1)} | {ALL: images}
    for cell, part in parts.items():
        for title, predicted in _predictions(part, fill).items():
            is_right = (predicted == part.label).astype(float)
            accuracy, loss = _within_range(average(is_right, part)), average(part.is_right - is_right, part)
            rows[cell, title] = [len(part) / n_runs, *vars(accuracy).values(), *vars(loss).values()]
    index = pd.MultiIndex.from_tuples(rows, names=["cell", "cover"])
    return pd.DataFrame(
        list(rows.values()), index, ["images", "accuracy", "low", "high", "loss", "loss_low", "loss_high"]
    )


def _have_room(images: pd.DataFrame) -> pd.Series:
    return images[[c for c in images if c.startswith("as_")]].ge(0).all(axis=1)


def _predictions(images: pd.DataFrame, fill: str) -> dict[str, pd.Series]:
    covered = {title: images[f"as_{cover}_{fill}"] for cover, title in COVERS.items()}
    return {UNCHANGED: images.predicted, **covered}


def format_covered(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy over all classes, as `tabulate_covered` gives it, for readers: a row per cover, a column per title."""
    return pd.DataFrame(
        {
            title: [f"{r.accuracy:.1%} ({r.low:.1%} to {r.high:.1%})" for r in table.loc[ALL].itertuples()]
            for title, table in tables.items()
        },
        index=[UNCHANGED, *COVERS.values()],
    )


def tabulate_predicted(images: pd.DataFrame, fill: str) -> pd.DataFrame:
    """Share of the images predicted as each class with parts painted over, on the same images; classes count alike.

    A row per cover (`UNCHANGED`, then the values of `COVERS`), a column per class (and ``none``, if it occurs).
    """
    images = images[_have_room(images)]
    weights = 1 / images.label.map(images.label.value_counts())
    columns = _predictions(images, fill)
    table = pd.DataFrame({title: weights.groupby(c).sum() / weights.sum() for title, c in columns.items()}).T
    table = table.reindex(columns=[*range(1, len(CLASSES) + 1), *([0] if 0 in table else [])]).fillna(0.0)
    return table.rename(columns=dict(enumerate(["none", *CLASSES])))


def format_predicted(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`tabulate_predicted` for readers, by what each is painted with: rows of the first, then those of the others."""
    rows: dict[str, pd.Series] = {}
    for title, table in tables.items():
        for cover, shares in table.iterrows():
            if cover != UNCHANGED or not rows:
                rows[cover if cover == UNCHANGED else f"{cover}, {title}"] = shares.map("{:.0%}".format)
    return pd.DataFrame(rows).T.fillna("0%").rename(columns=str.capitalize)


def tabulate_randomised(runs: Sequence[Attention], network: Network) -> pd.DataFrame:
    """How like the trained network's maps are to those of a network with its topmost layers drawn anew.

    A row per depth, from "trained" down to the first convolution of `network`: ``correlation`` (median over photos
    and draws) and its middle 80 % ``low`` to ``high``; ``share`` inside the box (mean).
    """
    groups = pd.concat([run.randomised for run in runs]).groupby("layers")
    quantiles = groups.correlation.quantile([0.5, 0.1, 0.9]).unstack()
    table = quantiles.set_axis(["correlation", "low", "high"], axis=1).assign(share=groups.share.mean())
    dense = [f"dense {i}" for i in range(len(network.dense), 0, -1)]
    convolutions = [f"convolution {i}" for i in range(len(network.convolutions), 0, -1)]
    return table.set_axis(["trained", "output", *dense, *convolutions])


def correlate_runs(runs: Sequence[Attention]) -> NDArray[np.float64]:
    """Rank correlations of the maps that any two runs make of the same image of TEST for its true class."""
    maps = [run.maps.xs("true", level="of") for run in runs]
    correlations = [np.zeros(0)]
    for first, second in combinations(maps, 2):
        same = first.index.intersection(second.index)
        correlations.append(saliency.correlate(unflatten(first.loc[same]), unflatten(second.loc[same])))
    return np.concatenate(correlations)


@dataclass(frozen=True)
class Panel:
    """One picture of a figure."""

    title: str
    picture: NDArray[np.uint8]  # (height, width, RGB)
    corners: NDArray[np.float64] | None = None  # (boxes, 4, xy), of the cells' boxes, in pixels of the picture
    attention: NDArray[np.float64] | None = None  # 0 to 1, of any shape, laid over the whole picture


def collect_maps(study: Study, run: Attention, network: Network, *, is_right: bool) -> list[Panel]:
    """Pictures of the images that `measure.choose` chooses, each followed by its map or maps.

    Of images predicted right, the map for their class (two panels each); of images predicted wrong, that for the
    predicted class and that for the true one (three panels each). Without the study's photos there are none.
    """
    if study.results_of:
        return []
    images = run.images.query("part == 'test'")
    chosen = images.iloc[choose(images).query("is_right == @is_right").row]
    traced = study.provenance.set_index("image", drop=False).loc[chosen.image]
    boxes = carry_boxes(traced, white_cells(study.data))
    panels = []
    for row, image in enumerate(chosen.itertuples()):
        picture = read_image(study.data.image_path(image.image))
        corners = boxes[boxes.row == row].drop(columns="row").to_numpy().reshape(-1, 4, 2)
        true, predicted = (str.capitalize(["none", *CLASSES][label]) for label in (image.label, image.predicted))
        panels.append(Panel(true if is_right else f"{true}, taken for {predicted.lower()}", picture, corners))
        for of, cell in (("predicted", predicted), ("true", true))[: 1 if is_right else 2]:
            small = unflatten(run.maps.loc[[(image.image, of)]])
            attention = saliency.upsample(small, INPUT_SHAPE, len(network.convolutions))[0]
            title = "where it looks" if is_right else f"for {cell.lower()}"
            panels.append(Panel(title, picture, corners, attention / max(attention.max(), 1e-9)))
    return panels


def collect_covers(study: Study, network: Network) -> list[Panel | None]:
    """What the network is shown of the first TEST image that has room for every cover: four panels per fill.

    In the second row the unchanged image is left out (``None``). Where no image has room, there is no panel.
    """
    traced, boxes = trace.read(study.data), white_cells(study.data)
    used = saliency.used_pixels(INPUT_SHAPE, len(network.convolutions))
    for row in np.flatnonzero((study.images.index.split == "TEST") & traced.photo.isin(boxes.photo)):
        pixels, origin = np.array(study.images.pixels[[row]]), traced.iloc[[row]]
        cell, photo = cell_masks(origin, boxes, INPUT_SHAPE), saliency.photo_masks(origin, INPUT_SHAPE)
        masks, colours = saliency.cover(pixels, cell, photo, used)
        if all(mask.any() for mask in masks.values()):
            break
    else:
        return []
    panels: list[Panel | None] = []
    for fill in ("own", "grey"):
        panels.append(None if panels else Panel(UNCHANGED, pixels[0]))
        for cover, title in COVERS.items():
            panels.append(Panel(title, saliency.paint(pixels, masks[cover], colours[fill])[0]))
    return panels
