"""The paper's claims, one by one, held against the runs by rules that are stated."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import scores
from wbc_lib.training import paper
from wbc_lib.training.experiments import EXPERIMENTS
from wbc_lib.training.runs import Run

REPRODUCED, DIFFERS = "reproduced", "differs"
CUT, UNTESTED = "epochs were cut", "cannot be tested here"

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
    "statement": "true of every seed",
}
_TOLERANCES = {"count": 0.0, "accuracy": ACCURACY_TOLERANCE, "score": SCORE_TOLERANCE, "epoch": EPOCH_TOLERANCE}


@dataclass(frozen=True)
class Claim:
    """One claim and what the runs say of it.

    Attributes
    ----------
    experiment : str
        Title of the experiment.
    text : str
        What is claimed.
    kind : str
        Key of `RULES`.
    reported : float
        The paper's figure; 1 for a statement.
    measured : sequence of float
        Ours, one per seed; for a statement 1 where it is true. Empty if there is no run.
    needs_all_epochs : bool
        Whether a run with fewer epochs than the paper's says nothing about it.
    """

    experiment: str
    text: str
    kind: str
    reported: float
    measured: Sequence[float] = field(default_factory=tuple)
    needs_all_epochs: bool = True

    def verdict(self, *, is_cut: bool) -> str:
        """Decide by the rule of this kind of claim."""
        if not len(self.measured):
            return UNTESTED
        if is_cut and self.needs_all_epochs:
            return CUT
        if self.kind == "statement":
            return REPRODUCED if all(self.measured) else DIFFERS
        holds = abs(float(np.mean(self.measured)) - self.reported) <= _TOLERANCES[self.kind]
        return REPRODUCED if holds else DIFFERS


def collect(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    """List every claim of the paper that a run could bear out.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        By the experiment's name, a run per seed; empty where it was not run.
    """
    found = [*_counts(runs), *_accuracies(runs), *_courses(runs), *_comparisons(runs), *_holdout(runs.get("final", ()))]
    order = {e.title: i for i, e in enumerate(EXPERIMENTS.values())}
    return sorted(found, key=lambda claim: order.get(claim.experiment, len(order)))


def tabulate(claims: Sequence[Claim], *, is_cut: bool) -> pd.DataFrame:
    """Table of claims: a row each.

    Returns
    -------
    DataFrame
        ``experiment``, ``claim``, ``paper``, ``measured`` (mean and standard deviation over seeds), ``range``
        (lowest to highest), ``verdict``; figures are formatted for their kind.
    """
    rows = []
    for claim in claims:
        show = _format(claim.kind)
        values = np.asarray(claim.measured, float)
        measured = spread = "–"
        if len(values):
            measured = show(values.mean()) + (f" ± {show(values.std(ddof=1))}" if len(values) > 1 else "")
            spread = f"{show(values.min())} to {show(values.max())}" if len(values) > 1 else "–"
        if claim.kind == "statement" and len(values):
            measured, spread = f"{int(values.sum())} of {len(values)} seeds", "–"
        stated = "stated" if claim.kind == "statement" else show(claim.reported)
        verdict = claim.verdict(is_cut=is_cut)
        rows.append((claim.experiment, claim.text, stated, measured, spread, verdict))
    return pd.DataFrame(rows, columns=["experiment", "claim", "paper", "measured", "range", "verdict"])


def _format(kind: str) -> Callable[[float], str]:
    return {"count": "{:,.0f}".format, "epoch": "{:.1f}".format}.get(kind, "{:.1%}".format)


def _title(name: str) -> str:
    return EXPERIMENTS[name].title


def _counts(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    return [
        Claim(
            _title(name),
            "trainable parameters",
            "count",
            reported.parameters,
            [run.record["parameters"] for run in runs.get(name, ())],
            needs_all_epochs=False,
        )
        for name, reported in paper.REPORTED.items()
        if reported.parameters
    ]


def _accuracies(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    claims = []
    for name, reported in paper.REPORTED.items():
        peaks = [scores.peaks(run.history) for run in runs.get(name, ())]
        for part in ("training", "validation"):
            value = getattr(reported, part)
            if value is not None:
                measured = [getattr(peak, part) for peak in peaks]
                claims.append(Claim(_title(name), f"peak {part} accuracy", "accuracy", value, measured))
    return claims


def _courses(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    def levels_off(name: str, column: str, part: str, epoch: int) -> Claim:
        found = [scores.plateau_epoch(run.history[column]) for run in runs.get(name, ())]
        return Claim(_title(name), f"{part} accuracy levels off near this epoch", "epoch", epoch, found)

    def nearly_identical(name: str, text: str) -> Claim:
        gaps = [scores.peaks(run.history).gap for run in runs.get(name, ())]
        return Claim(_title(name), text, "statement", 1, [abs(gap) < NEARLY_IDENTICAL for gap in gaps])

    def collapses(name: str) -> Claim:
        found = [scores.is_collapsed(run.predicted("test")) for run in runs.get(name, ())]
        cut = any(run.epochs < EXPERIMENTS[name].epochs for run in runs.get(name, ()))
        return Claim(_title(name), "one class is given to all photos", "statement", 1, found, needs_all_epochs=cut)

    return [
        collapses("raw-imbalanced"),
        collapses("raw-undersampled"),
        levels_off("overfitting", "val_accuracy", "validation", 17),
        levels_off("reduced", "val_accuracy", "validation", 15),
        levels_off("l2-activity", "accuracy", "training", 12),
        levels_off("final", "val_accuracy", "validation", 45),
        nearly_identical("dropout-0.4", "training and validation nearly identical at the end"),
        nearly_identical("l1l2-kernel", "training and validation nearly identical"),
        nearly_identical("final", "very little discrepancy between training and validation"),
    ]


def _comparisons(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    def paired(names: Sequence[str], holds: Callable[[dict[str, scores.Peaks]], bool]) -> list[bool]:
        # Seed by seed: equal seeds share their split.
        by_name = {name: {run.seed: scores.peaks(run.history) for run in runs.get(name, ())} for name in names}
        seeds = set.intersection(*(set(found) for found in by_name.values()))
        return [holds({name: by_name[name][seed] for name in names}) for seed in sorted(seeds)]

    earlier = ("overfitting", "dropout-0.2", "dropout-0.4")
    others = (*earlier, "reduced", "l2-activity")
    best_so_far = paired(
        (*earlier, "reduced"), lambda p: all(p["reduced"].validation > p[name].validation for name in earlier)
    )
    smallest_gap = paired(
        (*others, "l1l2-kernel"),
        lambda p: all(_peak_gap(p["l1l2-kernel"]) < _peak_gap(p[name]) for name in others),
    )
    bases = ("vgg16", "resnet50")
    better_base = paired(bases, lambda p: p["vgg16"].validation > p["resnet50"].validation)
    useless = paired((*bases, "final"), lambda p: max(p[b].validation for b in bases) < p["final"].validation)
    return [
        Claim(_title("reduced"), "highest validation accuracy so far", "statement", 1, best_so_far),
        Claim(_title("l1l2-kernel"), "gap between the peaks smaller than others leave", "statement", 1, smallest_gap),
        Claim("Transfer learning", "VGG16 does better than ResNet50", "statement", 1, better_base),
        Claim("Transfer learning", "neither base beats the final model", "statement", 1, useless),
    ]


def _peak_gap(peaks: scores.Peaks) -> float:
    return peaks.training - peaks.validation


def _holdout(runs: Sequence[Run]) -> list[Claim]:
    title, reported = _title("final"), paper.REPORTED["final"]
    matrices = [scores.confusion(run.labels("test"), run.predicted("test")) for run in runs]
    reports = [scores.report(matrix) for matrix in matrices]
    shares = [matrix / matrix.sum(axis=1, keepdims=True) for matrix in matrices]
    claims = [
        Claim(title, "hold-out accuracy", "accuracy", reported.test, [run.accuracy("test") for run in runs]),
        Claim(
            title,
            "from peak validation down to hold-out",
            "accuracy",
            reported.validation - reported.test,
            [scores.peaks(run.history).validation - run.accuracy("test") for run in runs],
        ),
    ]
    for score in ("precision", "recall", "f1"):
        for cell in CLASSES:
            measured = [report.loc[cell, score] for report in reports]
            value = paper.FIGURE_3_REPORT.loc[cell, score]
            claims.append(Claim(title, f"hold-out {score}, {cell.lower()}", "score", value, measured))
    theirs = paper.FIGURE_3_MATRIX / paper.FIGURE_3_MATRIX.sum(axis=1, keepdims=True)
    for i, true in enumerate(CLASSES):
        for j, given in enumerate(CLASSES):
            measured = [share[i, j] for share in shares]
            text = f"hold-out, {true.lower()} taken for {given.lower()}"
            if i != j:  # the diagonal is the recall
                claims.append(Claim(title, text, "score", float(theirs[i, j]), measured))
    for cell in CLASSES:
        measured = [report.loc[cell, "support"] for report in reports]
        value = paper.FIGURE_3_REPORT.loc[cell, "support"]
        text = f"hold-out images, {cell.lower()}"
        claims.append(Claim(title, text, "count", value, measured, needs_all_epochs=False))
    return claims


def summarise(runs: Mapping[str, Sequence[Run]], new_photo: Mapping[str, float] | None = None) -> pd.DataFrame:
    """Mean peaks and hold-out accuracy of every experiment on the augmented images, beside the paper's.

    Parameters
    ----------
    runs : mapping of str to sequence of Run
        By the experiment's name.
    new_photo : mapping of str to float, optional
        By the experiment's name, its accuracy on photos it has not seen.

    Returns
    -------
    DataFrame
        As `figures.draw_summary` takes it.
    """
    rows = {}
    for name, experiment in EXPERIMENTS.items():
        if experiment.material != "augmented":
            continue  # Their hold-out set is another: photos, not copies.
        some, reported = runs.get(name, ()), experiment.reported
        peaks = [scores.peaks(run.history) for run in some]
        rows[experiment.title] = {
            "training": np.mean([p.training for p in peaks]) if some else np.nan,
            "validation": np.mean([p.validation for p in peaks]) if some else np.nan,
            "test": np.mean([run.accuracy("test") for run in some]) if some else np.nan,
            "new_photo": (new_photo or {}).get(name, np.nan),
            "paper_training": reported.training,
            "paper_validation": reported.validation,
            "paper_test": reported.test,
        }
    return pd.DataFrame(rows, dtype=float).T
