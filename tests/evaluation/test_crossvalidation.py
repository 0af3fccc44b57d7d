from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from cleanlab import count as cleanlab
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, balanced_accuracy_score

from wbc_lib.data.dataset import CLASSES
from wbc_lib.errors import RunError
from wbc_lib.evaluation import crossvalidation, scores
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.crossvalidation import ALL, AS_TAKEN, BY_IMAGE, OVER_COPIES

N_PHOTOS, COPIES = 40, 3
TABLE = pd.DataFrame({"image": [f"TRAIN/X/{p}-{i}.jpeg" for p in range(N_PHOTOS) for i in range(COPIES)]}).assign(
    photo=np.repeat(np.arange(N_PHOTOS), COPIES)
)
LABELS = np.arange(N_PHOTOS) % 4 + 1
GROUP = pd.Series(np.arange(N_PHOTOS), index=np.arange(N_PHOTOS))


class FoldRun:
    """What cross-validation reads of a run; photo and copies are answered by what their numbers say."""

    def __init__(self, fold: int, seed: int = 0, photos: range | None = None):
        self.seed, self.record = seed, {"config": {"protocol": f"fold-{fold}"}}
        self.photos = np.array(photos if photos is not None else range(fold - 1, N_PHOTOS, 5))

    def names(self, part):
        if part == "test":
            return np.array([f"BloodImage_{p:05d}.jpg" for p in self.photos])
        return TABLE.image[TABLE.photo.isin(self.photos)].to_numpy()

    def labels(self, part):
        return LABELS[self.photos] if part == "test" else np.repeat(LABELS[self.photos], COPIES)

    def probabilities(self, part):
        numbers = self.photos if part == "test" else np.arange(len(self.photos) * COPIES)
        found = np.random.default_rng([self.photos[0], len(numbers)]).dirichlet(np.ones(5), len(numbers))
        if part == "test":
            found[:] = 0.01
            found[np.arange(len(numbers)), LABELS[self.photos]] = 0.96
        return found


def folds(**changes) -> list[FoldRun]:
    return [FoldRun(k, **changes) for k in range(1, 6)]


def test_every_photo_is_answered_once_by_the_network_that_had_not_seen_it():
    pooled = crossvalidation.pool(folds(seed=2), TABLE)
    for way, times in ((AS_TAKEN, 1), (OVER_COPIES, 1), (BY_IMAGE, COPIES)):
        np.testing.assert_array_equal(np.sort(pooled[way].photos), np.repeat(np.arange(N_PHOTOS), times))
        np.testing.assert_array_equal(pooled[way].labels, LABELS[pooled[way].photos])
    assert pooled[AS_TAKEN].right.all()
    run = folds()[3]
    for i, photo in enumerate(run.photos):
        expected = run.probabilities("validation")[i * COPIES : (i + 1) * COPIES].mean(axis=0)
        np.testing.assert_allclose(pooled[OVER_COPIES].probabilities[photo], expected)


@pytest.mark.parametrize(
    "runs",
    [
        folds()[:4],
        [*folds()[:4], FoldRun(4)],
        [*folds()[:4], FoldRun(5, seed=1)],
        [*folds()[:4], FoldRun(5, photos=range(4, N_PHOTOS - 5, 5))],
        [*folds()[:4], FoldRun(5, photos=range(3, N_PHOTOS, 5))],
    ],
    ids=["four folds", "one fold twice", "two seeds", "a photo in none", "photos in two"],
)
def test_what_is_not_a_whole_repeat_is_refused(runs):
    with pytest.raises(RunError):
        crossvalidation.pool(runs, TABLE)


def test_only_whole_repeats_are_pooled_each_with_its_own_network():
    found = {f"final+fold-{k}": [FoldRun(k), FoldRun(k, seed=1)] for k in range(1, 6)}
    found |= {f"baseline+fold-{k}": [FoldRun(k)] for k in range(1, 5)}
    found["final+fold-3"] = [FoldRun(3, seed=1)]
    repeats = crossvalidation.pool_repeats(found, TABLE)
    assert {name: {way: len(some) for way, some in by_way.items()} for name, by_way in repeats.items()} == {
        "final": {AS_TAKEN: 1, OVER_COPIES: 1},
        "baseline": {AS_TAKEN: 0, OVER_COPIES: 0},
    }


def test_networks_are_compared_over_the_divisions_that_both_have_in_points():
    found = {f"final+fold-{k}": [FoldRun(k), FoldRun(k, seed=1)] for k in range(1, 6)}
    found |= {f"baseline+fold-{k}": [FoldRun(k)] for k in range(1, 6)}
    found |= {f"reduced+fold-{k}": [FoldRun(k)] for k in range(1, 5)}
    study = SimpleNamespace(
        suite=lambda name: found, provenance=TABLE, pairs=pd.DataFrame({"photo": [0], "other": [1]})
    )
    none = found["baseline+fold-1"][0]
    none.probabilities = lambda part: np.eye(5)[np.zeros(len(none.labels(part)), int)]
    less = crossvalidation.compare_networks(study, "final", "baseline")
    assert less[AS_TAKEN].estimate == pytest.approx(100 * 8 / N_PHOTOS)
    lost = folds()[0].probabilities("validation").argmax(axis=1) == folds()[0].labels("validation")
    assert less[BY_IMAGE].estimate == pytest.approx(100 * lost.sum() / len(TABLE))
    same = crossvalidation.compare_networks(study, "final", "final")[OVER_COPIES]
    assert (same.estimate, same.low, same.high) == (0, 0, 0)
    assert crossvalidation.compare_networks(study, "final", "reduced") == {}
    assert crossvalidation.compare_networks(study, "final", "l2-activity") == {}


def made_up(seed: int, share: float) -> Predictions:
    rng = np.random.default_rng(seed)
    shown = np.where(rng.random(N_PHOTOS) < share, LABELS, rng.integers(1, 5, N_PHOTOS))
    return Predictions.from_probabilities(LABELS, np.eye(5)[shown], np.arange(N_PHOTOS))


@pytest.mark.parametrize("seed, share", [(0, 0.3), (1, 0.8), (2, 1.0)])
def test_a_score_is_the_mean_over_repeats_of_scikit_learns(seed, share):
    repeats, other = [made_up(seed, share), made_up(seed + 1, share)], [made_up(seed + 2, 0.5)]
    for ours, theirs in ((scores.accuracy, accuracy_score), (scores.balanced_accuracy, balanced_accuracy_score)):
        found = crossvalidation.score(repeats, GROUP, ours)
        assert found.estimate == pytest.approx(np.mean([theirs(r.labels, r.predicted) for r in repeats]))
        assert found.low <= found.estimate <= found.high
        less = crossvalidation.compare(repeats, other, GROUP, ours)
        assert less.estimate == pytest.approx(found.estimate - crossvalidation.score(other, GROUP, ours).estimate)
        assert less.low <= less.estimate <= less.high


def answer(*classes: int, sure: float = 0.96) -> Predictions:
    """A repeat that gives each photo one class."""
    probabilities = np.full((len(classes), 5), (1 - sure) / 4)
    probabilities[np.arange(len(classes)), classes] = sure
    ones = np.ones(len(classes), int)
    return Predictions.from_probabilities(ones, probabilities, np.arange(len(classes)) + 20)


def test_a_label_is_doubtful_if_every_repeat_denies_it_and_their_mean_is_sure_of_one_class():
    # Right; always an eosinophil; once right; never right, but of two minds.
    repeats = [answer(1, 2, 2, 2), answer(1, 2, 2, 3), answer(1, 2, 1, 2)]
    named = crossvalidation.find_doubtful(repeats)
    assert named.index.tolist() == [21]
    assert named.loc[21, ["label", "other"]].tolist() == [1, 2]
    assert named.loc[21, "probability"] == pytest.approx(0.96)
    assert crossvalidation.find_doubtful([answer(2, sure=0.89)]).empty
    changed = repeats[0].relabel(named.other)
    assert changed.labels.tolist() == [1, 2, 1, 1] and repeats[0].labels.tolist() == [1, 1, 1, 1]
    assert changed.right.tolist() == [True, True, False, False]


def test_photos_of_one_field_are_drawn_together():
    repeat = made_up(0, 0.7)
    # Twenty fields of two photos that are right or wrong together are no more than twenty photos.
    twins = Predictions(np.repeat(repeat.labels[:20], 2), np.repeat(repeat.logits[:20], 2, axis=0), repeat.photos)
    together = crossvalidation.score([twins], GROUP // 2, scores.accuracy)
    as_if_alone = crossvalidation.score([twins], GROUP, scores.accuracy)
    assert together.width > 1.2 * as_if_alone.width > 0


def test_the_interval_of_several_repeats_covers_a_new_training():
    # Each repeat is right about half of the photos, but not the same half, or about all or none.
    even, odd = (answer(*np.where(np.arange(40) % 2 == k, 1, 2)) for k in (0, 1))
    group = pd.Series(even.photos, even.photos)
    alike = crossvalidation.score([even, odd], group, scores.accuracy)
    unlike = crossvalidation.score([answer(*[1] * 40), answer(*[2] * 40)], group, scores.accuracy)
    assert alike.estimate == unlike.estimate == 0.5
    assert alike.width < 0.4
    assert (unlike.low, unlike.high) == (0, 1)


def test_images_and_photos_are_weighed_each_in_their_way():
    labels, photos = np.array([1, 1, 1, 3, 3, 3, 3, 1, 1]), np.array([7, 7, 7, 8, 8, 8, 8, 9, 9])
    answers = np.array([1, 1, 1, 1, 1, 1, 3, 0, 2]), np.array([1, 1, 2, 1, 1, 3, 3, 1, 2])
    runs = [Predictions(labels, np.eye(5)[predicted], photos) for predicted in answers]
    table = crossvalidation.recall_by_class(runs[:1])
    # Photo 7: 3 of 3 right; photo 9: 0 of 2; photo 8, a monocyte: 1 of 4.
    assert list(table.index) == ["Neutrophil", "Monocyte", ALL]
    assert table.photos.tolist() == [2, 1, 3]
    assert table.by_image.tolist() == pytest.approx([3 / 5, 1 / 4, 4 / 9])
    assert table.by_photo.tolist() == pytest.approx([1 / 2, 1 / 4, 5 / 12])
    second, both = map(crossvalidation.recall_by_class, (runs[1:], runs))
    pd.testing.assert_frame_equal(both, (table + second) / 2)


# Which labels the networks contradict -------------------------------------------------------------------------------

N = 60
NUMBERS = np.arange(N) + 100
TRUE = pd.Series(np.arange(N) % 4 + 1, NUMBERS)
FIELDS = pd.Series(NUMBERS // 2, NUMBERS)
SMEARS = pd.Series(np.where(NUMBERS < 130, 1, 2), NUMBERS)


def made(calls: pd.Series, repeats: int = 3, seed: int = 0, sure: float = 0.9) -> list[Predictions]:
    """Predictions that call each photo as told, with some noise in how sure they are."""
    parts = []
    for repeat in range(repeats):
        rng = np.random.default_rng([seed, repeat])
        share = sure * np.eye(4)[calls - 1] + (1 - sure) * rng.dirichlet(np.ones(4), len(calls))
        probabilities = np.insert(share, 0, 0, axis=1)
        parts.append(Predictions.from_probabilities(TRUE.to_numpy(), probabilities, NUMBERS))
    return parts


def changed(*photos: int) -> pd.Series:
    calls = TRUE.copy()
    calls[list(photos)] = calls[list(photos)] % 4 + 1
    return calls


@given(st.sets(st.sampled_from(NUMBERS.tolist())), st.sets(st.sampled_from(NUMBERS.tolist())), st.integers(0, 2))
def test_a_photo_is_disputed_if_every_repeat_of_both_contradicts_its_label(first, second, once):
    one, other = made(changed(*first)), made(changed(*second))
    found = crossvalidation.find_disputed(one, other)
    assert set(found.index) == first & second
    for photo in found.index:
        called = CLASSES[TRUE[photo] % 4]
        assert found.loc[photo].tolist() == [CLASSES[TRUE[photo] - 1], called, called]
    other[once] = made(TRUE)[once]  # in one repeat, the second architecture gets everything right
    assert crossvalidation.find_disputed(one, other).empty


def test_every_repeat_has_to_answer_about_every_photo():
    with pytest.raises(ValueError, match="every photo"):
        crossvalidation.find_disputed(made(TRUE), [p.take(NUMBERS > 100) for p in made(TRUE)])


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_noise_is_what_cleanlab_counts_and_a_photo_drawn_twice_counts_as_two(seed):
    rng = np.random.default_rng(seed)
    y, probabilities = TRUE.to_numpy() - 1, rng.dirichlet(np.full(4, 0.5), N)
    weights = np.maximum(rng.integers(0, 3, N), np.arange(N) < 4)  # each class is drawn
    parts = {"all": np.ones(N, bool), "some": (rng.random(N) < 0.5) | (np.arange(N) < 1)}
    found = crossvalidation._count_noise(y, probabilities, parts, weights[None])[0]
    rows = np.repeat(np.arange(N), weights)
    thresholds = cleanlab.get_confident_thresholds(y[rows], probabilities[rows])
    for mask, shares in zip(parts.values(), found, strict=True):
        own = rows[mask[rows]]
        joint = cleanlab.compute_confident_joint(y[own], probabilities[own], thresholds=thresholds, calibrate=False)
        sizes = np.bincount(y[own], minlength=4)
        of_class = np.where(sizes > 0, 1 - joint.diagonal() / joint.sum(axis=1), np.nan)
        np.testing.assert_allclose(shares, [np.nansum(of_class * sizes) / sizes.sum(), *of_class])


def test_swapped_labels_are_found_where_they_are():
    swapped = [p for p in NUMBERS[:30] if TRUE[p] == 1][:4]  # of eight neutrophils in smear 1
    truth = TRUE.copy()
    truth[swapped] = 2
    found = crossvalidation.estimate_noise(made(truth, sure=1.0), FIELDS, SMEARS, 200)
    assert found.loc[("1", "NEUTROPHIL"), "estimate"] == pytest.approx(0.5)
    assert found.loc[("2", ALL), "estimate"] == 0
    assert found.loc[(ALL, ALL), "photos"] == N
    assert found.loc[(ALL, ALL), "low"] <= found.loc[(ALL, ALL), "estimate"] <= found.loc[(ALL, ALL), "high"]
    assert found.loc[("1", "MONOCYTE"), "high"] == 0
