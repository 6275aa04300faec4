"""The head of a shard: copies of what every search of it asks first, beside its block digests.

`blocks/<sha256>` is the digests, and of a shard a head may follow: uint32 count, as many pairs of
uint64 start and end, all little endian, then the bytes of these ranges, one after another. The name
of the object covers both, so that what is in a head needs no further check.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from embarchive.digests import DIGEST, Bytes, block_count
from embarchive.errors import Damaged

# Far beyond what writers make: the last bytes of a shard and a few narrow columns.
MAX_HEAD = 8 << 20
# One request costs about as much as these bytes on a good line, so an object up to this size is
# fetched whole, and has no use for a head.
WHOLE_BYTES = 256 << 10
_COUNT, _RANGE = struct.Struct("<I"), struct.Struct("<QQ")

Range = tuple[int, int]


@dataclass(frozen=True)
class Head:
    """Bytes [start, end) of an object that are at hand; spans: start, end, and where in `held` they
    begin, ascending."""

    spans: tuple[tuple[int, int, int], ...]
    held: bytes

    def get(self, start: int, end: int) -> bytes | None:
        """Bytes [start, end), None where they are not all in one piece."""
        for first, last, at in self.spans:
            if first <= start <= end <= last:
                return self.held[at + start - first : at + end - first]
        return None


NONE = Head((), b"")


def pack(data: Bytes, ranges: Sequence[Range]) -> bytes:
    """The head with ranges [start, end) of an object; those that touch become one."""
    spans: list[Range] = []
    for start, end in sorted(ranges):
        if spans and start <= spans[-1][1]:
            spans[-1] = (spans[-1][0], max(end, spans[-1][1]))
        else:
            spans.append((start, end))
    view = memoryview(data)
    return b"".join([
        _COUNT.pack(len(spans)),
        *(_RANGE.pack(start, end) for start, end in spans),
        *(view[start:end] for start, end in spans),
    ])  # fmt: skip


def most(length: int) -> int:
    """Bytes that the digests of an object of this length, and a head, may have."""
    return DIGEST * block_count(length) + MAX_HEAD


def split(name: str, data: bytes, length: int) -> tuple[bytes, bytes]:
    """The digests of an object of this length, and its head: empty where it has none. Raises
    Damaged."""
    size = DIGEST * block_count(length)
    if len(data) < size:
        raise Damaged(f"{name}: expected an outboard of {size} bytes, found {len(data)}")
    return data[:size], data[size:]


def parse(name: str, held: bytes, length: int) -> Head:
    """The pieces of the head of an object of this length; of empty bytes none. Raises Damaged
    unless the ranges ascend within the object, and are as long as the bytes behind them."""
    if not held:
        return NONE
    count = _COUNT.unpack_from(held)[0] if len(held) >= _COUNT.size else 0
    at = _COUNT.size + _RANGE.size * count
    if not count or at > len(held):
        raise Damaged(f"{name}: expected a head, found {len(held)} bytes for {count} ranges")
    spans, before = [], 0
    for start, end in _RANGE.iter_unpack(held[_COUNT.size : at]):
        if not before <= start < end <= length:
            raise Damaged(
                f"{name}: expected a head of ranges in {before}-{length}, found {start}-{end}"
            )
        spans.append((start, end, at))
        at, before = at + end - start, end
    if at != len(held):
        raise Damaged(f"{name}: expected a head of {at} bytes, found {len(held)}")
    return Head(tuple(spans), held)
