"""Building the book in a copy of the project, and importing the library, to be timed.

Nothing but the standard library is imported here: what a fresh process loads for a room is what is measured.
"""

import importlib
import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

from wbc_lib.turns import Turn, serve

#: States of the book before a build: nothing there yet; chapters executed, but no pages made; one chapter changed
#: since the last build; nothing changed.
FRESH, PAGES, CHANGED, SAME = "fresh", "pages", "changed", "same"
_LEFT_OUT = shutil.ignore_patterns(".*", "_build", "results", "tests", "__pycache__", "*.egg-info")
_NOT_OURS = {"genindex.html", "search.html", "print.html"}


def copy_project(root: Path, results: Path, folder: Path) -> None:
    """Copy what the book is built from, so that a build neither disturbs the project's own nor profits from it."""
    shutil.copytree(root, folder, ignore=_LEFT_OUT)
    (folder / "results").symlink_to(results.resolve(), target_is_directory=True)


def change_chapter(folder: Path, count: int) -> str:
    """Add a sentence to the prose of a chapter of a copied book, another one each time; returns its name."""
    toc = (folder / "_toc.yml").read_text(encoding="utf-8")
    chapters = [path for path in sorted((folder / "book").glob("*.ipynb")) if f"book/{path.stem}" in toc]
    n = len(chapters)
    # Those changed one after the other lie far apart, and none is changed again before all have been.
    stride = next(step for step in range(n // 4 + 1, 2 * n) if math.gcd(step, n) == 1)
    path = chapters[count * stride % n]
    notebook = json.loads(path.read_text(encoding="utf-8"))
    cell = [cell for cell in notebook["cells"] if cell["cell_type"] == "markdown"][-1]
    cell["source"] = "".join(cell["source"]) + f"\n\nChanged for the {count + 1}. time.\n"
    path.write_text(json.dumps(notebook), encoding="utf-8")
    return path.stem


def build_book(turn: Turn, folder: str, data: str, profile: str, state: str) -> None:
    """Build a copied book with `wbc book`, a build a turn; a fresh one is weighed besides.

    Parameters
    ----------
    turn : Turn
    folder : str
        Where `copy_project` put it.
    data, profile : str
        As for `wbc book`.
    state : str
        FRESH, PAGES, CHANGED or SAME.
    """
    turn()
    root, count = Path(folder), 0
    command = [sys.executable, "-m", "wbc_lib.cli", "book", "--data", data, "--no-train"]
    command += ["--profile", profile] if profile else []
    environment = os.environ | {"PYTHONPATH": folder, "WBC_RESULTS": str(root / "results")}
    while True:
        if state == FRESH:
            shutil.rmtree(root / "_build", ignore_errors=True)
        elif state == PAGES:
            for name in ("pages", "print"):
                shutil.rmtree(root / "_build" / name, ignore_errors=True)
        elif state == CHANGED:
            change_chapter(root, count)
        started = time.perf_counter()
        subprocess.run(command, cwd=root, env=environment, check=True)
        seconds, count = time.perf_counter() - started, count + 1
        if state != FRESH:
            turn(("seconds", None, seconds))
            continue
        largest, page, site = weigh(root / "_build" / "html")
        turn(
            ("seconds", None, seconds),
            ("bytes of the largest page", None, page),
            ("bytes of the site", None, site),
            largest_page=largest,
        )


def weigh(site: Path) -> tuple[str, int, int]:
    """Weigh a built site.

    Parameters
    ----------
    site : Path
        Folder of its front page.

    Returns
    -------
    tuple of (str, int, int)
        The largest page, the one for paper with all of them left out; its bytes, with the pictures, scripts and
        styles that it loads and that are not common to most
        pages; and the bytes of all files of the site.
    """
    pages = [p for p in site.rglob("*.html") if p.name not in _NOT_OURS and "_static" not in p.parts]
    loads = {page: _Loads(page).files for page in pages}
    count = Counter(file for files in loads.values() for file in files)
    weights = {
        page: page.stat().st_size + sum(file.stat().st_size for file in files if 2 * count[file] <= len(loads))
        for page, files in loads.items()
    }
    largest = max(weights, key=weights.__getitem__)
    whole = sum(path.stat().st_size for path in site.rglob("*") if path.is_file())
    return largest.relative_to(site).with_suffix("").as_posix(), weights[largest], whole


class _Loads(HTMLParser):
    # The local files that a page loads by itself.

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.files: set[Path] = set()
        self._folder = page.parent
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_style = tag == "link" and given.get("rel") == "stylesheet"
        target = given.get("href") if is_style else given.get("src")
        if target and not target.startswith(("data:", "http:", "https:", "//")):
            path = (self._folder / target.split("#")[0].split("?")[0]).resolve()
            if path.is_file():
                self.files.add(path)


def import_room(turn: Turn, room: str) -> None:
    """Import a room and all that it needs; the start of the interpreter is not timed."""
    turn()
    started = time.perf_counter()
    importlib.import_module(f"wbc_lib.{room}")
    turn(("seconds", None, time.perf_counter() - started))


if __name__ == "__main__":
    serve({way.__name__: way for way in (build_book, import_room)})
