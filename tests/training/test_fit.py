import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.special import log_softmax

from wbc_lib.data import images, splits
from wbc_lib.data.images import Scale
from wbc_lib.training import fit, networks, plan, windows
from wbc_lib.training.arrays import Examples, Material
from wbc_lib.training.plan import Experiment, Network, Settings

TINY = Experiment(
    "tiny",
    "Tiny",
    Network(convolutions=(4,), dense=(8, 6), dropout=0.3, kernel_l1=1e-4, kernel_l2=1e-4, activity_l2=1e-3),
    settings=Settings(batch_size=8),
)
AUGMENTED = dataclasses.replace(TINY, augment=True)
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


def digest(fitted: fit.Fitted) -> str:
    parts = [*fitted.weights, fitted.validation_logits, fitted.test_logits]
    parts.append(fitted.history.drop(columns="seconds").to_numpy())
    return hashlib.sha256(b"".join(np.ascontiguousarray(p).tobytes() for p in parts)).hexdigest()


@functools.cache
def trained(experiment: Experiment, epochs: int) -> fit.Fitted:
    """The outcome of an uninterrupted training with seed 0: what several tests compare with."""
    return fit.fit(experiment, MATERIAL, epochs, seed=0)


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


def test_an_interrupted_training_ends_with_the_same_bits(tmp_path):
    # Augmented, so that all is drawn that a training draws: pictures, their order, and what dropout drops.
    options = {"epochs": 4, "seed": 0, "checkpoint": tmp_path / "state.npz"}
    # Three reports an epoch: after the whole batches, after the smaller last one, and after the checkpoint is written.
    for stop in (4, 7):
        with pytest.raises(Interrupted):
            fit.fit(AUGMENTED, MATERIAL, **options, on_step=interrupt_after(stop))
    seen = []
    resumed = fit.fit(AUGMENTED, MATERIAL, **options, on_step=lambda step: seen.append(step.epoch))
    assert seen[0] == 4  # the epochs that were finished, one and then two, are not made again
    assert resumed.history.epoch.tolist() == [1, 2, 3, 4]
    assert digest(resumed) == digest(trained(AUGMENTED, 4))


def test_the_same_run_twice_gives_the_same_bits_and_another_seed_does_not():
    expected = digest(trained(TINY, 3))
    # Whatever random numbers were drawn before.
    np.random.seed(12345)
    networks.keras.utils.set_random_seed(12345)
    assert digest(fit.fit(TINY, MATERIAL, epochs=3, seed=0)) == expected
    assert digest(fit.fit(TINY, MATERIAL, epochs=3, seed=1)) != expected


def test_one_epoch_does_what_keras_fit_does():
    network = Network(convolutions=(4,), dense=(8,), kernel_l1=1e-3, kernel_l2=1e-3, activity_l2=1e-2)
    experiment = dataclasses.replace(TINY, network=network)
    ours = fit.fit(experiment, MATERIAL, epochs=1, seed=5)

    keras = networks.keras
    keras.utils.clear_session()
    keras.utils.set_random_seed(5)
    theirs = networks.build(network, (12, 16, 3), ours.scale)
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


def test_losses_are_cross_entropy_and_all_penalties():
    # At learning rate 0 the network stays what it was, so that every loss can be computed by hand.
    network = Network(convolutions=(), dense=(8, 6), kernel_l1=0.02, kernel_l2=0.03, activity_l2=0.04)
    experiment = dataclasses.replace(TINY, network=network, settings=Settings("sgd", 0.0, batch_size=8))
    fitted = fit.fit(experiment, MATERIAL, epochs=1, seed=0)
    w1, b1, w2, b2, w3, b3 = (w.astype(float) for w in fitted.weights)

    def loss(part: Examples) -> float:
        x = part.inputs.reshape(len(part), -1) / 127.5 - 1
        first = np.maximum(x @ w1 + b1, 0)
        second = np.maximum(first @ w2 + b2, 0)
        logits = log_softmax(second @ w3 + b3, axis=1)
        penalties = sum(0.02 * np.abs(w).sum() + 0.03 * (w**2).sum() for w in (w1, w2, w3))
        activity = 0.04 * ((first**2).sum() + (second**2).sum()) / len(part)
        return -logits[np.arange(len(part)), part.labels].mean() + penalties + activity

    assert fitted.history.loss[0] == pytest.approx(loss(MATERIAL.training), rel=1e-5)
    assert fitted.history.val_loss[0] == pytest.approx(loss(MATERIAL.validation), rel=1e-5)


def replace_at(content: bytes, place: int, new: bytes) -> bytes:
    return content[:place] + new + content[place + len(new) :]


HARM = {
    "truncated": lambda content: content[: len(content) // 2],
    "a changed number": lambda content: replace_at(content, len(content) // 2, bytes([content[len(content) // 2] ^ 1])),
    "history gone": lambda content: content.replace(b"history.npy", b"mystery.npy"),
    "empty": lambda content: b"",
    "packed in an unknown way": lambda content: replace_at(content, content.index(b"PK\1\2") + 10, b"\x63"),
}


@pytest.fixture(scope="module")
def state_of_one_epoch(tmp_path_factory):
    path = tmp_path_factory.mktemp("checkpoint") / "state.npz"
    fit.fit(TINY, MATERIAL, epochs=1, seed=0, checkpoint=path)
    return path.read_bytes()


def fresh_state(network: Network) -> list:
    model = networks.build(network, (12, 16, 3), Scale((1.0,) * 3, (0.0,) * 3))
    optimizer = fit.make_optimizer(TINY.settings)
    optimizer.build(model.trainable_variables)
    return [*model.variables, *optimizer.variables]


def restore(path: Path, network: Network) -> tuple[list[dict], bool]:
    """Read a checkpoint; tell the history that it gives and whether the state was changed by it."""
    state = fresh_state(network)
    before = [v.numpy() for v in state]
    history = fit._restore(path, state)
    return history, any((a != v.numpy()).any() for a, v in zip(before, state, strict=True))


@pytest.mark.parametrize("damage", HARM)
def test_of_a_checkpoint_that_cannot_be_read_nothing_is_used(tmp_path, state_of_one_epoch, damage):
    path = tmp_path / "state.npz"
    path.write_bytes(state_of_one_epoch)
    history, changed = restore(path, TINY.network)
    assert [row["epoch"] for row in history] == [1] and changed
    path.write_bytes(HARM[damage](state_of_one_epoch))
    assert restore(path, TINY.network) == ([], False)


@pytest.mark.parametrize("change", [{"convolutions": (3,)}, {"dense": (8,)}, {"dense": (8, 6, 6)}, {"dropout": 0.0}])
def test_of_a_checkpoint_of_another_network_nothing_is_used(tmp_path, state_of_one_epoch, change):
    (tmp_path / "state.npz").write_bytes(state_of_one_epoch)
    assert restore(tmp_path / "state.npz", dataclasses.replace(TINY.network, **change)) == ([], False)


def test_a_full_disk_stops_the_training_and_keeps_the_last_whole_state(tmp_path, state_of_one_epoch, full_disk):
    checkpoint = tmp_path / "state.npz"
    checkpoint.write_bytes(state_of_one_epoch)
    with full_disk(len(state_of_one_epoch) // 2), pytest.raises(OSError, match="too large|No space"):
        fit.fit(TINY, MATERIAL, epochs=2, seed=0, checkpoint=checkpoint)
    assert checkpoint.read_bytes() == state_of_one_epoch
    assert list(tmp_path.iterdir()) == [checkpoint]


def test_features_are_learned_from_as_they_are():
    rng = np.random.default_rng(0)
    labels = rng.integers(1, 5, 60).astype(np.int32)
    inputs = (np.eye(5)[labels] @ rng.normal(size=(5, 20)) + rng.normal(0, 0.1, (60, 20))).astype(np.float32)
    parts = [Examples(inputs[i : i + 20], labels[i : i + 20], np.arange(20).astype(str)) for i in (0, 20, 40)]
    experiment = dataclasses.replace(TINY, network=Network(dense=(16,), base="vgg16", base_weights="random"))
    fitted = fit.fit(experiment, Material(*parts), epochs=60, seed=0)
    assert fitted.scale is None
    assert [w.shape for w in fitted.weights] == [(20, 16), (16,), (16, 5), (5,)]
    assert (fitted.test_logits.argmax(axis=1) == parts[2].labels).mean() > 0.9
    # The logits are those of the weights that are handed over.
    w1, b1, w2, b2 = fitted.weights
    by_hand = np.maximum(parts[2].inputs @ w1 + b1, 0) @ w2 + b2
    np.testing.assert_allclose(fitted.test_logits, by_hand, rtol=1e-4, atol=1e-4)


def test_augmented_pictures_use_the_whole_recipe():
    # A bar along the middle, in red, with a dot above its right end, in green: all that was done can be read off.
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[29:31, 25:55, 0] = 255
    picture[22:26, 48:54, 1] = 255
    turns, shifts, left, below = [], [], 0, 0
    many = np.repeat(picture[None], 2000, axis=0)
    out = fit.augment(many, np.random.default_rng(0))
    assert np.array_equal(out[:50], fit.augment(many[:50], np.random.default_rng(0)))
    for image in out:
        bar, dot = (np.argwhere(image[..., channel] > 127) for channel in (0, 1))
        middle = bar.mean(axis=0)
        down, right = (axis := np.linalg.eigh(np.cov((bar - middle).T))[1][:, 1]) * np.sign(axis[1])
        turns.append(np.degrees(np.arctan2(down, right)))
        shifts.append((middle - [29.5, 39.5]) / [60, 80])
        left += (dot.mean(axis=0) - middle) @ [down, right] < 0
        below += (dot.mean(axis=0) - middle) @ [right, -down] > 0
    assert 18 < np.max(turns) < 22
    assert -22 < np.min(turns) < -18
    np.testing.assert_array_less(np.abs(shifts).max(axis=0), 0.11)
    np.testing.assert_array_less(0.09, np.abs(shifts).max(axis=0))
    # Half of 2000, within five standard deviations.
    assert abs(left - 1000) < 112
    assert abs(below - 1000) < 112


def test_nothing_is_mirrored_into_the_empty_rim():
    out = fit.augment(np.full((50, 60, 80, 3), 200, np.uint8), np.random.default_rng(0))
    assert (out[:, 25:35, 35:45] == 200).all()
    corners = out[:, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert (corners == 0).any(axis=(1, 2)).mean() > 0.9


def smooth_picture() -> np.ndarray:
    rows, columns = np.mgrid[0:240, 0:320]
    waves = [127 + 120 * np.sin(columns / a + rows / b) for a, b in ((40, 60), (70, 30), (25, 90))]
    return np.stack(waves, axis=-1).astype(np.uint8)


def test_the_numerics_have_not_moved_without_their_version(tmp_path):
    """Compare what decides a run's numbers with what the recorded version of the numerics gave.

    If this fails after a change that alters results on purpose: raise `plan.NUMERICS`, record the figures anew
    with WBC_RECORD_NUMERICS=1, and train the recorded runs again. If the change was not meant to alter results, it did.
    """
    fitted = trained(TINY, 3)
    rmsprop = dataclasses.replace(TINY, settings=Settings("rmsprop", 1e-3, 8, "standardised"))
    others = {"augmented": trained(AUGMENTED, 4), "rmsprop": trained(rmsprop, 2)}
    cv2.imwrite(str(tmp_path / "a.jpeg"), smooth_picture(), [cv2.IMWRITE_JPEG_QUALITY, 95])
    exact = {
        "numerics": plan.NUMERICS,
        "held back": splits.split_at_random(40, 0.2, 0).validation.tolist(),
        "undersampled": splits.undersample(np.repeat([1, 2, 3], [4, 9, 20]), 0).tolist(),
    }
    figures = {
        "loss": [float(v) for v in fitted.history.loss],
        "val_loss": [float(v) for v in fitted.history.val_loss],
        "logits": [float(v) for v in fitted.test_logits[:4].ravel()],
        **{name: [float(v) for v in other.history.loss[:2]] for name, other in others.items()},
    }
    # A decoder of another version may round a pixel otherwise.
    pixels = {"small image": images.read_small(tmp_path / "a.jpeg")[::12, ::16].ravel().tolist()}
    if os.environ.get("WBC_RECORD_NUMERICS"):
        NUMERICS_FILE.write_text(json.dumps(exact | figures | pixels, indent=1) + "\n")
    recorded = json.loads(NUMERICS_FILE.read_text())
    assert recorded["numerics"] == plan.NUMERICS, "record tests/numerics.json anew: WBC_RECORD_NUMERICS=1"
    moved = "results moved; raise wbc_lib.training.plan.NUMERICS, see this test"
    for name, values in exact.items():
        assert recorded[name] == values, moved
    for name, values in figures.items():
        np.testing.assert_allclose(values, recorded[name], rtol=1e-3, atol=1e-4, err_msg=moved)
    for name, values in pixels.items():
        np.testing.assert_allclose(values, recorded[name], atol=2, err_msg=moved)


def test_classes_weigh_by_how_rare_they_are_and_only_if_it_is_asked_for():
    labels = np.array([1, 1, 1, 3], np.int32)
    np.testing.assert_allclose(fit._weigh_classes(Settings(class_weights=True), labels), [0, 2 / 3, 0, 2, 0])
    assert fit._weigh_classes(Settings(), labels) is None


def test_the_weighted_loss_is_the_mean_of_the_weighted_losses():
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(6, 5)).astype(np.float32), np.array([1, 1, 1, 1, 2, 3], np.int32)
    weights = np.array([0, 0.5, 2, 2, 0], np.float32)
    model = networks.build(TINY.network, (12, 16, 3), Scale((1.0,) * 3, (0.0,) * 3))
    penalties = float(sum(model.losses))
    expected = (-log_softmax(logits, axis=1)[np.arange(6), labels] * weights[labels]).mean() + penalties
    found = fit._loss(model, fit.tf.constant(logits), fit.tf.constant(labels), weights)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_an_epoch_of_two_passes_takes_as_many_steps_as_two_epochs(tmp_path):
    def iterations(passes: int, epochs: int) -> list[int]:
        experiment = plan.vary(TINY, passes=passes, batch_size=15)  # 45 examples: three whole batches a pass
        fit.fit(experiment, MATERIAL, epochs, 0, checkpoint=tmp_path / f"{passes}.npz")
        with np.load(tmp_path / f"{passes}.npz") as file:  # the only whole number that the optimizer keeps
            return [int(v) for name, v in file.items() if name != "history" and v.ndim == 0 and v.dtype.kind == "i"]

    assert iterations(2, 1) == iterations(1, 2) != []


# A base that learns, of one block in place of sixteen.
ONE_STAGE = ((1, 5, 4, 6, 24),)
ON_BASE = Experiment(
    "on-base",
    "On a base",
    Network(convolutions=(), dense=(), base="efficientnet-lite0", base_weights="pbc", base_trained=True),
    material="windows",
    input_shape=(windows.SIDE, windows.SIDE),
    settings=Settings(batch_size=4, optimizer="adamw", steps=2, schedule="one-cycle", label_smoothing=0.05, views=8),
)


def window_examples(n: int, side: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    names = np.array([f"{('TRAIN/', 'pbc/', 'BloodImage_')[i % 3]}{i}" for i in range(n)])
    inputs = rng.integers(0, 256, (n, side, side, 3), dtype=np.uint8)
    return Examples(inputs, rng.integers(1, 5, n).astype(np.int32), names)


def test_a_base_that_learns_goes_on_where_it_was_stopped_and_is_scored_with_the_weights_that_are_kept(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(networks, "EFFICIENTNET_STAGES", ONE_STAGE)
    held_out = window_examples(3, windows.SIDE, 1)
    material = Material(window_examples(12, windows.KEPT, 0), held_out, held_out)
    start = networks.list_weights(networks.build(ON_BASE.network, held_out.inputs.shape[1:], None))
    start = [v.numpy() for v in start]
    whole = fit.fit(ON_BASE, material, 2, 0, start=start)
    with pytest.raises(Interrupted):
        fit.fit(ON_BASE, material, 2, 0, start=start, checkpoint=tmp_path / "c.npz", on_step=interrupt_after(3))
    assert digest(fit.fit(ON_BASE, material, 2, 0, start=start, checkpoint=tmp_path / "c.npz")) == digest(whole)
    assert {w.dtype for w in whole.weights} == {np.dtype(np.float16)}
    assert any(not np.array_equal(w, s.astype(np.float16)) for w, s in zip(whole.weights, start, strict=True))
    assert whole.history.val_loss.isna().tolist() == [True, False]
    model = networks.build(ON_BASE.network, held_out.inputs.shape[1:], None)
    networks.assign_weights(model, whole.weights)
    both = (held_out.inputs, np.flip(held_out.inputs, axis=1))
    views = [np.rot90(p, k, axes=(1, 2)) for p in both for k in range(4)]
    averaged = np.mean([model.predict_on_batch(v.astype(np.float32)) for v in views], axis=0)
    np.testing.assert_allclose(whole.test_logits, averaged, atol=1e-4)


@pytest.mark.parametrize("weights", ["random", "imagenet"])
def test_a_base_without_a_start_has_the_weights_that_its_description_names(monkeypatch, weights):
    loaded = []

    def stop(*_):  # comes next, and learning is not looked at here
        raise Interrupted

    monkeypatch.setattr(networks, "EFFICIENTNET_STAGES", ONE_STAGE)
    monkeypatch.setattr(networks, "load_efficientnet", loaded.append)
    monkeypatch.setattr(fit, "make_optimizer", stop)
    held_out = window_examples(3, windows.SIDE, 1)
    with pytest.raises(Interrupted):
        fit.fit(plan.vary(ON_BASE, base_weights=weights), Material(held_out, held_out, held_out), 1, 0)
    assert len(loaded) == (weights == "imagenet")
