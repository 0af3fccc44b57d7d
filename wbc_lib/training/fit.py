"""Fit one experiment: fast, the same every time, and resumable after any interruption.

An epoch is a function of the state it starts from and of (seed, epoch): the order of the images is drawn anew from
these two, and the state of the dropout generators is part of the state that a checkpoint holds. So a training that
was killed goes on from its last finished epoch and ends with the same bits as one that was not.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.utils.class_weight import compute_class_weight

from wbc_lib import paths
from wbc_lib.data.dataset import N_OUTPUTS
from wbc_lib.data.images import Scale, choose_scale
from wbc_lib.errors import UnknownNameError
from wbc_lib.progress import Step, say
from wbc_lib.training import networks
from wbc_lib.training.arrays import Examples, Material, draw
from wbc_lib.training.networks import keras, tf
from wbc_lib.training.plan import Experiment, Settings
from wbc_lib.training.windows import turn

#: Steps between two reports of progress: one call into the graph.
_STEPS_PER_CALL = 25
_SCORING_BATCH = 256

tf.config.experimental.enable_op_determinism()


@dataclass(frozen=True)
class Fitted:
    """What a training leaves; logits (examples, 5) are those of the network after the last epoch.

    `history` has a row per epoch: ``epoch`` (from 1), ``loss``, ``accuracy`` (both averaged over the epoch while
    learning, dropout on), ``val_loss``, ``val_accuracy`` (after it), ``seconds``. Losses include the penalties.
    """

    history: pd.DataFrame
    weights: list[NDArray[np.floating]]  # in the order of `networks.list_weights`
    scale: Scale | None
    validation_logits: NDArray[np.float32]
    test_logits: NDArray[np.float32]


def fit(
    experiment: Experiment,
    material: Material,
    epochs: int,
    seed: int,
    *,
    start: list[NDArray] | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[Step], None] | None = None,
) -> Fitted:
    """Train one network; the seed decides the first weights, the order of the images and what dropout drops.

    A base that is trained too starts from `start`, or as its `base_weights` say, and is kept and scored with weights of
    float16. The file `checkpoint` holds the state after the last finished epoch; if it is there, the training goes on
    from it. The caller removes it once the result is safe.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    pixels, settings, network = material.training.inputs, experiment.settings, experiment.network
    scale = choose_scale(settings.normalisation, pixels) if pixels.ndim == 4 and not network.base else None
    model = networks.build(network, material.test.inputs.shape[1:], scale)
    if start is not None:
        networks.assign_weights(model, start)
    elif network.base_trained and network.base_weights == "imagenet":
        networks.load_efficientnet(model)
    optimizer = make_optimizer(settings, epochs * settings.steps)
    optimizer.build(model.trainable_variables)
    state = [*model.variables, *optimizer.variables]
    history = _restore(checkpoint, state) if checkpoint and checkpoint.exists() else []
    run_steps = _make_steps(model, optimizer, settings, _weigh_classes(settings, material.training.labels))
    score = _make_scorer(model)
    inputs, labels = tf.constant(pixels), tf.constant(material.training.labels)
    for epoch in range(len(history) + 1, epochs + 1):
        started = time.perf_counter()
        if experiment.augment:
            inputs = tf.constant(augment(pixels, np.random.default_rng([seed, epoch, 1])))
        if settings.steps:
            drawn = draw(
                material.training, settings.steps * settings.batch_size, np.random.default_rng([seed, epoch, 1])
            )
            inputs, labels = tf.constant(drawn.inputs), tf.constant(drawn.labels)
        rng = np.random.default_rng([seed, epoch])
        order = np.concatenate([rng.permutation(len(inputs)) for _ in range(settings.passes)]).astype(np.int32)
        loss = correct = seen = 0.0
        for batches in _batches(order, settings.batch_size):
            step_loss, step_correct = run_steps(inputs, labels, batches)
            loss, correct, seen = loss + float(step_loss), correct + float(step_correct), seen + batches.size
            if on_step:
                elapsed = time.perf_counter() - started
                table = pd.DataFrame(history)
                on_step(Step(epoch, epochs, seen / len(order), elapsed, loss / seen, correct / seen, table))
        is_scored = not settings.steps or epoch == epochs
        val_loss, val_accuracy = score(material.validation) if is_scored else (np.nan, np.nan)
        row = {"epoch": epoch, "loss": loss / seen, "accuracy": correct / seen}
        row |= {"val_loss": val_loss, "val_accuracy": val_accuracy, "seconds": time.perf_counter() - started}
        history.append(row)
        if checkpoint:
            _save(checkpoint, state, history)
        if on_step:
            on_step(Step(epoch, epochs, 1.0, row["seconds"], row["loss"], row["accuracy"], pd.DataFrame(history)))
    weights = [v.numpy() for v in networks.list_weights(model)]
    if network.base_trained:
        weights = [w.astype(np.float16) for w in weights]
        networks.assign_weights(model, weights)
    parts = (material.validation, material.test)
    return Fitted(pd.DataFrame(history), weights, scale, *(predict(model, p.inputs, settings.views) for p in parts))


def make_optimizer(settings: Settings, steps: int = 0) -> keras.optimizers.Optimizer:
    """Make the optimizer that the settings name, for a schedule of so many steps in all."""
    made = keras.optimizers
    makers = {
        "adam": made.Adam,
        "adamw": made.AdamW,
        "rmsprop": made.RMSprop,
        "sgd": made.SGD,
        "adadelta": made.Adadelta,
    }
    if settings.optimizer not in makers:
        raise UnknownNameError(f"There is no optimizer {settings.optimizer!r}; choose one of: {', '.join(makers)}.")
    rate: Any = settings.learning_rate
    if settings.schedule == "one-cycle":
        rising = steps // 4
        rate = made.schedules.CosineDecay(rate / 25, steps - rising, warmup_target=rate, warmup_steps=rising)
    return makers[settings.optimizer](rate)


def predict(model: keras.Model, inputs: NDArray, views: int = 1) -> NDArray[np.float32]:
    """Logits of a network for many inputs, (examples, 5), mean over one or eight `views` (see `windows.turn`)."""
    call = tf.function(lambda x: model(tf.cast(x, tf.float32), training=False), reduce_retracing=True)
    parts = []
    for i in range(0, len(inputs), _SCORING_BATCH):
        turned = turn(inputs[i : i + _SCORING_BATCH], views)
        parts.append(np.mean([call(tf.constant(np.ascontiguousarray(t))).numpy() for t in turned], axis=0))
    return np.concatenate(parts)


def augment(pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
    """Turn, shift, shear and mirror each image much as the published augmented set was made.

    Rotation within 20 degrees, shift within a tenth of either side, shear within 0.2 degrees (the published images
    turn out to have up to 0.2 radians), mirrored in each axis half of the time; black comes in from outside.
    """
    height, width = pixels.shape[1:3]
    centre = np.array([width / 2 - 0.5, height / 2 - 0.5])
    out = np.empty_like(pixels)
    for i, image in enumerate(pixels):
        turn, shear = np.deg2rad(rng.uniform(-20, 20)), np.deg2rad(rng.uniform(-0.2, 0.2))
        shift = rng.uniform(-0.1, 0.1, 2) * (width, height)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        linear = rotation @ np.array([[1, -np.sin(shear)], [0, np.cos(shear)]]) @ np.diag(rng.choice([-1, 1], 2))
        affine = np.column_stack([linear, centre + shift - linear @ centre])
        out[i] = cv2.warpAffine(image, affine, (width, height))
    return out


def _batches(order: NDArray[np.int32], batch_size: int) -> list[NDArray[np.int32]]:
    # Whole batches, some steps to a call; then the rest of the epoch as one smaller batch.
    whole = order[: len(order) // batch_size * batch_size].reshape(-1, batch_size)
    parts = [whole[i : i + _STEPS_PER_CALL] for i in range(0, len(whole), _STEPS_PER_CALL)]
    rest = order[whole.size :]
    return parts + ([rest[None]] if len(rest) else [])


def _weigh_classes(settings: Settings, labels: NDArray[np.int32]) -> NDArray[np.float32] | None:
    # By label; None where all count alike.
    if not settings.class_weights:
        return None
    present = np.unique(labels)
    weights = np.zeros(N_OUTPUTS, np.float32)
    weights[present] = compute_class_weight("balanced", classes=present, y=labels)
    return weights


def _make_steps(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    settings: Settings,
    class_weights: NDArray[np.float32] | None,
) -> Callable:
    # Many steps in one call, over an array that lives in the graph: no queue, no copy, no Python between steps.
    variables = model.trainable_variables

    def one_step(inputs: tf.Tensor, labels: tf.Tensor, rows: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        x, y = tf.cast(tf.gather(inputs, rows), tf.float32), tf.gather(labels, rows)
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = _loss(model, logits, y, class_weights, settings.label_smoothing)
        gradients = tape.gradient(loss, [v.value for v in variables])
        optimizer.apply(gradients, variables)
        n = tf.cast(tf.size(rows), tf.float32)
        return loss * n, _count_correct(logits, y)

    @tf.function(autograph=False, reduce_retracing=True)
    def run_steps(inputs: tf.Tensor, labels: tf.Tensor, batches: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        def body(i: tf.Tensor, loss: tf.Tensor, correct: tf.Tensor) -> tuple[tf.Tensor, ...]:
            step_loss, step_correct = one_step(inputs, labels, batches[i])
            return i + 1, loss + step_loss, correct + step_correct

        n_steps = tf.shape(batches)[0]
        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0))
        return tf.while_loop(lambda i, *_: i < n_steps, body, start, parallel_iterations=1)[1:]

    return run_steps


def _make_scorer(model: keras.Model) -> Callable[[Examples], tuple[float, float]]:
    @tf.function(autograph=False, reduce_retracing=True)
    def score_batch(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = model(tf.cast(x, tf.float32), training=False)
        return _loss(model, logits, y) * tf.cast(tf.size(y), tf.float32), _count_correct(logits, y)

    def score(examples: Examples) -> tuple[float, float]:
        totals = np.zeros(2)
        for i in range(0, len(examples), _SCORING_BATCH):
            part = slice(i, i + _SCORING_BATCH)
            batch = tf.constant(examples.inputs[part]), tf.constant(examples.labels[part])
            totals += [float(value) for value in score_batch(*batch)]
        loss, correct = (totals / len(examples)).tolist()
        return loss, correct

    return score


def _loss(
    model: keras.Model,
    logits: tf.Tensor,
    labels: tf.Tensor,
    class_weights: NDArray[np.float32] | None = None,
    smoothing: float = 0.0,
) -> tf.Tensor:
    if smoothing:
        truth = (1 - smoothing) * tf.one_hot(labels, N_OUTPUTS) + smoothing / N_OUTPUTS
        losses = tf.nn.softmax_cross_entropy_with_logits(truth, logits)
    else:
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
    if class_weights is not None:
        losses *= tf.gather(tf.constant(class_weights), labels)
    return tf.add_n([tf.reduce_mean(losses), *model.losses])


def _count_correct(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    predicted = tf.argmax(logits, axis=1, output_type=labels.dtype)
    return tf.reduce_sum(tf.cast(predicted == labels, tf.float32))


def _save(checkpoint: Path, state: list[keras.Variable], history: list[dict]) -> None:
    arrays = {f"v{i:04d}": v.numpy() for i, v in enumerate(state)}
    with paths.written_whole(checkpoint) as temporary, temporary.open("wb") as file:
        np.savez(file, history=np.frombuffer(json.dumps(history).encode(), np.uint8), **arrays)


def _restore(checkpoint: Path, state: list[keras.Variable]) -> list[dict]:
    try:
        with np.load(checkpoint, allow_pickle=False) as file:
            history = json.loads(file["history"].tobytes())
            arrays = [file[f"v{i:04d}"] for i in range(len(state))]
        for variable, array in zip(state, arrays, strict=True):
            if variable.shape != array.shape:
                raise ValueError(f"a variable of {array.shape} in place of {variable.shape}")
    except Exception as error:  # numpy and zipfile raise more than they document, and whichever it is:
        # a checkpoint that cannot be read costs epochs, never the run.
        say(f"The state of an unfinished training, {checkpoint}, is damaged ({error}); the training begins anew.")
        return []
    for variable, array in zip(state, arrays, strict=True):
        variable.assign(array)
    return history
