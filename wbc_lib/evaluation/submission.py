"""Predictions that somebody hands in: read from a file, checked row by row, put into the order of a protocol."""

import csv
import io
import re
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.dataset import CLASSES, LABELS, N_OUTPUTS
from wbc_lib.data.splits import REPEATS, read_splits
from wbc_lib.errors import SubmissionError, UnknownNameError, printable

#: What may be scored, and what must be true of it.
PROTOCOLS = {
    "test": "The images of TEST. They may not have chosen anything: no setting, no epoch, no model.",
    "test-simple": "The unaltered images of TEST_SIMPLE. They may not have chosen anything, nor may those of TEST.",
    "folds": "All photos, or all images of TRAIN and TEST, out of fold as declared: that no prediction was made by a "
    "model that had seen the image's field of view cannot be checked.",
}
#: How far from 1 the probabilities of a row may add up to: they may be rounded.
TOLERANCE = 0.01
#: Besides the classes: what is none of them.
NONE = "NONE"

_COLUMNS = {LABELS[name]: name.casefold() for name in CLASSES} | {0: NONE.casefold()}
_ENDING = re.compile(r"\.(jpe?g|png|tiff?|bmp|webp)$", re.I)
_MOST_BYTES = 200_000_000
_SHOWN = 60  # characters of what is quoted


@dataclass(frozen=True)
class Submission:
    """Predictions for every picture of a protocol."""

    protocol: str  # one of `PROTOCOLS`
    repeat: str  # of "folds", one of `splits.REPEATS`, else ""
    pictures: pd.DataFrame  # a row per picture: ``image``, ``photo``, ``field``, ``label`` (1 to 4) and ``fold``
    # (pictures, 5), rows summing to one; or 1 for the class that is named and 0 elsewhere; column 0 is no class
    answers: NDArray[np.float64]
    has_probabilities: bool
    is_published: bool  # whether the pictures are those of the shipped ``splits.csv``

    @property
    def predicted(self) -> NDArray[np.int64]:
        """The likeliest label of each picture, 0 to 4."""
        return self.answers.argmax(axis=1)


@dataclass(frozen=True)
class Table:
    """A file of predictions as it is: columns by their names in lower case, and the number of each row."""

    columns: Mapping[str, Sequence[object]]
    rows: Sequence[int]


def read(path: Path, protocol: str = "test", repeat: str = "s0", splits: pd.DataFrame | None = None) -> Submission:
    """Read predictions, and make sure that there is one for each picture.

    The file is a CSV with ``image`` and either ``predicted`` or a column of probabilities per class, or an ``.npz`` of
    arrays of these names. `splits` are those of another data set in this layout, as `submission_report.tabulate_splits`
    gives them. Raises `UnknownNameError` if there is no such protocol or repeat, `PlaceError` if the file cannot be
    read, and `SubmissionError` if anything is wrong with it: a sentence for each row that is.
    """
    if protocol not in PROTOCOLS:
        raise UnknownNameError(f"There is no protocol {protocol!r}; choose one of: {', '.join(PROTOCOLS)}.")
    if repeat not in REPEATS:
        raise UnknownNameError(f"There is no repeat {repeat!r}; choose one of: {', '.join(REPEATS)}.")
    table = _read_table(path)
    known = read_splits() if splits is None else splits
    pictures = _choose_pictures(known, protocol, repeat, table)
    problems: list[str] = []
    places = _find_places(table, pictures, known, protocol, problems)
    answers, has_probabilities = _read_answers(table, problems)
    if problems:
        raise SubmissionError(problems)
    ordered = np.empty((len(pictures), N_OUTPUTS))
    ordered[places] = answers
    return Submission(
        protocol, repeat if protocol == "folds" else "", pictures, ordered, has_probabilities, known is read_splits()
    )


def _choose_pictures(splits: pd.DataFrame, protocol: str, repeat: str, table: Table) -> pd.DataFrame:
    pictures = splits.assign(label=splits["class"].map(LABELS), fold=splits[f"fold_{repeat}"])
    if protocol != "folds":
        pictures = pictures[pictures.split == protocol.upper().replace("-", "_")]
    else:
        pictures = pictures[pictures.split != "TEST_SIMPLE"]
        if any(re.search(r"BloodImage_\d+", str(name), re.I) for name in table.columns["image"]):
            pictures = pictures.drop_duplicates("photo").sort_values("photo")
            pictures["image"] = [f"BloodImage_{photo:05d}.jpg" for photo in pictures.photo]
    return pictures[["image", "photo", "field", "label", "fold"]].reset_index(drop=True)


# The file ---------------------------------------------------------------------------------------------------------


def _read_table(path: Path) -> Table:
    with paths.place(path, "name another file"), path.open("rb") as file:
        content = file.read(_MOST_BYTES + 1)
    if len(content) > _MOST_BYTES:
        raise SubmissionError([f"{path} is larger than {_MOST_BYTES:,} bytes; hand in no more than predictions."])
    table = _parse_npz(content, path) if content.startswith(b"PK") else _parse_csv(content, path)
    if "image" not in table.columns:
        raise SubmissionError([f"{path} has no column `image`; give each row the name of its picture there."])
    if not table.rows:
        raise SubmissionError([f"{path} has no row; give every picture one."])
    return table


def _parse_csv(content: bytes, path: Path) -> Table:
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SubmissionError([f"{path} is neither CSV in UTF-8 nor .npz; save it as one of these."]) from error
    header = text.partition("\n")[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=header.count), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        lines += ((reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells))
    except csv.Error as error:
        raise SubmissionError([f"{path}, row {reader.line_num}: is no CSV ({error}); mend the row."]) from error
    if not lines:
        raise SubmissionError([f"{path} is empty; give every picture a row."])
    (_, names), *rows = lines
    _refuse_equal(names, path)
    problems = [
        f"{path}, row {number}: has {len(cells)} cells where the header has {len(names)}; mend the row."
        for number, cells in rows
        if len(cells) != len(names)
    ]
    if problems:
        raise SubmissionError(problems)
    columns = {name.strip().casefold(): [cells[i] for _, cells in rows] for i, name in enumerate(names)}
    return Table(columns, [number for number, _ in rows])


def _parse_npz(content: bytes, path: Path) -> Table:
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise SubmissionError(
            [f"{path} is no .npz of plain arrays ({type(error).__name__}); write it anew."]
        ) from error
    _refuse_equal(list(arrays), path)
    arrays = {name.casefold(): array for name, array in arrays.items()}
    if "probabilities" in arrays:
        table, classes = arrays.pop("probabilities"), np.ravel(arrays.pop("classes", []))
        if table.ndim != 2 or table.shape[1] != len(classes):
            raise SubmissionError(
                [f"{path} needs the name of each column of `probabilities`, in an array `classes` of that length."]
            )
        _refuse_equal([str(name) for name in classes], path)
        arrays |= {str(name).casefold(): column for name, column in zip(classes, table.T, strict=True)}
    lengths = {array.shape for array in arrays.values()}
    if len(lengths) > 1 or any(len(shape) != 1 for shape in lengths):
        raise SubmissionError([f"{path} holds arrays of different lengths; each needs one value per picture."])
    columns = {name: [v.decode("utf-8", "replace") if isinstance(v, bytes) else v for v in a.tolist()]
               for name, a in arrays.items()}  # fmt: skip
    return Table(columns, range(1, 1 + (lengths.pop()[0] if lengths else 0)))


def _refuse_equal(names: Sequence[str], path: Path) -> None:
    plain = [name.strip().casefold() for name in names]
    if twice := next((name for name in plain if plain.count(name) > 1), None):
        raise SubmissionError([f"{path} has two columns {_quote(twice)}; remove one."])


def _quote(value: object) -> str:
    return f"{printable(value)!r:.{_SHOWN}}"


# Pictures ---------------------------------------------------------------------------------------------------------


def _split_name(name: object) -> tuple[str, ...]:
    # The last three parts of a path, in lower case, without the ending.
    parts = [part for part in re.split(r"[\\/]", str(name).strip().casefold()) if part not in ("", ".")]
    return (*parts[:-1][-2:], _ENDING.sub("", parts[-1])) if parts else ()


def _find_places(
    table: Table, pictures: pd.DataFrame, splits: pd.DataFrame, protocol: str, problems: list[str]
) -> list[int]:
    # The row of `pictures` that each row of the table is about.
    by_name: dict[tuple[str, ...], list[int]] = {}
    for place, image in enumerate(pictures.image):
        parts = _split_name(image)
        for first in range(len(parts)):
            by_name.setdefault(parts[first:], []).append(place)
    others = {_split_name(image) for image in splits.image} - set(by_name)
    whole = f"protocol {protocol}"
    places: list[int] = []
    first_row: dict[int, int] = {}
    for row, name in zip(table.rows, table.columns["image"], strict=True):
        parts = _split_name(name)
        found = [] if parts in others else _look_up(parts, by_name)
        if not parts:
            problems.append(f"Row {row}: names no image; fill in the column `image`.")
        elif parts in others:
            problems.append(f"Row {row}: {_quote(name)} is an image of another split than {whole} asks for; remove it.")
        elif not found:
            problems.append(f"Row {row}: {_quote(name)} is no image of {whole}; remove it, or mend its name.")
        elif len(found) > 1:
            problems.append(f"Row {row}: {_quote(name)} is in several folders; write it as CLASS/FILE.")
        elif found[0] in first_row:
            problems.append(
                f"Row {row}: {_quote(name)} is in row {first_row[found[0]]} already; remove one of the two."
            )
        else:
            first_row[found[0]] = row
            places.append(found[0])
    missing = len(pictures) - len(first_row)
    if missing:
        example = next(image for place, image in enumerate(pictures.image) if place not in first_row)
        are = "image is" if missing == 1 else "images are"
        problems.append(f"{missing:,} {are} missing of the {len(pictures):,} of {whole}, such as {example}; add them.")
    return places


def _look_up(parts: tuple[str, ...], by_name: Mapping[tuple[str, ...], list[int]]) -> list[int]:
    for first in range(len(parts)):
        if parts[first:] in by_name:
            return by_name[parts[first:]]
        if parts[first].upper() in CLASSES and first == len(parts) - 2:
            return []  # a file of another class than this name says
    return []


# Answers ----------------------------------------------------------------------------------------------------------


def _read_answers(table: Table, problems: list[str]) -> tuple[NDArray[np.float64], bool]:
    present = [label for label, name in _COLUMNS.items() if name in table.columns]
    lacking = [name for name in CLASSES if LABELS[name] not in present]
    has_names = "predicted" in table.columns
    if lacking and (not has_names or len(lacking) < len(CLASSES)):
        problems.append(
            f"There is no column for {', '.join(lacking)}; give `predicted`, or probabilities of all of "
            f"{', '.join(CLASSES)}."
        )
        return np.zeros((len(table.rows), N_OUTPUTS)), False
    named = _read_names(table, problems) if has_names else None
    if lacking:
        assert named is not None
        return np.eye(N_OUTPUTS)[named], False
    answers = np.zeros((len(table.rows), N_OUTPUTS))
    for label in present:
        values = table.columns[_COLUMNS[label]]
        answers[:, label] = [_read_number(*of, label, problems) for of in zip(table.rows, values, strict=True)]
    totals = answers.sum(axis=1)
    for row, total in zip(table.rows, totals, strict=True):
        if abs(total - 1) > TOLERANCE:
            problems.append(
                f"Row {row}: the probabilities add up to {total:.4g} instead of 1; give shares, as softmax does."
            )
    if named is not None:
        highest = answers.max(axis=1)
        for row, label, answer, most in zip(table.rows, named, answers, highest, strict=True):
            if answer[label] < most:
                problems.append(f"Row {row}: `predicted` is not the likeliest class; leave one of the two out.")
    return answers / np.where(totals > 0, totals, 1)[:, None], True


def _read_names(table: Table, problems: list[str]) -> NDArray[np.int64]:
    labels = {name: label for label, name in _COLUMNS.items()}
    read_labels = []
    for row, value in zip(table.rows, table.columns["predicted"], strict=True):
        name = str(value).strip().casefold()
        if name in ("", "nan", "na"):
            problems.append(f"Row {row}: `predicted` is missing; name one of {', '.join(CLASSES)}.")
        elif name not in labels:
            problems.append(f"Row {row}: {_quote(value)} is no class; name one of {', '.join(CLASSES)}.")
        read_labels.append(labels.get(name, 0))
    return np.array(read_labels)


def _read_number(row: int, value: object, label: int, problems: list[str]) -> float:
    # What cannot be read is NaN, so that the sum of its row is not complained of, too.
    text, name = str(value).strip(), _COLUMNS[label].upper()
    try:
        number = float(text or "nan")
    except ValueError:
        problems.append(f"Row {row}: {_quote(text)} for {name} is no number; write it like 0.25.")
        return float("nan")
    if np.isnan(number):
        problems.append(f"Row {row}: the probability of {name} is missing (NaN); fill it in.")
    elif not 0 <= number <= 1:
        problems.append(f"Row {row}: {text} for {name} is no probability; it lies from 0 to 1.")
        return float("nan")
    return number
