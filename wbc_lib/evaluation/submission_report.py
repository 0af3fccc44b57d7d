"""The score of a submission: accuracies with their intervals, classes, calibration, and recorded models to compare."""

from dataclasses import dataclass, fields

import numpy as np
import pandas as pd

from wbc_lib.data.dataset import CLASSES
from wbc_lib.data.splits import read_splits
from wbc_lib.evaluation import calibration, comparison, intervals, scores
from wbc_lib.evaluation.comparison import PhotoScores
from wbc_lib.evaluation.intervals import Interval
from wbc_lib.evaluation.reference import Model, read_models
from wbc_lib.evaluation.submission import NONE, PROTOCOLS, Submission

#: The photo of the published set whose doubtful label weighs most; what hangs on it is given with it and without it.
DOUBTFUL_PHOTO = 110
STUDENT, BOOTSTRAP, EXACT = "Student's t", "bootstrap", "Clopper-Pearson"
#: Least probability of the true class that the loss counts: a zero would make it infinite.
_LEAST = 1e-12


@dataclass(frozen=True)
class Report:
    """What `wbc score` says; shares are from 0 to 1, differences in points, intervals at 95 %.

    Attributes
    ----------
    protocol, repeat, note : str
        As declared, and what must be true of the predictions.
    pictures, photos : int
        Pictures scored, and photos that they are copies of.
    accuracy : DataFrame
        By image and by photo (copies averaged), of all photos and without `DOUBTFUL_PHOTO`: ``accuracy``, ``low`` and
        ``high`` of the wider interval, its ``method``, and the other's ``other_low`` and ``other_high``.
    classes : DataFrame
        Of each class ``images``, ``photos``, ``recall`` with ``low`` and ``high``, ``precision`` and ``f1``.
    matrix : DataFrame
        Images by true class (rows) and predicted class (columns).
    folds : DataFrame or None
        Accuracies of each fold.
    calibration, reliability : DataFrame or None
        Where probabilities are given: mean confidence, its gap to the accuracy, expected calibration error and loss;
        and confidence against accuracy, in bins.
    comparison : DataFrame or None
        Of the published TEST: the submission minus every recorded model, paired by photo.
    """

    protocol: str
    repeat: str
    note: str
    pictures: int
    photos: int
    accuracy: pd.DataFrame
    classes: pd.DataFrame
    matrix: pd.DataFrame
    folds: pd.DataFrame | None
    calibration: pd.DataFrame | None
    reliability: pd.DataFrame | None
    comparison: pd.DataFrame | None

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
    is_known = submission.is_published
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
        _tabulate_accuracy(scored, is_known),
        _tabulate_classes(scored, matrix),
        counts,
        _tabulate_folds(scored, pictures) if submission.protocol == "folds" else None,
        summary,
        reliability,
        compare(scored, read_models(read_splits())) if is_known and submission.protocol == "test" else None,
    )


def score(submission: Submission) -> PhotoScores:
    """Score a submission photo by photo; photos of one field of view are a group."""
    pictures = submission.pictures
    fields_of_view = pictures.groupby("photo").field.first()
    return comparison.score_answers(
        pictures.label.to_numpy(), pictures.photo.to_numpy(), [submission.answers], fields_of_view
    )


def compare(scored: PhotoScores, models: list[Model]) -> pd.DataFrame:
    """Set scores against those of recorded models on the same photos, in points."""
    rows = []
    for model in models:
        found = comparison.compare(scored, model.scores)
        row: dict[str, object] = {"model": model.name, "title": model.title, "epochs": model.epochs}
        row |= {"trainings": model.trainings}
        for unit, interval, verdict in zip(("image", "photo"), (found.by_image, found.by_photo), found.verdicts,
                                           strict=True):  # fmt: skip
            accuracy = model.scores.by_image if unit == "image" else model.scores.by_photo
            row |= {f"{unit}_accuracy": accuracy, f"{unit}_difference": interval.estimate}
            row |= {f"{unit}_low": interval.low, f"{unit}_high": interval.high, f"{unit}_verdict": verdict}
        rows.append(row)
    return pd.DataFrame(rows)


def estimate(scored: PhotoScores, *, by_photo: bool) -> tuple[tuple[Interval, str], tuple[Interval, str]]:
    """An accuracy with its two intervals and their methods, the wider first; whole fields of view are drawn."""
    values, sizes = (scored.right, np.ones(len(scored.right))) if by_photo else (scored.right_copies, scored.copies)
    groups = scored.sum_by_group(values, sizes)
    student = intervals.clustered_interval(groups["value"], groups["size"], groups.label)
    found = ((student, STUDENT), (comparison.bootstrap_groups(groups), BOOTSTRAP))
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


def _tabulate_classes(scored: PhotoScores, matrix: np.ndarray) -> pd.DataFrame:
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
    logits = np.log(np.maximum(submission.answers, _LEAST))
    # Fields of view take the place of photos: they are what is drawn anew.
    predictions = calibration.Predictions(pictures.label.to_numpy(), logits, pictures.field.to_numpy())
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
        columns[f"difference by {unit}"] = [
            f"{row[f'{unit}_difference']:+.1f} ({row[f'{unit}_low']:+.1f} to {row[f'{unit}_high']:+.1f})"
            for _, row in table.iterrows()
        ]
        columns[f"yours, by {unit}"] = table[f"{unit}_verdict"]
    return pd.DataFrame(columns)


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.2f} %"


def _ranges(low: pd.Series, high: pd.Series) -> list[str]:
    return [f"{100 * a:.1f} to {100 * b:.1f}" for a, b in zip(low, high, strict=True)]
