"""How far pictures lie from the photos of TRAIN in what networks compute of them: a way to tell foreign pictures."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.attention import saliency
from wbc_lib.data.images import OnProgress
from wbc_lib.training.runs import Run

if TYPE_CHECKING:
    import keras

#: Columns of distances: in the last hidden layer and the last convolution (mean over positions) of the runs' networks,
#: and in the features of EfficientNet-Lite0, which learned from ImageNet alone.
DENSE, CONVOLUTION, IMAGENET = COLUMNS = ("dense", "convolution", "imagenet")
_COMPONENTS = 64


def measure_distances(
    runs: Sequence[Run], usual: NDArray[np.uint8], pixels: NDArray[np.uint8], on_progress: OnProgress
) -> pd.DataFrame:
    """Measure how far pictures lie from the usual ones, both as the runs' networks see them (n, height, width, RGB).

    A row per picture with its `COLUMNS`: Mahalanobis distances with a shrunk covariance (Ledoit and Wolf 2004), as Lee
    et al. (2018) use them, without classes; of the runs the mean. ImageNet's features are reduced to 64 principal
    components first. Raises `WeightsError` if ImageNet's weights are not installed.
    """
    from wbc_lib.training.fit import predict
    from wbc_lib.training.networks import build_base

    parts = [(IMAGENET, build_base("efficientnet-lite0", "imagenet", usual.shape[1:3], "average"))]
    parts += [part for run in runs for part in _take_parts(saliency.rebuild(run))]
    distances: dict[str, list[NDArray[np.float64]]] = {name: [] for name in COLUMNS}
    for done, (name, part) in enumerate(parts, start=1):
        distances[name].append(_measure(*(predict(part, p).astype(float) for p in (usual, pixels))))
        on_progress(done, len(parts))
    return pd.DataFrame({name: np.mean(by_run, axis=0) for name, by_run in distances.items()}).round(3)


def _take_parts(model: "keras.Model") -> "list[tuple[str, keras.Model]]":
    from wbc_lib.training.networks import keras

    layers = keras.layers
    hidden = [layer for layer in model.layers if isinstance(layer, layers.Dense)][-2]
    convolution = [layer for layer in model.layers if isinstance(layer, layers.Conv2D)][-1]
    means = layers.GlobalAveragePooling2D()(convolution.output)
    return [(DENSE, keras.Model(model.inputs, hidden.output)), (CONVOLUTION, keras.Model(model.inputs, means))]


def _measure(usual: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    from sklearn.covariance import LedoitWolf
    from sklearn.decomposition import PCA

    centre, spread = usual.mean(axis=0), usual.std(axis=0)
    alive = spread > 0  # a unit that is silent for all usual pictures has no scale
    usual, others = ((part[:, alive] - centre[alive]) / spread[alive] for part in (usual, others))
    if usual.shape[1] > 2 * _COMPONENTS:
        reduce = PCA(min(_COMPONENTS, len(usual)), random_state=0).fit(usual)
        usual, others = reduce.transform(usual), reduce.transform(others)
    return np.sqrt(LedoitWolf().fit(usual).mahalanobis(others))
