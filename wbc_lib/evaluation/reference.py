"""What `wbc score` needs of the recorded results, small enough to travel with the library: splits and models on TEST.

Both tables are made from ``results/``, by ``wbc data splits --record``; a test says whether they are current.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from wbc_lib import paths
from wbc_lib.data.dataset import LABELS
from wbc_lib.data.splits import COLUMNS, REPEATS, SPLITS_PATH, split_by_group
from wbc_lib.evaluation import comparison
from wbc_lib.evaluation.comparison import PhotoScores

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: The table of models as it is shipped.
MODELS_PATH = Path(__file__).with_name("models.csv")


@dataclass(frozen=True)
class Model:
    """A recorded model's scores on TEST."""

    name: str
    title: str
    epochs: int  # of a training
    trainings: int  # that the scores are the mean of
    scores: PhotoScores


def tabulate_splits(images: pd.DataFrame, provenance: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Put together what `published.read_splits` gives, for any data set of this layout.

    Takes what `dataset.list_images`, `trace.trace` and `overlaps.find_pairs` give.
    """
    from wbc_lib.provenance import overlaps
    from wbc_lib.training.experiments import N_FOLDS

    photo = provenance.set_index("image").photo.loc[images.image].to_numpy()
    copies = np.flatnonzero(images.split != "TEST_SIMPLE")  # those that cross-validation divides
    field = overlaps.group(np.unique(photo).tolist(), pairs)
    table = pd.DataFrame({"image": images.image, "photo": photo, "class": images.cell, "split": images.split})
    table["field"] = field.loc[photo].to_numpy()
    labels, groups = images.label.to_numpy()[copies], table.field.to_numpy()[copies]
    for seed, repeat in enumerate(REPEATS):
        folds: dict[int, int] = {}
        for fold in range(1, N_FOLDS + 1):
            held_back = copies[split_by_group(labels, groups, fold, N_FOLDS, seed).validation]
            folds |= dict.fromkeys(photo[held_back], fold)
        table[f"fold_{repeat}"] = [folds.get(number, 0) for number in photo]
    return table[list(COLUMNS)]


def tabulate_models(runs: Iterable["Run"], splits: pd.DataFrame) -> pd.DataFrame:
    """Count what each recorded model gets right on TEST, photo by photo.

    A row per model and photo: ``model``, ``title``, ``epochs``, ``trainings``, ``photo``, and, summed over the
    trainings, ``right_copies`` and ``right`` (of the mean over the copies). Of each experiment its longest length;
    experiments that were not scored on the images of TEST are left out.
    """
    test = splits[splits.split == "TEST"]
    by_length: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        is_whole = run.record["config"]["material"] == "augmented" and np.array_equal(run.names("test"), test.image)
        if is_whole:
            by_length.setdefault(run.record["experiment"], {}).setdefault(run.epochs, []).append(run)
    tables = []
    for name, lengths in sorted(by_length.items()):
        epochs = max(lengths)
        found = lengths[epochs]
        scored = comparison.score_photos(found, test[["image", "photo"]])
        table = pd.DataFrame({"photo": scored.photos})
        for column in ("right_copies", "right"):
            table[column] = np.rint(getattr(scored, column) * len(found)).astype(int)
        tables.append(table.assign(model=name, epochs=epochs, trainings=len(found), title=_title(name)))
    columns = ["model", "title", "epochs", "trainings", "photo", "right_copies", "right"]
    return pd.concat(tables, ignore_index=True)[columns]


def _title(name: str) -> str:
    from wbc_lib.training.experiments import find_experiment

    return find_experiment(name).title


def read_models(splits: pd.DataFrame) -> list[Model]:
    """The shipped models, the best on TEST's images first; `splits` as `published.read_splits` gives it."""
    test = splits[splits.split == "TEST"].groupby("photo")
    copies, fields = test.size(), test.field.first()
    labels = test["class"].first().map(LABELS)
    models = []
    for (name, title, epochs, trainings), table in pd.read_csv(MODELS_PATH).groupby(
        ["model", "title", "epochs", "trainings"]
    ):
        photos = table.photo.to_numpy()
        right_copies, right = (table[column].to_numpy(float) / trainings for column in ("right_copies", "right"))
        described = (labels.loc[photos].to_numpy(), fields.loc[photos].to_numpy(), copies.loc[photos].to_numpy())
        models.append(Model(name, title, epochs, trainings, PhotoScores(photos, *described, right_copies, right)))
    return sorted(models, key=lambda model: -model.scores.by_image)


def write_files() -> Sequence[Path]:
    """Make both tables from the recorded results and put them into the library; gives their paths."""
    splits, models = make_tables()
    for path, table in ((SPLITS_PATH, splits), (MODELS_PATH, models)):
        paths.write_text(path, as_csv(table))
    return SPLITS_PATH, MODELS_PATH


def make_tables() -> tuple[pd.DataFrame, pd.DataFrame]:
    """The tables of splits and of models from the recorded results of the published images."""
    from wbc_lib.provenance import overlaps, trace
    from wbc_lib.training.runs import Store

    provenance = trace.read_recorded()
    parts = provenance.image.str.split("/", expand=True)
    images = provenance[["image"]].assign(split=parts[0], cell=parts[1], label=parts[1].map(LABELS))
    splits = tabulate_splits(images, provenance, overlaps.read_recorded())
    return splits, tabulate_models(Store(paths.results()).read_all(), splits)


def as_csv(table: pd.DataFrame) -> str:
    """A table as it is shipped."""
    return table.to_csv(index=False, lineterminator="\n")
