import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib import splits


@given(n=st.integers(0, 500), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_a_split_is_a_partition_of_the_right_size(n, share, seed):
    split = splits.split_at_random(n, share, seed)
    assert np.array_equal(np.sort(np.concatenate([split.training, split.validation])), np.arange(n))
    assert len(split.validation) == round(n * share)
    assert (np.diff(split.training) > 0).all() and (np.diff(split.validation) > 0).all()
    again = splits.split_at_random(n, share, seed)
    assert np.array_equal(split.validation, again.validation)


def test_another_seed_gives_another_split():
    first, second = (splits.split_at_random(100, 0.2, seed) for seed in (0, 1))
    assert not np.array_equal(first.validation, second.validation)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_undersampling_leaves_as_many_of_each_class_as_the_rarest_has(labels, seed):
    labels = np.array(labels)
    rows = splits.undersample(labels, seed)
    assert len(set(rows)) == len(rows)
    counts = np.unique(labels[rows], return_counts=True)[1]
    assert set(counts) == {np.unique(labels, return_counts=True)[1].min()}
    assert set(labels[rows]) == set(labels)
    assert np.array_equal(rows, splits.undersample(labels, seed))


def test_every_row_has_the_same_chance_to_be_held_back():
    held = np.bincount(np.concatenate([splits.split_at_random(50, 0.2, seed).validation for seed in range(1000)]))
    # A row is held back 200 times of 1000; the deviation is 12.6, and 50 rows stay within five of them.
    assert np.abs(held - 200).max() < 63


def test_another_seed_undersamples_otherwise():
    labels = np.repeat([1, 2], [5, 50])
    first, second = (splits.undersample(labels, seed) for seed in (0, 1))
    assert np.array_equal(first[:5], second[:5])  # the rarest class is taken whole
    assert not np.array_equal(first, second)
