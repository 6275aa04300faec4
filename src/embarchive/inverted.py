"""The lists of an overview: where they lie, and what one holds.

The index is a table of one row a list and segment: builds write one segment of each list, appends
add their own. A list is bytes: packed codes of its rows, then the cells they are of. Pure.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive import digests, parts
from embarchive.errors import BadInput, Damaged
from embarchive.parts import (
    MAX_LENGTH,
    SHA,
    VERSION,
    check_numbers,
    check_text,
    dump_table,
    parse_table,
)

INDEX_SCHEMA = pa.schema(
    [
        pa.field("space_id", pa.string(), nullable=False),
        pa.field("list", pa.int32(), nullable=False),
        pa.field("file", pa.string(), nullable=False),
        pa.field("file_length", pa.int64(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("digest", pa.binary(digests.DIGEST), nullable=False),
        pa.field("coarse", pa.string(), nullable=False),
        pa.field("coarse_length", pa.int64(), nullable=False),
    ]
)
LISTS_SCHEMA = pa.schema(
    [
        pa.field("list", pa.int32(), nullable=False),
        pa.field("rows", pa.int64(), nullable=False),
        pa.field("entries", pa.binary(), nullable=False),
    ]
)
MAX_ENTRIES, MAX_CODES = 1 << 26, 1 << 28
# Codes have no repeats to look for: the first level, which does not look, packs them best.
_CODEC = pa.Codec("zstd", 1)

Codes = NDArray[np.int8]
Cells = NDArray[np.uint64]


@dataclass(frozen=True)
class Segment:
    """Rows of one list: its number, and the bytes of its codes and cells."""

    number: int
    rows: int
    data: bytes


def index_table(rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Rows with the keys of INDEX_SCHEMA in their order: by space, list, then as they came."""
    found = pa.Table.from_pylist(list(rows), schema=INDEX_SCHEMA)
    return sort_index(found)


def sort_index(table: pa.Table) -> pa.Table:
    """The order of an index's rows: segments of a list stay as they are."""
    keys = [table["space_id"].dictionary_encode().combine_chunks(), table["list"]]
    order = pa.table({"space": keys[0].cast(pa.string()), "list": keys[1]})
    order = order.append_column("at", pa.array(np.arange(len(table))))
    sorting = [("space", "ascending"), ("list", "ascending"), ("at", "ascending")]
    return table.take(pa.compute.sort_indices(order, sort_keys=sorting)).combine_chunks()


def dump_index(table: pa.Table) -> bytes:
    """An index as Parquet; equal rows give equal bytes. Raises BadInput for rows that no reader
    would take."""
    if len(table) > parts.MAX_TABLE_ROWS:
        expected = f"at most {parts.MAX_TABLE_ROWS} segments"
        raise BadInput(f"overview: expected {expected}, found {len(table)}; run embarchive compact")
    rows = table.select(INDEX_SCHEMA.names).cast(INDEX_SCHEMA)
    try:
        _check_index(rows, "overview")
    except Damaged as error:
        raise BadInput(str(error)) from None
    return dump_table(rows, "overview")


def parse_index(data: bytes) -> pa.Table:
    """An index, every value checked. Raises Damaged or UnknownVersion."""
    table = parse_table(data, "overview", INDEX_SCHEMA, "overview")
    _check_index(table, "overview")
    return table


def _check_index(table: pa.Table, name: str) -> None:
    check_text(table, name, ["file", "coarse"], SHA)
    check_text(table, name, ["space_id"], "[0-9A-Za-z._-]{1,64}")
    for column, low, high in (
        ("list", 0, 1 << 20),
        ("file_length", 12, MAX_LENGTH),
        ("offset", 4, MAX_LENGTH),
        ("length", 2, MAX_ENTRIES),
        ("rows", 1, MAX_ENTRIES),
        ("coarse_length", 12, MAX_LENGTH),
    ):
        check_numbers(table[column], name, column, low, high)
    ends = pa.compute.add(table["offset"], table["length"])
    if pa.compute.any(pa.compute.greater(ends, table["file_length"]), min_count=0).as_py():
        raise Damaged(f"{name}: expected lists inside their files, found one beyond")
    _check_apart(table, name)
    for key, of in (("space_id", "coarse"), ("coarse", "coarse_length"), ("file", "file_length")):
        pairs = len(table.group_by([key, of]).aggregate([]))
        if pairs != len(table[key].unique()):
            raise Damaged(f"{name}: expected one {of} for each {key}, found several")


def _check_apart(table: pa.Table, name: str) -> None:
    """Raises Damaged where lists of a file overlap: a short index could name the same bytes so
    often that they unpack to more than there is memory."""
    files = table["file"].combine_chunks().dictionary_encode().indices.to_numpy()
    starts, lengths = table["offset"].to_numpy(), table["length"].to_numpy()
    order = np.lexsort((starts, files))
    files, starts, ends = files[order], starts[order], (starts + lengths)[order]
    over = (files[1:] == files[:-1]) & (starts[1:] < ends[:-1])
    if over.any():
        at = int(np.argmax(over))
        found = f"{starts[at]}-{ends[at]} and {starts[at + 1]}-{ends[at + 1]}"
        raise Damaged(f"{name}: expected lists beside each other, found bytes {found} of one file")


def objects(table: pa.Table) -> list[tuple[str, str, int]]:
    """(kind, sha256, length) of the objects that an index names."""
    found: dict[tuple[str, str, int], None] = {}
    for kind, column in (("model", "coarse"), ("overview", "file")):
        pairs = table.group_by([column, f"{column}_length"], use_threads=False).aggregate([])
        for row in pairs.to_pylist():
            found[kind, row[column], row[f"{column}_length"]] = None
    return list(found)


# ---------------------------------------------------------------- lists


def pack_segment(number: int, codes: Codes, cells: Cells) -> Segment:
    """Rows of a list, their codes int8 (n, D) and cells as numbers of 5 bits a letter (n,), in the
    order of cells: how many bytes the packed codes are, in 4; the codes by columns, as a frame of
    Zstandard; then each cell less the one before, 7 bits a byte, the lowest first, 128 added to all
    bytes of a number but its last. Raises BadInput for too many."""
    if codes.size > MAX_CODES:
        expected = f"at most {MAX_CODES} numbers a list"
        raise BadInput(f"overview: expected {expected}, found {codes.size}; ask for more lists")
    order = np.argsort(cells, kind="stable")
    gaps = np.diff(cells[order], prepend=np.uint64(0))
    packed = _CODEC.compress(np.ascontiguousarray(codes[order].T), asbytes=True)
    return Segment(number, len(codes), len(packed).to_bytes(4, "little") + packed + _varints(gaps))


def unpack_segment(data: bytes, rows: int, dim: int, end: int = 1 << 60) -> tuple[Codes, Cells]:
    """Codes by columns int8 (dim, rows) and cells uint64 (rows,), below `end`, of a list. Raises
    Damaged."""
    start = 4 + int.from_bytes(data[:4], "little")
    codes = _unpacked(data[4:start], rows, dim)
    body = np.frombuffer(data[start:], np.uint8)
    gaps = _numbers(body) if len(body) else np.zeros(0, np.uint64)
    if len(gaps) != rows:
        raise Damaged(f"overview: expected {rows} cells in a list, found {len(gaps)}")
    cells = np.cumsum(gaps, dtype=np.uint64)
    if rows and ((cells[1:] < cells[:-1]).any() or int(cells[-1]) >= end):
        raise Damaged(f"overview: expected cells below {end} in a list, found others")
    return codes, cells


def _unpacked(packed: bytes, rows: int, dim: int) -> Codes:
    if rows * dim > MAX_CODES:
        raise Damaged(f"overview: expected at most {MAX_CODES} numbers a list, found {rows * dim}")
    try:
        data = _CODEC.decompress(packed, rows * dim, asbytes=True)
    except (pa.ArrowException, OSError, ValueError):
        raise Damaged(f"overview: expected {rows * dim} packed numbers, found others") from None
    return np.frombuffer(data, np.int8).reshape(dim, rows)


def _varints(values: Cells) -> bytes:
    """Numbers below 2^63 as bytes of 7 bits."""
    places = np.arange(9, dtype=np.uint64)
    digits = (values[:, None] >> (7 * places)) & np.uint64(127)
    last = np.maximum(9 - np.argmax(digits[:, ::-1] > 0, axis=1), 1)
    last[~digits.any(axis=1)] = 1
    keep = np.arange(9) < last[:, None]
    more = np.arange(9) < last[:, None] - 1
    return bytes((digits + 128 * more).astype(np.uint8)[keep].tobytes())


def _numbers(body: NDArray[np.uint8]) -> Cells:
    """Inverse of `_varints`; a number that is cut off or longer than nine bytes raises Damaged."""
    ends = np.flatnonzero(body < 128)
    starts = np.r_[0, ends[:-1] + 1] if len(ends) else ends
    if not len(ends) or ends[-1] != len(body) - 1 or (ends - starts).max() > 8:
        raise Damaged("overview: expected cells of at most nine bytes, found others")
    place = np.arange(len(body)) - np.repeat(starts, ends - starts + 1)
    parts = (body & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return cast(Cells, np.add.reduceat(parts, starts))


def lists_file(segments: Sequence[Segment]) -> tuple[bytes, list[int]]:
    """Segments as one Parquet file, and where in it the bytes of each begin."""
    table = pa.table(
        [
            pa.array([one.number for one in segments], pa.int32()),
            pa.array([one.rows for one in segments], pa.int64()),
            pa.array([one.data for one in segments], pa.binary()),
        ],
        schema=LISTS_SCHEMA,
    )
    stamp = {"format": "embarchive", "kind": "lists", "version": VERSION}
    sink = io.BytesIO()
    # Lists are packed, and are read by their place in the file: neither compressed nor encoded.
    with pq.ParquetWriter(
        sink, table.schema, version="2.6", compression="none", use_dictionary=False,
        write_statistics=["list"], store_schema=False,
    ) as writer:  # fmt: skip
        writer.add_key_value_metadata({"embarchive": json.dumps(stamp, sort_keys=True)})
        writer.write_table(table, row_group_size=len(table))
    data, offsets, at = sink.getvalue(), [], 0
    for one in segments:
        at = data.index(len(one.data).to_bytes(4, "little") + one.data, at) + 4
        offsets.append(at)
        at += len(one.data)
    return data, offsets
