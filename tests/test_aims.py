import math

import pytest

from wbc_lib import aims, bench
from wbc_lib.aims import AIMS, Aim, Reading
from wbc_lib.bench_record import PartRecord
from wbc_lib.turns import Outcome, Series

FURTHER, FIRST = "seconds per further epoch", "seconds to the first epoch's end"


def record_of(part, series, missing=None, **settings):
    outcome = Outcome(tuple(series), {}, missing or {})
    machine = {"system": "S", "processor": "P", "cores": 2, "memory": 8}
    return PartRecord(
        part, "2026-01-02T03:04:05+00:00", {"title": "t", "sha256": "0"}, machine, {}, 0, settings, outcome
    )


@pytest.fixture
def record():
    """Figures that are easily reckoned with."""
    training = [
        Series(bench.OURS, "seconds", 100.0, (5.0, 5.0)),
        Series(bench.OURS, "seconds", 400.0, (2.0, 2.0, 4.0)),
        Series(bench.KERAS, "seconds", 400.0, (3.0, 2.0, 4.0)),
        Series(bench.PRODUCTS[0], "operations/s", None, (50.0, 60.0, 70.0)),
        Series(bench.PRODUCTS[1], "operations/s", None, (100.0, 100.0, 100.0)),
        Series(bench.PROFILE, "convolutions, forward", None, (0.6,)),
        Series(bench.PROFILE, "dense layers", None, (0.2,)),
        Series(bench.PROFILE, "pooling", None, (0.2,)),
    ]
    arrays = [
        Series(bench.COLD, "seconds", 10.0, (1.0,)),
        Series(bench.USUAL, "seconds", 10.0, (2.9,)),
        Series(bench.WARM, "seconds", 10.0, (0.2,)),
        Series(bench.COLD, "peak memory / array", 10.0, (1.25,)),
        Series(bench.COLD, "seconds of hashing", 10.0, (0.25,)),
        Series(bench.COLD, "seconds of decoding", 10.0, (0.5,)),
    ]
    transfer = [
        Series(bench.CACHED, "seconds", 8.0, (1.0, 1.0)),
        Series(bench.IN_LOOP, FIRST, 8.0, (2.0, 4.0)),
        Series(bench.IN_LOOP, FURTHER, 8.0, (1.0, 1.0)),
    ]
    provenance = [
        *(Series(bench.INDEXED, "seconds per image", 10.0**i, (2.0**i, 2.0**i)) for i in (1, 2, 3)),
        *(Series(bench.INDEXED, "share found", 10.0**i, (1.0,)) for i in (1, 2, 3)),
        Series(bench.TRACING, "seconds per image", None, (0.04,)),
    ]
    book = [
        Series(bench.BUILDS["fresh"], "seconds", None, (89.0, 89.5)),
        Series(bench.BUILDS["pages"], "seconds", None, (9.25,)),
        Series(bench.BUILDS["fresh"], "bytes of the largest page", None, (1_600_000.0,)),
        Series(bench.BUILDS["fresh"], "bytes of the site", None, (9e6,)),
    ]
    return {
        "training": record_of(
            "training", training, {bench.TORCH: "no PyTorch here"}, operations_per_image=0.5, batch_size=4
        ),
        "arrays": record_of("arrays", arrays),
        "transfer": record_of("transfer", transfer, epochs=30),
        "provenance": record_of("provenance", provenance),
        "book": record_of("book", book, chapters=40),
    }


def test_readings_are_those_reckoned_by_hand(record):
    found = aims.read_off(record)
    assert found["keras"] == Reading(3 / 2, 1.0, 1.5, 3)  # of medians; single turns beside it
    assert found["limit"].value == 0.5 * 400 / 2 / 100  # against the faster library
    assert found["rate"].value == 200
    assert found["transfer"].value == pytest.approx(3 + 29)
    assert (found["transfer"].least, found["transfer"].most) == (31, 33)
    assert found["search"].value == pytest.approx(math.log10(2))
    assert found["tracing"].value == 25
    assert found["page"].value == 1.6
    assert found["torch"] is None and found["start"] is None


def test_outcomes_follow_from_the_readings(record):
    table = aims.tabulate(record)
    outcome = {name: table.loc[aim.title, "outcome"] for name, aim in AIMS.items()}
    assert outcome == {
        "keras": aims.MET, "torch": aims.NOT_MEASURED, "limit": aims.MET, "rate": "", "cold": aims.MISSED,
        "warm": aims.MISSED, "memory": aims.MET, "transfer": aims.MET, "tracing": "", "search": aims.MET,
        "fresh": aims.MET, "changed": aims.NOT_MEASURED, "same": aims.NOT_MEASURED, "page": aims.MISSED, "site": "",
        "start": aims.NOT_MEASURED, "chapter": aims.NOT_MEASURED,
    }  # fmt: skip


def test_without_a_record_everything_is_not_measured_yet_and_nothing_fails():
    table = aims.tabulate({})
    assert len(table) == len(AIMS)
    assert set(table.outcome) == {aims.NOT_MEASURED}
    assert (table.measured == "").all()
    for part in bench.PARTS:
        assert f"wbc bench --only {part} --record" in aims.tell({}, part)
    assert (
        aims.explain_limit({})
        == aims.explain_cold({})
        == aims.explain_keras({})
        == aims.explain_book({})
        == aims.describe_search({})
        == ""
    )
    assert aims.read_profile({}) == {}
    assert aims.trace_growth({}, "arrays") == {}


def test_a_part_without_figures_does_not_fail_either():
    for part in bench.PARTS:
        empty = {part: record_of(part, [], epochs=30, operations_per_image=1)}
        assert set(aims.tabulate(empty).outcome) == {aims.NOT_MEASURED}
        assert "not measured yet" in aims.tell(empty, part)
    empty = {part: record_of(part, [], epochs=30) for part in bench.PARTS}
    assert (
        aims.explain_limit(empty)
        == aims.explain_cold(empty)
        == aims.explain_keras(empty)
        == aims.explain_book(empty)
        == ""
    )


def test_the_sentences_say_every_aim_met_or_missed_and_why_not_measured(record):
    told = aims.tell(record, "training")
    assert "1.50 x; the aim, at least 1.35 x, is met." in told
    assert "PyTorch, eager: not measured yet (no PyTorch here)." in told
    assert "the aim, at least 3.0 x, is missed" in aims.tell(record, "arrays")
    assert "the aim, below 1.50 MB, is missed" in aims.tell(record, "book")


def test_what_keeps_from_the_limit_is_read_off_the_profile(record):
    words = aims.explain_limit(record)
    assert "80% of its time on the arithmetic" in words
    assert "125% of what large" in words  # 100 % of the limit in 80 % of the time
    assert "other 20%" in words


def test_the_words_carry_the_measured_figures(record):
    cold = aims.explain_cold(record)
    assert "Of the 1.0 seconds that 10 images take when nothing is cached, 0.2 are" in cold
    assert "even without hashing the ratio would be 5.8" in cold
    assert "9 go to making the pages" in aims.explain_book(record)
    assert "80 to executing 40 chapters" in aims.explain_book(record) and "4.0 seconds" in aims.explain_book(record)
    keras = aims.explain_keras(record)
    assert "20.0 ms here and 30.0 ms in plain Keras" in keras and "80% of our time" in keras and "27.0 ms" in keras
    assert "1,000 photos: 8000.0 ms, 100% found" in aims.describe_search(record)


def test_growth_is_by_size_and_the_loop_is_carried_on_from_its_second_epoch(record):
    assert [s.size for s in aims.trace_growth(record, "training")[bench.OURS]] == [100, 400]
    assert aims.trace_growth(record, "training")[bench.TORCH] == []
    assert aims.trace_growth(record, "transfer")[bench.IN_LOOP][0].values == (31, 33)
    assert [s.size for s in aims.trace_growth(record, "provenance")[bench.INDEXED]] == [10, 100, 1000]


@pytest.mark.parametrize("is_least", [True, False])
def test_an_aim_is_judged_at_its_very_bound(is_least):
    aim = Aim("a", "book", "A", "{:.1f}", lambda record: None, 2.0, is_least)
    assert aim.judge(Reading(2.0, 2, 2, 1)) == (aims.MET if is_least else aims.MISSED)
    assert aim.judge(Reading(1.9, 2, 2, 1)) == (aims.MISSED if is_least else aims.MET)
    assert aim.describe_bound() == ("at least 2.0" if is_least else "below 2.0")


def test_every_part_has_a_figure():
    assert {aim.part for aim in AIMS.values()} == set(bench.PARTS)
