"""Runs at a URL, for machines that share no folder: copied there whole, read from there whole.

Any address that fsspec knows will do: ``s3://bucket/runs``, ``gs://…``, ``sftp://host/folder``, ``file:///folder``;
some need a package of their own (``s3fs``, ``gcsfs``). Nothing is locked there: two that train the same plan bring the
same run, and the first to arrive stays.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from wbc_lib import paths
from wbc_lib.errors import RunError
from wbc_lib.training import runs
from wbc_lib.training.runs import Run

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

_UNFINISHED, _RECORD = ".unfinished", "run.json"


def push(run: Run, url: str) -> None:
    """Copy a run to a URL, its record last, unless it is there already.

    Raises
    ------
    RunError
        If it cannot be written there.
    """
    with _reached(url) as (files, root):
        folder = f"{root}/{run.name}"
        if files.exists(f"{folder}/{_RECORD}"):
            return
        files.makedirs(folder, exist_ok=True)
        for name in [*sorted(run.record["files"]), _RECORD]:
            files.put_file(str(run.folder / name), f"{folder}/{name}")


def fetch(url: str, keys: Iterable[str], target: Path) -> list[Run]:
    """Copy those runs at a URL that have one of the keys to a folder of runs.

    Parameters
    ----------
    url : str
    keys : iterable of str
        Of the plans, in full.
    target : Path
        Root of a store.

    Raises
    ------
    RunError
        If the URL cannot be read, or a run there is damaged.
    """
    wanted = {key[:12]: key for key in keys}
    with _reached(url) as (files, root):
        names = [_last(entry) for entry in files.ls(root, detail=False)] if files.exists(root) else []
        found = [_fetch_run(files, root, name, target) for name in sorted(names) if name.rsplit("-", 1)[-1] in wanted]
    return [run for run in found if run and run.key in wanted.values()]


def _fetch_run(files: "AbstractFileSystem", root: str, name: str, target: Path) -> Run | None:
    if not files.exists(f"{root}/{name}/{_RECORD}"):  # someone is still copying it there
        return None
    place = target / name
    if place.exists():
        return runs.read(place)
    with paths.temporary_folder(place) as temporary:
        for entry in files.ls(f"{root}/{name}", detail=False):
            files.get_file(entry, str(temporary / _last(entry)))
        try:
            runs.read(temporary)
        except RunError as error:
            raise RunError(f"The run {name} at {root} is damaged; delete it there to train it anew.") from error
        try:
            temporary.rename(place)
        except OSError:
            if not place.exists():
                raise  # else another process was quicker
    return runs.read(place)


def push_checkpoint(checkpoint: Path, url: str) -> None:
    """Copy the state of an unfinished training to a URL, so that another worker can go on from it.

    What is half copied cannot be read as a checkpoint, and then costs epochs, not the run: so no failure is reported.
    """
    with suppress(RunError, FileNotFoundError), _reached(url) as (files, root):
        files.makedirs(f"{root}/{_UNFINISHED}", exist_ok=True)
        files.put_file(str(checkpoint), f"{root}/{_UNFINISHED}/{checkpoint.name}")


def fetch_checkpoint(url: str, checkpoint: Path) -> None:
    """Copy the state that another worker left at a URL, if there is one."""
    with suppress(RunError), _reached(url) as (files, root):
        source = f"{root}/{_UNFINISHED}/{checkpoint.name}"
        if files.exists(source):
            with paths.written_whole(checkpoint) as temporary:
                files.get_file(source, str(temporary))


def drop_checkpoint(url: str, checkpoint: Path) -> None:
    """Remove the state of a training that is finished."""
    with suppress(RunError), _reached(url) as (files, root):
        source = f"{root}/{_UNFINISHED}/{checkpoint.name}"
        if files.exists(source):
            files.rm_file(source)


@contextmanager
def _reached(url: str) -> Iterator[tuple["AbstractFileSystem", str]]:
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(url)
        files.invalidate_cache()  # other workers write there too
        yield files, root.rstrip("/")
    except RunError:
        raise
    except Exception as error:  # each kind of address has errors of its own, and its own package may be missing
        raise RunError(f"{url} cannot be used as a store ({type(error).__name__}: {error}).") from error


def _last(path: str) -> str:
    return path.rstrip("/").rsplit("/", 1)[-1]
