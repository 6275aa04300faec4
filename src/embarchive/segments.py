"""Rows of shards as segments of an overview's lists, written as files of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import digests, geohash, inverted
from embarchive.coarse import Coarse
from embarchive.filters import Filter
from embarchive.inverted import Cells, Codes, Segment
from embarchive.manifest import Generation, ShardRow, TableRef, object_path
from embarchive.overview import Lists, Overview
from embarchive.reader import Reader, in_threads
from embarchive.reads import ReadPlan, ShardRead
from embarchive.rows import cell_names, embeddings
from embarchive.storage import Store

FILE_BYTES = 48 << 20
# Shards that are coded at a time.
_AHEAD = 4


@dataclass(frozen=True)
class Coded:
    """Rows of a shard: list int32, cell uint64 of 5 bits a letter, code int8 (n, D)."""

    lists: NDArray[np.int32]
    cells: Cells
    codes: Codes


class Writer:
    """Writes segments of the lists of a space, in the order in which they come, as files of some
    48 MB; `rows` are those of the index."""

    def __init__(self, store: Store, space_id: str, coarse: tuple[str, int]) -> None:
        self.rows: list[dict[str, Any]] = []
        self._store, self._held, self._bytes = store, list[Segment](), 0
        self._about = {"space_id": space_id, "coarse": coarse[0], "coarse_length": coarse[1]}

    def add(self, segment: Segment) -> None:
        """One more segment; a full file is written."""
        self._held.append(segment)
        self._bytes += len(segment.data)
        if self._bytes >= FILE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what is not yet written."""
        if not self._held:
            return
        data, offsets = inverted.lists_file(self._held)
        sha256 = digests.sha256(data)
        self._store.put_new(object_path("overview", sha256), data)
        for one, offset in zip(self._held, offsets, strict=True):
            self.rows.append({
                **self._about, "list": one.number, "file": sha256, "file_length": len(data),
                "offset": offset, "length": len(one.data), "rows": one.rows,
                "digest": digests.short(one.data),
            })  # fmt: skip
        self._held, self._bytes = [], 0


def coded(reader: Reader, coarse: Coarse, shards: Sequence[ShardRow]) -> Iterator[Coded]:
    """The rows of shards as the lists have them, a shard at a time. Raises Damaged."""
    precision = reader.settings.precision

    def code(shard: ShardRow) -> Coded:
        plan = ReadPlan((ShardRead(shard, whole=False),))
        table = reader.rows(plan, Filter(), ("geohash", "embedding"))
        q = embeddings(table)
        lists = coarse.assign(q)
        column, row, _ = geohash.to_indices(cell_names(table["geohash"]))
        cells = geohash.interleave(column, row, precision)
        return Coded(lists, cells, coarse.encode(q, lists))

    for start in range(0, len(shards), _AHEAD):
        yield from in_threads(code, shards[start : start + _AHEAD])


def grouped(lists: NDArray[np.int32], cells: Cells, codes: Codes) -> Iterator[Segment]:
    """Rows as one segment a list, by number, or as several where equal rows make it too long."""
    order = np.argsort(lists, kind="stable")
    numbers, starts = np.unique(lists[order], return_index=True)
    ends = [*starts[1:].tolist(), len(order)]
    for number, start, end in zip(numbers.tolist(), starts.tolist(), ends, strict=True):
        for first in range(start, end, longest(codes.shape[1])):
            some = order[first : min(end, first + longest(codes.shape[1]))]
            yield inverted.pack_segment(number, codes[some], cells[some])


def longest(dim: int) -> int:
    """Rows of `dim` numbers that a segment holds at most."""
    return max(1, inverted.MAX_CODES // dim)


def extended(store: Store, base: Generation, fresh: Iterable[ShardRow]) -> TableRef | None:
    """The overview of a generation with the rows of further shards as segments of their own, its
    index stored; spaces that it does not cover are left out. Raises Damaged."""
    reader = Reader(store, base.settings, spaces=base.spaces)
    overview = Overview(reader, base.overview)
    rows: list[dict[str, Any]] = []
    new = sorted(fresh, key=lambda shard: (shard.geohash_min, shard.sha256))
    for space in base.spaces if new else ():
        lists = overview.lists(space)
        own = [shard for shard in new if shard.space_id == space.space_id]
        if lists is not None and own:
            rows += _segments(store, reader, lists, own)
    if not rows or overview.index is None:
        return base.overview
    held = [*overview.index.to_pylist(), *rows]
    data = inverted.dump_index(inverted.index_table(held))
    ref = TableRef(digests.sha256(data), len(data), len(held))
    store.put_new(object_path("overview", ref.sha256), data)
    return ref


def _segments(
    store: Store, reader: Reader, lists: Lists, shards: Sequence[ShardRow]
) -> list[dict[str, Any]]:
    found = list(coded(reader, lists.coarse, shards))
    writer = Writer(store, shards[0].space_id, lists.named)
    columns = ([getattr(one, name) for one in found] for name in ("lists", "cells", "codes"))
    for segment in grouped(*map(np.concatenate, columns)):
        writer.add(segment)
    writer.flush()
    return writer.rows
