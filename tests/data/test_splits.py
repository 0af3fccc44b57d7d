import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wbc_lib.data import splits


@given(n=st.integers(0, 500), share=st.floats(0, 1), seed=st.integers(0, 1000))
def test_a_split_is_a_partition_of_the_right_size(n, share, seed):
    split = splits.split_at_random(n, share, seed)
    assert np.array_equal(np.sort(np.concatenate([split.training, split.validation])), np.arange(n))
    assert len(split.validation) == round(n * share)
    assert (np.diff(split.training) > 0).all() and (np.diff(split.validation) > 0).all()
    again = splits.split_at_random(n, share, seed)
    assert np.array_equal(split.validation, again.validation)


@given(st.lists(st.integers(1, 4), min_size=1, max_size=80), st.integers(0, 9))
def test_undersampling_leaves_as_many_of_each_class_as_the_rarest_has(labels, seed):
    labels = np.array(labels)
    rows = splits.undersample(labels, seed)
    assert len(set(rows)) == len(rows)
    counts = np.unique(labels[rows], return_counts=True)[1]
    assert set(counts) == {np.unique(labels, return_counts=True)[1].min()}
    assert set(labels[rows]) == set(labels)
    assert np.array_equal(rows, splits.undersample(labels, seed))


@given(st.data())
def test_no_group_is_on_two_sides_and_every_row_is_held_back_once(data):
    n_groups, n_folds = data.draw(st.integers(12, 30)), data.draw(st.integers(2, 5))
    sizes = np.array(data.draw(st.lists(st.integers(1, 9), min_size=n_groups, max_size=n_groups)))
    groups = np.repeat(np.arange(n_groups), sizes)
    labels = np.repeat(np.arange(n_groups) % 2, sizes)
    folds = [splits.split_by_group(labels, groups, k, n_folds, seed=3) for k in range(1, n_folds + 1)]
    for split in folds:
        assert not set(groups[split.training]) & set(groups[split.validation])
        assert np.array_equal(np.union1d(split.training, split.validation), np.arange(len(groups)))
    assert np.array_equal(np.sort(np.concatenate([s.validation for s in folds])), np.arange(len(groups)))


def test_folds_depend_on_the_seed_and_on_nothing_else():
    # Groups of different sizes: there scikit-learn's own StratifiedGroupKFold gives the same folds for every seed.
    sizes = np.arange(5, 45)
    labels, groups = (np.repeat(x, sizes) for x in (np.arange(40) % 4, np.arange(40)))
    first, again, other = (splits.split_by_group(labels, groups, 1, 5, seed).validation for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_every_fold_has_as_many_groups_of_each_class():
    groups = np.repeat(np.arange(40), np.random.default_rng(0).integers(1, 30, 40))
    labels = groups % 4
    for fold in range(1, 6):
        held_back = splits.split_by_group(labels, groups, fold, 5, seed=0).validation
        assert np.bincount(np.unique(groups[held_back]) % 4).tolist() == [2, 2, 2, 2]


@pytest.mark.parametrize("fold", [0, 6])
def test_a_fold_that_is_not_there_is_refused(fold):
    with pytest.raises(ValueError, match="folds 1 to 5"):
        splits.split_by_group(np.ones(10, int), np.arange(10), fold, 5, seed=0)


@given(st.integers(0, 20), st.sampled_from([1 / 8, 1 / 4, 1 / 2]))
def test_a_share_of_the_photos_keeps_all_copies_and_is_part_of_a_larger_share(seed, share):
    photos = np.repeat(np.arange(100), np.arange(100) % 7 + 1)
    labels = photos % 4 + 1
    chosen = splits.choose_share(labels, photos, share, seed)
    larger = splits.choose_share(labels, photos, 2 * share, seed)
    assert set(chosen) <= set(larger)
    kept = np.unique(photos[chosen])
    assert np.isin(photos, kept).sum() == len(chosen)
    assert np.bincount(kept % 4).tolist() == [round(25 * share)] * 4
