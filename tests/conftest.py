import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from wbc_lib import paths, phantoms, photos
from wbc_lib.photos import DataSet

REAL = Path(os.environ.get("WBC_TEST_PHOTOS", paths.ROOT.parent / "shared" / "data" / "blood-cells"))


@pytest.fixture(autouse=True, scope="session")
def _nothing_of_the_users_is_touched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("home")
    patch = pytest.MonkeyPatch()
    patch.setenv("WBC_CACHE", str(folder / "cache"))
    patch.setenv("WBC_RESULTS", str(folder / "results"))
    for name in ("WBC_DATA", "WBC_NEVER_TRAIN", "WBC_WEIGHTS"):
        patch.delenv(name, raising=False)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def phantom_set(_nothing_of_the_users_is_touched: None) -> DataSet:
    """A small phantom data set, drawn once; not to be written to."""
    return phantoms.cached(scale=0.1, copies=40)


@pytest.fixture(scope="session")
def real_set() -> DataSet:
    """The real photos, where they are."""
    if not REAL.is_dir():
        pytest.skip(f"the real photos are not at {REAL}")
    return photos.open_folder(REAL)
