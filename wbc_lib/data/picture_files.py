"""Pictures as a user has them: in folders, in zips, or named in a table, with their part and their class."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pandas as pd

from wbc_lib.data.dataset import read_file
from wbc_lib.data.pictures import ENDINGS, find_pictures
from wbc_lib.errors import BadDataError, printable

_MAX_BYTES = 200_000_000
_COPY = "take another copy"


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
            return read_file(self.path, _MAX_BYTES, _COPY)
        try:
            with zipfile.ZipFile(self.path) as opened:
                if opened.getinfo(self.member).file_size > _MAX_BYTES:
                    raise BadDataError(f"{printable(self.name)}: is too large for a picture of a cell; leave it out.")
                return opened.read(self.member)
        except (OSError, zipfile.BadZipFile, RuntimeError, NotImplementedError, KeyError, ValueError) as error:
            raise BadDataError(
                f"{printable(self.name)}: cannot be read from {printable(self.path)} ({error}); {_COPY}."
            ) from error


@dataclass(frozen=True)
class Listed:
    """What places lead to."""

    files: list[PictureFile]
    problems: list[str]  # a sentence for each folder that cannot be listed
    notes: list[str]  # a sentence on what was passed over in each place


def list_parts(places: Sequence[str], *, needs_parts: bool = True) -> Listed:
    """List the pictures of several folders or zips, each of which is a part, or of one table.

    Gives them with a sentence for each folder that cannot be listed. Raises `BadDataError` if a place is neither
    folder, zip nor table, or holds no picture, or a table is not as it should be.
    """
    listed = Listed([], [], [])
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
            raise BadDataError(f"{shown}: cannot be read ({error}); {_COPY}.") from error
    else:
        raise BadDataError(f"{shown}: is neither a folder nor a zip nor a table (.csv); name one of these.")
    if not files:
        raise BadDataError(f"{shown}: holds no picture ({', '.join(ENDINGS)}); name what does.")
    listed.files.extend(files)


def _is_picture(member: str) -> bool:
    way = PurePosixPath(member)
    return way.suffix.lower() in ENDINGS and not way.name.startswith(".") and "__MACOSX" not in way.parts


def _make(path: Path, way: str, part: str, member: str = "") -> PictureFile:
    parent = PurePosixPath(way).parent.name
    return PictureFile(path, f"{part}/{way}", part, parent, member)


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
    if not len(table):
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
