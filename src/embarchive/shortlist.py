"""The places of least Hamming number, over rows that come in chunks: what may go on to exact
distances.

A running list a question, and one pass over the rows for all of them. Rows may come in any order
and a place in several chunks: a place counts by its best row, so that what has been dropped once
cannot come back but by a better row. Ties are broken by place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive import bitcount

Bits = NDArray[np.uint8]
Chunk = tuple[Bits, NDArray[np.int64]]
Combine = Callable[[list[Any], list[Any]], Any]
# Fewer bytes than these, rows times codes, are not worth a second thread.
_WORK = 16 << 20


@dataclass(frozen=True)
class Votes:
    """What a question asks of rows: codes uint8 (p, W) to be near to and (n, W) to be far from,
    and how their Hamming numbers, one integer array a code, become one number a row; None: the
    number of a single code as it is. own: places (int64) that are no candidates."""

    near: Bits
    far: Bits
    combine: Combine | None
    own: NDArray[np.int64]

    def of(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.int32]:
        """The number of each row int32 (n,) from Hamming numbers (p + n, rows)."""
        wide = numbers.astype(np.int32)
        p = len(self.near)
        found = self.combine(list(wide[:p]), list(wide[p:])) if self.combine else wide[0]
        return cast("NDArray[np.int32]", found)


def least(
    chunks: Iterable[Chunk], asked: Sequence[Votes], count: int, per_place: int, threads: int = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Of each question the `count` places (`per_place=0`: rows) of least number, best first: their
    places int64 and numbers int32.

    chunks: bits uint8 (n, W) and places int64 (n,) of rows.
    """
    codes = np.concatenate([np.concatenate([one.near, one.far]) for one in asked])
    kept = [[_Kept(count, per_place) for _ in asked] for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for bits, places in chunks:
            many = threads if bits.size * len(codes) > _WORK else 1
            edges = np.linspace(0, len(bits), many + 1).astype(int).tolist()
            parts = [(bits[a:b], places[a:b]) for a, b in pairwise(edges)]
            list(pool.map(lambda own, part: _scan(part, codes, asked, own), kept, parts))
    found = []
    for own in zip(*kept, strict=True):
        for other in own[1:]:
            own[0].add(*other.best())
        found.append(own[0].best())
    return found


def _scan(chunk: Chunk, codes: Bits, asked: Sequence[Votes], kept: Sequence[_Kept]) -> None:
    """Adds the rows to the running lists, one a question."""
    bits, places = chunk
    ends = np.cumsum([len(one.near) + len(one.far) for one in asked]).tolist()
    spans = [slice(a, b) for a, b in zip([0, *ends], ends, strict=False)]
    for start, numbers in bitcount.blocks(bits, codes):
        # One look at the least number of each code passes by most questions of most blocks.
        lows = numbers.min(axis=1).tolist()
        for one, span, own in zip(asked, spans, kept, strict=True):
            if one.combine is None and lows[span.start] > own.limit:
                continue
            votes = one.of(numbers[span])
            index = np.flatnonzero(votes <= own.limit)
            there = places[start + index]
            if len(one.own):
                other = ~np.isin(there, one.own)
                index, there = index[other], there[other]
            own.add(there, votes[index])


class _Kept:
    """The best places (or rows) so far, and some more until they are worth sorting out."""

    def __init__(self, count: int, per_place: int) -> None:
        self.limit = np.iinfo(np.int32).max
        self._count, self._per_place = count, per_place
        self._places: list[NDArray[np.int64]] = []
        self._votes: list[NDArray[np.int32]] = []
        self._held = 0

    def add(self, places: NDArray[np.int64], votes: NDArray[np.int32]) -> None:
        """Rows with their numbers."""
        if len(votes):
            self._places.append(places)
            self._votes.append(votes)
            self._held += len(votes)
            if self._held > 4 * self._count:
                self.best()

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The best of what was added, best first; the rest is forgotten."""
        places = np.concatenate([np.zeros(0, np.int64), *self._places])
        votes = np.concatenate([np.zeros(0, np.int32), *self._votes])
        if not self._per_place and len(votes) > self._count:
            some = votes <= np.partition(votes, self._count - 1)[self._count - 1]
            places, votes = places[some], votes[some]
        order = np.lexsort((places, votes))
        if self._per_place:
            _, first = np.unique(places[order], return_index=True)
            order = order[np.sort(first)]
        order = order[: self._count]
        self._places, self._votes, self._held = [places[order]], [votes[order]], len(order)
        if len(order) == self._count:
            self.limit = int(votes[order[-1]])
        return places[order], votes[order]
