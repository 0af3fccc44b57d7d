"""Scores of predictions, and what can be read off a history of epochs. Pure functions.

Scores of confusion matrices take any number of them at once, (..., 4, 5): a bootstrap scores thousands.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, N_OUTPUTS

#: From confusion matrices (..., 4, 5) to scores (...).
Statistic = Callable[[NDArray], NDArray]


def confusion(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count true classes, 1 to 4, against predicted ones, 0 to 4: a network has an output that belongs to no class.

    Rows of the (4, 5): true class. Columns: predicted class, and last the predictions of the class that is none.
    """
    from sklearn.metrics import confusion_matrix  # half a second to load, and many chapters count nothing

    return np.roll(confusion_matrix(labels, predicted, labels=range(N_OUTPUTS))[1:], -1, axis=1)


def report(matrix: NDArray[np.integer]) -> pd.DataFrame:
    """Precision, recall and F1 of each class from a confusion matrix, as the paper's Figure 3 lists them.

    ``precision``, ``recall``, ``f1`` (0 to 1; 0 where they are undefined) and ``support``.
    """
    right, true, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)[: len(CLASSES)]
    columns = {
        "precision": _share(right, predicted),
        "recall": recalls(matrix),
        "f1": _share(2 * right, true + predicted),
    }
    return pd.DataFrame(columns, index=pd.Index(CLASSES, name="cell")).fillna(0.0).assign(support=true)


def accuracy(matrices: NDArray) -> NDArray[np.float64]:
    """Share on the diagonal of confusion matrices (..., 4, 5), shape (...); NaN for an empty one."""
    return _share(np.trace(matrices, axis1=-2, axis2=-1), matrices.sum(axis=(-2, -1)))


def recalls(matrices: NDArray) -> NDArray[np.float64]:
    """Recall of each class from confusion matrices (..., 4, 5), shape (..., 4); NaN for a class that is absent."""
    return _share(np.diagonal(matrices, axis1=-2, axis2=-1), matrices.sum(axis=-1))


def balanced_accuracy(matrices: NDArray) -> NDArray[np.float64]:
    """Mean recall over the classes that are present, from confusion matrices (..., 4, 5), shape (...)."""
    return np.nanmean(recalls(matrices), axis=-1)


def recall_of(cell: str) -> Statistic:
    """Recall of one class, as a statistic."""
    column = CLASSES.index(cell)
    return lambda matrices: recalls(matrices)[..., column]


def _share(part: NDArray, whole: NDArray) -> NDArray[np.float64]:
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)[()]


def mix_distance(mix: NDArray[np.floating], other: NDArray[np.floating]) -> NDArray[np.float64]:
    """Total variation between mixes (..., classes): half the sum of absolute differences, 0 to 1, shape (...)."""
    return np.abs(mix - other).sum(axis=-1) / 2


def total_variation(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """`mix_distance` of the true and the predicted classes: the share to be relabelled to make the counts right."""
    mixes = (np.bincount(x, minlength=N_OUTPUTS) / len(x) for x in (labels, predicted))
    return float(mix_distance(*mixes))


def is_collapsed(predicted: NDArray[np.integer]) -> bool:
    """Whether nearly all examples, 99 % or more, are given one and the same class."""
    return bool(np.bincount(predicted).max() >= 0.99 * len(predicted))


def confidence_threshold(confidence: NDArray[np.floating], right: NDArray[np.bool_], accuracy: float) -> float:
    """The least confidence from which on `accuracy` or more are right (El-Yaniv and Wiener 2010); above 1 if none."""
    order = np.argsort(-confidence, kind="stable")
    ordered = confidence[order]
    running = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    is_last_of_ties = np.append(ordered[1:] < ordered[:-1], True)
    enough = np.flatnonzero((running >= accuracy) & is_last_of_ties)
    return float(ordered[enough[-1]]) if len(enough) else float(np.nextafter(1, 2))


@dataclass(frozen=True)
class Peaks:
    """The best accuracies of a history, 0 to 1."""

    training: float
    validation: float
    gap: float  # mean of training minus validation accuracy over the last fifth of the epochs


def peaks(history: pd.DataFrame) -> Peaks:
    """Read the peaks, which the paper quotes, and the closing gap off a history."""
    last = history.tail(max(1, len(history) // 5))
    gap = float((last.accuracy - last.val_accuracy).mean())
    return Peaks(float(history.accuracy.max()), float(history.val_accuracy.max()), gap)


def plateau_epoch(values: NDArray[np.floating] | pd.Series) -> int:
    """First epoch (from 1) whose centred mean over three epochs is within 0.01 of the highest such mean."""
    smooth = pd.Series(np.asarray(values, float)).rolling(3, center=True, min_periods=1).mean()
    return int(np.argmax(smooth.to_numpy() >= smooth.max() - 0.01)) + 1


def volatility(values: NDArray[np.floating] | pd.Series) -> float:
    """Standard deviation of the change from one epoch to the next, over the second half of the epochs."""
    changes = np.diff(np.asarray(values, float))
    return float(changes[len(changes) // 2 :].std())


def tabulate_courses(histories: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Read off each history what the chapters compare, a row each.

    The fields of `Peaks`; ``training_level`` and ``validation_level``, see `plateau_epoch`; ``volatility`` of
    validation accuracy; ``last_validation``, its value after the last epoch.
    """
    rows = []
    for history in histories:
        training, validation = history.accuracy, history.val_accuracy
        levels = plateau_epoch(training), plateau_epoch(validation)
        rows.append([*vars(peaks(history)).values(), *levels, volatility(validation), validation.iloc[-1]])
    columns = ["training", "validation", "gap", "training_level", "validation_level", "volatility", "last_validation"]
    return pd.DataFrame(rows, columns=columns, dtype=float)
