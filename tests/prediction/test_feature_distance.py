import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from wbc_lib.attention import saliency
from wbc_lib.prediction import feature_distance
from wbc_lib.prediction.feature_distance import COLUMNS, CONVOLUTION, DENSE, IMAGENET, measure_distances


@pytest.fixture(scope="module")
def pictures():
    """Usual pictures, a discoloured part of noise in each; and noise all over."""
    rng = np.random.default_rng(0)
    usual = np.full((40, 60, 80, 3), (200, 170, 190), np.uint8)
    usual[:, 20:40, 30:50] = rng.integers(60, 120, (40, 20, 20, 3))
    return usual, rng.integers(0, 256, (10, 60, 80, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def measured(small_run, pictures):
    done = []
    usual, noise = pictures
    table = measure_distances([small_run], usual[:30], np.concatenate([usual[30:], noise]), lambda *p: done.append(p))
    assert done == [(1, 3), (2, 3), (3, 3)]
    return table


def test_noise_lies_farther_off_than_more_of_the_usual_pictures_in_every_feature(measured):
    assert list(measured) == list(COLUMNS)
    for name in (CONVOLUTION, IMAGENET):
        assert measured[name][10:].min() > measured[name][:10].max()
    assert measured[DENSE][10:].median() > measured[DENSE][:10].median()


def test_a_distance_is_that_of_mahalanobis_in_what_the_layer_puts_out(small_run, pictures, measured):
    usual, noise = pictures
    model = saliency.rebuild(small_run)
    layer = [x for x in model.layers if type(x).__name__ == "Conv2D"][-1]
    part = type(model)(model.inputs, layer.output)
    a, b = (part.predict_on_batch(p.astype(np.float32)).mean(axis=(1, 2)).astype(float) for p in (usual[:30], noise))
    alive = a.std(axis=0) > 0
    z, others = (((x - a.mean(axis=0)) / a.std(axis=0).clip(1e-12))[:, alive] for x in (a, b))
    covariance = LedoitWolf().fit(z)
    off = others - covariance.location_
    by_hand = np.sqrt(np.einsum("ij,jk,ik->i", off, np.linalg.inv(covariance.covariance_), off))
    np.testing.assert_allclose(measured[CONVOLUTION][10:], by_hand, rtol=1e-3)


def test_a_unit_that_is_silent_for_the_usual_pictures_tells_nothing():
    rng = np.random.default_rng(0)
    usual, others = rng.normal(size=(30, 4)), rng.normal(size=(5, 4))
    expected = feature_distance._measure(usual, others)
    silent = [np.column_stack([part, column]) for part, column in ((usual, np.zeros(30)), (others, np.ones(5)))]
    np.testing.assert_allclose(feature_distance._measure(*silent), expected)
