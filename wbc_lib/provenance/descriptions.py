"""Reading and describing many pictures; what was described is kept, so that interrupted work goes on."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.images import MapTasks, OnProgress
from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, printable
from wbc_lib.provenance.features import Features, describe

#: Raise it whenever the same pictures may get other features, candidates or links than before: what is cached is then
#: made anew.
METHOD = 2
#: Pictures in a piece of work.
_CHUNK = 64

Picture = PictureFile | Path | str | NDArray[np.uint8]


@dataclass(frozen=True)
class Described:
    """What is kept of a picture."""

    features: Features
    content: str  # hash of the file's bytes, or of the array; "" if the file cannot be read
    problem: str  # a sentence if there is no picture; else ""


def describe_all(
    pictures: Sequence[Picture], map_tasks: MapTasks, cache: Path | None, on_progress: OnProgress
) -> list[Described]:
    """Describe pictures, in their order; what is in the cache is not described again."""
    chunks = (pictures[i : i + _CHUNK] for i in range(0, len(pictures), _CHUNK))
    described: list[Described] = []
    for part in map_tasks(partial(_describe_chunk, cache=cache), chunks):
        described += part
        on_progress(len(described), len(pictures))
    return described


def name_kept(cache: Path | None, kind: str, contents: Sequence[object]) -> Path | None:
    """Where something that follows from contents (their hashes) is kept; None without a cache."""
    joined = hashlib.sha256(repr(contents).encode()).hexdigest()[:32]
    return cache / f"{kind}-{joined}-method{METHOD}-opencv{cv2.__version__}.npz" if cache else None


def _describe_chunk(pictures: Sequence[Picture], cache: Path | None) -> list[Described]:
    contents = [_read(picture) for picture in pictures]
    hashes = [_hash(content) for content, _ in contents]

    def make() -> dict[str, NDArray]:
        features = [_describe(content, name)[0] for content, name in contents]
        return {
            "counts": np.array([len(f) for f in features]),
            "points": np.concatenate([f.points for f in features]),
            "descriptors": np.concatenate([f.descriptors for f in features]),
            "sizes": np.array([f.size for f in features]),
            "scales": np.array([f.scale for f in features]),
        }

    kept = paths.keep_arrays(name_kept(cache, "features", hashes), make)
    ends = np.cumsum(kept["counts"])[:-1]
    points, descriptors = np.split(kept["points"], ends), np.split(kept["descriptors"], ends)
    sizes, scales = (kept[name].tolist() for name in ("sizes", "scales"))
    features = [Features(p, d, tuple(s), k) for p, d, s, k in zip(points, descriptors, sizes, scales, strict=True)]
    # A sentence names the file, and the same bytes may have had another name before: it is not kept.
    problems = ["" if all(f.size) else _describe(*content)[1] for f, content in zip(features, contents, strict=True)]
    return list(map(Described, features, hashes, problems))


def _read(picture: Picture) -> tuple[bytes | NDArray[np.uint8] | BadDataError, str]:
    if isinstance(picture, np.ndarray):
        return picture, "an array"
    file = picture if isinstance(picture, PictureFile) else PictureFile(Path(picture), str(picture))
    try:
        return file.read(), printable(file.name)
    except BadDataError as error:
        return error, printable(file.name)


def _hash(content: bytes | NDArray[np.uint8] | BadDataError) -> str:
    if isinstance(content, BadDataError):
        return ""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha256(str(content.shape).encode() + np.ascontiguousarray(content).tobytes()).hexdigest()


def _describe(content: bytes | NDArray[np.uint8] | BadDataError, name: str) -> tuple[Features, str]:
    try:
        if isinstance(content, BadDataError):
            raise content
        return describe(content if isinstance(content, np.ndarray) else decode_picture(content, name)), ""
    except BadDataError as error:
        return Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), (0, 0), 1.0), str(error)
