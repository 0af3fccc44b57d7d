import pandas as pd
import pytest

from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation.counting import ADJUSTED, BY_PHOTO, COUNTING, EM
from wbc_lib.words import counting
from wbc_lib.words.counting import ADJUSTED_BY_VALIDATION, EM_BY_VALIDATION, HEALTHY, READER, TITLES

N = 10_000
MIXES = (HEALTHY, "lymphocytosis")
BY_PHOTOS = {f"{ADJUSTED}, {BY_PHOTO}": 0.06, f"{EM}, {BY_PHOTO}": 0.02}


def errors(by_way: dict[str, float], sizes: tuple[int, ...] = (100, 1000, N)) -> pd.DataFrame:
    rows = {(mix, n, way): e + 10 / n for mix in MIXES for n in sizes for way, e in by_way.items()}
    index = pd.MultiIndex.from_tuples(rows, names=["mix", "n", "way"])
    error = pd.Series(rows.values(), index)
    return pd.DataFrame({"error": error, "low": error / 2, "high": 2 * error})


def of_ways(counted: float = 0.05, adjusted: float = 0.04, by_em: float = 0.01, **others: float) -> pd.DataFrame:
    return errors({COUNTING: counted, ADJUSTED_BY_VALIDATION: adjusted, EM_BY_VALIDATION: by_em, **others})


def shares(*means: float) -> pd.DataFrame:
    mean = pd.Series(means, CLASSES)
    return pd.DataFrame({"mean": mean, "low": mean - 0.01, "high": mean + 0.01})


@pytest.fixture
def hundred():
    return pd.Series({HEALTHY: 0.045, "lymphocytosis": 0.03})


def test_a_way_wins_where_it_errs_less_than_the_reader(hundred):
    wins = counting.find_wins(of_ways(0.04, 0.05, 0.01), hundred, N)
    assert wins == {COUNTING: [HEALTHY], ADJUSTED_BY_VALIDATION: [], EM_BY_VALIDATION: list(MIXES)}


@pytest.mark.parametrize(
    ("plain", "by_em", "verdict"),
    [(2, 2, "Yes"), (1, 2, "Not by counting"), (0, 0, "No"), (1, 1, "For some"), (0, 1, "For some")],
)
def test_the_verdict_follows_the_wins(plain, by_em, verdict):
    wins = {COUNTING: MIXES[:plain], ADJUSTED_BY_VALIDATION: (), EM_BY_VALIDATION: MIXES[:by_em]}
    assert counting.tell_verdict(wins, 2).startswith(verdict)


def test_the_surplus_class_and_the_class_that_pays_are_named():
    blood = pd.Series([0.6, 0.03, 0.05, 0.32], CLASSES)
    counted, by_em = shares(0.5, 0.12, 0.06, 0.32), shares(0.59, 0.04, 0.05, 0.32)
    told = counting.tell_healthy(blood, counted, by_em, shares(0.5, 0.12, 0.06, 0.32) * 1, N)
    assert "Of 10,000 cells, 3.0% are eosinophils. Counting predictions finds 12.0% (11.0% to 13.0%)" in told
    assert "cost of the neutrophils" in told and "far surer" in told and told.endswith("EM finds 4.0% (3.0% to 5.0%).")
    assert "far surer" not in counting.tell_healthy(blood, counted, by_em, None, N)


def test_the_alarm_that_is_told_is_the_most_frequent():
    titles = [READER, TITLES[COUNTING], TITLES[EM_BY_VALIDATION]]
    alarms = pd.DataFrame([[0.1, 0.2, 0.3], [0.4, 0.9, 0.05]], ["Neutrophil", "Eosinophil"], titles)
    told = counting.tell_alarms(alarms)
    assert "eosinophils" in told and "in 40% of" in told and "does so in 90%, EM in 5%." in told


def test_errors_are_told_at_three_sizes(hundred):
    table = of_ways()
    told = counting.tell_errors(table, counting.find_wins(table, hundred, N), N)
    assert "off by 15.0 cells of a hundred for 100 cells, 6.0 for 1,000 and 5.1 for 10,000" in told
    assert "in none of the mixes if predictions" in told and "in 2 of 2 (healthy adult, lymphocytosis) with EM" in told


def test_what_is_learned_from_few_photos_may_be_worse_than_nothing():
    told = counting.tell_sources(of_ways(**BY_PHOTOS), N)
    assert "by +2.0 cells of a hundred for adjusted counting and by +1.0 for EM" in told and "honest but rough" in told
    assert "validation had hidden" in counting.tell_sources(of_ways(counted=0.07, **BY_PHOTOS), N)


def test_without_photos_to_deal_nothing_is_said_of_them():
    told = counting.tell_sources(of_ways(), N)
    assert told.startswith("Some class of this data set has a single photo") and "Networks whose" not in told


def test_networks_with_an_honest_validation_are_set_beside_the_others():
    told = counting.tell_sources(of_ways(**BY_PHOTOS), N, of_ways(0.03, 0.02, 0.01))
    assert "by 3.1 cells of a hundred if predictions are counted, 2.1 if they are adjusted by it, and 1.1 with" in told
    assert told.endswith("the networks validated at random by 5.1, 4.1 and 1.1.")


def test_the_meaning_gives_what_the_count_is_worth(hundred):
    table = of_ways()
    worth = pd.DataFrame(1234, list(MIXES), list(TITLES.values()))
    wins = counting.find_wins(table, hundred, N)
    told = counting.tell_meaning(wins, worth, table.loc[HEALTHY, N, EM_BY_VALIDATION], 0.045, 0.75, N)
    assert "a reader of 1,234 cells" in told and "an error of 1.1 cells of a hundred (0.5 to 2.2)" in told
    assert "mean of 4.5 in 75% of" in told


def test_em_helps_where_it_errs_clearly_less():
    assert counting.tell_help(of_ways(), N).endswith("in 2 of 2 mixes (healthy adult, lymphocytosis).")
    assert counting.tell_help(of_ways(by_em=0.0495), N).endswith("in 0 of 2 mixes.")


def test_the_rarest_class_sets_the_limit():
    assert "TEST has 4 photos of monocytes" in counting.tell_rarest({"NEUTROPHIL": 48, "MONOCYTE": 4})
    assert "one of 4, and in a half one of 2." in counting.tell_rarest({"NEUTROPHIL": 48, "MONOCYTE": 4})
    assert "1 photo of monocytes" in counting.tell_rarest({"NEUTROPHIL": 48, "MONOCYTE": 1})
