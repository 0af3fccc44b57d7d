import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import settings
from numpy.typing import NDArray
from playwright.sync_api import Browser

from tests import browsing
from wbc_lib import paths
from wbc_lib.data import dataset, phantoms
from wbc_lib.data.dataset import DataSet
from wbc_lib.data.external import External

EXTERNAL = Path(os.environ.get("WBC_TEST_EXTERNAL", paths.ROOT.parent / "shared" / "data" / "external"))
REAL = Path(os.environ.get("WBC_TEST_PHOTOS", paths.ROOT.parent / "shared" / "data" / "blood-cells"))

# The machine may be busy training: how long an example takes says nothing.
settings.register_profile("wbc", deadline=None)
settings.load_profile("wbc")


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_users_is_touched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("WBC_CACHE", str(folder / "cache"))
    patch.setenv("WBC_RESULTS", str(folder / "results"))
    for name in ("WBC_DATA", "WBC_EXTERNAL", "WBC_NEVER_TRAIN", "WBC_REPOSITORY", "WBC_WEIGHTS"):
        patch.delenv(name, raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def phantom_set(_nothing_of_the_users_is_touched: None) -> DataSet:
    """A small phantom data set, drawn once; not to be written to."""
    return phantoms.cached(scale=0.1, copies=40)


@pytest.fixture(scope="session")
def tiny_set(_nothing_of_the_users_is_touched: None) -> DataSet:
    """The smallest phantom data set, of another seed, drawn once; not to be written to."""
    return phantoms.cached(seed=3, scale=0.01, copies=12)


@pytest.fixture
def phantom_copy(phantom_set: DataSet, tmp_path: Path) -> DataSet:
    """A copy of the small phantom data set, to be damaged."""
    shutil.copytree(phantom_set.root, tmp_path / "copy")
    return dataset.open_folder(tmp_path / "copy")


@pytest.fixture
def full_disk() -> Callable[[int], AbstractContextManager[None]]:
    """A context in which writing fails once a file has the given number of bytes, as it does on a full disk."""
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")

    @contextmanager
    def limit(n_bytes: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limit


@pytest.fixture(scope="session")
def real_set() -> DataSet:
    """The real photos, where they are."""
    if not REAL.is_dir():
        pytest.skip(f"the real photos are not at {REAL}")
    return dataset.open_folder(REAL)


@pytest.fixture(scope="session")
def external_set() -> External:
    """The pictures from other microscopes, where they are."""
    if not EXTERNAL.is_dir():
        pytest.skip(f"the pictures from other microscopes are not at {EXTERNAL}")
    return External(EXTERNAL)


def photographed_again(photo: NDArray[np.uint8], shift: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """The same field in another exposure, the stage moved: slightly out of focus, with noise of its own."""
    affine = np.float64([[1, 0, shift[0]], [0, 1, shift[1]]])
    moved = cv2.warpAffine(photo, affine, dataset.PHOTO_SIZE, borderValue=[190] * 3)  # what comes into view is grey
    noise = np.random.default_rng(seed).normal(0, 4, moved.shape)
    return np.clip(cv2.GaussianBlur(moved, (0, 0), 1.0) + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A browser for the tests of the site."""
    with browsing.open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def chromium() -> Iterator[Callable]:
    """Run a function of a browser; in a thread of its own, for playwright allows one browser in each."""
    opening = browsing.open_browser()
    with ThreadPoolExecutor(1) as thread:
        opened = thread.submit(opening.__enter__).result()
        yield lambda act: thread.submit(act, opened).result()
        thread.submit(opening.__exit__, None, None, None).result()
