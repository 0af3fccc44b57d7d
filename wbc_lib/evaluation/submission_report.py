"""The score of a submission: accuracies with their intervals, classes, calibration, and recorded models to compare.

The splits and the recorded models are shipped as tables, small enough to travel with the library. They are made from
``results/``, by ``wbc data splits --record``; a test says whether they are current.
"""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, LABELS
from wbc_lib.data.splits import COLUMNS, REPEATS, SPLITS_PATH, read_splits, split_by_group
from wbc_lib.evaluation import calibration, comparison, intervals, scores
from wbc_lib.evaluation.comparison import DOUBTFUL_PHOTO, PhotoScores
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.evaluation.submission import NONE, PROTOCOLS, Submission

if TYPE_CHECKING:
    from wbc_lib.training.runs import Run

#: The table of recorded models as it is shipped.
MODELS_PATH = Path(__file__).with_name("models.csv")
FEW, BOOTSTRAP, EXACT = "allowing for few photos", "bootstrap", "Clopper-Pearson"


@dataclass(frozen=True)
class Report:
    """What `wbc score` says; shares are from 0 to 1, differences in points, intervals at 95 %."""

    protocol: str
    repeat: str
    note: str  # what must be true of the predictions
    pictures: int
    photos: int  # that the pictures are copies of
    # By image and by photo (copies averaged), of all photos and without `DOUBTFUL_PHOTO`; the wider interval first.
    accuracy: pd.DataFrame
    classes: pd.DataFrame
    matrix: pd.DataFrame  # images by true class (rows) and predicted class (columns)
    folds: pd.DataFrame | None  # accuracies of each
    # Where probabilities are given: mean confidence, its gap to the accuracy, calibration error and loss; and bins.
    calibration: pd.DataFrame | None
    reliability: pd.DataFrame | None
    comparison: pd.DataFrame | None  # of the published TEST: the submission minus every recorded model, paired by photo

    def as_plain(self) -> dict[str, object]:
        """All of it as JSON can hold it: a table is a list of rows, an undefined number ``None``."""
        plain: dict[str, object] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, pd.DataFrame):
                value = value.astype(object).where(value.notna(), None).to_dict("records")
            plain[field.name] = value
        return plain


def report(submission: Submission) -> Report:
    """Score a submission."""
    pictures = submission.pictures
    scored = score(submission)
    matrix = scores.confusion(pictures.label.to_numpy(), submission.predicted)
    columns = [*CLASSES, NONE] if matrix[:, -1].any() else list(CLASSES)
    counts = pd.DataFrame(matrix[:, : len(columns)], columns=columns)
    counts.insert(0, "true class", CLASSES)
    summary, reliability = _calibrate(submission) if submission.has_probabilities else (None, None)
    return Report(
        submission.protocol,
        submission.repeat,
        PROTOCOLS[submission.protocol],
        len(pictures),
        len(scored.photos),
        _tabulate_accuracy(scored, submission.is_published),
        _tabulate_classes(scored, matrix),
        counts,
        _tabulate_folds(scored, pictures) if submission.protocol == "folds" else None,
        summary,
        reliability,
        compare(scored, read_models(read_splits()))
        if submission.is_published and submission.protocol == "test"
        else None,
    )


def score(submission: Submission) -> PhotoScores:
    """Score a submission photo by photo; photos of one field of view are a group."""
    pictures = submission.pictures
    fields_of_view = pictures.groupby("photo").field.first()
    return comparison.score_answers(
        pictures.label.to_numpy(), pictures.photo.to_numpy(), [submission.answers], fields_of_view
    )


def compare(scored: PhotoScores, models: "list[Model]") -> pd.DataFrame:
    """Set scores against those of recorded models on the same photos, in points."""
    rows = []
    for model in models:
        found = comparison.compare(scored, model.scores)
        row = {name: getattr(model, name) for name in ("model", "title", "epochs", "trainings")}
        for unit, verdict in zip(("image", "photo"), found.verdicts, strict=True):
            accuracy, interval = getattr(model.scores, f"by_{unit}"), getattr(found, f"by_{unit}")
            row |= {f"{unit}_accuracy": accuracy, f"{unit}_difference": interval.estimate}
            row |= {f"{unit}_low": interval.low, f"{unit}_high": interval.high, f"{unit}_verdict": verdict}
        rows.append(row)
    return pd.DataFrame(rows)


def estimate(scored: PhotoScores, *, by_photo: bool) -> tuple[tuple[Interval, str], tuple[Interval, str]]:
    """An accuracy with its two intervals and their methods, the wider first; whole fields of view are drawn."""
    values, sizes = (scored.right, np.ones(len(scored.right))) if by_photo else (scored.right_copies, scored.copies)
    groups = scored.sum_by_group(values, sizes)
    few = intervals.clustered_interval(groups["value"], groups["size"], groups.label)
    found = ((few, FEW), (comparison.bootstrap_groups(groups), BOOTSTRAP))
    first, second = sorted(found, key=lambda pair: -pair[0].width)
    # Where all are right, or none is, there is nothing to draw anew; the first is then the exact one.
    return (first, second) if second[0].width else ((first[0], EXACT),) * 2


def _tabulate_accuracy(scored: PhotoScores, is_published: bool) -> pd.DataFrame:
    parts = {"all": scored}
    if is_published and DOUBTFUL_PHOTO in scored.photos:
        parts[f"without photo {DOUBTFUL_PHOTO}"] = scored.without(DOUBTFUL_PHOTO)
    rows = []
    for name, part in parts.items():
        for unit in ("image", "photo"):
            (wide, method), (narrow, _) = estimate(part, by_photo=unit == "photo")
            total = part.copies.sum() if unit == "image" else len(part.photos)
            row = {"by": unit, "photos": name, "n": int(total), "accuracy": wide.estimate, "low": wide.low}
            rows.append(row | {"high": wide.high, "method": method, "other_low": narrow.low, "other_high": narrow.high})
    return pd.DataFrame(rows)


def _tabulate_classes(scored: PhotoScores, matrix: NDArray[np.integer]) -> pd.DataFrame:
    table = scores.report(matrix)
    rows = []
    for label, cell in enumerate(CLASSES, start=1):
        part = scored.only(scored.labels == label)
        if not len(part.photos):
            continue
        (wide, _), _ = estimate(part, by_photo=False)
        row = {"class": cell, "images": int(part.copies.sum()), "photos": len(part.photos), "recall": wide.estimate}
        row |= {"low": wide.low, "high": wide.high, "precision": table.precision[cell], "f1": table.f1[cell]}
        rows.append(row | {"photo_recall": part.by_photo})
    return pd.DataFrame(rows)


def _tabulate_folds(scored: PhotoScores, pictures: pd.DataFrame) -> pd.DataFrame:
    fold = pictures.groupby("photo").fold.first().loc[scored.photos].to_numpy()
    parts = {int(number): scored.only(fold == number) for number in np.unique(fold)}
    rows = [
        {"fold": number, "images": int(part.copies.sum()), "photos": len(part.photos)}
        | {"by_image": part.by_image, "by_photo": part.by_photo}
        for number, part in parts.items()
    ]
    return pd.DataFrame(rows)


def _calibrate(submission: Submission) -> tuple[pd.DataFrame, pd.DataFrame]:
    pictures = submission.pictures
    # Fields of view take the place of photos: they are what is drawn anew.
    known = pictures.label.to_numpy(), submission.answers, pictures.field.to_numpy()
    predictions = calibration.Predictions.from_probabilities(*known)
    summary = calibration.summarise(predictions)
    gap = summary.gap
    row = {"confidence": summary.confidence, "accuracy": summary.accuracy, "gap": gap.estimate}
    row |= {"gap_low": gap.low, "gap_high": gap.high, "error": summary.error, "loss": summary.loss}
    return pd.DataFrame([row]), calibration.reliability(predictions)


# For readers ------------------------------------------------------------------------------------------------------


def write_tables(found: Report) -> dict[str, pd.DataFrame]:
    """The tables as they are printed, by their titles."""
    accuracy = found.accuracy
    tables = {
        "Accuracy (95 % intervals over fields of view; the wider first)": pd.DataFrame(
            {
                "counted by": accuracy.by,
                "photos": accuracy.photos,
                "n": accuracy.n.map("{:,}".format),
                "accuracy": accuracy.accuracy.map(_percent),
                "95 % interval": _ranges(accuracy.low, accuracy.high),
                "by": accuracy.method,
                "and by the other way": _ranges(accuracy.other_low, accuracy.other_high),
            }
        ),
        "Classes (by image; recall also by photo, copies averaged)": pd.DataFrame(
            {
                "class": found.classes["class"],
                "images": found.classes.images.map("{:,}".format),
                "photos": found.classes.photos.map("{:,}".format),
                "recall": found.classes.recall.map(_percent),
                "95 % interval": _ranges(found.classes.low, found.classes.high),
                "by photo": found.classes.photo_recall.map(_percent),
                "precision": found.classes.precision.map(_percent),
                "F1": found.classes.f1.map(_percent),
            }
        ),
        "True class (rows) against predicted class (columns), images": found.matrix.astype(str),
    }
    if found.folds is not None:
        shares = {column.replace("_", " "): found.folds[column].map(_percent) for column in ("by_image", "by_photo")}
        tables["Accuracy by fold"] = found.folds[["fold", "images", "photos"]].astype(str).assign(**shares)
    if found.calibration is not None:
        [row] = found.calibration.itertuples()
        values = {
            "mean confidence": _percent(row.confidence),
            "accuracy": _percent(row.accuracy),
            "confidence minus accuracy, points": f"{100 * row.gap:+.1f}",
            "95 % interval": f"{100 * row.gap_low:+.1f} to {100 * row.gap_high:+.1f}",
            "expected calibration error": _percent(row.error),
            "mean loss, nats": f"{row.loss:.3f}",
        }
        tables["Calibration (by image)"] = pd.DataFrame([values])
    if found.comparison is not None:
        tables["Against the recorded models on TEST: difference in points, paired by photo"] = _write_comparison(
            found.comparison
        )
    return tables


def _write_comparison(table: pd.DataFrame) -> pd.DataFrame:
    columns = {"model": table.model, "epochs": table.epochs.astype(str), "trainings": table.trainings.astype(str)}
    for unit in ("image", "photo"):
        columns[f"its accuracy by {unit}"] = table[f"{unit}_accuracy"].map(_percent)
        differences = table[[f"{unit}_difference", f"{unit}_low", f"{unit}_high"]].to_numpy()
        columns[f"difference by {unit}"] = [f"{Interval(*row):+.1f}" for row in differences]
        columns[f"yours, by {unit}"] = table[f"{unit}_verdict"]
    return pd.DataFrame(columns)


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.2f} %"


def _ranges(low: pd.Series, high: pd.Series) -> list[str]:
    return [f"{100 * a:.1f} to {100 * b:.1f}" for a, b in zip(low, high, strict=True)]


# What is shipped --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Model:
    """A recorded model's scores on TEST."""

    model: str  # its name
    title: str
    epochs: int  # of a training
    trainings: int  # that the scores are the mean of
    scores: PhotoScores


def tabulate_splits(images: pd.DataFrame, provenance: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Put together what `splits.read_splits` gives, for any data set of this layout.

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
    from wbc_lib.training.experiments import find_experiment
    from wbc_lib.training.plan import WINDOWS

    test = splits[splits.split == "TEST"]
    by_length: dict[str, dict[int, list[Run]]] = {}
    for run in runs:
        if run.record["config"]["material"] in ("augmented", WINDOWS) and np.array_equal(run.names("test"), test.image):
            by_length.setdefault(run.record["experiment"], {}).setdefault(run.epochs, []).append(run)
    tables = []
    for name, lengths in sorted(by_length.items()):
        epochs, found = max(lengths.items())
        scored = comparison.score_photos(found, test[["image", "photo"]])
        table = pd.DataFrame({"photo": scored.photos})
        for column in ("right_copies", "right"):
            table[column] = np.rint(getattr(scored, column) * len(found)).astype(int)
        tables.append(table.assign(model=name, epochs=epochs, trainings=len(found), title=find_experiment(name).title))
    columns = ["model", "title", "epochs", "trainings", "photo", "right_copies", "right"]
    return pd.concat(tables, ignore_index=True)[columns]


def read_models(splits: pd.DataFrame) -> list[Model]:
    """The shipped models, the best on TEST's images first; `splits` as `splits.read_splits` gives it."""
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


def make_files() -> dict[Path, str]:
    """Both shipped tables, as CSV by their paths, from the recorded results of the published images."""
    from wbc_lib.provenance import overlaps, trace
    from wbc_lib.training.runs import Store

    provenance = trace.read_recorded()
    parts = provenance.image.str.split("/", expand=True)
    images = provenance[["image"]].assign(split=parts[0], cell=parts[1], label=parts[1].map(LABELS))
    splits = tabulate_splits(images, provenance, overlaps.read_recorded())
    models = tabulate_models(Store(paths.results()).read_all(), splits)
    tables = {SPLITS_PATH: splits, MODELS_PATH: models}
    return {path: table.to_csv(index=False, lineterminator="\n") for path, table in tables.items()}
