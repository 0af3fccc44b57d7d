"""Where a recorded network looks: Grad-CAM on its last convolution, and the same with its weights drawn anew.

TensorFlow is loaded by the functions that need it.
"""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from wbc_lib.data.images import Scale
from wbc_lib.errors import RunError
from wbc_lib.training.experiments import Network, read_plan
from wbc_lib.training.runs import Run

if TYPE_CHECKING:
    import keras

#: Images in one pass backwards.
_BATCH = 256


def rebuild(run: Run) -> "keras.Model":
    """Build the network of a recorded run from code and load its recorded weights.

    Raises
    ------
    RunError
        If the run has no weights, or its network stands on a frozen base.
    """
    model = _build(run)
    _assign(model, run.weights())
    return model


def randomise(run: Run, layers: int, seed: int) -> "keras.Model":
    """Rebuild a recorded run's network with its topmost layers as they are before any training.

    Cascading randomisation of Adebayo et al. (2018, section 4.1).

    Parameters
    ----------
    run : Run
    layers : int
        Layers with weights, from the output down, whose weights are drawn anew; 0 is the trained network.
    seed : int
        Same seed, same draws.

    Raises
    ------
    RunError
        As for `rebuild`.
    ValueError
        If the network has fewer layers.
    """
    import keras

    trained = run.weights()
    if not 0 <= 2 * layers <= len(trained):
        raise ValueError(f"cannot randomise {layers} layers of {len(trained) // 2}")
    keras.utils.set_random_seed(seed)
    model = _build(run)
    fresh = [variable.numpy() for variable in model.trainable_variables]
    kept = len(trained) - 2 * layers  # a kernel and a bias per layer
    _assign(model, [*trained[:kept], *fresh[kept:]])
    return model


def _build(run: Run) -> "keras.Model":
    from wbc_lib.training.networks import build

    network = read_network(run)
    if network.base or not network.convolutions or run.record["scale"] is None:
        raise RunError(f"{run.name} has no convolution of its own to look at; choose a run such as those of `final`.")
    shape = (*run.record["config"]["input_shape"], 3)
    return build(network, shape, Scale(*(tuple(part) for part in run.record["scale"])))


def read_network(run: Run) -> Network:
    """The network that a recorded run describes."""
    return read_plan(run.record["experiment"], run.record["config"]).experiment.network


def _assign(model: "keras.Model", weights: list[NDArray[np.float32]]) -> None:
    for variable, values in zip(model.trainable_variables, weights, strict=True):
        variable.assign(values)


def look(
    model: "keras.Model", pixels: NDArray[np.uint8], classes: NDArray[np.integer]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Map what on the last convolution speaks for a class.

    Parameters
    ----------
    model : keras.Model
        As `networks.build` makes it.
    pixels : ndarray of uint8, shape (images, height, width, RGB)
    classes : ndarray of int, shape (images,)
        The output whose logit is explained, 0 to 4, for each image.

    Returns
    -------
    grad_cam : ndarray of float32, shape (images, rows, columns)
        Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): the convolution's feature maps, each weighted by the mean
        of its gradient, summed and cut off below zero. Rows and columns that the pooling behind it drops are set to
        zero: what is there does not reach the output.
    by_position : ndarray of float32, shape (images, rows, columns)
        HiResCAM (Draelos and Carin 2020): the same with the gradient of each position in place of its mean, for
        networks such as these, whose dense layers treat positions differently.
    """
    import keras
    import tensorflow as tf

    convolution = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    both = keras.Model(model.inputs, [convolution.output, model.output])

    @tf.function(reduce_retracing=True)
    def differentiate(x: tf.Tensor, wanted: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            features, logits = both(tf.cast(x, tf.float32), training=False)
            chosen = tf.gather(logits, wanted, batch_dims=1)
        return features, tape.gradient(chosen, features)

    averaged, by_position = [], []
    for start in range(0, len(pixels), _BATCH):
        part = slice(start, start + _BATCH)
        wanted = np.asarray(classes[part], np.int32)
        features, gradient = (v.numpy() for v in differentiate(tf.constant(pixels[part]), tf.constant(wanted)))
        averaged.append((features * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1))
        by_position.append((features * gradient).sum(axis=-1))
    averaged, by_position = (np.maximum(np.concatenate(parts), 0) for parts in (averaged, by_position))
    return averaged * is_pooled(averaged.shape[1:]), by_position


def is_pooled(shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Which positions of a feature map a 2x2 pooling takes in: a last odd row or column is dropped."""
    rows, columns = (np.arange(n) < n // 2 * 2 for n in shape)
    return rows[:, None] & columns


def map_shape(shape: tuple[int, int], convolutions: int) -> tuple[int, int]:
    """Rows and columns of the last of some 3x3 convolutions, with a 2x2 pooling between any two, over an input."""
    for _ in range(convolutions - 1):
        shape = tuple((n - 2) // 2 for n in shape)
    return tuple(n - 2 for n in shape)


def seen(shape: tuple[int, int], convolutions: int) -> NDArray[np.bool_]:
    """Which pixels can reach the output at all: poolings round down, and so drop the last rows and columns.

    Parameters
    ----------
    shape : tuple of int
        Height and width of the input.
    convolutions : int
        3x3, each followed by a 2x2 pooling.

    Returns
    -------
    ndarray of bool, shape (height, width)
    """
    reached = []
    for n, size in zip(shape, map_shape(shape, convolutions), strict=True):
        last = size // 2 * 2 - 1
        for i in range(convolutions):
            last = last + 2 if i == 0 else 2 * last + 1 + 2  # the pooling's second input, then the convolution's third
        reached.append(np.arange(n) <= last)
    return reached[0][:, None] & reached[1]


def _weights(size: int, cells: int, convolutions: int) -> NDArray[np.float64]:
    # Linear interpolation between the centres of the receptive fields, shape (size, cells): nothing beyond the last.
    offset, stride = 1.0, 1
    for _ in range(convolutions - 1):
        offset, stride = offset + stride / 2, stride * 2
        offset += stride
    centres = offset + stride * np.arange(cells)
    return np.clip(1 - np.abs(np.arange(size)[:, None] - centres) / stride, 0, None)


def place(maps: NDArray[np.floating], shape: tuple[int, int], convolutions: int) -> NDArray[np.float64]:
    """Enlarge maps to the input's size, each value at the centre of the pixels that it was computed from.

    Stretching a map to the edges of the image, as is usual, would move it outwards: valid convolutions have no value
    centred near the edge.

    Parameters
    ----------
    maps : ndarray, shape (images, rows, columns)
        As `look` gives them.
    shape : tuple of int
        Height and width of the input.
    convolutions : int
        How many the network has.

    Returns
    -------
    ndarray of float, shape (images, height, width)
        Linear in between; zero further than a step from the outermost centres.
    """
    rows, columns = (_weights(n, m, convolutions) for n, m in zip(shape, maps.shape[1:], strict=True))
    return np.einsum("yi,nij,xj->nyx", rows, maps, columns, optimize=True)


def reach(masks: NDArray[np.bool_], convolutions: int) -> NDArray[np.float64]:
    """How much of each position of the last convolution's map lies in a mask once the map is placed.

    Parameters
    ----------
    masks : ndarray of bool, shape (images, height, width)
    convolutions : int
        How many the network has.

    Returns
    -------
    ndarray of float, shape (images, rows, columns)
        0 to 1. The share of a placed map inside the mask is the mean of these, weighted by the map.
    """
    shape = masks.shape[1:]
    rows, columns = (_weights(n, m, convolutions) for n, m in zip(shape, map_shape(shape, convolutions), strict=True))
    inside = np.einsum("yi,nyx,xj->nij", rows, masks, columns, optimize=True)
    return inside / np.outer(rows.sum(axis=0), columns.sum(axis=0))


def share_inside(maps: NDArray[np.floating], reached: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of each map that lies inside a mask.

    Parameters
    ----------
    maps : ndarray, shape (images, rows, columns)
        At least zero.
    reached : ndarray, shape (images, rows, columns)
        As `reach` gives it.

    Returns
    -------
    ndarray of float, shape (images,)
        0 to 1; NaN where the map is empty.
    """
    total = maps.sum(axis=(1, 2), dtype=float)
    inside = (maps * reached).sum(axis=(1, 2))
    return np.divide(inside, total, out=np.full(len(maps), np.nan), where=total > 0)


def correlate(maps: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank correlation of each map with another over the positions that are pooled (Spearman 1904).

    Parameters
    ----------
    maps, others : ndarray, shape (images, rows, columns)

    Returns
    -------
    ndarray of float, shape (images,)
        -1 to 1; 0 where either map is the same everywhere: it agrees with nothing.
    """
    pooled = is_pooled(maps.shape[1:])
    from scipy.stats import rankdata

    ranks = [rankdata(m[:, pooled], axis=1) for m in (maps, others)]
    first, second = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    power = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.divide((first * second).sum(axis=1), power, out=np.zeros(len(maps)), where=power > 0)
