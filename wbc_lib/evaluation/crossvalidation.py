"""What to expect on a new photo: validation by photo, and the predictions of all folds of cross-validation pooled."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.errors import RunError
from wbc_lib.evaluation import intervals
from wbc_lib.evaluation.calibration import Predictions
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.evaluation.scores import Statistic
from wbc_lib.training.experiments import N_FOLDS
from wbc_lib.training.runs import Run

#: Ways of asking a network about a photo: as it was taken, or by the mean over the copies made of it.
AS_TAKEN, OVER_COPIES = "as taken", "mean over copies"
#: The row of `recall_by_class` that holds all classes together.
ALL = "All"


def recall_by_class(runs: Sequence[Run], part: str, photo_of: pd.Series) -> pd.DataFrame:
    """Recall of each class on "validation" or "test" images, images counting alike and photos counting alike.

    A row per class and one for `ALL`; means over the runs of ``photos`` (how many), ``share`` (of all images, 0 to 1),
    ``by_image`` (share of the images that are right) and ``by_photo`` (mean over photos of that share).
    """
    tables = []
    for run in runs:
        labels = run.labels(part)
        single = pd.DataFrame(
            {
                "cell": np.array(CLASSES)[labels - 1],
                "photo": photo_of.loc[run.names(part)].to_numpy(),
                "right": run.predicted(part) == labels,
            }
        )
        cases = pd.concat([single, single.assign(cell=ALL)])
        photos = cases.groupby(["cell", "photo"]).right.mean().groupby("cell").agg(["size", "mean"])
        images = cases.groupby("cell").right.agg(["size", "mean"])
        columns = {
            "photos": photos["size"],
            "share": images["size"] / len(single),
            "by_image": images["mean"],
            "by_photo": photos["mean"],
        }
        tables.append(pd.DataFrame(columns))
    mean = pd.concat(tables).groupby(level=0).mean()
    return mean.reindex([c for c in (*CLASSES, ALL) if c in mean.index]).rename(index=str.capitalize)


def pool(runs: Sequence[Run], provenance: pd.DataFrame) -> dict[str, Predictions]:
    """Put the folds of one repeat together, a run per fold, of one seed: predictions for every photo, by way of asking.

    Each photo, in the order of their numbers, is answered by the network that had not seen it. Raises `RunError` if
    folds are missing or of several seeds, or a photo is in none or in two of them.
    """
    folds = sorted(run.record["config"].get("protocol", "random") for run in runs)
    if folds != [f"fold-{k}" for k in range(1, N_FOLDS + 1)] or len({run.seed for run in runs}) > 1:
        raise RunError(f"Cross-validation needs folds 1 to {N_FOLDS} of one seed; there are: {', '.join(folds)}.")
    photo_of = provenance.set_index("image").photo
    parts = []
    for run in runs:
        photos = [int(re.findall(r"_(\d+)\.", name)[0]) for name in run.names("test")]
        as_taken = pd.DataFrame(run.probabilities("test"), index=photos)
        copies = pd.DataFrame(run.probabilities("validation"), index=photo_of[run.names("validation")].to_numpy())
        mean = copies.groupby(level=0).mean().reindex(photos)
        labels = pd.Series(run.labels("test"), photos)
        parts.append(pd.concat({"label": labels.to_frame(), AS_TAKEN: as_taken, OVER_COPIES: mean}, axis=1))
    whole = pd.concat(parts).sort_index()
    if whole.index.has_duplicates or whole.isna().to_numpy().any() or set(whole.index) != set(provenance.photo):
        raise RunError("The folds do not hold every photo once; train them again with `wbc train --suite folds`.")
    labels = whole["label"][0].to_numpy(np.int64)
    return {
        way: Predictions.from_probabilities(labels, whole[way].to_numpy(), whole.index.to_numpy())
        for way in (AS_TAKEN, OVER_COPIES)
    }


def pool_repeats(
    runs: Mapping[str, Sequence[Run]], provenance: pd.DataFrame
) -> dict[str, dict[str, list[Predictions]]]:
    """Pool every repeat of the suite "folds" whose folds are all there, by network and way of asking, in their order.

    Repeats are in the order of their seeds.
    """
    by_network: dict[str, list[Run]] = {}
    for name, folds in runs.items():
        by_network.setdefault(name.partition("+")[0], []).extend(folds)
    pooled = {}
    for network, folds in by_network.items():
        repeats = [[run for run in folds if run.seed == seed] for seed in sorted({run.seed for run in folds})]
        whole = [pool(repeat, provenance) for repeat in repeats if len(repeat) == N_FOLDS]
        pooled[network] = {way: [repeat[way] for repeat in whole] for way in (AS_TAKEN, OVER_COPIES)}
    return pooled


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
