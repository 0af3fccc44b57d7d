"""Which pictures were made from one source, found from the pictures alone, and which of them lie in another part.

Exact copies are told by their bytes. For the others, features vote for the pictures that may show the same, and an
affine map between the likeliest decides (`features`). Pictures joined by maps are made into groups, the surest maps
first; before two groups become one, several pairs between them are looked at, so that one map by chance, or two photos
of one field of view, do not join what is apart. Groups that maps join nevertheless overlap: they share a field of view
(`candidates`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from wbc_lib import paths
from wbc_lib.data.images import MapTasks, OnProgress, map_in_threads
from wbc_lib.data.picture_sets import PictureFile
from wbc_lib.errors import BadDataError
from wbc_lib.provenance.candidates import Clusters, rank_candidates
from wbc_lib.provenance.features import (
    Described,
    Link,
    Picture,
    describe_all,
    find_best_link,
    find_link,
    name_kept,
)

#: Fewest features to say anything of a picture.
MIN_FEATURES = 20

#: Candidates of each picture that are ranked; of these so many are compared at once, and then so many of those that are
#: still in another group: a picture with dozens of siblings would else never be compared with one that overlaps.
_CANDIDATES, _FIRST, _THEN = 80, 6, 10
#: Pairs compared in a piece of work.
_FITS = 256

#: Called with what is being done, how much of it is done, and how much there is to do.
OnStage = Callable[[str, int, int], None]
#: Two pictures to compare: the first's number, whether it is mirrored, the second's number.
_Pair = tuple[int, bool, int]
#: Pictures, and which of them to compare.
_Task = tuple[list[Described], list[_Pair]]


@dataclass(frozen=True)
class Siblings:
    """What was found out about pictures.

    The table has a row per picture, in order: ``group`` (number of its source, from 0; pictures that nothing is known
    of are alone in theirs), ``field`` (number of the field of view: groups that overlap share it), ``features``,
    ``copy_of`` (row of the first picture with the same bytes; -1 if none) and ``problem`` (a sentence; "" if none).
    """

    table: pd.DataFrame
    links: dict[tuple[int, int], Link] = field(repr=False)  # the maps found between two rows, the smaller one first
    described: list[Described] = field(repr=False)

    @property
    def cannot_tell(self) -> NDArray[np.bool_]:
        """Which pictures have too few features, or cannot be read, so that nothing is known of them."""
        return (self.table.features < MIN_FEATURES).to_numpy()

    def count_inliers(self, picture: int, other: int) -> float:
        """Features that agree, as far as the two were compared; infinite for copies, bit for bit."""
        first, second = sorted((self._first[picture], self._first[other]))
        if first == second:
            return float("inf")
        link = self.links.get((first, second))
        return link.inliers if link else 0

    def link(self, picture: int, other: int) -> Link | None:
        """The map from the other picture to this one; looked for if it was not needed before."""
        end, start = self._first[picture], self._first[other]
        if start == end:
            return Link(np.eye(2, 3), self.table.features[picture], float("inf"))
        if known := self.links.get((min(start, end), max(start, end))):
            return known if start < end else known.inverted()
        return find_best_link(self.described[other].features, self.described[picture].features)

    @cached_property
    def _first(self) -> list[int]:
        # Of pictures with the same bytes the first, which was compared for all.
        return [i if first < 0 else first for i, first in enumerate(self.table.copy_of.tolist())]


def find_groups(pictures: Sequence[Picture]) -> NDArray[np.int64]:
    """Number the sources that pictures were made from: groups for scikit-learn's `StratifiedGroupKFold`.

    Pictures are files, or arrays (height, width) or (height, width, RGB) of any sizes; one that nothing is known of has
    a number of its own. Raises `BadDataError` if a file cannot be read.
    """
    table = find_siblings(pictures).table
    if problem := next(filter(None, table.problem), ""):
        raise BadDataError(problem)
    return table.group.to_numpy()


def find_siblings(
    pictures: Sequence[Picture],
    *,
    map_tasks: MapTasks = map_in_threads,
    cache: Path | None = None,
    on_stage: OnStage | None = None,
) -> Siblings:
    """Find the groups of pictures that were made from one source.

    `map_tasks` does the work: in threads, or on a cluster. The folder `cache` keeps what was done, so that an
    interrupted search goes on where it stopped.
    """
    stage = on_stage or (lambda *_: None)
    described = describe_all(pictures, map_tasks, cache, partial(stage, "Reading"))
    first_of: dict[str, int] = {}
    copy_of = np.array([first_of.setdefault(d.content, i) if d.content else i for i, d in enumerate(described)], int)
    counts = np.array([len(d.features) for d in described], int)
    # Copies, and what nothing can be told of, are left out of the search.
    is_first = copy_of == np.arange(len(described))
    rows = np.flatnonzero(is_first & (counts >= MIN_FEATURES))
    searched = [described[i] for i in rows]
    features, contents = [d.features for d in searched], [d.content for d in searched]
    ranked = rank_candidates(
        features,
        _CANDIDATES,
        map_tasks,
        partial(stage, "Searching"),
        lambda part: name_kept(cache, "candidates", [part, *contents]),
    )
    clusters = Clusters(features)
    for n in (_FIRST, _THEN):
        pairs = _choose_pairs(ranked, clusters, n)
        for done, (pair, link) in enumerate(_compare(searched, pairs, map_tasks, cache), start=1):
            clusters.add(*pair, link)
            stage("Comparing", done, len(pairs))
        clusters.join()
    clusters.join(small=True)
    group, fields = np.arange(len(described)), np.arange(len(described))
    group[rows] = rows[[clusters.root(i) for i in range(len(rows))]]
    fields[rows] = rows[clusters.fields()]
    table = pd.DataFrame(
        {
            "group": pd.factorize(group[copy_of])[0],
            "field": pd.factorize(fields[copy_of])[0],
            "features": counts,
            "copy_of": np.where(is_first, -1, copy_of),
            "problem": [d.problem for d in described],
        }
    )
    links = {(int(rows[i]), int(rows[j])): link for (i, j), link in clusters.links.items() if link}
    return Siblings(table, links, described)


def find_sources(
    pictures: Siblings, sources: Siblings, on_progress: OnProgress | None = None
) -> list[tuple[int, Link | None]]:
    """For each picture, which of the originals at hand it was made from (-1 if of none), and the map to it."""
    originals = [d.features for d in sources.described]
    ranked = rank_candidates([*originals, *(d.features for d in pictures.described)], _CANDIDATES, map_in_threads)
    outcomes: list[tuple[int, Link | None]] = []
    for i, described in enumerate(pictures.described):
        best: tuple[int, Link | None] = (-1, None)
        codes = ranked[len(originals) + i]
        for code in codes[(codes >= 0) & (codes < 2 * len(originals))][:_FIRST].tolist():
            link = find_link(originals[code // 2], described.features, mirrored=bool(code % 2))
            if link and (best[1] is None or link.log_odds > best[1].log_odds):
                best = (code // 2, link)
        outcomes.append(best)
        if on_progress:
            on_progress(i + 1, len(pictures.described))
    return outcomes


def list_leaks(files: Sequence[PictureFile], found: Siblings) -> pd.DataFrame:
    """Look at each picture for one in another part that was made from the same source, or else overlaps.

    A row per picture: ``picture``, ``split``, ``class``, ``group``, ``field`` (see `Siblings`), ``verdict`` ("sibling",
    "overlap", "clean", or "cannot tell"), ``sibling`` (the other picture), ``inliers`` and ``transform`` (a11 a12 a13
    a21 a22 a23, from pixels of the other picture to this one's; both empty if the two are joined by others only), and
    ``row_of_sibling`` (-1 if none).
    """
    table = pd.DataFrame(
        {
            "picture": [file.name for file in files],
            "split": [file.part for file in files],
            "class": [file.cell for file in files],
            "group": found.table.group.to_numpy(),
            "field": found.table.field.to_numpy(),
        }
    )
    by_group, by_field = (table.groupby(column).indices for column in ("group", "field"))
    parts, rows = table.split.to_numpy(), []
    for i, is_unknown in enumerate(found.cannot_tell):
        others = [int(j) for j in by_group[table.group[i]] if parts[j] != parts[i]]
        verdict = "sibling" if others else "overlap"
        others = others or [int(j) for j in by_field[table.field[i]] if parts[j] != parts[i]]
        if not others:
            rows.append(("cannot tell" if is_unknown else "clean", "", pd.NA, "", -1))
            continue
        other = max(others, key=lambda j: found.count_inliers(i, j))
        link = found.link(i, other)
        rows.append((verdict, table.picture[other], link.inliers if link else pd.NA, write_transform(link), other))
    columns = ["verdict", "sibling", "inliers", "transform", "row_of_sibling"]
    return table.join(pd.DataFrame(rows, columns=columns).astype({"inliers": "Int64"}))


def write_transform(link: Link | None) -> str:
    """The six numbers of a map, with spaces between; "" if there is none."""
    return " ".join(f"{value:.5g}" for value in link.affine.ravel()) if link else ""


def lay_over(first: NDArray[np.uint8], second: NDArray[np.uint8], transform: str) -> NDArray[np.uint8]:
    """Mix a picture with another, moved by a map as `write_transform` writes it, where that reaches."""
    affine = np.array(transform.split(), float).reshape(2, 3)
    size = first.shape[1::-1]
    moved = cv2.warpAffine(second, affine, size)
    reaches = cv2.warpAffine(np.full(second.shape[:2], 255, np.uint8), affine, size) == 255
    mixed = first // 3
    mixed[reaches] = (first[reaches].astype(np.uint16) + moved[reaches]) // 2
    return mixed


def count_leaks(table: pd.DataFrame) -> pd.DataFrame:
    """Count pictures by verdict: a row per part and class, and one for all classes of a part if there are several."""
    rows = []
    for part, of_part in table.groupby("split", sort=False):
        classes = list(of_part.groupby("class"))
        if len(classes) == 1:
            rows.append(_count(part, classes[0][0] or "all", of_part))
        else:
            rows += [_count(part, cell or "(none)", of_class) for cell, of_class in (*classes, ("all", of_part))]
    return pd.DataFrame(rows)


def _count(part: str, cell: str, table: pd.DataFrame) -> dict[str, object]:
    counts = {verdict: int((table.verdict == verdict).sum()) for verdict in ("sibling", "overlap", "cannot tell")}
    return {"split": part, "class": cell, "pictures": len(table), **counts}


def _choose_pairs(ranked: NDArray[np.int32], clusters: Clusters, n: int) -> list[_Pair]:
    # The first candidates of each picture that are in another group; those compared before count, but not again.
    roots = np.array([clusters.root(i) for i in range(len(ranked))], int)
    chosen: dict[tuple[int, int], bool] = {}
    for i, codes in enumerate(ranked):
        known = codes[codes >= 0]
        for code in known[roots[known // 2] != roots[i]][:n].tolist():
            chosen[min(i, code // 2), max(i, code // 2)] = bool(code % 2)
    return [(i, mirrored, j) for (i, j), mirrored in sorted(chosen.items()) if (i, j) not in clusters.links]


def _compare(
    searched: Sequence[Described], pairs: Sequence[_Pair], map_tasks: MapTasks, cache: Path | None
) -> Iterator[tuple[tuple[int, int], Link | None]]:
    tasks = (_make_task(searched, pairs[i : i + _FITS]) for i in range(0, len(pairs), _FITS))
    found = chain.from_iterable(map_tasks(partial(_find_links, cache=cache), tasks))
    for (i, _, j), link in zip(pairs, found, strict=True):
        yield (i, j), link


def _make_task(searched: Sequence[Described], pairs: Sequence[_Pair]) -> _Task:
    # Only the pictures of these pairs, so that a task can be sent elsewhere.
    members = sorted({k for i, _, j in pairs for k in (i, j)})
    place = {picture: k for k, picture in enumerate(members)}
    return [searched[k] for k in members], [(place[i], mirrored, place[j]) for i, mirrored, j in pairs]


def _find_links(task: _Task, cache: Path | None) -> list[Link | None]:
    pictures, pairs = task

    def make() -> dict[str, NDArray]:
        links = [find_link(pictures[i].features, pictures[j].features, mirrored=m) for i, m, j in pairs]
        rows = [[*link.affine.ravel(), link.inliers, link.log_odds] if link else [0.0] * 8 for link in links]
        return {"links": np.array(rows, float)}

    contents = [(pictures[i].content, mirrored, pictures[j].content) for i, mirrored, j in pairs]
    kept = paths.keep_arrays(name_kept(cache, "links", contents), make)["links"]
    return [Link(row[:6].reshape(2, 3), int(row[6]), float(row[7])) if row[6] else None for row in kept]
