"""The chapters' prose for readers in Jupyter, which knows nothing of the book's references and inserted values."""

import ast
import copy
import json
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wbc_lib import paths

#: A notebook as its JSON says it, each cell's source one string. (nbformat, which would give more, is slow to load.)
Notebook = dict[str, Any]

_ROLE = re.compile(r"\{(glue:text|cite|doc)\}`([^`]+)`")
_WARNING = re.compile(r"^(`{3,}|:{3,})\{(warning|note)\}[^\n]*\n(.*?)\n\1$", re.M | re.S)


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


def simplify(chapter: Notebook, titles: Mapping[str, str], works: Mapping[str, str], *, is_linked: bool) -> Notebook:
    """A copy of a chapter whose prose is plain Markdown.

    A value is filled in where the chapter's outputs hold it; where not, it is given by its name, as code.

    Parameters
    ----------
    chapter : Notebook
        Executed or not.
    titles : mapping
        Of the other pages, by name, as `read_titles` gives them.
    works : mapping
        What is cited, by key, as `read_works` gives them.
    is_linked : bool
        Whether the other chapters lie beside this one, to be linked to.
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
            cell["source"] = _ROLE.sub(write, _WARNING.sub(_write_box, cell["source"]))
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


def read_titles(book: Path = paths.BOOK) -> dict[str, str]:
    """The title of every page, by the page's name."""
    titles = {}
    for path in sorted(book.glob("*.ipynb")):
        first = parse_notebook(path.read_text(encoding="utf-8"))["cells"][0]["source"]
        titles[path.stem] = first.splitlines()[0].removeprefix("# ")
    for path in sorted(book.glob("*.md")):
        titles[path.stem] = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    return titles


def read_works(book: Path = paths.BOOK) -> dict[str, str]:
    """What is cited, as authors and year, by its key in ``references.bib``."""
    entries = re.split(r"^@\w+\{", (book / "references.bib").read_text(encoding="utf-8"), flags=re.M)[1:]
    works = {}
    for entry in entries:
        fields = dict(re.findall(r"^\s*(\w+)\s*=\s*\{(.*?)\},?\s*$", entry, re.M | re.S))
        family = [name.split(",")[0] for name in re.split(r"\s+and\s+", fields.get("author", ""))]
        some = f"{family[0]} and others" if len(family) > 2 else " and ".join(family)
        works[entry.split(",")[0].strip()] = f"{_plain(some)} {fields.get('year', '')}".strip()
    return works


def _write_box(match: re.Match[str]) -> str:
    lines = match.group(3).splitlines()
    return "\n".join([f"> **{match.group(2).capitalize()}.** {lines[0]}", *(f"> {line}" for line in lines[1:])])


def _plain(text: str) -> str:
    # TeX accents: {\'e} or {\"u} stand for the letter with a combining mark.
    marks = {"'": "\u0301", "`": "\u0300", '"': "\u0308", "^": "\u0302", "~": "\u0303", "v": "\u030c", "c": "\u0327"}

    def accent(match: re.Match[str]) -> str:
        return unicodedata.normalize("NFC", match.group(2) + marks[match.group(1)])

    text = re.sub(r"\\(['`\"^~vc])\s*\{?(\w)\}?", accent, text)
    return text.replace("\\", "").replace("{", "").replace("}", "")
