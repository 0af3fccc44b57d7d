"""Check a data set file by file: every fault is one line that names the file and the remedy."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from wbc_lib.errors import BadDataError, WbcError
from wbc_lib.manifest import Manifest, read_manifest
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
    read_labels,
)

#: No JPEG of the published set reaches a tenth of this.
_MAX_BYTES = 2_000_000
_JPEG_START, _JPEG_END = b"\xff\xd8\xff", b"\xff\xd9"


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
    """Decode every image, read every label and box, and count.

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
    with ThreadPoolExecutor(2) as pool:
        for done, problem in enumerate(pool.map(lambda item: check_jpeg(*item), work), start=1):
            if problem:
                problems.append(problem)
            if on_progress and (done % 100 == 0 or done == len(work)):
                on_progress(done, len(work))
    return Outcome(counts, len(photos), problems, None if problems else read_manifest(data))


def check_jpeg(path: Path, size: tuple[int, int]) -> str | None:  # noqa: PLR0911 - one return per fault
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
    try:
        n_bytes = path.stat().st_size
        if n_bytes == 0:
            return f"{path}: the file is empty; {remedy}."
        if n_bytes > _MAX_BYTES:
            return f"{path}: {n_bytes:,} bytes is too large for an image of this set; {remedy}."
        content = path.read_bytes()
    except OSError as error:
        return f"{path}: cannot be read ({error.strerror}); {remedy}."
    if not content.startswith(_JPEG_START):
        return f"{path}: is no JPEG; {remedy}."
    found = jpeg_size(content)
    if found is None:
        return f"{path}: has no JPEG header; {remedy}."
    if found[:2] != size or found[2] != 3:
        wanted = f"{size[0]}x{size[1]} in colour"
        return f"{path}: is {found[0]}x{found[1]} with {found[2]} channels instead of {wanted}; {remedy}."
    if _JPEG_END not in content[-64:]:
        return f"{path}: ends too early; {remedy}."
    if cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR) is None:
        return f"{path}: cannot be decoded; {remedy}."
    return None


def jpeg_size(content: bytes) -> tuple[int, int, int] | None:
    """Read width, height and number of channels off a JPEG's frame header, without decoding it."""
    position = 2
    while position + 9 < len(content) and content[position] == 0xFF:
        marker = content[position + 1]
        if 0xC0 <= marker <= 0xCF and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = (int.from_bytes(content[position + i : position + i + 2]) for i in (5, 7))
            return width, height, content[position + 9]
        position += 2 + int.from_bytes(content[position + 2 : position + 4])
    return None


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
            if parse_boxes(path.read_bytes(), str(path)).empty:
                problems.append(f"{path}: holds no box; restore it from the archive.")
        except BadDataError as error:
            problems.append(str(error))
    return problems
