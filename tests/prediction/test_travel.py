import dataclasses

import numpy as np
import pandas as pd
import pytest

from tests.drawn import draw_field
from wbc_lib import paths
from wbc_lib.data import picture_sets
from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.images import to_lab
from wbc_lib.data.picture_sets import NOT_SMEARS, TEST_IMAGES, TEST_PHOTOS, TRAIN_PHOTOS, PictureSet, open_set
from wbc_lib.data.windows import background_colour
from wbc_lib.errors import BadDataError, DataNotFoundError
from wbc_lib.evaluation import elsewhere
from wbc_lib.prediction import refusal, travel
from wbc_lib.training.verify import LOGIT_TOLERANCE

GUARD = refusal.Guard(
    (refusal.fit_reference("x", np.random.default_rng(0).normal(50, 20, (60, 12)), np.arange(60)),), 0.5, 3
)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_CACHE", str(tmp_path / "cache"))


def look(pictures, step=1):
    """Look at a set, or at each so many-th picture of it."""
    pictures = dataclasses.replace(pictures, table=pictures.table.iloc[::step].reset_index(drop=True))
    return travel.look_at(pictures, travel.measure(pictures), pictures.red_cell)


def test_a_set_of_ours_has_its_photos_and_its_images(tiny_set):
    listed = {name: open_set(name, tiny_set).table for name in picture_sets.OURS}
    assert set(listed[TRAIN_PHOTOS].picture).isdisjoint(listed[TEST_PHOTOS].picture)
    assert listed[TEST_IMAGES].picture.str.startswith("TEST/").all()
    for name, table in listed.items():
        assert set(table.cell) <= set(CLASSES) and len(table), name
    for name, needed in {TEST_PHOTOS: "--data", "pbc": "--external"}.items():
        with pytest.raises(DataNotFoundError, match=needed):
            open_set(name)


def test_what_is_refused_is_fitted_to_photos_and_to_the_images_made_of_them(tiny_set):
    photos, images = look(open_set(TRAIN_PHOTOS, tiny_set)), look(open_set(picture_sets.TRAIN_IMAGES, tiny_set), 3)
    guard = travel.fit_guard(photos, images, tiny_set)
    assert [r.name for r in guard.references] == ["photos of TRAIN", "images of TRAIN"]
    assert [r.n for r in guard.references] == [
        ((photos.table.scaled == travel.BY_PICTURE) & (photos.table.cells > 0)).sum(),
        ((images.table.scaled == travel.BY_SET) & (images.table.cells > 0)).sum(),
    ]
    answered = travel.answer(images, [], guard)
    assert (answered.refused == elsewhere.COLOURS).mean() < 0.2  # images have colours of their own: see the next line
    more = travel.fit_guard(photos, images, tiny_set, photos)
    assert len(more.references) == 3 and [r.n for r in more.references[:2]] == [r.n for r in guard.references]
    alone = travel.answer(images, [], dataclasses.replace(guard, references=guard.references[:1]))
    assert (alone.unlike >= answered.unlike).all()


def test_pictures_are_looked_at_once_and_a_stopped_look_goes_on(tiny_set, cache, monkeypatch):
    monkeypatch.setattr(travel, "_CHUNK", 2)
    pictures = open_set(TRAIN_PHOTOS, tiny_set)
    real, looked = travel.measure_red_cell, []

    def stopping(pixels):
        looked.append(1)
        if len(looked) == 4:
            raise KeyboardInterrupt
        return real(pixels)

    monkeypatch.setattr(travel, "measure_red_cell", stopping)
    with pytest.raises(KeyboardInterrupt):
        travel.measure(pictures)
    first = travel.measure(pictures)
    assert len(looked) == len(pictures.table) + 2  # those of the part in which it was stopped, again
    assert travel.measure(pictures).equals(first) and len(looked) == len(pictures.table) + 2
    kept = next(paths.cache().rglob("*.npz"))
    kept.write_bytes(kept.read_bytes()[:-100])
    assert travel.measure(pictures).equals(first) and len(looked) > len(pictures.table) + 2  # what is damaged, anew


def test_each_picture_is_seen_at_the_scale_of_its_set_at_its_own_and_whole(tiny_set):
    pictures = open_set(TEST_PHOTOS, tiny_set)
    measured = travel.measure(pictures)
    seen = travel.look_at(pictures, measured, pictures.red_cell)
    n = len(pictures.table)
    assert seen.table.scaled.value_counts().to_dict() == {
        "set": n,
        "whole": n,
        "picture": int(measured.measured.notna().sum()),
    }
    assert (seen.table.red_cell[seen.table.scaled == "set"] == pictures.red_cell).all()
    own = seen.table[seen.table.scaled == "picture"].set_index("picture").red_cell
    assert own.equals(measured.set_index("picture").measured.dropna().rename("red_cell"))
    whole = seen.take(seen.table.scaled == "whole")
    assert np.array_equal(whole.windows[0], pictures.read_whole(whole.table.picture[0]))
    by_one = travel.look_at(pictures, measured.assign(held_back=measured.index > 0), 0)  # those held back do not count
    assert (by_one.table.red_cell[by_one.table.scaled == "set"] == measured.measured[0]).all()


def test_the_recorded_answers_come_out_for_whole_images_and_all_is_recorded(tiny_set, small_run, tmp_path, monkeypatch):
    seen = look(open_set(TEST_IMAGES, tiny_set), 5)
    answers = travel.answer(seen, [small_run], GUARD)
    whole = answers[answers.scaled == "whole"]
    recorded = pd.DataFrame(small_run.logits("test"), index=small_run.names("test")).loc[whole.picture]
    ours = whole[[f"s0_logit_{i}" for i in range(5)]].to_numpy()
    assert np.abs(ours - recorded.to_numpy()).max() < LOGIT_TOLERANCE
    assert (answers.unlike > 0).all()
    assert ((answers.refused == "") == ((answers.unlike <= 1) & answers.nucleus.between(0.5, 3))).all()

    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    target = travel.recorded_path("final", "drawn")
    with pytest.raises(BadDataError, match="wbc external predict"):
        travel.read_recorded("final", "drawn")
    travel.write_recorded(answers, target)
    content = target.read_bytes()
    again = travel.read_recorded("final", "drawn")
    assert again.cell.tolist() == answers.cell.tolist() and again.unlike.equals(answers.unlike)
    assert again.nucleus.to_numpy() == pytest.approx(answers.nucleus.to_numpy(), abs=1e-3, nan_ok=True)
    travel.write_recorded(answers, target)
    assert target.read_bytes() == content
    target.write_bytes(content[:100])
    with pytest.raises(BadDataError, match="restore it"):
        travel.read_recorded("final", "drawn")


def test_where_no_white_cell_is_the_middle_is_looked_at(cache):
    blank = np.full((240, 320, 3), (200, 210, 205), np.uint8)
    blank[100:140, 140:180] = (180, 120, 90)
    table = pd.DataFrame({"picture": ["a"], "kind": ["blank"], "cell": [""], "held_back": [False]})
    pictures = PictureSet(NOT_SMEARS, table, lambda _: blank, "0", 45.0)
    seen = look(pictures)
    assert seen.table.cells.tolist() == [0] and seen.table.nucleus.isna().all()
    assert travel.answer(seen, [], GUARD).refused.tolist() == [elsewhere.NO_CELL]
    assert (seen.windows[0, 30, 40] == (180, 120, 90)).all()


def test_matched_pictures_have_the_colours_of_the_photos(tiny_set):
    seen = look(open_set(TEST_PHOTOS, tiny_set))
    numbers = np.stack([refusal.colour_numbers(c) for c in seen.colours])
    reference = refusal.fit_reference("x", numbers + np.tile([4, 0.5, 4, 4], 3), np.arange(len(numbers)))
    matched = travel.match_colours(seen, reference)
    assert (matched.table.scaled == "matched").all() and len(matched.table) == (seen.table.scaled == "set").sum()
    now = np.stack([refusal.colour_numbers(c) for c in matched.colours])
    wanted = [i for i, name in enumerate(refusal.NUMBERS) if name.endswith(("mean", "sd"))]
    assert np.abs(now[:, wanted] - reference.centre[wanted]).max() < 1
    both = travel.join(seen, matched)
    assert len(both.table) == len(both.windows) == len(both.colours) == len(seen.table) + len(matched.table)


# --- our own photos, changed


YELLOW = travel.Target("yellow", np.array([70, 5, 30]), np.array([10, 8, 12]), np.array([80, -5, 40]), 4.0)


@pytest.fixture(scope="module")
def changed():
    table = pd.DataFrame({"picture": ["a", "b"], "kind": "monocyte", "cell": "MONOCYTE", "held_back": False})
    drawn = {"a": draw_field(40, [(200, 160)], (320, 430), 1), "b": draw_field(40, [(150, 140)], (320, 430), 2)}
    return travel.look_changed(PictureSet("test-photos", table, drawn.__getitem__, "0", 40.0), [YELLOW])


def under(changed, kind, amount):
    rows = (changed.table.change == kind) & (changed.table.amount == amount)
    return changed.windows[rows], np.stack([refusal.colour_numbers(c) for c in changed.colours[rows]])


def test_each_photo_is_seen_under_each_change(changed):
    assert len(changed.table) == 2 * len(travel.list_changes([YELLOW]))
    assert set(changed.table.change) == set(travel.KINDS)
    assert not changed.table.duplicated(["picture", "change", "towards", "amount"]).any()


def test_a_change_of_stain_ends_at_the_colours_of_the_other_set(changed):
    _, start = under(changed, "scale", 1.0)
    distances = []
    wanted = [i for i, name in enumerate(refusal.NUMBERS) if name.endswith("mean")]
    for share in (0.25, 0.5, 0.75, 1.0):
        _, numbers = under(changed, "stain", share)
        distances.append(np.abs(numbers[:, wanted] - YELLOW.mean).max())
    assert np.abs(start[:, wanted] - YELLOW.mean).max() > distances[0] > distances[1] > distances[2] > distances[3]
    assert distances[3] < 3


def test_a_change_of_background_leaves_the_nucleus(changed):
    before, _ = under(changed, "scale", 1.0)
    after, _ = under(changed, "background", 1.0)
    for one, other in zip(before, after, strict=True):
        assert np.abs(one[30, 40].astype(int) - other[30, 40]).max() <= 2
        moved = to_lab(background_colour(other)[None, None])[0, 0]
        assert moved == pytest.approx(YELLOW.background, abs=4)


def test_a_smaller_field_is_filled_outside_and_a_larger_scale_shows_the_middle(changed):
    before, _ = under(changed, "scale", 1.0)
    less, _ = under(changed, "field", 4.0)
    for one, other in zip(before, less, strict=True):
        assert np.array_equal(one[20:40, 30:50], other[20:40, 30:50])
        assert len(np.unique(other[:, :10].reshape(-1, 3), axis=0)) == 1
    larger, _ = under(changed, "scale", 2.0)
    violet = [(w[..., 2].astype(int) - w[..., 1] > 80).sum(axis=(1, 2)) for w in (before, larger)]
    assert violet[1] / violet[0] == pytest.approx(4, rel=0.15)


def test_a_blur_takes_detail_away(changed):
    sharp = [under(changed, "blur", sd)[0].std(axis=(1, 2)).mean() for sd in (0.02, 0.08, 0.16)]
    assert sharp[0] > sharp[1] > sharp[2]
