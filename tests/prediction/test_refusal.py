import json

import numpy as np
import pytest

from tests.drawn import draw_field
from wbc_lib import paths
from wbc_lib.data.windows import find_cells
from wbc_lib.errors import BadDataError
from wbc_lib.prediction import refusal
from wbc_lib.prediction.refusal import Guard, fit_reference


@pytest.fixture(scope="module")
def numbers():
    """Colour numbers of two hundred made-up photos: correlated, on very different scales."""
    rng = np.random.default_rng(0)
    return 50 + rng.normal(0, 1, (200, 12)) @ rng.normal(0, 1, (12, 12)) * np.geomspace(0.1, 10, 12)


@pytest.fixture(scope="module")
def reference(numbers):
    return fit_reference("TRAIN", numbers, np.arange(len(numbers)))


def test_the_numbers_of_one_colour_are_those_of_the_textbook():
    # White is L 100 and has no colour; sRGB's red in CIE Lab is 53.24, 80.09, 67.20.
    for colour, (light, a, b) in {(255, 255, 255): (100, 0, 0), (255, 0, 0): (53.24, 80.09, 67.20)}.items():
        found = dict(zip(refusal.NUMBERS, refusal.colour_numbers(np.full((8, 8, 3), colour, np.uint8)), strict=True))
        for channel, value in zip("Lab", (light, a, b), strict=True):
            assert [found[f"{channel} {s}"] for s in ("mean", "10 %", "90 %")] == pytest.approx([value] * 3, abs=0.1)
            assert found[f"{channel} sd"] == pytest.approx(0, abs=0.1)


def test_the_numbers_tell_how_light_is_spread():
    window = np.zeros((10, 10, 3), np.uint8)
    window[:2] = 255
    found = dict(zip(refusal.NUMBERS, refusal.colour_numbers(window), strict=True))
    assert (found["L mean"], found["L sd"]) == pytest.approx((20, 40), abs=0.1)
    assert (found["L 10 %"], found["L 90 %"]) == pytest.approx((0, 100), abs=0.1)


def measure(picture, cell, red_cell):
    return refusal.colour_numbers(refusal.cut_colours(picture, cell, red_cell))


def test_the_numbers_of_a_cell_are_those_of_the_window_around_it_at_any_scale():
    small, large = draw_field(40, [(160, 120)], size=(240, 320)), draw_field(80, [(320, 240)])
    found = [measure(p, find_cells(p, r)[0], r) for p, r in ((small, 40), (large, 80))]
    assert np.abs(found[0] - found[1]).max() < 6
    elsewhere = measure(draw_field(80, [(320, 240)])[..., ::-1], find_cells(large, 80)[0], 80)
    assert np.abs(found[1] - elsewhere).max() > 20


def test_a_reference_refuses_three_in_a_hundred_of_others_like_it_and_all_that_are_unlike(numbers, reference):
    rng = np.random.default_rng(0)  # the same mixing, other draws
    rng.normal(0, 1, (200, 12))
    mixing = rng.normal(0, 1, (12, 12))
    new = 50 + np.random.default_rng(9).normal(0, 1, (5000, 12)) @ mixing * np.geomspace(0.1, 10, 12)
    guard = Guard((reference,), 0.8, 2.2)
    assert np.mean(guard.scores(new) > 1) == pytest.approx(refusal.SHARE, abs=0.015)
    assert np.mean(guard.scores(new + 8 * numbers.std(axis=0)) > 1) > 0.99


def test_distances_do_not_hang_on_units(numbers, reference):
    factors = np.geomspace(1, 1e6, 12)
    other = fit_reference("TRAIN", numbers * factors, np.arange(len(numbers)))
    assert other.distances(numbers * factors) == pytest.approx(reference.distances(numbers))
    assert other.threshold == pytest.approx(reference.threshold)


def test_photos_of_one_field_are_held_out_together(numbers):
    # Each photo twice: apart, its double would be among those that it is compared with.
    twice = np.concatenate([numbers[:30], numbers[:30]])
    apart = fit_reference("x", twice, np.arange(60))
    together = fit_reference("x", twice, np.tile(np.arange(30), 2))
    assert together.threshold > 1.1 * apart.threshold


def test_a_picture_like_one_of_several_kinds_is_let_through(numbers, reference):
    far = numbers + 100
    both = Guard((reference, fit_reference("pbc", far, np.arange(len(far)))), 0.8, 2.2)
    assert np.mean(both.scores(np.concatenate([numbers, far])) <= 1) > 0.9
    assert np.mean(Guard((reference,), 0.8, 2.2).scores(far) <= 1) == 0


def test_it_says_which_of_the_two_is_wrong(numbers, reference):
    guard = Guard((reference,), 0.8, 2.2)
    usual = reference.centre
    assert guard.objection(usual, 1.3) == ""
    assert "colours" in guard.objection(usual + 100, 1.3)
    assert "nucleus is 0.5 times" in guard.objection(usual, 0.5) and "0.8 to 2.2" in guard.objection(usual, 2.3)


def test_nuclei_may_be_a_tenth_smaller_or_larger_than_all_that_were_learned_from():
    assert refusal.nucleus_limits(np.array([1.0, 2.0, 1.5, 1.2])) == pytest.approx((0.9, 2.2))


def test_a_guard_is_recorded_and_read_again(numbers, reference, tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path))
    with pytest.raises(BadDataError, match="is missing"):
        refusal.read_recorded("drawn")
    assert refusal.read_recorded("final").references  # of the published runs, wherever results go
    guard = Guard((reference,), 0.8, 2.2)
    path = refusal.write_recorded("drawn", guard)
    again = refusal.read_recorded("drawn")
    assert np.array_equal(again.scores(numbers), guard.scores(numbers))
    assert again.as_plain() == guard.as_plain()
    record = json.loads(path.read_text())
    for damage in ({"field": 5}, {"references": []}, {"nucleus": [1]}):
        path.write_text(json.dumps(record | damage))
        with pytest.raises(BadDataError, match="restore it"):
            refusal.read_recorded("drawn")


def test_what_is_recorded_lets_phantoms_of_no_smear_through_nowhere(monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(paths.ROOT / "results"))
    guard = refusal.read_recorded("final")
    assert guard.scores(refusal.colour_numbers(np.full((64, 64, 3), (200, 60, 60), np.uint8))) > 1
    assert 0.5 < guard.smallest < 1 < guard.largest < 3
