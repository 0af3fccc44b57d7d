import dataclasses

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.attention import measure, saliency, summary
from wbc_lib.attention.measure import Attention
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.images import INPUT_SHAPE, load_images
from wbc_lib.training.plan import Network

NETWORK = Network(convolutions=(4, 4, 4), dense=(8,))


def made_images(seed: int = 0, n_photos: int = 12, copies: int = 5) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    n = n_photos * copies
    photo = np.repeat(np.arange(n_photos), copies)
    label = photo % 4 + 1
    answers = {f"as_{c}_{f}": rng.integers(0, 5, n) for c in saliency.COVERS for f in saliency.FILLS}
    images = pd.DataFrame(
        {
            "part": "test",
            "image": [f"TEST/{CLASSES[k - 1]}/{i}.jpeg" for i, k in enumerate(label)],
            "photo": photo,
            "label": label,
            "predicted": np.where(rng.random(n) < 0.7, label, rng.integers(0, 5, n)),
            "area": 0.2,
            "even": rng.uniform(0.1, 0.2, n),
            "share": rng.random(n),
            "share_true": rng.random(n),
            "by_position": rng.random(n),
            **answers,
        }
    )
    images.loc[::7, [c for c in images if "elsewhere" in c]] = -1
    return images


def made(images: pd.DataFrame, maps: pd.DataFrame | None = None) -> Attention:
    randomised = pd.DataFrame(
        {
            "layers": np.repeat(np.arange(6), 4),
            "draw": 0,
            "photo": np.tile(np.arange(4), 6),
            "correlation": np.concatenate([np.ones(4), np.linspace(-1, 1, 20)]),
            "share": np.where(np.arange(24) == 23, np.nan, 0.5),
        }
    )
    return Attention(images, randomised, pd.DataFrame() if maps is None else maps)


def gathered(*all_images: pd.DataFrame) -> pd.DataFrame:
    images = pd.concat(all_images, ignore_index=True)
    return images.assign(is_right=images.label == images.predicted)


@pytest.mark.filterwarnings("error")  # a class of which no photo is drawn would have no mean
@given(st.integers(0, 2**32), st.booleans())
def test_an_average_is_the_mean_over_classes_of_means_over_images_or_photos(seed, equally):
    images = made_images(seed)
    values = images.share.where(images.image.index % 5 > 0)
    found = summary.average(values, images, equally=equally)
    known = images.assign(v=values).dropna(subset="v")
    if equally:
        known = known.groupby(["photo", "label"], as_index=False).v.mean()
    assert found.estimate == pytest.approx(known.groupby("label").v.mean().mean())
    assert found.low <= found.estimate <= found.high
    assert np.isnan(summary.average(np.full(len(images), np.nan), images).estimate)


def test_an_interval_is_over_photos_not_images():
    images = pd.DataFrame({"photo": np.repeat(np.arange(60), 4), "label": 1})
    values = np.random.default_rng(3).normal(0, 1, 60)[images.photo]
    apart = summary.average(values, images.assign(photo=np.arange(240)))
    assert apart.width == pytest.approx(summary.average(values, images).width / 2, rel=0.1)


def test_shares_are_averaged_over_photos_and_a_single_photo_has_no_interval():
    images = gathered(made_images(), made_images(1))
    images = images[(images.label != 2) | images.is_right | (images.photo == 1)]
    table = summary.tabulate_shares(images, n_runs=2)
    assert list(table.index.get_level_values(0).unique()) == list(CLASSES)
    for (cell, kind), row in table.iterrows():
        part = images[(images.label == CLASSES.index(cell) + 1) & (images.is_right == (kind == "right"))]
        photos = part.groupby("photo")
        assert row.share == pytest.approx(photos.share.mean().mean())
        assert np.isnan(row.low) or 0 <= row.low <= row.high <= 1
        assert row.even == pytest.approx(photos.even.mean().mean())
        assert row.times == pytest.approx(row.share / row.even)
        assert (row.images, row.photos) == (len(part) / 2, part.photo.nunique())
    lone = table.loc[("EOSINOPHIL", "wrong")]
    assert lone.photos == 1 and np.isnan(lone.low) and np.isnan(lone.high)
    dots = summary.mean_by_photo(images)
    means = dots.groupby(["cell", "is_right"]).share.mean()
    assert means["MONOCYTE", True] == pytest.approx(table.loc[("MONOCYTE", "right")].share)


@pytest.mark.parametrize("fill", saliency.FILLS)
def test_covers_are_compared_on_the_images_that_have_room_for_all(fill):
    images = gathered(made_images())
    table = summary.tabulate_covered(images, fill, 1)
    kept = images[images.as_elsewhere_grey >= 0]
    assert len(kept) < len(images)
    for label, cell in enumerate(CLASSES, start=1):
        own = kept[kept.label == label]
        assert (table.loc[cell].images == len(own)).all()
        for cover, title in saliency.COVERS.items():
            row = table.loc[(cell, title)]
            right = own[f"as_{cover}_{fill}"] == label
            assert row.accuracy == pytest.approx(right.mean())
            assert row.loss == pytest.approx(own.is_right.mean() - right.mean())
            assert row.low <= row.accuracy <= row.high and row.loss_low <= row.loss <= row.loss_high
        assert table.loc[(cell, summary.UNCHANGED)].accuracy == pytest.approx(own.is_right.mean())
    by_class = table.accuracy.unstack("cover").drop(index=summary.ALL).mean()
    np.testing.assert_allclose(table.accuracy.unstack("cover").loc[summary.ALL], by_class)


def test_what_images_are_named_counts_classes_alike():
    images = gathered(made_images())
    images.loc[images.label == 1, "as_cell_own"] = 4
    images.loc[images.label > 1, "as_cell_own"] = 2
    table = summary.tabulate_predicted(images, "own")
    assert table.loc["cell covered"].to_dict() == pytest.approx(
        {"NEUTROPHIL": 0, "EOSINOPHIL": 0.75, "MONOCYTE": 0, "LYMPHOCYTE": 0.25, "none": 0}
    )
    np.testing.assert_allclose(table.sum(axis=1), 1)
    never = images.assign(**{c: 1 for c in images if c.startswith("as_")}, predicted=1)
    assert list(summary.tabulate_predicted(never, "own")) == list(CLASSES)


def test_depths_of_randomising_are_named_and_summed_up():
    table = summary.tabulate_randomised([made(made_images())], NETWORK)
    assert list(table.index) == ["trained", "output", "dense 1", "convolution 3", "convolution 2", "convolution 1"]
    assert table.correlation["trained"] == 1 and table.correlation["convolution 1"] == pytest.approx(
        np.median(np.linspace(-1, 1, 20)[-4:])
    )
    assert (table.share == 0.5).all()


def test_runs_are_compared_on_the_images_both_have_maps_of():
    rng = np.random.default_rng(0)
    columns = [f"{y}/{x}" for y in range(5) for x in range(6)]

    def maps(names: str) -> pd.DataFrame:
        index = pd.MultiIndex.from_product([list(names), ["predicted", "true"]], names=["image", "of"])
        return pd.DataFrame(rng.random((len(index), 30)), index, columns)

    first, second = maps("abc"), maps("cbd")
    found = summary.correlate_runs([made(made_images(), maps=m) for m in (first, second)])
    expected = [
        saliency.correlate(*(m.loc[[(i, "true")]].to_numpy().reshape(1, 5, 6) for m in (first, second)))[0]
        for i in "bc"
    ]
    np.testing.assert_allclose(found, expected)
    assert len(summary.correlate_runs([made(made_images(), maps=first)])) == 0


def test_each_chosen_image_is_shown_with_its_box_and_its_maps(tiny_study):
    images = load_images(tiny_study.data).index.query("split == 'TEST'")
    table = made_images(n_photos=4, copies=6).assign(image=np.nan)
    table["image"] = [images[images.label == label].image.iloc[i % 3] for i, label in enumerate(table.label)]
    table["predicted"] = np.where(np.arange(len(table)) % 2, table.label, table.label % 4 + 1)
    chosen = table.iloc[measure.choose(table).row].image.unique()
    index = pd.MultiIndex.from_product([chosen, ["predicted", "true"]], names=["image", "of"])
    spot = np.zeros((len(index), 11, 16))
    spot[:, 5, 8] = 1
    columns = [f"{y}/{x}" for y in range(11) for x in range(16)]
    found = made(table, maps=pd.DataFrame(spot.reshape(len(index), -1), index, columns))
    right = summary.collect_maps(tiny_study, found, NETWORK, is_right=True)
    wrong = summary.collect_maps(tiny_study, found, NETWORK, is_right=False)
    assert (len(right), len(wrong)) == (8, 12)
    assert [p.title for p in wrong[:3]] == ["Neutrophil, taken for eosinophil", "for eosinophil", "for neutrophil"]
    for panel in right + wrong:
        assert panel.picture.shape == (240, 320, 3)
        assert panel.corners.shape[1:] == (4, 2)
    for panel in (*right[1::2], *wrong[1::3], *wrong[2::3]):
        assert np.unravel_index(panel.attention.argmax(), INPUT_SHAPE) in {(28, 40), (28, 41), (29, 40), (29, 41)}
        assert panel.attention.max() == 1
    elsewhere = dataclasses.replace(tiny_study, results_of="f" * 64)
    assert summary.collect_maps(elsewhere, found, NETWORK, is_right=True) == []


def test_covers_are_shown_beside_the_image_as_it_is(tiny_study):
    panels = summary.collect_covers(tiny_study, NETWORK)
    assert [p and p.title for p in panels] == [
        *("unchanged", "background covered", "cell covered", "only the cell left"),
        *(None, "background covered", "cell covered", "only the cell left"),
    ]
    plain, elsewhere, cell, rest = (p.picture for p in panels[:4])
    changed = [(p != plain).any(axis=2) for p in (elsewhere, cell, rest)]
    assert not (changed[1] & changed[2]).any() and not (changed[0] & changed[1]).any()
    assert all(c.any() for c in changed)
    grey = panels[6].picture[changed[1]]
    assert (grey == 128).all(axis=1).mean() > 0.9
