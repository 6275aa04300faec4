"""The pyramid: mean embeddings of coarser cells, level by level, as one Parquet table.

A level is the length of its cells' geohashes. The finest level is made from rows, the others from
the finest. Written canonically, and read with every value checked. Pure: tables and bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive import digests, rows
from embarchive.cellmeans import NO_FIRST, NO_LAST, Cells, coarser, codes_of
from embarchive.errors import Damaged, UnknownVersion
from embarchive.footers import PYRAMID, Groups, Limits, footer_of, group_places
from embarchive.geohash import LONGEST
from embarchive.parts import CELL, SHA, PyramidRef

VERSION = 1
# A row group, which never holds two levels, is what a reader fetches.
GROUP_ROWS = 512
MAX_BYTES, MAX_FILE, MAX_FOOTER = 192 << 20, 256 << 20, 4 << 20
STATISTICS = ("space_id", "level", "geohash", *(f"bbox.{side}" for side in rows.SIDES))


def schema(dim: int) -> pa.Schema:
    """The columns of the table for embeddings of `dim` int8 numbers."""
    element = pa.field("element", pa.int16(), nullable=False)
    moment = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("space_id", pa.string(), nullable=False),
            pa.field("level", pa.int8(), nullable=False),
            pa.field("geohash", pa.string(), nullable=False),
            rows.schema(1, 0).field("bbox"),
            pa.field("count", pa.int64(), nullable=False),
            pa.field("mean", pa.list_(element, dim), nullable=False),
            pa.field("model_id", pa.string(), nullable=False),
            pa.field("datetime_min", moment),
            pa.field("datetime_max", moment),
        ]
    )


def affordable(dim: int) -> int:
    """How many rows a table of embeddings of `dim` numbers may have."""
    return MAX_BYTES // (2 * dim + 48)


def levels(finest: Cells) -> Iterator[Cells]:
    """All levels from 1 to the finest, made from it."""
    for level in range(1, finest.level):
        yield coarser(finest, level)
    yield finest


# ---------------------------------------------------------------- bytes


@dataclass(frozen=True)
class Table:
    """The table's bytes, what the manifest says of it, and its outboard."""

    data: bytes
    ref: PyramidRef
    outboard: bytes


def dump(spaces: Mapping[str, Cells], dim: int) -> Table:
    """The table of all levels of each space's finest cells, which are of one level; equal cells
    give equal bytes."""
    want, sink, count = schema(dim), io.BytesIO(), 0
    paths = [f"bbox.{f.name}" for f in want.field("bbox").type]
    with pq.ParquetWriter(
        sink,
        want,
        version="2.6",
        compression="zstd",
        use_dictionary=["space_id", "model_id"],
        write_statistics=[*STATISTICS[:3], *paths],
        # Footers are what a first look costs, and row groups are small: no index of pages.
        write_page_index=False,
        write_page_checksum=True,
        data_page_size=4 << 20,
    ) as writer:
        stamp = {"format": "embarchive", "kind": "pyramid", "version": VERSION}
        writer.add_key_value_metadata({"embarchive": json.dumps(stamp, sort_keys=True)})
        for space_id in sorted(spaces):
            for cells in levels(spaces[space_id]):
                for start in range(0, len(cells), GROUP_ROWS):
                    some = cells.pick(slice(start, start + GROUP_ROWS))
                    writer.write_table(_table(some, space_id, want))
                count += len(cells)
    data = sink.getvalue()
    outboard = digests.block_digests(data)
    footer = pq.read_metadata(pa.BufferReader(data)).serialized_size + 8
    level = max(cells.level for cells in spaces.values())
    ref = PyramidRef(
        digests.sha256(data), len(data), footer, count, level, digests.sha256(outboard)
    )
    return Table(data, ref, outboard)


def _table(cells: Cells, space_id: str, want: pa.Schema) -> pa.Table:
    n, names = len(cells), cells.names()
    flat = pa.array(np.ascontiguousarray(cells.mean).ravel())
    dates = [
        pa.array(moments, mask=moments == none).cast(want.field("datetime_min").type)
        for moments, none in ((cells.first, NO_FIRST), (cells.last, NO_LAST))
    ]
    return pa.Table.from_arrays(
        [
            pa.array([space_id] * n, pa.string()),
            pa.array(np.full(n, cells.level, np.int8)),
            pa.array(names.tolist(), pa.string()),
            rows.outer_boxes(names),
            pa.array(cells.count),
            pa.FixedSizeListArray.from_arrays(flat, type=want.field("mean").type),
            pa.array(cells.model.astype(str).tolist(), pa.string()),
            *dates,
        ],
        schema=want,
    )


def check_ref(ref: PyramidRef) -> None:
    """Raises Damaged for a reference that no table can have."""
    if not 12 <= ref.footer_length <= min(ref.length, MAX_FOOTER) or ref.length > MAX_FILE:
        found = f"{ref.footer_length} of {ref.length} bytes"
        raise Damaged(f"{_name(ref)}: expected a footer within the file, found {found}")
    if not 1 <= ref.level < LONGEST:
        raise Damaged(f"{_name(ref)}: expected a level of 1 to {LONGEST - 1}, found {ref.level}")


def parse_footer(tail: bytes, dim: int, ref: PyramidRef) -> pq.FileMetaData:
    """The metadata in a table's last bytes, checked against the schema, the manifest and our own
    limits. Raises Damaged or UnknownVersion."""
    name = _name(ref)
    if not 12 <= len(tail) <= MAX_FOOTER:
        raise Damaged(f"{name}: expected a footer of 12 to {MAX_FOOTER} bytes, found {len(tail)}")
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
        found = metadata.schema.to_arrow_schema().remove_metadata()
        stamp = json.loads((metadata.metadata or {}).get(b"embarchive", b"{}"))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"{name}: expected a Parquet footer, found {_first_line(error)}") from None
    if not isinstance(stamp, dict) or stamp.get("kind") != "pyramid":
        raise Damaged(f"{name}: expected an embarchive pyramid, found another Parquet file")
    if stamp.get("version") != VERSION:
        raise UnknownVersion(f"{name}: expected version {VERSION}, found {stamp.get('version')!r}")
    if found != schema(dim):
        raise Damaged(f"{name}: expected columns {schema(dim).names}, found {found.names}"[:400])
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    if metadata.num_rows != ref.rows or sum(g.num_rows for g in groups) != ref.rows:
        raise Damaged(f"{name}: expected {ref.rows} rows, found {metadata.num_rows}")
    limit = GROUP_ROWS * (8 * dim + 1024)
    if any(not 0 < g.num_rows <= GROUP_ROWS or not 0 <= g.total_byte_size <= limit for g in groups):
        raise Damaged(f"{name}: expected row groups of 1 to {GROUP_ROWS} rows, found others")
    return metadata


def parse(data: bytes, ref: PyramidRef) -> pa.Table:
    """A whole table but for its boxes, every value checked. Raises Damaged or UnknownVersion."""
    check_ref(ref)
    try:
        kind = pq.read_schema(pa.BufferReader(data)).field("mean").type
        dim = int(getattr(kind, "list_size", 0))
        metadata = parse_footer(data[-ref.footer_length :], dim, ref)
        file = pq.ParquetFile(
            pa.BufferReader(data), metadata=metadata, pre_buffer=False,
            page_checksum_verification=True,
        )  # fmt: skip
        names = [name for name in schema(dim).names if name != "bbox"]
        table = file.read(columns=names, use_threads=False).replace_schema_metadata(None)
    except (pa.ArrowException, OSError, ValueError, KeyError) as error:
        raise Damaged(
            f"{_name(ref)}: expected a Parquet table, found {_first_line(error)}"
        ) from None
    check_rows(table, ref, None, None)
    return table


def counts(table: pa.Table) -> dict[tuple[str, int], int]:
    """Rows that cells hold, by space and level."""
    found = table.group_by(["space_id", "level"]).aggregate([("count", "sum")]).to_pylist()
    return {(row["space_id"], row["level"]): row["count_sum"] for row in found}


def row_groups(tail: bytes, metadata: pq.FileMetaData, ref: PyramidRef) -> Groups:
    """The row groups of a table, by its last bytes and their metadata. Raises Damaged."""
    footer = footer_of(tail, _name(ref))
    return Groups(footer, group_places(footer), metadata, PYRAMID, _name(ref))


def groups_of(limits: Sequence[Limits], space_id: str | None, level: int | None) -> list[int]:
    """Row groups that are of a space and level by their limits (None: of any)."""
    wanted = {"space_id": space_id, "level": level}
    return [
        group
        for group, own in enumerate(limits)
        if all(one is None or own.get(key) == (one, one) for key, one in wanted.items())
    ]


def check_rows(table: pa.Table, ref: PyramidRef, space_id: str | None, level: int | None) -> None:
    """Raises Damaged unless rows, with all columns but bbox, are such as `dump` writes: sorted by
    space, level and geohash, each cell once, all of one space and level where those are given."""
    name = _name(ref)
    try:
        table.validate(full=True)
    except pa.ArrowException as error:
        raise Damaged(f"{name}: expected readable rows, found {_first_line(error)}") from None
    for key, pattern in (("geohash", CELL), ("model_id", f"|{SHA}")):
        if not pc.all(
            pc.match_substring_regex(table[key], rf"\A(?:{pattern})\z"), min_count=0
        ).as_py():
            raise Damaged(f"{name}: expected {key} to be {pattern}, found another text")
    length = pc.utf8_length(table["geohash"]).cast(pa.int8())
    checks: Iterable[tuple[str, Any]] = (
        ("levels that are the length of their geohashes", pc.equal(length, table["level"])),
        (f"levels of 1 to {ref.level}", pc.less_equal(table["level"], ref.level)),
        ("counts above 0", pc.greater(table["count"], 0)),
        (f"level {level} alone", pc.equal(table["level"], level or table["level"])),
        (f"space {space_id} alone", pc.equal(table["space_id"], space_id or table["space_id"])),
        ("counts of rows", pc.less(table["count"], 1 << 40)),
    )
    for expected, good in checks:
        if not pc.all(good, min_count=0).as_py():
            raise Damaged(f"{name}: expected {expected}, found others")
    keys = [rows.text_ranks(table["space_id"]), table["level"].to_numpy().astype(np.int64)]
    keys.append(rows.place_keys(table["geohash"]))
    same = np.ones(max(len(table) - 1, 0), bool)
    for key in keys:
        same &= key[1:] == key[:-1]
    if not rows.in_order(keys) or same.any():
        raise Damaged(f"{name}: expected each cell once and in order, found others")


def cells_of(table: pa.Table) -> Cells:
    """Checked rows of one space and level as arrays."""
    level = int(table["level"][0].as_py())
    first, last = (table[name].combine_chunks() for name in ("datetime_min", "datetime_max"))
    return Cells(
        level,
        codes_of(table["geohash"].to_pylist(), level),
        table["count"].to_numpy(),
        means(table),
        np.array([name.encode() for name in table["model_id"].to_pylist()], "S64"),
        rows.date_keys(first),
        last.cast(pa.int64()).fill_null(NO_LAST).to_numpy(zero_copy_only=False),
    )


def means(table: pa.Table) -> NDArray[np.int16]:
    """The column mean as int16 (n, D), 256ths of a step."""
    column = table["mean"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=False)
    found: NDArray[np.int16] = flat.reshape(len(column), column.type.list_size)
    return found


def _name(ref: PyramidRef) -> str:
    return f"pyramid {ref.sha256[:12]}"


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__
