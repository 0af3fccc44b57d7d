"""Ways of training the networks of this book, to be timed against each other; each runs in a process of its own."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wbc_lib.examples import Examples, Material
from wbc_lib.experiments import Experiment, find_experiment
from wbc_lib.photos import N_OUTPUTS
from wbc_lib.turns import Turn, serve

_FEATURE_BATCH = 64
_FOREVER = 10**6
#: Kinds of work in a training step, by what the profiler's names of operations contain; the first that fits counts.
KINDS = {
    "optimizer": ("adam/",),
    "convolutions, gradient of weights": ("Conv2DBackpropFilter",),
    "convolutions, gradient of inputs": ("Conv2DBackpropInput",),
    "convolutions, forward": ("Conv2D",),
    "dense layers": ("MatMul",),
    "pooling": ("MaxPool",),
    "ReLU, backward": ("ReluGrad",),
}
OTHER_WORK = "the rest: normalisation, penalties, dropout, loss"


def write_sample(folder: Path, pixels: NDArray[np.uint8], labels: NDArray[np.integer]) -> None:
    """Write images for contenders to learn from, in files that any interpreter can read.

    Parameters
    ----------
    folder : Path
    pixels : ndarray of uint8, shape (images, height, width, RGB)
    labels : ndarray of int, shape (images,)
    """
    (folder / "shape").write_text(" ".join(map(str, pixels.shape[1:])))
    (folder / "pixels").write_bytes(np.ascontiguousarray(pixels).tobytes())
    (folder / "labels").write_bytes(labels.astype(np.uint8).tobytes())


def read_sample(folder: str, images: int) -> Examples:
    """Read the first images of what `write_sample` wrote."""
    shape = [int(n) for n in (Path(folder) / "shape").read_text().split()]
    pixels = np.fromfile(Path(folder) / "pixels", np.uint8).reshape(-1, *shape)[:images]
    labels = np.fromfile(Path(folder) / "labels", np.uint8)[:images].astype(np.int32)
    return Examples(pixels, labels, np.arange(len(labels)).astype(str))


def train_with_our_loop(turn: Turn, sample: str, images: int) -> None:
    """Train the final network as `wbc train` does, an epoch a turn; validation is not timed."""
    from wbc_lib.training import Step, fit

    elapsed = 0.0

    def on_step(step: Step) -> None:
        nonlocal elapsed
        if len(step.history) < step.epoch:
            elapsed = step.seconds
        elif step.epoch == 1:  # which also traced the graph
            turn(**_versions())
        else:
            turn(("seconds", images, elapsed))

    fit(find_experiment("final"), _material(read_sample(sample, images)), _FOREVER, 0, on_step=on_step)


def train_with_keras(turn: Turn, sample: str, images: int) -> None:
    """Train the final network the usual way: float32 arrays, `compile`, `fit`; an epoch a turn."""
    from wbc_lib.models import keras

    experiment, examples = find_experiment("final"), read_sample(sample, images)
    inputs = examples.inputs.astype(np.float32) / 127.5 - 1
    layers = keras.layers
    stack = [keras.Input(inputs.shape[1:])]
    for filters in experiment.network.convolutions:
        stack += [layers.Conv2D(filters, 3, activation="relu"), layers.MaxPooling2D(2)]
    model = keras.Sequential([*stack, layers.Flatten(), *_dense(experiment)])
    _compile(model, experiment)
    started = 0.0

    def begin(epoch: int, logs: Any = None) -> None:
        nonlocal started
        started = time.perf_counter()

    def end(epoch: int, logs: Any = None) -> None:
        elapsed = time.perf_counter() - started
        turn(("seconds", images, elapsed)) if epoch else turn(parameters=str(model.count_params()))

    timer = keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_epoch_end=end)
    size = experiment.settings.batch_size
    model.fit(inputs, examples.labels, batch_size=size, epochs=_FOREVER, verbose=0, callbacks=[timer])


def multiply_in_tensorflow(turn: Turn, side: int, products: int) -> None:
    """Multiply square matrices: what the machine can do at most through TensorFlow."""
    from wbc_lib.models import tf

    a, b = tf.random.normal((side, side)), tf.random.normal((side, side))
    product = tf.function(lambda: tf.matmul(a, b)[0, 0])
    _multiply(turn, side, products, lambda: float(product()))


def multiply_in_numpy(turn: Turn, side: int, products: int) -> None:
    """Multiply square matrices: what the machine can do at most through NumPy."""
    a, b = np.random.default_rng(0).standard_normal((2, side, side), np.float32)
    _multiply(turn, side, products, lambda: a @ b)


def _multiply(turn: Turn, side: int, products: int, multiply: Callable[[], object]) -> None:
    multiply()
    turn()
    while True:
        started = time.perf_counter()
        for _ in range(products):
            multiply()
        turn(("operations/s", None, 2 * side**3 * products / (time.perf_counter() - started)))


def learn_from_cached_features(turn: Turn, sample: str, images: int, experiment: str, epochs: int) -> None:
    """Learn on a frozen base as this book does: features once, then all epochs of the dense head; all in a turn."""
    from wbc_lib.models import build_base
    from wbc_lib.training import fit

    chosen = find_experiment(experiment)

    def learn(examples: Examples, epochs: int) -> float:
        started = time.perf_counter()
        base = build_base(chosen.network.base, chosen.network.base_weights, examples.inputs.shape[1:3])
        pixels = examples.inputs.astype(np.float32)
        starts = range(0, len(pixels), _FEATURE_BATCH)
        features = np.concatenate([base.predict_on_batch(pixels[i : i + _FEATURE_BATCH]) for i in starts])
        fit(chosen, _material(Examples(features, examples.labels, examples.names)), epochs, 0)
        return time.perf_counter() - started

    examples = read_sample(sample, images)
    learn(examples.take(np.arange(min(images, chosen.settings.batch_size))), 1)  # what a process does only once
    turn()
    while True:
        turn(("seconds", images, learn(examples, epochs)))


def learn_through_frozen_base(turn: Turn, sample: str, images: int, experiment: str) -> None:
    """Learn on a frozen base the usual way: it is part of the network, and sees every image in every epoch.

    A turn makes the network and trains two epochs of it; the rest would be like the second.
    """
    from wbc_lib.models import build_base, keras

    chosen = find_experiment(experiment)

    def learn(examples: Examples) -> tuple[float, float]:
        ends = [time.perf_counter()]
        keras.utils.clear_session()
        inputs = examples.inputs.astype(np.float32)
        base = build_base(chosen.network.base, chosen.network.base_weights, inputs.shape[1:3])
        model = keras.Sequential([base, *_dense(chosen)])
        _compile(model, chosen)
        timer = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: ends.append(time.perf_counter()))
        size = chosen.settings.batch_size
        model.fit(inputs, examples.labels, batch_size=size, epochs=2, verbose=0, callbacks=[timer])
        return ends[1] - ends[0], ends[2] - ends[1]

    examples = read_sample(sample, images)
    learn(examples.take(np.arange(min(images, chosen.settings.batch_size))))
    turn()
    while True:
        first, further = learn(examples)
        turn(("seconds to the first epoch's end", images, first), ("seconds per further epoch", images, further))


def profile_our_loop(turn: Turn, sample: str, images: int) -> None:
    """Tell what our training loop spends its time on: an epoch of the final network under TensorFlow's profiler."""
    from wbc_lib.models import tf
    from wbc_lib.training import Step, fit

    try:
        from tensorflow.tsl.profiler.protobuf import xplane_pb2
    except ImportError:
        turn.cannot("this TensorFlow's profiles cannot be read")
        return
    folder = tempfile.TemporaryDirectory()

    def on_step(step: Step) -> None:
        if len(step.history) < step.epoch:
            if step.share == 1 and step.epoch > 1:
                tf.profiler.experimental.stop()
            return
        if step.epoch == 1:
            turn()
        else:
            turn(*[(kind, None, share) for kind, share in _read_profile(Path(folder.name), xplane_pb2).items()])
        folder.cleanup()
        tf.profiler.experimental.start(folder.name)

    fit(find_experiment("final"), _material(read_sample(sample, images)), _FOREVER, 0, on_step=on_step)


def _read_profile(folder: Path, xplane: Any) -> dict[str, float]:
    spent: dict[str, float] = {}
    for path in folder.rglob("*.xplane.pb"):
        space = xplane.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            names = {key: found.name for key, found in plane.event_metadata.items()}
            events = (e for line in plane.lines if line.name.startswith("tf_Compute") for e in line.events)
            for event in events:
                name = names[event.metadata_id]
                if ":" in name and "::" not in name:  # an operation and its kind; "::" is a call inside the runtime
                    kind = name_kind(name)
                    spent[kind] = spent.get(kind, 0.0) + event.duration_ps
    total = sum(spent.values())
    return {kind: spent[kind] / total for kind in (*KINDS, OTHER_WORK) if kind in spent}


def name_kind(operation: str) -> str:
    """Name the kind of work, of `KINDS` or `OTHER_WORK`, that an operation of a profile is."""
    return next((kind for kind, marks in KINDS.items() if any(m in operation for m in marks)), OTHER_WORK)


def _material(examples: Examples) -> Material:
    # `fit` scores an epoch, and predicts at the end, on what is held back: as little as can be.
    one = examples.take(np.arange(1))
    return Material(examples, one, one)


def _dense(experiment: Experiment) -> list[Any]:
    from wbc_lib.models import keras

    network = experiment.network

    def penalty() -> Any:
        return keras.regularizers.L1L2(network.kernel_l1, network.kernel_l2) if network.kernel_l1 else None

    stack: list[Any] = []
    for units in network.dense:
        stack.append(keras.layers.Dense(units, activation="relu", kernel_regularizer=penalty()))
        stack += [keras.layers.Dropout(network.dropout)] if network.dropout else []
    return [*stack, keras.layers.Dense(N_OUTPUTS, kernel_regularizer=penalty())]


def _compile(model: Any, experiment: Experiment) -> None:
    from wbc_lib.models import keras

    model.compile(
        keras.optimizers.Adam(experiment.settings.learning_rate),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def _versions() -> dict[str, str]:
    from wbc_lib.models import keras, tf

    return {"tensorflow": tf.__version__, "keras": keras.__version__}


def as_plain(experiment: str) -> dict[str, dict[str, Any]]:
    """The network and the settings of an experiment as plain values, for `torch_contender.train_in_torch`."""
    chosen = find_experiment(experiment)
    return {"network": asdict(chosen.network), "settings": asdict(chosen.settings)}


if __name__ == "__main__":
    ways = (train_with_our_loop, train_with_keras, multiply_in_tensorflow, multiply_in_numpy, profile_our_loop)
    serve({way.__name__: way for way in (*ways, learn_from_cached_features, learn_through_frozen_base)})
