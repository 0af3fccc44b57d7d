"""What the colour of a picture's border alone tells of its class: nothing, in a set that is fair to classifiers.

Where pictures of a class were taken together, their light gives the class away, and a classifier that looks at nothing
else seems good.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.dataset import LABELS
from wbc_lib.data.images import to_lab
from wbc_lib.data.splits import split_by_group
from wbc_lib.evaluation import scores
from wbc_lib.evaluation.intervals import Interval, bootstrap, group_counts, group_weights

#: Width of the border, as a share of the picture's shorter side.
WIDTH = 0.04
_FOLDS = 5


def border_numbers(picture: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Mean, standard deviation, and 10th and 90th percentile of L, a and b along the border, shape (12,)."""
    width = max(1, round(WIDTH * min(picture.shape[:2])))
    middle = picture[width:-width]
    parts = (picture[:width], picture[-width:], middle[:, :width], middle[:, -width:])
    lab = to_lab(np.concatenate([part.reshape(-1, 3) for part in parts])[None])[0].astype(float)
    return np.column_stack([lab.mean(axis=0), lab.std(axis=0), *np.percentile(lab, [10, 90], axis=0)]).ravel()


def accuracy_of_border(numbers: NDArray[np.floating], cells: Sequence[str], groups: NDArray[np.integer]) -> Interval:
    """Balanced accuracy of a classifier that knows the border's colour alone, out of five folds.

    A logistic regression on the standardised numbers (pictures, 12), classes weighted alike; pictures of one group are
    held out together. The interval draws groups anew.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.array([LABELS[cell] for cell in cells])
    predicted = np.zeros(len(labels), int)
    for fold in range(1, _FOLDS + 1):
        split = split_by_group(labels, groups, fold, _FOLDS, 0)
        model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=2000))
        predicted[split.validation] = model.fit(numbers[split.training], labels[split.training]).predict(
            numbers[split.validation]
        )
    _, first = np.unique(groups, return_index=True)
    weights = group_weights(groups, 2000, strata=labels[first])
    return bootstrap(group_counts(labels, predicted, groups), weights, scores.balanced_accuracy)
