import numpy as np
import pandas as pd

from wbc_lib.evaluation.crossvalidation import WAYS
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.words import new_photo as words

TITLES = {"baseline": "Baseline", "overfitting": "Overfitting", "reduced": "Reduced", "dropout-0.2": "Dropout 0.2"}
CLEAR, OPEN = Interval(0.1, 0.05, 0.15), Interval(0.02, -0.03, 0.07)


def scores(monocytes: float = 0.3) -> dict[str, pd.DataFrame]:
    rows = {"accuracy": 0.78, "balanced accuracy": 0.6, "recall, Neutrophil": 0.9, "recall, Monocyte": monocytes}
    estimate = pd.Series(rows)
    table = pd.DataFrame({"estimate": estimate, "low": estimate - 0.04, "high": estimate + 0.03})
    return {WAYS[0]: table - 0.03, WAYS[1]: table}


def test_without_runs_the_command_that_makes_them_is_named():
    for told in (words.tell_scores({}, []), words.tell_expectation({}, {}), words.tell_differences({}, {})):
        assert "wbc train --suite folds" in told
    assert words.tell_order({}, TITLES) == ""


def test_both_ways_of_counting_a_photo_are_told():
    told = words.tell_scores(scores(), [0.77, 0.79])
    assert "recognises 75.0% as they were taken (71.0% to 78.0%) and 78.0% by the mean over" in told
    assert told.endswith("runs from 77.0% to 79.0%.")
    assert "From repeat" not in words.tell_scores(scores(), [0.77])


def test_the_class_recognised_worst_is_named_with_its_photos():
    photos = {"Neutrophil": 207, "Monocyte": 20}
    told = words.tell_expectation(scores(), photos)
    assert "expect 78%, with 74% to 81%" in told and "is the monocyte, of which there are 20 photos" in told
    assert "is the neutrophil, of which there are 207" in words.tell_expectation(scores(0.95), photos)


def test_a_difference_counts_by_its_interval_and_is_agreed_on_by_the_test():
    differences = {"baseline": (CLEAR, 0.01), "reduced": (CLEAR, 0.2), "overfitting": (OPEN, 0.01)}
    told = words.tell_differences(differences, TITLES)
    assert told.startswith("Of the 3 networks compared, 2 differ")
    assert "accuracy (Baseline, Reduced), each" in told and "1 of these also by McNemar's test of accuracy" in told
    assert "at 0.05 (Baseline)." in told and "does not settle" in told
    none = words.tell_differences({"overfitting": (OPEN, 0.5)}, TITLES)
    assert "0 differ from the final model by the interval of balanced accuracy, each" in none


def test_a_difference_may_lie_on_either_side():
    worse = Interval(*(-np.array([0.1, 0.15, 0.05])))
    assert "1 differ" in words.tell_differences({"baseline": (worse, 0.5)}, TITLES)


def test_only_networks_with_a_restraint_are_set_beside_the_one_without():
    level = {"overfitting": 0.6, "reduced": 0.7, "dropout-0.2": 0.5, "baseline": 0.9}
    assert words.tell_order(level, TITLES) == (
        "Of the regularised networks, 1 of 2 lie above the overfitting one (Reduced)."
    )
    assert "0 of 2 lie above the overfitting one." in words.tell_order(level | {"reduced": 0.6}, TITLES)
