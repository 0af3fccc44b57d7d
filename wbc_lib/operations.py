"""How much arithmetic a network takes, counted from the shapes of its layers."""

import numpy as np
import pandas as pd

from wbc_lib.experiments import Network
from wbc_lib.images import INPUT_SHAPE
from wbc_lib.photos import N_OUTPUTS

_KERNEL, _CHANNELS = 3, 3


def count_operations(network: Network, shape: tuple[int, int] = INPUT_SHAPE) -> pd.DataFrame:
    """Count the operations of a network's matrix products; a multiplication and an addition count as two.

    Convolutions and dense layers are matrix products, forward and twice more backward: once for the gradient of their
    weights, once for that of their inputs, which the first layer does without. Everything else (biases, ReLU, pooling,
    dropout, penalties, the optimizer) takes a few operations per number and is not counted.

    Parameters
    ----------
    network : Network
        With convolutions of its own.
    shape : tuple of int
        Height and width of the input.

    Returns
    -------
    DataFrame
        A row per layer, named as "convolution 1" or "dense 1": ``output_shape``, and the operations per image
        ``forward``, ``weights`` and ``inputs`` (of the two gradients).

    Raises
    ------
    ValueError
        If the network stands on a frozen base.
    """
    if network.base:
        raise ValueError("the operations of a frozen base are not counted here")
    rows = []
    height, width, channels = *shape, _CHANNELS
    for i, filters in enumerate(network.convolutions, start=1):
        height, width = height - _KERNEL + 1, width - _KERNEL + 1
        taken = 2 * height * width * filters * _KERNEL**2 * channels
        rows.append((f"convolution {i}", f"{height} x {width} x {filters}", taken))
        height, width, channels = height // 2, width // 2, filters
    units = height * width * channels
    for i, width_of_layer in enumerate([*network.dense, N_OUTPUTS], start=1):
        rows.append((f"dense {i}", str(width_of_layer), 2 * units * width_of_layer))
        units = width_of_layer
    table = pd.DataFrame(rows, columns=["layer", "output_shape", "forward"]).set_index("layer")
    table["weights"] = table.forward
    table["inputs"] = np.where(np.arange(len(table)) == 0, 0, table.forward)
    return table


def operations_per_image(network: Network, shape: tuple[int, int] = INPUT_SHAPE) -> int:
    """Operations of one training step per image, forward and backward (see `count_operations`)."""
    return int(count_operations(network, shape)[["forward", "weights", "inputs"]].to_numpy().sum())
