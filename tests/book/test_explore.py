import hashlib
import json
import re
import shutil
from dataclasses import replace

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs_version

from tests.made_predictions import made_run
from wbc_lib import figures, paths
from wbc_lib.book import explore
from wbc_lib.data.dataset import CLASSES, index_photos
from wbc_lib.evaluation import scores
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study

SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
EXPLORE = paths.BOOK / "_static" / "explore"
TITLES = ("Baseline CNN", "<Final> model")


# Every photo ----------------------------------------------------------------------------------------------------------


def make_run(seed, photos):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(photos)) % 4 + 1, 3)
    probabilities = rng.dirichlet(np.ones(5) / 3, len(labels))
    return made_run(make_table(photos).image, labels, probabilities.argmax(axis=1), probabilities)


def make_table(photos):
    rows = [(f"{photo}-{copy}", photo) for photo in photos for copy in range(3)]
    return pd.DataFrame(rows, columns=["image", "photo"])


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True), st.integers(1, 3))
def test_a_photo_is_scored_by_the_means_over_its_copies_and_runs(photos, n_runs):
    photos = sorted(photos)
    runs = [make_run(seed, photos) for seed in range(n_runs)]
    found = explore.score_photos(runs, make_table(photos))
    for i, photo in enumerate(photos):
        own = np.concatenate([run.probabilities("test")[3 * i : 3 * i + 3] for run in runs])
        label = i % 4 + 1
        np.testing.assert_allclose(found.loc[photo, ["none", *CLASSES]].to_numpy(float), own.mean(axis=0))
        right = np.mean([run.predicted("test")[3 * i : 3 * i + 3] == label for run in runs])
        assert found.right[photo] == pytest.approx(right)
        assert (found.copies[photo], found.cell[photo]) == (3, CLASSES[label - 1])
        assert found.is_right[photo] == (own.mean(axis=0).argmax() == label)


@pytest.fixture(scope="module")
def study(phantom_set, tmp_path_factory):
    return Study(phantom_set, PROFILES["smoke"], Store(tmp_path_factory.mktemp("runs")))


@pytest.fixture(scope="module")
def models(study):
    index = index_photos(study.data)
    photos = [int(p) for p in index.index[(index.kind == "single") & index.has_photo][:12]]
    table = make_table(photos)
    return {"Final <model>": explore.score_photos([make_run(0, photos)], table)} | {
        "Other": explore.score_photos([make_run(1, photos)], table)
    }


def test_without_the_photos_cards_stand_in_their_place_and_the_figures_stay(study, models):
    html = explore.show_photos(replace(study, results_of="0" * 64), models).data
    assert "<img" not in html and html.count("<li ") == 12
    told = json.loads(re.search(r'json">(.*?)</script>', html, re.S).group(1))
    for title, table in models.items():
        shares = pd.DataFrame.from_dict(told["models"][title], orient="index").iloc[:, :5]
        said = shares.to_numpy().argmax(axis=1)
        true = [told["photos"][photo]["cell"] for photo in shares.index]
        names = list(told["outputs"])
        wrong = sum(names[s] != t for s, t in zip(said, true, strict=True))
        assert wrong == (~table.is_right).sum()
    assert explore.show_photos(study, {}).data.startswith("<p>No run")


def test_boxes_are_shares_of_the_photo(study):
    boxes = explore.find_boxes(study.data)
    assert boxes
    for left, top, width, height in (box for some in boxes.values() for box in some):
        assert 0 <= left < left + width <= 100.2 and 0 <= top < top + height <= 100.2


@pytest.fixture(scope="module")
def gallery(study, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(paths.BOOK / "_static" / "gallery", folder / "gallery")
    head = '<link rel="stylesheet" href="gallery/gallery.css"><script defer src="gallery/gallery.js"></script>'
    html = explore.show_photos(study, models).data
    # As the theme has it in the dark: a margin inside every picture, which must not move it away from under its box.
    theme = "<style>html[data-theme=dark] .bd-content div.cell_output img { padding: 0.5rem }</style>"
    body = f'<body class="bd-content"><div class="cell_output">{html}</div>'
    start = '<!doctype html><html lang=en data-theme="dark"><meta charset=utf-8><title>.</title>'
    (folder / "page.html").write_text(start + theme + head + body)
    return folder / "page.html"


def test_tiles_are_filtered_and_opened(chromium, gallery, models):
    first, other = models.values()

    def look(browser):
        tab, seen = browser.new_page(), []
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.goto(gallery.as_uri())
        cell, outcome, model = (tab.locator("select").nth(i) for i in range(3))
        count = tab.locator("output")
        seen.append(count.inner_text())
        outcome.select_option("wrong")
        seen.append(count.inner_text())
        model.select_option("Other")
        seen.append(count.inner_text())
        cell.select_option("Neutrophil")
        seen.append(tab.locator("li:visible").count())
        outcome.select_option("all")
        tab.locator("li:visible button").first.focus()
        tab.keyboard.press("Enter")
        seen.append(tab.locator("dialog h2").inner_text())
        seen.append(tab.locator("dialog img").get_attribute("alt"))
        box, image = (tab.locator(f"dialog {part}").first.bounding_box() for part in ("i", "img"))
        seen.append(image["x"] <= box["x"] and box["x"] + box["width"] <= image["x"] + image["width"] + 4)
        seen.append(tab.locator("dialog .wbc-bar").count())
        seen.append(tab.locator("dialog img").evaluate("image => getComputedStyle(image).padding"))
        tab.keyboard.press("Escape")
        seen.append(tab.locator("dialog").is_visible())
        tab.close()
        return seen

    neutrophils = other[other.cell == "NEUTROPHIL"]
    number, said = neutrophils.index[0], neutrophils.iloc[0]
    assert chromium(look) == [
        "12 of 12 photos shown",
        f"{(~first.is_right).sum()} of 12 photos shown",
        f"{(~other.is_right).sum()} of 12 photos shown",
        (~neutrophils.is_right).sum(),
        f"Photo {number}: Neutrophil",
        f"Photo {number}: Neutrophil.",
        True,
        4 + (said.none >= 0.0005),
        "0px",
        False,
    ]


# Curves and matrices --------------------------------------------------------------------------------------------------


def make_histories(titles=TITLES, seeds=3, epochs=6):
    rng = np.random.default_rng(0)
    return {
        title: [
            pd.DataFrame({"epoch": np.arange(1, epochs + 1), **dict(zip(("accuracy", "val_accuracy"), r, strict=True))})
            for r in rng.uniform(0.2, 0.9, (seeds, 2, epochs))
        ]
        for title in titles
    }


def make_matrices():
    first = np.array([[8, 1, 1, 0, 0], [2, 6, 0, 0, 0], [0, 0, 1200, 0, 0], [0, 3, 0, 1, 0]])
    return {"Baseline CNN": first, "<Final> model": first[::-1].copy()}


@pytest.fixture(scope="module")
def embedded():
    """The curves and the matrices as the page has them, by name."""
    curves = explore.draw_curves(make_histories(), TITLES)
    still = figures.draw_missing("a still picture")
    shown = explore.embed(curves, still, '"curves"'), explore.show_matrices(make_matrices())
    return {name: html.data for name, html in zip(("curves", "matrix"), shown, strict=True)}


# Curves and matrices in the browser -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(embedded, tmp_path_factory):
    """The page's own head, and the figures, without the theme."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(EXPLORE, site / "_static" / "explore")
    cells = nbformat.read(paths.BOOK / "explore.ipynb", 4).cells
    head = "".join(re.findall(r"^<(?:link|script).*$", cells[0].source, re.M))
    head = re.sub(r"<[^>]*/gallery/[^>]*>(</script>)?", "", head)
    assert head.count("<script defer src=") == 1
    body = "".join(f'<section id="{name}">{html}</section>' for name, html in embedded.items())
    target = site / "book" / "explore.html"
    target.parent.mkdir()
    target.write_text(f"<!doctype html><html lang=en><meta charset=utf-8><title>.</title>{head}{body}")
    return target


@pytest.fixture(scope="module")
def do(open_page, page):
    """Run a function of the page, opened once: what a test changes is not what a later one looks at."""
    with open_page(page, viewport={"width": 1000, "height": 900}) as do:
        do(lambda tab: tab.wait_for_function("document.querySelectorAll('.wbc-plot.is-live').length === 1"))
        yield do


def see(do, script):
    return do(lambda tab: tab.evaluate(script))


LINES = "document.querySelectorAll('#curves .scatterlayer .js-line').length"


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_an_entry_of_the_legend_hides_its_experiment_and_shows_it_again(do, by):
    before = see(do, LINES)
    assert before >= 4

    def press(tab):
        toggle = tab.locator("#curves .legendtoggle").first
        toggle.click() if by == "mouse" else toggle.press("Enter")

    do(press)
    do(lambda tab: tab.wait_for_function(f"{LINES} === {before // 2}"))
    do(lambda tab: tab.wait_for_timeout(400))  # not to be taken for a double click
    do(press)
    do(lambda tab: tab.wait_for_function(f"{LINES} === {before}"))


def test_the_menu_picks_a_matrix(do):
    def read(tab):
        return [cell.split()[0] for cell in tab.locator("#matrix table:visible td").all_inner_texts()]

    matrices = make_matrices()
    assert do(read) == [f"{n:,}" for n in matrices["Baseline CNN"][:, :4].ravel()]
    do(lambda tab: tab.locator("#matrix select").select_option(label="<Final> model"))
    assert do(read) == [f"{n:,}" for n in matrices["<Final> model"][:, :4].ravel()]


def test_figures_are_as_wide_as_the_column_and_legible_in_the_dark(do):
    for width, room in ((1000, 0), (1000, 40), (700, 0), (360, 0)):
        do(lambda tab, width=width: tab.set_viewport_size({"width": width, "height": 800}))
        see(do, f"document.body.style.padding = '0 {room}px'")  # as the dark theme does, with the window as it was
        do(
            lambda tab: tab.wait_for_function(
                "[...document.querySelectorAll('.wbc-plot')].every((box) => Math.abs("
                "box.querySelector('.main-svg').getBoundingClientRect().width - box.clientWidth) < 2)"
            )
        )
        assert see(do, "document.documentElement.scrollWidth - document.documentElement.clientWidth") == 0
        assert see(do, "document.querySelector('#curves .main-svg').getBoundingClientRect().height") == 760
    see(do, "document.documentElement.dataset.theme = 'dark'")  # black text stays on white
    assert (
        see(do, "getComputedStyle(document.querySelector('.js-plotly-plot')).backgroundColor") == "rgb(255, 255, 255)"
    )
    assert see(do, "document.querySelectorAll('.modebar-btn, .plotlyjsicon').length") == 0


def test_nothing_moves_by_itself_and_paper_has_the_still_pictures(do):
    moving = "document.getAnimations().filter((a) => a.playState === 'running').length"
    do(lambda tab: tab.emulate_media(reduced_motion="reduce"))
    do(lambda tab: tab.locator("#curves .legendtoggle").first.press("Enter"))
    assert see(do, moving) == 0
    still = "[...document.querySelectorAll('.wbc-plot-still')].every((i) => i.offsetWidth > 0)"
    live = "[...document.querySelectorAll('.wbc-plot-live')].some((i) => i.offsetWidth > 0)"
    assert (see(do, still), see(do, live)) == (False, True)
    do(lambda tab: tab.emulate_media(media="print"))
    assert (see(do, still), see(do, live)) == (True, False)


def test_without_scripts_the_still_pictures_are_there(open_page, page):
    shown = [".wbc-plot-still:visible", ".wbc-plot-live:visible", "table:visible", "select:visible"]
    with open_page(page, java_script_enabled=False) as do:
        assert do(lambda tab: [tab.locator(what).count() for what in shown]) == [1, 0, 1, 0]


def test_the_library_is_not_fetched_before_its_figure_is_near(open_page, page):
    far = page.with_name("far.html")
    far.write_text(page.read_text().replace('id="curves"', 'id="curves" style="margin-top: 5000px"'))
    with open_page(far) as do:
        do(lambda tab: tab.wait_for_timeout(300))
        assert see(do, "typeof Plotly") == "undefined"
        do(lambda tab: tab.locator("#curves").scroll_into_view_if_needed())
        do(lambda tab: tab.wait_for_function("document.querySelector('.wbc-plot.is-live')"))


# Data -----------------------------------------------------------------------------------------------------------------


def test_curves_are_means_within_their_range_and_others_wait_in_the_legend():
    histories = make_histories()
    figure = explore.draw_curves(histories, [TITLES[1], "never run"])
    lines = [t for t in figure.data if t.fill is None]
    assert [t.visible for t in lines] == ["legendonly"] * 2 + [True] * 2
    assert [t.showlegend for t in figure.data].count(True) == len(TITLES)
    expected = np.mean([h.val_accuracy for h in histories[TITLES[1]]], axis=0)
    np.testing.assert_allclose(lines[3].y, expected, atol=5e-5)
    table = np.array([h.val_accuracy for h in histories[TITLES[1]]])
    np.testing.assert_allclose(figure.data[-2].y, [*table.max(axis=0), *table.min(axis=0)[::-1]], atol=5e-5)
    assert all(t.visible is True for t in explore.draw_curves(histories, []).data)
    many = explore.draw_curves(make_histories([str(i) for i in range(16)], seeds=1), []).data
    assert len({(t.line.color, t.line.dash) for t in many}) == 16
    assert len(explore.draw_curves({}, []).data) == 0


def test_a_prediction_of_no_class_has_its_column():
    matrix = scores.confusion(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]))
    rows = BeautifulSoup(explore.show_matrices({"a": matrix}).data, "html.parser").find_all("tr")
    assert rows[0].find_all("th")[-1].get_text() == "none"
    assert [cell.get_text(" ", strip=True) for cell in rows[3].find_all("td")] == ["0 0.0%"] * 4 + ["1 100.0%"]
    assert "none" not in explore.show_matrices(make_matrices()).data


# On the page ----------------------------------------------------------------------------------------------------------


def test_what_is_embedded_is_json_in_a_page_that_it_cannot_break(embedded):
    (data,) = re.findall(r'<script type="application/json">(.*?)</script>', embedded["curves"], re.S)
    assert "<" not in data
    assert {"data", "layout"} <= set(json.loads(data))
    assert 'alt="&quot;curves&quot;"' in embedded["curves"]
    assert "&lt;Final&gt;" in embedded["matrix"] and "<Final>" not in embedded["matrix"]
    assert not re.search(r"https?://", "".join(embedded.values()))


def test_what_is_not_ours_is_the_release_that_fits_the_installed_package_with_its_licence():
    (script,) = EXPLORE.glob("*.min.js")
    assert hashlib.sha256(script.read_bytes()).hexdigest() == SHA256
    version = get_plotlyjs_version()  # if the package moved on: take the file of its version, and its hash
    assert script.read_text(encoding="utf-8").startswith(f"/**\n* plotly.js (basic - minified) v{version}\n")
    licences = (EXPLORE / "LICENSES.txt").read_text(encoding="utf-8")
    assert f"{script.name} is the file of that name in plotly.js-basic-dist-min {version}" in licences
    assert "MIT License" in licences
