from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import calibration
from wbc_lib.evaluation.conformal import BY_PHOTO, BY_VALIDATION, HELD_BACK
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.words import trust
from wbc_lib.words.trust import BROKEN, IDLE, KEPT, MISSED

NOTHING = Interval(np.nan, np.nan, np.nan)


def around(estimate: float, spread: float = 0.02) -> Interval:
    return Interval(estimate, estimate - spread, estimate + spread)


def cooled(known: float = 0.06, crossed: float = 0.01, fitted: float = 1.2, held_back: bool = False) -> pd.DataFrame:
    gaps = {"as trained": 0.08, BY_VALIDATION: known, BY_PHOTO: crossed} | ({HELD_BACK: 0.005} if held_back else {})
    rows = {
        name: {"temperature": fitted, "confidence": 0.86 + gap, "accuracy": 0.86, "gap": around(gap)}
        for name, gap in gaps.items()
    }
    return pd.DataFrame(rows).T


def decided(known: Interval, crossed: Interval) -> pd.DataFrame:
    rights = {BY_VALIDATION: known, BY_PHOTO: crossed, HELD_BACK: around(0.97)}
    return pd.DataFrame({name: {"decided": around(0.5), "right": right} for name, right in rights.items()}).T


def sets(known: float = 0.88, crossed: float = 0.96) -> pd.DataFrame:
    rows = {
        ("LAC", name): {"coverage": around(held), "size": 1.5, **dict.fromkeys(CLASSES, held), "MONOCYTE": 0.4}
        for name, held in {BY_VALIDATION: known, BY_PHOTO: crossed, HELD_BACK: 0.94}.items()
    }
    return pd.DataFrame(rows.values(), pd.MultiIndex.from_tuples(rows))


@given(st.floats(0, 1), st.floats(0, 0.5), st.floats(0, 1))
def test_a_promise_is_kept_missed_or_broken(estimate, spread, promised):
    fate = trust.judge(around(estimate, spread), promised)
    assert (fate == KEPT) == (estimate >= promised)
    assert (fate == BROKEN) == (estimate + spread < promised)


def test_where_there_is_nothing_to_judge_nothing_is_judged():
    assert trust.judge(NOTHING, 0.5) == IDLE
    told = trust.tell_decisions(decided(NOTHING, NOTHING), 0.99, 0.0)
    assert told.endswith("of TEST.") and "nan" not in told


@pytest.mark.parametrize(
    ("fates", "verdict"),
    [
        ([KEPT, KEPT, KEPT], "Yes, as"),
        ([KEPT, IDLE, KEPT], "Yes, as"),
        ([KEPT, MISSED, KEPT], "Not quite"),
        ([BROKEN, KEPT, MISSED], "Not on the word"),
    ],
)
def test_one_broken_promise_is_enough(fates, verdict):
    assert trust.tell_verdict(fates).startswith(verdict)


def test_the_gap_is_put_down_to_other_photos_only_if_its_interval_has_zero():
    before = calibration.Summary(0.97, 0.98, around(0.01), around(0.1), 0.5)
    after = calibration.Summary(0.86, 0.94, around(0.08), around(0.1), 0.5)
    told = trust.tell_confidence(before, after)
    assert (
        ", more than other photos" in told and "the accuracy changes by -11.0 points, the confidence by -4.0." in told
    )
    assert "no more than" in trust.tell_confidence(before, replace(after, gap=around(0.08, 0.1)))


def test_what_a_temperature_does_to_the_gap():
    needed = Interval(2.1, 1.5, 3.0)
    told = trust.tell_temperature(cooled(), needed)
    assert "be softened, with a temperature of 1.20; TEST would need 2.10 (1.50 to 3.00)" in told
    assert "the one from validation takes away 25% of the gap" in told and "procedure takes away 88% of" in told
    assert told.endswith("photos that it has not learned from.")
    worse = trust.tell_temperature(cooled(0.10, 0.12, 0.9), needed)
    assert "sharpened" in worse and "makes the gap 25% larger" in worse and "serve it no better" in worse


@pytest.mark.parametrize(
    ("known", "crossed", "says", "of_crossed"),
    [
        (0.90, 0.995, "broken", "right: the promise is kept."),
        (0.98, 0.985, "missed", "right: nearer, but short of the promise."),
        (0.99, 0.97, "promise is kept", "right: no nearer."),
    ],
)
def test_decisions_are_held_to_what_was_asked(known, crossed, says, of_crossed):
    told = trust.tell_decisions(decided(around(known), around(crossed)), 0.99, 0.8)
    assert says in told and told.endswith(of_crossed)
    assert f"one in {1 / (1 - known):.0f} is wrong, where one in 100 was accepted" in told


def test_if_all_that_is_decided_is_right_nothing_is_said_of_the_wrong():
    assert "is wrong" not in trust.tell_decisions(decided(around(1.0), around(1.0)), 0.99, 0.8)


def test_sets_are_told_by_class_and_by_photo():
    of_photos = pd.DataFrame({"mean": [1.0, 0.05, 0.5]})
    told = trust.tell_sets(sets(), 0.05, of_photos)
    assert "where 95% was promised: the promise is broken" in told
    assert "served worst is monocyte: 40%" in told and "of the 3 photos, 1 has hardly" in told
    none = trust.tell_sets(sets(), 0.05, of_photos + 1)
    assert "of the 3 photos, 0 have hardly" in none


def test_the_meaning_counts_what_comes_closer_on_new_photos():
    kept = decided(around(0.995), around(0.90))
    told = trust.tell_meaning(cooled(0.01, 0.02), kept, sets(0.96, 0.97), 0.99, 0.05)
    assert "confidence is earned" in told and told.endswith("one of the three comes closer to what was promised.")
    broken = decided(around(0.90), around(0.98))
    told = trust.tell_meaning(cooled(held_back=True), broken, sets(), 0.99, 0.05)
    assert "not earned, even at" in told and "all three come closer" in told
    assert "the gap on TEST is +0.5" in told and "97.0%" in told and "94.0%" in told
    assert "nothing is sure enough" in trust.tell_meaning(cooled(), decided(NOTHING, around(1.0)), sets(), 0.99, 0.05)


def test_notes():
    assert trust.tell_fewest(1) == "1 photo" and trust.tell_fewest(4) == "4 photos"
    assert trust.tell_held_back(True).startswith("Runs") and trust.tell_held_back(False).startswith("No run")
