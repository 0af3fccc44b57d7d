import dataclasses
import json
import re
import subprocess
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import nbformat
import pytest

from tests import browsing
from wbc_lib import paths
from wbc_lib.book import build
from wbc_lib.book.downloads import SETUP
from wbc_lib.book.site import find_faults
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

PAGES = build.read_toc()
CHAPTERS = sorted(paths.BOOK.glob("*.ipynb"))
#: Chapters that follow the paper, and those that go beyond it; the others are front and back matter.
STEPS = [c for c in CHAPTERS if re.match(r"[0-9]", c.name)]
BEYOND = [c for c in CHAPTERS if re.match(r"b[0-9]", c.name)]
SECTIONS = [
    "What the paper did",
    "What it leaves open",
    "What we ran",
    "What we found",
    "Does the paper's claim hold?",
    "Try it",
]
SECTIONS_BEYOND = ["The question", "How it is measured", "What we found", "What it means", "Try it"]


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[nbformat.NotebookNode]:
    return [c for c in read(path).cells if c.cell_type == "code"]


def prose(path: Path) -> str:
    return "\n".join(c.source for c in read(path).cells if c.cell_type == "markdown")


class _Page(HTMLParser):
    """Local links and images without alt text of one page."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.bare_images: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        target = given.get("href") or given.get("src") or ""
        if target and not re.match(r"[a-z]+:|#|//", target):
            self.links.append(target.split("#")[0].split("?")[0])
        if tag == "img" and not given.get("alt"):
            self.bare_images.append(target)


def test_every_page_shows_its_figures_without_a_word_from_the_console(site, browser):
    flaws = []
    for page in PAGES:
        tab = browser.new_page()
        browsing.watch(tab, page, flaws)
        tab.goto((site / f"{page}.html").as_uri(), wait_until="load")
        broken = tab.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)")
        flaws += [(page, image) for image in broken]
        tab.close()
    assert not flaws


def find_violations(tab, rules: tuple[str, ...] = ()) -> list[tuple[str, str]]:
    """Serious faults that axe finds in an open page, as (rule, element)."""
    from axe_playwright_python.sync_playwright import Axe

    options = {"runOnly": {"type": "rule", "values": list(rules)}} if rules else None
    found = Axe().run(tab, options=options).response["violations"]
    serious = [v for v in found if v["impact"] in ("serious", "critical")]
    return [(v["id"], node["html"][:120]) for v in serious for node in v["nodes"]]


#: A page of each kind: prose, tables, what answers to a hand, a list.
KINDS = [
    "index",
    "8-results",
    "b3-certainty",
    "explore",
    "try-a-cell",
    "reproduce",
    "glossary",
    "references",
]


def find_violations_on(pages: list[str], site: Path, browser) -> list[tuple[str, ...]]:
    flaws = []
    for page in pages:
        for scheme, rules in (("light", ()), ("dark", ("color-contrast",))):
            # At rest: a colour on its way to another has a contrast of its own.
            tab = browser.new_page(color_scheme=scheme, reduced_motion="reduce")
            tab.goto((site / f"{page}.html").as_uri(), wait_until="load")
            flaws += [(page, scheme, *flaw) for flaw in find_violations(tab, rules)]
            tab.close()
    return flaws


def test_axe_finds_nothing_serious_on_a_page_of_each_kind_in_light_or_dark(site, browser):
    assert find_violations_on([f"book/{kind}" for kind in KINDS], site, browser) == []


@pytest.mark.slow
def test_axe_finds_nothing_serious_on_any_page_in_light_or_dark(site, browser):
    assert find_violations_on(PAGES, site, browser) == []


def test_axe_would_find_a_fault(browser):
    tab = browser.new_page()
    tab.set_content('<html lang="en"><title>.</title><main><p style="color: #bbb">pale</p><img src="x"></main>')
    assert {rule for rule, _ in find_violations(tab)} == {"color-contrast", "image-alt"}
    tab.close()


def test_headings_go_down_a_level_at_a_time(site):
    for page in PAGES:
        text = (site / f"{page}.html").read_text(encoding="utf-8").split('<article class="bd-article">')[1]
        levels = [int(n) for n in re.findall(r"<h([1-6])[ >]", text.split("</article>")[0])]
        assert levels[0] == 1 and levels.count(1) == 1, page
        assert all(below <= above + 1 for above, below in zip(levels, levels[1:], strict=False)), (page, levels)


def test_the_print_version_holds_every_page_once_and_asks_nothing_of_a_network(site, browser):
    flaws = []
    tab = browser.new_page()
    browsing.watch(tab, "print", flaws)
    tab.goto((site / "print.html").as_uri(), wait_until="load")
    assert tab.locator("section.page").evaluate_all("all => all.map(s => s.id)") == [Path(p).name for p in PAGES]
    lost = """[...document.querySelectorAll('a[href^="#"]')].map(a => decodeURIComponent(a.hash.slice(1)))
        .filter(id => !document.getElementById(id))"""
    assert tab.evaluate(lost) == []
    assert tab.evaluate("[...document.images].filter(i => i.complete && !i.naturalWidth).map(i => i.src)") == []
    assert flaws == []
    tab.close()


def test_curves_tables_and_matrices_are_on_the_pages(site, browser):
    tab = browser.new_page()
    tab.goto((site / "book/8-results.html").as_uri(), wait_until="load")
    assert tab.locator("figure img").count() >= 2
    assert tab.locator("table.wbc-table tbody tr").count() >= 12
    assert tab.locator("figure img").first.bounding_box()["width"] > 300


def test_every_page_on_phantoms_says_so_at_its_top(site, browser):
    for page in PAGES:
        tab = browser.new_page()
        tab.goto((site / f"{page}.html").as_uri(), wait_until="load")
        banner = tab.locator(".bd-header-announcement")
        assert "not patients' cells" in banner.inner_text(), page
        assert banner.bounding_box()["y"] < 50, page
        tab.close()


def test_pages_hold_no_error_no_broken_link_and_no_image_without_words(site):
    assert find_faults(site, PAGES) == []
    for page in PAGES:
        path = site / f"{page}.html"
        text = path.read_text(encoding="utf-8")
        assert "Traceback" not in text, page
        parsed = _Page(text)
        missing = [link for link in parsed.links if link and not (path.parent / link).exists()]
        assert missing == [], page
        assert parsed.bare_images == [], page


class _Loads(HTMLParser):
    """The local files that a page loads by itself."""

    def __init__(self, page: Path):
        super().__init__()
        self.files: set[Path] = set()
        self._folder = page.parent
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        is_style = tag == "link" and given.get("rel") == "stylesheet"
        target = given.get("href") if is_style else given.get("src")
        if target and not target.startswith(("data:", "http:", "https:", "//")):
            path = (self._folder / target.split("#")[0].split("?")[0]).resolve()
            if path.is_file():
                self.files.add(path)


def weigh(site: Path) -> dict[str, int]:
    """Bytes of each page, with the pictures, scripts and styles that it loads and most pages do not."""
    not_ours = {"genindex.html", "search.html", "print.html"}
    pages = [p for p in site.rglob("*.html") if p.name not in not_ours and "_static" not in p.parts]
    loads = {page: _Loads(page).files for page in pages}
    count = Counter(file for files in loads.values() for file in files)
    return {
        page.relative_to(site).as_posix(): page.stat().st_size
        + sum(file.stat().st_size for file in files if 2 * count[file] <= len(loads))
        for page, files in loads.items()
    }


def test_no_page_with_what_it_loads_weighs_much(site):
    weights = weigh(site)
    assert {f"{page}.html" for page in PAGES} <= set(weights)
    assert {page: weight for page, weight in weights.items() if weight >= 1_500_000} == {}


def test_a_page_weighs_what_it_loads_and_most_others_do_not(tmp_path):
    (tmp_path / "_static").mkdir()
    (tmp_path / "theme.css").write_bytes(b"x" * 5000)
    (tmp_path / "own.png").write_bytes(b"x" * 300)
    (tmp_path / "_static" / "macros.html").write_text("<img src='../own.png'>")
    common = "<link rel=stylesheet href='theme.css?v=1'>"
    pages = {
        "a": f"{common}<img src='own.png?x'><img src='own.png'><a href='theme.css'>",
        "b": f"{common}<img src='missing.png'>",
        "c": f"{common}<script src='https://far.away/x.js'></script>",
        "search": "y" * 9000,
    }
    for name, text in pages.items():
        (tmp_path / f"{name}.html").write_text(text)
    sizes = {f"{name}.html": len(pages[name]) for name in "abc"}
    assert weigh(tmp_path) == sizes | {"a.html": sizes["a.html"] + 300}


def test_executed_chapters_hold_no_error_and_no_private_warning(site):
    for page in PAGES:
        path = build.STAGING / f"{page}.ipynb"
        if path.exists():
            outputs = [o for c in code_cells(path) for o in c.outputs]
            assert [o for o in outputs if o.output_type == "error"] == [], page
            assert [o.text for o in outputs if o.get("name") == "stderr"] == [], page


def test_what_a_page_offers_for_download_sees_to_the_library_and_the_page_does_not_show_it(site):
    for page in (p for p in PAGES if (paths.ROOT / f"{p}.ipynb").exists()):
        first = read(site / "_sources" / f"{page}.ipynb").cells[0]
        assert SETUP in first.metadata.tags, page
        text = (site / f"{page}.html").read_text(encoding="utf-8")
        assert SETUP not in text and "launch-buttons" not in text, page
        assert f"{Path(page).name}.ipynb" in text, page  # what its button offers


def test_building_again_executes_nothing_but_brings_styles_up_to_date(site):
    stale = paths.BUILD / "pages" / "_build" / "html" / "_static" / "wbc.css"
    stale.write_text("")
    before = {p: p.stat().st_mtime_ns for p in (build.STAGING / "book").glob("*.ipynb")}
    command = [sys.executable, "-m", "wbc_lib.cli.main", "book", "--data", "phantoms", "--profile", "smoke"]
    subprocess.run([*command, "--output", site], capture_output=True, cwd=paths.ROOT, check=True)
    assert {p: p.stat().st_mtime_ns for p in (build.STAGING / "book").glob("*.ipynb")} == before
    assert (site / "_static" / "wbc.css").read_bytes() == (paths.BOOK / "_static" / "wbc.css").read_bytes()


@pytest.fixture
def surroundings(phantom_set, tmp_path, monkeypatch):
    """A study with results of its own, and the hash of all that its chapters would read."""
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    for name in ("bench/arrays.json", "final-e1-s0-0123456789ab/run.json", "attention/a.csv.gz", "scaling/deep/a.json"):
        paths.write_text(tmp_path / "results" / name, "1")
    study = Study(phantom_set, PROFILES["smoke"], Store(tmp_path / "runs", tmp_path / "results"))
    return tmp_path / "results", lambda: build._hash_surroundings(study)


@pytest.mark.parametrize(
    "change",
    [
        lambda results: (results / "bench/arrays.json").write_text("2"),
        lambda results: (results / "attention/a.csv.gz").unlink(),
        lambda results: (results / "final-e1-s0-0123456789ab/run.json").write_text("2"),
        lambda results: (results / "scaling/deep/a.json").write_text("2"),
        lambda results: (results / "bench/new.json").write_text(""),
        lambda results: (results / "bench/arrays.json").rename(results / "bench/book.json"),
        lambda results: (results.parent / "runs").mkdir() or (results.parent / "runs" / "file").write_text("1"),
    ],
)
def test_a_chapter_is_executed_anew_once_anything_changes_that_it_may_read(surroundings, change):
    results, hash_all = surroundings
    before = hash_all()
    change(results)
    assert hash_all() != before


def test_what_nobody_reads_makes_no_chapter_be_executed_anew(surroundings):
    results, hash_all = surroundings
    before = hash_all()
    paths.write_text(results / ".unfinished" / "state.npz", "1")
    paths.write_text(results / "bench" / ".arrays.json.abcd1234.wbc.tmp", "1")
    assert hash_all() == before


def test_what_changes_while_a_chapter_is_executed_makes_it_be_executed_again(tmp_path):
    chapter = build.Chapter(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {}, "", "key at the start")
    chapter.target.write_text("executed")
    assert not build._is_current(chapter)
    build._mark_current(chapter)
    assert build._is_current(chapter)
    assert not build._is_current(dataclasses.replace(chapter, key="key now"))


def test_the_table_of_contents_and_the_files_agree():
    listed = {p.removeprefix("book/") for p in PAGES}
    assert listed == {p.stem for p in paths.BOOK.iterdir() if p.suffix in (".ipynb", ".md")}
    assert len(PAGES) == len(set(PAGES))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_a_chapter_is_stripped_has_one_parameters_cell_and_short_cells(path):
    cells = code_cells(path)
    assert not any(c.outputs or c.execution_count for c in cells)
    tagged = [c for c in cells if "parameters" in c.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert {"DATA", "PROFILE"} <= set(re.findall(r"^(\w+) =", tagged[0].source, re.M))
    visible = [c for c in cells if not {"hide-input", "remove-input"} & set(c.metadata.get("tags", []))]
    assert [c.source for c in visible if len(c.source.splitlines()) > 10] == []
    assert [c.source for c in cells if re.search(r"^\s*(class |def |!|%)|pip install", c.source, re.M)] == []


@pytest.mark.parametrize("path", STEPS, ids=lambda p: p.stem)
def test_a_chapter_has_the_sections_in_order(path):
    headings = re.findall(r"^## (.+)$", prose(path).replace("’", "'"), re.M)
    assert headings == SECTIONS


@pytest.mark.parametrize("path", BEYOND, ids=lambda p: p.stem)
def test_a_chapter_beyond_the_paper_has_its_sections_in_order(path):
    assert re.findall(r"^## (.+)$", prose(path), re.M) == SECTIONS_BEYOND


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_figure_has_a_caption_a_name_of_its_own_and_alt_text(path):
    for cell in code_cells(path):
        shown = cell.metadata.get("mystnb", {})
        if re.search(r"figures\.draw_", cell.source.splitlines()[-1] if cell.source else ""):
            assert shown["figure"]["caption"] and shown["figure"]["name"], cell.source
            assert shown["image"]["alt"], cell.source


def test_figure_names_are_unique_in_the_book():
    names = [c.metadata["mystnb"]["figure"]["name"] for p in CHAPTERS for c in code_cells(p) if "mystnb" in c.metadata]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
def test_every_glued_value_in_the_prose_is_made_in_the_same_chapter(path):
    wanted = {k.split(":")[0] for k in re.findall(r"\{glue:text\}`([^`]+)`", prose(path))}
    source = "\n".join(c.source for c in code_cells(path))
    missing = {k for k in wanted if not re.search(rf"\b{re.escape(k)}\b", source)}
    assert missing == set()


def test_a_failing_chapter_is_named_and_leaves_nothing(tmp_path):
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 / 0")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    chapter = build.Chapter(tmp_path / "broken.ipynb", tmp_path / "out" / "broken.ipynb", {}, "")
    chapter.target.parent.mkdir()
    problem = build.execute(chapter)
    assert "broken" in problem
    assert "ZeroDivisionError" in problem
    assert list(chapter.target.parent.iterdir()) == []


def test_a_kernel_that_does_not_start_is_started_again_and_then_given_up(tmp_path, monkeypatch):
    import papermill

    cell = nbformat.v4.new_code_cell("1 + 1")
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=[cell], metadata=kernel), tmp_path / "a.ipynb")
    chapter = build.Chapter(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {}, "")
    really, failures = papermill.execute_notebook, [True, True]

    def execute(*args, **kwargs):
        if failures and failures.pop():
            raise RuntimeError("Kernel died before replying to kernel_info")
        return really(*args, **kwargs)

    monkeypatch.setattr(papermill, "execute_notebook", execute)
    assert build.execute(chapter) is None
    assert not failures and chapter.target.exists()
    failures += [True] * 9
    assert "does not start" in build.execute(chapter)
    failures.clear()
    monkeypatch.setattr(papermill, "execute_notebook", lambda *a, **k: (_ for _ in ()).throw(RuntimeError("other")))
    with pytest.raises(RuntimeError, match="other"):
        build.execute(chapter)


def test_executing_drops_what_is_not_for_readers(tmp_path):
    cell = nbformat.v4.new_code_cell("DATA = ''\nPROFILE = \"quick\"  # which", metadata={"tags": ["parameters"]})
    kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "Python 3"}}
    notebook = nbformat.v4.new_notebook(cells=[cell, nbformat.v4.new_code_cell("DATA")], metadata=kernel)
    nbformat.write(notebook, tmp_path / "a.ipynb")
    chapter = build.Chapter(tmp_path / "a.ipynb", tmp_path / "b.ipynb", {"DATA": "given", "PROFILE": "smoke"}, "")
    assert build.execute(chapter) is None
    text = json.dumps(read(tmp_path / "b.ipynb"))
    assert "given" in text  # the parameter reached the cell's output ...
    assert "injected-parameters" not in text  # ... but the cell that carried it is gone
    assert "papermill" not in text
    # The profile that a reader sees is the one that the page was made with.
    assert read(tmp_path / "b.ipynb").cells[0].source == "DATA = ''\nPROFILE = \"smoke\"  # which"
