import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.attention import saliency
from wbc_lib.data.images import Scale
from wbc_lib.prediction import forward, picture
from wbc_lib.training import fit, networks
from wbc_lib.training.experiments import find_experiment
from wbc_lib.training.plan import Network
from wbc_lib.training.runs import Store

SCALE = ((1 / 127.5,) * 3, (-1.0, -0.5, 0.0))
TOLERANCE = 1e-4


def random_weights(model, seed):
    """Of a trained network's kind: variances above zero."""
    rng = np.random.default_rng(seed)
    fresh = [v.numpy() + rng.normal(0, 0.05, v.shape).astype(np.float32) for v in networks.list_weights(model)]
    return [np.abs(w) + 0.1 if w.ndim == 1 else w for w in fresh]


def compare(network, shape, scale, seed, views):
    pixels = np.random.default_rng(seed).integers(0, 256, (3, *shape, 3), dtype=np.uint8)
    model = networks.build(network, (*shape, 3), scale and Scale(*scale))
    weights = random_weights(model, seed)
    networks.assign_weights(model, weights)
    ours = forward.compute_logits(network, scale, weights, pixels, views)
    theirs = fit.predict(model, pixels, views)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=TOLERANCE)
    assert np.ptp(ours, axis=0).max() > 0


@settings(max_examples=6)
@given(st.tuples(st.integers(12, 17), st.integers(12, 17)), st.sampled_from(["each", "last"]), st.integers(0, 99))
def test_convolutions_pooling_and_dense_layers_give_what_keras_gives(shape, pool_after, seed):
    network = Network(convolutions=(4, 3), dense=(8, 6), dropout=0.3, pool_after=pool_after, pool_dropout=0.2)
    compare(network, shape, SCALE, seed, views=1)


# Sides that "same" pads evenly and unevenly.
@pytest.mark.parametrize("shape", [(96, 96), (65, 65)])
def test_a_base_that_was_trained_gives_what_keras_gives_in_all_views(shape):
    compare(find_experiment("stronger").network, shape, None, 0, views=8)


@pytest.mark.parametrize("model", ["final", "stronger"])
def test_the_recorded_networks_give_what_keras_gives(model):
    run = picture.find_run(Store(paths.ROOT / "results"), model=model)
    experiment = run.plan.experiment
    pixels = np.random.default_rng(1).integers(0, 256, (2, *experiment.input_shape, 3), dtype=np.uint8)
    ours = forward.compute_logits(experiment.network, run.record["scale"], run.weights(), pixels)
    theirs = fit.predict(saliency.rebuild(run), pixels)
    np.testing.assert_allclose(ours, theirs, atol=TOLERANCE)
