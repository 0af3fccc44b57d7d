"""Check a data set file by file: every fault is one line that names the file and the remedy."""

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wbc_lib.data.dataset import (
    CLASSES,
    IMAGE_SIZE,
    PHOTO_SIZE,
    PUBLISHED_COUNTS,
    PUBLISHED_PHOTOS,
    SPLITS,
    DataSet,
    look_through,
    parse_boxes,
    photo_number,
    read_file,
    read_labels,
)
from wbc_lib.data.folders import Contents
from wbc_lib.data.hashes import Manifest, data_files, read_manifest, read_published
from wbc_lib.data.images import decode_jpeg, jpeg_size, one_thread
from wbc_lib.errors import BadDataError, WbcError, printable

#: A set that differs from the published one in more files is another one, not a damaged one.
_MAX_NAMED = 200


@dataclass(frozen=True)
class Outcome:
    """What a check found.

    Attributes
    ----------
    counts : DataFrame
        Images per split (rows) and class (columns).
    n_photos : int
        Source photos.
    problems : list of str
        A sentence per fault.
    manifest : Manifest or None
        The hashes; ``None`` if there are faults.
    """

    counts: pd.DataFrame
    n_photos: int
    problems: list[str]
    manifest: Manifest | None


def check(data: DataSet, on_progress: Callable[[int, int], None] | None = None) -> Outcome:
    """Decode every image, read every label and box, count, and compare with the published files.

    Parameters
    ----------
    data : DataSet
    on_progress : callable, optional
        Called with (images done, images in all).
    """
    found, problems = look_through(data)
    images = {(split, cell): found[f"{split}/{cell}"].names for split in SPLITS for cell in CLASSES}
    counts = pd.DataFrame({cell: [len(images[split, cell]) for split in SPLITS] for cell in CLASSES}, SPLITS)
    photos = [data.raw / "JPEGImages" / name for name in found["JPEGImages"].names]
    problems += _check_counts(data, counts, len(photos)) + _check_tables(data, found)
    work = [
        (data.image_path(f"{split}/{cell}/{n}"), IMAGE_SIZE) for (split, cell), names in images.items() for n in names
    ]
    work += [(photo, PHOTO_SIZE) for photo in photos]
    with closing(_check_jpegs(work)) as results:
        for done, problem in enumerate(results, start=1):
            if problem:
                problems.append(problem)
            if on_progress and (done % 100 == 0 or done == len(work)):
                on_progress(done, len(work))
    try:
        manifest = read_manifest(data, anew=True)
        if not (data.is_phantom or manifest.is_published):
            problems += _compare(data, manifest, "\n".join(problems))
    except BadDataError as error:
        manifest = None
        problems = problems or [str(error)]
    return Outcome(counts, len(photos), [printable(p) for p in problems], None if problems else manifest)


def check_jpeg(path: Path, size: tuple[int, int]) -> str | None:
    """Check one JPEG.

    Parameters
    ----------
    path : Path
    size : tuple of int
        Width and height it must have.

    Returns
    -------
    str or None
        What is wrong with it and what to do, or ``None``. The file is read only if its size is plausible, and
        decoded only if its header states the right width and height, so that no image can exhaust the memory.
    """
    remedy = "restore it from the archive"
    wanted = f"{size[0]}x{size[1]}"
    try:
        width, height, channels = jpeg_size(content := read_file(path), path)
        if (width, height) != size:
            return f"{path}: is {width}x{height} instead of {wanted}; {remedy}."
        if channels != 3:
            return f"{path}: has {channels} channels instead of 3; {remedy}."
        half = decode_jpeg(content, path, remedy, reduce=True)
    except BadDataError as error:
        return str(error)
    if half.shape[1::-1] != (width // 2, height // 2):
        return f"{path}: is to be shown turned (by its EXIF data) instead of {wanted}; {remedy}."
    return None


def _check_jpegs(work: list[tuple[Path, tuple[int, int]]]) -> Generator[str | None, None, None]:
    with one_thread(), ThreadPoolExecutor(2) as pool:
        try:
            yield from pool.map(check_jpeg, *zip(*work, strict=True))
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _compare(data: DataSet, manifest: Manifest, known: str) -> list[str]:
    # Names the files that are not the published ones, but for those of which `known` says so already.
    published = read_published().files
    names = sorted(name for name in {*published, *manifest.files} if published.get(name) != manifest.files.get(name))
    if len(names) > _MAX_NAMED:
        return [f"{data.root}: {len(names):,} files are not the published ones; download the archive again."]
    places = data_files(data)
    problems = []
    for name in names:
        place = places.get(name, data.root / name)
        what = "is missing" if name not in places else "is not the published file"
        if str(place) not in known:
            problems.append(f"{place}: {what}; restore it from the archive.")
    return problems


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


def _check_tables(data: DataSet, found: dict[str, Contents]) -> list[str]:
    problems: list[str] = []
    try:
        labels = read_labels(data)
    except WbcError as error:
        problems.append(str(error))
    else:
        photos = [data.raw / "JPEGImages" / name for name in found["JPEGImages"].names]
        unlisted = [photo for photo in photos if photo_number(photo) not in labels]
        problems += [f"{photo}: has no row in labels.csv; restore the published table." for photo in unlisted]
    for name in found["Annotations"].names:
        path = data.raw / "Annotations" / name
        try:
            if parse_boxes(read_file(path), str(path)).empty:
                problems.append(f"{path}: holds no box; restore it from the archive.")
        except BadDataError as error:
            problems.append(str(error))
    return problems
