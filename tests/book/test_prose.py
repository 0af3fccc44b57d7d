import re

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.book import prose
from wbc_lib.book.lab import list_chapters

TITLES, WORKS = prose.read_titles(), prose.read_works()


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
    return prose.simplify(chapter(text, **values), TITLES, WORKS, is_linked=is_linked)["cells"][0]["source"]


@pytest.mark.parametrize("name", list_chapters())
def test_no_role_is_left_in_a_chapter(name):
    source = nbformat.read(paths.BOOK / f"{name}.ipynb", as_version=4)
    plain = prose.simplify(source, TITLES, WORKS, is_linked=True)
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
    notebook = prose.parse_notebook(text)
    assert notebook == nbformat.reads(text, as_version=4)
    assert prose.format_notebook(notebook) == text


def test_values_are_filled_in_where_the_chapter_was_executed():
    text = "At {glue:text}`share:.1%` of {glue:text}`count:.0f`, {glue:text}`word`; {glue:text}`unknown:.2f`."
    assert simple(text, share=0.125, count=12.0, word="surely") == "At 12.5% of 12, surely; `unknown`."
    assert simple(text) == "At `share` of `count`, `word`; `unknown`."


@given(st.dictionaries(st.from_regex(r"[a-z]\w{0,5}", fullmatch=True), st.floats() | st.text(), max_size=4))
def test_values_come_back_as_they_were_made(values):
    found = prose.read_values(chapter("", **values))
    assert {k: repr(v) for k, v in found.items()} == {k: repr(v) for k, v in values.items()}  # nan is itself as well


def test_other_chapters_are_links_where_they_lie_beside_and_titles_where_not():
    assert simple("see {doc}`7a-dropout`") == "see [7a. Dropout](7a-dropout.ipynb)"
    assert simple("see {doc}`7a-dropout`", is_linked=False) == "see *7a. Dropout*"
    assert simple("see {doc}`references`") == "see *References*"  # a page, but no notebook


def test_works_are_cited_by_authors_and_year():
    assert simple("{cite}`fischbach2020`") == "(Fischbach and Weinstein 2020)"
    assert simple("{cite}`simonyan2015,he2016`") == "(Simonyan and Zisserman 2015; He and others 2016)"
    assert simple("{cite}`nobody`") == "(nobody)"


def test_accents_of_the_bibliography_are_letters(tmp_path):
    author = r"{R{\"u}mke, A and {\c C}elik, B}"
    (tmp_path / "references.bib").write_text(f"@book{{a,\n  author = {author},\n  year = {{1985}}\n}}\n")
    assert prose.read_works(tmp_path) == {"a": "Rümke and Çelik 1985"}


def test_a_warning_is_a_box_that_markdown_has():
    assert simple("a\n\n```{warning}\nMind.\nThis.\n```\n\nb") == "a\n\n> **Warning.** Mind.\n> This.\n\nb"


def test_the_chapter_itself_is_left_as_it_is():
    source = chapter("{cite}`fischbach2020`")
    prose.simplify(source, TITLES, WORKS, is_linked=True)
    assert source.cells[0].source == "{cite}`fischbach2020`"
