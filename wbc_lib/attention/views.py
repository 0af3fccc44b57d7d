"""Measurements of attention made ready for readers: tables with intervals, and pictures with their maps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from wbc_lib.attention import gradcam, occlusion
from wbc_lib.attention.measure import Attention, choose, unflatten
from wbc_lib.attention.occlusion import COVERS
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.images import INPUT_SHAPE, read_image
from wbc_lib.evaluation.intervals import Interval, group_weights, percentiles
from wbc_lib.provenance import trace
from wbc_lib.provenance.boxes import carry_boxes, cell_masks, white_cells
from wbc_lib.training.experiments import Network
from wbc_lib.training.study import Study

#: What nothing is painted over in.
UNCHANGED = "unchanged"
ALL = "all classes"
_RESAMPLES = 10_000


def average(values: ArrayLike, images: pd.DataFrame, *, equally: bool = False) -> Interval:
    """Average over images, classes counting alike, with the interval (95 %) of drawing photos anew within classes.

    Parameters
    ----------
    values : array_like, shape (images,)
        NaN are left out.
    images : DataFrame
        With ``photo`` and ``label`` of each.
    equally : bool
        Whether each photo counts once, by the mean of its images, rather than each image.

    Returns
    -------
    Interval
        NaN if there is no value.
    """
    known = images[["photo", "label"]].assign(value=np.asarray(values, float)).dropna()
    if known.empty:
        return Interval(np.nan, np.nan, np.nan)
    photos = known.groupby("photo").agg(total=("value", "sum"), n=("value", "size"), label=("label", "first"))
    if equally:
        photos = photos.assign(total=photos.total / photos.n, n=1)
    weights = _draw_photos(tuple(photos.label))
    ratios = []
    for label in photos.label.unique():
        own = (photos.label == label).to_numpy()
        ratios.append((weights[:, own] @ photos.total[own]) / (weights[:, own] @ photos.n[own]))
    values = np.mean(ratios, axis=0)
    return percentiles(float(values[0]), values[1:])


@lru_cache(maxsize=32)
def _draw_photos(labels: tuple[int, ...]) -> NDArray[np.float64]:
    # How often each photo is drawn within its class; in the first row, every photo once.
    drawn = group_weights(range(len(labels)), _RESAMPLES, strata=labels)
    return np.concatenate([np.ones((1, len(labels))), drawn])


def gather(found: Sequence[Attention], part: str) -> pd.DataFrame:
    """The images of one part, "test" or "validation", of several runs: as `Attention.images`, with ``is_right``."""
    images = pd.concat([some.images for some in found], ignore_index=True).query("part == @part")
    return images.assign(is_right=images.label == images.predicted)


def tabulate_shares(images: pd.DataFrame, n_runs: int) -> pd.DataFrame:
    """How much of the attention lies inside the cells' boxes, by class, for right and wrong predictions.

    Parameters
    ----------
    images : DataFrame
        As `gather` gives it.
    n_runs : int
        How many runs they are of.

    Returns
    -------
    DataFrame
        A row per class and kind ("right", "wrong") that there is: ``images`` (mean over runs), ``dataset``; averages in
        which each photo counts once, 0 to 1: ``area`` of the box, ``even`` (an even map's share inside it), ``share``
        with its interval ``low`` to ``high`` (NaN for a single photo), ``share_true`` and ``by_position``; ``times``,
        ``share`` over ``even``; and ``cut``, the share of the photos whose cell is cut by the photo's edge.
    """
    rows = {}
    for (label, is_right), kind in images.groupby(["label", "is_right"]):
        photos = kind.groupby("photo")
        share = average(kind.share, kind, equally=True)
        means = {c: photos[c].mean().mean() for c in ("area", "even", "share_true", "by_position")}
        rows[CLASSES[label - 1], "right" if is_right else "wrong"] = {
            "images": len(kind) / n_runs,
            "photos": len(photos),
            **means,
            "share": share.estimate,
            "low": share.low if len(photos) > 1 else np.nan,
            "high": share.high if len(photos) > 1 else np.nan,
            "times": share.estimate / means["even"] if means["even"] else np.nan,
            "cut": photos.is_cut.first().mean(),
        }
    index = pd.MultiIndex.from_tuples(rows, names=["cell", "kind"])
    return pd.DataFrame(list(rows.values()), index).sort_index(
        key=lambda level: level.map([*CLASSES, "right", "wrong"].index)
    )


def write_shares(table: pd.DataFrame) -> pd.DataFrame:
    """`tabulate_shares` for readers: a row per class and kind, shares as percentages."""
    percent = "{:.0%}".format
    intervals = [f"{r.low:.0%} to {r.high:.0%}" if r.low == r.low else "one photo" for r in table.itertuples()]
    is_wrong = table.index.get_level_values("kind") == "wrong"
    return pd.DataFrame(
        {
            "images": table.images.map("{:,.0f}".format),
            "photos": table.photos,
            "box": table.area.map(percent),
            "spread evenly": table.even.map(percent),
            "attention": table.share.map(percent),
            "interval": intervals,
            "times": table.times.map("{:.1f}".format),
            "by position": table.by_position.map(percent),
            "for the true class": table.share_true.map(percent).where(is_wrong, "–"),
        }
    ).set_axis([f"{cell.capitalize()}, {kind}" for cell, kind in table.index])


def mean_by_photo(images: pd.DataFrame) -> pd.DataFrame:
    """``share`` of each photo and kind of prediction, mean over its images: with ``cell``, ``is_right``, ``images``."""
    groups = images.dropna(subset="share").groupby(["photo", "label", "is_right"]).share
    table = groups.agg(share="mean", images="size").reset_index()
    return table.assign(cell=np.array(CLASSES)[table.label - 1])


def tabulate_covered(images: pd.DataFrame, fill: str, n_runs: int = 1) -> pd.DataFrame:
    """Accuracy with parts painted over, on the images that have room for all of them.

    Parameters
    ----------
    images : DataFrame
        As `gather` gives it.
    fill : str
        One of `occlusion.FILLS`.
    n_runs : int
        How many runs they are of.

    Returns
    -------
    DataFrame
        A row per class (and `ALL`) and cover (`UNCHANGED`, then the values of `occlusion.COVERS`): ``images`` (mean
        over runs), ``accuracy`` with ``low`` and ``high``, ``loss`` against the unchanged images with ``loss_low`` and
        ``loss_high``, and ``probability`` of the true class; 0 to 1. In `ALL` the classes count alike.
    """
    images = images[_have_room(images)]
    rows = {}
    parts = {cell: images[images.label == label] for label, cell in enumerate(CLASSES, 1)} | {ALL: images}
    for name, part in parts.items():
        for title, right, probability in _answers(part, fill):
            accuracy = average(right, part)
            loss = average(part.is_right.astype(float) - right, part)
            rows[name, title] = {
                "images": len(part) / n_runs,
                **dict(zip(("accuracy", "low", "high"), vars(accuracy).values(), strict=True)),
                **dict(zip(("loss", "loss_low", "loss_high"), vars(loss).values(), strict=True)),
                "probability": average(probability, part).estimate,
            }
    return pd.DataFrame(list(rows.values()), pd.MultiIndex.from_tuples(rows, names=["cell", "cover"]))


def write_covered(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Accuracy over all classes for readers, with its interval: a row per cover, a column per title.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        By title, as `tabulate_covered` gives them.
    """
    return pd.DataFrame(
        {
            title: [f"{r.accuracy:.1%} ({r.low:.1%} to {r.high:.1%})" for r in table.loc[ALL].itertuples()]
            for title, table in tables.items()
        },
        index=[UNCHANGED, *COVERS.values()],
    )


def _have_room(images: pd.DataFrame) -> pd.Series:
    return images[[c for c in images if c.startswith("as_")]].ge(0).all(axis=1)


def _answers(images: pd.DataFrame, fill: str) -> list[tuple[str, pd.Series, pd.Series]]:
    # Of each cover: its title, whether the prediction is right, the true class' probability.
    covered = [(t, images[f"as_{c}_{fill}"] == images.label, images[f"p_{c}_{fill}"]) for c, t in COVERS.items()]
    return [(UNCHANGED, images.is_right, images.p), *covered]


def tabulate_named(images: pd.DataFrame, fill: str) -> pd.DataFrame:
    """What the network calls the images with parts painted over: share of each class, on the same images.

    Returns
    -------
    DataFrame
        A row per cover (`UNCHANGED`, then the values of `occlusion.COVERS`), a column per class (and ``none``, if it
        occurs); classes count alike.
    """
    images = images[_have_room(images)]
    weights = 1 / images.label.map(images.label.value_counts())
    columns = {UNCHANGED: images.predicted, **{title: images[f"as_{c}_{fill}"] for c, title in COVERS.items()}}
    table = pd.DataFrame({title: weights.groupby(named).sum() / weights.sum() for title, named in columns.items()}).T
    names = dict(enumerate(["none", *CLASSES]))
    table = table.reindex(columns=[*range(1, len(CLASSES) + 1), *([0] if 0 in table else [])]).fillna(0.0)
    return table.rename(columns=names)


def write_named(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """`tabulate_named` for readers, by what each is painted with: rows of the first, then those of the others."""
    rows = {}
    for title, table in tables.items():
        for cover, shares in table.iterrows():
            if cover != UNCHANGED or not rows:
                rows[cover if cover == UNCHANGED else f"{cover}, {title}"] = shares.map("{:.0%}".format)
    return pd.DataFrame(rows).T.fillna("0%").rename(columns=str.capitalize)


def tabulate_randomised(found: Sequence[Attention], network: Network) -> pd.DataFrame:
    """How like the trained network's maps are to those of a network with its topmost layers drawn anew.

    Parameters
    ----------
    found : sequence of Attention
    network : Network
        Of these runs.

    Returns
    -------
    DataFrame
        A row per depth, from "trained" down to the first convolution: ``correlation`` (median over photos and draws)
        and its middle 80 % ``low`` to ``high``; ``share`` inside the box (mean); ``empty``, the share of empty maps.
    """
    table = pd.concat([some.randomised for some in found])
    groups = table.groupby("layers")
    quantiles = groups.correlation.quantile([0.1, 0.5, 0.9]).unstack()
    empty = groups.share.agg(lambda share: share.isna().mean())
    made = pd.DataFrame({"correlation": quantiles[0.5], "low": quantiles[0.1], "high": quantiles[0.9]})
    made = made.assign(share=groups.share.mean(), empty=empty)
    return made.set_axis(["trained", *name_layers(network)])


def name_layers(network: Network) -> list[str]:
    """Names of a network's layers with weights, from the output down."""
    dense = [f"dense {i}" for i in range(len(network.dense), 0, -1)]
    return ["output", *dense, *(f"convolution {i}" for i in range(len(network.convolutions), 0, -1))]


def correlate_runs(found: Sequence[Attention]) -> NDArray[np.float64]:
    """Rank correlations of the maps that any two runs make of the same image of TEST for its true class."""
    maps = [some.maps.xs("true", level="of") for some in found]
    values = [np.zeros(0)]
    for first, second in combinations(maps, 2):
        same = first.index.intersection(second.index)
        values.append(gradcam.correlate(unflatten(first.loc[same]), unflatten(second.loc[same])))
    return np.concatenate(values)


@dataclass(frozen=True)
class Panel:
    """One picture of a figure.

    Attributes
    ----------
    title : str
    picture : ndarray of uint8, shape (height, width, RGB)
    corners : ndarray, shape (boxes, 4, xy), optional
        Of the cells' boxes, in pixels of the picture.
    attention : ndarray of float, shape (any height, any width), optional
        0 to 1, laid over the whole picture.
    """

    title: str
    picture: NDArray[np.uint8]
    corners: NDArray[np.float64] | None = None
    attention: NDArray[np.float64] | None = None


def show_maps(study: Study, found: Attention, network: Network, *, is_right: bool) -> list[Panel]:
    """Pictures of the images that `attention.choose` chooses, each followed by its map or maps.

    Parameters
    ----------
    study : Study
        Whose photos are at hand; if they are not, there are no pictures.
    found : Attention
    network : Network
        Of that run.
    is_right : bool
        Images predicted right, each with the map for its class; or wrong, each with the map for the predicted class
        and that for the true one.

    Returns
    -------
    list of Panel
        Two, or three, per class.
    """
    if study.results_of:
        return []
    images = found.images.query("part == 'test'")
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
            small = unflatten(found.maps.loc[[(image.image, of)]])
            placed = gradcam.place(small, INPUT_SHAPE, len(network.convolutions))[0]
            title = "where it looks" if is_right else f"for {cell.lower()}"
            panels.append(Panel(title, picture, corners, placed / max(placed.max(), 1e-9)))
    return panels


def show_covers(study: Study, network: Network) -> list[Panel | None]:
    """What the network is shown of the first TEST image that has room for every cover: four panels per fill.

    In the second row the unchanged image is left out (``None``). Where no image has room, there is no panel.
    """
    traced, boxes = trace.read(study.data), white_cells(study.data)
    rows = np.flatnonzero((study.images.index.split == "TEST") & traced.photo.isin(boxes.photo))
    for row in rows:
        pixels, origin = np.array(study.images.pixels[[row]]), traced.iloc[[row]]
        masks, colours = occlusion.cover(
            pixels,
            cell_masks(origin, boxes, INPUT_SHAPE),
            occlusion.photo_masks(origin, INPUT_SHAPE),
            gradcam.seen(INPUT_SHAPE, len(network.convolutions)),
        )
        if all(mask.any() for mask in masks.values()):
            break
    else:
        return []
    panels: list[Panel | None] = []
    for fill in ("own", "grey"):
        panels.append(None if panels else Panel(UNCHANGED, pixels[0]))
        for cover, title in COVERS.items():
            panels.append(Panel(title, occlusion.paint(pixels, masks[cover], colours[fill])[0]))
    return panels
