"""The whole book, built from phantoms as a user would build it, and looked at in a browser."""

import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from filelock import FileLock

from tests.drawn_runs import record_drawn
from tests.faults import find_faults
from wbc_lib import paths
from wbc_lib.book import build, citation
from wbc_lib.book.downloads import SETUP
from wbc_lib.training.experiments import EXPERIMENTS, SUITES
from wbc_lib.training.study import Study, open_study

PAGES = build.read_toc()
#: A page of each kind: prose, tables, what answers to a hand, a list.
KINDS = ("index", "8-results", "b3-certainty", "explore", "try-a-cell", "reproduce", "glossary", "references")
#: Pictures that did not load.
BROKEN = "[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)"


def record(study: Study) -> None:
    """Record a run of all that pages ask for: one that is trained, as they look into it, and drawn ones."""
    study.run("final")
    rng = np.random.default_rng(0)
    wanted = [name for name, experiment in EXPERIMENTS.items() if name not in ("vgg16", "resnet50")]
    for name, seed in study.missing([*wanted, *(name for suite in SUITES for name in study.wanted(suite)[0])]):
        record_drawn(study, name, seed, rng)


def make(site: Path, *options: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "wbc_lib", "book", "--data", "phantoms", "--profile", "smoke", "--output", site]
    # Beside the site, so that a build in the checkout and this one are not in each other's way.
    environment = os.environ | {"WBC_BUILD": str(site.parent / "build")}
    command += options
    return subprocess.run(command, capture_output=True, text=True, cwd=paths.ROOT, env=environment, check=False)


@pytest.fixture(scope="session")
def site(run_folder) -> Path:
    """The book, built once whichever worker asks first."""
    with FileLock(run_folder / "site.lock"):
        if not (run_folder / "site").exists():
            record(open_study("phantoms", "smoke"))
            done = make(run_folder / "site", "--no-train")
            assert done.returncode == 0, done.stderr[-3000:]
            assert done.stderr.startswith("Working with phantoms")
    return run_folder / "site"


@pytest.fixture(scope="module")
def pages(site) -> dict[str, BeautifulSoup]:
    return {page: BeautifulSoup((site / f"{page}.html").read_text(encoding="utf-8"), "html.parser") for page in PAGES}


def loads(page: BeautifulSoup) -> set[str]:
    """The local files that a page shows or runs."""
    found = [tag["href"] for tag in page.select("link[rel=stylesheet][href]")]
    found += [tag["src"] for tag in page.select("img[src], script[src]")]
    return {name.partition("?")[0] for name in found if not re.match(r"[a-z]+:|//", name)}


def test_every_page_is_whole(site, pages):
    assert find_faults(site, PAGES) == []
    common = loads(pages["book/references"])
    for name, page in pages.items():
        file = site / f"{name}.html"
        links = [
            tag[a].partition("#")[0].partition("?")[0] for a in ("href", "src") for tag in page.find_all(**{a: True})
        ]
        assert [x for x in links if x and not re.match(r"[a-z]+:|//", x) and not (file.parent / x).exists()] == [], name
        assert [image for image in page.find_all("img") if not image.get("alt")] == [], name
        assert "Traceback" not in page.text and "launch-buttons" not in str(page), name
        levels = [int(tag.name[1]) for tag in page.select_one("article.bd-article").find_all(re.compile("^h[1-6]$"))]
        assert levels[0] == 1 and levels.count(1) == 1, name
        assert all(below <= above + 1 for above, below in zip(levels, levels[1:], strict=False)), name
        # What it loads and most pages do not is its own weight.
        own = [file, *((file.parent / x) for x in loads(page) - common)]
        assert sum(path.stat().st_size for path in own) < 1_500_000, name


def test_every_chapter_ran_without_a_private_warning_and_is_offered_with_what_it_takes(site, pages):
    for name in (p for p in PAGES if (paths.ROOT / f"{p}.ipynb").exists()):
        executed = nbformat.read(site.parent / "build" / "executed" / f"{name}.ipynb", as_version=4)
        assert [o.text for c in executed.cells for o in c.get("outputs", []) if o.get("name") == "stderr"] == [], name
        offered = nbformat.read(site / "_sources" / f"{name}.ipynb", as_version=4)
        assert SETUP in offered.cells[0].metadata.tags and SETUP not in str(pages[name]), name
        assert pages[name].find(href=re.compile(rf"{Path(name).name}\.ipynb")), name  # what its button offers


def test_a_page_tells_its_title_its_first_sentence_and_how_to_cite_it(pages):
    cited = citation.read_citation()
    for name in ("index", "7-regularising", "glossary"):
        tags = {
            tag.get("name") or tag.get("property"): tag["content"]
            for tag in pages[f"book/{name}"].select("meta[content]")
        }
        assert tags["og:title"] and tags["og:type"] == "article"
        assert 40 < len(tags["og:description"]) <= 203 and "Built on" not in tags["og:description"]
        assert tags["citation_title"] == cited["title"]
        assert tags["citation_author"] in citation.as_text(cited)


def test_every_page_opens_without_a_complaint_and_says_at_its_top_that_its_cells_are_drawn(site, open_page):
    for name in PAGES:
        with open_page(site / f"{name}.html") as do:
            assert do(lambda tab: tab.evaluate(BROKEN)) == [], name
            assert "not patients' cells" in do(lambda tab: tab.inner_text(".bd-header-announcement")), name
            assert do(lambda tab: tab.locator(".bd-header-announcement").bounding_box()["y"]) < 50, name


def test_code_is_folded_until_its_own_fold_or_the_page_s_switch_is_pressed(site, open_page):
    with open_page(site / "book/8-results.html") as do:

        def shown() -> int:
            return do(lambda tab: tab.locator(".bd-article .cell_input:visible").count())

        number = do(lambda tab: tab.locator(".bd-article .cell_input").count())
        assert number > 9 and shown() == 0
        do(lambda tab: tab.locator(".cell summary:visible").first.click())
        assert shown() == 1
        switch = [lambda tab: tab.get_by_role("button", name="All code").click()] * 2
        assert [do(press) or shown() for press in switch] == [number, 0]


def test_the_print_version_holds_every_page_once(site, open_page):
    lost = """[...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.hash.slice(1)))
        .filter(id => !document.getElementById(id))"""
    with open_page(site / "print.html") as do:
        sections = do(lambda tab: tab.locator("section.page").evaluate_all("all => all.map(s => s.id)"))
        assert sections == [Path(name).name for name in PAGES]
        assert do(lambda tab: tab.evaluate(lost)) == do(lambda tab: tab.evaluate(BROKEN)) == []


def find_violations(tab, rules: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Serious faults that axe finds in an open page, as (rule, element)."""
    options: dict[str, object] = {"preload": False}  # else axe asks for the styles once more, which a file may not
    options |= {"runOnly": {"type": "rule", "values": list(rules)}} if rules else {}
    found = Axe().run(tab, options=options).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    return [(v["id"], node["html"][:120]) for v in serious for node in v["nodes"]]


@pytest.mark.parametrize(
    "names",
    [[page for page in PAGES if Path(page).name in KINDS], pytest.param(PAGES, marks=pytest.mark.slow)],
    ids=["a page of each kind", "every page"],
)
def test_axe_finds_nothing_serious_in_light_or_dark(site, open_page, names):
    for name in names:
        for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
            # At rest: a colour on its way to another has a contrast of its own.
            with open_page(site / f"{name}.html", color_scheme=scheme, reduced_motion="reduce") as do:
                assert do(lambda tab, rules=rules: find_violations(tab, rules)) == [], (name, scheme)


def test_axe_would_find_a_fault(open_page, tmp_path):
    fault = '<html lang="en"><title>.</title><main><p style="color: #bbb">pale</p><img src="data:,"></main>'
    (tmp_path / "faulty.html").write_text(fault)
    with open_page(tmp_path / "faulty.html") as do:
        assert {rule for rule, _ in do(find_violations)} == {"color-contrast", "image-alt"}


def test_building_again_executes_nothing_but_brings_styles_up_to_date(site):
    (site.parent / "build" / "pages" / "_build" / "html" / "_static" / "wbc.css").write_text("")
    chapters = list((site.parent / "build" / "executed" / "book").glob("*.ipynb"))
    before = [p.stat().st_mtime_ns for p in chapters]
    assert make(site, "--no-train").returncode == 0
    assert [p.stat().st_mtime_ns for p in chapters] == before
    assert (site / "_static" / "wbc.css").read_bytes() == (paths.BOOK / "_static" / "wbc.css").read_bytes()


@pytest.mark.slow
def test_a_book_from_nothing_trains_what_it_lacks(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))
    done = make(tmp_path / "site")
    assert done.returncode == 0, done.stderr[-3000:]
    assert find_faults(tmp_path / "site", PAGES) == []
