"""Paired comparison of networks on the photos of TEST."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from tests.made_predictions import made_run
from wbc_lib.evaluation import comparison, intervals
from wbc_lib.evaluation.comparison import PhotoScores


def test_a_photo_is_recognised_by_the_mean_of_its_copies_though_most_of_them_are_not():
    sure, wrong = [0, 0.9, 0.1, 0, 0], [0, 0.45, 0.55, 0, 0]
    run = made_run(["a", "b", "c", "d"], [1, 1, 1, 2], probabilities=np.array([sure, wrong, wrong, wrong]))
    scored = comparison.score_photos([run], pd.DataFrame({"image": ["a", "b", "c", "d"], "photo": [7, 7, 7, 9]}))
    assert scored.right_copies.tolist() == [1, 1]
    assert scored.right.tolist() == [1, 1]
    assert (scored.by_image, scored.by_photo) == (0.5, 1.0)


def make_scores(right, copies, labels, groups=None):
    right, copies = np.asarray(right, float), np.asarray(copies)
    groups = np.arange(len(right)) if groups is None else np.asarray(groups)
    return PhotoScores(np.arange(len(right)), np.asarray(labels), groups, copies, right * copies, right)


def test_a_difference_on_nearly_every_photo_is_told_and_has_the_sign_of_the_better():
    labels, copies = np.repeat([1, 2, 3, 4], 10), np.full(40, 30)
    better = make_scores(np.ones(40), copies, labels)
    worse = make_scores(np.tile([0, 0, 0, 0, 1], 8), copies, labels)
    assert comparison.compare(better, worse).verdicts == (comparison.BETTER,) * 2
    assert comparison.compare(worse, better).verdicts == (comparison.WORSE,) * 2
    same = comparison.compare(worse, worse)
    assert (same.by_image.low, same.by_image.high) == (0, 0) and same.verdicts == (comparison.NOT_TOLD_APART,) * 2


def test_overlapping_photos_are_drawn_together():
    labels, copies = np.full(40, 1), np.full(40, 30)
    right = np.tile([1, 1, 0, 0], 10)
    other = make_scores(np.zeros(40), copies, labels)
    apart = comparison.compare(make_scores(right, copies, labels), other)
    together = comparison.compare(make_scores(right, copies, labels, np.repeat(np.arange(20), 2)), other)
    assert together.by_photo.width > 1.2 * apart.by_photo.width


def test_with_two_strata_of_equal_weight_the_degrees_of_freedom_are_welch_s():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 1, 6), rng.normal(0, 3, 6)
    freedom = intervals.degrees_of_freedom(np.r_[a, b], np.ones(12), np.repeat([0, 1], 6))
    assert freedom == pytest.approx(stats.ttest_ind(a, b, equal_var=False).df)


def test_a_class_of_few_photos_widens_the_mean_over_classes_as_students_t_does():
    # Four photos of two images each, the shares right 0, 1/2, 1, 1: of one class, Student's t with three degrees.
    right, sizes, labels = [0, 1, 2, 2], [2, 2, 2, 2], [1, 1, 1, 1]
    found = comparison.average_classes(right, sizes, labels)
    expected = stats.t.interval(0.95, 3, 0.625, stats.sem([0, 0.5, 1, 1]))
    assert (found.estimate, found.low, found.high) == pytest.approx((0.625, *expected))
    # Classes count alike, however large: with a class of which every photo is right, half of the spread is left.
    both = comparison.average_classes([*right, 9, 9, 9], [*sizes, 9, 9, 9], [*labels, 2, 2, 2])
    assert both.estimate == pytest.approx(0.8125)
    assert both.width == pytest.approx(found.width / 2)
