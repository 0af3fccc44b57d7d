import pytest
from bs4 import BeautifulSoup

from wbc_lib.book import print_version

PAGE = """<html><head><script>1</script></head><body><nav>no</nav>
<article class="bd-article"><section id="{slug}-title">
<h1>{title}<a class="headerlink" href="#x">#</a></h1>
<p class="wbc-basis">Built on {title}.</p>
<p id="same">See <a href="b.html">B</a>, <a href="b.html#same">its part</a>, <a href="#same">here</a>,
<a href="../index.html">elsewhere</a> and <a href="https://example.org/#a">the net</a>.</p>
<img src="../_images/{slug}.png" alt="A"><button>Press</button><details class="hide"><pre>folded</pre></details>
<details><summary>More</summary><p>said</p></details><div class="wbc-plot-live">live</div></section></article></body>
</html>"""


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "site"
    (folder / "book").mkdir(parents=True)
    for slug in "ab":
        (folder / "book" / f"{slug}.html").write_text(PAGE.format(slug=slug, title=f"Page {slug.upper()}"))
    return folder


def make(site):
    return print_version.write(site, ["book/a", "book/b"], "A <book>", site.parent / "kept").read_text()


def test_links_between_pages_lead_within_the_page_and_ids_stay_apart(site):
    page = BeautifulSoup(make(site), "html.parser")
    ids = [part["id"] for part in page.find_all(id=True)]
    links = [part["href"] for part in page.find_all("a")]
    assert len(ids) == len(set(ids))
    inner = [link[1:] for link in links if link.startswith("#")]
    assert set(inner) <= set(ids)
    assert inner.count("b--same") == 3  # from both pages, and from b's own "here"
    assert sorted(link for link in links if not link.startswith("#")) == [
        *["https://example.org/#a"] * 2,
        *["index.html"] * 2,
    ]
    assert [part["src"] for part in page.find_all("img")] == ["_images/a.png", "_images/b.png"]


def test_what_paper_has_no_use_for_is_left_out(site):
    text = make(site)
    assert "<script" not in text and "<button" not in text
    assert "folded" not in text and "live" not in text and ">no<" not in text
    assert '<details open="">' in text and "A &lt;book&gt;" in text
    assert text.count("Built on Page A.") == 2  # on its page and on the title page
    assert '<li><a href="#b">Page B</a></li>' in text


def test_only_what_has_changed_is_taken_over_anew(site):
    before = make(site)
    kept = site.parent / "kept"
    times = {p.name: p.stat().st_mtime_ns for p in kept.iterdir()}
    written = (site / print_version.PAGE).stat().st_mtime_ns
    assert make(site) == before
    assert (site / print_version.PAGE).stat().st_mtime_ns == written
    (site / "book" / "b.html").write_text(PAGE.format(slug="b", title="Another"))
    assert "Another" in make(site)
    assert {p.name for p in kept.iterdir() if p.stat().st_mtime_ns != times[p.name]} == {"b.html"}
