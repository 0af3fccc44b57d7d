"""What to expect on a new photo: validation by photo, and the predictions of all folds of cross-validation pooled.

Repeats are predictions for all photos, each by a network that had not seen the photo. They tell, too, which labels are
doubtful, and what share of them may be wrong.
"""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib.data.dataset import CLASSES
from wbc_lib.errors import RunError
from wbc_lib.evaluation import intervals, scores
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.evaluation.scores import Statistic
from wbc_lib.provenance import overlaps
from wbc_lib.training.experiments import N_FOLDS
from wbc_lib.training.runs import Run
from wbc_lib.training.study import Study

#: Ways of asking a network about a photo: as it was taken, or by the mean over the copies made of it.
AS_TAKEN, OVER_COPIES = "as taken", "mean over copies"
#: Where every copy counts by itself, as an image.
BY_IMAGE = "by image"
#: What rows are called that hold all classes, and all photos.
ALL = "All"
#: Photos counted as certain of a class may fall short of its threshold by this, as in cleanlab.
_TOLERANCE = 1e-6
#: Resamples that are counted at once.
_AT_ONCE = 200


def recall_by_class(several: Sequence[Predictions]) -> pd.DataFrame:
    """Recall of each class in several runs, images counting alike and photos counting alike.

    A row per class and one for `ALL`; means over the runs of ``photos`` (how many), ``by_image`` (share of the images
    that are right) and ``by_photo`` (mean over photos of that share).
    """
    tables = []
    for run in several:
        single = pd.DataFrame({"cell": np.array(CLASSES)[run.labels - 1], "photo": run.photos, "right": run.right})
        cases = pd.concat([single, single.assign(cell=ALL)])
        photos = cases.groupby(["cell", "photo"]).right.mean().groupby("cell").agg(photos="size", by_photo="mean")
        tables.append(photos.assign(by_image=cases.groupby("cell").right.mean()))
    mean = pd.concat(tables).groupby(level=0).mean()
    return mean.reindex([c for c in (*CLASSES, ALL) if c in mean.index]).rename(index=str.capitalize)


def pool(runs: Sequence[Run], provenance: pd.DataFrame) -> dict[str, Predictions]:
    """Put the folds of one repeat together, a run per fold, of one seed: predictions for every photo, by way of asking.

    Each photo, in the order of their numbers, is answered by the network that had not seen it; by `BY_IMAGE` each of
    its copies, in the order of their names. Raises `RunError` if folds are missing or of several seeds, or a photo is
    in none or in two of them.
    """
    folds = sorted(run.record["config"].get("protocol", "random") for run in runs)
    if folds != [f"fold-{k}" for k in range(1, N_FOLDS + 1)] or len({run.seed for run in runs}) > 1:
        raise RunError(f"Cross-validation needs folds 1 to {N_FOLDS} of one seed; there are: {', '.join(folds)}.")
    photo_of = provenance.set_index("image").photo
    parts, images = [], []
    for run in runs:
        photos = [int(re.findall(r"_(\d+)\.", name)[0]) for name in run.names("test")]
        as_taken = pd.DataFrame(run.probabilities("test"), index=photos)
        copies = pd.DataFrame(run.probabilities("validation"), index=photo_of[run.names("validation")].to_numpy())
        images.append(copies.assign(image=run.names("validation"), label=run.labels("validation")))
        mean = copies.groupby(level=0).mean().reindex(photos)
        labels = pd.Series(run.labels("test"), photos)
        parts.append(pd.concat({"label": labels.to_frame(), AS_TAKEN: as_taken, OVER_COPIES: mean}, axis=1))
    whole = pd.concat(parts).sort_index()
    if whole.index.has_duplicates or whole.isna().to_numpy().any() or set(whole.index) != set(provenance.photo):
        raise RunError("The folds do not hold every photo once; train them again with `wbc train --suite folds`.")
    labels = whole["label"][0].to_numpy(np.int64)
    pooled = {
        way: Predictions.from_probabilities(labels, whole[way].to_numpy(), whole.index.to_numpy())
        for way in (AS_TAKEN, OVER_COPIES)
    }
    every = pd.concat(images).sort_values("image")
    one_by_one = every.drop(columns=["image", "label"]).to_numpy()
    pooled[BY_IMAGE] = Predictions.from_probabilities(every.label.to_numpy(), one_by_one, every.index.to_numpy())
    return pooled


def pool_repeats(
    runs: Mapping[str, Sequence[Run]], provenance: pd.DataFrame, ways: Sequence[str] = (AS_TAKEN, OVER_COPIES)
) -> dict[str, dict[str, list[Predictions]]]:
    """Pool each repeat of the suite "folds" whose folds are all there, by network and way of asking, then by seed."""
    by_network: dict[str, list[Run]] = {}
    for name, folds in runs.items():
        by_network.setdefault(name.partition("+")[0], []).extend(folds)
    pooled = {}
    for network, folds in by_network.items():
        repeats = [[run for run in folds if run.seed == seed] for seed in sorted({run.seed for run in folds})]
        whole = [pool(repeat, provenance) for repeat in repeats if len(repeat) == N_FOLDS]
        pooled[network] = {way: [repeat[way] for repeat in whole] for way in ways}
    return pooled


def score(repeats: Sequence[Predictions], group_of: pd.Series, statistic: Statistic) -> Interval:
    """A score of one network on photos that it had not seen, mean over repeats; overlapping photos are drawn together.

    `group_of` tells groups by photo, as `overlaps.group` does. The interval is for a new training on other photos:
    every set of photos drawn is scored by each repeat, and all these scores are counted.
    """
    groups = group_of.loc[repeats[0].photos].to_numpy()
    weights = intervals.group_weights(groups)
    counts = [intervals.group_counts(r.labels, r.predicted, groups) for r in repeats]
    drawn = np.concatenate([statistic(intervals.resample(c, weights)) for c in counts])
    return intervals.percentiles(float(statistic(np.mean(counts, axis=0).sum(axis=0))), drawn)


def compare(
    first: Sequence[Predictions], second: Sequence[Predictions], group_of: pd.Series, statistic: Statistic
) -> Interval:
    """First network's score minus the second's on the same photos, both as the mean over their repeats; paired."""
    groups = group_of.loc[first[0].photos].to_numpy()
    weights = intervals.group_weights(groups)
    counts, others = (
        np.mean([intervals.group_counts(r.labels, r.predicted, groups) for r in repeats], axis=0)
        for repeats in (first, second)
    )
    estimate = statistic(counts.sum(axis=0)) - statistic(others.sum(axis=0))
    drawn = statistic(intervals.resample(counts, weights)) - statistic(intervals.resample(others, weights))
    return intervals.percentiles(float(estimate), drawn)


def compare_networks(study: Study, first: str, second: str) -> dict[str, Interval]:
    """Accuracy of one network on photos it had not seen minus another's, in points, over the divisions that both have.

    By `BY_IMAGE`, `AS_TAKEN` and `OVER_COPIES`; empty if a fold of either is not recorded.
    """
    folds = {name: runs for name, runs in study.suite("folds").items() if name.partition("+")[0] in (first, second)}
    pooled = pool_repeats(folds, study.provenance, (BY_IMAGE, AS_TAKEN, OVER_COPIES))
    group_of = overlaps.group(sorted(study.provenance.photo.unique()), study.pairs)
    found = {}
    for way, ours in pooled.get(first, {}).items():
        theirs = pooled.get(second, {}).get(way, [])
        if shared := min(len(ours), len(theirs)):
            less = compare(ours[:shared], theirs[:shared], group_of, scores.accuracy)
            found[way] = Interval(*(100 * end for end in (less.estimate, less.low, less.high)))
    return found


# Which labels the networks contradict -------------------------------------------------------------------------------


def find_doubtful(repeats: Sequence[Predictions]) -> pd.DataFrame:
    """Photos that every repeat gives another class than their label, one class with a mean probability above 0.9.

    By photo: ``label`` and ``other`` (its number and that of the other class), and the mean ``probability``.
    """
    mean = np.mean([r.probabilities for r in repeats], axis=0)
    other, labels = mean.argmax(axis=1), repeats[0].labels
    always_other = np.all([~r.right for r in repeats], axis=0)
    named = always_other & (other != labels) & (mean.max(axis=1) > 0.9)
    columns = {"label": labels[named], "other": other[named], "probability": mean.max(axis=1)[named]}
    return pd.DataFrame(columns, index=pd.Index(repeats[0].photos[named], name="photo"))


def find_disputed(first: Sequence[Predictions], second: Sequence[Predictions]) -> pd.DataFrame:
    """Find the photos whose label every repeat of two architectures contradicts out of fold.

    Neither may be the model that is later scored on the photos left of TEST. A row per disputed photo, by number: its
    ``label``, and what the ``first`` and the ``second`` call it (names of classes, by the mean probability), which need
    not be the same. Raises `ValueError` if they are not about the same photos in the same order.
    """
    both, names = (*first, *second), np.array(CLASSES)
    if any(not np.array_equal(repeat.photos, first[0].photos) for repeat in both):
        raise ValueError("each architecture has to answer about every photo in every repeat")
    columns = {"label": names[first[0].labels - 1]}
    for name, repeats in {"first": first, "second": second}.items():
        mean = np.mean([repeat.class_probabilities for repeat in repeats], axis=0)
        columns[name] = names[mean.argmax(axis=1)]
    is_right_once = np.any([repeat.right for repeat in both], axis=0)
    return pd.DataFrame(columns, pd.Index(first[0].photos, name="photo"))[~is_right_once].sort_index()


def estimate_noise(
    repeats: Sequence[Predictions], fields: pd.Series, smears: pd.Series, resamples: int
) -> pd.DataFrame:
    """Estimate what share of labels is wrong, by smear and class, with confident learning (Northcutt et al. 2021).

    A photo counts where a model is as sure of a class as it is on average of that class' own photos; of those that
    count, the share under another label is the estimate. It measures disagreement: what a model systematically mistakes
    counts as noise, and what it learned wrongly from wrong labels does not.

    `fields` (a number that overlapping photos share) and `smears` are by photo. A row per smear and class, `ALL` for
    all of them: ``photos``, and ``estimate`` (mean over repeats), ``low`` and ``high``, shares from 0 to 1. Thresholds
    are those of all photos. A smear's or set's estimate weighs its classes by their photos. The interval is for a new
    training on other photos: fields are drawn with replacement, each draw is counted with each repeat's predictions.
    """
    photos, y = repeats[0].photos, repeats[0].labels - 1
    groups = np.unique(fields.loc[photos], return_inverse=True)[1]
    drawn = intervals.group_weights(groups, resamples)[:, groups]
    of_photo = smears.loc[photos].to_numpy()
    parts = {ALL: np.ones(len(y), bool)} | {str(smear): of_photo == smear for smear in np.unique(of_photo)}
    estimates, spreads = [], []
    for repeat in repeats:
        probabilities = repeat.class_probabilities
        estimates.append(_count_noise(y, probabilities, parts, np.ones((1, len(y)), int))[0])
        shares = [_count_noise(y, probabilities, parts, drawn[i : i + _AT_ONCE]) for i in range(0, resamples, _AT_ONCE)]
        spreads.append(np.concatenate(shares))
    mean, values = np.nanmean(estimates, axis=0), np.concatenate(spreads)
    rows = {}
    for i, (part, mask) in enumerate(parts.items()):
        for j, cell in enumerate((ALL, *CLASSES)):
            n_photos = int((mask & (y == j - 1)).sum() if j else mask.sum())
            found = intervals.percentiles(float(mean[i, j]), values[:, i, j])
            rows[part, cell] = {"photos": n_photos} | vars(found)
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(["smear", "cell"])


def _count_noise(
    y: NDArray[np.integer],
    probabilities: NDArray[np.floating],
    parts: Mapping[str, NDArray[np.bool_]],
    weights: NDArray[np.integer],
) -> NDArray[np.float64]:
    # What cleanlab counts, for all resamples at once: shares of noise, shape (resamples, parts, 5), all classes first.
    own = y[:, None] == np.arange(len(CLASSES))
    drawn = weights.astype(float)
    with np.errstate(invalid="ignore"):
        thresholds = (drawn @ (own * probabilities)) / (drawn @ own.astype(float))
    # A class that was not drawn has no threshold, and no photo is certain of it.
    sure = probabilities >= np.nan_to_num(thresholds, nan=np.inf)[:, None] - _TOLERANCE
    several = sure.sum(axis=2) > 1
    guess = np.where(several, probabilities.argmax(axis=1), sure.argmax(axis=2))
    counted = np.where(sure.any(axis=2), weights, 0)
    shares = []
    for mask in parts.values():
        joint = np.zeros((len(weights), len(CLASSES), len(CLASSES)))
        for given in range(len(CLASSES)):
            rows = mask & (y == given)
            for other in range(len(CLASSES)):
                joint[:, given, other] = (counted[:, rows] * (guess[:, rows] == other)).sum(axis=1)
        diagonal = np.arange(len(CLASSES))
        joint[:, diagonal, diagonal] = np.maximum(joint[:, diagonal, diagonal], 1)
        shares.append(_weigh(joint, drawn[:, mask] @ own[mask].astype(float)))
    return np.stack(shares, axis=1)


def _weigh(joint: NDArray[np.float64], photos: NDArray[np.number]) -> NDArray[np.float64]:
    # Shares off the diagonal of joints (..., label, guess): (..., 5), first of all, classes weighing as their photos.
    by_class = 1 - np.diagonal(joint, axis1=-2, axis2=-1) / joint.sum(axis=-1)
    by_class = np.where(photos > 0, by_class, np.nan)
    overall = np.nansum(by_class * photos, axis=-1) / photos.sum(axis=-1)
    return np.concatenate([overall[..., None], by_class], axis=-1)
