"""What the runs of the suite "leakage" say, in sentences for readers. Pure functions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import crossvalidation
from wbc_lib.training.runs import Run

_CHANCE = 1 / len(CLASSES)
_AT_RANDOM, _BY_PHOTO = "final", "final+by-photo"
_COVERED, _COVERED_BY_PHOTO = "final+painted", "final+painted+by-photo"


def tell_protocols(runs: Mapping[str, Sequence[Run]], photo_of: pd.Series) -> str:
    """What holding back whole photos changes, and whether the few photos of rare classes are why; in sentences.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        The suite "leakage"; at least one run of the first two experiments.
    photo_of : Series of int
        By image, the number of its photo.
    """
    at_random, by_photo = (
        crossvalidation.recall_by_class(runs[n], "validation", photo_of) for n in (_AT_RANDOM, _BY_PHOTO)
    )
    before, after = at_random.loc[crossvalidation.ALL], by_photo.loc[crossvalidation.ALL]
    test = crossvalidation.recall_by_class(runs[_BY_PHOTO], "test", photo_of).loc[crossvalidation.ALL]
    worst = by_photo.drop(crossvalidation.ALL).by_image.idxmin()
    rare, usual = by_photo.loc[worst], test.by_image
    told = (
        f"Held back at random, {before.by_image:.1%} of the validation images are recognised; held back by photo, "
        f"{after.by_image:.1%}. Counted so that every photo weighs alike, it is {before.by_photo:.1%} and "
        f"{after.by_photo:.1%}. The difference, {100 * (before.by_image - after.by_image):.0f} points by images and "
        f"{100 * (before.by_photo - after.by_photo):.0f} by photos, is what the usual validation leaks."
    )
    if abs(after.by_image - usual) < abs(before.by_image - usual):
        return f"{told} Validation by photo comes closer to what the same networks reach on TEST, {usual:.1%}."
    verdict = (
        f"Weighed by photo the two agree ({after.by_photo:.1%} and {test.by_photo:.1%}): both are photos that the "
        "network has not seen, and what sets them apart is who is among the few."
        if abs(after.by_photo - test.by_photo) < abs(after.by_image - test.by_image) / 2
        else f"Weighed by photo they do not agree either ({after.by_photo:.1%} and {test.by_photo:.1%})."
    )
    return (
        f"{told} By images it is lower than the {usual:.1%} that the same networks reach on TEST, which they have not "
        f"seen either. The table above shows where most is lost: {worst.lower()}s make up {rare.share:.0%} of the "
        f"validation images, but these are copies of {rare.photos:.0f} photos, and {rare.by_image:.0%} of them are "
        f"recognised. {verdict}"
    )


def tell_background(runs: Mapping[str, Sequence[Run]]) -> str:
    """What is still recognised with the white cells painted over, in sentences; runs as for `tell_protocols`."""
    accuracy = {name: np.mean([run.accuracy("validation") for run in some]) for name, some in runs.items()}
    known, new = accuracy[_COVERED] - _CHANCE, accuracy[_COVERED_BY_PHOTO] - _CHANCE
    verdict = (
        "A network tells the class from the background if it knows the photo, and hardly if it does not: what it has "
        "learned there is the photo, not the class."
        if known > 2 * max(new, 0) and known > 0.1
        else "What the background gives away does not depend much on knowing the photo."
    )
    return (
        f"With the cells painted over, {accuracy[_COVERED]:.1%} of the validation images are still recognised at "
        f"random, {100 * known:+.1f} points from chance, and {accuracy[_COVERED_BY_PHOTO]:.1%} by photo "
        f"({100 * new:+.1f}). {verdict}"
    )
