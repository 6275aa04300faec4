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

    def of(self, numbers: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
        """The number of each row (n,) from Hamming numbers (p + n, rows)."""
        if self.combine is None:
            return cast("NDArray[np.integer[Any]]", numbers[0])
        wide, p = numbers.astype(np.int32), len(self.near)
        return cast("NDArray[np.int32]", self.combine(list(wide[:p]), list(wide[p:])))


def least(
    chunks: Iterable[Chunk], asked: Sequence[Votes], count: int, per_place: int, threads: int = 1
) -> list[tuple[NDArray[np.int64], NDArray[np.int32]]]:
    """Of each question the `count` places (`per_place=0`: rows) of least number, best first: their
    places int64 and numbers int32.

    chunks: bits uint8 (n, W) and places int64 (n,) of rows.
    """
    codes = np.concatenate([np.concatenate([one.near, one.far]) for one in asked])
    kept = [_Kept(asked, count, per_place) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        for bits, places in chunks:
            many = threads if bits.size * len(codes) > _WORK else 1
            if many == 1:
                _scan((bits, places), codes, asked, kept[0])
                continue
            edges = np.linspace(0, len(bits), many + 1).astype(int).tolist()
            parts = [(bits[a:b], places[a:b]) for a, b in pairwise(edges)]
            list(pool.map(lambda own, part: _scan(part, codes, asked, own), kept, parts))
    for other in kept[1:]:
        kept[0].add(*other.best())
    owner, places, votes = kept[0].best()
    edges = np.searchsorted(owner, np.arange(len(asked) + 1)).tolist()
    return [(places[a:b], votes[a:b]) for a, b in pairwise(edges)]


def _scan(chunk: Chunk, codes: Bits, asked: Sequence[Votes], kept: _Kept) -> None:
    """Adds the rows that may be among the best."""
    bits, places = chunk
    ends = np.cumsum([len(one.near) + len(one.far) for one in asked]).tolist()
    spans = [slice(a, b) for a, b in pairwise([0, *ends])]
    mixed = [i for i, one in enumerate(asked) if one.combine is not None]
    # Whose each code is, and which are but a part of a question.
    whose = np.repeat(np.arange(len(asked)), np.diff([0, *ends]))
    part = np.isin(whose, mixed)
    for start, numbers in bitcount.blocks(bits, codes):
        if len(mixed) < len(asked):
            code, row = _at_most(numbers, np.where(part, 0, kept.limits[whose]))
            code, row = code[~part[code]], row[~part[code]]
            kept.add(whose[code], places[start + row], numbers[code, row])
        for i in mixed:
            votes = asked[i].of(numbers[spans[i]])
            row = np.flatnonzero(votes <= kept.limits[i])
            kept.add(np.full(len(row), i), places[start + row], votes[row])


def _at_most(
    numbers: NDArray[np.integer[Any]], limits: NDArray[np.int64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where numbers (c, rows) are at most the limits (c,), looked through as they lie in memory."""
    most = np.minimum(limits, np.iinfo(numbers.dtype).max).astype(numbers.dtype)
    if numbers.flags.c_contiguous:
        code, row = np.divmod(np.flatnonzero(numbers <= most[:, None]), numbers.shape[1])
    else:
        rows = numbers.T
        row, code = np.divmod(np.flatnonzero(rows <= most), len(numbers))
    return code, row


class _Kept:
    """The best places (or rows) of each question so far, and some more until it is worth sorting
    them out. limits int64 (questions,): worse numbers cannot be among the best."""

    def __init__(self, asked: Sequence[Votes], count: int, per_place: int) -> None:
        self.limits = np.full(len(asked), np.iinfo(np.int32).max, dtype=np.int64)
        self._count, self._per_place = count, per_place
        self._own = {(i, p) for i, one in enumerate(asked) for p in one.own.tolist()}
        self._cells = np.array(sorted({place for _, place in self._own}), dtype=np.int64)
        self._room = max(4 * count * len(asked), 1024)
        self._parts: list[list[NDArray[Any]]] = []
        self._held = 0

    def add(
        self, owner: NDArray[np.int64], places: NDArray[np.int64], votes: NDArray[np.integer[Any]]
    ) -> None:
        """Rows (n,): whose question they are for, their places, their numbers."""
        if len(self._cells):
            keep = ~np.isin(places, self._cells)
            for i in np.flatnonzero(~keep).tolist():
                keep[i] = (int(owner[i]), int(places[i])) not in self._own
            owner, places, votes = owner[keep], places[keep], votes[keep]
        if len(votes):
            self._parts.append([owner, places, votes.astype(np.int32)])
            self._held += len(votes)
            if self._held > self._room:
                self.best()

    def best(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int32]]:
        """The best of what was added, by question and then best first: question, place, number;
        the rest is forgotten."""
        empty = [np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.int32)]
        owner, places, votes = map(np.concatenate, zip(empty, *self._parts, strict=True))
        if self._per_place:
            order = np.lexsort((votes, places, owner))
            again = (np.diff(places[order]) == 0) & (np.diff(owner[order]) == 0)
            some = order[np.r_[True, ~again][: len(order)]]
        else:
            some = np.flatnonzero(votes <= self._cut(owner, votes)[owner])
        owner, places, votes = owner[some], places[some], votes[some]
        order = np.lexsort((places, votes, owner))
        starts = np.searchsorted(owner[order], np.arange(len(self.limits)))
        rank = np.arange(len(order)) - starts[owner[order]]
        last = order[rank == self._count - 1]
        self.limits[owner[last]] = votes[last]
        order = order[rank < self._count]
        self._parts, self._held = [[owner[order], places[order], votes[order]]], len(order)
        return owner[order], places[order], votes[order]

    def _cut(self, owner: NDArray[np.int64], votes: NDArray[np.int32]) -> NDArray[np.int64]:
        """The `count`-th number of each question's rows, by a sort of plain integers."""
        both = np.sort((owner << 32) + votes + (1 << 31))
        starts = np.searchsorted(both >> 32, np.arange(len(self.limits) + 1))
        last = starts[:-1] + self._count - 1
        found = self.limits.copy()
        enough = last < starts[1:]
        found[enough] = (both[last[enough]] & 0xFFFFFFFF) - (1 << 31)
        return found
