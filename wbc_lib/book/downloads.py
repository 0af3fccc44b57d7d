"""The chapters for readers in Jupyter: prose in plain Markdown, and a first cell that installs the library if need be.

Neither a chapter's source nor its page is like this: the notebooks that a finished site offers are, and those that
`wbc lab` copies, but for the first cell.
"""

import ast
import copy
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pybtex.database import Entry, parse_file

from wbc_lib import paths
from wbc_lib.book import lineage
from wbc_lib.errors import BookError

#: A notebook as its JSON says it, each cell's source one string. (nbformat, which would give more, is slow to load.)
Notebook = dict[str, Any]

#: Names the project's public address, for a build that knows it better than ``_config.yml`` does.
REPOSITORY = "WBC_REPOSITORY"
#: Tag of the cell that is not part of the chapter's own code.
SETUP = "added-for-download"
_ROLE = re.compile(r"\{(glue:text|cite|doc)\}`([^`]+)`")
_BOX = re.compile(r"^(`{3,}|:{3,})\{(warning|note)\}[^\n]*\n(.*?)\n\1$", re.M | re.S)
_BINDER, _COLAB = "https://mybinder.org", "https://colab.research.google.com"
#: Hosts that the theme knows how to make launch buttons for, and who opens notebooks from them.
_LAUNCHERS = {
    "github.com": {"binderhub_url": _BINDER, "colab_url": _COLAB},
    "gitlab.com": {"binderhub_url": _BINDER},
}
_INSTALL = """\
# @title Install the library of this book, where it is missing {{ display-mode: "form" }}
# Added for the download; it is no part of the chapter. Numbers in the text are those of the page; outputs are yours.
import importlib.util
import pathlib
import sys

if importlib.util.find_spec("wbc_lib") is None:
    # The whole project, not its library alone: the recorded runs come with it.
    %pip install --quiet --src wbc-project --editable "git+{url}#egg=wbc"
    %pip install --quiet --editable "wbc-project/wbc[book,train]"
    sys.path.insert(0, str(pathlib.Path("wbc-project/wbc").resolve()))"""
_EXPLAIN = """\
# @title Is the library of this book installed? { display-mode: "form" }
# Added for the download; it is no part of the chapter. Numbers in the text are those of the page; outputs are yours.
import importlib.util

if importlib.util.find_spec("wbc_lib") is None:
    raise ModuleNotFoundError(
        "This chapter needs wbc_lib, the library of its book. In a folder of the project run `make book`, or "
        "`pip install --editable '.[book,train]'` in an environment of your own, and open the chapter in Jupyter from "
        "there; `wbc lab` does so for all chapters."
    )"""


def read_address(config: Mapping[str, Any]) -> str:
    """The project's public address, such as ``https://github.com/OWNER/NAME``; "" if nobody has said it.

    `REPOSITORY` in the environment, or ``repository.url`` of ``_config.yml``'s content. Raises `BookError` if what is
    named is no address of a repository.
    """
    url = os.environ.get(REPOSITORY) or (config.get("repository") or {}).get("url") or ""
    url = url.rstrip("/").removesuffix(".git")
    # What passes stands in a line of code that others run.
    if url and not re.fullmatch(r"https://[A-Za-z0-9][\w.-]*(/[\w.-]+){2,}", url, re.ASCII):
        raise BookError(
            f"{url!r} is no address of a repository; {REPOSITORY} or repository.url in _config.yml should be like "
            "https://HOST/OWNER/NAME, or empty."
        )
    return url


def with_launch_buttons(config: Mapping[str, Any], address: str) -> dict[str, Any]:
    """A copy of ``_config.yml``'s content with launch buttons, if somebody opens notebooks from the address."""
    changed = copy.deepcopy(dict(config))
    repository = changed.pop("repository", None) or {}
    host = urlsplit(address).hostname
    if host in _LAUNCHERS:
        # Among the theme's own options: these replace all that Jupyter Book would make of `repository`.
        theme = changed["sphinx"]["config"].setdefault("html_theme_options", {})
        theme |= {"repository_url": address, "repository_branch": repository.get("branch") or "main"}
        theme["launch_buttons"] = {"notebook_interface": "jupyterlab", **_LAUNCHERS[host]}
    return changed


def parse_notebook(text: str) -> Notebook:
    """Read a notebook from its JSON."""
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["source"] = "".join(cell["source"])
    return notebook


def format_notebook(notebook: Notebook) -> str:
    """Write a notebook as JSON in the form that Jupyter gives it: a line to a line."""
    cells = [cell | {"source": cell["source"].splitlines(keepends=True)} for cell in notebook["cells"]]
    return json.dumps(notebook | {"cells": cells}, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def set_profile(source: str, profile: str) -> str:
    """A chapter's text, as JSON or code, with another value of ``PROFILE`` in its parameters cell."""
    return re.sub(r'(PROFILE = \\?")\w*', rf"\g<1>{profile}", source, count=1)


def simplify(chapter: Notebook, titles: Mapping[str, str], works: Mapping[str, str], *, is_linked: bool) -> Notebook:
    """A copy of a chapter whose prose is plain Markdown; takes what `read_titles` and `read_works` give.

    A value is filled in where the chapter's outputs hold it; where not, it is given by its name, as code. `is_linked`:
    whether the other chapters lie beside this one, to be linked to.
    """
    simple = copy.deepcopy(chapter)
    values = read_values(chapter)

    def write(match: re.Match[str]) -> str:
        role, text = match.groups()
        if role == "cite":
            return f"({'; '.join(works.get(key.strip(), key.strip()) for key in text.split(','))})"
        if role == "doc":
            title = titles.get(text, text)
            return f"[{title}]({text}.ipynb)" if is_linked and (paths.BOOK / f"{text}.ipynb").exists() else f"*{title}*"
        name, _, form = text.partition(":")
        return format(values[name], form) if name in values else f"`{name}`"

    for cell in simple["cells"]:
        if cell["cell_type"] == "markdown":
            cell["source"] = _ROLE.sub(write, _BOX.sub(_write_box, cell["source"]))
    return simple


def read_values(chapter: Notebook) -> dict[str, float | str]:
    """The values that an executed chapter made for its prose (`chapter.glue_values`), by name."""
    values = {}
    for cell in chapter["cells"]:
        for output in cell.get("outputs", []):
            name = output.get("metadata", {}).get("scrapbook", {}).get("name")
            text = output.get("data", {}).get("application/papermill.record/text/plain")
            if name and text is not None:
                said = "".join(text)  # a string in quotes, or a number, which may be nan
                values[name] = ast.literal_eval(said) if said[0] in "'\"" else float(said)
    return values


def read_titles() -> dict[str, str]:
    """The title of every page, by the page's name."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths.BOOK.glob("*.md")}
    for path in paths.BOOK.glob("*.ipynb"):
        texts[path.stem] = parse_notebook(path.read_text(encoding="utf-8"))["cells"][0]["source"]
    return {name: text.splitlines()[0].removeprefix("# ") for name, text in texts.items()}


def read_works() -> dict[str, str]:
    """What is cited, as authors and year, by its key in ``references.bib``."""
    return {key: _name_work(work) for key, work in parse_file(paths.BOOK / "references.bib").entries.items()}


def _name_work(work: Entry) -> str:
    families = ["".join(map(str, person.rich_last_names)) for person in work.persons.get("author", [])]
    authors = f"{families[0]} and others" if len(families) > 2 else " and ".join(families)
    return f"{authors} {work.fields.get('year', '')}".strip()


def _write_box(match: re.Match[str]) -> str:
    first, *rest = match.group(3).splitlines()
    return "\n".join([f"> **{match.group(2).capitalize()}.** {first}", *(f"> {line}" for line in rest)])


def as_download(chapter: Notebook, address: str) -> Notebook:
    """A chapter as it is downloaded: a copy whose first cell sees to the library.

    The cell is folded in Jupyter and a form in Colab. With an address it installs the project where `wbc_lib` is
    missing; without one it says how to.
    """
    source = _INSTALL.format(url=address) if address else _EXPLAIN
    metadata = {"tags": [SETUP, "remove-cell"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    first: dict[str, Any] = {"cell_type": "code", "id": SETUP, "metadata": metadata, "source": source}
    first |= {"execution_count": None, "outputs": []}
    download = copy.deepcopy(chapter)
    rest = [cell for cell in download["cells"] if SETUP not in cell["metadata"].get("tags", [])]
    return download | {"cells": [first, *rest]}


def write_downloads(site: Path, address: str) -> list[Path]:
    """Make every notebook that a finished site offers one that runs on its own, in prose that any Jupyter shows."""
    notebooks = sorted((site / "_sources").rglob("*.ipynb"))
    titles, works = read_titles(), read_works()
    for path in notebooks:
        chapter = parse_notebook(path.read_text(encoding="utf-8"))
        # Notes on where a figure comes from lead to a page of the site.
        chapter["cells"] = [cell for cell in chapter["cells"] if not lineage.is_note(cell["source"])]
        simple = simplify(chapter, titles, works, is_linked=False)
        paths.write_text(path, format_notebook(as_download(simple, address)))
    return notebooks
