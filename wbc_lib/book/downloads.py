"""The chapters as they are downloaded: each with a first cell that installs the library where it is missing.

Neither a chapter's source nor its page has that cell: it is put before the notebooks that a finished site offers.
"""

import copy
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wbc_lib import paths
from wbc_lib.book import lineage, prose
from wbc_lib.book.prose import Notebook
from wbc_lib.errors import BookError

#: Names the project's public address, for a build that knows it better than ``_config.yml`` does.
REPOSITORY = "WBC_REPOSITORY"
#: Tag of the cell that is not part of the chapter's own code.
SETUP = "added-for-download"
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
    sys.path.insert(0, str(pathlib.Path("wbc-project/wbc").resolve()))"""
_EXPLAIN = """\
# @title Is the library of this book installed? { display-mode: "form" }
# Added for the download; it is no part of the chapter. Numbers in the text are those of the page; outputs are yours.
import importlib.util

if importlib.util.find_spec("wbc_lib") is None:
    raise ModuleNotFoundError(
        "This chapter needs wbc_lib, the library of its book. In a folder of the project run `make book`, or "
        "`pip install --editable .` in an environment of your own, and open the chapter in Jupyter from there; "
        "`wbc lab` does so for all chapters."
    )"""


@dataclass(frozen=True)
class Address:
    """Where the project can be had by anyone.

    Attributes
    ----------
    url : str
        Such as ``https://github.com/OWNER/NAME``.
    """

    url: str

    @property
    def host(self) -> str:
        """The host's name."""
        return self.url.split("/")[2]


def read_address(config: Mapping[str, Any]) -> Address | None:
    """The project's address: `REPOSITORY` in the environment, or ``repository.url`` of the book's configuration.

    Parameters
    ----------
    config : mapping
        The content of ``_config.yml``.

    Returns
    -------
    Address or None
        ``None`` if neither names one.

    Raises
    ------
    BookError
        If what is named is no address of a repository.
    """
    url = os.environ.get(REPOSITORY) or (config.get("repository") or {}).get("url") or ""
    url = url.rstrip("/").removesuffix(".git")
    # What passes stands in a line of code that others run.
    if url and not re.fullmatch(r"https://[A-Za-z0-9][\w.-]*(/[\w.-]+){2,}", url, re.ASCII):
        raise BookError(
            f"{url!r} is no address of a repository; {REPOSITORY} or repository.url in _config.yml should be like "
            "https://HOST/OWNER/NAME, or empty."
        )
    return Address(url) if url else None


def with_launch_buttons(config: Mapping[str, Any], address: Address | None) -> dict[str, Any]:
    """The book's configuration with launch buttons for an address that somebody opens notebooks from.

    Parameters
    ----------
    config : mapping
        The content of ``_config.yml``.
    address : Address or None

    Returns
    -------
    dict
        A copy. Without an address, or with one that nobody opens notebooks from, it has no button and no repository.
    """
    changed = copy.deepcopy(dict(config))
    repository = changed.pop("repository", None) or {}
    if address and address.host in _LAUNCHERS:
        # Among the theme's own options: these replace all that Jupyter Book would make of `repository`.
        theme = changed["sphinx"]["config"].setdefault("html_theme_options", {})
        theme |= {"repository_url": address.url, "repository_branch": repository.get("branch") or "main"}
        theme["launch_buttons"] = {"notebook_interface": "jupyterlab", **_LAUNCHERS[address.host]}
    return changed


def as_download(chapter: Notebook, address: Address | None) -> Notebook:
    """A chapter as it is downloaded: a copy whose first cell sees to the library.

    The cell is folded in Jupyter and a form in Colab. With an address it installs the project where `wbc_lib` is
    missing; without one it says how to.

    Parameters
    ----------
    chapter : Notebook
        With or without outputs.
    address : Address or None
    """
    source = _INSTALL.format(url=address.url) if address else _EXPLAIN
    metadata = {"tags": [SETUP, "remove-cell"], "jupyter": {"source_hidden": True}, "cellView": "form"}
    first = {"cell_type": "code", "id": SETUP, "metadata": metadata, "source": source}
    first |= {"execution_count": None, "outputs": []}
    download = copy.deepcopy(chapter)
    rest = [cell for cell in download["cells"] if SETUP not in cell["metadata"].get("tags", [])]
    return download | {"cells": [first, *rest]}


def write_downloads(site: Path, address: Address | None) -> list[Path]:
    """Make every notebook that a finished site offers one that runs on its own, in prose that any Jupyter shows.

    Parameters
    ----------
    site : Path
        Folder of the site's front page.
    address : Address or None

    Returns
    -------
    list of Path
        The notebooks, in order of their names.
    """
    found = sorted((site / "_sources").rglob("*.ipynb"))
    titles, works = prose.read_titles(), prose.read_works()
    for path in found:
        chapter = prose.parse_notebook(path.read_text(encoding="utf-8"))
        # Notes on where a figure comes from lead to a page of the site.
        chapter["cells"] = [cell for cell in chapter["cells"] if not lineage.is_note(cell["source"])]
        simple = prose.simplify(chapter, titles, works, is_linked=False)
        paths.write_text(path, prose.format_notebook(as_download(simple, address)))
    return found
