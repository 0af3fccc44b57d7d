"""Where a recorded network looks: Grad-CAM on its last convolution, and images with a part painted over.

TensorFlow is loaded by the functions that need it.
"""

from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.images import affine_maps
from wbc_lib.errors import RunError
from wbc_lib.provenance.boxes import COVER_COLOUR
from wbc_lib.provenance.registration import footprint
from wbc_lib.training.plan import Network
from wbc_lib.training.runs import Run

if TYPE_CHECKING:
    import keras

#: What is painted over, and what a reader sees it called.
COVERS = {"elsewhere": "background covered", "cell": "cell covered", "rest": "only the cell left"}
#: What it is painted with: one grey for all, or the image's own mean background colour.
FILLS = ("grey", "own")
#: Rows of the maps of a pretrained base that are looked at.
_ROWS = 6
#: Images in one pass backwards.
_BATCH = 256


def rebuild(run: Run) -> "keras.Model":
    """Build a recorded run's network and load its weights; raises `RunError` if it has none, or a frozen base."""
    from wbc_lib.training.networks import assign_weights

    model = _build(run)
    assign_weights(model, run.weights())
    return model


def randomise(run: Run, layers: int, seed: int) -> "keras.Model":
    """Rebuild a recorded run's network with its topmost layers as they are before any training.

    Cascading randomisation of Adebayo et al. (2018, section 4.1). ``layers`` counts those with weights, from the output
    down; 0 is the trained network. Raises as `rebuild` does.
    """
    import keras

    from wbc_lib.training.networks import assign_weights

    trained = run.weights()
    keras.utils.set_random_seed(seed)
    model = _build(run)
    fresh = [variable.numpy() for variable in model.trainable_variables]
    kept = len(trained) - 2 * layers  # a kernel and a bias per layer
    assign_weights(model, [*trained[:kept], *fresh[kept:]])
    return model


def _build(run: Run) -> "keras.Model":
    from wbc_lib.training.networks import build

    experiment = run.plan.experiment
    network = experiment.network
    if not network.base_trained and (network.base or not network.convolutions or run.scale is None):
        raise RunError(f"{run.name} has no convolution of its own to look at; choose a run such as those of `final`.")
    return build(network, (*experiment.input_shape, 3), run.scale)


def compute_maps(
    model: "keras.Model", pixels: NDArray[np.uint8], classes: NDArray[np.integer], least_rows: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Map what on the last convolution speaks for an output, 0 to 4, of each image; float32 (images, rows, columns).

    It is the last whose maps have `least_rows`.

    By Grad-CAM (Selvaraju et al. 2017, equations 1 and 2): the convolution's feature maps, each weighted by the mean of
    its gradient, summed and cut off below zero. Rows and columns that the pooling behind it drops are set to zero: what
    is there does not reach the output. And by HiResCAM (Draelos and Carin 2020): the same with the gradient of each
    position in place of its mean, for networks such as these, whose dense layers treat positions differently.
    """
    import keras
    import tensorflow as tf

    convolutions = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)]
    convolution = [layer for layer in convolutions if layer.output.shape[1] >= least_rows][-1]
    both = keras.Model(model.inputs, [convolution.output, model.output])

    @tf.function(reduce_retracing=True)
    def differentiate(x: tf.Tensor, outputs: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            features, logits = both(tf.cast(x, tf.float32), training=False)
            explained = tf.gather(logits, outputs, batch_dims=1)
        return features, tape.gradient(explained, features)

    grad_cam, hires_cam = [], []
    for start in range(0, len(pixels), _BATCH):
        part = slice(start, start + _BATCH)
        outputs = tf.constant(np.asarray(classes[part], np.int32))
        features, gradient = (v.numpy() for v in differentiate(tf.constant(pixels[part]), outputs))
        grad_cam.append((features * gradient.mean(axis=(1, 2), keepdims=True)).sum(axis=-1))
        hires_cam.append((features * gradient).sum(axis=-1))
    averaged, by_position = (np.maximum(np.concatenate(parts), 0) for parts in (grad_cam, hires_cam))
    return averaged * is_pooled(averaged.shape[1:]), by_position


def is_pooled(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Which positions of a feature map a 2x2 pooling takes in: a last odd row or column is dropped."""
    rows, columns = (np.arange(n) < n // 2 * 2 for n in shape)
    return rows[:, None] & columns


def map_shape(shape: tuple[int, int], convolutions: int) -> tuple[int, int]:
    """Rows and columns of the last of some 3x3 convolutions, with a 2x2 pooling between any two, over an input."""
    rows, columns = shape
    for _ in range(convolutions - 1):
        rows, columns = (rows - 2) // 2, (columns - 2) // 2
    return rows - 2, columns - 2


def _receptive_fields(convolutions: int) -> tuple[float, int]:
    # Of the last convolution: the centre of its first receptive field, which is half the width, and the step; pixels.
    centre, step = 1.0, 1
    for _ in range(convolutions - 1):
        centre, step = centre + 2.5 * step, 2 * step
    return centre, step


def used_pixels(shape: tuple[int, int], convolutions: int) -> NDArray[np.bool_]:
    """Which pixels of an input can reach the output: poolings round down, and so drop the last rows and columns."""
    centre, step = _receptive_fields(convolutions)
    ends = (2 * centre + step * (n // 2 * 2 - 1) for n in map_shape(shape, convolutions))
    rows, columns = (np.arange(n) <= end for n, end in zip(shape, ends, strict=True))
    return rows[:, None] & columns


def _interpolation(size: int, cells: int, convolutions: int) -> NDArray[np.float64]:
    # Linear between the centres of the receptive fields, shape (size, cells): nothing beyond the last.
    centre, step = _receptive_fields(convolutions)
    centres = centre + step * np.arange(cells)
    return np.clip(1 - np.abs(np.arange(size)[:, None] - centres) / step, 0, None)


def upsample(maps: NDArray[np.floating], shape: tuple[int, int], convolutions: int) -> NDArray[np.float64]:
    """Lay maps (images, rows, columns) over the input, (images, height, width).

    Each value comes to the centre of the pixels that it was computed from, linear in between; zero further than a step
    from the outermost centres. Stretching a map to the edges of the image, as is usual, would move it outwards: valid
    convolutions have no value centred near the edge.
    """
    rows, columns = (_interpolation(n, m, convolutions) for n, m in zip(shape, maps.shape[1:], strict=True))
    return np.einsum("yi,nij,xj->nyx", rows, maps, columns, optimize=True)


def map_attention(
    model: "keras.Model", network: Network, pixels: NDArray[np.uint8], classes: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Grad-CAM for an output of each image, laid over it: (images, height, width).

    On a pretrained base it is that of the last maps that have `_ROWS` rows; the last of all have but three.
    """
    height, width = pixels.shape[1:3]
    if not network.base:
        return upsample(compute_maps(model, pixels, classes)[0], (height, width), len(network.convolutions))
    coarse, _ = compute_maps(model, pixels, classes, _ROWS)
    return np.stack([cv2.resize(m.astype(float), (width, height), interpolation=cv2.INTER_LINEAR) for m in coarse])


def map_evenly(network: Network, shape: tuple[int, int]) -> NDArray[np.float64]:
    """The map (height, width) that `map_attention` would give if all that it can come from counted alike."""
    if network.base:
        return np.ones(shape)
    n = len(network.convolutions)
    return upsample(is_pooled(map_shape(shape, n))[None].astype(float), shape, n)[0]


def downsample_masks(masks: NDArray[np.bool_], convolutions: int) -> NDArray[np.float64]:
    """How much, 0 to 1, of each position of the last convolution's map lies in a mask once the map is upsampled.

    Masks (images, height, width) become (images, rows, columns). The share of an upsampled map inside the mask is the
    mean of these, weighted by the map.
    """
    height, width = masks.shape[1:]
    sizes = zip((height, width), map_shape((height, width), convolutions), strict=True)
    rows, columns = (_interpolation(n, m, convolutions) for n, m in sizes)
    inside = np.einsum("yi,nyx,xj->nij", rows, masks, columns, optimize=True)
    return inside / np.outer(rows.sum(axis=0), columns.sum(axis=0))


def share_inside(maps: NDArray[np.floating], inside: NDArray[np.floating]) -> NDArray[np.float64]:
    """Share of each map that lies inside a mask that `downsample_masks` brought to its shape; NaN for an empty map."""
    total = maps.sum(axis=(1, 2), dtype=float)
    return np.divide((maps * inside).sum(axis=(1, 2)), total, out=np.full(len(maps), np.nan), where=total > 0)


def correlate(maps: NDArray[np.floating], others: NDArray[np.floating]) -> NDArray[np.float64]:
    """Rank correlation of maps over the pooled positions (Spearman 1904); 0 where one is the same everywhere."""
    from scipy.stats import rankdata

    pooled = is_pooled(maps.shape[1:])
    ranks = [rankdata(m[:, pooled], axis=1) for m in (maps, others)]
    first, second = (r - r.mean(axis=1, keepdims=True) for r in ranks)
    power = np.sqrt((first**2).sum(axis=1) * (second**2).sum(axis=1))
    return np.divide((first * second).sum(axis=1), power, out=np.zeros(len(maps)), where=power > 0)


# Painted over -----------------------------------------------------------------------------------------------------


def photo_masks(table: pd.DataFrame, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Mark the pixels that the photo covers, (images, height, width); the others are the black from outside.

    Pixels that are partly black are not marked. The table is as `provenance.trace` gives it; `shape` is that of a
    320x240 image shrunk.
    """
    affines = affine_maps(table)
    whole = (footprint(affine).astype(np.float32) for affine in affines)
    return np.stack([cv2.resize(mask, shape[::-1], interpolation=cv2.INTER_AREA) > 0.999 for mask in whole])


def move_away(mask: NDArray[np.bool_], free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Shift a mask (height, width) onto free pixels alone, as near to the middle as can be; all False without room."""
    moved = np.zeros_like(mask)
    ys, xs = np.nonzero(mask)
    if not len(ys):
        return moved
    shape = mask[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1].astype(np.float32)
    height, width = shape.shape
    # For every place of the shape's upper left pixel, how many pixels would not be free.
    taken = cv2.filter2D((~free).astype(np.float32), -1, shape, anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    places = np.argwhere(taken[: len(mask) - height + 1, : mask.shape[1] - width + 1] < 0.5)
    if not len(places):
        return moved
    middle = (np.array(mask.shape) - (height, width)) / 2
    y, x = places[np.argmin(((places - middle) ** 2).sum(axis=1))]
    moved[y : y + height, x : x + width] = shape > 0
    return moved


def background_colours(pixels: NDArray[np.uint8], background: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Mean colour (images, RGB) of each image's background; `boxes.COVER_COLOUR`, a grey, where there is none."""
    total = background.sum(axis=(1, 2))
    sums = np.einsum("nyxc,nyx->nc", pixels.astype(np.float32), background.astype(np.float32), optimize=True)
    means = np.rint(sums / np.maximum(total, 1)[:, None]).astype(np.uint8)
    return np.where(total[:, None] > 0, means, np.array(COVER_COLOUR, np.uint8))


def paint(pixels: NDArray[np.uint8], masks: NDArray[np.bool_], colours: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy of images with masks (images, height, width) painted over in colours, (images, RGB) or (RGB,)."""
    colours = np.broadcast_to(colours, (len(pixels), pixels.shape[-1]))[:, None, None]
    return np.where(masks[..., None], colours, pixels)


def cover(
    pixels: NDArray[np.uint8], cell: NDArray[np.bool_], photo: NDArray[np.bool_], used: NDArray[np.bool_]
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, NDArray[np.uint8]]]:
    """Find what to paint over, masks for each of `COVERS`, and with what, colours (images, RGB) for each of `FILLS`.

    The cover "elsewhere" is the cell's own mask moved onto background, empty where it has no room. Takes images, the
    masks (images, height, width) of their `cell` and `photo`, as `boxes.cell_masks` and `photo_masks` give them, and
    the pixels (height, width) that are `used` by the network: only these are background worth covering.
    """
    background = photo & ~cell
    elsewhere = np.stack([move_away(*pair) for pair in zip(cell, background & used, strict=True)])
    grey = np.broadcast_to(np.array(COVER_COLOUR, np.uint8), (len(pixels), 3))
    masks = {"elsewhere": elsewhere, "cell": cell, "rest": ~cell}
    return masks, {"grey": grey, "own": background_colours(pixels, background)}
