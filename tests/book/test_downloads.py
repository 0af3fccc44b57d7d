import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager

from wbc_lib import paths
from wbc_lib.book import downloads, lineage, site
from wbc_lib.book.downloads import SETUP
from wbc_lib.book.lab import list_chapters
from wbc_lib.errors import BookError

GITHUB = "https://github.com/someone/cells"
CONFIG = yaml.safe_load((paths.ROOT / "_config.yml").read_text())


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(paths.BOOK / f"{name}.ipynb", as_version=4)


@pytest.mark.parametrize("address", ["", GITHUB])
def test_a_download_is_the_chapter_and_one_folded_cell_before_it(address):
    chapter = read("8-results")
    download = nbformat.reads(downloads.format_notebook(downloads.as_download(chapter, address)), as_version=4)
    nbformat.validate(download)
    assert download.cells[1:] == chapter.cells
    first = download.cells[0]
    assert first.cell_type == "code"
    assert first.metadata.jupyter.source_hidden and SETUP in first.metadata.tags
    assert not any(SETUP in c.metadata.get("tags", []) for c in chapter.cells)  # the chapter itself is untouched
    # Done twice, as by a site that is built again, it is the same file.
    again = downloads.as_download(download, address)
    assert again == download


def run_cell(address: str, monkeypatch, folder: Path, *, is_installed: bool) -> list[tuple[str, str]]:
    """Run the first cell where the library is installed, or is not; the magic commands that it gave."""
    import importlib.util

    given_commands = []
    shell = SimpleNamespace(run_line_magic=lambda name, line: given_commands.append((name, line)))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if is_installed else None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    first = downloads.as_download(read("8-results"), address)["cells"][0]["source"]
    (folder / "cell.py").write_text(TransformerManager().transform_cell(first))
    runpy.run_path(str(folder / "cell.py"), {"get_ipython": lambda: shell})
    return given_commands


def test_where_the_library_is_missing_the_first_cell_installs_the_project_or_says_how(monkeypatch, tmp_path):
    for address in (GITHUB, ""):
        with monkeypatch.context() as patch:
            assert run_cell(address, patch, tmp_path, is_installed=True) == []
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        assert run_cell(GITHUB, patch, tmp_path, is_installed=False) == [
            ("pip", 'install --quiet --src wbc-project --editable "git+https://github.com/someone/cells#egg=wbc"'),
            ("pip", 'install --quiet --editable "wbc-project/wbc[book,train]"'),
        ]
    with monkeypatch.context() as patch, pytest.raises(ModuleNotFoundError, match="pip install --editable"):
        run_cell("", patch, tmp_path, is_installed=False)


def theme_options(address: str) -> dict:
    return downloads.with_launch_buttons(CONFIG, address)["sphinx"]["config"]["html_theme_options"]


def test_launch_buttons_come_with_an_address_and_go_without(monkeypatch):
    monkeypatch.delenv(downloads.REPOSITORY, raising=False)
    assert downloads.read_address(CONFIG) == ""  # nobody has said where the project is published
    assert downloads.read_address({"repository": {"url": GITHUB}}) == GITHUB
    assert not {"launch_buttons", "repository_url"} & set(theme_options(""))
    monkeypatch.setenv(downloads.REPOSITORY, GITHUB + ".git/")
    address = downloads.read_address(CONFIG)
    assert address == GITHUB
    options = theme_options(address)
    assert (options["repository_url"], options["repository_branch"]) == (GITHUB, "notebooks")
    assert set(options["launch_buttons"]) == {"notebook_interface", "binderhub_url", "colab_url"}
    assert theme_options("").items() < options.items()  # what was given is as it was
    assert "colab_url" not in theme_options("https://gitlab.com/a/b")["launch_buttons"]
    assert "launch_buttons" not in theme_options("https://git.example.org/a/b")


@pytest.mark.parametrize("url", ["github.com/a/b", "https://github.com/a", "http://github.com/a/b", "https://h/a/b c"])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(BookError, match="no address"):
        downloads.read_address({"repository": {"url": url}})


@given(st.text(max_size=30))
def test_no_address_carries_code_into_the_first_cell(tail):
    try:
        address = downloads.read_address({"repository": {"url": f"https://github.com/a/b{tail}"}})
    except BookError:
        return
    first = downloads.as_download({"cells": []}, address)["cells"][0]["source"]
    assert len(first.splitlines()) == 11
    assert not set("\"'\\{}$;&|`") & set(address)


def test_what_a_page_offers_is_plain_markdown_with_the_first_cell_and_without_notes_that_lead_to_the_site(tmp_path):
    prose = ["# A chapter\n\nSee {doc}`references`.", lineage.fold([], [], "d" * 64)]
    paths.write_text(
        tmp_path / "_sources" / "book" / "chapter.ipynb",
        nbformat.writes(nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_markdown_cell, prose)))),
    )
    (written,) = downloads.write_downloads(tmp_path, GITHUB)
    assert written.relative_to(tmp_path).as_posix() == "_sources/book/chapter.ipynb"
    first, second = nbformat.read(written, as_version=4).cells
    assert SETUP in first.metadata.tags and second.source == "# A chapter\n\nSee *References*."


@pytest.mark.slow
def test_pages_have_launch_buttons_where_there_is_an_address_and_only_if_they_are_notebooks(tmp_path):
    (tmp_path / "book").mkdir()
    chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter")])
    chapter.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(chapter, tmp_path / "book" / "chapter.ipynb")
    (tmp_path / "book" / "notes.md").write_text("# Notes\n\nText.\n")
    (tmp_path / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\nchapters:\n  - file: book/notes\n")
    shutil.copy(paths.BOOK / "references.bib", tmp_path / "book")
    config = downloads.with_launch_buttons(CONFIG, GITHUB)
    config["sphinx"]["config"] |= {"html_static_path": [], "html_css_files": [], "moved_pages": {}}
    (tmp_path / "_config.yml").write_text(yaml.safe_dump(config))
    code = "from jupyter_book.cli.main import main; main()"
    command = [sys.executable, "-c", code, "build", tmp_path, "-q", "--warningiserror"]
    environment = os.environ | {site.BUILDING: "1"}
    done = subprocess.run(command, check=False, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[:1500]
    pages = tmp_path / "_build" / "html"
    page = (pages / "book" / "chapter.html").read_text()
    assert "https://mybinder.org/v2/gh/someone/cells/notebooks?urlpath=lab/tree/book/chapter.ipynb" in page
    assert "https://colab.research.google.com/github/someone/cells/blob/notebooks/book/chapter.ipynb" in page
    notes = (pages / "book" / "notes.html").read_text()
    assert "mybinder" not in notes and "colab.research" not in notes


TITLES, WORKS = downloads.read_titles(), downloads.read_works()


def chapter(text: str, **values: object) -> nbformat.NotebookNode:
    """A notebook with one cell of prose, and the outputs that glueing these values leaves."""
    kind = "application/papermill.record/text/plain"
    outputs = [
        nbformat.v4.new_output("display_data", {kind: repr(v)}, metadata={"scrapbook": {"name": k}})
        for k, v in values.items()
    ]
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell("", outputs=outputs)]
    return nbformat.v4.new_notebook(cells=cells)


def simple(text: str, *, is_linked: bool = True, **values: object) -> str:
    return downloads.simplify(chapter(text, **values), TITLES, WORKS, is_linked=is_linked)["cells"][0]["source"]


@pytest.mark.parametrize("name", list_chapters())
def test_a_chapter_is_left_without_roles_and_written_as_jupyter_writes_it(name):
    text = (paths.BOOK / f"{name}.ipynb").read_text(encoding="utf-8")
    source = downloads.parse_notebook(text)
    assert source == read(name)
    assert downloads.format_notebook(source) == text
    plain = downloads.simplify(source, TITLES, WORKS, is_linked=True)
    prose, original = (
        "\n".join(c["source"] for c in n["cells"] if c["cell_type"] == "markdown") for n in (plain, source)
    )
    assert re.findall(r"\{[a-z:]+\}`|^[`:]{3,}\{.*", prose, re.M) == []
    # Every page that is named has a title, and every work its authors.
    assert set(re.findall(r"\{doc\}`([^`]+)`", original)) <= set(TITLES)
    assert {k for c in re.findall(r"\{cite\}`([^`]+)`", original) for k in c.split(",")} <= set(WORKS)
    code = [[c for c in notebook["cells"] if c["cell_type"] == "code"] for notebook in (plain, source)]
    assert code[0] == code[1]


def test_values_are_filled_in_where_the_chapter_was_executed():
    text = "At {glue:text}`share:.1%` of {glue:text}`count:.0f`, {glue:text}`word`; {glue:text}`unknown:.2f`."
    assert simple(text, share=0.125, count=12.0, word="surely") == "At 12.5% of 12, surely; `unknown`."
    assert simple(text) == "At `share` of `count`, `word`; `unknown`."


@given(st.dictionaries(st.from_regex(r"[a-z]\w{0,5}", fullmatch=True), st.floats() | st.text(), max_size=4))
def test_values_come_back_as_they_were_made(values):
    found = downloads.read_values(chapter("", **values))
    assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in values.items()}  # nan is itself as well


def test_other_chapters_are_links_where_they_lie_beside_and_titles_where_not():
    assert simple("see {doc}`7-regularising`") == "see [7. Regularising](7-regularising.ipynb)"
    assert simple("see {doc}`7-regularising`", is_linked=False) == "see *7. Regularising*"
    assert simple("see {doc}`references`") == "see *References*"  # a page, but no notebook


def test_works_are_cited_by_authors_and_year():
    assert simple("{cite}`fischbach2020`") == "(Fischbach and Weinstein 2020)"
    assert simple("{cite}`simonyan2015,he2016`") == "(Simonyan and Zisserman 2015; He and others 2016)"
    assert simple("{cite}`nobody`") == "(nobody)"


def test_accents_of_the_bibliography_are_letters(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "BOOK", tmp_path)
    author = r"{R{\"u}mke, A and {\c C}elik, B}"
    (tmp_path / "references.bib").write_text(f"@book{{a,\n  author = {author},\n  year = {{1985}}\n}}\n")
    assert downloads.read_works() == {"a": "Rümke and Çelik 1985"}


def test_a_warning_is_a_box_that_markdown_has_and_the_chapter_itself_is_left_as_it_is():
    source = chapter("a\n\n```{warning}\nMind.\nThis.\n```\n\nb")
    plain = downloads.simplify(source, TITLES, WORKS, is_linked=True)
    assert plain["cells"][0]["source"] == "a\n\n> **Warning.** Mind.\n> This.\n\nb"
    assert "{warning}" in source.cells[0].source
