import hashlib
import json
import re
import shutil

import nbformat
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from plotly.offline import get_plotlyjs_version

from tests import browsing, made_predictions
from wbc_lib import figures, paths
from wbc_lib.evaluation import calibration, scores
from wbc_lib.figures import interactive

SHA256 = "99784e3abfb07b142a15e521a439e6d9addceadb3f79553fd24c72774f0649ba"
EXPLORE = paths.BOOK / "_static" / "explore"
TITLES = ("Baseline CNN", "<Final> model")


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
def parts():
    return {"validation": made_predictions.make(seed=1, alike=0.1), "TEST": made_predictions.make(seed=2)}


@pytest.fixture(scope="module")
def marked(parts):
    return calibration.find_threshold(parts["validation"], 0.95)


@pytest.fixture(scope="module")
def embedded(parts, marked):
    """All four figures as the page has them, by name."""
    histories = make_histories()
    table = interactive.tabulate_thresholds(parts, marked)
    matrix, menus = interactive.draw_confusion(make_matrices(), "<Final> model")
    thresholds, slider = interactive.draw_thresholds(table, marked, 0.95)
    scores = {t: pd.DataFrame({"validation": [0.9, 0.8], "test": [0.7, 0.6]}, index=[0, 1]) for t in TITLES}
    agreement = interactive.draw_agreement(scores)
    still = figures.draw_missing("a still picture")
    drawn = {
        "curves": (interactive.draw_curves(histories, TITLES), []),
        "matrix": (matrix, menus),
        "thresholds": (thresholds, slider),
        "agreement": (agreement, []),
    }
    return {name: interactive.embed(f, still, f'"{name}"', c).data for name, (f, c) in drawn.items()}


# In the browser -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def page(embedded, tmp_path_factory):
    """The page's own head, and the figures, without the theme."""
    site = tmp_path_factory.mktemp("site")
    shutil.copytree(EXPLORE, site / "_static" / "explore")
    cells = nbformat.read(paths.BOOK / "explore.ipynb", 4).cells
    head = "".join(re.findall(r"^<(?:link|script).*$", cells[0].source, re.M))
    assert head.count("<script defer src=") == 2
    body = "".join(f'<section id="{name}">{html}</section>' for name, html in embedded.items())
    target = site / "book" / "explore.html"
    target.parent.mkdir()
    target.write_text(f"<!doctype html><html lang=en><meta charset=utf-8><title>.</title>{head}{body}")
    return target


@pytest.fixture(scope="module")
def opened(chromium, page):
    """The page opened once for all tests, and what the browser complained of or asked of a network."""
    flaws = []

    def open_page(browser):
        tab = browser.new_page()
        browsing.watch(tab, "page", flaws)
        tab.goto(page.as_uri(), wait_until="load")
        tab.wait_for_function("document.querySelectorAll('.wbc-plot.is-live').length === 4")
        return tab

    tab = chromium(open_page)
    yield tab, flaws
    chromium(lambda _: tab.close())


@pytest.fixture
def do(chromium, opened):
    """Run a function of the opened page, wide, light and on a screen; each test leaves its figure as it likes."""
    tab, flaws = opened
    chromium(lambda _: tab.set_viewport_size({"width": 1000, "height": 900}))
    chromium(lambda _: tab.emulate_media(media="screen", reduced_motion="no-preference"))
    chromium(lambda _: tab.evaluate("document.documentElement.dataset.theme = 'light'"))
    yield lambda act: chromium(lambda _: act(tab))
    assert flaws == []


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


def test_the_slider_moves_the_line_and_reads_out_what_is_decided(do, parts, marked):
    line = "document.querySelector('#thresholds .shapelayer path').getAttribute('d')"
    start = see(do, line)
    assert do(lambda tab: tab.inner_text("#thresholds output")).startswith(f"{marked:.1%}: validation")
    do(lambda tab: tab.locator("#thresholds [type=range]").press("Home"))
    do(lambda tab: tab.wait_for_function(f"{line} !== {json.dumps(start)}"))
    # To the left end of the scale, and upright.
    edges = "(({left, width}) => [left, width])(document.querySelector('#thresholds %s').getBoundingClientRect())"
    (left, width), (scale, _) = see(do, edges % ".shapelayer path"), see(do, edges % ".nsewdrag")
    assert abs(left - scale) < 4 and width < 4
    said = do(lambda tab: tab.inner_text("#thresholds output"))
    right = [f"{part} 100.0% decided, {p.right.mean():.1%} of them right" for part, p in parts.items()]
    assert said == f"20.0%: {'; '.join(right)}."
    assert do(lambda tab: tab.get_attribute("#thresholds [type=range]", "aria-valuetext")) == said


def test_the_menus_change_the_model_and_the_unit(do):
    shown = "[...document.querySelectorAll('#matrix .barlayer .bartext')].map((t) => t.textContent)"
    matrices = make_matrices()
    assert see(do, shown) == [f"{n:,}" for n in matrices["<Final> model"][:, :4].ravel()]
    do(lambda tab: tab.locator("#matrix select").nth(0).select_option(label="Baseline CNN"))
    do(lambda tab: tab.locator("#matrix select").nth(1).select_option(label="row percentages"))
    do(lambda tab: tab.wait_for_function(f"{shown}[0] === '80.0%'"))
    counts = matrices["Baseline CNN"][:, :4]
    assert see(do, shown) == [f"{s:.1%}" for s in (counts / counts.sum(axis=1, keepdims=True)).ravel()]


def test_pointing_at_a_mark_lists_the_seeds(do):
    mark = "#agreement .scatterlayer .trace:nth-child(2) .point"
    do(lambda tab: tab.locator(mark).hover(force=True))
    do(lambda tab: tab.wait_for_selector("#agreement .hovertext"))
    text = do(lambda tab: tab.locator("#agreement .hovertext").first.text_content())
    assert "seed 0: validation 90.0%, TEST 70.0%" in text
    assert "seed 1: validation 80.0%, TEST 60.0%" in text


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
        assert see(do, "document.querySelector('#matrix .main-svg').getBoundingClientRect().height") == 480
    see(do, "document.documentElement.dataset.theme = 'dark'")  # black text stays on white
    assert (
        see(do, "getComputedStyle(document.querySelector('.js-plotly-plot')).backgroundColor") == "rgb(255, 255, 255)"
    )
    assert see(do, "document.querySelectorAll('.modebar-btn, .plotlyjsicon').length") == 0


def test_nothing_moves_by_itself_and_paper_has_the_still_pictures(do):
    moving = "document.getAnimations().filter((a) => a.playState === 'running').length"
    do(lambda tab: tab.emulate_media(reduced_motion="reduce"))
    do(lambda tab: tab.locator("#thresholds [type=range]").press("End"))
    assert see(do, moving) == 0
    still = "[...document.querySelectorAll('.wbc-plot-still')].every((i) => i.offsetWidth > 0)"
    live = "[...document.querySelectorAll('.wbc-plot-live')].some((i) => i.offsetWidth > 0)"
    assert (see(do, still), see(do, live)) == (False, True)
    do(lambda tab: tab.emulate_media(media="print"))
    assert (see(do, still), see(do, live)) == (True, False)


def test_without_scripts_the_still_pictures_are_there(chromium, page):
    def look(browser):
        tab = browser.new_context(java_script_enabled=False).new_page()
        tab.goto(page.as_uri())
        images = tab.locator(".wbc-plot-still")
        return [images.nth(i).is_visible() for i in range(images.count())], tab.locator(
            ".wbc-plot-live:visible"
        ).count()

    assert chromium(look) == ([True] * 4, 0)


# Data -----------------------------------------------------------------------------------------------------------------


def test_curves_are_means_within_their_range_and_others_wait_in_the_legend():
    histories = make_histories()
    figure = interactive.draw_curves(histories, [TITLES[1], "never run"])
    lines = [t for t in figure.data if t.fill is None]
    assert [t.visible for t in lines] == ["legendonly"] * 2 + [True] * 2
    assert [t.showlegend for t in figure.data].count(True) == len(TITLES)
    expected = np.mean([h.val_accuracy for h in histories[TITLES[1]]], axis=0)
    np.testing.assert_allclose(lines[3].y, expected, atol=5e-5)
    table = np.array([h.val_accuracy for h in histories[TITLES[1]]])
    np.testing.assert_allclose(figure.data[-2].y, [*table.max(axis=0), *table.min(axis=0)[::-1]], atol=5e-5)
    assert all(t.visible is True for t in interactive.draw_curves(histories, []).data)


def test_of_one_seed_there_is_no_band():
    assert len(interactive.draw_curves(make_histories(seeds=1), []).data) == 2 * len(TITLES)


def test_sixteen_experiments_can_be_told_apart():
    data = interactive.draw_curves(make_histories([str(i) for i in range(16)], seeds=1), []).data
    assert len({(t.line.color, t.line.dash) for t in data}) == 16


def test_a_prediction_of_no_class_has_its_column():
    matrix = scores.confusion(np.array([1, 2, 3, 4]), np.array([1, 2, 0, 4]))
    figure, _ = interactive.draw_confusion({"a": matrix}, "a")
    assert figure.data[0].x[-1] == "none"
    shares = np.array([share for share, _ in figure.data[0].customdata]).reshape(4, 5)
    assert shares[2].tolist() == [0, 0, 0, 0, 1]
    assert figure.data[0].base == tuple(np.repeat(range(4), 5))  # row by row


@given(seed=st.integers(0, 30), wanted=st.sampled_from([0.5, 0.9, 0.99]))
def test_the_table_of_thresholds_is_what_counting_gives(seed, wanted):
    predictions = made_predictions.make(seed=seed, alike=1.0)
    marked = calibration.find_threshold(predictions, wanted)
    table = interactive.tabulate_thresholds({"a": predictions}, marked)
    for threshold, row in list(table.iterrows())[::20]:
        decided = [r for c, r in zip(predictions.confidence, predictions.right, strict=True) if c >= threshold]
        assert row["a", "coverage"] == pytest.approx(len(decided) / len(predictions))
        assert (
            np.isnan(row["a", "accuracy"]) if not decided else row["a", "accuracy"] == pytest.approx(np.mean(decided))
        )
    if marked <= 1:
        assert table.loc[marked]["a", "accuracy"] >= wanted
        assert table.loc[marked]["a", "coverage"] == (predictions.confidence >= marked).mean()


def test_without_a_threshold_there_is_no_mark_and_without_runs_an_empty_figure(parts):
    table = interactive.tabulate_thresholds(parts, np.nextafter(1, 2))
    figure, (slider,) = interactive.draw_thresholds(table, np.nextafter(1, 2), 0.99)
    assert len(figure.layout.shapes) == 1 and not figure.layout.annotations
    assert slider.choices[slider.start].name.startswith("50.0%")
    empty, _ = interactive.draw_thresholds(interactive.tabulate_thresholds({}, 2.0), 2.0, 0.99)
    assert len(empty.data) == len(interactive.draw_agreement({}).data) == len(interactive.draw_curves({}, []).data) == 0
    assert len(interactive.draw_confusion({}, "a")[0].data) == 0


def test_a_still_picture_has_every_line_and_its_name(parts, marked):
    figure, _ = interactive.draw_thresholds(interactive.tabulate_thresholds(parts, marked), marked, 0.95)
    still = interactive.draw_still(figure)
    assert isinstance(still, Figure)
    lines = still.axes[0].lines
    for line, drawn in zip(figure.data, lines, strict=False):
        np.testing.assert_allclose(drawn.get_ydata(), np.array(line.y, float))
    assert [t.get_text() for t in still.legends[0].texts] == [t.name for t in figure.data]


# On the page ----------------------------------------------------------------------------------------------------------


def test_what_is_embedded_is_json_in_a_page_that_it_cannot_break(embedded):
    for name, html in embedded.items():
        (data,) = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
        assert "<" not in data
        assert {"data", "layout", "controls"} <= set(json.loads(data))
        assert f'alt="&quot;{name}&quot;"' in html
        assert not re.search(r"https?://", html)


def test_what_is_not_ours_is_the_release_that_fits_the_installed_package_with_its_licence():
    (script,) = EXPLORE.glob("*.min.js")
    assert hashlib.sha256(script.read_bytes()).hexdigest() == SHA256
    version = get_plotlyjs_version()  # if the package moved on: take the file of its version, and its hash
    assert script.read_text(encoding="utf-8").startswith(f"/**\n* plotly.js (basic - minified) v{version}\n")
    licences = (EXPLORE / "LICENSES.txt").read_text(encoding="utf-8")
    assert f"{script.name} is the file of that name in plotly.js-basic-dist-min {version}" in licences
    assert "MIT License" in licences
