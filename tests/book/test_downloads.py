import os
import re
import runpy
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from IPython.core.inputtransformer2 import TransformerManager
from nbclient import NotebookClient

from wbc_lib import paths
from wbc_lib.book import downloads, lineage, site
from wbc_lib.book.downloads import SETUP, Address
from wbc_lib.book.lab import list_chapters, set_profile
from wbc_lib.errors import BookError

GITHUB = Address("https://github.com/someone/cells")
CONFIG = yaml.safe_load((paths.ROOT / "_config.yml").read_text())
#: Chapters that are read rather than trained, and are through in seconds.
CHEAP = ["2-measure", "open-questions"]


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(paths.BOOK / f"{name}.ipynb", as_version=4)


def run_alone(
    name: str,
    folder: Path,
    data: Path | str,
    then: Sequence[nbformat.NotebookNode] = (),
    profile: str = "smoke",
    results: Path | None = None,
) -> nbformat.NotebookNode:
    """Execute a chapter as a reader has it, downloaded, in a folder with nothing else; then cells of the reader's."""
    folder.mkdir()
    download = downloads.format_notebook(downloads.as_download(read(name), None))
    (folder / f"{name}.ipynb").write_text(set_profile(download, profile))
    notebook = nbformat.read(folder / f"{name}.ipynb", as_version=4)
    notebook.cells += then
    search = [str(paths.ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    variables = os.environ | {"WBC_DATA": str(data), "PYTHONPATH": os.pathsep.join(search)}
    variables |= {"WBC_RESULTS": str(results)} if results else {}
    client = NotebookClient(
        notebook, kernel_name="python3", timeout=1800, resources={"metadata": {"path": str(folder)}}
    )
    client.execute(env=variables)
    assert [p.name for p in folder.iterdir()] == [f"{name}.ipynb"]
    return notebook


@pytest.mark.parametrize("name", CHEAP)
def test_a_chapter_runs_alone_in_an_empty_folder_as_downloaded(name, phantom_set, tmp_path):
    executed = run_alone(name, tmp_path / "alone", phantom_set.root)
    assert SETUP in executed.cells[0].metadata.tags
    assert executed.cells[0].outputs == []  # the library is there: nothing to be done
    basis = next(o.data["text/html"] for c in executed.cells[1:4] for o in c.get("outputs", []) if "data" in o)
    assert "phantoms" in basis and "<code>smoke</code>" in basis


@pytest.mark.slow
@pytest.mark.parametrize("name", [c for c in list_chapters() if c not in CHEAP])
def test_every_chapter_runs_alone_in_an_empty_folder_as_downloaded(name, phantom_set, tmp_path):
    run_alone(name, tmp_path / "alone", phantom_set.root)


@pytest.mark.parametrize("address", [None, GITHUB])
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


def run_cell(address: Address | None, monkeypatch, folder: Path, *, is_installed: bool) -> list[tuple[str, str]]:
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


def test_where_the_library_is_missing_the_first_cell_installs_the_project(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    [(name, line)] = run_cell(GITHUB, monkeypatch, tmp_path, is_installed=False)
    assert name == "pip"
    assert line == 'install --quiet --src wbc-project --editable "git+https://github.com/someone/cells#egg=wbc"'
    monkeypatch.undo()
    assert run_cell(GITHUB, monkeypatch, tmp_path, is_installed=True) == []


def test_without_an_address_the_first_cell_says_how_to_install(monkeypatch, tmp_path):
    with pytest.raises(ModuleNotFoundError, match="pip install --editable"):
        run_cell(None, monkeypatch, tmp_path, is_installed=False)
    monkeypatch.undo()
    assert run_cell(None, monkeypatch, tmp_path, is_installed=True) == []


def test_the_project_that_is_installed_brings_the_name_and_folder_that_the_cell_expects():
    import tomllib

    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "wbc"
    assert (paths.ROOT / "wbc_lib" / "__init__.py").exists() and (paths.ROOT / "results").is_dir()


def theme_options(address: Address | None) -> dict:
    return downloads.with_launch_buttons(CONFIG, address)["sphinx"]["config"]["html_theme_options"]


def test_launch_buttons_come_with_an_address_and_go_without(monkeypatch):
    monkeypatch.delenv(downloads.REPOSITORY, raising=False)
    assert downloads.read_address(CONFIG) is None  # nobody has said where the project is published
    assert not {"launch_buttons", "repository_url"} & set(theme_options(None))
    monkeypatch.setenv(downloads.REPOSITORY, GITHUB.url + ".git/")
    address = downloads.read_address(CONFIG)
    assert address == GITHUB
    options = theme_options(address)
    assert (options["repository_url"], options["repository_branch"]) == (GITHUB.url, "notebooks")
    assert set(options["launch_buttons"]) == {"notebook_interface", "binderhub_url", "colab_url"}
    assert theme_options(None).items() < options.items()  # what was given is as it was


def test_a_host_has_the_buttons_that_work_for_it():
    assert "colab_url" not in theme_options(Address("https://gitlab.com/a/b"))["launch_buttons"]
    assert "launch_buttons" not in theme_options(Address("https://git.example.org/a/b"))


def test_the_address_may_stand_in_the_configuration(monkeypatch):
    monkeypatch.delenv(downloads.REPOSITORY, raising=False)
    assert downloads.read_address({"repository": {"url": GITHUB.url}}) == GITHUB
    assert downloads.read_address({}) is downloads.read_address({"repository": None}) is None


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
    assert len(first.splitlines()) == 10
    assert not set("\"'\\{}$;&|`") & set(address.url)


@pytest.fixture
def tiny_site(tmp_path):
    """A page of the book and one that is no notebook, built into HTML as the whole book is; returns a builder."""
    import subprocess

    def build(address: Address | None) -> Path:
        source = tmp_path / "source"
        shutil.rmtree(source, ignore_errors=True)
        (source / "book").mkdir(parents=True)
        chapter = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A chapter\n\nSee {doc}`notes`.")])
        chapter.cells.append(nbformat.v4.new_markdown_cell(lineage.fold([], [], "d" * 64)))
        chapter.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(chapter, source / "book" / "chapter.ipynb")
        (source / "book" / "notes.md").write_text("# Notes\n\nText.\n")
        (source / "_toc.yml").write_text("format: jb-book\nroot: book/chapter\nchapters:\n  - file: book/notes\n")
        config = downloads.with_launch_buttons(CONFIG, address)
        shutil.copy(paths.BOOK / "references.bib", source / "book")
        changes = {"html_static_path": [], "html_css_files": [], "moved_pages": {"book/old": "book/notes"}}
        config["sphinx"]["config"] |= changes
        (source / "_config.yml").write_text(yaml.safe_dump(config))
        target = tmp_path / ("with" if address else "without")
        command = [sys.executable, "-c", "from jupyter_book.cli.main import main; main()", "build", source, "-q"]
        command += ["--path-output", target, "--warningiserror"]
        environment = os.environ | {site.BUILDING: "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:1500]
        return target / "_build" / "html"

    return build


def test_pages_have_launch_buttons_where_there_is_an_address_and_only_if_they_are_notebooks(tiny_site):
    site = tiny_site(GITHUB)
    page = (site / "book" / "chapter.html").read_text()
    assert "https://mybinder.org/v2/gh/someone/cells/notebooks?urlpath=lab/tree/book/chapter.ipynb" in page
    assert "https://colab.research.google.com/github/someone/cells/blob/notebooks/book/chapter.ipynb" in page
    notes = (site / "book" / "notes.html").read_text()
    assert "mybinder" not in notes and "colab.research" not in notes
    assert 'url=notes.html"' in (site / "book" / "old.html").read_text()
    written = downloads.write_downloads(site, GITHUB)
    assert [p.relative_to(site).as_posix() for p in written] == ["_sources/book/chapter.ipynb"]
    assert "_sources/book/chapter.ipynb" in page.replace("../", "")  # what the page's button offers
    download = nbformat.read(written[0], as_version=4)
    assert SETUP in download.cells[0].metadata.tags
    assert len(download.cells) == 2 and "Where this comes from" in page  # what leads to the site stays there
    assert download.cells[1].source == "# A chapter\n\nSee *notes*."  # plain Markdown
    assert SETUP not in page and "wbc-project" not in page


def test_pages_without_an_address_have_no_launch_button(tiny_site):
    site = tiny_site(None)
    page = (site / "book" / "chapter.html").read_text()
    assert "launch-buttons" not in page and "mybinder" not in page and "colab" not in page
    assert "download-source-button" in page


def test_binder_installs_the_locked_packages_and_then_the_project():
    folder = paths.ROOT / ".binder"
    assert (folder / "requirements.txt").read_text().splitlines()[-1] == "-r ../requirements.lock"
    after = folder / "postBuild"
    assert os.access(after, os.X_OK)
    assert (
        after.read_text().startswith("#!") and "pip install --no-cache-dir --no-deps --editable ." in after.read_text()
    )
    assert (folder / "runtime.txt").read_text().strip() == "python-3.11"


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
def test_no_role_is_left_in_a_chapter(name):
    source = nbformat.read(paths.BOOK / f"{name}.ipynb", as_version=4)
    plain = downloads.simplify(source, TITLES, WORKS, is_linked=True)
    text = "\n".join(c["source"] for c in plain["cells"] if c["cell_type"] == "markdown")
    assert re.findall(r"\{[a-z:]+\}`|^[`:]{3,}\{.*", text, re.M) == []
    # Every page that is named has a title, and every work its authors.
    original = "\n".join(c.source for c in source.cells if c.cell_type == "markdown")
    assert set(re.findall(r"\{doc\}`([^`]+)`", original)) <= set(TITLES)
    assert {k for c in re.findall(r"\{cite\}`([^`]+)`", original) for k in c.split(",")} <= set(WORKS)
    code = [[c for c in notebook["cells"] if c["cell_type"] == "code"] for notebook in (plain, source)]
    assert code[0] == code[1]


@pytest.mark.parametrize("name", list_chapters())
def test_a_notebook_is_written_as_jupyter_writes_it(name):
    text = (paths.BOOK / f"{name}.ipynb").read_text(encoding="utf-8")
    notebook = downloads.parse_notebook(text)
    assert notebook == nbformat.reads(text, as_version=4)
    assert downloads.format_notebook(notebook) == text


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


def test_accents_of_the_bibliography_are_letters(tmp_path):
    author = r"{R{\"u}mke, A and {\c C}elik, B}"
    (tmp_path / "references.bib").write_text(f"@book{{a,\n  author = {author},\n  year = {{1985}}\n}}\n")
    assert downloads.read_works(tmp_path) == {"a": "Rümke and Çelik 1985"}


def test_a_warning_is_a_box_that_markdown_has():
    assert simple("a\n\n```{warning}\nMind.\nThis.\n```\n\nb") == "a\n\n> **Warning.** Mind.\n> This.\n\nb"


def test_the_chapter_itself_is_left_as_it_is():
    source = chapter("{cite}`fischbach2020`")
    downloads.simplify(source, TITLES, WORKS, is_linked=True)
    assert source.cells[0].source == "{cite}`fischbach2020`"
