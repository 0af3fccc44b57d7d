"""Sets of pictures: a user's, in folders, zips or a table; and those that a model is asked about, in one form."""

import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data import external
from wbc_lib.data.dataset import DataSet, index_photos, list_images, read_file
from wbc_lib.data.external import External
from wbc_lib.data.hashes import read_checksums
from wbc_lib.data.images import read_image, read_small, shrink
from wbc_lib.data.pictures import COPY, ENDINGS, MAX_BYTES, find_pictures
from wbc_lib.data.windows import RED_CELL
from wbc_lib.errors import BadDataError, DataNotFoundError, printable

Pixels = NDArray[np.uint8]
#: Sets of our own pictures that are asked about: the photos of TRAIN and of TEST, and the images of TEST.
TRAIN_PHOTOS, TEST_PHOTOS, TEST_IMAGES = OURS = ("train-photos", "test-photos", "test-images")
#: What the paper's model learned from, with the photos that it was made of.
TRAIN_IMAGES = "train-images"
NOT_SMEARS = "not-smears"
NAMES = (*OURS, *external.SOURCES, NOT_SMEARS)


@dataclass(frozen=True)
class PictureSet:
    """Pictures that belong together."""

    name: str  # one of `NAMES`
    table: pd.DataFrame  # a row per picture, as `external.list_pictures` gives it
    read: Callable[[str], Pixels]  # gives a picture by its name
    sha256: str  # of the pictures
    red_cell: float = 0.0  # diameter of the red cells in pixels, if it is known
    # gives a picture of ours as the paper's network sees it in training, shape (60, 80, RGB)
    read_whole: Callable[[str], Pixels] | None = None


def open_set(name: str, data: DataSet | None = None, elsewhere: External | None = None) -> PictureSet:
    """Open one of `NAMES`, or `TRAIN_IMAGES`: ours from `data`, those of other microscopes from `elsewhere`.

    Raises `DataNotFoundError` if what is needed is not given or not there, `BadDataError` if it is not as published.
    """
    if name == NOT_SMEARS:
        made = {m.name: m for m in external.make_not_smears()}
        table = external.tabulate(list(made), [m.kind for m in made.values()])
        return PictureSet(name, table, lambda picture: made[picture].picture, external.NOT_SMEARS_RECIPE, RED_CELL / 2)
    if name in (*OURS, TRAIN_IMAGES):
        if data is None:
            raise DataNotFoundError(f"The set {name} is part of the photos; name their folder with --data.")
        return _open_ours(name, data)
    if elsewhere is None:
        raise DataNotFoundError(f"The set {name} comes from elsewhere; name its folder with --external.")
    listed = external.list_pictures(elsewhere, name)
    return PictureSet(name, listed, elsewhere.read, external.SOURCES[name].sha256)


def _open_ours(name: str, data: DataSet) -> PictureSet:
    sha256 = read_checksums(data).sha256
    if name in (TRAIN_IMAGES, TEST_IMAGES):
        images = list_images(data)
        images = images[images.split == ("TRAIN" if name == TRAIN_IMAGES else "TEST")]
        table = external.tabulate(images.image.tolist(), images.cell.str.lower().tolist())
        at = data.image_path
        return PictureSet(name, table, lambda p: read_image(at(p)), sha256, RED_CELL / 2, lambda p: read_small(at(p)))
    index = index_photos(data)
    photos = index[index.split == ("TRAIN" if name == TRAIN_PHOTOS else "TEST")]
    table = external.tabulate([data.photo_path(p).name for p in photos.index], photos.labels.str.lower().tolist())

    def read(picture: str) -> Pixels:
        return read_image(data.raw / "JPEGImages" / picture)

    return PictureSet(name, table, read, sha256, RED_CELL, lambda picture: shrink(read(picture)))


@dataclass(frozen=True)
class PictureFile:
    """A picture's file, alone or within a zip."""

    path: Path  # of the file, or of the zip
    name: str  # what tables call it: its way below the folder or the zip that was named, with the part before it
    part: str = ""  # such as "train"
    cell: str = ""  # its class: the folder it lies in, below what was named; or ""
    member: str = ""  # its name within the zip; or ""

    def read(self) -> bytes:
        """The file's content; raises `BadDataError` if it cannot be read."""
        if not self.member:
            return read_file(self.path, MAX_BYTES, COPY)
        try:
            with zipfile.ZipFile(self.path) as opened:
                if opened.getinfo(self.member).file_size > MAX_BYTES:
                    raise BadDataError(f"{printable(self.name)}: is too large for a picture of a cell; leave it out.")
                return opened.read(self.member)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, KeyError, ValueError) as error:
            raise BadDataError(
                f"{printable(self.name)}: cannot be read from {printable(self.path)} ({error}); {COPY}."
            ) from error


@dataclass(frozen=True)
class Listed:
    """What places lead to."""

    files: list[PictureFile] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)  # a sentence for each folder that cannot be listed
    notes: list[str] = field(default_factory=list)  # a sentence on what was passed over in each place


def list_parts(places: Sequence[str], *, needs_parts: bool = True) -> Listed:
    """List the pictures of several folders or zips, each of which is a part, or of one table.

    Raises `BadDataError` if a place is none of these or holds no picture, or a table is not as it should be.
    """
    listed = Listed()
    if len(places) == 1 and places[0].lower().endswith(".csv"):
        listed.files.extend(_read_table(Path(places[0]), needs_parts))
        return listed
    for place, part in zip(places, _name_parts(places), strict=True):
        _list_place(Path(place), part, listed)
    return listed


def _name_parts(places: Sequence[str]) -> list[str]:
    # The last name of each, or so much of its way that no two are alike.
    ways = [Path(place).absolute() for place in places]
    if len(set(ways)) < len(ways):
        twice = next(place for place, way in zip(places, ways, strict=True) if ways.count(way) > 1)
        raise BadDataError(f"{printable(twice)} is named twice; name each part once.")
    for length in range(1, max(len(way.parts) for way in ways) + 1):
        names = ["/".join(way.with_suffix("" if way.suffix == ".zip" else way.suffix).parts[-length:]) for way in ways]
        if len(set(names)) == len(names):
            return names
    return [str(way) for way in ways]


def _list_place(place: Path, part: str, listed: Listed) -> None:
    shown = printable(place)
    if not place.exists():
        raise BadDataError(f"{shown}: there is no such file or folder; name a folder, a zip, or a table (.csv).")
    if place.is_dir():
        found = find_pictures([str(place)])
        files = [_make(path, path.relative_to(place).as_posix(), part) for path in found.pictures]
        listed.problems.extend(found.problems if files else [])
        listed.notes.extend(filter(None, [found.describe_passed_over()]))
    elif zipfile.is_zipfile(place):
        try:
            with zipfile.ZipFile(place) as opened:
                files = [_make(place, name, part, name) for name in sorted(opened.namelist()) if _is_picture(name)]
        except (OSError, zipfile.BadZipFile) as error:
            raise BadDataError(f"{shown}: cannot be read ({error}); {COPY}.") from error
    else:
        raise BadDataError(f"{shown}: is neither a folder nor a zip nor a table (.csv); name one of these.")
    if not files:
        raise BadDataError(f"{shown}: holds no picture ({', '.join(ENDINGS)}); name what does.")
    listed.files.extend(files)


def _is_picture(member: str) -> bool:
    way = PurePosixPath(member)
    return way.suffix.lower() in ENDINGS and not way.name.startswith(".") and "__MACOSX" not in way.parts


def _make(path: Path, way: str, part: str, member: str = "") -> PictureFile:
    return PictureFile(path, f"{part}/{way}", part, PurePosixPath(way).parent.name, member)


def _read_table(path: Path, needs_parts: bool) -> list[PictureFile]:
    shown = printable(path)
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except FileNotFoundError as error:
        raise BadDataError(f"{shown}: there is no such file; name a table of pictures.") from error
    except (OSError, ValueError) as error:
        raise BadDataError(f"{shown}: is no table that can be read; save it as CSV in UTF-8.") from error
    table.columns = [str(c).strip().lower() for c in table.columns]
    needed = ["picture", "split"] if needs_parts else ["picture"]
    if lacking := [c for c in needed if c not in table]:
        raise BadDataError(f"{shown}: lacks the column {' and '.join(lacking)}; name it in the first row.")
    if table.empty:
        raise BadDataError(f"{shown}: names no picture; write one in each row.")
    for column in needed:
        empty = table.index[table[column].str.strip() == ""]
        if len(empty):
            raise BadDataError(f"{shown}: row {empty[0] + 2} has no {column}; fill it in, or take the row out.")
    double = table.index[table.picture.duplicated()]
    if len(double):
        name = printable(table.picture[double[0]])
        raise BadDataError(f"{shown}: row {double[0] + 2} names {name} a second time; take one of the rows out.")
    files = []
    for row, values in enumerate(table.to_dict("records"), start=2):
        name = values["picture"]
        if not (path.parent / name).is_file():
            raise BadDataError(f"{shown}: row {row} names {printable(name)}, which is no file; mend it.")
        cell = values.get("class", Path(name).parent.name)
        files.append(PictureFile(path.parent / name, name, values.get("split", "").strip(), cell.strip()))
    return files
