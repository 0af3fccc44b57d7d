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


@pytest.fixture(scope="session")
def photograph_again() -> Callable[[NDArray[np.uint8], tuple[int, int], int], NDArray[np.uint8]]:
    """Take the same field in another exposure, the stage moved: slightly out of focus, with noise of its own."""

    def photograph(photo: NDArray[np.uint8], shift: tuple[int, int], seed: int) -> NDArray[np.uint8]:
        affine = np.float64([[1, 0, shift[0]], [0, 1, shift[1]]])
        moved = cv2.warpAffine(photo, affine, dataset.PHOTO_SIZE, borderValue=[190] * 3)  # what comes into view is grey
        noise = np.random.default_rng(seed).normal(0, 4, moved.shape)
        return np.clip(cv2.GaussianBlur(moved, (0, 0), 1.0) + noise, 0, 255).astype(np.uint8)

    return photograph
