"""Scores of predictions, and what can be read off a history of epochs. Pure functions."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, N_OUTPUTS


def confusion(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> NDArray[np.int64]:
    """Count true against predicted classes.

    Parameters
    ----------
    labels, predicted : ndarray of int, shape (examples,)
        True labels 1 to 4; predicted ones 0 to 4, for the network has an output that belongs to no class.

    Returns
    -------
    ndarray of int, shape (4, 5)
        Rows: true class. Columns: predicted class, and last the predictions of the class that is none.
    """
    matrix = np.zeros((len(CLASSES), N_OUTPUTS), np.int64)
    # Column -1 is the last: predictions of the class that is none.
    np.add.at(matrix, (np.asarray(labels) - 1, np.asarray(predicted) - 1), 1)
    return matrix


def report(matrix: NDArray[np.integer]) -> pd.DataFrame:
    """Precision, recall and F1 of each class from a confusion matrix, as the paper's Figure 3 lists them.

    Parameters
    ----------
    matrix : ndarray of int, shape (4, 4) or (4, 5)
        As `confusion` gives it.

    Returns
    -------
    DataFrame
        A row per class: ``precision``, ``recall``, ``f1`` (0 to 1; 0 where nothing was predicted) and ``support``.
    """
    right, support, predicted = np.diagonal(matrix), matrix.sum(axis=1), matrix.sum(axis=0)[: len(CLASSES)]
    columns = {
        "precision": right / np.maximum(predicted, 1),
        "recall": right / np.maximum(support, 1),
        "f1": 2 * right / np.maximum(support + predicted, 1),
        "support": support,
    }
    return pd.DataFrame(columns, index=pd.Index(CLASSES, name="cell"))


def accuracy(matrix: NDArray[np.integer]) -> float:
    """Share of the examples on the diagonal."""
    return float(np.trace(matrix) / matrix.sum())


def total_variation(labels: NDArray[np.integer], predicted: NDArray[np.integer]) -> float:
    """Distance between the true and the predicted mix of classes: half the sum of absolute differences, 0 to 1.

    Equals the share of a batch that would have to be relabelled to make the counts right.
    """
    n = max(int(np.max(labels)), int(np.max(predicted))) + 1
    counts = [np.bincount(x, minlength=n) / len(x) for x in (labels, predicted)]
    return float(np.abs(counts[0] - counts[1]).sum() / 2)


def is_collapsed(predicted: NDArray[np.integer], share: float = 0.99) -> bool:
    """Whether nearly all examples are given one and the same class."""
    return bool(np.bincount(predicted).max() >= share * len(predicted))


@dataclass(frozen=True)
class Peaks:
    """The best of a history.

    Attributes
    ----------
    training, validation : float
        Highest accuracies over the epochs, 0 to 1.
    validation_epoch : int
        The epoch of the highest validation accuracy.
    gap : float
        Mean of training minus validation accuracy over the last fifth of the epochs.
    """

    training: float
    validation: float
    validation_epoch: int
    gap: float


def peaks(history: pd.DataFrame) -> Peaks:
    """Read the peaks, which the paper quotes, and the closing gap off a history."""
    best = history.val_accuracy.idxmax()
    last = history.tail(max(1, len(history) // 5))
    gap = float((last.accuracy - last.val_accuracy).mean())
    return Peaks(float(history.accuracy.max()), float(history.val_accuracy[best]), int(history.epoch[best]), gap)


def plateau_epoch(values: NDArray[np.floating] | pd.Series, within: float = 0.01, window: int = 3) -> int:
    """First epoch (from 1) from which a smoothed curve stays within reach of its best value.

    The curve is smoothed by a centred mean over `window` epochs; it has levelled off at the first epoch whose
    smoothed value is within `within` of the highest one.
    """
    smooth = pd.Series(np.asarray(values, float)).rolling(window, center=True, min_periods=1).mean()
    return int(np.argmax(smooth.to_numpy() >= smooth.max() - within)) + 1


def automatic_share(probabilities: NDArray[np.floating], labels: NDArray[np.integer], accuracy: float = 0.99) -> float:
    """Largest share of examples, surest first, that could be decided at no less than `accuracy`.

    Parameters
    ----------
    probabilities : ndarray of float, shape (examples, outputs)
        Rows sum to one.
    labels : ndarray of int, shape (examples,)
    accuracy : float
        Wanted among the decided ones, 0 to 1.

    Returns
    -------
    float
        0 to 1. Examples of equal confidence are decided together or not at all.
    """
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    order = np.argsort(-confidence, kind="stable")
    running = np.cumsum(right[order]) / np.arange(1, len(order) + 1)
    is_last_of_ties = np.append(confidence[order][1:] < confidence[order][:-1], True)
    enough = np.flatnonzero((running >= accuracy) & is_last_of_ties)
    return float((enough[-1] + 1) / len(order)) if len(enough) else 0.0


def volatility(values: NDArray[np.floating] | pd.Series) -> float:
    """Standard deviation of the change from one epoch to the next, over the second half of the epochs."""
    changes = np.diff(np.asarray(values, float))
    return float(changes[len(changes) // 2 :].std())


def tabulate_courses(histories: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """Read off each history what the chapters compare, a row each.

    Returns
    -------
    DataFrame
        The fields of `Peaks`; ``training_level`` and ``validation_level``, see `plateau_epoch`; ``volatility`` of
        validation accuracy; ``last_validation``, its value after the last epoch.
    """
    rows = [
        vars(peaks(history))
        | {
            "training_level": plateau_epoch(history.accuracy),
            "validation_level": plateau_epoch(history.val_accuracy),
            "volatility": volatility(history.val_accuracy),
            "last_validation": float(history.val_accuracy.iloc[-1]),
        }
        for history in histories
    ]
    columns = [*(field.name for field in fields(Peaks)), "training_level", "validation_level", "volatility"]
    return pd.DataFrame(rows, columns=[*columns, "last_validation"], dtype=float)
