"""What stands in a Parquet footer beside what Arrow tells of it: where its row groups begin, and
the least and greatest values that their statistics say.

Arrow's own access to statistics ends the process where they are of another length than their type:
they are read here, and strictly.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from embarchive.errors import Damaged
from embarchive.parts import CELL
from embarchive.thrift import (
    BINARY,
    LIST,
    dump_struct,
    find_field,
    find_fields,
    find_items,
    parse_struct,
)

# Fields of Parquet's structs, parquet.thrift of apache/parquet-format; of statistics the newer pair
# of least and greatest, then the older.
_GROUPS, _COLUMNS, _CHUNK_META, _PATH, _STATISTICS = 4, 1, 3, 3, 12
_PAIRS = ((6, 5), (2, 1))

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


def group_limits(
    footer: bytes, places: Sequence[int], leaves: Sequence[Leaf], name: str = "shard"
) -> list[Limits]:
    """Least and greatest value by path for each row group, where its statistics say them; leaves:
    the first of the schema, in its order. Raises Damaged."""
    return [_limits(footer, place, leaves, name) for place in places]


def _limits(footer: bytes, place: int, leaves: Sequence[Leaf], name: str) -> Limits:
    columns = find_items(footer, find_field(footer, place, _COLUMNS), len(leaves))
    if len(columns) < len(leaves):
        raise Damaged(f"{name}: expected {len(leaves)} columns or more, found {len(columns)}")
    found = {}
    for leaf, at in zip(leaves, columns, strict=True):
        fields = find_fields(footer, find_field(footer, at, _CHUNK_META), (_PATH, _STATISTICS))
        if not footer.startswith(leaf.stored, fields.get(_PATH, len(footer))):
            raise Damaged(f"{name}: expected a column {leaf.path}, found another")
        pair = _pair(footer, fields[_STATISTICS]) if _STATISTICS in fields else None
        if pair is not None:
            found[leaf.path] = _read(leaf, pair, name)
    return found


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
