from collections.abc import Callable

import cv2
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from wbc_lib.data import dataset, images, phantoms
from wbc_lib.data.dataset import DataSet
from wbc_lib.provenance import trace


@pytest.fixture(scope="session")
def table(phantom_set: DataSet) -> pd.DataFrame:
    """Where the images of the small phantom data set come from, as traced."""
    return trace.read(phantom_set)


@pytest.fixture(scope="session")
def draw_reduced() -> Callable[[str, int], NDArray[np.uint8]]:
    """Draw a photo of a class from a seed, reduced and in grey."""

    def draw(cell: str, seed: int) -> NDArray[np.uint8]:
        photo = phantoms.draw_photo((cell,), np.random.default_rng(seed)).image
        return images.to_grey(cv2.resize(photo, dataset.IMAGE_SIZE, interpolation=cv2.INTER_AREA))

    return draw
