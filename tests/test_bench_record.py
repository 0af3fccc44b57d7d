import dataclasses
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress

from wbc_lib import bench_record
from wbc_lib.bench_record import PartRecord, compare, fit_exponent, sum_of
from wbc_lib.errors import BenchError
from wbc_lib.turns import Outcome, Series

VALUES = st.floats(1e-3, 1e3)
MACHINE = {"system": "S", "processor": "P", "cores": 2, "memory": 8}


def series(size, *values, contender="a", quantity="seconds"):
    return Series(contender, quantity, size, values)


def part(name="training", *found, **others):
    about = {"a": {"torch": "1"}}
    return PartRecord(name, "2026-01-02T03:04:05+00:00", {"title": "phantoms", "sha256": "0"}, MACHINE, {"numpy": "2"},
                      0.1, {"epochs": 30}, Outcome(found or (series(3.0, 1.5, 2.5), series(None, 7.0)), about,
                                                   {"b": "why"}), **others)  # fmt: skip


@pytest.fixture(autouse=True)
def results(tmp_path, monkeypatch):
    monkeypatch.setenv("WBC_RESULTS", str(tmp_path / "results"))
    return tmp_path / "results"


def test_a_part_measured_again_replaces_its_record_and_leaves_the_others():
    assert bench_record.read_parts() == {}
    bench_record.write_part(part("training"))
    bench_record.write_part(part("book"))
    again = part("training", series(9.0, 4.0))
    bench_record.write_part(again)
    assert bench_record.read_parts() == {"training": again, "book": part("book")}


@pytest.mark.parametrize(
    "damage",
    [
        lambda plain: plain.pop("machine"),
        lambda plain: plain.update(format=0),
        lambda plain: plain.update(part="other"),
        lambda plain: plain["outcome"]["series"][0].update(values=[]),
        lambda plain: plain["outcome"]["series"][0].update(values=["fast"]),
        lambda plain: plain["outcome"]["series"][0].update(values=[math.nan]),
        lambda plain: plain.update(outcome=[]),
        lambda plain: plain.clear(),
    ],
)
def test_a_damaged_record_is_named_with_the_remedy(damage):
    path = bench_record.write_part(part())
    plain = json.loads(path.read_text())
    damage(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(BenchError, match="training.json is no record .*`wbc bench --only training --record`"):
        bench_record.read_parts()
    path.write_text("{")
    with pytest.raises(BenchError, match="is no record"):
        bench_record.read_parts()


@given(st.dictionaries(st.integers(1, 10**6), st.lists(VALUES, min_size=1, max_size=3), min_size=2, max_size=6))
def test_the_exponent_is_the_slope_that_scipy_fits(found):
    some = [series(float(size), *values) for size, values in found.items()]
    x, y = np.log([s.size for s in some]), np.log([np.median(s.values) for s in some])
    assert fit_exponent(some) == pytest.approx(linregress(x, y).slope, abs=1e-6, rel=1e-6)


def test_what_is_measured_at_one_size_has_no_exponent():
    assert math.isnan(fit_exponent([series(3.0, 1.0)]))
    assert math.isnan(fit_exponent([]))


@given(st.lists(st.tuples(VALUES, VALUES), min_size=1, max_size=7))
def test_a_ratio_lies_within_those_of_single_turns_where_these_agree(pairs):
    slow, fast = zip(*pairs, strict=True)
    ratio, least, most = compare(series(None, *slow), series(None, *fast))
    assert ratio == pytest.approx(np.median(slow) / np.median(fast))
    single = np.array(slow) / np.array(fast)
    assert (least, most) == pytest.approx((single.min(), single.max()))


def test_series_are_added_turn_by_turn():
    total = sum_of((series(4.0, 1.0, 2.0), 1.0), (series(4.0, 10.0, 20.0), 29.0))
    assert total.values == (291.0, 582.0)
    assert total.size == 4


def test_the_largest_size_counts_and_who_took_no_part_has_none():
    one = part("training", series(10.0, 1.0), series(30.0, 3.0), series(20.0, 2.0))
    assert [s.size for s in one.series("a")] == [10, 20, 30]
    assert one.largest("a").values == (3.0,)
    assert one.largest("b") is None
    assert one.largest("a", "bytes") is None


def test_the_basis_names_every_machine_with_its_parts():
    other = dataclasses.replace(part("book"), machine=MACHINE | {"cores": 64})
    assert "Nothing is measured yet" in bench_record.describe_basis({})
    assert bench_record.describe_basis({"training": part(), "book": part("book")}).count("P, 2 cores") == 1
    words = bench_record.describe_basis({"training": part(), "book": other})
    assert "Measured for training: P, 2 cores" in words and "Measured for book: P, 64 cores" in words


def test_tables_have_a_row_per_part_and_per_series():
    table = bench_record.tabulate_parts({"training": part()})
    assert table.loc["training"].tolist() == ["2026-01-02", "phantoms", "0.10", "2"]
    assert bench_record.tabulate_parts({}).empty
    rows = bench_record.tabulate_series(part())
    assert rows["median"].tolist() == [2.0, 7.0]
    assert rows.times.tolist() == [2, 1]


def test_the_machine_and_the_libraries_are_described():
    machine = bench_record.describe_machine()
    assert machine["cores"] >= 1 and machine["memory"] >= 1 and machine["processor"]
    assert bench_record.describe_libraries()["numpy"] == np.__version__
