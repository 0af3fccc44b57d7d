"""What the tables of `conformal` say, in sentences for readers. Pure functions."""

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.calibration import Summary
from wbc_lib.evaluation.conformal import BY_PHOTO, BY_VALIDATION, HELD_BACK
from wbc_lib.evaluation.intervals import Interval, format_interval
from wbc_lib.figures.style import nice

#: What may become of a promise: kept; missed or broken, as other photos might explain it or not; nothing to judge.
KEPT, MISSED, BROKEN, IDLE = "kept", "missed", "broken", "idle"
_FATES = {
    KEPT: "the promise is kept",
    MISSED: "the promise is missed, though by no more than other photos could explain",
    BROKEN: "the promise is broken, by more than other photos could explain",
}
_SHORT_FATES = {KEPT: "kept", MISSED: "missed, by no more than other photos could explain", BROKEN: "broken"}
#: A photo with a smaller share of its copies covered has hardly any.
_HARDLY = 0.1


def judge(found: Interval, promised: float) -> str:
    """Say whether a share reaches what was promised.

    Parameters
    ----------
    found : Interval
        Photos drawn anew; NaN if there was nothing to judge.
    promised : float
        0 to 1.

    Returns
    -------
    str
        `KEPT`, `MISSED`, `BROKEN`, or `IDLE`.
    """
    if np.isnan(found.estimate):
        return IDLE
    if found.estimate >= promised:
        return KEPT
    return MISSED if found.high >= promised else BROKEN


def tell_fewest(photos: int) -> str:
    """How many photos the rarest class has."""
    return f"{photos} photo{'s' * (photos != 1)}"


def tell_held_back(is_recorded: bool) -> str:
    """Whether there are runs whose validation was held back by photo."""
    if not is_recorded:
        return (
            "No run with such a validation is recorded at this length of training, so that the rows for it are absent."
        )
    return (
        "Runs with such a validation are recorded, and each table has rows for them; they are other networks, trained "
        "on fewer photos."
    )


def tell_confidence(before: Summary, after: Summary) -> str:
    """What the network states and what it achieves, on photos it knows and on new ones.

    Parameters
    ----------
    before, after : Summary
        On validation and on TEST, as `calibration.summarise` gives them.
    """
    is_clear = after.gap.low > 0 or after.gap.high < 0
    outside = f"{'more' if is_clear else 'no more'} than other photos could explain"
    return (
        f"On validation the network states {before.confidence:.1%} on average and is right in "
        f"{before.accuracy:.1%}: a gap of {format_interval(before.gap, signed=True)} points. On TEST it states "
        f"{after.confidence:.1%} and is right in {after.accuracy:.1%}: a gap of "
        f"{format_interval(after.gap, signed=True)} points, {outside}. From known photos to new ones the accuracy "
        f"changes by {100 * (after.accuracy - before.accuracy):+.1f} points, the confidence by "
        f"{100 * (after.confidence - before.confidence):+.1f}."
    )


def tell_temperature(cooled: pd.DataFrame, needed: Interval) -> str:
    """What temperature validation asks for, and how far that closes the gap on TEST.

    Parameters
    ----------
    cooled : DataFrame
        As `conformal.tabulate_temperatures` gives it.
    needed : Interval
        The temperature that TEST would need.
    """
    fitted, gap = cooled.temperature[BY_VALIDATION], cooled.gap
    closed = {n: 1 - abs(gap[n].estimate / gap.iloc[0].estimate) for n in (BY_VALIDATION, BY_PHOTO)}
    does = {
        n: f"takes away {c:.0%} of the gap" if c > 0 else f"makes the gap {-c:.0%} larger" for n, c in closed.items()
    }
    lesson = (
        "What it lacks is not a better procedure but photos that it has not learned from."
        if closed[BY_PHOTO] > closed[BY_VALIDATION]
        else "Here other photos serve it no better."
    )
    return (
        f"Validation asks that the network be {'softened' if fitted > 1 else 'sharpened'}, with a temperature of "
        f"{fitted:.2f}; TEST would need {needed.estimate:.2f} ({needed.low:.2f} to {needed.high:.2f}). On TEST, the "
        f"one from validation {does[BY_VALIDATION]}; cross-fitted by photo, the procedure {does[BY_PHOTO]}. {lesson}"
    )


def tell_decisions(decided: pd.DataFrame, wanted: float, on_validation: float) -> str:
    """Whether what is decided without a person is as often right as was asked for.

    Parameters
    ----------
    decided : DataFrame
        As `conformal.tabulate_decisions` gives it.
    wanted : float
        Accuracy asked for, 0 to 1.
    on_validation : float
        Share of the validation images that the thresholds decide, 0 to 1.
    """
    right, other = decided.right[BY_VALIDATION], decided.loc[BY_PHOTO]
    told = (
        f"On validation {on_validation:.0%} of the images could be decided with {wanted:.0%} right. The same "
        f"thresholds decide {format_interval(decided.decided[BY_VALIDATION])} of TEST"
    )
    fate = judge(right, wanted)
    told += "." if fate == IDLE else f", and {format_interval(right)} of these are right: {_FATES[fate]}."
    if right.estimate < 1:
        told += (
            f" Of the images that nobody looks at, one in {1 / (1 - right.estimate):.0f} is wrong, where one in "
            f"{1 / (1 - wanted):.0f} was accepted."
        )
    if judge(other.right, wanted) == IDLE:
        return told
    outcome = (
        "the promise is kept"
        if other.right.estimate >= wanted
        else "nearer, but short of the promise"
        if other.right.estimate > right.estimate
        else "no nearer"
    )
    return (
        f"{told} Thresholds cross-fitted by photo decide {format_interval(other.decided)}, with "
        f"{format_interval(other.right)} right: {outcome}."
    )


def tell_sets(sets: pd.DataFrame, alpha: float, of_photos: pd.DataFrame) -> str:
    """Whether sets of classes hold the truth as often as was promised.

    Parameters
    ----------
    sets : DataFrame
        As `conformal.tabulate_sets` gives it.
    alpha : float
        Share of sets that may miss the truth, 0 to 1.
    of_photos : DataFrame
        ``mean``, a row per photo: the share of its copies whose LAC set, with limits from validation, holds the truth.
    """
    known, other = sets.loc[("LAC", BY_VALIDATION)], sets.loc[("LAC", BY_PHOTO)]
    of_class = known[list(CLASSES)].astype(float)
    lost = int((of_photos["mean"] < _HARDLY).sum())
    return (
        f"With limits from validation, LAC sets hold the truth in {format_interval(known.coverage)}, where "
        f"{1 - alpha:.0%} was promised: {_FATES[judge(known.coverage, 1 - alpha)]}. With limits cross-fitted by photo "
        f"it is {format_interval(other.coverage)}, with {other['size']:.2f} classes in a set on average, in place of "
        f"{known['size']:.2f}. The class served worst is {nice(of_class.idxmin()).lower()}: {of_class.min():.0%} with "
        f"limits from validation. A share over images hides how it comes about: of the {len(of_photos)} photos, {lost} "
        f"{'has' if lost == 1 else 'have'} hardly a copy covered (below a tenth)."
    )


def judge_all(
    cooled: pd.DataFrame, decided: pd.DataFrame, sets: pd.DataFrame, wanted: float, alpha: float
) -> list[str]:
    """What became of the three promises that were arranged on validation: confidence, decisions, sets."""
    return [
        BROKEN if cooled.gap[BY_VALIDATION].low > 0 else KEPT,
        judge(decided.right[BY_VALIDATION], wanted),
        judge(sets.coverage["LAC", BY_VALIDATION], 1 - alpha),
    ]


def tell_verdict(fates: list[str]) -> str:
    """Whether it can be trusted, in a phrase; takes what `judge_all` gives."""
    if set(fates) <= {KEPT, IDLE}:
        return "Yes, as far as these photos can tell"
    if BROKEN in fates:
        return "Not on the word of its validation images"
    return "Not quite: what its validation images promise is not fully kept"


def tell_meaning(cooled: pd.DataFrame, decided: pd.DataFrame, sets: pd.DataFrame, wanted: float, alpha: float) -> str:
    """What validation promised and TEST kept, and whether other new photos would have promised better.

    Parameters
    ----------
    cooled, decided, sets : DataFrame
        As `conformal.tabulate_temperatures`, `conformal.tabulate_decisions` and `conformal.tabulate_sets` give them.
    wanted, alpha : float
        As the last two were given them.
    """
    fates = judge_all(cooled, decided, sets, wanted, alpha)
    gap, right, held = cooled.gap, decided.right, sets.coverage["LAC"]
    listed = [
        "stated confidence is earned, as far as these photos can tell"
        if fates[0] == KEPT
        else "stated confidence is not earned, even at the fitted temperature",
        "nothing is sure enough to be decided"
        if fates[1] == IDLE
        else f"{right[BY_VALIDATION].estimate:.1%} of what is decided is right, where {wanted:.0%} was promised "
        f"({_SHORT_FATES[fates[1]]})",
        f"{held[BY_VALIDATION].estimate:.1%} of the sets hold the truth, where {1 - alpha:.0%} was promised "
        f"({_SHORT_FATES[fates[2]]})",
    ]
    closer = sum(
        (
            abs(gap[BY_PHOTO].estimate) < abs(gap[BY_VALIDATION].estimate),
            bool(right[BY_PHOTO].estimate > right[BY_VALIDATION].estimate),
            held[BY_PHOTO].estimate > held[BY_VALIDATION].estimate,
        )
    )
    come = ("none of the three comes", "one of the three comes", "two of the three come", "all three come")[closer]
    told = (
        f"Arranged on validation and looked at on TEST: {'; '.join(listed)}. Arranged on other new photos instead, "
        f"{come} closer to what was promised."
    )
    if HELD_BACK not in cooled.index:
        return told
    return (
        f"{told} Arranged on a validation held back by photo, as anybody can arrange it, the gap on TEST is "
        f"{format_interval(gap[HELD_BACK], signed=True)} points, {format_interval(right[HELD_BACK])} of what is "
        f"decided is right, and {format_interval(held[HELD_BACK])} of the sets hold the truth."
    )
