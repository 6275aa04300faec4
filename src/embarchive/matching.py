"""The rows of a shard that a filter wants: first the columns that say which they are, then of the
others their pages, or the whole of a column where most of its pages are wanted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive.filters import Filter, row_mask
from embarchive.footers import SHARD, Groups
from embarchive.held import ShardFile
from embarchive.pages import Chunk, Pages
from embarchive.rows import ORDER
from embarchive.shards import HEAD_CHUNK, HEAD_COLUMNS, read_rows

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Footer:
    """What the last bytes of a shard say: its metadata, and where its pages lie."""

    metadata: pq.FileMetaData
    pages: Pages

    @cached_property
    def groups(self) -> Groups:
        """Its row groups. Raises Damaged."""
        return Groups(self.pages.footer, self.pages.groups, self.metadata, SHARD)

    def ranges(self, groups: Sequence[int], names: Sequence[str]) -> list[tuple[int, int]]:
        """Bytes [start, end) of columns of row groups."""
        return self.groups.ranges(groups, names)

    def starts(self, groups: Sequence[int]) -> Rows:
        """The first row of each of some row groups, put one after another, and their number."""
        sizes = [self.metadata.row_group(group).num_rows for group in groups]
        return np.cumsum([0, *sizes])


def matching(
    file: ShardFile, footer: Footer, groups: Sequence[int], wanted: Filter, fields: pa.Schema
) -> pa.Table:
    """The wanted rows of row groups, with some columns of the shard's schema. Raises Damaged."""
    telling = ORDER if wanted.band else ORDER[:2]
    # What lies in the head is at hand, and small: it is read with what tells the rows.
    asked = [name for name in HEAD_COLUMNS if name in fields.names and name not in telling]
    near = [name for name in asked if file.holds(footer.ranges(groups, [name]))]
    first = [*telling, *near]
    file.fetch(footer.ranges(groups, first))
    keys = read_rows(file, footer.metadata, groups, first)
    rows = np.flatnonzero(row_mask(keys, wanted))
    if not len(rows):
        return fields.empty_table()
    columns = {name: keys[name].take(pa.array(rows)) for name in first if name in fields.names}
    left = [fields.field(name) for name in fields.names if name not in columns]
    columns |= _columns(file, footer, groups, rows, left)
    return pa.table([columns[one.name].cast(one.type) for one in fields], schema=fields)


def _columns(
    file: ShardFile, footer: Footer, groups: Sequence[int], rows: Rows, fields: Sequence[pa.Field]
) -> dict[str, pa.ChunkedArray]:
    """Columns at ascending rows of row groups."""
    starts = footer.starts(groups)
    parts = [rows[(rows >= a) & (rows < b)] - a for a, b in pairwise(starts)]
    some = {group: own for group, own in zip(groups, parts, strict=True) if len(own)}
    sparse = {one: _sparse(footer, some, one) for one in fields}
    whole = [one.name for one, chunks in sparse.items() if not chunks]
    spans = [_spans(chunks, some) for chunks in sparse.values()]
    file.fetch([*footer.ranges(list(some), whole), *(span for own in spans for span in own)])
    found = {}
    if whole:
        table = read_rows(file, footer.metadata, list(some), whole)
        firsts = footer.starts(list(some))[:-1]
        at = np.concatenate([own + a for own, a in zip(some.values(), firsts, strict=True)])
        found = {name: table[name].take(pa.array(at)) for name in whole}
    for one, chunks in sparse.items():
        taken = [footer.pages.take(at, one, some[g], file.range) for g, at in chunks.items()]
        if taken:
            found[one.name] = pa.chunked_array([x for own in taken for x in own.chunks], one.type)
    return found


def _sparse(footer: Footer, some: dict[int, Rows], field: pa.Field) -> dict[int, Chunk]:
    """The chunks of a column, by row group, whose pages are to be read for some rows; none where
    all of it is less, or not much more."""
    ranges = footer.ranges(list(some), [field.name])
    if pa.types.is_struct(field.type) or all(b - a <= HEAD_CHUNK for a, b in ranges):
        return {}
    chunks = {group: footer.pages.chunk(group, field.name) for group in some}
    wanted, whole = (sum(b - a for a, b in of) for of in (_spans(chunks, some), ranges))
    return chunks if 2 * wanted < whole else {}


def _spans(chunks: dict[int, Chunk], some: dict[int, Rows]) -> list[tuple[int, int]]:
    """The bytes of the pages that hold some rows."""
    return [span for group, one in chunks.items() for span in one.ranges(some[group])]
