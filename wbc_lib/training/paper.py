"""What the paper reports, in one place: every figure that ours are held against."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES


@dataclass(frozen=True)
class Reported:
    """What the paper reports of one experiment, shares from 0 to 1; ``None`` where it says nothing."""

    training: float | None = None  # peaks over the epochs
    validation: float | None = None
    test: float | None = None  # on the hold-out set
    parameters: int | None = None  # trainable


#: By the name of the experiment in `wbc_lib.training.experiments`.
REPORTED = {
    "raw-imbalanced": Reported(),
    "raw-undersampled": Reported(),
    "baseline": Reported(validation=0.5644),
    "overfitting": Reported(0.9785, 0.9142, parameters=2_889_925),
    "dropout-0.2": Reported(0.9471, 0.8937),
    "dropout-0.4": Reported(0.8832, 0.8897),
    "reduced": Reported(0.9774, 0.9346, parameters=759_237),
    "l2-activity": Reported(0.9833, 0.9037),
    "l1l2-kernel": Reported(0.9624, 0.9187),
    "vgg16": Reported(),
    "resnet50": Reported(),
    "final": Reported(0.9584, 0.9396, 0.84, 423_237),
}

#: Images the paper says the augmented data set has, photos in the raw one, and its undersampled remainder.
N_IMAGES = 12_054
N_RAW_PHOTOS = 366
N_UNDERSAMPLED = 84
CHANCE = 0.25

#: Figure 1: the final model's layers.
FIGURE_1 = pd.DataFrame(
    [
        ("Conv2D", (58, 78, 32), 896),
        ("MaxPooling2D", (29, 39, 32), 0),
        ("Conv2D", (27, 37, 64), 18_496),
        ("MaxPooling2D", (13, 18, 64), 0),
        ("Conv2D", (11, 16, 128), 73_856),
        ("MaxPooling2D", (5, 8, 128), 0),
        ("Flatten", (5120,), 0),
        ("Dense", (64,), 327_744),
        ("Dropout", (64,), 0),
        ("Dense", (32,), 2_080),
        ("Dropout", (32,), 0),
        ("Dense", (5,), 165),
    ],
    columns=["layer", "output_shape", "parameters"],
)

#: Figure 3: the classification report on the hold-out set ...
FIGURE_3_REPORT = pd.DataFrame(
    {
        "precision": [0.65, 0.84, 0.95, 1.00],
        "recall": [0.83, 0.76, 0.78, 1.00],
        "f1": [0.73, 0.80, 0.86, 1.00],
        "support": [624, 623, 620, 620],
    },
    index=pd.Index(CLASSES, name="cell"),
)
#: ... and its confusion matrix (rows: true class, columns: predicted).
FIGURE_3_MATRIX = np.array([[517, 85, 21, 1], [145, 475, 1, 2], [133, 6, 481, 0], [0, 0, 1, 619]])
FIGURE_3_MATRIX.flags.writeable = False
FIGURE_3_ACCURACY = float(FIGURE_3_MATRIX.trace() / FIGURE_3_MATRIX.sum())
#: The text gives the eosinophils' errors as "145/621", though the matrix row sums to 623.
TEXT_EOSINOPHILS = 621
