import numpy as np
import pytest

from wbc_lib import examples, photos
from wbc_lib.errors import UnknownNameError
from wbc_lib.experiments import EXPERIMENTS, vary
from wbc_lib.features import load_features
from wbc_lib.photos import LABELS


@pytest.mark.parametrize("name", ["final", "raw-imbalanced", "raw-undersampled", "raw-cropped"])
def test_nothing_of_test_is_learned_from_and_no_example_is_on_two_sides(phantom_set, name):
    material = examples.gather(phantom_set, EXPERIMENTS[name], seed=0)
    parts = {p: set(getattr(material, p).names) for p in ("training", "validation", "test")}
    assert not parts["training"] & parts["validation"]
    assert not (parts["training"] | parts["validation"]) & parts["test"]
    if name == "final":
        assert all(n.startswith("TRAIN/") for n in parts["training"] | parts["validation"])
        assert all(n.startswith("TEST/") for n in parts["test"])
    else:
        split = photos.index_photos(phantom_set).split
        numbers = {p: [int(n[11:16]) for n in names] for p, names in parts.items()}
        assert set(split[numbers["training"] + numbers["validation"]]) == {"TRAIN"}
        assert set(split[numbers["test"]]) == {"TEST"}


def test_labels_belong_to_their_images(phantom_set):
    material = examples.gather(phantom_set, EXPERIMENTS["final"], seed=0)
    for part in (material.training, material.test):
        assert [LABELS[name.split("/")[1]] for name in part.names] == part.labels.tolist()


def test_the_undersampled_photos_are_as_many_of_each_class(phantom_set):
    material = examples.gather(phantom_set, EXPERIMENTS["raw-undersampled"], seed=0)
    labels = np.concatenate([material.training.labels, material.validation.labels])
    assert len(set(np.bincount(labels)[1:])) == 1


def test_a_crop_shows_the_white_cell_and_not_the_whole_photo(phantom_set):
    whole = examples.gather(phantom_set, EXPERIMENTS["raw-imbalanced"], seed=0).test
    cut = examples.gather(phantom_set, EXPERIMENTS["raw-cropped"], seed=0).test
    assert list(whole.names) == list(cut.names)
    assert (whole.inputs != cut.inputs).any(axis=(1, 2, 3)).all()
    # A stained nucleus is darker in green than anything else: a crop around it is darker on the whole.
    assert (cut.inputs[..., 1].mean(axis=(1, 2)) < whole.inputs[..., 1].mean(axis=(1, 2))).mean() > 0.8


def test_features_are_computed_once_and_are_those_of_the_base(phantom_set):
    from wbc_lib.images import load_images
    from wbc_lib.models import build_base

    experiment = vary(EXPERIMENTS["vgg16-random"], input_shape=(32, 48))
    calls = []
    features = load_features(phantom_set, experiment, lambda done, total: calls.append(done))
    pixels = load_images(phantom_set, (32, 48)).pixels
    expected = np.asarray(build_base("vgg16", "random", (32, 48))(pixels[:5].astype(np.float32)))
    np.testing.assert_allclose(features[:5], expected, rtol=1e-3, atol=1e-3)
    assert calls[-1] == len(features) == len(pixels)
    calls.clear()
    np.testing.assert_array_equal(load_features(phantom_set, experiment, calls.append), features)
    assert calls == []


def test_an_unknown_material_is_named(phantom_set):
    with pytest.raises(UnknownNameError, match="'dust'"):
        examples.gather(phantom_set, vary(EXPERIMENTS["final"], material="dust"), seed=0)
