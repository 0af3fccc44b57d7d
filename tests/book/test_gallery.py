import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.book import gallery
from wbc_lib.data.dataset import CLASSES, index_photos
from wbc_lib.training.experiments import PROFILES
from wbc_lib.training.runs import Store
from wbc_lib.training.study import Study


def make_run(seed, photos, copies=3):
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(photos)) % 4 + 1, copies)
    probabilities = rng.dirichlet(np.ones(5) / 3, len(labels))
    names = np.array([f"{photo}-{copy}" for photo in photos for copy in range(copies)])
    parts = {
        "labels": labels,
        "predicted": probabilities.argmax(axis=1),
        "probabilities": probabilities,
        "names": names,
    }
    return SimpleNamespace(**{name: lambda part, value=value: value for name, value in parts.items()})


def make_table(photos, copies=3):
    rows = [(f"{photo}-{copy}", photo) for photo in photos for copy in range(copies)]
    return pd.DataFrame(rows, columns=["image", "photo"])


@given(st.lists(st.integers(0, 99), min_size=1, max_size=6, unique=True), st.integers(1, 3))
def test_a_photo_is_scored_by_the_means_over_its_copies_and_runs(photos, n_runs):
    photos = sorted(photos)
    runs = [make_run(seed, photos) for seed in range(n_runs)]
    found = gallery.score_photos(runs, make_table(photos))
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
    return {"Final <model>": gallery.score_photos([make_run(0, photos)], table)} | {
        "Other": gallery.score_photos([make_run(1, photos)], table)
    }


def test_without_the_photos_cards_stand_in_their_place_and_the_figures_stay(study, models):
    html = gallery.show(replace(study, results_of="0" * 64), models).data
    assert "<img" not in html and html.count("<li ") == 12
    told = json.loads(re.search(r'json">(.*?)</script>', html, re.S).group(1))
    for title, table in models.items():
        shares = pd.DataFrame.from_dict(told["models"][title], orient="index").iloc[:, :5]
        said = shares.to_numpy().argmax(axis=1)
        true = [told["photos"][photo]["cell"] for photo in shares.index]
        names = list(told["outputs"])
        wrong = sum(names[s] != t for s, t in zip(said, true, strict=True))
        assert wrong == (~table.is_right).sum()
    assert gallery.show(study, {}).data.startswith("<p>No run")


def test_boxes_are_shares_of_the_photo(study):
    boxes = gallery.find_boxes(study.data)
    assert boxes
    for left, top, width, height in (box for some in boxes.values() for box in some):
        assert 0 <= left < left + width <= 100.2 and 0 <= top < top + height <= 100.2


@pytest.fixture(scope="module")
def page(study, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(paths.BOOK / "_static" / "gallery", folder / "gallery")
    head = '<link rel="stylesheet" href="gallery/gallery.css"><script defer src="gallery/gallery.js"></script>'
    html = gallery.show(study, models).data
    # As the theme has it in the dark: a margin inside every picture, which must not move it away from under its box.
    theme = "<style>html[data-theme=dark] .bd-content div.cell_output img { padding: 0.5rem }</style>"
    body = f'<body class="bd-content"><div class="cell_output">{html}</div>'
    start = '<!doctype html><html lang=en data-theme="dark"><meta charset=utf-8><title>.</title>'
    (folder / "page.html").write_text(start + theme + head + body)
    return folder / "page.html"


def test_tiles_are_filtered_and_opened(chromium, page, models):  # noqa: F811
    first, other = models.values()

    def look(browser):
        tab, seen = browser.new_page(), []
        tab.on("pageerror", lambda error: seen.append(str(error)))
        tab.goto(page.as_uri())
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
