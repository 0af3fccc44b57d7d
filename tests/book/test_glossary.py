import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.book import glossary

TERMS = {
    "recall": ("a", "A."),
    "neutrophil": ("b", "B."),
    "ECE": ("c", "C."),
    "expected calibration error": ("c", "C."),
}
TERMS |= {"calibration": ("d", "D."), "confusion matrix": ("e", "E.")}
PATTERN = glossary.compile_terms(list(TERMS))
TEXTS = st.lists(st.sampled_from([*TERMS, "Recalls", "recalled", "ece", "neutrophils ", ", ", "-", " ", "x\n"])).map(
    "".join
)
SOURCE = (paths.BOOK / "glossary.md").read_text(encoding="utf-8")
ENTRIES = {
    term: " ".join(definition.split())
    for block in re.findall(r":::\{glossary\}\n(.*?):::", SOURCE, re.S)
    for terms, definition in re.findall(r"^((?:\S.*\n)+)((?:  .*\n)+)", block, re.M)
    for term in terms.splitlines()
}


@given(st.lists(TEXTS))
def test_no_word_is_lost_and_no_definition_linked_twice(texts):
    linked = set()
    found = []
    for text in texts:
        pieces = glossary.split_text(text, PATTERN, TERMS, linked)
        assert "".join(words for words, _ in pieces) == text
        found += [term for _, term in pieces if term]
    assert len({TERMS[term][0] for term in found}) == len(found)
    assert linked == {TERMS[term][0] for term in found}


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Neutrophils and a neutrophil", ["neutrophil"]),
        ("its recall, and its\nconfusion matrix", ["recall", "confusion matrix"]),
        ("recalled, and re-recall-ed", []),
        ("ece is not ECE", ["ECE"]),
        ("the expected calibration error and calibration", ["expected calibration error", "calibration"]),
    ],
)
def test_terms_are_found_as_whole_words_the_longest_first(text, terms):
    assert [term for _, term in glossary.split_text(text, PATTERN, TERMS, set()) if term] == terms


def test_entries_are_sorted_and_used_in_prose():
    for block in re.findall(r":::\{glossary\}\n(.*?):::", SOURCE, re.S):
        heads = [t.splitlines()[0] for t in re.findall(r"^((?:\S.*\n)+)(?:  .*\n)+", block, re.M)]
        assert heads == sorted(heads, key=str.lower)
    chapters = [nbformat.read(p, as_version=4).cells for p in paths.BOOK.glob("*.ipynb")]
    text = "\n\n".join(c.source for cells in chapters for c in cells if c.cell_type == "markdown")
    used = {d for t, d in ENTRIES.items() if glossary.compile_terms([t]).search(text)}
    assert [t for t, d in ENTRIES.items() if d not in used] == []
    assert set(ENTRIES) >= glossary.NOT_LINKED


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A page that uses terms where they are linked and where they are not, and the book's own glossary."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "book").mkdir()
    shutil.copytree(paths.BOOK / "_static", folder / "book" / "_static")
    shutil.copyfile(paths.BOOK / "glossary.md", folder / "book" / "glossary.md")
    (folder / "index.md").write_text(
        "# A neutrophil\n\nOf `neutrophil`, [a neutrophil](https://example.org), **Neutrophils** and neutrophils.\n\n"
        "| recall |\n|---|\n| recall |\n\n```\nrecall\n```\n\n" + "A line.\n\n" * 40 + "- recall\n\n"
        "```{toctree}\nbook/glossary\n```\n"
    )
    config = "extensions = ['myst_parser', 'wbc_lib.book.glossary']\nmyst_enable_extensions = ['colon_fence']\n"
    config += "html_static_path = ['book/_static']\nhtml_js_files = ['glossary/glossary.js']\nhtml_theme = 'basic'\n"
    (folder / "conf.py").write_text(config + "suppress_warnings = ['toc.not_included']\nexclude_patterns = ['html']\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", folder, folder / "html"]
    subprocess.run(command, check=True, cwd=paths.ROOT)
    return folder / "html"


def test_only_prose_is_linked_and_each_link_leads_to_its_entry(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'<a class="wbc-term[^"]*" href="([^"]*)" title="([^"]*)">(.*?)</a>', text)
    assert [(href, words) for href, _, words in links] == [
        ("book/glossary.html#term-neutrophil", "Neutrophils"),
        ("book/glossary.html#term-recall", "recall"),
    ]
    assert links[0][1] == ENTRIES["neutrophil"]
    entries = (site / "book" / "glossary.html").read_text(encoding="utf-8")
    assert 'id="term-neutrophil"' in entries and "wbc-term" not in entries


def test_a_definition_shows_by_keyboard_and_by_mouse_and_leaves_on_escape(open_page, site):
    def look(tab):
        tip, term = tab.locator("#wbc-definition"), tab.locator("a.wbc-term").first
        states = [tip.is_visible()]
        term.focus()
        states.append(tip.inner_text() == ENTRIES["neutrophil"] and tip.is_visible())
        described, box = term.get_attribute("aria-describedby"), tip.bounding_box()
        tab.keyboard.press("Escape")
        states.append(tip.is_visible())
        tab.locator("a.wbc-term").nth(1).hover()
        states.append(tip.inner_text() == ENTRIES["recall"])
        return states, described, box

    with open_page(site / "index.html", viewport={"width": 360, "height": 600}) as do:
        states, described, box = do(look)
    assert states == [False, True, False, True]
    assert described == "wbc-definition"
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360
