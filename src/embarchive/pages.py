"""Single pages of a shard: a few rows out of a row group without the rest of it.

The footer's offset index says where the pages of a column lie and with which row each begins.
Arrow reads whole column chunks only, so the pages that are wanted are put into a small Parquet file
of that column, which Arrow then reads: no value is decoded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive.errors import Damaged
from embarchive.footers import column_places, footer_of, group_places
from embarchive.thrift import (
    BINARY,
    I32,
    I64,
    LIST,
    STRUCT,
    Struct,
    dump_struct,
    find_field,
    parse_list,
    parse_number,
    parse_struct,
)

MAGIC = b"PAR1"
# Fields of Parquet's structs, parquet.thrift of apache/parquet-format.
_SCHEMA, _ROWS, _GROUPS = 2, 3, 4
_COLUMNS, _GROUP_BYTES, _GROUP_ROWS = 1, 2, 3
_CHUNK_META, _INDEX_AT, _INDEX_LENGTH = 3, 4, 5
_PATH, _VALUES, _UNPACKED, _PACKED, _DATA_AT, _DICTIONARY_AT = 3, 5, 6, 7, 9, 11
_KEPT = (1, 2, 3, 4, _VALUES, _UNPACKED, _PACKED, _DATA_AT, _DICTIONARY_AT)

# What a struct without the fields that it should have comes to.
_ODD = (KeyError, IndexError, TypeError, ValueError, OverflowError, RecursionError, AttributeError)
_MOST_ROWS = 1 << 20

Read = Callable[[int, int], bytes]
Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Chunk:
    """A column of a row group: its metadata; the dictionary's bytes [start, end), None without;
    bytes [start, end) of its pages (p, 2), and the first row of each (p + 1,), the last entry
    being the number of rows."""

    meta: Struct
    dictionary: tuple[int, int] | None
    pages: Rows
    firsts: Rows

    def touched(self, rows: Rows) -> Rows:
        """The pages that hold some of ascending rows. Raises Damaged."""
        if len(rows) and rows[-1] >= self.firsts[-1]:
            raise Damaged(f"shard: expected {rows[-1] + 1} rows in pages, found {self.firsts[-1]}")
        return np.unique(np.searchsorted(self.firsts, rows, side="right") - 1)

    def ranges(self, rows: Rows) -> list[tuple[int, int]]:
        """The bytes that reading rows takes."""
        some = self.pages[self.touched(rows)].tolist()
        return [*([self.dictionary] if self.dictionary else []), *((a, b) for a, b in some)]


class Pages:
    """Where the pages of a shard lie. tail: its last bytes, from the first page index on; length:
    of the shard. Raises Damaged."""

    def __init__(self, tail: bytes, length: int) -> None:
        self._tail, self._start = tail, length - len(tail)
        self.footer = footer_of(tail)
        self._chunks: dict[tuple[int, str], Chunk] = {}

    def chunk(self, group: int, column: str) -> Chunk:
        """A top-level column of one leaf in a row group; it is kept. Raises Damaged."""
        if (group, column) not in self._chunks:
            self._chunks[group, column] = self._read(group, column)
        return self._chunks[group, column]

    def _read(self, group: int, column: str) -> Chunk:
        footer, leaf = self.footer, self._leaf(column)
        if not 0 <= group < len(self.groups):
            raise Damaged(f"shard: expected a row group {group}, found {len(self.groups)}")
        held = self.groups[group]
        count = parse_number(footer, find_field(footer, held, _GROUP_ROWS))
        at = column_places(footer, held, leaf + 1)[leaf]
        try:
            one, _ = parse_struct(footer, at)
            if one[_CHUNK_META][1][_PATH][1][1][0] != column.encode():
                raise ValueError("columns in another order")
            return self._chunk(one, count)
        except _ODD as error:
            raise Damaged(f"shard: expected a page index, found {str(error)[:60]}") from None

    @cached_property
    def groups(self) -> list[int]:
        """Where in the footer each row group begins. Raises Damaged."""
        return group_places(self.footer)

    @cached_property
    def _elements(self) -> list[Struct]:
        """Those of the schema, of which the first is the root."""
        return parse_list(self.footer, find_field(self.footer, 0, _SCHEMA))

    def _leaf(self, column: str) -> int:
        """The number of a column of one leaf among all leaves."""
        try:
            at, leaf = 1, 0
            while at < len(self._elements):
                end = _after(self._elements, at)
                leaves = sum(5 not in one or not one[5][1] for one in self._elements[at:end])
                if self._elements[at][4][1] == column.encode() and leaves == 1:
                    return leaf
                at, leaf = end, leaf + leaves
        except _ODD as error:
            raise Damaged(f"shard: expected a schema, found {str(error)[:60]}") from None
        raise Damaged(f"shard: expected one column {column}, found none of one leaf")

    def _chunk(self, one: Struct, count: int) -> Chunk:
        at, length = one[_INDEX_AT][1] - self._start, one[_INDEX_LENGTH][1]
        if not 0 <= at <= at + length <= len(self._tail):
            raise ValueError("an index outside the footer")
        index, _ = parse_struct(self._tail[at : at + length])
        places = index[1][1][1]
        pages = np.array([(p[1][1], p[1][1] + p[2][1]) for p in places], np.int64).reshape(-1, 2)
        firsts = np.array([*(p[3][1] for p in places), count], np.int64)
        if not ((firsts >= 0).all() and (firsts <= _MOST_ROWS).all() and (pages >= 4).all()):
            raise ValueError("pages beyond the end")
        if (pages[1:, 0] < pages[:-1, 1]).any():
            raise ValueError("pages over each other")
        meta = one[_CHUNK_META][1]
        sound = len(places) and (np.diff(firsts) > 0).all() and firsts[0] == 0
        if not sound or not (pages[:, 0] < pages[:, 1]).all():
            raise ValueError("pages out of order")
        if pages.max() > self._start + len(self._tail):
            raise ValueError("pages beyond the end")
        dictionary = meta.get(_DICTIONARY_AT)
        first = int(pages[0, 0])
        held = (dictionary[1], first) if dictionary and 4 <= dictionary[1] < first else None
        return Chunk(meta, held, pages, firsts)

    def take(self, chunk: Chunk, field: pa.Field, rows: Rows, read: Read) -> pa.ChunkedArray:
        """Some ascending rows of a column, by the pages that they are in; field: of the schema;
        read: bytes [start, end) of the shard. Raises Damaged."""
        touched, firsts = chunk.touched(rows), chunk.firsts
        held = np.concatenate([np.arange(firsts[p], firsts[p + 1]) for p in touched])
        bodies = [read(int(start), int(end)) for start, end in chunk.pages[touched]]
        head = read(*chunk.dictionary) if chunk.dictionary else b""
        try:
            data = self._file(chunk, field.name, head, bodies, len(held))
            table = pq.ParquetFile(
                pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True
            ).read(use_threads=False)
            table.validate(full=True)
            if len(table) != len(held):
                raise Damaged(f"shard: expected {len(held)} rows in pages, found {len(table)}")
            return table[field.name].take(pa.array(np.searchsorted(held, rows))).cast(field.type)
        except Damaged:
            raise
        except (pa.ArrowException, OSError, *_ODD) as error:
            said = str(error).strip().split("\n")[0][:160]
            raise Damaged(f"shard: expected readable pages, found {said}") from None

    def _file(
        self, chunk: Chunk, column: str, head: bytes, bodies: Sequence[bytes], count: int
    ) -> bytes:
        """A Parquet file of one column whose pages are these."""
        body = head + b"".join(bodies)
        whole = chunk.meta[_VALUES][1]
        values = whole // int(chunk.firsts[-1]) * count
        meta = {number: chunk.meta[number] for number in _KEPT if number in chunk.meta}
        meta[_VALUES] = (I64, values)
        meta[_PACKED] = (I64, len(body))
        meta[_DATA_AT] = (I64, len(MAGIC) + len(head))
        if head:
            meta[_DICTIONARY_AT] = (I64, len(MAGIC))
        own: Struct = {2: (I64, 0), _CHUNK_META: (STRUCT, meta)}
        group: Struct = {
            _COLUMNS: (LIST, (STRUCT, [own])),
            _GROUP_BYTES: (I64, chunk.meta[_UNPACKED][1]),
            _GROUP_ROWS: (I64, count),
        }
        footer: Struct = {
            1: (I32, 2),
            _SCHEMA: (LIST, (STRUCT, list(self._schema(column)))),
            _ROWS: (I64, count),
            _GROUPS: (LIST, (STRUCT, [group])),
            6: (BINARY, b"embarchive"),
        }
        packed = dump_struct(footer)
        return MAGIC + body + packed + len(packed).to_bytes(4, "little") + MAGIC

    def _schema(self, column: str) -> Iterator[Struct]:
        """The root with one child, and that column's elements."""
        elements = self._elements
        yield {**elements[0], 5: (I32, 1)}
        at = 1
        while at < len(elements):
            end = _after(elements, at)
            if elements[at][4][1] == column.encode():
                yield from elements[at:end]
                return
            at = end


def _after(elements: Sequence[Struct], at: int) -> int:
    """Where the elements of a schema below one end."""
    left = elements[at].get(5, (I32, 0))[1]
    at += 1
    for _ in range(left):
        at = _after(elements, at)
    return at
