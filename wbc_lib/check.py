"""Check a data set file by file: every fault is one line that names the file and the remedy."""

import os
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import stopping
from wbc_lib.errors import BadDataError, WbcError
from wbc_lib.images import decode, jpeg_size
from wbc_lib.manifest import Manifest, data_files, read_manifest, read_published
from wbc_lib.photos import (
    CLASSES,
    IMAGE_SIZE,
    PHOTO_SIZE,
    PUBLISHED_COUNTS,
    PUBLISHED_PHOTOS,
    SPLITS,
    DataSet,
    list_annotations,
    list_photos,
    parse_boxes,
    read_file,
    read_labels,
)

#: A set that differs from the published one in more files is another one, not a damaged one.
_MAX_NAMED = 200
#: Fewer files than this are decoded sooner than other processes are started.
_FEW = 2000
_CHUNK = 64


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
    folders = {(split, cell): _jpegs(data.augmented / split / cell) for split in SPLITS for cell in CLASSES}
    counts = pd.DataFrame({cell: [len(folders[split, cell] or ()) for split in SPLITS] for cell in CLASSES}, SPLITS)
    photos = list_photos(data)
    problems = _check_counts(data, folders, len(photos)) + _check_tables(data, photos)
    work = [(path, IMAGE_SIZE) for paths in folders.values() for path in paths or ()]
    work += [(data.photo_path(photo), PHOTO_SIZE) for photo in photos]
    found = []
    with closing(_check_jpegs(work)) as results:
        for done, problem in enumerate(results, start=1):
            if problem:
                found.append(problem)
            if on_progress and (done % 100 == 0 or done == len(work)):
                on_progress(done, len(work))
    problems += sorted(found)
    try:
        manifest = read_manifest(data, anew=True)
        if not (data.is_phantom or manifest.is_published):
            problems += _compare(data, manifest, "\n".join(problems))
    except BadDataError as error:
        manifest = None
        problems = problems or [str(error)]
    return Outcome(counts, len(photos), [_printable(p) for p in problems], None if problems else manifest)


def _printable(text: str) -> str:
    # A file's name may hold what a terminal would obey.
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


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
        content = read_file(path)
        width, height, channels = jpeg_size(content, path)
        if (width, height) != size:
            return f"{path}: is {width}x{height} instead of {wanted}; {remedy}."
        if channels != 3:
            return f"{path}: has {channels} channels instead of 3; {remedy}."
        image, complaint = _decode_and_listen(content, path)
    except BadDataError as error:
        return str(error)
    if complaint:
        return f"{path}: is damaged inside ({complaint}); {remedy}."
    if image.shape[:2] != size[::-1]:
        return f"{path}: is to be shown turned (by its EXIF data) instead of {wanted}; {remedy}."
    return None


def _decode_and_listen(content: bytes, path: Path) -> tuple[NDArray[np.uint8], str]:
    # libjpeg paints over damage in the compressed data and OpenCV passes it for an image. The only trace is a line that
    # libjpeg writes straight to the terminal.
    ear, mouth = os.pipe()
    kept = os.dup(2)
    os.dup2(mouth, 2)
    try:
        image = decode(content, path)
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(mouth)  # with the last writer gone, reading ends
        heard = os.read(ear, 4096).decode(errors="replace")
        os.close(ear)
    # A progress bar may have been drawn meanwhile.
    return image, next((line.strip() for line in heard.splitlines() if "JPEG" in line), "")


def _check_jpegs(work: list[tuple[Path, tuple[int, int]]]) -> Generator[str | None, None, None]:
    # Processes, not threads: what is listened to belongs to the whole process.
    if len(work) < _FEW:
        yield from (check_jpeg(*item) for item in work)
        return
    chunks = (work[i : i + _CHUNK] for i in range(0, len(work), _CHUNK))
    with closing(stopping.work_in_processes(_check_chunk, chunks, 2, cv2.setNumThreads, (1,))) as results:
        for _, problems in results:
            yield from problems


def _check_chunk(chunk: list[tuple[Path, tuple[int, int]]]) -> list[str | None]:
    return [check_jpeg(*item) for item in chunk]


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


def _jpegs(folder: Path) -> list[Path] | None:
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".")) if folder.is_dir() else None


def _check_counts(data: DataSet, folders: dict[tuple[str, str], list[Path] | None], n_photos: int) -> list[str]:
    problems = []
    for (split, cell), paths in folders.items():
        folder = data.augmented / split / cell
        if paths is None:
            problems.append(f"{folder}: the folder is missing; unpack the archive again.")
        elif not paths:
            problems.append(f"{folder}: the folder is empty; unpack the archive again.")
        elif not data.is_phantom and len(paths) != PUBLISHED_COUNTS[split][cell]:
            wanted = PUBLISHED_COUNTS[split][cell]
            problems.append(f"{folder}: holds {len(paths)} files instead of {wanted}; unpack the archive again.")
    if not data.is_phantom and n_photos != PUBLISHED_PHOTOS:
        folder = data.raw / "JPEGImages"
        problems.append(f"{folder}: holds {n_photos} photos instead of {PUBLISHED_PHOTOS}; unpack the archive again.")
    return problems


def _check_tables(data: DataSet, photos: list[int]) -> list[str]:
    problems: list[str] = []
    try:
        labels = read_labels(data)
    except WbcError as error:
        problems.append(str(error))
    else:
        unlisted = [photo for photo in photos if photo not in labels]
        problems += [f"{data.photo_path(p)}: has no row in labels.csv; restore the published table." for p in unlisted]
    boxed = list_annotations(data)
    for photo in boxed:
        path = data.annotation_path(photo)
        try:
            if parse_boxes(read_file(path), str(path)).empty:
                problems.append(f"{path}: holds no box; restore it from the archive.")
        except BadDataError as error:
            problems.append(str(error))
    return problems
