"""Heads and what is at hand in them; others are refused."""

import struct

from embarchive import heads
from embarchive.errors import Damaged

DATA = bytes(i * i % 251 for i in range(1000))
PACKED = {
    "one": [(990, 1000)],
    "all": [(0, 1000)],
    "two": [(990, 1000), (4, 30)],
    "joined": [(4, 30), (30, 50), (45, 60), (700, 701)],
}
ASKED = [(4, 30), (5, 29), (29, 31), (30, 30), (990, 1000), (700, 701), (0, 1000), (3, 10)]


def made(count, *spans, body=b""):
    return struct.pack("<I", count) + b"".join(struct.pack("<QQ", *one) for one in spans) + body


HOSTILE = {
    "cut": b"\1\0\0",
    "no ranges": made(0),
    "no ranges, with bytes": made(0, body=b"x"),
    "a count beyond": made(2, (1, 2), body=b"x"),
    "a huge count": made(2**32 - 1, (1, 2), body=b"x"),
    "an empty range": made(1, (5, 5)),
    "a range backwards": made(1, (9, 5), body=b"xxxx"),
    "ranges out of order": made(2, (9, 11), (4, 6), body=b"xxxx"),
    "ranges over each other": made(2, (4, 8), (7, 9), body=b"xxxxxx"),
    "a range beyond the object": made(1, (998, 1001), body=b"xxx"),
    "a huge range": made(1, (0, 2**64 - 1), body=b"xxx"),
    "a range from beyond 2^53": made(1, (2**53 + 1, 2**53 + 2), body=b"x"),
    "too few bytes": made(1, (4, 8), body=b"xxx"),
    "too many bytes": made(1, (4, 8), body=b"xxxxx"),
}


def make():
    packed = {name: heads.pack(DATA, ranges) for name, ranges in PACKED.items()}
    return {
        "length": len(DATA),
        "asked": ASKED,
        "packed": {name: _read(held) for name, held in packed.items()},
        "none": _read(b""),
        "touching": _read(made(2, (4, 6), (6, 7), body=b"xyz")),
        "hostile": {
            name: {"held": held.hex(), "error": _refused(held)} for name, held in HOSTILE.items()
        },
    }


def _read(held):
    head = heads.parse("blocks/x", held, len(DATA))
    found = [head.get(*span) for span in ASKED]
    return {
        "held": held.hex(),
        "spans": head.spans,
        "found": [None if one is None else one.hex() for one in found],
    }


def _refused(held):
    try:
        heads.parse("blocks/x", held, len(DATA))
    except Damaged as error:
        return str(error)
    raise AssertionError("expected it to be refused")
