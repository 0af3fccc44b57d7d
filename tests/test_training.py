import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from wbc_lib import experiments, models, training
from wbc_lib.errors import UnknownNameError
from wbc_lib.examples import Examples, Material
from wbc_lib.experiments import Experiment, Network, Settings
from wbc_lib.images import Scale

TINY = Experiment(
    "tiny",
    "Tiny",
    Network(convolutions=(4,), dense=(8, 6), dropout=0.3, kernel_l1=1e-4, kernel_l2=1e-4, activity_l2=1e-3),
    settings=Settings(batch_size=8),
)
NUMERICS_FILE = Path(__file__).with_name("numerics.json")


def examples(n: int, seed: int) -> Examples:
    """Pictures with a bright square whose place is their class: drawn by numpy, the same everywhere."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(1, 5, n).astype(np.int32)
    inputs = rng.integers(0, 120, (n, 12, 16, 3), dtype=np.uint8)
    for picture, label in zip(inputs, labels, strict=True):
        picture[2:9, 4 * (label - 1) : 4 * label] += 120
    return Examples(inputs, labels, np.array([f"{i}" for i in range(n)]))


# 45 is no multiple of the batch: the last batch of an epoch is a smaller one.
MATERIAL = Material(examples(45, 0), examples(20, 1), examples(20, 2))


def digest(fitted: training.Fitted) -> str:
    parts = [*fitted.weights, fitted.validation_logits, fitted.test_logits]
    parts.append(fitted.history.drop(columns="seconds").to_numpy())
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


class Interrupted(Exception):  # noqa: N818 - not an error: somebody pulled the plug
    pass


def interrupt_after(steps: int):
    count = 0

    def on_step(step):
        nonlocal count
        count += 1
        if count > steps:
            raise Interrupted

    return on_step


@pytest.mark.parametrize("augment", [False, True])
@settings(max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stops=st.lists(st.integers(0, 6), min_size=1, max_size=2))
def test_an_interrupted_training_ends_with_the_same_bits(tmp_path, augment, stops):
    experiment = dataclasses.replace(TINY, augment=augment)
    whole = training.fit(experiment, MATERIAL, epochs=4, seed=3)
    checkpoint = tmp_path / f"{'-'.join(map(str, stops))}-{augment}.npz"
    checkpoint.unlink(missing_ok=True)
    for stop in stops:
        try:
            training.fit(experiment, MATERIAL, epochs=4, seed=3, checkpoint=checkpoint, on_step=interrupt_after(stop))
        except Interrupted:
            continue
    resumed = training.fit(experiment, MATERIAL, epochs=4, seed=3, checkpoint=checkpoint)
    assert digest(resumed) == digest(whole)


def test_the_same_run_twice_gives_the_same_bits_and_another_seed_does_not():
    first, second = (training.fit(TINY, MATERIAL, epochs=2, seed=0) for _ in range(2))
    assert digest(first) == digest(second)
    assert digest(first) != digest(training.fit(TINY, MATERIAL, epochs=2, seed=1))


def test_one_epoch_does_what_keras_fit_does():
    network = Network(convolutions=(4,), dense=(8,), kernel_l1=1e-3, kernel_l2=1e-3, activity_l2=1e-2)
    experiment = dataclasses.replace(TINY, network=network)
    ours = training.fit(experiment, MATERIAL, epochs=1, seed=5)

    keras = models.keras
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    theirs = models.build(network, (12, 16, 3), ours.scale)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    theirs.compile(optimizer=keras.optimizers.Adam(1e-3), loss=loss, metrics=["accuracy"])
    order = np.random.default_rng([5, 1]).permutation(45)
    batch = {"batch_size": 8, "shuffle": False, "verbose": 0}
    x, y = MATERIAL.training.inputs[order].astype("float32"), MATERIAL.training.labels[order]
    validation = (MATERIAL.validation.inputs.astype("float32"), MATERIAL.validation.labels)
    history = theirs.fit(x, y, epochs=1, validation_data=validation, **batch).history

    for a, b in zip(ours.weights, theirs.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)
    row = ours.history.iloc[0]
    assert row.accuracy == pytest.approx(history["accuracy"][0])
    assert row.val_accuracy == pytest.approx(history["val_accuracy"][0])
    assert row.loss == pytest.approx(history["loss"][0], rel=2e-3)
    # Keras averages the activity penalty over batches of another size here.
    assert row.val_loss == pytest.approx(history["val_loss"][0], rel=2e-2)


@pytest.mark.parametrize("damage", ["truncated", "not an archive", "of another network"])
def test_a_checkpoint_that_cannot_be_read_is_not_used(tmp_path, damage):
    checkpoint = tmp_path / "state.npz"
    if damage == "of another network":
        other = dataclasses.replace(TINY, network=Network(convolutions=(3,), dense=(5,)))
        training.fit(other, MATERIAL, epochs=1, seed=0, checkpoint=checkpoint)
    else:
        training.fit(TINY, MATERIAL, epochs=1, seed=0, checkpoint=checkpoint)
        content = checkpoint.read_bytes()
        checkpoint.write_bytes(content[: len(content) // 2] if damage == "truncated" else b"nonsense")
    fitted = training.fit(TINY, MATERIAL, epochs=2, seed=0, checkpoint=checkpoint)
    assert digest(fitted) == digest(training.fit(TINY, MATERIAL, epochs=2, seed=0))


def test_a_network_learns_and_its_logits_are_those_of_its_last_epoch():
    experiment = dataclasses.replace(TINY, network=Network(convolutions=(8,), dense=(16,)))
    fitted = training.fit(experiment, MATERIAL, epochs=25, seed=0)
    assert fitted.history.val_accuracy.iloc[-1] > 0.8
    right = (fitted.validation_logits.argmax(axis=1) == MATERIAL.validation.labels).mean()
    assert right == pytest.approx(fitted.history.val_accuracy.iloc[-1])


def test_progress_reaches_the_end_of_every_epoch():
    seen = []
    training.fit(TINY, MATERIAL, epochs=2, seed=0, on_step=lambda s: seen.append((s.epoch, s.share, len(s.history))))
    assert (1, 1.0, 1) in seen
    assert seen[-1] == (2, 1.0, 2)


def test_an_unknown_optimizer_is_named():
    with pytest.raises(UnknownNameError, match="'adagrad'.*adam"):
        training.make_optimizer(Settings(optimizer="adagrad"))


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_augmented_pictures_turn_shift_and_mirror_within_the_recipe(seed):
    picture = np.zeros((1, 60, 80, 3), np.uint8)
    picture[0, 25:35, 35:45] = 255
    out = training.augment(picture, np.random.default_rng(seed))
    assert out.shape == picture.shape and out.dtype == np.uint8
    rows, columns = np.nonzero(out[0, ..., 0] > 127)
    # The square lies at the centre, so only the shift (a tenth of either side) can move its middle.
    assert abs(rows.mean() - 29.5) <= 6.5
    assert abs(columns.mean() - 39.5) <= 8.5
    assert np.array_equal(out, training.augment(picture, np.random.default_rng(seed)))


def test_the_numerics_have_not_moved_without_their_version():
    """Train a tiny network and compare with what the recorded version of the numerics gave.

    If this fails after a change that alters results on purpose: raise `experiments.NUMERICS`, record the figures anew
    with WBC_RECORD_NUMERICS=1, and train the recorded runs again. If the change was not meant to alter results, it did.
    """
    fitted = training.fit(TINY, MATERIAL, epochs=3, seed=0)
    figures = {
        "numerics": experiments.NUMERICS,
        "loss": [float(v) for v in fitted.history.loss],
        "val_loss": [float(v) for v in fitted.history.val_loss],
        "logits": [float(v) for v in fitted.test_logits[:4].ravel()],
    }
    if os.environ.get("WBC_RECORD_NUMERICS"):
        NUMERICS_FILE.write_text(json.dumps(figures, indent=1) + "\n")
    recorded = json.loads(NUMERICS_FILE.read_text())
    assert recorded["numerics"] == experiments.NUMERICS, "record tests/numerics.json anew: WBC_RECORD_NUMERICS=1"
    for name in ("loss", "val_loss", "logits"):
        moved = "results moved; raise wbc_lib.experiments.NUMERICS, see this test"
        np.testing.assert_allclose(figures[name], recorded[name], rtol=1e-3, atol=1e-4, err_msg=moved)


def test_the_scale_is_part_of_what_a_training_leaves():
    assert training.fit(TINY, MATERIAL, epochs=1, seed=0).scale == Scale((1 / 127.5,) * 3, (-1.0,) * 3)
