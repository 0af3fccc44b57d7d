import numpy as np
import pandas as pd
import pytest

from wbc_lib.attention.occlusion import COVERS
from wbc_lib.attention.summary import ALL, UNCHANGED
from wbc_lib.words import attention

TITLES = [UNCHANGED, *COVERS.values()]  # unchanged, background, cell, only the cell


def covered(accuracies: list[float], spread: float = 0.02, images: float = 400) -> pd.DataFrame:
    index = pd.MultiIndex.from_product([[ALL], TITLES], names=["cell", "cover"])
    accuracy = np.array(accuracies)
    loss = accuracy[0] - accuracy
    return pd.DataFrame(
        {
            "images": images,
            "accuracy": accuracy,
            "low": accuracy - spread,
            "high": accuracy + spread,
            "loss": loss,
            "loss_low": loss - spread,
            "loss_high": loss + spread,
        },
        index,
    )


def depths(head: float = 0.3, deep: float = 0.01, head_share: float = 0.5) -> pd.DataFrame:
    rows = ["trained", "output", "dense 1", "convolution 3", "convolution 2", "convolution 1"]
    correlation = np.array([1, head, head, deep, deep, deep])
    return pd.DataFrame(
        {
            "correlation": correlation,
            "low": correlation - 0.5,
            "high": correlation + 0.5,
            "share": [0.8, head_share, 0.4, 0.3, 0.2, 0.15],
        },
        rows,
    )


def images(wrong_share: float = 0.5, wrong_even: float = 0.1) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [1, 1, 1, 1, 2, 2, 2, 2],
            "photo": [1, 1, 2, 2, 3, 3, 4, 5],
            "is_cut": [False, False, False, False, False, False, True, True],
            "is_right": [True, True, True, True, True, True, False, False],
            "share": [0.8] * 6 + [wrong_share] * 2,
            "by_position": [0.7] * 6 + [wrong_share] * 2,
            "even": [0.16] * 6 + [wrong_even] * 2,
            "area": 0.1,
        }
    )


@pytest.mark.parametrize(
    ("accuracies", "answer"),
    [
        ([0.83, 0.83, 0.26, 0.82], "At the white cell, and it needs nothing else."),
        ([0.83, 0.83, 0.40, 0.82], "Mostly at the white cell."),
        ([0.83, 0.83, 0.26, 0.50], "Mostly at the white cell."),
        ([0.83, 0.40, 0.80, 0.30], "Not at the white cell, as far as this shows."),
        ([0.26, 0.26, 0.25, 0.26], "Not at the white cell, as far as this shows."),
    ],
)
def test_the_answer_follows_from_what_the_network_can_do_without(accuracies, answer):
    told = attention.tell_meaning(covered(accuracies))
    assert told.startswith(answer)
    assert f"{accuracies[3]:.1%} of the images" in told and f"it is right in {accuracies[2]:.1%}" in told


def test_a_network_that_has_learned_nothing_is_not_said_to_need_the_cell():
    assert "needs nothing else" not in attention.tell_meaning(covered([0.27, 0.27, 0.25, 0.27], 0.05))


def test_changes_are_told_with_their_sign_and_interval():
    told = attention.tell_covered(covered([0.83, 0.84, 0.26, 0.80]), 500)
    assert "On the 400 of 500 images" in told and "26.0% are: no better than chance" in told
    assert "accuracy by +1.0 points (-1.0 to +3.0)" in told and "the cell by -3.0 points (-5.0 to -1.0)" in told
    assert "above chance, which is 25%" in attention.tell_covered(covered([0.83, 0.84, 0.3, 0.8]), 500)


@pytest.mark.parametrize(
    ("of_cell", "verdict"), [(0.26, "nothing that could be told"), (0.32, "little of the"), (0.8, "Much of the")]
)
def test_known_backgrounds_are_weighed(of_cell, verdict):
    assert verdict in attention.tell_known(covered([0.95, 0.95, of_cell, 0.93]))


@pytest.mark.parametrize(("grey", "verdict"), [(0.77, "6.0 points more"), (0.825, "hardly more")])
def test_grey_is_set_against_background_colour(grey, verdict):
    tables = {"own": covered([0.83, 0.83, 0.26, 0.82]), "grey": covered([0.83, grey, 0.26, 0.8])}
    rows = pd.DataFrame({"NEUTROPHIL": [0.6, 0.2], "LYMPHOCYTE": [0.4, 0.8]})
    named = {fill: rows.iloc[[i]].set_axis(["cell covered"]) for i, fill in enumerate(("own", "grey"))}
    told = attention.tell_fill(tables, named)
    assert "60% are called neutrophils; under grey, 80% are called lymphocytes" in told and verdict in told


def test_the_check_is_passed_or_not_and_trainings_are_compared_if_there_are_two():
    passed = attention.tell_check(depths(), np.array([0.5]), 0.15)
    assert "no likeness is left" in passed and "two trainings agree at 0.50" in passed
    assert "not yet of what the decision needs" in passed
    failed = attention.tell_check(depths(deep=0.6, head_share=0.2), np.array([]), 0.15)
    assert "only in part" in failed and "two trainings" not in failed and "trained layers as a whole" in failed


@pytest.mark.parametrize(
    ("share", "even", "words"),
    [
        (0.5, 0.1, ["while looking at the cell, and more often at cells", "Much of this is the box"]),
        (0.8, 0.16, ["while looking at the cell.", "no smaller there"]),
        (0.2, 0.16, ["looks at the cell less", "no smaller there"]),
    ],
)
def test_mistakes_are_told_against_what_an_even_map_would_have(share, even, words):
    told = attention.tell_wrong(images(share, even))
    assert all(word in told for word in words)
    assert "Of the eosinophils, cells that are whole in the photo are recognised (1 photo) in 100%" in told
    assert "cells that its edge cuts (2 photos) in 0%" in told


def test_what_does_not_occur_is_said_not_to():
    all_right, all_wrong = (images().assign(is_right=value) for value in (True, False))
    assert attention.tell_wrong(all_right) == "No image is predicted wrong."
    assert attention.tell_wrong(all_wrong) == "No image is predicted right."
    none_cut = images().assign(is_cut=False)
    assert "edge cuts" not in attention.tell_wrong(none_cut)
    wrong_only = pd.DataFrame(
        {"share": [0.1], "times": [1.0]}, pd.MultiIndex.from_tuples([("MONOCYTE", "wrong")], names=["cell", "kind"])
    )
    assert attention.tell_shares(wrong_only, images(), 0) == "No image is predicted right."


def test_ends_of_the_shares_are_told_with_their_classes():
    index = pd.MultiIndex.from_product([["NEUTROPHIL", "MONOCYTE"], ["right"]], names=["cell", "kind"])
    shares = pd.DataFrame({"share": [0.8, 0.6], "times": [5.0, 3.0]}, index)
    told = attention.tell_shares(shares, images(), 2)
    assert "60% (monocytes) to 80% (neutrophils)" in told and "3.0 to 5.0" in told
    assert "by 8 points in the mean" in told and "2 images of TEST show no part" in told
    assert "left out" not in attention.tell_shares(shares, images(), 0)
