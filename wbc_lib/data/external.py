"""Pictures of white cells from other microscopes: which there are, where they are published, and which class they show.

Nothing of them is part of this project; they are read from a folder that the user names.
"""

import csv
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES, read_file
from wbc_lib.data.hashes import combine, hash_files
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, DataNotFoundError, UnknownNameError

#: What a picture is called whose cell belongs to none of our classes.
NO_CLASS = ""
#: Numbers that Zheng et al. give their classes.
_ZHENG_CLASSES = {1: "neutrophil", 2: "lymphocyte", 3: "monocyte", 4: "eosinophil", 5: "basophil"}
#: Pictures of the Barcelona set that are used: of each of our classes, and of each other folder.
_MOST, _MOST_OTHERS = 1000, 250
_COPY = "take another copy of the published file"


@dataclass(frozen=True)
class Source:
    """A published set."""

    name: str
    title: str  # for readers
    folder: str  # below the folder of the external pictures
    stain: str  # microscope or camera, and stain
    place: str  # where it is published, and under which terms
    pattern: str  # of the names of its pictures below `folder`
    sha256: str  # of its files, as `hashes.combine` computes it
    is_halved: bool  # whether half of it is held back until everything is chosen


_ZHENG = "https://github.com/zxaoyou/segmentation_WBC (Zheng et al. 2018; GPL-3)"
SOURCES = {
    s.name: s
    for s in (
        Source(
            "pbc",
            "Barcelona",
            "pbc",
            "CellaVision DM96; May Grünwald-Giemsa",
            "https://data.mendeley.com/datasets/snkd93bnjr (Acevedo et al. 2020; CC BY 4.0)",
            "*/*.jpg",
            "a1996f6aa5f25213dbe0a8abac72cf9ada54f4f4b8add1b0e515189c9c0e20a1",
            is_halved=False,
        ),
        Source(
            "cellavision",
            "CellaVision",
            "zheng/cellavision",
            "CellaVision",
            _ZHENG,
            "*.bmp",
            "f92999d96aac4a925b91572bb7534df05bc80d0f320c9d19f775ac1106aa11f1",
            is_halved=True,
        ),
        Source(
            "tecom",
            "Jiangxi Tecom",
            "zheng/tecom",
            "Motic Moticam Pro 252A; a rapid stain",
            _ZHENG,
            "*.bmp",
            "18298423f65ce2d2ac0cd9b794d49a0b23add4c6e9176251a67dfd360b812a6f",
            is_halved=True,
        ),
    )
}


@dataclass(frozen=True)
class External:
    """A folder with the published sets of pictures from elsewhere."""

    root: Path

    def path(self, picture: str) -> Path:
        """Path of a picture by its name, as `list_pictures` gives it."""
        return self.root / picture

    def read(self, picture: str) -> NDArray[np.uint8]:
        """Read a picture, shape (height, width, RGB); raises `BadDataError` if it cannot be read."""
        path = self.path(picture)
        return decode_picture(read_file(path, remedy=_COPY), str(path))


def find(folder: str | Path | None = None) -> External:
    """Find the external pictures: in `folder`, else in the one that ``WBC_EXTERNAL`` names.

    Raises `DataNotFoundError` if neither names a folder.
    """
    named = folder or os.environ.get("WBC_EXTERNAL")
    if named and Path(named).expanduser().is_dir():
        return External(Path(named).expanduser())
    where = "; ".join(f"{s.folder}: {s.place}" for s in SOURCES.values())
    what = f"There is no folder {str(named)!r}" if named else "The pictures from other microscopes are not named"
    raise DataNotFoundError(f"{what}; name their folder with --external DIR or WBC_EXTERNAL ({where}).")


def list_pictures(external: External, name: str) -> pd.DataFrame:
    """List the pictures of one of `SOURCES`, and make sure that they are those that were published.

    A row per picture: ``picture`` (its path below the root), ``kind`` (the published class), ``cell`` (the class of
    ours, or `NO_CLASS`) and ``held_back``. Raises `DataNotFoundError` if the set is not in the folder, and
    `BadDataError` if it is another than was published.
    """
    if name not in SOURCES:
        raise UnknownNameError(f"There is no set {name!r} of pictures; choose one of: {', '.join(SOURCES)}.")
    source = SOURCES[name]
    folder = external.root / source.folder
    found = sorted(p.relative_to(folder).as_posix() for p in folder.glob(source.pattern))
    if not found:
        raise DataNotFoundError(f"{folder} holds none of the pictures of {source.title}; get them from {source.place}.")
    is_zheng = source.is_halved
    beside = [external.root / f"{source.folder}.csv", *sorted(folder.glob("*.png"))] if is_zheng else []
    hashes = dict(zip(found, hash_files(folder / picture for picture in found), strict=True))
    hashes = hashes if is_zheng else _choose_lowest(hashes)
    whole = hashes | dict(zip([path.name for path in beside], hash_files(beside), strict=True))
    if combine(whole).sha256 != source.sha256:
        raise BadDataError(f"{folder} is not the set as it was taken from {source.place}; {_COPY}.")
    kinds = _read_zheng(beside[0]) if is_zheng else {picture: Path(picture).parent.name for picture in hashes}
    pictures = [f"{source.folder}/{picture}" for picture in hashes]
    cells = [kinds[p].upper() if kinds[p].upper() in CLASSES else NO_CLASS for p in hashes]
    held_back = hold_back(pictures) if source.is_halved else np.zeros(len(pictures), bool)
    columns = {"picture": pictures, "kind": [kinds[p] for p in hashes], "cell": cells}
    return pd.DataFrame(columns | {"held_back": held_back})


def hold_back(names: list[str]) -> NDArray[np.bool_]:
    """Choose half of some pictures by the sha256 of their names: those whose hashes are the lower half."""
    order = np.argsort([hashlib.sha256(name.encode()).hexdigest() for name in names])
    chosen = np.zeros(len(names), bool)
    chosen[order[: len(names) // 2]] = True
    return chosen


def read_nucleus(external: External, picture: str) -> NDArray[np.bool_]:
    """Where the nucleus is in a picture of Zheng et al.: their mask, shape (height, width)."""
    path = external.path(picture).with_suffix(".png")
    return decode_picture(read_file(path, remedy=_COPY), str(path))[..., 0] == 255


def _choose_lowest(hashes: dict[str, str]) -> dict[str, str]:
    # Of the whole Barcelona set the pictures that are used: in each folder those of the lowest hashes, no double.
    chosen: dict[str, str] = {}
    for kind in sorted({Path(picture).parent.name for picture in hashes}):
        mine = {digest: picture for picture, digest in sorted(hashes.items(), reverse=True) if picture.startswith(kind)}
        most = _MOST if kind.upper() in CLASSES else _MOST_OTHERS
        chosen |= {mine[digest]: digest for digest in sorted(mine)[:most]}
    return dict(sorted(chosen.items()))


def _read_zheng(table: Path) -> dict[str, str]:
    rows = list(csv.reader(read_file(table, remedy=_COPY).decode("utf-8-sig").splitlines()))[1:]
    return {f"{int(number):03d}.bmp": _ZHENG_CLASSES[int(kind)] for number, kind in rows}
