"""The finished site: which folder it may take, that one build runs at a time, and where old addresses lead.

As an extension of Sphinx, named in ``_config.yml``, it stops whoever makes pages of chapters that nobody has executed.
"""

import json
import os
import posixpath
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from wbc_lib import paths
from wbc_lib.errors import BookError

#: In the site's folder: makes it one, and lists its files.
MARK = ".wbc-site.json"
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


def _list_entries(folder: Path) -> list[Path]:
    return [entry.relative_to(folder) for entry in folder.rglob("*")]


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
