"""The paper's claims and our own questions, one by one, each with the runs that it is held against."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import comparison, scores
from wbc_lib.evaluation.claims import BY_CONSTRUCTION, FIGURE_3, NEARLY_IDENTICAL, Claim
from wbc_lib.evaluation.comparison import DOUBTFUL_PHOTO, Comparison, PhotoScores
from wbc_lib.provenance import overlaps
from wbc_lib.training import paper
from wbc_lib.training.experiments import EXPERIMENTS
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Variations of experiments that a claim needs.
_VARIATIONS = (
    "final+no-dropout", "final+no-penalty", "final+30-epochs", "final+4-convolutions", "final+2-convolutions",
    "final+120x160", "efficientnet-lite0+224x224", "kernel+adadelta-0.001", "raw-imbalanced+weighted",
    "raw-imbalanced+longer", "raw-cropped+weighted",
)  # fmt: skip
#: Validation accuracy changes more than this many times as much from epoch to epoch as training accuracy.
_VOLATILE = 2
#: Points between training and validation accuracy that make "a large gap".
_LARGE_GAP = 0.05
_SINGLE_REMEDIES = ("dropout-0.2", "dropout-0.4", "reduced", "l2-activity", "l1l2-kernel")
_CHAPTERS = {
    "raw-imbalanced": "4-data", "raw-undersampled": "4-data", "raw-cropped": "4-data",
    "baseline": "5-baseline", "overfitting": "6-overfitting", **dict.fromkeys(_SINGLE_REMEDIES, "7-regularising"),
    "vgg16": "7b-transfer", "efficientnet-lite0": "7b-transfer", "final": "8-results", "kernel": "8-results",
}  # fmt: skip


@dataclass(frozen=True)
class Evidence:
    """What the claims are held against: by experiment a run per seed, and scores on the augmented TEST by seed."""

    runs: Mapping[str, Sequence[Run]]
    by_seed: Mapping[str, Mapping[int, PhotoScores]]

    @cached_property
    def photos(self) -> dict[str, PhotoScores]:
        """By experiment its scores on TEST, mean over all its seeds."""
        return {name: comparison.average(list(of.values())) for name, of in self.by_seed.items()}

    def seeds_of(self, name: str) -> set[int]:
        """Seeds of an experiment's runs that are scored on the augmented TEST."""
        return set(self.by_seed.get(name, {}))

    def compare(self, one: str, other: str, without: int | None = None) -> Comparison | None:
        """One experiment minus another on TEST, over the seeds that both have; ``None`` if there is none.

        `without` is the number of a photo that is left out.
        """
        shared = sorted(self.seeds_of(one) & self.seeds_of(other))
        if not shared:
            return None
        means = [comparison.average([self.by_seed[name][seed] for seed in shared]) for name in (one, other)]
        return comparison.compare(*means if without is None else (mean.without(without) for mean in means))


def gather(study: Study, names: Iterable[str] = EXPERIMENTS, also: Iterable[str] = ()) -> Evidence:
    """Read every run that a claim needs; what is not recorded and cannot be trained stays empty.

    Of all experiments unless they are named, which takes long where they have to be trained; and of variations of
    experiments, in `also`, if they are recorded.
    """
    runs: dict[str, list[Run]] = {name: study.runs(name, optional=True) for name in names}
    runs |= {name: study.recorded(name) for name in (*_VARIATIONS, *also)}
    photos = sorted(study.provenance.photo.unique())
    groups = pd.Series(overlaps.group(photos, study.pairs), photos)
    scored = {
        name: {run.seed: comparison.score_photos([run], study.provenance, groups) for run in found}
        for name, found in runs.items()
        if found and found[0].record["config"]["material"] == "augmented"
    }
    return Evidence(runs, scored)


def collect(evidence: Evidence) -> list[Claim]:
    """List every claim of the paper that a run could bear out, by experiment."""
    runs = evidence.runs
    claims = [*_figures(runs), *_courses(runs), *_orders(runs), *_conclusions(evidence)]
    claims += _holdout(runs.get("final", ()))
    order = {e.title: i for i, e in enumerate(EXPERIMENTS.values())}
    return sorted(claims, key=lambda claim: order.get(claim.experiment, len(order)))


def _about(name: str, text: str, kind: str, **others: Any) -> Claim:
    return Claim(EXPERIMENTS[name].title, text, kind, chapter=_CHAPTERS[name], **others)


def _figures(runs: Mapping[str, Sequence[Run]]) -> Iterator[Claim]:
    for name, reported in paper.REPORTED.items():
        known = runs.get(name, ())
        if reported.parameters:
            measured = [run.record["parameters"] for run in known]
            yield _about(
                name, "trainable parameters", "count", reported=reported.parameters, measured=measured,
                needs_all_epochs=False, group=BY_CONSTRUCTION,
            )  # fmt: skip
        peaks = [scores.peaks(run.history) for run in known]
        for part in ("training", "validation"):
            value = getattr(reported, part)
            if value is not None:
                measured = [getattr(peak, part) for peak in peaks]
                yield _about(name, f"peak {part} accuracy", "accuracy", reported=value, measured=measured)


def _courses(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    def levels_off(name: str, column: str, part: str, epoch: int) -> Claim:
        epochs = [scores.plateau_epoch(run.history[column]) for run in runs.get(name, ())]
        text = f"{part} accuracy levels off near this epoch"
        return _about(name, text, "epoch", reported=epoch, measured=epochs)

    def state(name: str, text: str, is_true: Callable[[Run], bool], **others: Any) -> Claim:
        return _about(name, text, "statement", measured=[is_true(run) for run in runs.get(name, ())], **others)

    def collapses(name: str) -> Claim:
        cut = any(run.epochs < EXPERIMENTS[name].epochs for run in runs.get(name, ()))
        measured = [scores.is_collapsed(run.predicted("test")) for run in runs.get(name, ())]
        return _about(name, "one class is given to all photos", "statement", measured=measured, needs_all_epochs=cut)

    def is_nearly_identical(run: Run) -> bool:
        return abs(scores.peaks(run.history).gap) < NEARLY_IDENTICAL

    def is_volatile(run: Run, training: str, validation: str, after: int = 0) -> bool:
        changes = run.history.loc[run.history.epoch > after, [training, validation]].diff().abs().mean()
        return bool(changes[validation] > _VOLATILE * changes[training])

    def rises_fast(run: Run) -> bool:
        smooth = run.history.accuracy.rolling(3, center=True, min_periods=1).mean()
        early = smooth[run.history.epoch <= 20].iloc[-1] - smooth.iloc[0]
        return bool(early > 0.5 * (smooth.max() - smooth.iloc[0]))

    return [
        collapses("raw-imbalanced"),
        collapses("raw-undersampled"),
        levels_off("overfitting", "val_accuracy", "validation", 17),
        levels_off("reduced", "val_accuracy", "validation", 15),
        levels_off("l2-activity", "accuracy", "training", 12),
        levels_off("final", "val_accuracy", "validation", 45),
        state("dropout-0.4", "training and validation nearly identical at the end", is_nearly_identical),
        state("dropout-0.4", "validation accuracy barely levels off (in the last fifth of the epochs)",
              lambda run: scores.plateau_epoch(run.history.val_accuracy) > 0.8 * run.epochs, is_late=True),
        state("reduced", "validation accuracy volatile after epoch 15 (twice as much as training)",
              lambda run: is_volatile(run, "accuracy", "val_accuracy", 15), is_late=True),
        state("l2-activity", "a large gap between the peaks (above 5 points)",
              lambda run: _peak_gap(scores.peaks(run.history)) > _LARGE_GAP, is_late=True),
        state("l1l2-kernel", "training and validation nearly identical", is_nearly_identical),
        state("final", "very little discrepancy between training and validation", is_nearly_identical),
        state("final", "fast for 20 epochs (more than half of the rise)", rises_fast, is_late=True),
        state("final", "validation loss volatile, training loss smooth (twice as much)",
              lambda run: is_volatile(run, "loss", "val_loss"), is_late=True),
    ]  # fmt: skip


def _orders(runs: Mapping[str, Sequence[Run]]) -> list[Claim]:
    def pair(names: Sequence[str], is_true: Callable[[dict[str, pd.Series]], bool]) -> list[bool]:
        # Seed by seed, a row of `scores.tabulate_courses` of each: equal seeds share their split.
        courses = {
            name: {run.seed: scores.tabulate_courses([run.history]).iloc[0] for run in runs.get(name, ())}
            for name in names
        }
        seeds = set.intersection(*(set(of_seed) for of_seed in courses.values()))
        return [bool(is_true({name: courses[name][seed] for name in names})) for seed in sorted(seeds)]

    earlier = ("overfitting", "dropout-0.2", "dropout-0.4")
    others = (*earlier, "reduced", "l2-activity")
    bases = ("vgg16", "resnet50")
    without, shorter = ("final+no-dropout", "final+no-penalty"), "final+30-epochs"
    unavailable = "the weights of this base cannot be had here"
    return [
        _about("reduced", "highest validation accuracy so far", "statement", measured=pair(
            (*earlier, "reduced"), lambda c: all(c["reduced"].validation > c[n].validation for n in earlier))),
        _about("l1l2-kernel", "gap between the peaks smaller than others leave", "statement", measured=pair(
            (*others, "l1l2-kernel"), lambda c: all(_peak_gap(c["l1l2-kernel"]) < _peak_gap(c[n]) for n in others))),
        _about("l1l2-kernel", "levels off later than the overfitting, reduced and L2 networks", "statement",
               is_late=True, measured=pair(
            ("overfitting", "reduced", "l2-activity", "l1l2-kernel"),
            lambda c: all(c["l1l2-kernel"].validation_level > c[n].validation_level for n in c if n != "l1l2-kernel"))),
        _about("final", "the small gap is due to regularisation (without dropout, and without penalties, it is larger)",
               "statement", is_late=True, measured=pair(
            ("final", *without), lambda c: all(c["final"].gap < c[n].gap for n in without))),
        _about("final", "50 epochs narrow the gap (it is smaller than after 30)", "statement", is_late=True,
               measured=pair(("final", shorter), lambda c: c["final"].gap < c[shorter].gap)),
        _about("vgg16", "does better than ResNet50", "statement", reason=unavailable, measured=pair(
            bases, lambda c: c["vgg16"].validation > c["resnet50"].validation)),
        _about("vgg16", "overfits drastically (gap above 5 points)", "statement", reason=unavailable, is_late=True,
               measured=[scores.peaks(run.history).gap > _LARGE_GAP for run in runs.get("vgg16", ())]),
        _about("vgg16", "neither it nor ResNet50 beats the final model", "statement", reason=unavailable, measured=pair(
            (*bases, "final"), lambda c: max(c[b].validation for b in bases) < c["final"].validation)),
    ]  # fmt: skip


def _conclusions(evidence: Evidence) -> list[Claim]:
    # What the paper concludes, on TEST. The rules of those that are not late stand in docs/rules.md.
    def better(name: str, other: str, text: str, kind: str = "better", **others: Any) -> Claim:
        compared, shared = evidence.compare(name, other), evidence.seeds_of(name) & evidence.seeds_of(other)
        text += " (one training)" * (len(shared) == 1)
        return _about(name.partition("+")[0], text, kind, compared=compared, **others)

    final = evidence.runs.get("final", ())
    recalls = [scores.report(scores.confusion(run.labels("test"), run.predicted("test"))) for run in final]
    return [
        *(better(name, "overfitting", "regularisation helps: better than the overfitting network", is_late=True)
          for name in _SINGLE_REMEDIES if name != "reduced"),
        better("reduced", "overfitting", "small networks are required: better than the overfitting network",
               is_late=True),
        better("final", "overfitting", "regularisation helps: the combination is better than the overfitting network",
               is_late=True),
        better("final", "final+no-dropout", "dropout helped: better than without it"),
        better("final", "final+no-penalty", "weight penalties helped: better than without them"),
        better("final+4-convolutions", "final", "one convolution more is no better", "no better"),
        better("efficientnet-lite0", "final", "a frozen ImageNet base is no better than the final model", "no better"),
        _about("final", "lymphocytes are recognised best", "statement", is_late=True, group=FIGURE_3,
               measured=[report.recall.idxmax() == "LYMPHOCYTE" for report in recalls]),
        _about("final", "neutrophils are recognised worst (the paper's own recalls say eosinophils)", "statement",
               is_late=True, group=FIGURE_3, measured=[r.recall.idxmin() == "NEUTROPHIL" for r in recalls]),
    ]  # fmt: skip


def ask(evidence: Evidence) -> list[Claim]:
    """List questions of ours that the paper does not ask, as statements; their rules stand in docs/rules.md."""

    def better(name: str, other: str, text: str) -> Claim:
        return _about("final", text, "better", compared=evidence.compare(name, other))

    def learnt(name: str, text: str) -> Claim:
        claim = _about(name.partition("+")[0], text, "learnt", needs_all_epochs=False)
        if not (runs := evidence.runs.get(name, ())):
            return claim
        labels = runs[0].labels("test")
        right = np.mean([run.predicted("test") == labels for run in runs], axis=0)
        recall = comparison.average_classes(right, np.ones(len(labels)), labels)
        collapsed = any(scores.is_collapsed(run.predicted("test")) for run in runs)
        is_learnt = recall.low > 1 / len(CLASSES) and not collapsed
        return replace(claim, measured=[is_learnt], shown=f"mean recall {recall:.1%}")

    def kernel(name: str, settings: str) -> list[Claim]:
        runs = evidence.runs.get(name, ())
        last, best = [r.accuracy("test") for r in runs], [scores.peaks(r.history).validation for r in runs]
        of_paper = f"{settings} explains the paper's accuracy on TEST"
        own = f"{settings} gives the kernel's own 85 to 90 % (best epoch on TEST)"
        return [
            _about("kernel", of_paper, "accuracy", reported=paper.FIGURE_3_ACCURACY, measured=last),
            _about("kernel", own, "accuracy", reported=0.875, measured=best),
        ]

    return [
        learnt("raw-imbalanced+weighted", "with class weights the whole photos are learnt"),
        learnt("raw-imbalanced+longer", "over ten times the epochs the whole photos are learnt"),
        learnt("raw-cropped+weighted", "with class weights the cells cut out are learnt"),
        better("final", "final+30-epochs", "50 epochs are better than 30"),
        better("final+120x160", "final", "larger images (120x160) are better"),
        better("final+2-convolutions", "final", "one convolution fewer is better"),
        better("efficientnet-lite0+224x224", "final", "a frozen ImageNet base at 224x224 is better"),
        *kernel("kernel", "Adadelta at a rate of 1"),
        *kernel("kernel+adadelta-0.001", "Adadelta at a rate of 0.001"),
    ]


def _peak_gap(peaks: scores.Peaks | pd.Series) -> float:
    return peaks.training - peaks.validation


def _holdout(runs: Sequence[Run]) -> list[Claim]:
    reported = paper.REPORTED["final"]
    assert reported.validation and reported.test  # the paper gives both
    matrices = [scores.confusion(run.labels("test"), run.predicted("test")) for run in runs]
    reports = [scores.report(matrix) for matrix in matrices]
    shares = [matrix / matrix.sum(axis=1, keepdims=True) for matrix in matrices]
    drops = [scores.peaks(run.history).validation - run.accuracy("test") for run in runs]
    claims = [
        _about("final", "hold-out accuracy", "accuracy", reported=reported.test, group=FIGURE_3,
               measured=[run.accuracy("test") for run in runs]),
        _about("final", "from peak validation down to hold-out", "accuracy", measured=drops, group=BY_CONSTRUCTION,
               reported=reported.validation - reported.test),
    ]  # fmt: skip
    for score in ("precision", "recall", "f1"):
        for cell in CLASSES:
            measured = [report.loc[cell, score] for report in reports]
            value = paper.FIGURE_3_REPORT.loc[cell, score]
            text = f"hold-out {score}, {cell.lower()}"
            claims.append(_about("final", text, "score", reported=value, measured=measured, group=FIGURE_3,
                                 is_late=score == "f1"))  # fmt: skip
    theirs = paper.FIGURE_3_MATRIX / paper.FIGURE_3_MATRIX.sum(axis=1, keepdims=True)
    for i, j in ((i, j) for i in range(len(CLASSES)) for j in range(len(CLASSES)) if i != j):  # i = j is the recall
        text = f"hold-out, {CLASSES[i].lower()} taken for {CLASSES[j].lower()}"
        claims.append(_about("final", text, "score", reported=float(theirs[i, j]), group=FIGURE_3, is_late=True,
                             measured=[share[i, j] for share in shares]))  # fmt: skip
    for cell in CLASSES:
        measured = [report.loc[cell, "support"] for report in reports]
        claims.append(_about("final", f"hold-out images, {cell.lower()}", "count", measured=measured, is_late=True,
                             reported=paper.FIGURE_3_REPORT.loc[cell, "support"], needs_all_epochs=False,
                             group=BY_CONSTRUCTION))  # fmt: skip
    return claims


def summarise(runs: Mapping[str, Sequence[Run]]) -> pd.DataFrame:
    """Mean peaks and hold-out accuracy of every experiment on the augmented images, beside the paper's.

    As `figures.draw_summary` takes it.
    """
    rows = {}
    for name, experiment in EXPERIMENTS.items():
        if experiment.material != "augmented" or experiment.protocol == "test":
            continue  # their hold-out set is another
        known, reported = runs.get(name, ()), experiment.reported
        courses = scores.tabulate_courses(run.history for run in known)
        rows[experiment.title] = {
            "training": courses.training.mean(),
            "validation": courses.validation.mean(),
            "test": np.mean([run.accuracy("test") for run in known]) if known else np.nan,
            "paper_training": reported.training,
            "paper_validation": reported.validation,
            "paper_test": reported.test,
        }
    return pd.DataFrame(rows, dtype=float).T


def tabulate_on_test(evidence: Evidence, names: Sequence[str], other: str) -> pd.DataFrame:
    """Compare experiments with another one on TEST; those without runs are left out.

    Indexed by name: ``image`` and ``photo`` (accuracies, 0 to 1), ``by_image``, ``by_photo`` and, without photo 110,
    ``without_110`` (by image): paired differences in points, as `Interval`, ``None`` for the other itself.
    """
    rows: dict[str, dict[str, Any]] = {}
    for name in names:
        if name not in evidence.photos:
            continue
        scored = evidence.photos[name]
        rows[name] = {"image": scored.by_image, "photo": scored.by_photo}
        if name == other:
            continue
        compared, less = (evidence.compare(name, other, without) for without in (None, DOUBTFUL_PHOTO))
        if compared and less:
            rows[name] |= {"by_image": compared.by_image, "without_110": less.by_image, "by_photo": compared.by_photo}
    columns = ["image", "photo", "by_image", "without_110", "by_photo"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns)
