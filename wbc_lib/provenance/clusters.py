"""Joining pictures by the maps between them into groups of one source, so that no weak map alone joins two groups."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from wbc_lib.provenance.features import CLEAR_INLIERS, Features, Link, find_best_link

#: Least mean log-odds of pairs at random for two groups to be one source. Two photos of one field of view have means up
#: to -1.0 on TRAIN, copies of one photo from 1.9. What is left in groups of up to `_SMALL` members needs less.
_JOIN, _JOIN_SMALL, _SMALL, _PAIRS = 0.3, -2.0, 2, 12
#: Where there are fewer pairs than this, as of the copies of a source that has five, all are looked at, and need this.
_FEW, _JOIN_FEW = 8, -3.0
#: Candidates whose mean log-odds leave no doubt, and how many there must be of them.
_SURE, _SURE_PAIRS = 2.5, 4
#: What a pair without a map counts, and the most that one can count.
_NO_LINK, _CLIP = -4.0, 6.0


def _weigh(link: Link | None) -> int:
    # Two are needed: a clear map is enough, of others there must be two.
    return 0 if link is None else 2 if link.inliers >= CLEAR_INLIERS else 1


def _clip(link: Link | None) -> float:
    return max(_NO_LINK, min(_CLIP, link.log_odds)) if link else _NO_LINK


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
        joined = Clusters(self.features)
        joined._parent = list(self._parent)
        for (a, b), n in counts.items():
            if n >= 2 and (first := joined.root(a)) != (second := joined.root(b)):
                joined._parent[second] = first
        return [joined.root(i) for i in range(len(self.features))]

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
