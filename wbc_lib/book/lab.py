"""The chapters in JupyterLab: laid out in a folder to work in, with the kernel and the data in place."""

import hashlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wbc_lib import paths
from wbc_lib.book import downloads
from wbc_lib.book.build import read_toc
from wbc_lib.errors import LabError, UnknownNameError
from wbc_lib.progress import NEVER_TRAIN

#: Remembers, in the folder, the hash of each chapter as it was laid out: what differs from it is the user's.
_RECORD = ".wbc-lab.json"
_FIRST = "index"


@dataclass(frozen=True)
class LaidOut:
    """What laying out the chapters came to: names of chapters, in the book's order."""

    written: tuple[str, ...]  # new, or replaced because nobody had touched them
    kept: tuple[str, ...]  # as the user left them
    outdated: tuple[str, ...]  # those of `kept` that have changed in the book since
    gone: tuple[str, ...]  # laid out once, and no longer in the book


def list_chapters() -> list[str]:
    """Names of the chapters that are notebooks, in the book's order; raises `ProjectError` if the book is not here."""
    paths.require_project("`wbc lab`")
    pages = (Path(page) for page in read_toc())
    return [page.name for page in pages if (paths.BOOK / f"{page.name}.ipynb").is_file()]


def find_chapter(name: str) -> str:
    """Look a chapter up: by its name, its file, or what its name begins with up to a dash, as in ``7b``.

    Raises `UnknownNameError` if there is no such chapter.
    """
    chapters = list_chapters()
    wanted = Path(name).name.removesuffix(".ipynb").lower() or _FIRST
    for chapter in chapters:
        if wanted in (chapter, chapter.split("-")[0]):
            return chapter
    raise UnknownNameError(f"There is no chapter {name!r}; choose one of: {', '.join(chapters)}.")


def lay_out(folder: Path, profile: str) -> LaidOut:
    """Copy the chapters, their prose made plain, to a folder to work in; what the user changed there stays as it is.

    The profile is put into each chapter's first cell. Raises `LabError` if the folder is the book's own, or cannot be
    written to.
    """
    if folder.resolve().is_relative_to(paths.BOOK):
        raise LabError(f"{folder} holds the book's own chapters; name another folder to work in with --folder.")
    record = folder / _RECORD
    titles, works = downloads.read_titles(), downloads.read_works()
    written, kept, outdated = [], [], []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        known = _read_record(record)
        for name in list_chapters():
            target = folder / f"{name}.ipynb"
            source = (paths.BOOK / target.name).read_bytes()
            before = known.get(name, {})
            if target.exists() and _hash(target.read_bytes()) != before.get("laid_out"):
                kept.append(name)
                if before and before.get("source") != _hash(source):
                    outdated.append(name)
                continue
            simple = downloads.simplify(downloads.parse_notebook(source.decode()), titles, works, is_linked=True)
            fresh = downloads.set_profile(downloads.format_notebook(simple), profile)
            paths.write_text(target, fresh)
            known[name] = {"laid_out": _hash(fresh.encode()), "source": _hash(source)}
            written.append(name)
        gone = [n for n in known if n not in {*written, *kept} and (folder / f"{n}.ipynb").exists()]
        paths.write_text(record, json.dumps(known, indent=1))
    except OSError as error:
        raise LabError(paths.explain(error, folder, "name another folder with --folder")) from error
    return LaidOut(tuple(written), tuple(kept), tuple(outdated), tuple(gone))


def write_kernel() -> Path:
    """Describe a kernel that runs in this very environment, under the name that chapters ask for; gives the folder."""
    folder = paths.cache() / "lab" / _hash(sys.prefix.encode())[:12]  # environments may share a cache
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    described = {"argv": command, "display_name": "Python 3 (white blood cells)", "language": "python"}
    kernel = json.dumps(described | {"metadata": {"debugger": True}}, indent=1)
    paths.write_text(folder / "kernels" / "python3" / "kernel.json", kernel)
    return folder.resolve()


def environment(data: str) -> dict[str, str]:
    """The environment that JupyterLab and the kernels it starts run with.

    Where a chapter names no data, `data` is opened: a folder, "phantoms" or "recorded".
    """
    chosen = {k: v for k, v in os.environ.items() if k != NEVER_TRAIN} | {"WBC_DATA": data}
    # Ours comes first: before the kernels of other environments, and for a library that is run from its folder.
    for name, ours in (("JUPYTER_PATH", write_kernel()), ("PYTHONPATH", paths.ROOT)):
        chosen[name] = os.pathsep.join(filter(None, [str(ours), chosen.get(name)]))
    return chosen


def command(folder: Path, chapter: str, options: Sequence[str] = ()) -> list[str]:
    """The command that opens JupyterLab, with options of its own, on a chapter in the folder where these are laid out.

    Raises `LabError` if JupyterLab or the kernel is not installed in this environment.
    """
    for package in ("jupyterlab", "ipykernel"):
        if importlib.util.find_spec(package) is None:
            raise LabError(f"{package} is not installed for {sys.executable}; install it with `pip install {package}`.")
    return [
        sys.executable, "-m", "jupyterlab", f"--ServerApp.root_dir={folder.resolve()}",
        f"--LabApp.default_url=/lab/tree/{chapter}.ipynb", *options,
    ]  # fmt: skip


def _read_record(record: Path) -> dict[str, dict[str, str]]:
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}  # then every chapter that is there counts as the user's
    entries = known.items() if isinstance(known, dict) else ()
    return {name: entry for name, entry in entries if isinstance(entry, dict)}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
