"""Which of many pictures may show the same thing, by a vote of like features, and groups of one source among them.

The features are sorted into cells around centres (an inverted file), and looked for within their own cell alone: what
is seen twice lands in one cell often enough, as each picture has 150 of them. On 1,310 TRAIN images this finds as many
pictures of the same photo as OpenCV's FLANN, in a sixth of its time, and takes as long as faiss.

Pictures are then joined by the maps between them (`features.find_link`), so that no weak map alone joins two groups.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.cluster.hierarchy import DisjointSet

from wbc_lib import paths
from wbc_lib.data.images import MapTasks, OnProgress
from wbc_lib.provenance.features import CLEAR_INLIERS, Features, Link, compare_by_root, find_best_link

#: Neighbours of a feature that vote; numbers that stand for a descriptor (86 % of its variance); features in a cell.
_NEIGHBOURS, _DIMENSIONS, _CELL = 6, 32, 1000
_SAMPLE, _ROUNDS = 64, 4
#: Pictures whose candidates are ranked, and whose features are put into cells, at once; features whose distances to all
#: centres are in memory at once.
_BATCH, _CHUNK, _AT_ONCE = 2048, 256, 2048

#: Least mean log-odds of pairs at random for two groups to be one source. Two photos of one field of view have means up
#: to -1.0 on TRAIN, copies of one photo from 1.9. What is left in groups of up to `_SMALL` members needs less.
_JOIN, _JOIN_SMALL, _SMALL, _PAIRS = 0.3, -2.0, 2, 12
#: Where there are fewer pairs than this, as of the copies of a source that has five, all are looked at, and need this.
_FEW, _JOIN_FEW = 8, -3.0
#: Candidates whose mean log-odds leave no doubt, and how many there must be of them.
_SURE, _SURE_PAIRS = 2.5, 4
#: What a pair without a map counts, and the most that one can count.
_NO_LINK, _CLIP = -4.0, 6.0

_Floats = NDArray[np.float32]
#: Descriptors; their mean and axes; centres of cells.
_Locating = tuple[NDArray[np.uint8], _Floats, _Floats, _Floats]
#: Features that are looked for, features to look among, and the pictures that both are of: of those looked for, twice
#: the number, and one more if mirrored.
_Voting = tuple[_Floats, _Floats, NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class _Index:
    sides: list[_Floats]  # the features of all pictures, as they are and mirrored
    owners: NDArray[np.int32]  # the picture of each
    cells: list[list[NDArray[np.intp]]]  # of both sides: the features in each cell, ascending


def rank_candidates(
    pictures: Sequence[Features],
    n_best: int,
    map_tasks: MapTasks = map,
    on_progress: OnProgress | None = None,
    keep: Callable[[int], Path | None] = lambda _: None,
) -> NDArray[np.int32]:
    """For each picture, the pictures with most votes for showing the same.

    Twice the number of the other picture, and one more if this one shows it mirrored; most votes first, each other
    picture once; -1 where there are no more. Shape (pictures, `n_best`). `keep` says where a part of it, by its number,
    is kept for another time.
    """
    build_index = cache(partial(_build_index, pictures, map_tasks))  # only if a part is not kept, and once

    def rank(batch: range) -> dict[str, NDArray]:
        return {"best": _rank(build_index(), batch, n_best, map_tasks)}

    best = np.full((len(pictures), n_best), -1, np.int32)
    for start in range(0, len(pictures) if any(map(len, pictures)) else 0, _BATCH):
        batch = range(start, min(start + _BATCH, len(pictures)))
        best[batch.start : batch.stop] = paths.keep_arrays(keep(start), partial(rank, batch))["best"]
        if on_progress:
            on_progress(batch.stop, len(pictures))
    return best


def _rank(index: _Index, batch: range, n_best: int, map_tasks: MapTasks) -> NDArray[np.int32]:
    # Votes of the first picture of the batch as it is (row 0) and mirrored (row 1), of the second ...
    best = np.full((len(batch), n_best), -1, np.int32)
    found = list(map_tasks(_vote, _make_tasks(index, batch)))
    if not found:
        return best
    rows, columns, gains = (np.concatenate(part) for part in zip(*found, strict=True))
    shape = 2 * len(batch), int(index.owners[-1]) + 1
    votes = sparse.csr_matrix((gains, (rows - 2 * batch.start, columns)), shape)
    for i in range(len(batch)):
        start, middle, end = votes.indptr[2 * i : 2 * i + 3]
        coded = 2 * votes.indices[start:end] + (np.arange(start, end) >= middle)
        coded = coded[np.argsort(-votes.data[start:end], kind="stable")]
        _, first = np.unique(coded // 2, return_index=True)
        ranked = coded[np.sort(first)][:n_best]
        best[i, : len(ranked)] = ranked
    return best


def _make_tasks(index: _Index, batch: range) -> Iterator[_Voting]:
    first, last = np.searchsorted(index.owners, [batch.start, batch.stop])
    for side, cells in enumerate(index.cells):
        for there, mine in zip(index.cells[0], cells, strict=True):
            asking = mine[slice(*np.searchsorted(mine, [first, last]))]
            if len(asking) and len(there) > 1:
                owners = 2 * index.owners[asking] + side
                yield index.sides[side][asking], index.sides[0][there], owners, index.owners[there]


def _vote(task: _Voting) -> tuple[NDArray, NDArray, NDArray]:
    # Each neighbour's picture gets the distance by which it is nearer than the last; a picture is voted for once.
    asking, there, rows, owners = task
    n = min(_NEIGHBOURS + 1, len(there))
    distances, nearest = cv2.batchDistance(asking, there, cv2.CV_32F, normType=cv2.NORM_L2SQR, K=n)
    gains, voted = distances[:, -1:] - distances[:, :-1], owners[nearest[:, :-1]]
    for j in range(1, n - 1):
        gains[(voted[:, :j] == voted[:, j : j + 1]).any(axis=1), j] = 0
    gains[voted == rows[:, None] // 2] = 0
    counts = gains > 0
    return np.broadcast_to(rows[:, None], voted.shape)[counts], voted[counts], gains[counts]


def _build_index(pictures: Sequence[Features], map_tasks: MapTasks) -> _Index:
    rng = np.random.default_rng(0)
    owners = np.repeat(np.arange(len(pictures), dtype=np.int32), [len(p) for p in pictures])
    mean, axes = _principal_axes(pictures, rng)
    centres = _find_centres(pictures, mean, axes, max(1, len(owners) // _CELL), rng)
    parts = (np.concatenate([p.descriptors for p in pictures[i : i + _CHUNK]]) for i in range(0, len(pictures), _CHUNK))
    located = map_tasks(_locate, ((part, mean, axes, centres) for part in parts))
    plain, mirrored, *cells = (np.concatenate(part) for part in zip(*located, strict=True))
    return _Index([plain, mirrored], owners, [_sort_into(c, len(centres)) for c in cells])


def _locate(task: _Locating) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    descriptors, mean, axes, centres = task
    plain, mirrored = (_project(descriptors, mean, axes, mirrored=side) for side in (False, True))
    return plain, mirrored, _assign(plain, centres), _assign(mirrored, centres)


def _project(descriptors: NDArray[np.uint8], mean: _Floats, axes: _Floats, *, mirrored: bool = False) -> _Floats:
    return np.asarray((compare_by_root(descriptors, mirrored=mirrored) - mean) @ axes, np.float32)


def _principal_axes(pictures: Sequence[Features], rng: np.random.Generator) -> tuple[_Floats, _Floats]:
    chosen = rng.permutation(len(pictures))[:400]
    roots = np.concatenate([compare_by_root(pictures[i].descriptors) for i in chosen])
    mean = roots.mean(axis=0)
    _, axes = np.linalg.eigh((roots - mean).T @ (roots - mean))
    return mean, np.ascontiguousarray(axes[:, ::-1][:, :_DIMENSIONS], np.float32)


def _find_centres(
    pictures: Sequence[Features], mean: _Floats, axes: _Floats, n: int, rng: np.random.Generator
) -> _Floats:
    # Lloyd's k-means on a sample; scikit-learn's takes minutes for thousands of centres.
    share = min(1.0, _SAMPLE * n / sum(map(len, pictures)))
    chosen = (p.descriptors[rng.random(len(p)) < share] for p in pictures)
    sample = _project(np.concatenate(list(chosen)), mean, axes)
    centres = sample[rng.permutation(len(sample))[:n]].copy()
    for _ in range(_ROUNDS if n > 1 else 0):
        cells = _assign(sample, centres)
        counts = np.bincount(cells, minlength=len(centres))
        sums = np.stack([np.bincount(cells, sample[:, d], len(centres)) for d in range(sample.shape[1])], axis=1)
        centres[counts > 0] = sums[counts > 0] / counts[counts > 0, None]
    return centres


def _sort_into(cells: NDArray[np.int32], n: int) -> list[NDArray[np.intp]]:
    # The features of each cell.
    order = np.argsort(cells, kind="stable")
    return np.split(order, np.searchsorted(cells[order], np.arange(1, n)))


def _assign(points: _Floats, centres: _Floats) -> NDArray[np.int32]:
    offsets = (centres**2).sum(axis=1) / 2
    parts = (points[i : i + _AT_ONCE] @ centres.T - offsets for i in range(0, len(points), _AT_ONCE))
    return np.concatenate([part.argmax(axis=1).astype(np.int32) for part in parts])


class Clusters:
    """Groups of pictures that grow by the maps between them."""

    def __init__(self, features: Sequence[Features]):
        self.features = features
        self.links: dict[tuple[int, int], Link | None] = {}  # the smaller number first; None if no map was found
        self._parent = list(range(len(features)))
        self._members = {i: [i] for i in range(len(features))}
        self._between: dict[int, dict[int, list[float]]] = defaultdict(dict)  # log-odds of pairs, by both roots

    def root(self, i: int) -> int:
        """The number that stands for a picture's group."""
        while self._parent[i] != i:
            self._parent[i] = self._parent[self._parent[i]]
            i = self._parent[i]
        return i

    def add(self, i: int, j: int, link: Link | None) -> None:
        """Note what was found between two pictures."""
        self.links[min(i, j), max(i, j)] = link
        a, b = self.root(i), self.root(j)
        if a != b:
            self._odds(a, b).append(_clip(link))

    def join(self, *, small: bool = False) -> None:
        """Make one of groups that belong together, the surest maps first.

        With `small`, what is left in groups of one or two needs less to join another: it had its best chance before.
        """
        found = sorted(((link.log_odds, pair) for pair, link in self.links.items() if link), reverse=True)
        for _, (i, j) in found:
            a, b = self.root(i), self.root(j)
            if a == b or small and min(len(self._members[a]), len(self._members[b])) > _SMALL:
                continue
            if self._belong(a, b, small=small):
                self._merge(a, b)

    def fields(self) -> list[int]:
        """For each picture a number that is common to groups that a clear map or two maps join."""
        counts: dict[tuple[int, int], int] = defaultdict(int)
        for (i, j), link in self.links.items():
            if link:
                a, b = sorted((self.root(i), self.root(j)))
                counts[a, b] += _weigh(link)
        roots = [self.root(i) for i in range(len(self.features))]
        joined = DisjointSet(roots)
        for (a, b), n in counts.items():
            if n >= 2:
                joined.merge(a, b)
        return [joined[root] for root in roots]

    def _odds(self, a: int, b: int) -> list[float]:
        odds = self._between[a].setdefault(b, [])
        self._between[b][a] = odds
        return odds

    def _belong(self, a: int, b: int, *, small: bool) -> bool:
        odds = self._odds(a, b)
        first, second = self._members[a], self._members[b]
        if len(first) * len(second) < _FEW:
            links = [self._find(i, j) for i in first for j in second]
            if sum(_weigh(link) for link in links) < 2:
                return False
            return float(np.mean([_clip(link) for link in links])) > _JOIN_FEW
        # Candidates are the likest of all pairs: unless they leave no doubt, pairs at random are looked at.
        if len(odds) >= _SURE_PAIRS and np.mean(odds) > _SURE:
            return True
        return float(np.mean(self._sample(first, second))) > (_JOIN_SMALL if small else _JOIN)

    def _sample(self, first: list[int], second: list[int]) -> list[float]:
        rng = np.random.default_rng([len(first), len(second), first[0], second[0]])
        chosen = rng.permutation(len(first) * len(second))[:_PAIRS]
        links = [self._find(first[k // len(second)], second[k % len(second)]) for k in chosen]
        return [_clip(link) for link in links]

    def _find(self, i: int, j: int) -> Link | None:
        pair = min(i, j), max(i, j)
        if pair not in self.links:
            self.add(*pair, find_best_link(self.features[pair[0]], self.features[pair[1]]))
        return self.links[pair]

    def _merge(self, a: int, b: int) -> None:
        if len(self._between[a]) < len(self._between[b]):
            a, b = b, a
        self._parent[b] = a
        self._members[a] += self._members.pop(b)
        for other, odds in self._between.pop(b).items():
            self._between[other].pop(b)
            if other != a:
                self._odds(a, other).extend(odds)


def _weigh(link: Link | None) -> int:
    # Two are needed: a clear map is enough, of others there must be two.
    return 0 if link is None else 2 if link.inliers >= CLEAR_INLIERS else 1


def _clip(link: Link | None) -> float:
    return max(_NO_LINK, min(_CLIP, link.log_odds)) if link else _NO_LINK
