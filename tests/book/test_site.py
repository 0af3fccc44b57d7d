import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook
from sphinx.errors import ConfigError

from tests.faults import find_faults
from wbc_lib import paths
from wbc_lib.book import site
from wbc_lib.errors import BookError


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A checkout of its own, so that no build of this one is in the way."""
    monkeypatch.setattr(paths, "BUILD", tmp_path / "_build")
    return tmp_path


@pytest.fixture
def pages(tmp_path):
    """Finished pages that are to be published."""
    (tmp_path / "pages" / "book").mkdir(parents=True)
    (tmp_path / "pages" / "index.html").write_text("front")
    (tmp_path / "pages" / "book" / "a.html").write_text("first")
    return tmp_path / "pages"


def list_all(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()}


#: What somebody else may have in a folder, by name of the file and what is in it; a mark is to list the site's files.
FOREIGN = {
    "a file": {"mine": "x"},
    "a hidden file": {".git": "gitdir: elsewhere"},
    "a file in a folder": {"sub/mine": ""},
    "a site and something else": {"index.html": "front", site.MARK: '{"files": ["index.html"]}', "CNAME": "mine"},
    "a site without its mark": {"index.html": "another program's"},
    "a damaged mark": {"index.html": "front", site.MARK: '{"files": "index.html"'},
    "a mark that lists no names": {site.MARK: '{"files": [1, null]}'},
}


@pytest.mark.parametrize("files", [*FOREIGN.values(), None], ids=[*FOREIGN, "a link that leads nowhere"])
def test_a_folder_with_anything_of_somebody_elses_is_refused_and_left_alone(checkout, pages, files):
    out = checkout / "out"
    out.mkdir()
    for name, text in (files or {}).items():
        (out / name).parent.mkdir(exist_ok=True)
        (out / name).write_text(text)
    if files is None:
        (out / "link").symlink_to("nowhere")
    before = sorted(out.rglob("*"))
    with pytest.raises(BookError, match="--output"), site.claim(out):
        pytest.fail("work was begun")
    with pytest.raises(BookError, match="--output"):
        site.publish(pages, out)
    assert sorted(out.rglob("*")) == before


def test_a_file_in_place_of_the_folder_is_refused(checkout, pages):
    (checkout / "out").write_text("mine")
    with pytest.raises(BookError, match="no folder"):
        site.publish(pages, checkout / "out")
    assert (checkout / "out").read_text() == "mine"


def test_the_command_refuses_before_it_looks_for_data(wbc, tmp_path):
    (tmp_path / "mine").write_text("x")
    done = wbc("book", "--data", tmp_path / "none", "--output", tmp_path)
    assert done.returncode == 1 and "mine" in done.stderr and "data set" not in done.stderr
    assert (tmp_path / "mine").read_text() == "x"


def test_an_earlier_site_is_replaced_whole_and_nothing_beside_it_is_touched(checkout, pages):
    beside = {checkout / "out.tmp", checkout / ".out.tmp", checkout / ".out.old"}
    for folder in beside:
        folder.mkdir()
        (folder / "mine").write_text("x")
        os.utime(folder, (0, 0))
    with site.claim(checkout / "out") as folder:
        site.publish(pages, folder)
    assert {"index.html", "book/a.html"} < set(list_all(checkout / "out"))
    (pages / "book" / "a.html").rename(pages / "book" / "b.html")
    with site.claim(checkout / "out") as folder:
        site.publish(pages, folder)
    assert set(list_all(checkout / "out")) == {"index.html", "book/b.html", site.MARK}
    assert set(checkout.iterdir()) == {*beside, pages, checkout / "out", checkout / "_build"}
    assert all((folder / "mine").exists() for folder in beside)


@pytest.mark.parametrize("given", ["sub/../out", "./out", "link", "out/"])
def test_a_path_is_resolved_before_anything_is_done(checkout, pages, given, monkeypatch):
    monkeypatch.chdir(checkout)
    (checkout / "sub").mkdir()
    (checkout / "link").symlink_to("out")
    with site.claim(Path(given)) as folder:
        monkeypatch.chdir("/")
        site.publish(pages, folder)
    assert (checkout / "out" / "index.html").read_text() == "front"
    assert (checkout / "link").is_symlink()


def test_what_is_put_into_the_folder_while_the_book_is_built_stays(checkout, pages):
    with pytest.raises(BookError, match="late"), site.claim(checkout / "out") as folder:
        folder.mkdir()
        (folder / "late").write_text("x")
        site.publish(pages, folder)
    assert list_all(checkout / "out") == {"late": "x"}


def test_a_site_that_cannot_be_written_leaves_the_earlier_one_and_nothing_else(checkout, pages, full_disk):
    site.publish(pages, checkout / "out")
    earlier = list_all(checkout / "out")
    (pages / "index.html").write_text("x" * 100_000)
    with full_disk(50_000), pytest.raises(BookError, match=r"too large.*make room"):
        site.publish(pages, checkout / "out")
    assert list_all(checkout / "out") == earlier
    assert {p.name for p in checkout.iterdir()} == {"out", "pages"}


def test_a_site_that_cannot_take_its_name_leaves_the_earlier_one(checkout, pages, monkeypatch):
    site.publish(pages, checkout / "out")
    earlier, rename = list_all(checkout / "out"), Path.rename

    def fail(self, target):
        if self.name == "fresh":
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    (pages / "index.html").write_text("new")
    with pytest.raises(BookError, match="busy"):
        site.publish(pages, checkout / "out")
    assert list_all(checkout / "out") == earlier


HOLD = """
import sys, time; from pathlib import Path; from wbc_lib import paths; from wbc_lib.book import site
paths.BUILD = Path(sys.argv[1])
with site.claim(Path(sys.argv[2])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_of_two_builds_in_a_checkout_the_second_is_told_of_the_first_and_a_killed_one_is_in_nobodys_way(checkout):
    command = [sys.executable, "-c", HOLD, str(paths.BUILD), str(checkout / "first")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=paths.ROOT) as first:
        assert first.stdout.readline() == "held\n"
        with pytest.raises(BookError, match="nother build"), site.claim(checkout / "second"):
            pytest.fail("two builds at once")
        first.kill()
    for _ in range(2):
        with site.claim(checkout / "second"):
            pass


#: The page of a chapter with a value, an output, a figure and a table, and its cells, with the names of figures.
WHOLE = """<article class="bd-article"><p>It peaked at <span class="pasted-text">95.8%</span>.</p>
<div class="cell_output"><p class="wbc-basis">Built on</p></div>
<div class="cell_output"><figure id="fig-a"><img alt="a" src="a.png"></figure></div>
<div class="cell_output"><figure id="tab-b"><table><tr><th>n</th><td>1</td></tr></table></figure></div></article>"""
CELLS = {
    "from wbc_lib.book.chapter import open_chapter\nstudy = open_chapter()": "",
    "glue_values(peak=0.958)": "",
    "holds('It peaked', True)": "",
    "draw()": "fig-a",
    "show_table(b)": "tab-b",
}
#: What may go from it, and what is then said to be missing.
GONE = {
    '<span class="pasted-text">95.8%</span>': "values",
    '<div class="cell_output"><p class="wbc-basis">Built on</p></div>': "outputs",
    '<img alt="a" src="a.png">': "fig-a",
    "<table><tr><th>n</th><td>1</td></tr></table>": "tab-b",
    'id="tab-b"': "tab-b",
    'class="bd-article"': "no page",
}


def test_what_is_gone_from_a_page_is_named(tmp_path):
    cells = [new_markdown_cell("It peaked at {glue:text}`peak:.1%`.")]
    for source, name in CELLS.items():
        cells.append(new_code_cell(source, metadata={"mystnb": {"figure": {"name": name}}} if name else {}))
    nbformat.write(new_notebook(cells=cells), tmp_path / "a.ipynb")

    def find(page: str, picture: bytes | None = b"picture") -> list[str]:
        (tmp_path / "a.html").write_text(page)
        (tmp_path / "a.png").unlink(missing_ok=True)
        if picture is not None:
            (tmp_path / "a.png").write_bytes(picture)
        return find_faults(tmp_path, ["a"], tmp_path)

    assert find(WHOLE) == []
    for gone, said in GONE.items():
        assert gone in WHOLE and any(said in fault for fault in find(WHOLE.replace(gone, ""))), gone
    assert len(find(WHOLE, picture=b"")) == len(find(WHOLE, picture=None)) == len(find("")) == 1
    (tmp_path / "a.html").unlink()
    assert len(find_faults(tmp_path, ["a"], tmp_path)) == 1


@pytest.fixture
def move(tmp_path):
    """Write redirects among two pages that are there; returns the folder of the pages."""
    (tmp_path / "book").mkdir()
    (tmp_path / "book" / "new.html").write_text('<h1 id="top">New</h1><h2 id="a-place">A place</h2>')

    def write(pages: dict[str, str]) -> Path:
        builder = SimpleNamespace(get_target_uri=lambda page: f"{page}.html")
        config, env = SimpleNamespace(moved_pages=pages), SimpleNamespace(found_docs={"book/new", "book/other"})
        site.write_redirects(SimpleNamespace(config=config, env=env, builder=builder, outdir=tmp_path), None)
        return tmp_path / "book"

    return write


@pytest.mark.parametrize(
    ("new", "asked", "reached"),
    [
        ("book/new", "old.html", "new.html"),
        ("book/new#a-place", "old.html", "new.html#a-place"),
        ("book/new#a-place", "old.html#run-1", "new.html#run-1"),
    ],
)
def test_an_old_address_leads_to_the_new_one_and_to_the_place_on_it(chromium, move, new, asked, reached):
    address = f"{move({'book/old': new}).as_uri()}/{asked}"

    def follow(browser, **options):
        tab = browser.new_page(**options)
        tab.goto(address)
        tab.wait_for_url("**/new.html*")
        found = tab.url.rpartition("/")[2]
        tab.close()
        return found

    assert chromium(follow) == reached
    alone = new.removeprefix("book/").replace("new", "new.html")  # without scripts nothing knows what was asked for
    assert chromium(lambda browser: follow(browser, java_script_enabled=False)) == alone


def test_pages_of_chapters_that_nobody_has_executed_are_not_made():
    with pytest.raises(ConfigError, match="make book"):
        site.setup(None)


@pytest.mark.parametrize("pages", [{"book/old": "book/gone"}, {"book/new": "book/new"}, {"book/old": "book/new#gone"}])
def test_an_old_address_that_leads_nowhere_stops_the_build(move, pages):
    with pytest.raises(Exception, match="which is not so"):
        move(pages)
