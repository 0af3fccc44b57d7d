"""What the tables of `attention.summary` say, in sentences for readers. Pure functions."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.attention.occlusion import COVERS
from wbc_lib.attention.summary import ALL, UNCHANGED
from wbc_lib.data.dataset import CLASSES

_CHANCE = 1 / len(CLASSES)
#: A change in accuracy that is not worth a word, 0 to 1.
_LITTLE = 0.01
_ELSEWHERE, _CELL, _REST = (COVERS[cover] for cover in ("elsewhere", "cell", "rest"))


def tell_check(depths: pd.DataFrame, between_runs: NDArray[np.floating], even: float) -> str:
    """What drawing weights anew does to the maps.

    Parameters
    ----------
    depths : DataFrame
        As `summary.tabulate_randomised` gives it.
    between_runs : ndarray
        As `summary.correlate_runs` gives it.
    even : float
        Share of an even map inside the boxes, 0 to 1.
    """
    head, deep, fresh = (depths.loc[row] for row in ("output", "convolution 3", "convolution 1"))
    trainings = f"; two trainings agree at {np.median(between_runs):.2f}" if len(between_runs) else ""
    lost = max(abs(deep.correlation), abs(fresh.correlation)) < 0.1
    likeness = (
        "From the last convolution down no likeness is left: the maps show what was learned."
        if lost
        else f"From the last convolution down it is {deep.correlation:.2f} to {fresh.correlation:.2f}: what was "
        "learned explains the maps only in part."
    )
    caution = (
        "The trained convolutions respond to white cells whatever is built on them. A high share is a sign of that, "
        "and not yet of what the decision needs."
        if head.share > 1.5 * even
        else "So the share inside the box is owed to the trained layers as a whole."
    )
    return (
        f"With a new output layer alone, the median correlation is {head.correlation:.2f}{trainings}. It differs "
        f"much from image to image and from draw to draw: eight in ten lie between {head.low:.1f} and {head.high:.1f}. "
        f"{likeness} The caution: with a random output layer {head.share:.0%} of the map still lie inside the box, "
        f"against {depths.share['trained']:.0%} for the trained network and {even:.0%} for an even map. {caution}"
    )


def tell_shares(shares: pd.DataFrame, images: pd.DataFrame, n_left_out: int) -> str:
    """Where the model looks when it is right.

    Parameters
    ----------
    shares : DataFrame
        As `summary.tabulate_shares` gives it.
    images : DataFrame
        As `summary.combine_images` gives it.
    n_left_out : int
        Images of TEST in which no box is to be seen.
    """
    if "right" not in shares.index.get_level_values("kind"):
        return "No image is predicted right."
    right = shares.xs("right", level="kind")
    low, high = right.share.idxmin(), right.share.idxmax()
    ends = f"{right.share[low]:.0%} ({low.lower()}s)"
    if high != low:
        ends += f" to {right.share[high]:.0%} ({high.lower()}s)"
    out = f" {n_left_out} image{'s' * (n_left_out > 1)} of TEST show no part of a box and are left out."
    return (
        f"Where the model is right, {ends} of the attention lie inside the box; in multiples of what attention spread "
        f"evenly would have there, {right.times.min():.1f} to {right.times.max():.1f}. HiResCAM's shares differ from "
        f"Grad-CAM's by {100 * (images.share - images.by_position).abs().mean():.0f} points in the mean."
        + out
        * (n_left_out > 0)
    )


def tell_wrong(images: pd.DataFrame) -> str:
    """Where the model looks when it is wrong, and how far that is owed to cells of which there is little to see.

    Parameters
    ----------
    images : DataFrame
        As `summary.combine_images` gives it.
    """
    mean = images.groupby("is_right")[["share", "even", "area"]].mean()
    if len(mean) < 2:
        return "No image is predicted wrong." if images.is_right.all() else "No image is predicted right."
    wrong, right = mean.loc[False], mean.loc[True]
    times_wrong, times_right = (kind.share / max(kind.even, 1e-9) for kind in (wrong, right))
    smaller = wrong.even < 0.9 * right.even
    box = (
        "Much of this is the box, which is smaller there or lies nearer the edge: an even map would have"
        if smaller
        else "The box is no smaller there: an even map would have"
    )
    verdict = (
        "mistakes are made while looking at the cell"
        + (", and more often at cells of which there is little to see." if smaller else ".")
        if times_wrong > 0.75 * times_right
        else "where it is wrong it looks at the cell less."
    )
    return (
        f"Where it is wrong, {wrong.share:.0%} of the attention lie inside the box over all images, against "
        f"{right.share:.0%} where it is right. {box} {wrong.even:.0%} against {right.even:.0%} inside. In multiples "
        f"of that the cell draws {times_wrong:.1f} times its due where the model is wrong and {times_right:.1f} times "
        f"where it is right: {verdict}{_tell_cut(images)}"
    )


def _tell_cut(images: pd.DataFrame) -> str:
    # The class that suffers most from the edge of its photos.
    groups = images.groupby(["label", "is_cut"])
    right, photos = groups.is_right.mean().unstack(), groups.photo.nunique().unstack()
    if right.shape[1] < 2 or not (right[False] - right[True]).max() > 2 * _LITTLE:
        return ""
    label = (right[False] - right[True]).idxmax()

    def words(is_cut: bool) -> str:
        n = int(photos.loc[label, is_cut])
        return f"({n} photo{'s' * (n > 1)}) in {right.loc[label, is_cut]:.0%} of the images"

    return (
        f" Of the {CLASSES[label - 1].lower()}s, cells that are whole in the photo are recognised {words(False)}, and "
        f"cells that its edge cuts {words(True)}."
    )


def tell_covered(table: pd.DataFrame, n_images: float) -> str:
    """What painting parts over does to the accuracy.

    Parameters
    ----------
    table : DataFrame
        As `summary.tabulate_covered` gives it.
    n_images : float
        How many images a run has, whether or not there is room in them.
    """
    own = table.loc[ALL]
    against = "no better than chance" if own.low[_CELL] <= _CHANCE else f"above chance, which is {_CHANCE:.0%}"
    return (
        f"On the {own.images[UNCHANGED]:,.0f} of {n_images:,.0f} images that can be compared, "
        f"{own.accuracy[UNCHANGED]:.1%} are right unchanged, classes counting alike. With the cell painted over in the "
        f"background's colour {own.accuracy[_CELL]:.1%} are: {against}. Painting over as much background changes the "
        f"accuracy by {_change(own, _ELSEWHERE)}, painting over everything but the cell by {_change(own, _REST)}."
    )


def _change(table: pd.DataFrame, cover: str) -> str:
    row = -100 * table.loc[cover]
    return f"{row.loss:+.1f} points ({row.loss_high:+.1f} to {row.loss_low:+.1f})"


def tell_known(table: pd.DataFrame) -> str:
    """What the backgrounds of photos that were trained on give away, from validation images' `tabulate_covered`."""
    known = table.loc[ALL]
    gain, whole = known.accuracy[_CELL] - _CHANCE, known.accuracy[UNCHANGED] - _CHANCE
    if known.low[_CELL] <= _CHANCE:
        verdict = "Even there the background alone tells this network nothing that could be told from chance."
    elif gain < whole / 3:
        verdict = "The backgrounds of known photos do give something away, but little of the accuracy rests on them."
    else:
        verdict = "Much of the accuracy there rests on the backgrounds of known photos."
    return (
        "The backgrounds of TEST are new to the network, so that remembering them could not help it there. Validation "
        f"images are copies of photos that were trained on. Of these {known.accuracy[_CELL]:.1%} "
        f"({known.low[_CELL]:.1%} to {known.high[_CELL]:.1%}) are right with the cell painted over, and "
        f"{known.accuracy[_REST]:.1%} with only the cell left, against {known.accuracy[UNCHANGED]:.1%} unchanged. "
        f"{verdict}"
    )


def tell_fill(tables: Mapping[str, pd.DataFrame], named: Mapping[str, pd.DataFrame]) -> str:
    """What difference the paint makes.

    Parameters
    ----------
    tables, named : mapping of str to DataFrame
        By fill ("own", "grey"), as `summary.tabulate_covered` and `tabulate_predicted` give them.
    """
    hidden = {fill: named[fill].loc[_CELL] for fill in ("own", "grey")}
    said = [f"{row.max():.0%} are called {row.idxmax().lower()}s" for row in hidden.values()]
    dearer = tables["grey"].loc[(ALL, _ELSEWHERE), "loss"] - tables["own"].loc[(ALL, _ELSEWHERE), "loss"]
    verdict = (
        f"Grey over a piece of background costs {100 * dearer:.1f} points more than background colour does, though it "
        "takes no more evidence away: a grey patch is itself something to be seen. What painting over shows can be "
        "trusted only if the network takes little notice of the paint."
        if dearer > _LITTLE
        else "Over a piece of background, grey costs hardly more than background colour does."
    )
    return f"With the cell hidden under background colour, {said[0]}; under grey, {said[1]}. {verdict}"


def tell_meaning(table: pd.DataFrame) -> str:
    """The answer to the chapter's question, from TEST's `tabulate_covered`."""
    own = table.loc[ALL]
    needs_nothing_else = own.loss_low[_REST] <= 0 or own.loss[_REST] < _LITTLE
    lost = own.loss[_CELL] / max(own.accuracy[UNCHANGED] - _CHANCE, 1e-9)
    if own.low[_CELL] <= _CHANCE and needs_nothing_else and own.loss_low[_CELL] > 0:
        answer = "At the white cell, and it needs nothing else."
    elif lost > 0.5 and own.loss[_CELL] > 2 * _LITTLE:
        answer = "Mostly at the white cell."
    else:
        answer = "Not at the white cell, as far as this shows."
    return (
        f"{answer} With only the cell left in a plain picture the final model is right in "
        f"{own.accuracy[_REST]:.1%} of the images of photos that it has not seen, and in {own.accuracy[UNCHANGED]:.1%} "
        f"if nothing is painted over. Without the cell it is right in {own.accuracy[_CELL]:.1%}; guessing would be in "
        f"{_CHANCE:.0%}."
    )
