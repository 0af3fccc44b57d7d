import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from wbc_lib.data import dataset, phantoms
from wbc_lib.data.images import AFFINE
from wbc_lib.provenance import recipe

RNG = np.random.default_rng(5)
DRAWS, PHOTOS = st.integers(1, 400), st.integers(1, 40)


def as_counted(rows: list[tuple[list[int], int]]) -> pd.DataFrame:
    # A row per class: copies of its photos, and their ceiling.
    index = pd.MultiIndex.from_tuples([("TRAIN", f"class {i}") for i in range(len(rows))], names=["split", "cell"])
    made = [(len(copies), np.array(copies), ceiling) for copies, ceiling in rows]
    return pd.DataFrame(made, columns=["photos", "copies", "ceiling"], index=index)


# --- phantoms, drawn by this very recipe


def test_copies_of_phantoms_are_those_of_the_truth_and_none_is_lost(phantom_set, table):
    counted = recipe.count_copies(table)
    truth = phantoms.read_truth(phantom_set)
    for (split, cell), row in counted.iterrows():
        true = truth[truth.image.str.startswith(f"{split}/{cell}/")].photo.value_counts()
        assert sorted(row.copies) == sorted(true)
        assert (row.draws, row.lost) == (row.images, 0)
        assert row.copies.max() == row.ceiling == -(-row.images // row.photos)
    assert counted.draws.groupby("split").nunique().eq(1).all()
    assert recipe.chance_unnoticed(counted, 0, 1) == 1


def test_a_place_in_the_name_says_nothing_about_the_photo(table):
    groups = recipe.name_groups(table)
    assert list(groups.index) == list(dataset.CLASSES)
    assert (groups.leaked > 0.5).all() and (groups.photos > 1).all()
    # As if the number were the photo: one photo behind each place, nothing leaks.
    names = recipe.read_names(table.image)
    as_if = recipe.name_groups(table.assign(photo=names.place))
    assert (as_if.photos == 1).all() and (as_if.leaked == 0).all()


def test_moves_of_phantoms_are_within_the_recipe(table):
    moves = recipe.read_moves(table)
    moved = moves[~table.image.str.startswith("TEST_SIMPLE")]
    assert moved.rotation.abs().max() < recipe.MAX_ROTATION + 0.2
    assert moved[["shift_x", "shift_y"]].abs().max(axis=None) < recipe.MAX_SHIFT + 0.005
    assert moved[["scale_x", "scale_y"]].sub(1).abs().max(axis=None) < 0.01
    assert (moves.flip_x != moves.flip_y).equals(table.mirrored)
    still = moves[table.image.str.startswith("TEST_SIMPLE")]
    assert still.drop(columns=["scale_x", "scale_y"]).astype(float).abs().max(axis=None) < 0.2


def test_images_without_a_map_have_no_moves(table):
    shift = np.array([[-1, 0, 319 + 16], [0, 1, -12]])  # flipped, then to the right by 5 % and up by 5 %
    head = table.head(2).copy()
    head.loc[0, AFFINE] = np.nan
    head.loc[1, AFFINE] = shift.ravel().astype(float)
    moves = recipe.read_moves(head)
    assert list(moves.index) == [1]
    assert moves.loc[1, ["rotation", "shear", "scale_x", "scale_y"]].to_list() == pytest.approx([0, 0, 1, 1])
    assert moves.loc[1, ["flip_x", "flip_y"]].to_list() == [True, False]
    assert abs(moves.shift_x[1]) == pytest.approx(0.05) and abs(moves.shift_y[1]) == pytest.approx(0.05)


# --- names and draws


@given(DRAWS, PHOTOS, st.data())
def test_names_tell_the_draws_unless_the_last_ones_are_lost(draws, n_photos, data):
    places = np.arange(draws) % n_photos
    assert recipe.fewest_draws(places, n_photos) == draws
    lost = data.draw(st.sets(st.integers(0, draws - 1), max_size=draws - 1))
    left = np.delete(places, list(lost))
    assert len(left) <= recipe.fewest_draws(left, n_photos) <= draws
    assert recipe.fewest_draws([], n_photos) == 0


# --- the recipe, followed


def test_without_clashes_copies_differ_by_one_at_most_and_names_given_twice_take_an_image_away(monkeypatch):
    monkeypatch.setattr(recipe, "N_MARKS", 10**12)
    for n_photos, draws in ((7, 30), (5, 20), (1, 6), (9, 4)):
        copies = recipe.simulate_copies(n_photos, draws, 50, RNG)
        assert (copies.sum(axis=1) == draws).all()
        assert (np.ptp(copies, axis=1) == (draws % n_photos > 0)).all()
    monkeypatch.setattr(recipe, "N_MARKS", 1)
    assert (recipe.simulate_copies(6, 20, 20, RNG).sum(axis=1) == 6).all()


def follow_literally(n_photos: int, draws: int, rng: np.random.Generator) -> list[int]:
    files = {}
    order = []
    for draw in range(draws):
        if draw % n_photos == 0:
            order = list(rng.permutation(n_photos))
        files[draw % n_photos, rng.integers(recipe.N_MARKS)] = order[draw % n_photos]
    return [list(files.values()).count(photo) for photo in range(n_photos)]


def test_simulated_copies_are_distributed_as_those_of_the_literal_recipe(monkeypatch):
    monkeypatch.setattr(recipe, "N_MARKS", 40)
    literal = np.array([follow_literally(6, 70, RNG) for _ in range(400)])
    quick = recipe.simulate_copies(6, 70, 400, RNG)
    for statistic in (
        lambda copies: copies.var(axis=1),
        lambda copies: copies.sum(axis=1),
        lambda copies: copies[:, 0],
    ):
        assert stats.ks_2samp(statistic(literal), statistic(quick)).pvalue > 1e-4


# --- tests of it


def test_independent_draws_are_not_taken_for_the_recipe_nor_the_recipe_for_them():
    simulated = recipe.simulate_copies(50, 700, 400, RNG)
    p_independent, p_recipe = recipe.assess_evenness(RNG.multinomial(700, np.full(50, 1 / 50)), simulated)
    assert p_recipe < 0.01 and 1e-4 < p_independent < 1 - 1e-4
    shuffled = recipe.simulate_copies(50, 700, 1, RNG)[0]
    p_independent, p_recipe = recipe.assess_evenness(shuffled, simulated)
    assert p_independent < 1e-10 and p_recipe > 0.005
    assert p_independent == pytest.approx(1 - stats.chisquare(shuffled).pvalue, abs=1e-12)


def test_wrong_images_go_unnoticed_as_often_as_they_find_room():
    counted = as_counted([([5, 5, 4, 5], 5), ([8, 7], 9)])
    # Of the first class, one of three other photos has room for 15 images, none for the other 4; the second has room.
    assert recipe.chance_unnoticed(counted, 1, 8000) == pytest.approx((15 / 3 + 15) / 34, abs=0.025)
    assert recipe.chance_unnoticed(as_counted([([3, 3], 99)]), 3, 50) == 1
    assert recipe.chance_unnoticed(as_counted([([3, 3], 2)]), 0, 5) == 0
    assert recipe.chance_unnoticed(as_counted([([4], 4)]), 2, 50) == 1  # one photo: nowhere else to go


def test_every_class_is_judged_by_itself_and_the_lost_are_added_up():
    copies = [recipe.simulate_copies(n, 300, 1, RNG)[0] for n in (30, 1)] + [RNG.multinomial(300, np.full(30, 1 / 30))]
    counted = as_counted([(list(c), 99) for c in copies]).assign(draws=300)
    judged, lost = recipe.judge_copies(counted, 300)
    assert judged.index.equals(counted.index)
    assert judged.p_recipe.iloc[0] > 0.01 > judged.p_recipe.iloc[2]
    assert judged.p_independent.iloc[0] < 1e-6 < judged.p_independent.iloc[2]
    assert judged.iloc[1].isna().all()  # one photo has all copies, however they were drawn
    # Of 10 epochs, or 300, marks drawn at one place: pairs that are alike, nearly.
    expected = (30 * 45 * 2 + 300 * 299 / 2) / recipe.N_MARKS
    assert lost.shape == (300,) and lost.mean() == pytest.approx(expected, abs=0.1 + 5 * lost.std() / np.sqrt(300))


def moved(n: int, shear: float) -> pd.DataFrame:
    columns = {"rotation": 20.0, "shear": shear, "shift_x": 0.1, "shift_y": 0.1}
    return pd.DataFrame({name: RNG.uniform(-limit, limit, n) for name, limit in columns.items()})


@pytest.mark.parametrize("shear, fits, fits_not", [(np.degrees(0.2), -2, -1), (0.2, -1, -2)])
def test_moves_tell_radians_from_degrees_and_even_draws_from_others(shear, fits, fits_not):
    moves = moved(3000, shear)
    tested = recipe.judge_moves(moves)
    assert (tested.p.iloc[[0, 1, 2, fits]] > 1e-4).all() and tested.p.iloc[fits_not] < 1e-9
    assert tested.lowest.iloc[0] == moves.rotation.min() and tested.highest.iloc[1] == moves.shift_x.max()
    bell = recipe.judge_moves(moves.assign(rotation=RNG.normal(0, 8, 3000)))
    assert bell.p.iloc[0] < 1e-9
