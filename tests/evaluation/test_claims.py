"""Claims, their rules and verdicts."""

import pytest

from wbc_lib.evaluation import claims
from wbc_lib.evaluation.claims import Claim
from wbc_lib.evaluation.comparison import Comparison
from wbc_lib.evaluation.intervals import Interval

UP, DOWN, UNCLEAR = Interval(3, 1, 5), Interval(-3, -5, -1), Interval(1, -2, 4)


@pytest.mark.parametrize(
    ("kind", "by_image", "by_photo", "verdict"),
    [
        ("better", UP, UP, claims.REPRODUCED),
        ("better", UP, UNCLEAR, claims.DEPENDS),
        ("better", DOWN, UP, claims.DEPENDS),
        ("better", UNCLEAR, DOWN, claims.DIFFERS),
        ("no better", UNCLEAR, DOWN, claims.REPRODUCED),
        ("no better", UNCLEAR, UP, claims.DEPENDS),
        ("no better", UP, UP, claims.DIFFERS),
    ],
)
def test_a_comparison_is_judged_by_both_ways_of_counting(kind, by_image, by_photo, verdict):
    claim = Claim("x", "y", kind, compared=Comparison(by_image, by_photo))
    assert claim.verdict(is_cut=False) == verdict


def test_a_verdict_is_given_only_where_there_is_a_full_run():
    claim = Claim("x", "y", "accuracy", 0.90, [0.91])
    assert claim.verdict(is_cut=False) == claims.REPRODUCED
    assert claim.verdict(is_cut=True) == claims.CUT
    assert Claim("x", "y", "accuracy", 0.90).verdict(is_cut=False) == claims.NOT_RUN
    assert Claim("x", "y", "accuracy", 0.90, reason="no weights").verdict(is_cut=False) == claims.UNTESTED


@pytest.mark.parametrize(("offset", "expected"), [(0.024, claims.REPRODUCED), (0.026, claims.DIFFERS)])
@pytest.mark.parametrize("sign", [-1, 1])
def test_accuracies_are_judged_by_the_mean_over_seeds(offset, expected, sign):
    mean = 0.9 + sign * offset
    assert Claim("x", "y", "accuracy", 0.9, [mean - 0.05, mean + 0.05]).verdict(is_cut=False) == expected


def test_claims_that_hang_together_are_counted_apart():
    listed = [
        Claim("x", "a", "statement", measured=[1, 1]),
        Claim("x", "b", "statement", measured=[1, 0]),
        Claim("x", "c", "count", 3, [3], group=claims.BY_CONSTRUCTION),
    ]
    counts = claims.count_verdicts(listed, is_cut=False)
    assert counts.loc[claims.INDEPENDENT].to_dict() == {claims.REPRODUCED: 1, claims.DIFFERS: 1}
    assert counts.loc[claims.BY_CONSTRUCTION].to_dict() == {claims.REPRODUCED: 1, claims.DIFFERS: 0}
