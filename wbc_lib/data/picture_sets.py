"""Sets of pictures that a model is asked about, ours and others', all in one form."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data import external, not_smears
from wbc_lib.data.dataset import CLASSES, DataSet, index_photos, list_images
from wbc_lib.data.external import NO_CLASS, External
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import read_image, read_small, shrink
from wbc_lib.data.windows import RED_CELL
from wbc_lib.errors import DataNotFoundError

Pixels = NDArray[np.uint8]
#: Sets of our own pictures: the photos of TRAIN and of TEST, and the images of TEST.
TRAIN_PHOTOS, TEST_PHOTOS, TEST_IMAGES = OURS = ("train-photos", "test-photos", "test-images")
NOT_SMEARS = "not-smears"
NAMES = (*OURS, *external.SOURCES, NOT_SMEARS)


@dataclass(frozen=True)
class PictureSet:
    """Pictures that belong together.

    The table has a row per picture: ``picture`` (its name), ``kind`` (what it is said to show), ``cell`` (the class of
    ours, or `external.NO_CLASS`) and ``held_back``.
    """

    name: str  # one of `NAMES`
    table: pd.DataFrame
    read: Callable[[str], Pixels]  # gives a picture by its name
    sha256: str  # of the pictures
    red_cell: float = 0.0  # diameter of the red cells in pixels, if it is known
    # gives a picture of ours as the paper's network sees it in training, shape (60, 80, RGB)
    read_whole: Callable[[str], Pixels] | None = None


def open_set(name: str, data: DataSet | None = None, elsewhere: External | None = None) -> PictureSet:
    """Open one of `NAMES`: of our own pictures from `data`, of those of other microscopes from `elsewhere`.

    Raises `DataNotFoundError` if what is needed is not given or not there, and `BadDataError` if it is another than was
    published.
    """
    if name == NOT_SMEARS:
        made = {m.name: m for m in not_smears.make()}
        table = _tabulate(list(made), [m.kind for m in made.values()])
        return PictureSet(name, table, lambda picture: made[picture].picture, not_smears.RECIPE, RED_CELL / 2)
    if name in OURS:
        if data is None:
            raise DataNotFoundError(f"The set {name} is part of the photos; name their folder with --data.")
        return _open_ours(name, data)
    if elsewhere is None:
        raise DataNotFoundError(f"The set {name} comes from elsewhere; name its folder with --external.")
    listed = external.list_pictures(elsewhere, name)
    return PictureSet(name, listed, elsewhere.read, external.SOURCES[name].sha256)


def _open_ours(name: str, data: DataSet) -> PictureSet:
    sha256 = read_checksums(data).sha256
    if name == TEST_IMAGES:
        images = list_images(data).query("split == 'TEST'")
        table = _tabulate(images.image.tolist(), images.cell.str.lower().tolist())
        return PictureSet(
            name,
            table,
            lambda picture: read_image(data.image_path(picture)),
            sha256,
            RED_CELL / 2,
            lambda picture: read_small(data.image_path(picture)),
        )
    index = index_photos(data)
    photos = index[index.split == ("TRAIN" if name == TRAIN_PHOTOS else "TEST")]
    table = _tabulate([data.photo_path(p).name for p in photos.index], photos.labels.str.lower().tolist())

    def read(picture: str) -> Pixels:
        return read_image(data.raw / "JPEGImages" / picture)

    return PictureSet(name, table, read, sha256, RED_CELL, lambda picture: shrink(read(picture)))


def _tabulate(pictures: list[str], kinds: list[str]) -> pd.DataFrame:
    cells = [kind.upper() if kind.upper() in CLASSES else NO_CLASS for kind in kinds]
    return pd.DataFrame({"picture": pictures, "kind": kinds, "cell": cells, "held_back": False})
