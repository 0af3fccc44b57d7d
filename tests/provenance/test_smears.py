import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from tests.drawn import GROUND, RED, VIOLET, draw_field
from wbc_lib import paths
from wbc_lib.data import dataset
from wbc_lib.data.images import read_image, to_lab
from wbc_lib.provenance import smears


def test_the_colours_are_those_that_were_drawn():
    drawn = to_lab(np.array([[GROUND, RED, VIOLET]], np.uint8))[0, :, 1:].ravel()
    found = smears.measure_colours(draw_field(90, [(320, 240)]))
    np.testing.assert_allclose(found, drawn, atol=1.5)


def test_colours_of_what_is_not_there_are_not_known():
    found = smears.measure_colours(np.full((480, 640, 3), 220, np.uint8))
    assert np.isnan(found[4:]).all()
    assert np.isfinite(found[:2]).all()


def test_photos_of_two_stains_are_told_apart_whatever_their_light(monkeypatch):
    rng = np.random.default_rng(0)
    fields = [draw_field(90, [(320, 240)], seed=i).astype(float) for i in range(12)]
    tinted = [f * (np.array([1, 0.9, 1]) if i % 2 else 1) * rng.uniform(0.9, 1) for i, f in enumerate(fields)]
    colours = np.array([smears.measure_colours(f.astype(np.uint8)) for f in tinted])
    monkeypatch.setattr(smears, "MOST", 3)
    assert adjusted_rand_score(np.arange(12) % 2, smears.cluster(colours, range(12))[0]) == 1


@pytest.mark.parametrize("n", [1, 2, 3])
def test_clusters_are_found_as_drawn_and_numbered_by_their_photos(monkeypatch, n):
    monkeypatch.setattr(smears, "MOST", 3)
    truth = np.repeat(np.arange(1, n + 1), 40)
    colours = np.random.default_rng(n).normal(0, 1, (40 * n, 4)) + 15 * truth[:, None]
    member, probability = smears.cluster(colours, np.arange(40 * n))
    np.testing.assert_array_equal(member, truth)
    assert (probability > 0.99).all()


@given(st.lists(st.integers(1, 3), min_size=2, max_size=40))
def test_agreement_is_what_counting_gives(values):
    found = smears.compare_with_numbers(pd.Series(values, index=np.arange(len(values)) * 2 + 5))
    n = len(values)
    assert found.neighbours == pytest.approx(np.mean([a == b for a, b in zip(values, values[1:], strict=False)]))
    pairs = [values[i] == values[j] for i in range(n) for j in range(n) if i != j]
    assert found.by_chance == pytest.approx(np.mean(pairs))
    largest = pd.Series(values).value_counts().index[:2]
    by_place = sorted(largest, key=lambda smear: np.mean(np.flatnonzero(np.array(values) == smear)))
    before, beyond = by_place[0], by_place[-1]
    parted = [np.mean([v == (before if i < at else beyond) for i, v in enumerate(values)]) for at in range(n)]
    assert found.parted == pytest.approx(max(parted))
    assert parted[(found.cut - 5) // 2] == pytest.approx(max(parted))


def test_the_table_of_phantoms_names_every_photo(phantom_set):
    table = smears.find_smears(phantom_set)
    assert table.photo.tolist() == dataset.list_photos(phantom_set)
    assert table.smear.min() == 1


def _recorded() -> pd.DataFrame:
    return pd.read_csv(paths.ROOT / "results" / "provenance" / "smears.csv")


def test_the_recorded_smears_follow_from_the_recorded_colours():
    table = _recorded()
    member, _ = smears.cluster(table[list(smears.COLOURS)].to_numpy(), table.photo.to_numpy())
    np.testing.assert_array_equal(member, table.smear)


def test_the_recorded_smears_agree_with_the_numbers_of_the_photos():
    found = smears.compare_with_numbers(_recorded().set_index("photo").smear)
    assert found.neighbours > 0.85 > 0.55 > found.by_chance


def test_the_recorded_colours_are_those_of_the_photos(real_set):
    table = _recorded().set_index("photo")
    for photo in (0, 110, 204):
        found = smears.measure_colours(read_image(real_set.photo_path(photo)))
        np.testing.assert_allclose(found, table.loc[photo, list(smears.COLOURS)].to_numpy(float), atol=0.01)
