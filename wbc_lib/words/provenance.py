"""What the evidence for the traced table says, in sentences for readers. Pure functions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from wbc_lib.data.dataset import SPLITS
from wbc_lib.provenance import recipe

_LEVEL = 0.05
#: Below this a p-value is clear beyond doubt, and a confidence is no longer high.
_CLEAR, _HIGH = 0.01, 0.9
#: From which share of descending steps, and after how many, the numbers of two photos run against each other.
_MOSTLY, _ENOUGH = 0.8, 9


def tell_hidden(hidden: pd.DataFrame, whose: str) -> str:
    """Whether anything is found in good faith where the right photo is missing.

    Parameters
    ----------
    hidden : DataFrame
        As `evidence.trace_with_photos_hidden` gives it.
    whose : str
        "this data set", or what stands in for it.
    """
    believed, twins = int((hidden.confidence > 0).sum()), hidden[hidden.has_twin]
    told = (
        f"Of {len(hidden)} images {'none is' if not believed else f'{believed} are'} put down to a wrong photo in good "
        "faith."
    )
    if not len(twins):
        return f"{told} No field of {whose} was photographed twice, so that the harder half of the test is missing."
    return (
        f"{told} A twin can reach {twins.inliers.max()} inliers; it is the pixels that give it away, for its residual "
        f"is never below {twins.residual.min():.1f}."
    )


def tell_traced(table: pd.DataFrame) -> str:
    """How many images are traced to how many photos; takes what `provenance.trace` gives."""
    split = recipe.read_names(table.image).split
    traced, images = int((table.confidence > 0).sum()), len(table)
    photos = {s: set(table.photo[split == s]) for s in SPLITS}
    both = len(photos["TRAIN"] & photos["TEST"])
    copies = table.photo[split == "TEST_SIMPLE"].value_counts()
    twice = " and ".join(map(str, sorted(copies[copies > 1].index)))
    return (
        f"{'All' if traced == images else f'{traced:,} of'} {images:,} images are traced, to {len(photos['TRAIN'])} "
        f"photos in TRAIN and {len(photos['TEST'])} in TEST; {'none is' if not both else f'{both} are'} in both. The "
        f"{(split == 'TEST_SIMPLE').sum()} images of TEST_SIMPLE, which are not augmented, show "
        f"{len(photos['TEST_SIMPLE'])} photos{f': photos {twice} are there twice' if twice else ''}."
    )


def tell_copies(counted: pd.DataFrame, judged: pd.DataFrame) -> str:
    """Whether photos have as many copies as the recipe gives them.

    Parameters
    ----------
    counted, judged : DataFrame
        As `recipe.count_copies` and `recipe.judge_copies` give them.
    """
    over = int(sum((row.copies > row.ceiling).sum() for _, row in counted.iterrows()))
    p_recipe, p_alone, n_tests = judged.p_recipe, judged.p_independent.dropna(), int(judged.p_recipe.notna().sum())
    alone = (
        f"Independent draws do not give copies so even (p at most {p_alone.max():.0e} in every row)."
        if p_alone.max() < _CLEAR
        else f"Independent draws hardly give copies so even (p at most {_CLEAR} in {(p_alone < _CLEAR).sum()} of "
        f"{n_tests} rows)."
    )
    followed = (
        f"The recipe does: the smallest of {n_tests} p-values is {p_recipe.min():.2f}."
        if p_recipe.min() * n_tests > _LEVEL
        else f"Nor does the recipe explain them all: the smallest of {n_tests} p-values is {p_recipe.min():.3f}."
    )
    return f"{'No photo has' if not over else f'{over} photos have'} more copies than is possible. {alone} {followed}"


def tell_draws(counted: pd.DataFrame, lost: NDArray[np.integer]) -> str:
    """How many images were drawn, and whether the missing ones are explained by names given twice.

    Parameters
    ----------
    counted : DataFrame
        As `recipe.count_copies` gives it.
    lost : ndarray of int, shape (simulations,)
        Images lost to names given twice, as `recipe.judge_copies` simulates them.
    """
    draws, missing = counted.groupby("split").draws.first(), int(counted.lost.sum())
    exact = int((counted.at_least == counted.draws).sum())
    p = recipe.two_sided(missing, lost)
    why = (
        "None is missing."
        if not missing
        else f"The {missing} missing ones fit the number of names given twice: {lost.mean():.0f} would be expected "
        f"(p = {p:.2f})."
        if p > _LEVEL
        else f"Names given twice would have cost {lost.mean():.1f} images; {missing} are missing (p = {p:.3f})."
    )
    return (
        f"The names tell how many images were drawn: in {exact} of {len(counted)} cases exactly {draws['TRAIN']:,} for "
        f"a class of TRAIN or {draws['TEST']:,} for one of TEST, in the others no more. Of these "
        f"{int(counted.draws.sum()):,} images {int(counted.images.sum()):,} are left. {why}"
    )


def tell_unnoticed(chances: Mapping[int, float], images: int) -> str:
    """How many wrong images would have been noticed by the evenness of copies.

    Parameters
    ----------
    chances : mapping of int to float
        Chance to go unnoticed, by how many are wrong.
    images : int
        In all.
    """
    detected = [n for n, chance in chances.items() if chance < _LEVEL]
    found = (
        f"{detected[0]} wrong images of {images:,} would have been noticed in 95 of 100 cases."
        if detected
        else "This data set is too small for such a limit: even fifteen wrong images would often go unnoticed."
    )
    return (
        f"{found} The limit holds for mistakes that scatter. Two photos of one field that change places evenly would "
        "pass this test, which is why they get one of their own below."
    )


def tell_moves(tested: pd.DataFrame, in_radians: bool) -> str:
    """Whether the maps are spread as evenly as the recipe draws them.

    Parameters
    ----------
    tested : DataFrame
        Rows of `recipe.judge_moves`, one per quantity.
    in_radians : bool
        Whether the shear was drawn in radians.
    """
    least = tested.p.idxmin()
    name, p = least.split(" (")[0], tested.p[least]
    if p * len(tested) > _LEVEL:
        return f"None of these {len(tested)} speaks against an even draw (smallest p: {p:.2f}, {name})."
    narrow = ", whose range is no wider than the maps are exact" if "shear" in name and not in_radians else ""
    return f"An even draw is contradicted by the {name} (p = {p:.1g}){narrow}."


def tell_shear(in_radians: bool) -> str:
    """In which unit the shear was drawn."""
    if in_radians:
        return (
            "The shear was drawn in radians, as early versions of Keras did; later ones take the same 0.2 for degrees."
        )
    return "The shear was drawn in degrees, as later versions of Keras do."


def tell_gain(table: pd.DataFrame, sample: pd.DataFrame, predicted: NDArray[np.floating], whose: str) -> str:
    """Whether the images are as bright as Keras makes them.

    Parameters
    ----------
    table : DataFrame
        As `provenance.trace` gives it.
    sample : DataFrame
        Some of its rows.
    predicted : ndarray of float, shape (rows of the sample,)
        As `evidence.predict_gain` gives them.
    whose : str
        "this data set", or what stands in for it.
    """
    off, unbrightened = np.abs(sample.gain - predicted).mean(), np.abs(sample.gain - 1).mean()
    if off >= unbrightened:
        return f"The images of {whose} are as bright as their photos."
    return (
        f"The images are brighter than their photos, by up to {100 * (table.gain.max() - 1):.0f} %. That is Keras, "
        f"too: it stretches every image that it saves until its brightest value is 255. Computed from the photo and "
        f"the map, that factor differs from the one measured by {off:.3f} on average (in {len(sample)} images; without "
        f"it, {unbrightened:.3f})."
    )


def tell_rivals(rivals: pd.DataFrame, images: int, is_lent: bool) -> str:
    """By how much the runner-up loses where it came close.

    Parameters
    ----------
    rivals : DataFrame
        As `evidence.compare_runners_up` gives it.
    images : int
        In all.
    is_lent : bool
        Whether pictures of phantoms stand in for the photos.
    """
    whose = " of these phantoms" if is_lent else ""
    told = f"{len(rivals)} images{whose} ({len(rivals) / images:.1%}) have such a runner-up."
    if not len(rivals):
        return f"{told} Phantoms are all of different fields."
    worse = int((rivals.runner_up_residual <= rivals.residual).sum())
    share = (rivals.runner_up_residual / rivals.residual).min()
    return (
        f"{told} The photo found fits better in {'all of them' if not worse else f'all but {worse}'}: its residual is "
        f"at most {rivals.residual.max():.2f}, the runner-up's at least {rivals.runner_up_residual.min():.2f}, and "
        f"never less than {share:.1f} times as large. Two exposures of one field differ in focus and noise even where "
        "they show the same cell."
    )


def tell_tail(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Which images have the lowest confidence.

    Parameters
    ----------
    table : DataFrame
        As `provenance.trace` gives it.
    pairs : DataFrame
        Photos of one field, as `overlaps.read_pairs` gives them.
    """
    tail = table[table.confidence < _HIGH]
    if not len(tail):
        return f"No confidence is below {_HIGH}."
    twins = {*zip(pairs.photo, pairs.other, strict=True), *zip(pairs.other, pairs.photo, strict=True)}
    share = np.mean([ends in twins for ends in zip(tail.photo, tail.runner_up, strict=True)])
    return (
        f"{len(tail):,} images ({len(tail) / len(table):.1%}) have a confidence below {_HIGH}. For {share:.0%} of them "
        "the runner-up is a photo of the same field."
    )


def tell_gap(table: pd.DataFrame, hidden: pd.DataFrame) -> str:
    """Whether confidence tells right answers from wrong ones; takes what `tell_tail` and `tell_hidden` do."""
    if (hidden.confidence > 0).any() or not (table.confidence > 0).all():
        return "The two overlap: some answers are guesses, and are marked as such."
    return (
        f"The least sure of all images still has {table.confidence.min():.2f}; the images whose photo was hidden have "
        "0. Nothing lies between."
    )


def tell_alike(table: pd.DataFrame, pairs: pd.DataFrame) -> str:
    """Whether two photos are so much alike that they could be mistaken; takes what `tell_tail` does."""
    if not len(pairs):
        return "here no two are of one field"
    closest = pairs.residual.min()
    if closest <= table.residual.max():
        return "the most alike are as close as images are to their photos, and for these the answer may be wrong"
    return (
        f"there are none, since the most alike differ by {closest:.1f} grey levels where they overlap, more than any "
        f"image from its photo ({table.residual.max():.1f})"
    )


def tell_fields(pairs: pd.DataFrame, descents: tuple[int, int], on_record: int | None) -> str:
    """How many photos are of one field, and how they lie along the slide.

    Parameters
    ----------
    pairs : DataFrame
        As `evidence.describe_pairs` gives it.
    descents : tuple of int
        As `evidence.count_descents` gives it.
    on_record : int or None
        Pairs of the real photos that are recorded, if phantoms stand in for them.
    """
    down, steps = descents
    told = "The pictures at hand are phantoms, each of a field of its own; no pair is found."
    if len(pairs):
        same = int(pairs.same_cell.sum())
        told = f"{len(pairs)} pairs are found, {same} of them with the same white cell boxed in both."
    if down > _MOSTLY * steps and steps > _ENOUGH:
        told += (
            " Most arcs between distant photos lie inside one another: going up along the one photo, the number of the "
            f"other goes down in {down} of {steps} steps, as if the slide had been gone over once more, backwards. "
            "Numbers, then, follow the order of taking, and photos that lie far apart by number may still be of one "
            "slide."
        )
    return told if on_record is None else f"{told} Of the real photos {on_record} pairs are on record."


def tell_across(n_cells: int, exposed: Sequence[int], copies: int, images: int, whose: str) -> str:
    """Which white cells are in TRAIN and in TEST.

    Parameters
    ----------
    n_cells : int
    exposed : sequence of int
        Their photos in TEST.
    copies, images : int
        Images of TEST made from these, and in all.
    whose : str
        "this data set", or what stands in for it.
    """
    if not n_cells:
        return f"No white cell of {whose} is in both TRAIN and TEST."
    return (
        f"{n_cells} white cells are in TRAIN and in TEST: photos {', '.join(map(str, exposed))} of TEST. They have "
        f"{copies} of the {images:,} copies in TEST ({copies / images:.1%})."
    )


def tell_exposed(copies: int, images: int, is_lent: bool) -> str:
    """What share of TEST shows cells that were trained on; takes what `tell_across` and `tell_rivals` do."""
    if copies:
        return f"{copies / images:.1%} of the images of TEST show a cell that was trained on."
    return (
        "Which those are is told by the boxes, which are not on this machine." if is_lent else "This data set has none."
    )


def tell_torn(pairs: pd.DataFrame, whose: str) -> str:
    """How often a white cell that was labelled twice bears two labels.

    Parameters
    ----------
    pairs : DataFrame
        As `evidence.describe_pairs` gives it.
    whose : str
        "this data set", or what stands in for it.
    """
    twice, torn = int(pairs.is_labelled_twice.sum()), pairs[pairs.is_torn]
    if not twice:
        return f"No white cell of {whose} was labelled twice."
    told = f"Of {twice} white cells that are boxed in two photos with one label each,"
    if not len(torn):
        return f"{told} all bear the same label twice."
    rate = stats.binomtest(len(torn), twice).proportion_ci(method="exact")
    listed = "; ".join(f"{p.label} in photo {p.photo}, {p.other_label} in photo {p.other}" for p in torn.itertuples())
    return (
        f"{told} {len(torn)} {'bears' if len(torn) == 1 else 'bear'} two different labels: {listed}. That is a rare "
        f"measure of how sure the labels are: {len(torn) / twice:.0%} of the cells labelled twice, with an exact 95 % "
        f"interval of {rate.low:.1%} to {rate.high:.0%}."
    )


def tell_cells(photos: Mapping[str, int], cells: Mapping[str, int], is_lent: bool) -> str:
    """How many different white cells TRAIN and TEST show at most, by split; takes what `tell_rivals` does."""
    if is_lent:
        return "How many cells that leaves is told by the boxes, which are not on this machine."
    return (
        f"The {photos['TEST']} photos of TEST show at most {cells['TEST']} different white cells, the "
        f"{photos['TRAIN']} of TRAIN {cells['TRAIN']}."
    )
