"""A claim of the paper or a question of ours, the rule it is judged by, and the verdict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from wbc_lib.evaluation.comparison import BETTER, Comparison

REPRODUCED, DIFFERS, DEPENDS = "reproduced", "differs", "depends on what is counted"
CUT, NOT_RUN, UNTESTED = "epochs were cut", "not run yet", "cannot be tested here"

#: How far the mean over seeds may lie from the paper's figure and still reproduce it.
ACCURACY_TOLERANCE = 0.025
SCORE_TOLERANCE = 0.05
EPOCH_TOLERANCE = 3
#: Training and validation accuracy closer than this, on average over the last fifth of the epochs, are "nearly
#: identical".
NEARLY_IDENTICAL = 0.02

#: The rules in words, for the page that shows the verdicts.
RULES = {
    "count": "equal to the digit",
    "accuracy": f"mean over seeds within {100 * ACCURACY_TOLERANCE:.1f} points of the paper's figure",
    "score": f"mean over seeds within {100 * SCORE_TOLERANCE:.0f} points of the paper's figure (cells of its matrix as "
    "shares of the true class)",
    "epoch": f"mean over seeds within {EPOCH_TOLERANCE} epochs of the paper's; a curve has levelled off at the first "
    "epoch from which its mean over three epochs lies within one point of its best",
    "statement": 'true of every seed; "nearly identical" and "very little discrepancy": less than '
    f"{100 * NEARLY_IDENTICAL:.0f} points between training and validation accuracy, mean over the last fifth of the "
    "epochs",
    "better": "the 95 % interval of the difference on TEST (paired by photo) lies above zero, both by image and by "
    f"photo; if by one of the two only, it {DEPENDS}",
    "no better": "by image that interval does not lie above zero, and by photo it does not either",
    "learnt": "the 95 % interval of mean recall over the photos of TEST (mean over seeds) lies above 25 %, and no "
    "training gives one class to all of them",
}
_TOLERANCES = {"count": 0.0, "accuracy": ACCURACY_TOLERANCE, "score": SCORE_TOLERANCE, "epoch": EPOCH_TOLERANCE}

#: What a claim can be counted with.
INDEPENDENT = "on their own"
FIGURE_3 = "one model's figures on TEST (the paper's Figure 3)"
BY_CONSTRUCTION = "true by construction, or following from others"


@dataclass(frozen=True)
class Claim:
    """One claim and what the runs say of it."""

    experiment: str
    text: str
    kind: str  # key of `RULES`
    reported: float = 1.0  # the paper's figure; 1 for a statement
    measured: Sequence[float] = ()  # ours, one per seed; for a statement 1 where it is true
    compared: Comparison | None = None  # for "better" and "no better"
    needs_all_epochs: bool = True  # whether a run with fewer epochs than the paper's says nothing about it
    chapter: str = ""  # the page that tells it, such as "6-overfitting"
    group: str = INDEPENDENT
    is_late: bool = False  # whether the claim or its rule was written down after a run was seen
    reason: str = ""  # why it cannot be tested here; empty if it only was not run yet
    shown: str = ""  # what was measured, where it is not said by `measured`

    @property
    def is_tested(self) -> bool:
        """Whether there is a run that it can be judged by."""
        return bool(len(self.measured)) or self.compared is not None

    def verdict(self, *, is_cut: bool) -> str:
        """Decide by the rule of this kind of claim."""
        if not self.is_tested:
            return UNTESTED if self.reason else NOT_RUN
        if is_cut and self.needs_all_epochs:
            return CUT
        if self.compared is not None:
            better = [verdict == BETTER for verdict in self.compared.verdicts]
            if any(better) and not all(better):
                return DEPENDS
            return REPRODUCED if all(better) == (self.kind == "better") else DIFFERS
        if self.kind in ("statement", "learnt"):
            return REPRODUCED if all(self.measured) else DIFFERS
        is_near = abs(float(np.mean(self.measured)) - self.reported) <= _TOLERANCES[self.kind]
        return REPRODUCED if is_near else DIFFERS


def tabulate(claims: Sequence[Claim], *, is_cut: bool) -> pd.DataFrame:
    """Table of claims, a row each, with figures formatted for their kind.

    ``experiment``, ``claim``, ``paper``, ``measured`` (mean and standard deviation over seeds, or the paired difference
    in points), ``verdict``, ``rule`` (its kind, with a dagger if it is late), ``chapter``.
    """
    rows = []
    for claim in claims:
        show = _FORMATS.get(claim.kind, "{:.1%}".format)
        is_figure = claim.kind in _TOLERANCES
        rule = claim.kind + "†" * claim.is_late
        row = (claim.text, show(claim.reported) if is_figure else "stated", _describe(claim, show))
        rows.append((claim.experiment, *row, claim.verdict(is_cut=is_cut), rule, claim.chapter))
    return pd.DataFrame(rows, columns=["experiment", "claim", "paper", "measured", "verdict", "rule", "chapter"])


def _describe(claim: Claim, show: Callable[[float], str]) -> str:
    if claim.compared is not None:
        return f"by image {claim.compared.by_image:+.1f}; by photo {claim.compared.by_photo:+.1f}"
    if claim.shown:
        return claim.shown
    values = np.asarray(claim.measured, float)
    if not len(values):
        return claim.reason or "–"
    if claim.kind == "statement":
        return f"{int(values.sum())} of {len(values)} seeds"
    return show(values.mean()) + (f" ± {show(values.std(ddof=1))}" if len(values) > 1 else "")


_FORMATS = {"count": "{:,.0f}".format, "epoch": "{:.1f}".format}


def count_verdicts(claims: Sequence[Claim], *, is_cut: bool) -> pd.DataFrame:
    """Count verdicts (columns), apart for claims that could fail by themselves and those that hang together."""
    table = pd.crosstab([c.group for c in claims], [c.verdict(is_cut=is_cut) for c in claims])
    table = table.rename_axis(index=None, columns=None)
    columns = [v for v in (REPRODUCED, DIFFERS, DEPENDS, CUT, NOT_RUN, UNTESTED) if v in table]
    return table.reindex([g for g in (INDEPENDENT, FIGURE_3, BY_CONSTRUCTION) if g in table.index])[columns]
