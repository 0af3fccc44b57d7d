"""Check a data set file by file: every fault is one line that names the file and the remedy."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wbc_lib.data.dataset import (
    CLASSES,
    IMAGE_SIZE,
    PHOTO_SIZE,
    PLACES,
    PUBLISHED_COUNTS,
    PUBLISHED_PHOTOS,
    RESTORE,
    SPLITS,
    Contents,
    DataSet,
    look_into,
    parse_boxes,
    photo_number,
    read_file,
    read_labels,
)
from wbc_lib.data.hashes import Checksums, data_files, read_checksums, read_published
from wbc_lib.data.images import OnProgress, decode_jpeg, jpeg_size, map_in_threads
from wbc_lib.errors import BadDataError, WbcError, printable

#: A set that differs from the published one in more files is another one, not a damaged one.
_MAX_NAMED = 200


@dataclass(frozen=True)
class Outcome:
    """What a check found."""

    counts: pd.DataFrame  # images per split (rows) and class (columns)
    n_photos: int
    problems: list[str]  # a sentence per fault
    checksums: Checksums | None  # None if there are faults


def check(data: DataSet, on_progress: OnProgress | None = None) -> Outcome:
    """Decode every image, read every label and box, count, and compare with the published files."""
    contents, problems = _look_through(data)
    counts = pd.DataFrame({c: [len(contents[f"{s}/{c}"].names) for s in SPLITS] for c in CLASSES}, SPLITS)
    photos = [data.raw / "JPEGImages" / name for name in contents["JPEGImages"].names]
    problems += _check_counts(data, counts, len(photos)) + _check_tables(data, contents)
    folders = [f"{split}/{cell}" for split in SPLITS for cell in CLASSES]
    work = [(data.image_path(f"{place}/{name}"), IMAGE_SIZE) for place in folders for name in contents[place].names]
    work += [(photo, PHOTO_SIZE) for photo in photos]
    with closing(map_in_threads(lambda file: check_jpeg(*file), work)) as results:
        for done, problem in enumerate(results, start=1):
            if problem:
                problems.append(problem)
            if on_progress and (done % 100 == 0 or done == len(work)):
                on_progress(done, len(work))
    checksums = None
    try:
        checksums = read_checksums(data, anew=True)
        if not (data.is_phantom or checksums.is_published):
            problems += _compare(data, checksums, "\n".join(problems))
    except BadDataError as error:
        problems = problems or [str(error)]
    return Outcome(counts, len(photos), [printable(p) for p in problems], None if problems else checksums)


def check_jpeg(path: Path, size: tuple[int, int]) -> str | None:
    """Tell what is wrong with one JPEG, which must have this width and height, and what to do; ``None`` if nothing is.

    It is decoded only if its header states the right width and height: no image can exhaust the memory.
    """
    wanted = f"{size[0]}x{size[1]}"
    try:
        width, height, channels = jpeg_size(content := read_file(path), path)
        if (width, height) != size:
            return f"{path}: is {width}x{height} instead of {wanted}; {RESTORE}."
        if channels != 3:
            return f"{path}: has {channels} channels instead of 3; {RESTORE}."
        half = decode_jpeg(content, path, RESTORE, reduce=True)
    except BadDataError as error:
        return str(error)
    if half.shape[1::-1] != (width // 2, height // 2):
        return f"{path}: is to be shown turned (by its EXIF data) instead of {wanted}; {RESTORE}."
    return None


def _compare(data: DataSet, checksums: Checksums, known: str) -> list[str]:
    # Names the files that are not the published ones, but for those of which `known` says so already.
    published = read_published().files
    names = sorted(name for name in {*published, *checksums.files} if published.get(name) != checksums.files.get(name))
    if len(names) > _MAX_NAMED:
        return [f"{data.root}: {len(names):,} files are not the published ones; download the archive again."]
    places = data_files(data)
    what = {name: "is not the published file" if name in places else "is missing" for name in names}
    found = {name: places.get(name, data.root / name) for name in names}
    return [f"{found[name]}: {what[name]}; {RESTORE}." for name in names if str(found[name]) not in known]


def _look_through(data: DataSet) -> tuple[dict[str, Contents], list[str]]:
    # What lies in every folder, and a sentence for each that is missing or empty and for each entry that is foreign.
    contents, problems = {}, []
    for place in PLACES:
        try:
            inside = contents[place] = look_into(data, place)
        except BadDataError as error:
            contents[place] = Contents([], [], [])
            problems.append(str(error))
            continue
        if not inside.names:
            folder = (data.augmented if "/" in place else data.raw) / place
            problems.append(f"{folder}: the folder is empty; unpack the archive again.")
        problems += inside.doubtful + inside.foreign
    return contents, problems


def _check_counts(data: DataSet, counts: pd.DataFrame, n_photos: int) -> list[str]:
    if data.is_phantom:
        return []
    problems = []
    for split, wanted in PUBLISHED_COUNTS.items():
        for cell, n in wanted.items():
            if counts.loc[split, cell] not in (0, n):  # an empty folder is told already
                folder, held = data.augmented / split / cell, counts.loc[split, cell]
                problems.append(f"{folder}: holds {held} images instead of {n}; unpack the archive again.")
    if n_photos not in (0, PUBLISHED_PHOTOS):
        folder = data.raw / "JPEGImages"
        problems.append(f"{folder}: holds {n_photos} photos instead of {PUBLISHED_PHOTOS}; unpack the archive again.")
    return problems


def _check_tables(data: DataSet, contents: dict[str, Contents]) -> list[str]:
    problems: list[str] = []
    try:
        labels = read_labels(data)
    except WbcError as error:
        problems.append(str(error))
    else:
        photos = [data.raw / "JPEGImages" / name for name in contents["JPEGImages"].names]
        unlisted = [photo for photo in photos if photo_number(photo.name) not in labels]
        problems += [f"{photo}: has no row in labels.csv; restore the published table." for photo in unlisted]
    for name in contents["Annotations"].names:
        path = data.raw / "Annotations" / name
        try:
            if parse_boxes(read_file(path), str(path)).empty:
                problems.append(f"{path}: holds no box; {RESTORE}.")
        except BadDataError as error:
            problems.append(str(error))
    return problems
