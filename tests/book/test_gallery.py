import base64
import json
import re
import shutil
from dataclasses import replace
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import paths
from wbc_lib.book import gallery
from wbc_lib.data.dataset import CLASSES, index_photos
from wbc_lib.errors import BadDataError
from wbc_lib.prediction import picture
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


def test_the_veil_is_thin_where_there_is_attention():
    attention = np.zeros((60, 80))
    attention[52:56, 8:12] = 1
    thick = gallery.veil(attention)[..., 3]
    assert thick.shape == gallery.GRID[::-1]
    assert np.argwhere(thick < 166).tolist() == [[13, 2]] and thick.min() == 0
    assert (gallery.veil(np.zeros((60, 80)))[..., 3] == 166).all()


@given(st.integers(0, 2**32 - 1))
def test_the_veil_is_the_share_that_is_lacking_of_the_highest_place(seed):
    attention = np.random.default_rng(seed).random((60, 80))
    blocks = attention.reshape(15, 4, 20, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(gallery.veil(attention)[..., 3], 166 * (1 - blocks / blocks.max()), atol=0.51)


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
        shares = pd.DataFrame.from_dict(told["models"][title]["photos"], orient="index").iloc[:, :5]
        said = shares.to_numpy().argmax(axis=1)
        true = [told["photos"][photo]["cell"] for photo in shares.index]
        names = list(told["outputs"])
        wrong = sum(names[s] != t for s, t in zip(said, true, strict=True))
        assert wrong == (~table.is_right).sum() and told["models"][title]["runs"] == 1
    assert told["mapped"] is None
    assert gallery.show(study, {}).data.startswith("<p>No run")


def test_boxes_are_shares_of_the_photo(study):
    boxes = gallery.find_boxes(study.data)
    assert boxes
    for left, top, width, height in (box for some in boxes.values() for box in some):
        assert 0 <= left < left + width <= 100.2 and 0 <= top < top + height <= 100.2


def test_maps_are_of_what_the_network_says_of_each_photo_and_a_damaged_one_is_an_error(study, tmp_path):
    run = picture.find_run(Store(paths.ROOT / "results"))
    index = index_photos(study.data)
    photos = [int(p) for p in index.index[index.has_photo][:3]]
    lent = replace(study.data, raw=tmp_path)
    for photo in photos:
        lent.photo_path(photo).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(study.data.photo_path(photo), lent.photo_path(photo))
    found = gallery.map_attention(run, lent, photos)
    assert list(found) == photos
    for photo, told in found.items():
        (alone,) = picture.classify(run, [study.data.photo_path(photo)], 0.0, with_attention=True)
        assert told["said"] == alone.cell.lower()
        content = np.frombuffer(base64.b64decode(told["veil"].partition(",")[2]), np.uint8)
        drawn = cv2.imdecode(content, cv2.IMREAD_UNCHANGED).astype(int)
        assert np.abs(drawn - gallery.veil(alone.attention)).max() <= 1
    assert list(gallery.read_pictures(lent, photos)) == photos
    lent.photo_path(photos[1]).write_bytes(b"no picture")
    for show in (lambda: gallery.map_attention(run, lent, photos), lambda: gallery.read_pictures(lent, photos)):
        with pytest.raises(BadDataError, match=lent.photo_path(photos[1]).name):
            show()


@pytest.fixture(scope="module")
def page(study, models, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    shutil.copytree(paths.BOOK / "_static" / "gallery", folder / "gallery")
    head = '<link rel="stylesheet" href="gallery/gallery.css"><script defer src="gallery/gallery.js"></script>'
    seen = {"said": "monocyte", "veil": "data:image/png;base64,AAAA"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "find_run", lambda *_: SimpleNamespace(seed=0, epochs=7))
        patch.setattr(gallery, "map_attention", lambda run, data, some: dict.fromkeys(some, seen))
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
        title = tab.locator("dialog h2")
        seen.append(title.inner_text())
        tab.keyboard.press("ArrowRight")
        seen.append(title.inner_text())
        seen.append(tab.locator("dialog img").get_attribute("alt"))
        tab.locator("dialog input").first.uncheck()
        seen.append(tab.locator("dialog i:visible").count())
        words, veil = tab.locator("dialog .wbc-gallery-map"), tab.locator("dialog i.map")
        seen.append((words.is_visible(), veil.is_visible()))
        tab.locator("dialog input").last.check()
        seen.append((words.inner_text(), veil.is_visible()))
        frames = [tab.locator(f"dialog {layer}").bounding_box() for layer in ("i.map", "img")]
        seen.append(frames[0] == frames[1])
        seen.append(tab.locator("dialog img").evaluate("image => getComputedStyle(image).padding"))
        tab.keyboard.press("Escape")
        seen.append(tab.locator("dialog").is_visible())
        tab.close()
        return seen

    neutrophils = other[other.cell == "NEUTROPHIL"]
    numbers, said = list(neutrophils.index), [name.lower() for name in neutrophils.said]
    assert chromium(look) == [
        "12 of 12 photos shown",
        f"{(~first.is_right).sum()} of 12 photos shown",
        f"{(~other.is_right).sum()} of 12 photos shown",
        (~neutrophils.is_right).sum(),
        f"Photo {numbers[0]}: Neutrophil",
        f"Photo {numbers[1]}: Neutrophil",
        f"Photo {numbers[1]}: Neutrophil. Other: {said[1]}.",
        0,
        (False, False),
        (
            "Bright: what speaks for monocyte to one network (Final model, seed 0, 7 epochs), shown this photo as it "
            "was taken. Of other models no weights come with this book.",
            True,
        ),
        True,
        "0px",
        False,
    ]
