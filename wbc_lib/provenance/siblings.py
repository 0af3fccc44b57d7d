"""Which pictures were made from one source, found from the pictures alone.

Exact copies are told by their bytes. For the others, features vote for the pictures that may show the same
(`candidates`), and an affine map between the likeliest decides (`features`). Pictures joined by maps are made into
groups, the surest maps first; before two groups become one, several pairs between them are looked at, so that one map
by chance, or two photos of one field of view, do not join what is apart. Groups that maps join nevertheless overlap:
they share a field of view.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.images import OnProgress, one_thread
from wbc_lib.data.picture_files import PictureFile
from wbc_lib.data.pictures import decode_picture
from wbc_lib.errors import BadDataError, printable
from wbc_lib.provenance.candidates import rank_candidates
from wbc_lib.provenance.clusters import Clusters
from wbc_lib.provenance.features import (
    Features,
    Link,
    describe,
    find_best_link,
    find_links,
)

#: Raise it whenever the same picture may get other features than before, so that cached features are made anew.
METHOD = 1
#: Fewest features to say anything of a picture.
MIN_FEATURES = 20

#: Candidates of each picture that are ranked; of these so many are compared at once, and then so many of those that are
#: still in another group: a picture with dozens of siblings would else never be compared with one that overlaps.
_CANDIDATES, _FIRST, _THEN = 80, 6, 10
#: Pictures described, and pairs compared, in a piece of work.
_CHUNK, _FITS = 64, 256

#: Gives the outcome of a function for each task, in order: the built-in `map` does, and so does a cluster's.
MapTasks = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
Picture = PictureFile | Path | str | NDArray[np.uint8]
#: Called with what is being done, how much of it is done, and how much there is to do.
OnStage = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Siblings:
    """What was found out about pictures.

    Attributes
    ----------
    table : DataFrame
        A row per picture, in order: ``group`` (number of its source, from 0; pictures that nothing is known of are
        alone in theirs), ``field`` (number of the field of view: groups that overlap share it), ``features``,
        ``copy_of`` (row of the first picture with the same bytes; -1 if none) and ``problem`` (a sentence; "" if none).
    links : dict
        The maps found between two rows, the smaller one first.
    features : list of Features
    """

    table: pd.DataFrame
    links: dict[tuple[int, int], Link] = field(repr=False)
    features: list[Features] = field(repr=False)

    @property
    def cannot_tell(self) -> NDArray[np.bool_]:
        """Which pictures have too few features, or cannot be read, so that nothing is known of them."""
        return (self.table.features < MIN_FEATURES).to_numpy()

    def link(self, picture: int, other: int) -> Link | None:
        """The map from the other picture to this one; looked for if it was not needed before."""
        if self.table.copy_of[picture] == other or self.table.copy_of[other] == picture:
            return Link(np.eye(2, 3), len(self.features[picture]), float("inf"))
        return find_best_link(self.features[other], self.features[picture])


def map_in_threads(function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Do tasks on all cores; nearly all of the work is OpenCV's, which runs beside Python."""
    with one_thread(), ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        waiting = [pool.submit(function, task) for task in tasks]
        try:
            for i in range(len(waiting)):
                outcome, waiting[i] = waiting[i].result(), None  # type: ignore[call-overload]
                yield outcome
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def find_groups(pictures: Sequence[Picture], *, together: bool = False) -> NDArray[np.int64]:
    """Number the sources that pictures were made from: groups for scikit-learn's `StratifiedGroupKFold`.

    Parameters
    ----------
    pictures : sequence of path or ndarray of uint8
        Files, or arrays (height, width) or (height, width, RGB); sizes may differ.
    together : bool
        Give photos that overlap, so that they share a field of view, one number.

    Returns
    -------
    ndarray of int, shape (pictures,)
        A picture that nothing is known of has a number of its own.

    Raises
    ------
    BadDataError
        If a file cannot be read.
    """
    found = find_siblings(pictures)
    if (found.table.problem != "").any():
        raise BadDataError(found.table.problem[found.table.problem != ""].iloc[0])
    return found.table["field" if together else "group"].to_numpy()


def find_siblings(
    pictures: Sequence[Picture],
    *,
    map_tasks: MapTasks = map_in_threads,
    cache: Path | None = None,
    on_stage: OnStage | None = None,
) -> Siblings:
    """Find the groups of pictures that were made from one source.

    Parameters
    ----------
    pictures : sequence of PictureFile, path or ndarray of uint8
    map_tasks : callable
    cache : Path, optional
        Folder that keeps features, so that an interrupted search goes on where it stopped.
    on_stage : callable, optional
    """
    stage = on_stage or (lambda *_: None)
    features, hashes, problems = _describe_all(pictures, map_tasks, cache, partial(stage, "Reading"))
    first_of: dict[str, int] = {}
    copy_of = np.array([first_of.setdefault(h, i) if h else i for i, h in enumerate(hashes)], int)
    counts = np.array([len(f) for f in features], int)
    # Copies, and what nothing can be told of, are left out of the search.
    rows = np.flatnonzero((copy_of == np.arange(len(features))) & (counts >= MIN_FEATURES))
    searched = [features[i] for i in rows]
    candidates = rank_candidates(searched, _CANDIDATES, partial(stage, "Searching"))
    clusters = Clusters(searched)
    for n in (_FIRST, _THEN):
        chosen = _choose_pairs(candidates, clusters, n)
        _compare(searched, chosen, clusters, map_tasks, partial(stage, "Comparing"))
        clusters.join()
    clusters.join(small=True)
    group, fields = np.arange(len(features)), np.arange(len(features))
    group[rows] = rows[[clusters.root(i) for i in range(len(rows))]]
    fields[rows] = rows[clusters.fields()]
    table = pd.DataFrame(
        {
            "group": pd.factorize(group[copy_of])[0],
            "field": pd.factorize(fields[copy_of])[0],
            "features": counts,
            "copy_of": np.where(copy_of == np.arange(len(features)), -1, copy_of),
            "problem": problems,
        }
    )
    links = {(int(rows[i]), int(rows[j])): link for (i, j), link in clusters.links.items() if link}
    return Siblings(table, links, features)


def find_sources(
    pictures: Siblings, sources: Siblings, on_progress: OnProgress | None = None
) -> list[tuple[int, Link | None]]:
    """For each picture, which of the originals at hand it was made from (-1 if of none), and the map to it."""
    originals = sources.features
    both = [*originals, *pictures.features]
    ranked = rank_candidates(both, _CANDIDATES)
    outcomes: list[tuple[int, Link | None]] = []
    for i, features in enumerate(pictures.features):
        best: tuple[int, Link | None] = (-1, None)
        for j, mirrored in [c for c in ranked[len(originals) + i] if c[0] < len(originals)][:_FIRST]:
            (link,) = find_links(([originals[j], features], [(0, 1, mirrored)]))
            if link and (best[1] is None or link.log_odds > best[1].log_odds):
                best = (j, link)
        outcomes.append(best)
        if on_progress:
            on_progress(i + 1, len(pictures.features))
    return outcomes


def _describe_all(
    pictures: Sequence[Picture], map_tasks: MapTasks, cache: Path | None, on_progress: OnProgress
) -> tuple[list[Features], list[str], list[str]]:
    chunks = [list(pictures[i : i + _CHUNK]) for i in range(0, len(pictures), _CHUNK)]
    features: list[Features] = []
    hashes: list[str] = []
    problems: list[str] = []
    for part in map_tasks(partial(_describe_chunk, cache=cache), chunks):
        for of_picture, content_hash, problem in part:
            features.append(of_picture)
            hashes.append(content_hash)
            problems.append(problem)
        on_progress(len(features), len(pictures))
    return features, hashes, problems


def _describe_chunk(pictures: list[Picture], cache: Path | None) -> list[tuple[Features, str, str]]:
    # Features, hash of the content, and what is wrong, of each picture.
    contents = [_read(picture) for picture in pictures]
    hashes = [_hash(content) for content, _ in contents]
    joined = hashlib.sha256("".join(hashes).encode()).hexdigest()[:32]
    kept = cache / f"{joined}-method{METHOD}-opencv{cv2.__version__}.npz" if cache else None
    if kept and kept.exists() and (again := _load(kept, len(pictures))):
        found = again
    else:
        found = [_describe(content, name) for content, name in contents]
        if kept:
            _save(kept, found)
    return [
        (features, content_hash, problem or (str(content) if isinstance(content, BadDataError) else ""))
        for (features, problem), content_hash, (content, _) in zip(found, hashes, contents, strict=True)
    ]


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
    nothing = Features(np.empty((0, 2), np.float32), np.empty((0, 128), np.uint8), (0, 0), 1.0)
    if isinstance(content, BadDataError):
        return nothing, ""
    try:
        return describe(content if isinstance(content, np.ndarray) else decode_picture(content, name)), ""
    except BadDataError as error:
        return nothing, str(error)


def _save(target: Path, found: Sequence[tuple[Features, str]]) -> None:
    features = [f for f, _ in found]
    with paths.written_whole(target) as temporary, temporary.open("wb") as file:
        np.savez(
            file,
            counts=[len(f) for f in features],
            points=np.concatenate([f.points for f in features]),
            descriptors=np.concatenate([f.descriptors for f in features]),
            sizes=[f.size for f in features],
            scales=[f.scale for f in features],
            problems=[problem for _, problem in found],
        )


def _load(path: Path, n: int) -> list[tuple[Features, str]] | None:
    try:
        with np.load(path, allow_pickle=False) as kept:
            ends = np.cumsum(kept["counts"])[:-1]
            points, descriptors = np.split(kept["points"], ends), np.split(kept["descriptors"], ends)
            sizes, scales, problems = kept["sizes"], kept["scales"], kept["problems"]
    except (OSError, ValueError, KeyError, EOFError):
        return None  # damaged: made anew
    parts = zip(points, descriptors, sizes, scales, problems, strict=True)
    found = [(Features(p, d, (int(s[0]), int(s[1])), float(k)), str(problem)) for p, d, s, k, problem in parts]
    return found if len(found) == n else None


def _choose_pairs(
    candidates: list[list[tuple[int, bool]]], clusters: "Clusters", n: int
) -> dict[tuple[int, int], bool]:
    # The first candidates of each picture that are in another group; those compared before count, but not again.
    chosen: dict[tuple[int, int], bool] = {}
    for i, ranked in enumerate(candidates):
        others = [(j, mirrored) for j, mirrored in ranked if clusters.root(i) != clusters.root(j)]
        chosen |= {(min(i, j), max(i, j)): mirrored for j, mirrored in others[:n]}
    return {pair: mirrored for pair, mirrored in chosen.items() if pair not in clusters.links}


def _compare(
    features: Sequence[Features],
    pairs: dict[tuple[int, int], bool],
    clusters: "Clusters",
    map_tasks: MapTasks,
    on_progress: OnProgress,
) -> None:
    ordered = sorted(pairs)
    chunks = [ordered[i : i + _FITS] for i in range(0, len(ordered), _FITS)]
    done = 0
    for chunk, links in zip(chunks, map_tasks(find_links, (_task(features, c, pairs) for c in chunks)), strict=True):
        for (i, j), link in zip(chunk, links, strict=True):
            clusters.add(i, j, link)
        done += len(chunk)
        on_progress(done, len(ordered))


def _task(
    features: Sequence[Features], chunk: Sequence[tuple[int, int]], pairs: dict[tuple[int, int], bool]
) -> tuple[list[Features], list[tuple[int, int, bool]]]:
    # Only the pictures of these pairs, so that a task can be sent elsewhere.
    members = sorted({i for pair in chunk for i in pair})
    place = {picture: k for k, picture in enumerate(members)}
    return [features[i] for i in members], [(place[i], place[j], pairs[i, j]) for i, j in chunk]
