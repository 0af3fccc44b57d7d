import re

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
    box = citation.show_box().data
    assert box.count("<pre>") == 2 and CITATION["title"] in box and "@software{" in box


def test_the_citation_file_is_complete_and_of_this_version():
    assert {"cff-version", "message", "title", "authors", "version", "date-released", "license"} <= set(CITATION)
    project = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{CITATION["version"]}"' in project
    assert yaml.safe_load((paths.ROOT / "_config.yml").read_text())["title"] == CITATION["title"]
