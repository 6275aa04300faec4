"""Which shards make one manifest part.

A part covers one box on the ground: the bits that the geohash prefixes of its shards have
in common. It holds at most 512 shards, unless they share one prefix, and parts' boxes do
not overlap; so a small box needs few parts, and an append rewrites only those it touches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from embarchive import digests, grid
from embarchive.parts import PartRef, dump_part, part_ref, sort_part

PART_SHARDS = 512


def dump_parts(table: pa.Table) -> list[tuple[PartRef, bytes]]:
    """Shard rows as parts: each with its reference and bytes."""
    found = []
    for _, rows in parts_for(table):
        data = dump_part(rows)
        found.append((part_ref(rows, digests.sha256(data), len(data)), data))
    return found


def common_prefix(a: str, b: str) -> str:
    """What two geohashes start with in common."""
    same = 0
    while same < min(len(a), len(b)) and a[same] == b[same]:
        same += 1
    return a[:same]


def prefix_bits(prefix: str) -> str:
    """The bits of a geohash as text, five a letter."""
    return "".join(f"{grid.ALPHABET.index(letter):05b}" for letter in prefix)


def parts_for(table: pa.Table, limit: int = PART_SHARDS) -> list[tuple[str, pa.Table]]:
    """The table split into (common geohash prefix, rows) of at most `limit` shards.

    A group that is too large is halved at the first bit in which its prefixes differ: the
    halves are two boxes side by side. Shards of one prefix stay together.
    """
    rows = sort_part(table)
    names = rows["prefix"].to_pylist()
    bits = np.array([prefix_bits(name) for name in names])
    cuts: list[tuple[int, int]] = []

    def split(start: int, end: int) -> None:
        if end - start <= limit or names[start] == names[end - 1]:
            cuts.append((start, end))
            return
        same = len(common_prefix(str(bits[start]), str(bits[end - 1])))
        middle = start + int(np.searchsorted(bits[start:end], str(bits[start])[:same] + "1"))
        split(start, middle)
        split(middle, end)

    if names:
        split(0, len(names))
    return [(common_prefix(names[a], names[b - 1]), rows.slice(a, b - a)) for a, b in cuts]


def home_of(prefix: str, spans: list[tuple[str, str]]) -> int | None:
    """The part that a shard belongs to, or None when it starts one of its own.

    spans: least and greatest shard prefix of each part. A part covers the box that its
    prefixes have in common; the shard joins the part whose box needs to grow least, unless
    growing would swallow another part.
    """
    mine = prefix_bits(prefix)
    shared = [
        min(len(common_prefix(mine, prefix_bits(low))), len(common_prefix(mine, prefix_bits(high))))
        for low, high in spans
    ]
    best = max(shared, default=-1)
    near = [index for index, bits in enumerate(shared) if bits == best]
    return near[0] if len(near) == 1 else None


def merge_shards(
    spans: Sequence[tuple[str, str]], added: pa.Table
) -> tuple[dict[int, pa.Table], pa.Table]:
    """Where added shards go: (part index -> its new rows, rows that make parts of their own).

    spans: least and greatest shard prefix of each existing part; see `home_of`.
    """
    known = list(spans)
    homes: dict[str, int] = {}
    for prefix in sorted(set(added["prefix"].to_pylist())):
        home = home_of(prefix, known)
        if home is None:
            home = len(known)
            known.append((prefix, prefix))
        low, high = known[home]
        known[home] = (min(low, prefix), max(high, prefix))
        homes[prefix] = home
    where = np.array([homes[prefix] for prefix in added["prefix"].to_pylist()])
    touched = {
        int(home): added.filter(pa.array(where == home))
        for home in np.unique(where[where < len(spans)])
    }
    return touched, added.filter(pa.array(where >= len(spans)))
