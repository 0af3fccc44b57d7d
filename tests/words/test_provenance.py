import numpy as np
import pandas as pd
import pytest

from wbc_lib.words import provenance as words

HERE, LENT = "this data set", "these phantoms"


def traced(confidence: float = 0.95, residual: float = 2.0) -> pd.DataFrame:
    # Photos 1 and 2 in TRAIN, 3 in TEST; the simple images show photo 3 twice.
    images = [
        *(f"TRAIN/NEUTROPHIL/_{i}_{i}.jpeg" for i in range(4)),
        *(f"TEST/NEUTROPHIL/_{i}_{i}.jpeg" for i in range(2)),
        *(f"TEST_SIMPLE/NEUTROPHIL/_{i}_{i}.jpeg" for i in range(2)),
    ]
    return pd.DataFrame(
        {
            "image": images,
            "photo": [1, 2, 1, 2, 3, 3, 3, 3],
            "runner_up": [2, 1, 3, 3, 1, 1, 1, 1],
            "confidence": [0.6, 0.7, *[confidence] * 6],
            "residual": [1.0, *[residual] * 7],
            "gain": [1.0, *[1.2] * 7],
        }
    )


def hidden(confidence: float = 0.0, has_twin: bool = True) -> pd.DataFrame:
    return pd.DataFrame(
        {"confidence": [0.0, confidence], "has_twin": [has_twin, False], "inliers": [70, 5], "residual": [6.5, 30.0]}
    )


def described(**columns: list) -> pd.DataFrame:
    pairs = pd.DataFrame(
        {
            "photo": [206, 10, 20],
            "other": [278, 11, 21],
            "residual": [5.0, 6.0, 7.0],
            "label": ["monocyte", "neutrophil", "neutrophil"],
            "other_label": ["lymphocyte", "neutrophil", "neutrophil"],
            "same_cell": [True, True, False],
            "is_labelled_twice": [True, True, False],
            "is_torn": [True, False, False],
        }
    )
    return pairs.assign(**columns)


def test_a_wrong_answer_given_in_good_faith_is_counted():
    assert words.tell_hidden(hidden(), HERE).startswith("Of 2 images none is")
    assert "A twin can reach 70 inliers" in words.tell_hidden(hidden(), HERE)
    assert "never below 6.5" in words.tell_hidden(hidden(), HERE)
    assert words.tell_hidden(hidden(0.5), HERE).startswith("Of 2 images 1 are")
    assert words.tell_hidden(hidden(has_twin=False), LENT).endswith("harder half of the test is missing.")


def test_confidence_separates_right_from_wrong_or_does_not():
    assert "still has 0.60" in words.tell_gap(traced(), hidden()) and "between" in words.tell_gap(traced(), hidden())
    assert "overlap" in words.tell_gap(traced(), hidden(0.1))
    assert "overlap" in words.tell_gap(traced(confidence=0.0), hidden())


def test_photos_in_both_splits_would_be_told():
    told = words.tell_traced(traced())
    assert told.startswith("All 8 images are traced, to 2 photos in TRAIN and 1 in TEST; none is in both.")
    assert told.endswith(
        "The 2 images of TEST_SIMPLE, which are not augmented, show 1 photos: photos 3 are there twice."
    )
    table = traced(confidence=0.0)
    table.loc[0, "photo"] = 3
    assert words.tell_traced(table).startswith("2 of 8 images are traced, to 3 photos in TRAIN and 1 in TEST; 1 are")


def counted(lost: int = 1, copies: tuple[int, ...] = (2, 3)) -> pd.DataFrame:
    rows = [
        {"split": split, "cell": "MONOCYTE", "photos": 2, "images": 5, "copies": np.array(copies), "ceiling": 3}
        | {"draws": draws, "at_least": 6, "lost": lost}
        for split, draws in (("TRAIN", 6), ("TEST", 7))
    ]
    return pd.DataFrame(rows).set_index(["split", "cell"])


@pytest.mark.parametrize(
    ("alone", "recipe", "says", "and_says"),
    [
        (
            0.001,
            0.4,
            "do not give copies so even (p at most 1e-03",
            "The recipe does: the smallest of 2 p-values is 0.40.",
        ),
        (0.5, 0.01, "hardly give copies so even (p at most 0.01 in 0 of 2", "Nor does the recipe explain them all"),
    ],
)
def test_both_accounts_of_the_copies_are_judged(alone, recipe, says, and_says):
    judged = pd.DataFrame({"p_independent": [alone, np.nan], "p_recipe": [recipe, 0.9]})
    told = words.tell_copies(counted(), judged)
    assert told.startswith("No photo has more copies") and says in told and and_says in told
    assert words.tell_copies(counted(copies=(4, 4)), judged).startswith("4 photos have more copies")


def test_missing_images_are_explained_or_not():
    as_many, fewer = np.array([1, 2, 3, 2, 2, 1, 3]), np.zeros(500)
    told = words.tell_draws(counted(), as_many)
    assert "in 1 of 2 cases exactly 6 for a class of TRAIN or 7 for one of TEST" in told
    assert "Of these 13 images 10 are left. The 2 missing ones fit" in told and "2 would be expected" in told
    assert "would have cost 0.0 images; 2 are missing" in words.tell_draws(counted(), fewer)
    assert words.tell_draws(counted(lost=0), fewer).endswith("None is missing.")


def test_the_number_of_mistakes_that_would_be_noticed():
    assert words.tell_unnoticed({1: 0.6, 2: 0.2, 3: 0.04}, 1234).startswith("3 wrong images of 1,234 would have")
    assert "too small for such a limit" in words.tell_unnoticed({1: 0.6, 2: 0.2}, 1234)


def test_an_even_draw_is_contradicted_only_allowing_for_the_number_of_tests():
    tested = pd.DataFrame({"p": [0.02, 0.5, 0.5]}, ["shear (degrees)", "rotation (degrees)", "shift (pixels)"])
    assert words.tell_moves(tested, True) == "None of these 3 speaks against an even draw (smallest p: 0.02, shear)."
    tested.p = [0.001, 0.5, 0.5]
    assert words.tell_moves(tested, True) == "An even draw is contradicted by the shear (p = 0.001)."
    assert words.tell_moves(tested, False).endswith(", whose range is no wider than the maps are exact.")
    assert "radians, as early" in words.tell_shear(True) and "degrees, as later" in words.tell_shear(False)


def test_the_gain_is_keras_or_nothing():
    sample = traced().iloc[1:]
    assert "by up to 20 %" in words.tell_gain(traced(), sample, np.full(7, 1.19), HERE)
    assert "by 0.010 on average (in 7 images; without it, 0.200)" in words.tell_gain(
        traced(), sample, np.full(7, 1.19), HERE
    )
    same = sample.assign(gain=1.0)
    assert (
        words.tell_gain(traced(), same, np.full(7, 1.3), LENT)
        == "The images of these phantoms are as bright as their photos."
    )


def test_rivals_are_weighed():
    rivals = pd.DataFrame({"residual": [1.0, 2.0], "runner_up_residual": [5.0, 6.0]})
    told = words.tell_rivals(rivals, 100, is_lent=False)
    assert (
        told.startswith("2 images (2.0%) have") and "fits better in all of them: its residual is at most 2.00" in told
    )
    assert "at least 5.00, and never less than 3.0 times" in told
    rivals.loc[1, "runner_up_residual"] = 1.5
    assert "all but 1" in words.tell_rivals(rivals, 100, is_lent=False)
    assert words.tell_rivals(rivals[:0], 100, is_lent=True).endswith("Phantoms are all of different fields.")


def test_low_confidence_is_put_down_to_twins_by_their_share():
    pairs = pd.DataFrame({"photo": [1], "other": [2]})
    assert words.tell_tail(traced(), pairs).startswith("2 images (25.0%) have a confidence below 0.9. For 100% of them")
    assert "For 0% of" in words.tell_tail(traced(), pairs[:0])
    assert words.tell_tail(traced()[2:], pairs) == "No confidence is below 0.9."


def test_photos_too_much_alike_would_be_told():
    assert "differ by 5.0 grey levels" in words.tell_alike(traced(), described())
    assert "may be wrong" in words.tell_alike(traced(residual=5.5), described())
    assert words.tell_alike(traced(), described()[:0]) == "here no two are of one field"


def test_fields_and_what_is_on_record():
    told = words.tell_fields(described(), (19, 20), None)
    assert told.startswith("3 pairs are found, 2 of them") and "in 19 of 20 steps" in told
    assert "steps" not in words.tell_fields(described(), (9, 9), None)
    assert "steps" not in words.tell_fields(described(), (10, 20), None)
    assert words.tell_fields(described()[:0], (0, 0), 41).endswith("Of the real photos 41 pairs are on record.")


def test_cells_in_both_splits():
    told = words.tell_across(2, [257, 204], 30, 400, HERE)
    assert "photos 257, 204 of TEST. They have 30 of the 400 copies in TEST (7.5%)." in told
    assert words.tell_across(0, [], 0, 400, LENT) == "No white cell of these phantoms is in both TRAIN and TEST."
    assert words.tell_exposed(30, 400, False).startswith("7.5%")
    assert "none" in words.tell_exposed(0, 400, False) and "boxes" in words.tell_exposed(0, 400, True)


def test_two_labels_of_one_cell():
    told = words.tell_torn(described(), HERE)
    assert "Of 2 white cells" in told and "1 bears two different labels: monocyte in photo 206, lymphocyte" in told
    assert "50% of the cells labelled twice, with an exact 95 % interval of 1.3% to 99%." in told  # 1 of 2, by hand
    assert words.tell_torn(described(is_torn=[False] * 3), HERE).endswith("all bear the same label twice.")
    assert "was labelled twice" in words.tell_torn(described()[2:], LENT)


def test_the_number_of_cells_needs_their_boxes():
    told = words.tell_cells({"TRAIN": 277, "TEST": 71}, {"TRAIN": 250, "TEST": 70}, False)
    assert told == "The 71 photos of TEST show at most 70 different white cells, the 277 of TRAIN 250."
    assert "not on this machine" in words.tell_cells({}, {}, True)
