"""The finished site: which folder it may take, that one build runs at a time, and what must be on its pages.

As an extension of Sphinx, named in ``_config.yml``, it stops whoever makes pages of chapters that nobody has executed.
"""

import ast
import json
import os
import posixpath
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from wbc_lib import paths
from wbc_lib.errors import BookError

if TYPE_CHECKING:
    from bs4 import Tag

#: In the site's folder: makes it one, and lists its files.
MARK = ".wbc-site.json"
#: Calls that a cell may end with and that show nothing.
_UNSEEN = {"glue_values", "holds"}
#: Set in the environment while `book.build_book` has the pages made.
BUILDING = "WBC_BUILDING"


@contextmanager
def claim(output: Path) -> Iterator[Path]:
    """Hold the right to build in this checkout; gives the folder for the finished site, resolved.

    Raises `BookError` if it holds anything but an earlier site, or another build runs.
    """
    output = output.expanduser().resolve()
    check_folder(output)
    paths.BUILD.mkdir(parents=True, exist_ok=True)
    lock = FileLock(paths.BUILD / "build.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout as error:
        raise BookError(f"Another build runs in {paths.ROOT}; wait for it, or build in another checkout.") from error
    try:
        yield output
    finally:
        lock.release()


def check_folder(output: Path) -> None:
    """Raise `BookError` unless a site may take a folder: it is not there, is empty, or holds an earlier site alone."""
    if not os.path.lexists(output):
        return
    if not output.is_dir():
        raise BookError(f"{output} is no folder; name one with --output.")
    ours = {Path(file) for file in _read_mark(output)}
    ours |= {folder for file in ours for folder in file.parents}
    foreign = next((entry for entry in _list_entries(output) if entry not in ours), None)
    if foreign:
        raise BookError(
            f"{output} holds {foreign}, which no build of this book wrote; move it away, or name an empty folder "
            "with --output."
        )


def _list_entries(folder: Path) -> Iterator[Path]:
    for top, names, files in os.walk(folder):
        for name in names + files:
            yield (Path(top) / name).relative_to(folder)


def _read_mark(site: Path) -> list[str]:
    try:
        files = json.loads((site / MARK).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # whatever is there is somebody else's
    return [*files, MARK] if isinstance(files, list) and all(isinstance(file, str) for file in files) else []


def publish(pages: Path, output: Path) -> None:
    """Put finished pages, whole or not at all, in a folder that `check_folder` lets pass; else raises `BookError`."""
    check_folder(output)
    try:
        with paths.temporary_folder(output) as temporary:
            fresh, old = temporary / "fresh", temporary / "old"
            shutil.copytree(pages, fresh)
            files = sorted(file.as_posix() for file in _list_entries(fresh) if not (fresh / file).is_dir())
            paths.write_text(fresh / MARK, json.dumps({"files": files}, indent=1))
            if output.exists():
                output.rename(old)
            try:
                fresh.rename(output)
            except OSError:
                if old.exists():
                    old.rename(output)
                raise
    except OSError as error:
        # A copy gathers the reasons of all files that it could not make: the first tells enough.
        reason = error.args[0][0][2] if isinstance(error, shutil.Error) else error.strerror
        raise BookError(
            f"The site cannot be written to {output} ({reason}); make room there, or name another folder with --output."
        ) from error


def find_faults(site: Path, pages: Sequence[str], root: Path = paths.ROOT) -> list[str]:
    """Find what a built site lacks, a sentence each: pages, and values, outputs, tables, figures and pictures on them.

    The sources of the chapters, below `root`, tell what is to be on their pages.
    """
    return [f"{page}: {fault}" for page in pages for fault in _find_faults_on(site / f"{page}.html", root / page)]


def _find_faults_on(path: Path, source: Path) -> Iterator[str]:
    from bs4 import BeautifulSoup

    if not path.is_file():
        yield "there is no such page."
        return
    article = BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser").select_one("article.bd-article")
    if article is None:
        yield "it is no page of the book."
        return
    pictures = [str(image["src"]) for image in article.find_all("img", src=True)]
    for picture in (p for p in pictures if not re.match(r"[a-z]+:|//", p)):
        file = path.parent / picture.partition("?")[0]
        if not file.is_file() or not file.stat().st_size:
            yield f"its picture {picture} is not there."
    chapter = source.with_name(f"{source.name}.ipynb")
    if not chapter.exists():
        return
    wanted = _Wanted.read(chapter)
    for what, there, number in (
        ("values in its text", len(article.select(".pasted-text")), wanted.values),
        ("outputs of its cells", len(article.select("div.cell_output")), wanted.outputs),
    ):
        if there < number:
            yield f"it has {there} of {number} {what}."
    for name in wanted.figures:
        figure = article.find(id=name)
        if figure is None or not _shows_something(figure):
            yield f"the figure or table {name} is not there."


def _shows_something(figure: "Tag") -> bool:
    return bool(figure.select("img, svg, canvas, th, div[class*=wbc-]"))  # a table may have no row


@dataclass(frozen=True)
class _Wanted:
    # What the source of a chapter says is to be on its page.
    values: int
    outputs: int
    figures: tuple[str, ...]

    @classmethod
    def read(cls, chapter: Path) -> "_Wanted":
        cells = json.loads(chapter.read_text(encoding="utf-8"))["cells"]
        code = [cell for cell in cells if cell["cell_type"] == "code"]
        prose = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"]
        figures = (cell["metadata"].get("mystnb", {}).get("figure", {}).get("name") for cell in code)
        return cls(
            sum(len(re.findall(r"\{glue:\w+\}`", text)) for text in prose),
            sum(_has_output("".join(cell["source"])) for cell in code),
            tuple(filter(None, figures)),
        )


def _has_output(source: str) -> bool:
    # A cell shows what it ends with, and `open_chapter` what the page is built on.
    tree = ast.parse(source)
    if any(_called(node) == "open_chapter" for node in ast.walk(tree)):
        return True
    last = tree.body[-1] if tree.body else None
    return isinstance(last, ast.Expr) and _called(last.value) not in _UNSEEN


def _called(node: ast.AST) -> str:
    return getattr(node.func, "id", "") if isinstance(node, ast.Call) else ""


def write_redirects(app: Any, error: Exception | None) -> None:
    """Let old addresses of pages, ``moved_pages`` in ``_config.yml``, lead to new ones; for ``build-finished``.

    A new address may name a place on its page, after a ``#``. A place that the old address named goes first.
    """
    from sphinx.errors import ConfigError

    for old, new in {} if error else app.config.moved_pages.items():
        page, _, place = new.partition("#")
        made = Path(app.outdir) / f"{page}.html"
        is_there = page in app.env.found_docs and old not in app.env.found_docs
        if not is_there or (place and f'id="{place}"' not in made.read_text(encoding="utf-8")):
            raise ConfigError(f"moved_pages of _config.yml says that {old} is now {new}, which is not so.")
        target = posixpath.relpath(app.builder.get_target_uri(page), posixpath.dirname(old) or ".")
        named = f"#{place}" if place else ""
        paths.write_text(Path(app.outdir) / f"{old}.html", _REDIRECT.format(old=old, target=target, named=named))


#: The script goes first, since it alone knows which place on the page was asked for.
_REDIRECT = (
    '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{old} has moved</title>'
    "<script>location.replace('{target}' + (location.hash || '{named}'))</script>"
    '<meta http-equiv="refresh" content="0; url={target}{named}"><meta name="robots" content="noindex"></head>'
    '<body><p>This page has moved <a href="{target}{named}">to another address</a>.</p></body></html>\n'
)


def setup(app: Any) -> dict[str, Any]:
    """Stop Sphinx unless it makes the pages for `book.build_book`."""
    from sphinx.errors import ConfigError

    if not os.environ.get(BUILDING):
        raise ConfigError(
            "Without executed chapters the pages would be empty; run `make book` (or `wbc book`) instead."
        )
    app.add_config_value("moved_pages", {}, "html")
    app.connect("build-finished", write_redirects)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
