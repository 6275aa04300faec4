"""The manifest's Parquet tables: parts (one row a shard) and models (one row a model).

Written canonically (equal rows give equal bytes) and read with every value checked. Pure:
tables and bytes, no storage.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from embarchive import grid
from embarchive.errors import BadInput, Damaged, UnknownVersion

VERSION = 1
MAX_TABLE_BYTES = 64 << 20
MAX_TABLE_ROWS = 1 << 20
MAX_UNPACKED = 512 << 20
MAX_LENGTH = 1 << 40
# Years 1 to 9999 as microseconds since 1970: the times that Python has.
YEARS = (-62_135_596_800_000_000, 253_402_300_799_999_999)
SHA = "[0-9a-f]{64}"
CELL = f"[{grid.ALPHABET}]{{1,12}}"
KINDS = ("adapter", "full", "shared", "encoder", "backbone")
SIDES = ("xmin", "ymin", "xmax", "ymax")
GEOHASHES = ("geohash_min", "geohash_max")


def _field(name: str, kind: pa.DataType, nullable: bool = False) -> pa.Field:
    return pa.field(name, kind, nullable=nullable)


_MOMENT = pa.timestamp("us", tz="UTC")
PART_SCHEMA = pa.schema(
    [
        _field("prefix", pa.string()),
        _field("geohash_min", pa.string()),
        _field("geohash_max", pa.string()),
        _field("sha256", pa.string()),
        _field("length", pa.int64()),
        _field("footer_length", pa.int64()),
        _field("rows", pa.int64()),
        _field("bbox", pa.struct([_field(side, pa.float64()) for side in SIDES])),
        _field("datetime_min", _MOMENT, True),
        _field("datetime_max", _MOMENT, True),
        _field("space_id", pa.string()),
        _field("model_ids", pa.list_(_field("element", pa.string()))),
        _field("blocks", pa.string()),
    ]
)
MODEL_SCHEMA = pa.schema(
    [
        _field("model_id", pa.string()),
        _field("length", pa.int64()),
        _field("kind", pa.string()),
        _field("region", pa.string(), True),
        _field("space_id", pa.string()),
        _field("backbone", pa.string(), True),
        _field("backbone_length", pa.int64(), True),
        _field("card_sha256", pa.string(), True),
        _field("card_length", pa.int64(), True),
        _field("onnx_sha256", pa.string(), True),
        _field("onnx_length", pa.int64(), True),
        _field("train_tiles", pa.int64(), True),
        _field("test_tiles", pa.int64(), True),
        *(
            _field(name, pa.float64(), True)
            for name in ("mse", "mse_tile_mean", "mse_pca", "psnr", "psnr_peak", "index_mae")
        ),
    ]
)


@dataclass(frozen=True)
class ShardRow:
    """One row of a part: a shard and what it holds.

    prefix: geohash prefix of the archive's shard length; length, footer_length: bytes;
    bbox: west south east north, degrees; datetimes UTC or None; blocks: sha256 of the
    shard's outboard.
    """

    prefix: str
    geohash_min: str
    geohash_max: str
    sha256: str
    length: int
    footer_length: int
    rows: int
    bbox: tuple[float, float, float, float]
    datetime_min: datetime | None
    datetime_max: datetime | None
    space_id: str
    model_ids: tuple[str, ...]
    blocks: str


@dataclass(frozen=True)
class PartRef:
    """A part and what its shards hold together.

    length: bytes of the part; rows, shard_bytes: sums over its shards; bbox: degrees; datetimes
    UTC or None.
    """

    sha256: str
    length: int
    rows: int
    shards: int
    geohash_min: str
    geohash_max: str
    bbox: tuple[float, float, float, float]
    datetime_min: datetime | None
    datetime_max: datetime | None
    shard_bytes: int


@dataclass(frozen=True)
class PyramidRef:
    """The pyramid's table by content: length, footer_length (from the end of the last column):
    bytes; level: the finest; blocks: sha256 of its outboard."""

    sha256: str
    length: int
    footer_length: int
    rows: int
    level: int
    blocks: str


# ---------------------------------------------------------------- tables


def part_table(shards: Iterable[ShardRow]) -> pa.Table:
    """Shards as a part table, sorted by (prefix, geohash_min, geohash_max, sha256)."""
    rows = [{f.name: getattr(shard, f.name) for f in fields(ShardRow)} for shard in shards]
    for row in rows:
        row["bbox"] = dict(zip(SIDES, row["bbox"], strict=True))
    return sort_part(pa.Table.from_pylist(rows, schema=PART_SCHEMA))


def sort_part(table: pa.Table) -> pa.Table:
    """The canonical order of a part's rows."""
    names = ("prefix", "geohash_min", "geohash_max", "sha256")
    return table.sort_by([(name, "ascending") for name in names]).combine_chunks()


def models_table(rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Models as a table sorted by region, those of one region in the order given, which is by
    age; absent keys are null. Raises BadInput on an unknown key or a value of another type."""
    listed = [dict(row) for row in rows]
    for row in listed:
        odd = sorted(set(row) - set(MODEL_SCHEMA.names))
        if odd:
            raise BadInput(f"model row: expected keys {MODEL_SCHEMA.names}, found {odd}")
    try:
        table = pa.Table.from_pylist(listed, schema=MODEL_SCHEMA)
    except pa.ArrowException as error:
        raise BadInput(f"model row: {str(error)[:200]}") from None
    for f in MODEL_SCHEMA:
        if not f.nullable and table[f.name].null_count:
            raise BadInput(f"model row: expected {f.name}, found none")
    return table.sort_by([("region", "ascending")]).combine_chunks()


def dump_part(table: pa.Table) -> bytes:
    """A part as Parquet; equal rows give equal bytes. Raises BadInput for rows that no
    reader would take."""
    rows = sort_part(table.select(PART_SCHEMA.names).cast(PART_SCHEMA))
    _before_writing(_check_part, rows, "part")
    return dump_table(rows, "part")


def dump_models(table: pa.Table) -> bytes:
    """A models table as Parquet; equal rows give equal bytes. Raises BadInput for rows that
    no reader would take."""
    rows = table.select(MODEL_SCHEMA.names).cast(MODEL_SCHEMA).combine_chunks()
    _before_writing(_check_models, rows, "models table")
    return dump_table(rows, "models")


def _before_writing(check: Callable[[pa.Table, str], None], rows: pa.Table, name: str) -> None:
    try:
        check(rows, name)
    except Damaged as error:
        raise BadInput(str(error)) from None


def parse_part(data: bytes, part: PartRef | None = None) -> pa.Table:
    """A part's table, every value checked, also against its reference.

    Raises Damaged or UnknownVersion.
    """
    name = f"part {part.sha256[:12]}" if part else "part"
    table = parse_table(data, "part", PART_SCHEMA, name)
    _check_part(table, name)
    if part is not None and part_ref(table, part.sha256, part.length) != part:
        raise Damaged(f"{name}: expected the totals of its reference, found others")
    return table


def _check_part(table: pa.Table, name: str) -> None:
    check_text(table, name, ["sha256", "blocks"], SHA)
    check_text(table, name, ["prefix", *GEOHASHES], CELL)
    for column, low, high in (
        ("length", 12, MAX_LENGTH),
        ("footer_length", 8, MAX_LENGTH),
        ("rows", 1, 1 << 32),
    ):
        check_numbers(table[column], name, column, low, high)
    if pc.any(pc.greater(table["footer_length"], table["length"])).as_py():
        raise Damaged(f"{name}: expected footers within their shards, found a longer one")
    box = table["bbox"].combine_chunks()
    for side, limit in zip(SIDES, (180.0, 90.0, 180.0, 90.0), strict=True):
        check_numbers(pc.struct_field(box, side), name, f"bbox.{side}", -limit, limit)
    for column in ("datetime_min", "datetime_max"):
        check_numbers(table[column].cast(pa.int64()), name, column, *YEARS)
    if pc.any(pc.invert(_within_prefix(table))).as_py():
        raise Damaged(f"{name}: expected geohashes under their prefix, found others")


def parse_models(data: bytes) -> pa.Table:
    """The models table, every value checked. Raises Damaged or UnknownVersion."""
    table = parse_table(data, "models", MODEL_SCHEMA, "models table")
    _check_models(table, "models table")
    return table


def _check_models(table: pa.Table, name: str) -> None:
    names = ["model_id", "backbone", "card_sha256", "onnx_sha256"]
    check_text(table, name, names, SHA)
    check_text(table, name, ["kind"], "|".join(KINDS))
    for column in ("length", "backbone_length", "card_length", "onnx_length"):
        check_numbers(table[column], name, column, 1, MAX_LENGTH)


def model_objects(row: Mapping[str, Any]) -> list[tuple[str, str, int]]:
    """(kind, sha256, length) of the objects that a row of the models table names."""
    named = (
        ("model", "model_id", "length"),
        ("model", "backbone", "backbone_length"),
        ("model-card", "card_sha256", "card_length"),
        ("model-onnx", "onnx_sha256", "onnx_length"),
    )
    return [(kind, row[sha], row[length] or 0) for kind, sha, length in named if row[sha]]


def part_ref(table: pa.Table, sha256: str, length: int) -> PartRef:
    """What a part's shards hold together."""
    box = table["bbox"].combine_chunks()
    sides = [pc.struct_field(box, side) for side in SIDES]
    return PartRef(
        sha256=sha256,
        length=length,
        rows=pc.sum(table["rows"]).as_py(),
        shards=len(table),
        geohash_min=pc.min(table["geohash_min"]).as_py(),
        geohash_max=pc.max(table["geohash_max"]).as_py(),
        bbox=(
            pc.min(sides[0]).as_py(),
            pc.min(sides[1]).as_py(),
            pc.max(sides[2]).as_py(),
            pc.max(sides[3]).as_py(),
        ),
        datetime_min=pc.min(table["datetime_min"]).as_py(),
        datetime_max=pc.max(table["datetime_max"]).as_py(),
        shard_bytes=pc.sum(table["length"]).as_py(),
    )


# ---------------------------------------------------------------- Parquet


def dump_table(table: pa.Table, kind: str) -> bytes:
    """A table of a kind as Parquet; equal rows give equal bytes."""
    stamp = {"format": "embarchive", "kind": kind, "version": VERSION}
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink,
        table.schema,
        version="2.6",
        compression="zstd",
        store_schema=False,
        write_page_checksum=True,
    ) as writer:
        writer.add_key_value_metadata({"embarchive": json.dumps(stamp, sort_keys=True)})
        writer.write_table(table, row_group_size=MAX_TABLE_ROWS)
    return sink.getvalue()


def parse_table(data: bytes, kind: str, schema: pa.Schema, name: str) -> pa.Table:
    """A table of a kind, its columns checked, not its values. Raises Damaged or UnknownVersion."""
    if len(data) > MAX_TABLE_BYTES:
        raise Damaged(f"{name}: expected at most {MAX_TABLE_BYTES} bytes, found {len(data)}")
    try:
        file = pq.ParquetFile(
            pa.BufferReader(data), pre_buffer=False, page_checksum_verification=True
        )
        _check_stamp(file.metadata, kind, name)
        unpacked = sum(
            file.metadata.row_group(g).total_byte_size for g in range(file.metadata.num_row_groups)
        )
        if not 0 <= file.metadata.num_rows <= MAX_TABLE_ROWS or unpacked > MAX_UNPACKED:
            raise Damaged(
                f"{name}: expected at most {MAX_TABLE_ROWS} rows and {MAX_UNPACKED} bytes, "
                f"found {file.metadata.num_rows} and {unpacked}"
            )
        found = file.schema_arrow.remove_metadata()
        if found != schema:
            raise Damaged(f"{name}: expected columns {schema.names}, found {found.names}")
        table = file.read(use_threads=False).replace_schema_metadata(None).combine_chunks()
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().split("\n")[0][:160]
        raise Damaged(f"{name}: expected a Parquet table, found {reason}") from None


def _check_stamp(metadata: pq.FileMetaData, kind: str, name: str) -> None:
    try:
        stamp = json.loads((metadata.metadata or {}).get(b"embarchive", b"null"))
        found = (stamp["format"], stamp["kind"], stamp["version"])
    except (ValueError, TypeError, KeyError):
        raise Damaged(f"{name}: expected an embarchive table, found another Parquet file") from None
    if found[:2] != ("embarchive", kind):
        raise Damaged(f"{name}: expected embarchive {kind}, found {found[0]!r} {found[1]!r}")
    if found[2] != VERSION:
        raise UnknownVersion(f"{name}: expected version {VERSION}, found {found[2]!r}")


def check_text(table: pa.Table, name: str, columns: list[str], pattern: str) -> None:
    """Raises Damaged unless all texts of the columns match the pattern as a whole."""
    for column in columns:
        values = table[column].drop_null()
        matches = pc.match_substring_regex(values, f"^(?:{pattern})$")
        # `$` also matches before a final newline in some engines: the length settles it
        newline = pc.match_substring(values, "\n")
        if not pc.all(matches, min_count=0).as_py() or pc.any(newline, min_count=0).as_py():
            raise Damaged(f"{name}: expected {column} to be {pattern}, found another value")


def check_numbers(values: Any, name: str, column: str, low: float, high: float) -> None:
    """Raises Damaged unless all numbers of a column are finite and within the limits."""
    least, most = pc.min_max(values).as_py().values()
    # NaN passes through min and max
    if not pc.all(pc.is_finite(values), min_count=0).as_py():
        raise Damaged(f"{name}: expected finite {column}, found another value")
    if least is not None and not low <= least <= most <= high:
        raise Damaged(f"{name}: expected {column} in {low} to {high}, found {least} to {most}")


def _within_prefix(table: pa.Table) -> Any:
    width = pc.max(pc.utf8_length(table["prefix"])).as_py() or 1
    if pc.min(pc.utf8_length(table["prefix"])).as_py() not in (None, width):
        return pa.array([False])
    ends = [pc.utf8_slice_codeunits(table[name], 0, width) for name in GEOHASHES]
    return pc.and_(*(pc.equal(end, table["prefix"]) for end in ends))
