"""The logits of a recorded network, computed with NumPy: a few pictures are answered before TensorFlow has loaded."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from wbc_lib.training.plan import BATCH_EPSILON, EFFICIENTNET_STAGES, Network
from wbc_lib.training.windows import turn

#: A kernel and what is added to its outputs.
_Convolution = tuple[NDArray[np.float32], NDArray[np.float32]]


def compute_logits(
    network: Network,
    scale: Sequence[Sequence[float]] | None,
    weights: Sequence[NDArray],
    pixels: NDArray[np.uint8],
    views: int = 1,
) -> NDArray[np.float32]:
    """Logits (pictures, 5) of pixels (pictures, height, width, RGB), as `training.fit.predict` gives them.

    They differ from Keras' by rounding, by less than 1e-4. `scale` and `weights` are as a run records them; the network
    has convolutions of its own, or a base that was trained with it.
    """
    values = [w.astype(np.float32) for w in weights]
    n_dense = 2 * (len(network.dense) + 1)
    n_learned = 3 * ((len(values) - n_dense) // 5) if network.base_trained else len(values) - n_dense
    below, dense, counted = values[:n_learned], values[n_learned : n_learned + n_dense], values[n_learned + n_dense :]
    convolutions = list(_join_normalisation(below, counted)) if network.base_trained else []
    parts = []
    for turned in turn(pixels, views):
        x = turned.astype(np.float32)
        if network.base_trained:
            x = _run_efficientnet(x, iter(convolutions)).mean(axis=(1, 2))
        else:
            factor, offset = np.array(scale, np.float32)
            x = _run_convolutions(x * factor + offset, network, below)
        for kernel, bias in zip(dense[:-2:2], dense[1:-2:2], strict=True):
            x = np.maximum(x @ kernel + bias, 0)
        parts.append(x @ dense[-2] + dense[-1])
    return np.mean(parts, axis=0)


def _run_convolutions(x: NDArray[np.float32], network: Network, weights: Sequence[NDArray]) -> NDArray[np.float32]:
    for kernel, bias in zip(weights[::2], weights[1::2], strict=True):
        x = np.maximum(_convolve(x, kernel, bias), 0)
        if network.pool_after == "each":
            x = _pool(x)
    if network.pool_after == "last":
        x = _pool(x)
    return x.reshape(len(x), -1)


def _run_efficientnet(x: NDArray[np.float32], convolutions: Iterator[_Convolution]) -> NDArray[np.float32]:
    # As `networks.build_efficientnet` puts it together.
    x = _relu6(_convolve(_pad((x - np.float32(127)) / np.float32(128), 3, 2), *next(convolutions), stride=2))
    for blocks, size, first_stride, expansion, _ in EFFICIENTNET_STAGES:
        for i in range(blocks):
            before, stride = x, first_stride if i == 0 else 1
            if expansion != 1:
                x = _relu6(_convolve(x, *next(convolutions)))
            x = _relu6(_convolve_depthwise(_pad(x, size, stride), *next(convolutions), stride))
            x = _convolve(x, *next(convolutions))
            if stride == 1 and x.shape == before.shape:
                x += before
    return _relu6(_convolve(x, *next(convolutions)))


def _join_normalisation(
    learned: Sequence[NDArray[np.float32]], counted: Sequence[NDArray[np.float32]]
) -> Iterator[_Convolution]:
    # Each convolution with the batch normalisation behind it: one factor and one number added for each output. Of each,
    # `learned` holds a kernel and two numbers for each output, `counted` the mean and variance over batches.
    for i in range(len(learned) // 3):
        kernel, gamma, beta = learned[3 * i : 3 * i + 3]
        mean, variance = counted[2 * i : 2 * i + 2]
        factor = gamma / np.sqrt(variance + np.float32(BATCH_EPSILON))
        if kernel.shape[-1] == 1 and len(factor) > 1:  # of a depthwise convolution
            kernel = kernel[..., 0]
        yield kernel * factor, beta - mean * factor


def _pad(x: NDArray[np.float32], size: int, stride: int) -> NDArray[np.float32]:
    # Zeros around, as TensorFlow's "same" has them: one more at the end where their number is odd.
    sides = []
    for length in x.shape[1:3]:
        total = max((-(-length // stride) - 1) * stride + size - length, 0)
        sides.append((total // 2, total - total // 2))
    return np.pad(x, ((0, 0), *sides, (0, 0)))


def _convolve(
    x: NDArray[np.float32], kernel: NDArray[np.float32], bias: NDArray[np.float32], stride: int = 1
) -> NDArray[np.float32]:
    if kernel.shape[:2] == (1, 1):
        return x @ kernel[0, 0] + bias
    windows = sliding_window_view(x, kernel.shape[:2], axis=(1, 2))[:, ::stride, ::stride]
    return np.tensordot(windows, kernel, axes=([4, 5, 3], [0, 1, 2])) + bias


def _convolve_depthwise(
    x: NDArray[np.float32], kernel: NDArray[np.float32], bias: NDArray[np.float32], stride: int
) -> NDArray[np.float32]:
    size = len(kernel)
    height, width = ((length - size) // stride + 1 for length in x.shape[1:3])
    out = np.broadcast_to(bias, (len(x), height, width, len(bias))).copy()
    for row in range(size):
        for column in range(size):
            rows = slice(row, row + (height - 1) * stride + 1, stride)
            columns = slice(column, column + (width - 1) * stride + 1, stride)
            out += x[:, rows, columns] * kernel[row, column]
    return out


def _pool(x: NDArray[np.float32]) -> NDArray[np.float32]:
    n, height, width, filters = x.shape
    whole = x[:, : height // 2 * 2, : width // 2 * 2]
    return whole.reshape(n, height // 2, 2, width // 2, 2, filters).max(axis=(2, 4))


def _relu6(x: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.clip(x, 0, 6)
