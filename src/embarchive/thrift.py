"""The Thrift compact protocol, in which Parquet writes its metadata: structs to values and back.

A struct is a dict from field number to (type, value); nothing is known of what fields mean.
Source: thrift-compact-protocol.md of github.com/apache/thrift.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from embarchive.errors import Damaged

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)
Struct = dict[int, tuple[int, Any]]
_DEEPEST = 32


def _plain() -> re.Pattern[bytes]:
    """Fields of numbers, short texts, short lists of them, and structs of these, alone or in short
    lists. What one byte begins ends in one way: nothing is tried twice."""

    def heads(*kinds: int) -> bytes:
        found = (bytes([step << 4 | kind]) for kind in kinds for step in range(1, 16))
        return b"[" + b"".join(map(re.escape, found)) + b"]"

    def lists(kinds: Sequence[int], item: bytes, most: int) -> bytes:
        some = []
        for n in range(most + 1):
            first = b"".join(re.escape(bytes([n << 4 | kind])) for kind in kinds)
            some.append(b"[%b](?:%b){%d}" % (first, item, n))
        return b"%b(?:%b)" % (heads(LIST), b"|".join(some))

    numbers = (I16, I32, I64)
    number = rb"[\x80-\xff]*+[\x00-\x7f]"
    text = b"(?:%b)" % b"|".join(b"%b.{%d}" % (re.escape(bytes([n])), n) for n in range(17))
    flat = b"|".join((
        heads(TRUE, FALSE), heads(*numbers) + number, heads(BINARY) + text,
        lists(numbers, number, 4), lists((BINARY,), text, 3),
    ))  # fmt: skip
    struct = rb"(?:%b)*+\x00" % flat
    inner = b"|".join((flat, heads(STRUCT) + struct, lists((STRUCT,), struct, 4)))
    return re.compile(b"(?:%b)*+" % inner, re.DOTALL)


# Most of a footer is skipped, and most of that is small: not worth a step of Python each.
_PLAIN = _plain()


def parse_struct(data: bytes, start: int = 0) -> tuple[Struct, int]:
    """The struct at `start`, and where it ends. Raises Damaged."""
    try:
        return _struct(data, start, 0)
    except (IndexError, ValueError, OverflowError, MemoryError) as error:
        raise Damaged(f"parquet: expected readable metadata, found {str(error)[:60]}") from None


def find_fields(data: bytes, start: int, wanted: Sequence[int]) -> dict[int, int]:
    """Where the values of fields of the struct at `start` begin, of those that there are; others
    are not read. Raises Damaged."""
    found: dict[int, int] = {}
    number, at = 0, start
    try:
        while head := data[at]:
            at += 1
            if head >> 4:
                number += head >> 4
            else:
                raw, at = _varint(data, at)
                number = raw >> 1 ^ -(raw & 1)
            if number in wanted:
                found.setdefault(number, at)
                if len(found) == len(wanted):
                    break
            if head & 15 not in (TRUE, FALSE):
                at = _skip(data, at, head & 15, 0)
    except (IndexError, ValueError) as error:
        raise Damaged(f"parquet: expected readable metadata, found {str(error)[:60]}") from None
    return found


def find_field(data: bytes, start: int, wanted: int) -> int:
    """Where the value of a field of the struct at `start` begins; what is before it is not read.
    Raises Damaged where there is none."""
    found = find_fields(data, start, (wanted,))
    if not found:
        raise Damaged(f"parquet: expected a field {wanted}, found none")
    return found[wanted]


def find_items(data: bytes, start: int, most: int = 1 << 20) -> list[int]:
    """Where each item of the list at `start` begins, of the first `most`; none is read. Raises
    Damaged."""
    try:
        (count, at), kind = _count(data, start), data[start] & 15
        found = [at] if min(count, most) else []
        for _ in range(min(count, most) - 1):
            at = _skip(data, at, kind, 0)
            found.append(at)
    except (IndexError, ValueError) as error:
        raise Damaged(f"parquet: expected readable metadata, found {str(error)[:60]}") from None
    return found


def parse_list(data: bytes, start: int) -> list[Any]:
    """The items of the list at `start`. Raises Damaged."""
    try:
        return _list(data, start, 0)[0][1]
    except (IndexError, ValueError, OverflowError, MemoryError) as error:
        raise Damaged(f"parquet: expected readable metadata, found {str(error)[:60]}") from None


def parse_number(data: bytes, start: int) -> int:
    """The whole number of any width at `start`. Raises Damaged."""
    try:
        raw, _ = _varint(data, start)
    except (IndexError, ValueError) as error:
        raise Damaged(f"parquet: expected readable metadata, found {str(error)[:60]}") from None
    return raw >> 1 ^ -(raw & 1)


def dump_struct(fields: Struct) -> bytes:
    """A struct's bytes; what `parse_struct` gave comes out as it went in."""
    out, last = bytearray(), 0
    for number, (kind, value) in sorted(fields.items()):
        step = number - last
        out += bytes([step << 4 | kind]) if 0 < step < 16 else bytes([kind]) + _zigzag(number)
        if kind not in (TRUE, FALSE):
            out += _dumped(kind, value)
        last = number
    return bytes(out) + b"\0"


def _struct(data: bytes, at: int, depth: int) -> tuple[Struct, int]:
    fields: Struct = {}
    number = 0
    while True:
        head = data[at]
        at += 1
        if head == 0:
            return fields, at
        if head >> 4:
            number += head >> 4
        else:
            raw, at = _varint(data, at)
            number = raw >> 1 ^ -(raw & 1)
        kind = head & 15
        if kind in (TRUE, FALSE):
            fields[number] = (kind, kind == TRUE)
        else:
            value, at = _value(data, at, kind, depth)
            fields[number] = (kind, value)


def _value(data: bytes, at: int, kind: int, depth: int) -> tuple[Any, int]:
    if depth > _DEEPEST:
        raise ValueError("values in values without end")
    if kind in (I16, I32, I64):
        raw, at = _varint(data, at)
        return raw >> 1 ^ -(raw & 1), at
    if kind == BINARY:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a text beyond the end")
        return data[at : at + size], at + size
    if kind == STRUCT:
        return _struct(data, at, depth + 1)
    if kind in (LIST, SET):
        return _list(data, at, depth)
    if kind in (BYTE, TRUE, FALSE):
        return data[at], at + 1
    if kind == DOUBLE:
        return data[at : at + 8], at + 8
    raise ValueError(f"a field of type {kind}")


def _list(data: bytes, at: int, depth: int) -> tuple[tuple[int, list[Any]], int]:
    head = data[at]
    count, at = _count(data, at)
    items = []
    for _ in range(count):
        item, at = _value(data, at, head & 15, depth + 1)
        items.append(item)
    return (head & 15, items), at


def _count(data: bytes, at: int) -> tuple[int, int]:
    """Items of the list at `at`, and where the first begins."""
    count, at = data[at] >> 4, at + 1
    if count == 15:
        count, at = _varint(data, at)
    if count > len(data) - at:
        raise ValueError("a list longer than the data")
    return count, at


def _skip(data: bytes, at: int, kind: int, depth: int) -> int:
    """Where a value ends."""
    if depth > _DEEPEST:
        raise ValueError("values in values without end")
    if kind in (I32, I64, I16):
        while data[at] > 127:
            at += 1
        return at + 1
    if kind == STRUCT:
        while True:
            run = _PLAIN.match(data, at)
            at = run.end() if run else at
            head = data[at]
            if not head:
                return at + 1
            at = at + 1 if head >> 4 else _varint(data, at + 1)[1]
            if head & 15 not in (TRUE, FALSE):
                at = _skip(data, at, head & 15, depth + 1)
    if kind == BINARY:
        size, at = _varint(data, at)
        if at + size > len(data):
            raise ValueError("a text beyond the end")
        return at + size
    if kind in (LIST, SET):
        inner = data[at] & 15
        count, at = _count(data, at)
        for _ in range(count):
            at = _skip(data, at, inner, depth + 1)
        return at
    if kind in (BYTE, TRUE, FALSE, DOUBLE):
        return at + (8 if kind == DOUBLE else 1)
    raise ValueError(f"a field of type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _dumped(kind: int, value: Any) -> bytes:
    if kind in (I16, I32, I64):
        return _zigzag(value)
    if kind == BINARY:
        return _raw(len(value)) + bytes(value)
    if kind == STRUCT:
        return dump_struct(value)
    if kind in (LIST, SET):
        inner, items = value
        few = len(items) < 15
        head = bytes([len(items) << 4 | inner]) if few else bytes([0xF0 | inner]) + _raw(len(items))
        return head + b"".join(_dumped(inner, item) for item in items)
    return bytes(value) if kind == DOUBLE else bytes([value])


def _zigzag(value: int) -> bytes:
    return _raw(value << 1 ^ value >> 63)


def _raw(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
