import dataclasses

import pandas as pd
import pytest

from tests.test_capacity import BASIS
from tests.test_scaling import made_record
from wbc_lib import capacity, capacity_words
from wbc_lib.scaling import PARTS


def test_the_three_dearest_parts_are_named_dearest_first():
    middle = pd.Series(dict.fromkeys(PARTS, 0.1)) + pd.Series({"tensorflow": 3.9, "end": 0.9, "write": 0.4}).reindex(
        list(PARTS), fill_value=0
    )
    said = capacity_words.tell_parts(pd.DataFrame({"middle": middle}), BASIS)
    # 4.0 + 1.0 + 0.5 of these and seven times 0.1.
    assert "costs 6.2 s besides its 11.7 minutes of epochs: 0.9% of its time" in said
    assert "89% go to three parts: importing TensorFlow; end of the process; writing the run." in said
    assert "there and back, is 200 ms" in said and "The end of the process, 1.0 s" in said


def test_ways_are_told_with_two_workers_slowing_each_other_or_not():
    record = made_record()
    totals = capacity.tabulate_totals(record)
    totals["middle"] = [1.0, 5.0, 5.4]
    assert "With two workers it is 5.4 s, about the same." in capacity_words.tell_ways(totals.reset_index(), record)
    totals.loc["2 workers", "middle"] = 8.0
    said = capacity_words.tell_ways(totals.reset_index(), record)
    assert "8.0 s: they share 2 cores" in said
    assert "a run costs 1.0 s besides its epochs; in a process of its own, 5.0 s." in said
    assert "remaining" not in said
    totals.loc["1 worker", "middle"] = 99.0
    assert "s are not accounted for." in capacity_words.tell_ways(totals.reset_index(), record)
    start = record.clusters.query("workers == 1")
    assert f"stopping the worker takes {(start.start + start.stop).median():.1f} s" in said


RATES = pd.DataFrame(
    {"low": [1.1, 0.9], "high": [1.2, 2.7], "epoch": [0.9, 1.0]}, index=pd.Index(["folds", "as published"])
)


def test_unequal_speeds_are_laid_to_other_work_only_where_the_quickest_epochs_agree():
    said = capacity_words.tell_speed(RATES)
    assert "3.0 times as long" in said and "factor of 1.1 only. Sharing the cores" in said and "(folds)" in said
    slow_itself = RATES.assign(epoch=[0.9, 2.6])
    assert "Sharing" not in capacity_words.tell_speed(slow_itself)
    alike = RATES.assign(high=[1.2, 1.1])
    assert "1.3 times as long as the quickest" in capacity_words.tell_speed(alike)
    assert capacity_words.tell_speed(alike.assign(low=[1.1, 1.0])).startswith(
        "Per image, the slowest run took 1.20 times"
    )


def test_a_study_is_told_from_its_fewest_workers_to_its_most():
    cost = capacity.tabulate_cost(15_000, BASIS, (256, 1, 16))
    said = capacity_words.tell_cost(cost, BASIS, 15_000, 2)
    assert said.startswith(
        "One worker would need 123 days, 256 need 11.6 hours: 254 times less for 256 times the workers"
    )
    assert "5,917 core hours" in said and "104 of them have nothing left to do: 0.7% of all" in said
    assert capacity_words.tell_cost(cost.drop(index=1), BASIS, 15_000, 2).startswith("16 workers would need")
    even = capacity.tabulate_cost(512, BASIS, (1, 256))
    assert "every worker has a run in the last wave" in capacity_words.tell_cost(even, BASIS, 512, 2)


def test_the_store_takes_many_times_what_it_keeps():
    said = capacity_words.tell_store(capacity.tabulate_cost(15_000, BASIS, (1, 256)), BASIS, 15_000)
    assert "leaves 70 kB in 3 files, all 15,000 of them 1.1 GB." in said  # 1.05
    assert "study 3.8 TB, 3,571 times what is kept" in said  # 50 times 5 MB for 70 kB
    assert "take 90 MB and 18 files a second" in said


@pytest.mark.parametrize(("overhead", "words"), [(10, "is cheap: it costs 1.4%"), (700, "is dear: it costs 50%")])
def test_whether_it_pays_depends_on_the_length_of_the_runs(overhead, words):
    basis = dataclasses.replace(BASIS, overhead=overhead)
    assert words in capacity_words.tell_meaning(basis, made_record())
    assert capacity_words.UNMEASURED in capacity_words.tell_meaning(basis, None)


def test_a_measurement_on_a_busy_machine_says_so():
    record = made_record()
    for load, words in (
        (0.49, "next to nothing else"),
        (0.5, "The machine was busy: 0.5"),
        (6.2, "too high, by a factor"),
    ):
        assert words in capacity_words.tell_load(dataclasses.replace(record, about=record.about | {"load": load}))
    assert capacity_words.tell_load(None) == capacity_words.UNMEASURED
