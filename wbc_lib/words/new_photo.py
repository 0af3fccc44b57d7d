"""What cross-validation by photo says of photos that no network has seen, in sentences for readers. Pure functions."""

from collections.abc import Mapping, Sequence

import pandas as pd

from wbc_lib.evaluation.crossvalidation import WAYS
from wbc_lib.evaluation.intervals import Interval

#: In place of what was not recorded.
NOT_RECORDED = "The runs of this suite are not recorded: `wbc train --suite folds`."
_OTHERS_NOT_RECORDED = "The other networks are not recorded yet: `wbc train --suite folds`."
#: The networks that are to generalise better than the one they restrain.
_RESTRAINED = ("dropout-0.2", "dropout-0.4", "reduced", "l2-activity", "l1l2-kernel")
_UNRESTRAINED = "overfitting"
_LEVEL = 0.05
_RECALL = "recall, "


def tell_scores(scores: Mapping[str, pd.DataFrame], by_repeat: Sequence[float]) -> str:
    """How many new photos the final model recognises.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        By way of counting a photo: ``estimate``, ``low`` and ``high``, 0 to 1, a row per score, "accuracy" among them.
        Empty if nothing is recorded.
    by_repeat : sequence of float
        Accuracy by the mean over copies, of each repeat of the division.
    """
    if not scores:
        return NOT_RECORDED
    as_taken, copies = (scores[way].loc["accuracy"] for way in WAYS)
    told = (
        f"Of photos it has not seen the final model recognises {as_taken.estimate:.1%} as they were taken "
        f"({as_taken.low:.1%} to {as_taken.high:.1%}) and {copies.estimate:.1%} by the mean over their copies "
        f"({copies.low:.1%} to {copies.high:.1%})."
    )
    if len(by_repeat) < 2:
        return told
    return f"{told} From repeat to repeat the latter runs from {min(by_repeat):.1%} to {max(by_repeat):.1%}."


def tell_expectation(scores: Mapping[str, pd.DataFrame], photos: Mapping[str, int]) -> str:
    """What to expect on a new photo, and of which class least is known.

    Parameters
    ----------
    scores : mapping of str to DataFrame
        As `tell_scores` takes it, with the recall of each class.
    photos : mapping of str to int
        Photos of each class, by its name for readers.
    """
    if not scores:
        return NOT_RECORDED
    table = scores[WAYS[1]]
    recalls = table.estimate[table.index.str.startswith(_RECALL)]
    weakest = recalls.idxmin().removeprefix(_RECALL)
    copies = table.loc["accuracy"]
    return (
        f"On a new photo of this collection, expect {copies.estimate:.0%}, with {copies.low:.0%} to {copies.high:.0%} "
        f"compatible with what was seen. The class recognised worst is the {weakest.lower()}, of which there are "
        f"{photos[weakest]} photos in all; no figure about it can be sharp."
    )


def tell_differences(differences: Mapping[str, tuple[Interval, float]], titles: Mapping[str, str]) -> str:
    """Which networks differ from the final model on new photos.

    Parameters
    ----------
    differences : mapping of str to (Interval, float)
        By network: balanced accuracy of the final model minus its own, and p of McNemar's test of accuracy.
    titles : mapping of str to str
        The networks' names for readers.
    """
    if not differences:
        return _OTHERS_NOT_RECORDED
    clear = [name for name, (gap, _) in differences.items() if gap.low > 0 or gap.high < 0]
    agreed = [name for name in clear if differences[name][1] < _LEVEL]
    listed, both = (f" ({', '.join(titles[n] for n in names)})" if names else "" for names in (clear, agreed))
    return (
        f"Of the {len(differences)} networks compared, {len(clear)} differ from the final model by the interval of "
        f"balanced accuracy{listed}, each interval taken by itself; {len(agreed)} of these also by McNemar's test of "
        f"accuracy at {_LEVEL}{both}. This rests on one division of the photos and on short training: it compares "
        "these runs, and does not settle which network is best."
    )


def tell_order(balanced: Mapping[str, float], titles: Mapping[str, str]) -> str:
    """Whether the restrained networks do better on new photos than the one they restrain; "" if that is not recorded.

    Parameters
    ----------
    balanced : mapping of str to float
        Balanced accuracy by network, 0 to 1.
    titles : mapping of str to str
        The networks' names for readers.
    """
    if _UNRESTRAINED not in balanced:
        return ""
    restrained = [name for name in _RESTRAINED if name in balanced]
    better = [titles[name] for name in restrained if balanced[name] > balanced[_UNRESTRAINED]]
    listed = f" ({', '.join(better)})" if better else ""
    return f"Of the regularised networks, {len(better)} of {len(restrained)} lie above the overfitting one{listed}."
