"""Where things are, and how files are written: whole or not at all."""

import os
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


def cache() -> Path:
    """Folder for what can be made again: arrays, features, phantoms, unrecorded runs (``WBC_CACHE``)."""
    return Path(os.environ.get("WBC_CACHE") or platformdirs.user_cache_path("wbc"))


def results() -> Path:
    """Folder of the recorded runs (``WBC_RESULTS``, by default ``results/`` of the project)."""
    return Path(os.environ.get("WBC_RESULTS") or ROOT / "results")


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
    sweep(target.parent, f".{target.name}.", ".tmp")
    handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
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


def sweep(folder: Path, beginning: str, ending: str = "") -> None:
    """Remove temporary files and folders that processes killed a day or longer ago left in `folder`.

    Parameters
    ----------
    folder : Path
    beginning, ending : str
        How the names of what may be removed begin and end.
    """
    oldest = time.time() - _STALE
    with os.scandir(folder) as entries:
        left = [e for e in entries if e.name.startswith(beginning) and e.name.endswith(ending)]
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
