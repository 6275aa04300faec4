"""What a query will read, decided before anything is read: parts, shards, row groups, bytes.

Pure: from the generation's part references to the parts to fetch, from their rows to the
shards, from a shard's footer to its row groups and byte ranges. Every step keeps too much
rather than too little; `filters.row_mask` is the exact test at the end.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive.digests import BLOCK
from embarchive.filters import Filter, boxes_match, to_micros
from embarchive.footers import Limits
from embarchive.heads import WHOLE_BYTES
from embarchive.manifest import ShardRow
from embarchive.shards import column_ranges

# Digests with the head, and columns as one run of blocks. Shards written without a head take one
# more, for the footer: the manifest does not say which are.
RANGED = 2
# Beyond this number of requests for one query, the smaller shards are fetched whole instead, as
# long as they stay under these bytes together.
FEW_REQUESTS, AFFORDED_BYTES = 6, 16 << 20
# Cells up to which a plan counts on pages: it fetches no shard whole to save requests.
FEW_CELLS = 128


class Extent(Protocol):
    """What pruning looks at; part references and shard rows both have it."""

    @property
    def geohash_min(self) -> str: ...
    @property
    def geohash_max(self) -> str: ...
    @property
    def bbox(self) -> tuple[float, float, float, float]: ...
    @property
    def datetime_min(self) -> datetime | None: ...
    @property
    def datetime_max(self) -> datetime | None: ...


AnyExtent = TypeVar("AnyExtent", bound=Extent)


@dataclass(frozen=True)
class ShardRead:
    """How one shard is read. whole: in one request; otherwise its outboard with the head first,
    then the row groups that statistics leave."""

    shard: ShardRow
    whole: bool

    @property
    def requests(self) -> int:
        """Expected requests; ranges far apart, and a shard without a head, can add some."""
        return 1 if self.whole else RANGED


@dataclass(frozen=True)
class ReadPlan:
    """The shards of one query in geohash order, and an estimate from the manifest alone.

    requests: expected number; bytes: at most so many.
    """

    reads: tuple[ShardRead, ...]

    @property
    def requests(self) -> int:
        return sum(read.requests for read in self.reads)

    @property
    def bytes(self) -> int:
        return sum(read.shard.length for read in self.reads)

    @property
    def rows(self) -> int:
        return sum(read.shard.rows for read in self.reads)

    def turns(self, rows: int) -> list[ReadPlan]:
        """The shards in their order, in turns of at most so many rows, or of one shard."""
        found: list[list[ShardRead]] = []
        held = 0
        for read in self.reads:
            if not found or held + read.shard.rows > rows:
                found.append([])
                held = 0
            found[-1].append(read)
            held += read.shard.rows
        return [ReadPlan(tuple(reads)) for reads in found]

    def within(self, cells: Sequence[str]) -> ReadPlan:
        """The reads of shards that can hold one of the sorted cells."""
        meets = (
            r for r in self.reads if names_meet(cells, r.shard.geohash_min, r.shard.geohash_max)
        )
        return ReadPlan(tuple(meets))


def choose(candidates: Sequence[AnyExtent], wanted: Filter) -> list[AnyExtent]:
    """The part references or shards that can hold a matching row, in the given order."""
    if not candidates or wanted.everything:
        return list(candidates)
    keep = boxes_match(np.array([one.bbox for one in candidates], dtype=np.float64), wanted)
    return [
        one
        for one, inside in zip(candidates, keep.tolist(), strict=True)
        if inside and _names_meet(one, wanted) and _dates_meet(one, wanted)
    ]


def read_plan(shards: Iterable[ShardRow], wanted: Filter, space_id: str | None = None) -> ReadPlan:
    """Which shards to read, and how, for a filter within one space (None: every space)."""
    ours = [one for one in shards if space_id is None or one.space_id == space_id]
    chosen = choose(sorted(ours, key=_shard_order), wanted)
    # Of a few cells each shard has a row or two: pages, however many requests that makes.
    whole = {one.sha256 for one in chosen if one.length <= WHOLE_BYTES}
    if not chosen or not few_cells(wanted, len(chosen[0].geohash_min)):
        whole = _whole(chosen)
    return ReadPlan(tuple(ShardRead(one, whole=one.sha256 in whole) for one in chosen))


def few_cells(wanted: Filter, precision: int) -> bool:
    """Whether a filter names so few cells that single pages of a shard hold their rows."""
    names = wanted.geohash
    return 0 < len(names) <= FEW_CELLS and all(len(name) == precision for name in names)


def _whole(chosen: Sequence[ShardRow]) -> set[str]:
    """Which shards to fetch in one request each."""
    whole = {one.sha256 for one in chosen if one.length <= WHOLE_BYTES}
    requests = RANGED * (len(chosen) - len(whole)) + len(whole)
    spent = 0
    for one in sorted(chosen, key=lambda one: (one.length, one.sha256)):
        if one.sha256 in whole:
            continue
        spent += one.length
        if requests <= FEW_REQUESTS or spent > AFFORDED_BYTES:
            break
        whole.add(one.sha256)
        requests -= RANGED - 1
    return whole


def shard_rows(part: pa.Table) -> list[ShardRow]:
    """The rows of a manifest part as values."""
    return [_shard_row(row) for row in part.to_pylist()]


def row_groups(limits: Sequence[Limits], wanted: Filter) -> list[int]:
    """Row groups whose least and greatest geohash, datetime and bbox allow a match."""
    return [group for group, own in enumerate(limits) if _group_meets(own, wanted)]


def range_bytes(metadata: pq.FileMetaData, groups: Sequence[int], columns: Iterable[str]) -> int:
    """Bytes of the columns of the row groups, rounded to 16 KiB blocks."""
    blocks: set[int] = set()
    for start, end in column_ranges(metadata, groups, columns):
        blocks.update(range(start // BLOCK, (end - 1) // BLOCK + 1))
    return len(blocks) * BLOCK


def names_meet(names: Sequence[str], low: str, high: str) -> bool:
    """Whether some name between low and high, both included, is or starts with one of the
    sorted names."""
    at = bisect_left(names, low)
    if at < len(names) and names[at] <= high:
        return True
    # A name before low can only reach into the range as a prefix of low itself.
    return any(_holds(names, low[:length]) for length in range(1, len(low)))


def _holds(names: Sequence[str], name: str) -> bool:
    at = bisect_left(names, name)
    return at < len(names) and names[at] == name


def _names_meet(one: Extent, wanted: Filter) -> bool:
    return not wanted.geohash or names_meet(wanted.geohash, one.geohash_min, one.geohash_max)


def _dates_meet(one: Extent, wanted: Filter) -> bool:
    if not wanted.dated:
        return True
    if one.datetime_min is None or one.datetime_max is None:
        return False
    low, high = wanted.span()
    return to_micros(one.datetime_max) >= low and to_micros(one.datetime_min) <= high


def _shard_order(one: ShardRow) -> tuple[str, str, str]:
    return one.geohash_min, one.geohash_max, one.sha256


def _shard_row(row: dict[str, Any]) -> ShardRow:
    box = row.pop("bbox")
    values = {name: row[name] for name in ShardRow.__dataclass_fields__ if name in row}
    values["bbox"] = (box["xmin"], box["ymin"], box["xmax"], box["ymax"])
    values["model_ids"] = tuple(row["model_ids"])
    return ShardRow(**values)


def _group_meets(limits: Limits, wanted: Filter) -> bool:
    names = limits.get("geohash")
    if wanted.geohash and names and not names_meet(wanted.geohash, *names):
        return False
    if wanted.dated and "datetime" in limits:
        first, last = wanted.span()
        low, high = limits["datetime"]
        if high < first or low > last:
            return False
    return bool(boxes_match(_group_box(limits), wanted)[0])


def _group_box(limits: Limits) -> NDArray[np.float64]:
    whole = {"xmin": -180.0, "ymin": -90.0, "xmax": 180.0, "ymax": 90.0}
    sides = [
        limits.get(f"bbox.{side}", (edge, edge))[0 if side.endswith("min") else 1]
        for side, edge in whole.items()
    ]
    return np.array([sides], dtype=np.float64)
