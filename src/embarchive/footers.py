"""What stands in a Parquet footer beside what Arrow tells of it: where its row groups begin, and
the least and greatest values that their statistics say, and where their columns lie.

Arrow's own access to a column's metadata ends the process where they are not as they should be:
statistics of another length than their type, say. They are read here, and strictly.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow.parquet as pq

from embarchive.errors import Damaged
from embarchive.parts import CELL
from embarchive.thrift import (
    BINARY,
    LIST,
    dump_struct,
    find_field,
    find_fields,
    find_items,
    parse_number,
    parse_struct,
)

# Fields of Parquet's structs, parquet.thrift of apache/parquet-format; of statistics the newer pair
# of least and greatest, then the older.
_GROUPS, _COLUMNS, _CHUNK_META = 4, 1, 3
_PATH, _PACKED, _DATA_AT, _DICTIONARY_AT, _STATISTICS = 3, 7, 9, 11, 12
_PAIRS = ((6, 5), (2, 1))
MAX_FILE = 256 << 20

Limits = dict[str, tuple[Any, Any]]


@dataclass(frozen=True)
class Leaf:
    """A column of plain values: its path with dots, what its values are called, and how their bytes
    are read, with ValueError for others."""

    path: str
    kind: str
    read: Callable[[bytes], Any]

    @cached_property
    def stored(self) -> bytes:
        """The path as a column's metadata have it."""
        names = self.path.encode().split(b".")
        return dump_struct({1: (LIST, (BINARY, names))})[1:-1]


def _number(form: str) -> Callable[[bytes], Any]:
    packed = struct.Struct(form)

    def read(raw: bytes) -> Any:
        if len(raw) != packed.size:
            raise ValueError("another length")
        return packed.unpack(raw)[0]

    return read


def _text(pattern: str) -> Callable[[bytes], str]:
    match = re.compile(pattern.encode()).fullmatch

    def read(raw: bytes) -> str:
        if not match(raw):
            raise ValueError("another text")
        return raw.decode("ascii")

    return read


_CELL = Leaf("geohash", "a geohash", _text(CELL))
_BOX = tuple(
    Leaf(f"bbox.{side}", "a float", _number("<f")) for side in ("xmin", "ymin", "xmax", "ymax")
)
# The first leaves of tables, by which rows are left out unread; datetimes as microseconds.
SHARD = (_CELL, Leaf("datetime", "a time", _number("<q")), *_BOX)
PYRAMID = (
    Leaf("space_id", "a name", _text("[0-9A-Za-z._-]{1,64}")),
    Leaf("level", "a level", _number("<i")),
    _CELL,
    *_BOX,
)


def footer_of(tail: bytes, name: str = "shard") -> bytes:
    """The metadata in the last bytes of a file. Raises Damaged."""
    size = int.from_bytes(tail[-8:-4], "little")
    if len(tail) < size + 8:
        raise Damaged(f"{name}: expected a footer of {size} bytes, found {len(tail) - 8}")
    return tail[len(tail) - 8 - size : -8]


def group_places(footer: bytes) -> list[int]:
    """Where in a footer each row group begins. Raises Damaged."""
    return find_items(footer, find_field(footer, 0, _GROUPS))


def column_places(footer: bytes, group: int, count: int, name: str = "shard") -> list[int]:
    """Where in a footer each of the first `count` columns begins, of the row group that begins at
    `group`. Raises Damaged where there are fewer."""
    found = find_items(footer, find_field(footer, group, _COLUMNS), count)
    if len(found) < count:
        raise Damaged(f"{name}: expected {count} columns, found {len(found)}")
    return found


class Groups:
    """The row groups of a file: what its footer says of each, read when it is asked for and kept.

    places: as of `group_places`; metadata: of the same footer, its schema checked; leaves: of which
    there are limits, the first of the schema in its order. Raises Damaged.
    """

    def __init__(
        self,
        footer: bytes,
        places: Sequence[int],
        metadata: pq.FileMetaData,
        leaves: Sequence[Leaf],
        name: str = "shard",
    ) -> None:
        if len(places) != metadata.num_row_groups:
            expected = f"{metadata.num_row_groups} row groups"
            raise Damaged(f"{name}: expected {expected}, found {len(places)}")
        self._footer, self._places, self._leaves, self._name = footer, places, leaves, name
        leaf_paths = (metadata.schema.column(at).path for at in range(metadata.num_columns))
        self._tops = [path.partition(".")[0] for path in leaf_paths]
        self._ranges: dict[int, list[tuple[int, int]]] = {}

    @cached_property
    def limits(self) -> list[Limits]:
        """Least and greatest value by path for each row group, where its statistics say them.
        Raises Damaged."""
        return [self._limits_of(place) for place in self._places]

    def ranges(self, groups: Iterable[int], columns: Iterable[str]) -> list[tuple[int, int]]:
        """Bytes [start, end) of top-level columns of row groups, in file order. Raises Damaged."""
        wanted = set(columns)
        found = []
        for group in groups:
            if group not in self._ranges:
                self._ranges[group] = self._ranges_of(self._places[group])
            own = zip(self._tops, self._ranges[group], strict=True)
            found += [span for name, span in own if name in wanted]
        return sorted(found)

    def _limits_of(self, place: int) -> Limits:
        found = {}
        for leaf, at in zip(self._leaves, self._columns(place, len(self._leaves)), strict=True):
            fields = self._meta(at, (_PATH, _STATISTICS))
            if not self._footer.startswith(leaf.stored, fields.get(_PATH, len(self._footer))):
                raise Damaged(f"{self._name}: expected a column {leaf.path}, found another")
            pair = _pair(self._footer, fields[_STATISTICS]) if _STATISTICS in fields else None
            if pair is not None:
                found[leaf.path] = _read(leaf, pair, self._name)
        return found

    def _ranges_of(self, place: int) -> list[tuple[int, int]]:
        found = []
        for at in self._columns(place, len(self._tops)):
            fields = self._meta(at, (_PACKED, _DATA_AT, _DICTIONARY_AT))
            values = {key: parse_number(self._footer, where) for key, where in fields.items()}
            start = values.get(_DATA_AT, 0)
            start = min(start, values.get(_DICTIONARY_AT, start))
            end = start + values.get(_PACKED, 0)
            if not 4 <= start < end <= MAX_FILE:
                expected = "a column inside the file"
                raise Damaged(f"{self._name}: expected {expected}, found bytes {start} to {end}")
            found.append((start, end))
        return found

    def _columns(self, place: int, count: int) -> list[int]:
        return column_places(self._footer, place, count, self._name)

    def _meta(self, place: int, wanted: Sequence[int]) -> dict[int, int]:
        return find_fields(self._footer, find_field(self._footer, place, _CHUNK_META), wanted)


def _pair(footer: bytes, place: int) -> tuple[Any, Any] | None:
    """The least and the greatest value of statistics, as they are stored."""
    stored, _ = parse_struct(footer, place)
    for low, high in _PAIRS:
        if low in stored and high in stored:
            return stored[low][1], stored[high][1]
    return None


def _read(leaf: Leaf, pair: tuple[Any, Any], name: str) -> tuple[Any, Any]:
    try:
        low, high = map(leaf.read, pair)
        # Neither is a number that is none.
        if low <= high:
            return low, high
    except (TypeError, ValueError):
        pass
    said = f"{leaf.kind} as least and as greatest {leaf.path}"
    raise Damaged(f"{name}: expected {said}, found {str(pair)[:80]}")
