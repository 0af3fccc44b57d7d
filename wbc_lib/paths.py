"""Where things are, how files are written (whole or not at all), and what to do about a place that cannot be used."""

import errno
import gzip
import logging
import os
import re
import shutil
import tempfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs

from wbc_lib.errors import BadDataError, PlaceError, ProjectError

if TYPE_CHECKING:
    import pandas as pd
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = ROOT / "wbc_lib"
BOOK = ROOT / "book"
#: Where the book is made (``WBC_BUILD``, by default ``_build/`` of the project).
BUILD = Path(os.environ.get("WBC_BUILD") or ROOT / "_build").absolute()

#: Stands for the stream where a path is named.
STANDARD_OUTPUT = Path("standard output")

#: Seconds after which a temporary file is taken for a killed process's: no write takes a day.
_STALE = 24 * 60 * 60
#: Ends the names of temporary files and folders, so that nobody else's are taken for them.
_ENDING = ".wbc.tmp"


def cache() -> Path:
    """Folder for what can be made again: arrays, features, phantoms, unrecorded runs (``WBC_CACHE``)."""
    return Path(os.environ.get("WBC_CACHE") or platformdirs.user_cache_path("wbc"))


def results() -> Path:
    """Folder of the recorded runs (``WBC_RESULTS``, by default ``results/`` of the project)."""
    return Path(os.environ.get("WBC_RESULTS") or ROOT / "results")


def find_recorded(*names: str) -> Path:
    """A recorded file: where results go, or if it is not there, in the project.

    What is recorded of published pictures is the same wherever new results go.
    """
    path = results().joinpath(*names)
    return path if path.exists() else ROOT.joinpath("results", *names)


def settle_home() -> None:
    """Give a user who has no home, as an unknown id in a container, one in the temporary folder.

    Jupyter, Matplotlib and the cache's default would else fail, or write into a folder called ``~``.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it finds a place of its own if it may not write there
    with suppress(RuntimeError):
        Path.home()
        return
    try:
        home = Path(tempfile.gettempdir()) / f"wbc-home-{os.getuid()}"
        with suppress(FileExistsError):
            home.mkdir(mode=0o700)
        # Jupyter runs what lies in a home: one that somebody else made is not taken.
        is_mine = home.is_dir() and not home.is_symlink() and home.stat().st_uid == os.getuid()
        os.environ["HOME"] = str(home) if is_mine else tempfile.mkdtemp(prefix="wbc-home-")
    except OSError:
        os.environ["HOME"] = "/"  # whatever must be written fails there, with a sentence


def require_project(what: str) -> None:
    """Raise `ProjectError` if the library is there without the project's folder, which `what` (a command) needs."""
    if not BOOK.is_dir():
        raise ProjectError(
            f"{what} needs the project's folder, of which only the library is installed here ({ROOT / 'wbc_lib'}); "
            "run `pip install --editable '.[book,train]'` in a checkout of the project."
        )


def require_writable(folder: Path, remedy: str = "") -> None:
    """Make sure, before long work, that its outcome can be written to a folder; the folder is made if need be.

    Raises `PlaceError` with `remedy`, as `place` does.
    """
    with place(folder, remedy):
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Let an `OSError` of the body name `path`: a write on a full disk names none, or a temporary file beside it."""
    try:
        yield
    except OSError as error:
        if error.filename is None or Path(os.fsdecode(error.filename)).parent == path.parent:
            error.filename = str(path)
        raise


@contextmanager
def place(path: Path, remedy: str = "") -> Iterator[None]:
    """Raise a `PlaceError` that names `path` and a remedy (see `explain`) in place of any `OSError` of the body."""
    try:
        yield
    except OSError as error:
        raise PlaceError(explain(error, path, remedy)) from error


def explain(error: OSError, path: Path | None = None, remedy: str = "") -> str:
    """One sentence about an error of the system: the place, the reason, and what to do about a place like this.

    The place is the one that `error` names, unless it is given. The remedy, such as "name another file with --map",
    follows from what the place is, cache, results, and so on, unless it is given.
    """
    number, reason = error.errno, error.strerror or str(error) or type(error).__name__
    at = path or (Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else None)
    if at is None:
        return f"A file cannot be read or written ({reason}); make room, or free what is in use."
    if number in (errno.EEXIST, errno.ENOTDIR):
        file = next((p for p in (at, *at.parents) if p.is_file()), at)
        reason = "a file is where a folder should be" + (f": {file}" if file != at else "")
    first = "make room there, or " if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) else ""
    return f"{at} cannot be used ({reason}); {first}{remedy or _remedy(at)}."


def _remedy(path: Path) -> str:
    if path == STANDARD_OUTPUT:
        return "send it elsewhere"
    places = {
        cache(): "name another folder with WBC_CACHE",
        results(): "name another folder with WBC_RESULTS",
        BUILD: "name another folder with WBC_BUILD",
        ROOT: "make a copy of the project that is yours, and work there",
        Path(tempfile.gettempdir()): "name another folder with TMPDIR",
        Path.home(): "name another folder with HOME",
    }
    absolute = path.absolute()
    within = [at for at in places if absolute.is_relative_to(at.absolute())]
    # Of nested places the innermost counts: the cache may lie in the home. What fails may also be a folder on the way.
    innermost = max(within, key=lambda at: len(at.absolute().parts), default=None)
    if innermost in (None, Path.home()):
        innermost = next((at for at in places if at.absolute().is_relative_to(absolute)), innermost)
    return places[innermost] if innermost else "see to its owner and its rights, or name another"


def make_absolute() -> None:
    """Resolve the folders that the environment names: a chapter's kernel works in another folder than the command."""
    for name in ("WBC_CACHE", "WBC_EXTERNAL", "WBC_RESULTS", "WBC_WEIGHTS"):
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield an empty temporary file beside `target`; on success it is synced and takes the target's name.

    The folder is made if need be. If the body raises, the temporary file is removed and `target` is untouched. If the
    process is killed it stays, and is removed when the same file is written a day or more later. An `OSError` names
    `target`.
    """
    with named(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=_ENDING, dir=target.parent)
        os.close(handle)
        temporary = Path(name)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def temporary_folder(target: Path) -> Iterator[Path]:
    """Yield an empty folder beside `target`, to be given its name when all is in it; what is left of it is removed.

    If the process is killed it stays, and is removed as by `written_whole`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target)
    temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=_ENDING, dir=target.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sweep(target: Path) -> None:
    """Remove what processes killed a day or longer ago left beside `target` of it: temporary files and folders."""
    oldest = time.time() - _STALE
    name = re.compile(rf"\.{re.escape(target.name)}\.[a-z0-9_]{{8}}{re.escape(_ENDING)}")
    with os.scandir(target.parent) as entries:
        left = [entry for entry in entries if name.fullmatch(entry.name)]
    for entry in left:
        with suppress(OSError):  # another process may sweep here too
            if entry.stat(follow_symlinks=False).st_mtime > oldest:
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink()


@contextmanager
def new_array(target: Path, shape: tuple[int, ...], dtype: type) -> "Iterator[NDArray]":
    """Yield an array that is mapped to a new ``.npy`` file; the file appears when the body is through.

    The room is taken on the disk beforehand: writing to a map for which there is none would kill the process.
    """
    import numpy as np  # a fifth of a second, which commands that need none do not wait for

    with written_whole(target) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        yield array
        array.flush()


def read_array(path: Path) -> "NDArray | None":
    """Map an array that `new_array` wrote, read-only; ``None`` if it is not there or is damaged."""
    import numpy as np

    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None


def keep_arrays(target: Path | None, make: "Callable[[], dict[str, NDArray]]") -> "dict[str, NDArray]":
    """Read the arrays of an ``.npz``; where it is not there or is damaged they are made, and written if it is named."""
    import numpy as np

    if target is None:
        return make()
    damage = OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error
    with suppress(*damage), np.load(target, allow_pickle=False) as kept:
        return dict(kept)
    arrays: dict[str, Any] = make()
    with written_whole(target) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return arrays


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with written_whole(target) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(target: Path, table: "pd.DataFrame") -> Path:
    """Write a table as CSV, compressed if its name ends in ``.gz``; the same table gives the same bytes."""
    text = table.to_csv(index=False, lineterminator="\n").encode()
    with written_whole(target) as temporary:
        temporary.write_bytes(gzip.compress(text, mtime=0) if target.suffix == ".gz" else text)
    return target


def read_table(path: Path, columns: Mapping[str, type], what: str, remedy: str) -> "pd.DataFrame":
    """Read a table of these columns and types, and of no others, that `write_table` wrote.

    Raises `BadDataError`, which says of `what` the table should be and has a `remedy`, if it is missing or damaged.
    """
    import pandas as pd

    try:
        table = pd.read_csv(path, float_precision="round_trip")
        if list(table.columns) != list(columns):
            raise ValueError("other columns")
        return table.astype(columns)
    except FileNotFoundError as error:
        raise BadDataError(f"{path} is missing; {remedy}.") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:  # what pandas cannot parse or decode is a ValueError
        raise BadDataError(f"{path} is damaged, or no table of {what}; {remedy}.") from error


@dataclass(frozen=True)
class RecordedTable:
    """A table that is recorded in a file of the folder of results."""

    parts: tuple[str, ...]  # of the file's path
    columns: Mapping[str, type]
    what: str  # and `remedy`, as of `read_table`
    remedy: str = "restore it from the repository"
    of_project: bool = False  # whether the project's own is read where the folder of results has none

    @property
    def path(self) -> Path:
        """Where it is written to."""
        return results().joinpath(*self.parts)

    def write(self, table: "pd.DataFrame") -> Path:
        """Record these columns of a table."""
        return write_table(self.path, table[list(self.columns)])

    def read(self) -> "pd.DataFrame":
        """Read what is recorded; raises `BadDataError` if it is missing or damaged."""
        path = find_recorded(*self.parts) if self.of_project else self.path
        return read_table(path, self.columns, self.what, self.remedy)
