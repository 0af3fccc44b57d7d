import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.made_predictions import made_run
from wbc_lib.data.dataset import CLASSES
from wbc_lib.evaluation import ceiling
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.ceiling import ALL

N = 60
PHOTOS = np.arange(N) + 100
LABELS = pd.Series(np.arange(N) % 4 + 1, PHOTOS)
FIELDS = pd.Series(PHOTOS // 2, PHOTOS)
SMEARS = pd.Series(np.where(PHOTOS < 130, 1, 2), PHOTOS)


def made(calls: pd.Series, repeats: int = 3, seed: int = 0, sure: float = 0.9) -> list[Predictions]:
    """Predictions that call each photo as told, with some noise in how sure they are."""
    parts = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        share = sure * np.eye(4)[calls - 1] + (1 - sure) * rng.dirichlet(np.ones(4), len(calls))
        probabilities = np.insert(share, 0, 0, axis=1)
        parts.append(Predictions.from_probabilities(LABELS.to_numpy(), probabilities, PHOTOS))
    return parts


def changed(*photos: int) -> pd.Series:
    calls = LABELS.copy()
    calls[list(photos)] = calls[list(photos)] % 4 + 1
    return calls


@given(st.sets(st.sampled_from(PHOTOS.tolist())), st.sets(st.sampled_from(PHOTOS.tolist())), st.integers(0, 2))
def test_a_photo_is_disputed_if_every_repeat_of_both_contradicts_its_label(first, second, once):
    one, other = made(changed(*first)), made(changed(*second))
    found = ceiling.find_disputed(one, other)
    assert set(found.index) == first & second
    for photo in found.index:
        called = CLASSES[LABELS[photo] % 4]
        assert found.loc[photo].tolist() == [CLASSES[LABELS[photo] - 1], called, called]
    other[once] = made(LABELS)[once]  # in one repeat, the second architecture gets everything right
    assert ceiling.find_disputed(one, other).empty


def test_every_repeat_has_to_answer_about_every_photo():
    with pytest.raises(ValueError, match="every photo"):
        ceiling.find_disputed(made(LABELS), [p.take(PHOTOS > 100) for p in made(LABELS)])


def _noise_by_hand(labels, probabilities, chosen):
    """Confident learning as its authors describe it, photo by photo; shares of noise, all classes first."""
    thresholds = [np.mean([p[k] for y, p in zip(labels, probabilities, strict=True) if y == k]) for k in range(4)]
    joint = np.zeros((4, 4))
    for y, p, counts in zip(labels, probabilities, chosen, strict=True):
        bins = [k for k in range(4) if p[k] >= thresholds[k] - 1e-6]
        if counts and bins:
            joint[y, bins[0] if len(bins) == 1 else int(np.argmax(p))] += 1
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    shares = 1 - joint.diagonal() / joint.sum(axis=1)
    sizes = np.bincount(np.array(labels)[chosen], minlength=4)
    shares[sizes == 0] = np.nan
    return np.array([np.nansum(shares * sizes) / sizes.sum(), *shares])


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_noise_is_what_its_authors_count(seed):
    rng = np.random.default_rng(seed)
    y, probabilities = LABELS.to_numpy() - 1, rng.dirichlet(np.full(4, 0.5), N)
    chosen = rng.random(N) < 0.5
    chosen[:1] = True
    parts = {"all": np.ones(N, bool), "some": chosen}
    by_hand = np.array([_noise_by_hand(y, probabilities, mask) for mask in parts.values()])
    once = np.ones((1, N), int)
    np.testing.assert_allclose(ceiling._count_noise(y, probabilities, parts, once)[0], by_hand)
    pytest.importorskip("cleanlab")
    np.testing.assert_allclose(ceiling._count_with_cleanlab(y, probabilities, parts), by_hand)


@settings(max_examples=10)
@given(st.integers(0, 10_000))
def test_a_photo_drawn_twice_counts_as_two_photos(seed):
    rng = np.random.default_rng(seed)
    y, probabilities = LABELS.to_numpy() - 1, rng.dirichlet(np.full(4, 0.5), N)
    weights = np.maximum(rng.integers(0, 3, N), np.arange(N) < 4)  # each class is drawn
    rows = np.repeat(np.arange(N), weights)
    drawn = ceiling._count_noise(y, probabilities, {"all": np.ones(N, bool)}, weights[None])[0, 0]
    np.testing.assert_allclose(drawn, _noise_by_hand(y[rows], probabilities[rows], np.ones(len(rows), bool)))


def test_swapped_labels_are_found_where_they_are():
    pytest.importorskip("cleanlab")
    swapped = [p for p in PHOTOS[:30] if LABELS[p] == 1][:4]  # of eight neutrophils in smear 1
    truth = LABELS.copy()
    truth[swapped] = 2
    found = ceiling.estimate_noise(made(truth, sure=1.0), FIELDS, SMEARS, 200)
    assert found.loc[("1", "NEUTROPHIL"), "estimate"] == pytest.approx(0.5)
    assert found.loc[("2", ALL), "estimate"] == 0
    assert found.loc[(ALL, ALL), "photos"] == N
    assert found.loc[(ALL, ALL), "low"] <= found.loc[(ALL, ALL), "estimate"] <= found.loc[(ALL, ALL), "high"]
    assert found.loc[("1", "MONOCYTE"), "high"] == 0


def test_both_accuracies_on_test_are_given():
    names = np.array([f"TEST/X/{p}-{i}.jpeg" for p in PHOTOS for i in range(p % 3 + 1)])
    photo = np.array([int(n.split("/")[2].split("-")[0]) for n in names])
    calls = changed(100, 101)
    answers = np.insert(np.eye(4)[calls[photo] - 1], 0, 0, axis=1)
    run = made_run(names, LABELS[photo].to_numpy(), calls[photo].to_numpy(), answers)
    table = ceiling.score_test([run], pd.DataFrame({"image": names, "photo": photo}), [101])
    assert table.photos.tolist() == [60, 59]
    copies = PHOTOS % 3 + 1
    assert table.images.tolist() == [copies.sum(), copies.sum() - copies[1]]
    assert table.by_photo["as published"].estimate == pytest.approx(58 / 60)
    assert table.by_photo["undisputed"].estimate == pytest.approx(58 / 59)
    assert table.by_image["undisputed"].estimate == pytest.approx(1 - copies[0] / (copies.sum() - copies[1]))
