"""What lies in the folders of a data set: files of the set by their names, and what is none."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

from wbc_lib.errors import BadDataError

#: Endings by which a file may be taken for a picture or for boxes of the set.
_ENDINGS = (".jpeg", ".jpg", ".jpe", ".jfif", ".xml")


@dataclass(frozen=True)
class Contents:
    """What is in a folder, but for hidden files.

    Attributes
    ----------
    names : list of str
        Of the files of the set, in order.
    doubtful : list of str
        A sentence for each entry that ends like a file of the set but is not named like one, such as a copy.
    foreign : list of str
        A sentence for each other entry.
    """

    names: list[str]
    doubtful: list[str]
    foreign: list[str]


def look_into(folder: Path, pattern: re.Pattern[str]) -> Contents:
    """Tell the files of the set in a folder from all else, by a pattern of their names.

    Raises
    ------
    BadDataError
        If the folder is missing or cannot be listed.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if not e.name.startswith("."))
    except FileNotFoundError as error:
        if other := find_other_case(folder.parent, folder.name):
            raise BadDataError(f"{other} should be called {folder.name}; rename it.") from error
        raise BadDataError(f"{folder}: the folder is missing; unpack the archive again.") from error
    except NotADirectoryError as error:
        raise BadDataError(f"{folder} is a file instead of a folder; unpack the archive again.") from error
    except PermissionError as error:
        raise BadDataError(f"{folder} may not be listed; see to its rights, or take a copy of your own.") from error
    except OSError as error:
        raise BadDataError(f"{folder} cannot be listed ({error.strerror}); unpack the archive again.") from error
    contents = Contents([], [], [])
    for name in names:
        if pattern.fullmatch(name):
            contents.names.append(name)
            continue
        # Hashes, tables and runs are written by names, and a terminal obeys some of their letters.
        shown = folder / (name if name.isascii() and name.isprintable() else f"{name!a:.200}")
        if name.lower().endswith(_ENDINGS):
            contents.doubtful.append(f"{shown}: has no name of this set; remove it, or give it the published name.")
        else:
            contents.foreign.append(f"{shown}: is no file of this set; remove it.")
    return contents


def list_names(folder: Path, pattern: re.Pattern[str]) -> list[str]:
    """Names of the files of the set in a folder, in order; what is foreign to it is passed over.

    Raises
    ------
    BadDataError
        If the folder cannot be listed, or holds a file of which it is doubtful whether it is one of the set.
    """
    contents = look_into(folder, pattern)
    if contents.doubtful:
        raise BadDataError(contents.doubtful[0])
    return contents.names


def find_other_case(root: Path, way: str) -> Path | None:
    """The folder on a way down from `root` that is there in another case alone, such as ``Train`` for ``TRAIN``.

    Parameters
    ----------
    root : Path
    way : str
        Names with slashes between.

    Returns
    -------
    Path or None
        ``None`` if the first folder that is missing is missing in any case.
    """
    for part in way.split("/"):
        if not (root / part).is_dir():
            children = sorted(root.iterdir()) if root.is_dir() else []
            return next((p for p in children if p.is_dir() and p.name.lower() == part.lower()), None)
        root /= part
    return None
