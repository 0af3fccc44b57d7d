"""Where things are, and how files are written: whole or not at all."""

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import platformdirs
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
BOOK = ROOT / "book"
BUILD = ROOT / "_build"

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


def make_absolute() -> None:
    """Resolve the folders that the environment names: a chapter's kernel works in another folder than the command."""
    for name in ("WBC_CACHE", "WBC_RESULTS", "WBC_WEIGHTS"):
        if os.environ.get(name):
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """Yield a temporary file beside `target`; on success it is synced and takes the target's name.

    Parameters
    ----------
    target : Path
        The file to be written. Its folder is made if need be.

    Yields
    ------
    Path
        An existing empty file in the same folder. If the body raises, it is removed and `target` is untouched. If
        the process is killed it stays, and is removed when the same file is written a day or more later.
    """
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
    """Yield a new folder beside `target`, to be given its name when all is in it; what is left of it is removed.

    Parameters
    ----------
    target : Path
        Its folder is made if need be.

    Yields
    ------
    Path
        An empty folder. If the process is killed it stays, and is removed as by `written_whole`.
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
def new_array(target: Path, shape: tuple[int, ...], dtype: type) -> Iterator[NDArray]:
    """Yield an array that is mapped to a new ``.npy`` file; the file appears when the body is through.

    The room is taken on the disk beforehand: writing to a map for which there is none would kill the process.
    """
    with written_whole(target) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", dtype, shape)
        if hasattr(os, "posix_fallocate"):
            with temporary.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
        yield array
        array.flush()


def read_array(path: Path) -> NDArray | None:
    """Map an array that `new_array` wrote, read-only; ``None`` if it is not there or is damaged."""
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (FileNotFoundError, ValueError, EOFError):
        return None


def write_text(target: Path, text: str) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with written_whole(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
