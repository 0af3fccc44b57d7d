import re
import subprocess
import sys

import yaml
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.book import citation

CITATION = citation.read_citation()
NAMES = st.text(st.characters(categories=["Lu", "Ll"]), min_size=1, max_size=9)


@given(st.lists(NAMES, min_size=1, max_size=3), NAMES, st.dates().filter(lambda d: d.year > 999))
def test_bibtex_says_what_the_citation_file_says(names, title, date):
    cff = {"authors": [{"name": n} for n in names], "title": title, "version": "1.2", "date-released": date}
    entry = citation.as_bibtex(cff)
    fields = dict(re.findall(r"^  (\w+) = \{(.*)\},$", entry, re.M))
    assert fields == {
        "author": " and ".join(f"{{{n}}}" for n in names),
        "title": f"{{{title}}}",
        "year": str(date.year),
        "version": "1.2",
    }
    assert entry.count("{") == entry.count("}")
    assert all(n in citation.as_text(cff) for n in [*names, title, str(date.year)])


def test_the_box_holds_both_forms_escaped():
    html = citation.show_box().data
    assert html.count("<pre>") == 2 and CITATION["title"] in html and "@software{" in html


def test_the_citation_file_is_complete_and_of_this_version():
    assert {"cff-version", "message", "title", "authors", "version", "date-released", "license"} <= set(CITATION)
    project = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{CITATION["version"]}"' in project
    assert yaml.safe_load((paths.ROOT / "_config.yml").read_text())["title"] == CITATION["title"]


def test_a_page_tells_its_title_and_its_first_sentence(tmp_path):
    long = " ".join(["word"] * 80)
    (tmp_path / "index.md").write_text(
        f"# A & page\n\n|table of figures that come first of all|\n|---|\n|a|\n\nShort.\n\n<p>{long}</p>\n\n"
        f"The first *real* paragraph of prose, with `code` & more.\n\n```{{toctree}}\nother\n```\n"
    )
    (tmp_path / "other.md").write_text(f"# Other\n\n{long}\n")
    (tmp_path / "conf.py").write_text(
        "extensions = ['myst_parser', 'wbc_lib.book.citation']\nexclude_patterns = ['html']\n"
    )
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", tmp_path, tmp_path / "html"]
    subprocess.run(command, check=True, cwd=paths.ROOT)
    head = (tmp_path / "html" / "index.html").read_text(encoding="utf-8").split("</head>")[0]
    assert '<meta property="og:title" content="A &amp; page">' in head
    told = "The first real paragraph of prose, with code &amp; more."
    assert f'<meta property="og:description" content="{told}">' in head
    assert f'<meta name="description" content="{told}">' in head
    assert f'<meta name="citation_title" content="{CITATION["title"]}">' in head
    assert "og:url" not in head
    other = re.search(r'og:description" content="([^"]*)"', (tmp_path / "html" / "other.html").read_text()).group(1)
    assert len(other) <= 200 and other.endswith("word…")
