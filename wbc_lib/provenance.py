"""Which photo each augmented image was made from, and how it was moved.

The features of an image vote, in one search over all single-label photos of its class (whatever their split) and the
mirror images of these, for the photo they come from; the few photos with most votes are laid over the image by an
affine map. Where two of them fit nearly as well, as two photos of the same field of view do, the pixels decide.
"""

import gzip
import io
import multiprocessing
import shutil
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.errors import BadDataError, DataNotFoundError
from wbc_lib.images import read_image, shrink
from wbc_lib.manifest import read_manifest
from wbc_lib.photos import CLASSES, IMAGE_SIZE, DataSet, index_photos, list_images, list_photos
from wbc_lib.registration import (
    Features,
    Fit,
    Index,
    Limits,
    build_index,
    compare,
    decompose,
    detect,
    footprint,
    is_within,
    one_thread,
    register,
    vote,
    warp,
)

__all__ = [
    "AFFINE",
    "decompose",
    "find_near_duplicates",
    "read_recorded",
    "read_reduced",
    "recorded_path",
    "trace",
    "warp",
    "write_recorded",
]

#: Raise it whenever the same images may give another table than before, so that cached tables are made anew.
METHOD = 1
AFFINE = ["a11", "a12", "a13", "a21", "a22", "a23"]
#: Fewest inliers to believe a map; between pictures that have nothing in common, up to 7 were seen.
MIN_INLIERS = 12
#: What the published recipe can do to a photo (±20°, ±10 %, 0.2 rad = 11.5°, no scaling), and some room for error.
RECIPE = Limits(rotation=21, shift=0.11, shear=13, scale=0.03)
#: What lies between two photos of one smear: the stage moves, but does not turn.
STAGE = Limits(rotation=2, shift=1, shear=2, scale=0.03)

_DECIMALS = dict.fromkeys(AFFINE, 7) | {"a13": 4, "a23": 4, "gain": 4, "residual": 3, "confidence": 3}
_COLUMNS = {
    "image": str,
    "photo": int,
    "mirrored": bool,
    **dict.fromkeys(AFFINE, float),
    "inliers": int,
    "matches": int,
    "gain": float,
    "residual": float,
    "runner_up": int,
    "runner_up_inliers": int,
    "confidence": float,
}
#: Photos of most votes that are registered, and images in a piece of work.
_SHORTLIST = 3
_CHUNK = 64
_NOBODY = -1

OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class _Source:
    # A photo that images may have been made from; features as it is, and as a mirror shows it.
    photo: int
    grey: NDArray[np.uint8]
    features: tuple[Features, Features]


@dataclass(frozen=True)
class _Lineup:
    # The photos of one class; member 2 i of the index is photo i as it is, member 2 i + 1 its mirror image.
    sources: list[_Source]
    index: Index


@dataclass(frozen=True)
class _Attempt:
    photo: int
    fit: Fit
    gain: float
    residual: float

    @property
    def is_trusted(self) -> bool:
        return self.fit.inliers >= MIN_INLIERS and is_within(self.fit.affine, RECIPE)


def trace(data: DataSet, on_progress: OnProgress | None = None, jobs: int = 2) -> pd.DataFrame:
    """Find the photo each augmented image was made from.

    Work is kept in the user cache as it is done: interrupted, it goes on where it stopped; finished, it is read back.
    The outcome does not depend on `jobs`.

    Parameters
    ----------
    data : DataSet
    on_progress : callable, optional
        Called from this process with (images done, images in all).
    jobs : int
        Processes at work; 1 works in this one.

    Returns
    -------
    DataFrame
        A row per image, in the order of `photos.list_images`:

        - ``image``: ``SPLIT/CLASS/FILE``;
        - ``photo``: number of the likeliest photo, -1 if not one could be laid over the image;
        - ``mirrored``: whether the map changes left and right hand;
        - ``a11`` to ``a23``: the affine map from pixels (x, y, 1) of the photo reduced to 320x240 to the image's,
          NaN without a photo;
        - ``inliers``, ``matches``: features that agree with the map, and that were matched;
        - ``residual``: mean absolute difference, in grey levels, between the moved photo and the image where the photo
          reaches;
        - ``runner_up``, ``runner_up_inliers``: the other photo that came closest, -1 and 0 if none;
        - ``confidence``: 0 if the map has fewer than `MIN_INLIERS` inliers or is none that the recipe can make, else
          one minus the runner-up's share of the inliers, or minus the residual's share of the runner-up's residual,
          whichever leaves more.

    Raises
    ------
    BadDataError
        If a photo or an image cannot be read, or an image is not 320x240.
    ValueError
        If `jobs` is below 1.
    """
    if jobs < 1:
        raise ValueError(f"need at least one job, got {jobs}")
    folder = _cache_folder(data)
    finished = folder / "images.csv"
    images = list_images(data)
    if finished.exists():
        return _parse(finished.read_bytes(), finished)
    chunks = {
        folder / "chunks" / f"{start:06d}.csv": images.iloc[start : start + _CHUNK]
        for start in range(0, len(images), _CHUNK)
    }
    missing = {path: chunk for path, chunk in chunks.items() if not path.exists()}
    done = len(images) - sum(map(len, missing.values()))
    if on_progress:
        on_progress(done, len(images))
    for path, table in _work(data, missing, jobs):
        paths.write_text(path, table)
        done += len(missing[path])
        if on_progress:
            on_progress(done, len(images))
    table = pd.concat([_parse(path.read_bytes(), path) for path in chunks], ignore_index=True)
    paths.write_text(finished, _as_csv(table))
    shutil.rmtree(folder / "chunks", ignore_errors=True)
    return table


def find_near_duplicates(data: DataSet) -> pd.DataFrame:
    """Find the pairs of photos that show, wholly or in part, the same field of view.

    Any two photos on disk may pair, whatever their labels.

    Parameters
    ----------
    data : DataSet

    Returns
    -------
    DataFrame
        A row per pair, by photo: ``photo`` < ``other``, the map ``a11`` to ``a23`` from the one reduced to 320x240 to
        the other, its ``inliers`` and ``matches``, the ``overlap`` (share of the other that the photo covers), and the
        ``residual`` (mean absolute difference there, in grey levels).

    Raises
    ------
    BadDataError
        If a photo cannot be read.
    """
    numbers = list_photos(data)
    with one_thread(), ThreadPoolExecutor(2) as pool:
        greys = list(pool.map(lambda photo: _grey(read_reduced(data, photo)), numbers))
        features = list(pool.map(detect, greys))
        index = build_index(features)
        pairs = set()
        for i, own in enumerate(features):
            votes = vote(index, own)
            votes[i] = -1
            pairs |= {(min(i, j), max(i, j)) for j in np.argsort(-votes, kind="stable")[: 2 * _SHORTLIST] if j != i}
        rows = []
        for i, j in sorted(pairs):
            fit = register(features[i], features[j])
            if fit and fit.inliers >= MIN_INLIERS and is_within(fit.affine, STAGE):
                overlap = footprint(fit.affine).mean()
                _, difference = compare(greys[i], greys[j], fit.affine)
                rows.append(
                    (numbers[i], numbers[j], *fit.affine.ravel(), fit.inliers, fit.matches, overlap, difference)
                )
    columns = ["photo", "other", *AFFINE, "inliers", "matches", "overlap", "residual"]
    return pd.DataFrame(rows, columns=columns).round(_DECIMALS | {"overlap": 3})


def read_reduced(data: DataSet, photo: int) -> NDArray[np.uint8]:
    """Read a photo as the images were made from it: reduced to 320x240; shape (240, 320, RGB)."""
    return shrink(read_image(data.photo_path(photo)), IMAGE_SIZE[::-1])


def recorded_path() -> Path:
    """Where the table of the published images is recorded in the project."""
    return paths.results() / "provenance" / "images.csv.gz"


def write_recorded(table: pd.DataFrame) -> Path:
    """Record a table as `trace` gives it; the same table gives the same bytes."""
    target = recorded_path()
    with paths.written_whole(target) as temporary:
        temporary.write_bytes(gzip.compress(_as_csv(table).encode(), mtime=0))
    return target


def read_recorded() -> pd.DataFrame:
    """Read the recorded table, as `trace` gives it.

    Raises
    ------
    DataNotFoundError
        If none is recorded.
    BadDataError
        If the file is damaged.
    """
    path = recorded_path()
    try:
        content = gzip.decompress(path.read_bytes())
    except FileNotFoundError as error:
        raise DataNotFoundError(f"{path} is missing; restore it from the repository or trace the images.") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadDataError(f"{path} is damaged ({type(error).__name__}); restore it from the repository.") from error
    return _parse(content, path)


def _cache_folder(data: DataSet) -> Path:
    name = f"{read_manifest(data).sha256[:16]}-method{METHOD}-opencv{cv2.__version__}"
    return paths.cache() / "provenance" / name


def _as_csv(table: pd.DataFrame) -> str:
    return table[list(_COLUMNS)].to_csv(index=False, lineterminator="\n")


def _parse(content: bytes, path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(io.BytesIO(content), float_precision="round_trip")
        if list(table.columns) != list(_COLUMNS):
            raise ValueError("other columns")
        return table.astype(_COLUMNS)
    except ValueError as error:  # pandas' parser errors and undecodable text are ValueErrors
        raise BadDataError(f"{path} is not a table of provenance; remove it and trace the images again.") from error


def _grey(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


def _read_source(data: DataSet, photo: int) -> _Source:
    grey = _grey(read_reduced(data, photo))
    return _Source(photo, grey, (detect(grey), detect(grey, mirrored=True)))


def _read_sources(data: DataSet, jobs: int) -> dict[str, list[_Source]]:
    index = index_photos(data)
    single = index[(index.kind == "single") & index.has_photo]
    with one_thread(), ThreadPoolExecutor(jobs) as pool:
        return {
            cell: list(pool.map(lambda photo: _read_source(data, photo), single.index[single.labels == cell]))
            for cell in CLASSES
        }


def _line_up(sources: list[_Source]) -> _Lineup:
    return _Lineup(sources, build_index([features for source in sources for features in source.features]))


class _Tracer:
    """What a worker keeps between chunks: the line-up of each class."""

    def __init__(self, data: DataSet, sources: dict[str, list[_Source]]):
        self.data = data
        self.lineups = {cell: _line_up(of_class) for cell, of_class in sources.items()}

    def trace(self, chunk: pd.DataFrame) -> str:
        """The chunk's rows of the table, as csv."""
        rows = [(row.image, *self._trace_image(row.image, row.cell)) for row in chunk.itertuples()]
        return _as_csv(pd.DataFrame(rows, columns=list(_COLUMNS)).round(_DECIMALS))

    def _trace_image(self, image: str, cell: str) -> tuple:
        path = self.data.image_path(image)
        picture = read_image(path)
        if picture.shape[:2] != IMAGE_SIZE[::-1]:
            size = f"{IMAGE_SIZE[0]}x{IMAGE_SIZE[1]}"
            raise BadDataError(f"{path} is not {size}; run `wbc data check` and unpack the archive again.")
        return _identify(_grey(picture), self.lineups[cell])


def _identify(grey: NDArray[np.uint8], lineup: _Lineup) -> tuple:
    # The values of the table's columns after the first.
    features = detect(grey)
    votes = vote(lineup.index, features).reshape(-1, 2)
    ranking = np.argsort(-votes.max(axis=1), kind="stable")
    attempts = []
    for i in ranking[:_SHORTLIST]:
        source = lineup.sources[i]
        fit = register(source.features[int(votes[i].argmax())], features)
        if fit:
            attempts.append(_Attempt(source.photo, fit, *compare(source.grey, grey, fit.affine)))
    if not attempts:
        return (_NOBODY, False, *[np.nan] * 6, 0, 0, np.nan, np.nan, _NOBODY, 0, 0.0)
    best = _choose(attempts)
    rivals = [attempt for attempt in attempts if attempt is not best]
    rival = max(rivals, key=lambda attempt: attempt.fit.inliers, default=None)
    return (
        best.photo,
        bool(np.linalg.det(best.fit.affine[:, :2]) < 0),
        *best.fit.affine.ravel(),
        best.fit.inliers,
        best.fit.matches,
        best.gain,
        best.residual,
        rival.photo if rival else _NOBODY,
        rival.fit.inliers if rival else 0,
        _judge(best, rival),
    )


def _choose(attempts: list[_Attempt]) -> _Attempt:
    # Of those that could be it, the one with most inliers; where another has more than half as many, the pixels decide.
    trusted = [attempt for attempt in attempts if attempt.is_trusted]
    if not trusted:
        return max(attempts, key=lambda attempt: attempt.fit.inliers)
    most = max(attempt.fit.inliers for attempt in trusted)
    close = [attempt for attempt in trusted if 2 * attempt.fit.inliers > most]
    return min(close, key=lambda attempt: attempt.residual)


def _judge(best: _Attempt, rival: _Attempt | None) -> float:
    if not best.is_trusted:
        return 0.0
    if rival is None:
        return 1.0
    by_pixels = best.residual / rival.residual if rival.residual > 0 else 1.0
    return 1 - min(rival.fit.inliers / best.fit.inliers, by_pixels)


_tracer: _Tracer | None = None


def _start_worker(data: DataSet, sources: dict[str, list[_Source]]) -> None:
    global _tracer  # noqa: PLW0603 - a process of a pool has no other place to keep its state
    cv2.setNumThreads(1)
    _tracer = _Tracer(data, sources)


def _run_in_worker(chunk: pd.DataFrame) -> str:
    assert _tracer is not None
    return _tracer.trace(chunk)


def _work(data: DataSet, chunks: dict[Path, pd.DataFrame], jobs: int) -> Iterable[tuple[Path, str]]:
    # Yields the csv of each chunk as it is done.
    if not chunks:
        return
    sources = _read_sources(data, jobs)
    if jobs == 1:
        tracer = _Tracer(data, sources)
        for path, chunk in chunks.items():
            with one_thread():
                table = tracer.trace(chunk)
            yield path, table
        return
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_worker, (data, sources))
    try:
        waiting: dict[Future, Path] = {pool.submit(_run_in_worker, chunk): path for path, chunk in chunks.items()}
        for future in as_completed(waiting):
            yield waiting[future], future.result()
    finally:
        pool.shutdown(cancel_futures=True)
