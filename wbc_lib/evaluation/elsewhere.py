"""How far a model's answers and its doubts carry to pictures from elsewhere, and what their borders give away.

A table of answers has a row per picture: ``cell`` (its class, "" for none of ours), ``unlike`` (above 1 is refused),
``refused`` (why, or ""), and ``s0_logit_0`` to ``s0_logit_4`` for each seed. Pictures of other microscopes count as
independent: whose blood they show is not published.
"""

import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import logsumexp, softmax

from wbc_lib.data.dataset import CLASSES, LABELS, N_OUTPUTS
from wbc_lib.data.images import to_lab
from wbc_lib.data.splits import split_by_group
from wbc_lib.evaluation import intervals, scores
from wbc_lib.evaluation.calibration import Predictions, accuracy, calibration_error, pool
from wbc_lib.evaluation.intervals import UNKNOWN, Interval

#: Why a picture is refused: it shows none, its colours are others, its nucleus is too small or too large.
NO_CELL, COLOURS, NUCLEUS = "no white cell", "colours", "nucleus"
#: Width of a picture's border, as a share of its shorter side.
_BORDER = 0.04
_FOLDS = 5
_RESAMPLES = 2000
_LOGIT = re.compile(r"s(\d+)_logit_0")


def of_classes(table: pd.DataFrame) -> pd.DataFrame:
    """Those pictures that show one of our classes."""
    return table[table.cell.isin(CLASSES)].reset_index(drop=True)


def read_answers(table: pd.DataFrame) -> list[Predictions]:
    """The answers about pictures of our classes, one of each seed."""
    known = of_classes(table)
    labels, rows = known.cell.map(LABELS).to_numpy(np.int64), np.arange(len(known))
    return [Predictions(labels, logits, rows) for logits in _logits(known)]


def confusion(table: pd.DataFrame) -> NDArray[np.float64]:
    """True against predicted classes, the mean over seeds, shape (4, 5) as `scores.confusion` gives it."""
    return np.mean([scores.confusion(a.labels, a.predicted) for a in read_answers(table)], axis=0)


def summarise(table: pd.DataFrame) -> pd.Series:
    """What a model is worth on pictures of our classes: the mean over seeds, with intervals over pictures.

    ``pictures``, ``accuracy`` (`calibration.accuracy`) and ``balanced`` (pictures drawn anew within classes),
    ``confidence`` (mean), ``sure`` (share of answers above 99 %) and ``error`` (of calibration).
    """
    answers = read_answers(table)
    if not answers or not len(answers[0]):
        nothing = {"accuracy": UNKNOWN, "balanced": UNKNOWN, "confidence": np.nan, "sure": np.nan, "error": np.nan}
        return pd.Series({"pictures": 0} | nothing)
    labels, rows = answers[0].labels, answers[0].photos
    counts = np.mean([intervals.group_counts(labels, a.predicted, rows) for a in answers], axis=0)
    weights = intervals.group_weights(rows, _RESAMPLES, strata=labels)
    confidence = np.concatenate([a.confidence for a in answers])
    return pd.Series(
        {
            "pictures": len(labels),
            "accuracy": accuracy(answers),
            "balanced": intervals.bootstrap(counts, weights, scores.balanced_accuracy),
            "confidence": float(confidence.mean()),
            "sure": float((confidence > 0.99).mean()),
            "error": calibration_error(pool(answers)),
        }
    )


def tabulate_refusals(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """What refusing does to sets of pictures, a row for each.

    ``pictures``, ``refused`` (their share, with Clopper and Pearson's interval), ``answered`` (those of our classes
    that are not) and ``right`` (the accuracy of these).
    """
    rows = {}
    for name, table in tables.items():
        is_refused = (table.refused != "").to_numpy()
        kept = summarise(table[~is_refused])
        share = intervals.binomial_interval(float(is_refused.sum()), len(table), exact=True)
        rows[name] = {"pictures": len(table), "refused": share, "answered": kept.pictures, "right": kept.accuracy}
    return pd.DataFrame(rows).T


def doubt(table: pd.DataFrame) -> NDArray[np.float64]:
    """How unsure the runs are: one minus the probability of the likeliest class, the mean over seeds."""
    return 1 - softmax(np.stack(_logits(table)), axis=2).max(axis=2).mean(axis=0)


def energy(table: pd.DataFrame) -> NDArray[np.float64]:
    """How little speaks for any class: minus the log-sum-exp of the logits, the mean over seeds."""
    return -logsumexp(np.stack(_logits(table)), axis=2).mean(axis=0)


def auroc(unlike: NDArray[np.floating], usual: NDArray[np.floating]) -> Interval:
    """Chance that a picture from elsewhere scores higher than one of ours, ties counting half; both are drawn anew."""
    values, place = np.unique(usual, return_inverse=True)
    below, up_to = (np.searchsorted(values, unlike, side) for side in ("left", "right"))

    def estimate(ours: NDArray[np.integer], theirs: NDArray[np.integer]) -> float:
        lower = np.concatenate([[0], np.bincount(place[ours], minlength=len(values)).cumsum()])
        return float((lower[below[theirs]] + lower[up_to[theirs]]).mean() / (2 * len(ours)))

    rng = np.random.default_rng(0)
    ours, theirs = np.arange(len(usual)), np.arange(len(unlike))
    drawn = [estimate(rng.choice(ours, len(ours)), rng.choice(theirs, len(theirs))) for _ in range(500)]
    return intervals.percentiles(estimate(ours, theirs), np.array(drawn))


def compare_scores(
    tables: dict[str, pd.DataFrame], usual: str, ways: dict[str, Callable[[pd.DataFrame], NDArray]]
) -> pd.DataFrame:
    """How well each of some scores tells each set from the usual one: a row per score, a column per set, `Interval`."""
    others = [name for name in tables if name != usual]
    rows = {
        title: {name: auroc(score(tables[name]), score(tables[usual])) for name in others}
        for title, score in ways.items()
    }
    return pd.DataFrame(rows).T[others]


def score_changes(table: pd.DataFrame) -> pd.DataFrame:
    """Balanced accuracy on changed pictures: ``change``, ``towards`` and ``amount`` of the table, and its interval."""
    parts = table.groupby(["change", "towards", "amount"], sort=False)
    rows = [dict(zip(parts.keys, of, strict=True)) | vars(summarise(part).balanced) for of, part in parts]
    return pd.DataFrame(rows)


def _logits(table: pd.DataFrame) -> list[NDArray[np.float64]]:
    # One of each seed, in the order of their columns.
    seeds = [match[1] for column in table.columns if (match := _LOGIT.fullmatch(column))]
    return [table[[f"s{seed}_logit_{i}" for i in range(N_OUTPUTS)]].to_numpy(float) for seed in seeds]


def border_numbers(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean, standard deviation, and 10th and 90th percentile of L, a and b along the border, shape (12,)."""
    width = max(1, round(_BORDER * min(picture.shape[:2])))
    middle = picture[width:-width]
    parts = (picture[:width], picture[-width:], middle[:, :width], middle[:, -width:])
    lab = to_lab(np.concatenate([part.reshape(-1, 3) for part in parts])[None])[0].astype(float)
    return np.column_stack([lab.mean(axis=0), lab.std(axis=0), *np.percentile(lab, [10, 90], axis=0)]).ravel()


def accuracy_of_border(numbers: NDArray[np.floating], cells: Sequence[str], groups: NDArray[np.integer]) -> Interval:
    """Balanced accuracy of a classifier that knows the border's colour alone, out of five folds.

    In a set that is fair to classifiers it tells nothing: where pictures of a class were taken together, their light
    gives the class away. A logistic regression on the standardised numbers (pictures, 12), classes weighted alike;
    pictures of one group are held out together. The interval draws groups anew.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.array([LABELS[cell] for cell in cells])
    splits = (split_by_group(labels, groups, fold, _FOLDS, 0) for fold in range(1, _FOLDS + 1))
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
    predicted = cross_val_predict(model, numbers, labels, cv=[(split.training, split.validation) for split in splits])
    _, first = np.unique(groups, return_index=True)
    weights = intervals.group_weights(groups, _RESAMPLES, strata=labels[first])
    return intervals.bootstrap(intervals.group_counts(labels, predicted, groups), weights, scores.balanced_accuracy)
