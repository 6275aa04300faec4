"""Rows and Parquet bytes: what a shard is, how one is written and how part of one is read.

A shard is a GeoParquet 1.1 file of at most 32,768 rows sorted by (geohash, datetime,
source), null dates last. Nothing here touches storage: a shard is bytes with their hash,
and reading starts from a footer and the byte ranges it names.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from embarchive import digests, grid, heads
from embarchive.errors import BadInput, Damaged, EmbarchiveError, UnknownVersion
from embarchive.footers import MAX_FILE
from embarchive.quantisers import Quantiser
from embarchive.recipe import Settings
from embarchive.rows import ORDER, SIDES, schema, sort_rows

VERSION = 1
MAX_ROWS = 32_768
ROW_GROUP = 8_192
# 16 KB pages reach the browser's page pruning only when the writer looks at the page
# size often enough, hence the small batch.
PAGE_BYTES, BATCH_ROWS = 16_384, 128
MAX_FOOTER = 4 << 20
DICTIONARY = ("embedding.list.element", "model_id", "source")
STATISTICS = ("geohash", "datetime", *(f"bbox.{side}" for side in SIDES))
# What a head holds beside the footer: columns that say which rows there are, where they are short.
HEAD_COLUMNS, HEAD_CHUNK = ("geohash", "datetime", "model_id", "source", "valid_fraction"), 16_384


@dataclass(frozen=True)
class Shard:
    """One shard's bytes with what the manifest says of them.

    footer_length: bytes from the first page index to the end (page indexes, metadata,
    length, magic); outboard: 16 bytes per 16 KiB block, then the head of a shard that is not
    always fetched whole; bbox: west south east north of the cells, degrees; datetimes UTC or
    None when no row has one.
    """

    data: bytes
    sha256: str
    length: int
    footer_length: int
    outboard: bytes
    rows: int
    geohash_min: str
    geohash_max: str
    bbox: tuple[float, float, float, float]
    datetime_min: datetime | None
    datetime_max: datetime | None
    model_ids: tuple[str, ...]


# ---------------------------------------------------------------- writing


def geo_metadata(cells: NDArray[np.float64]) -> dict[str, Any]:
    """The GeoParquet 1.1 `geo` value for cells (n, 4) west south east north, degrees."""
    return {
        "version": "1.1.0",
        "primary_column": "geometry",
        "columns": {
            "geometry": {
                "encoding": "WKB",
                "geometry_types": ["Polygon"],
                "edges": "planar",
                "orientation": "counterclockwise",
                "bbox": list(_extent(cells)),
                "covering": {"bbox": {k: ["bbox", k] for k in SIDES}},
            }
        },
    }


def emb_metadata(
    settings: Settings,
    space_id: str,
    encoder: str | None,
    scale: float,
    quantiser: Quantiser | None = None,
) -> dict[str, Any]:
    """The `emb` value: the STAC embedding extension's names for this archive and space."""
    models = [f"../../models/{encoder}.safetensors"] if encoder else []
    return {
        "emb:type": "chip",
        "emb:dimensions": quantiser.dim if quantiser else settings.dim,
        "data_type": "int8",
        "gsd": settings.gsd,
        "emb:chip_layout": {
            "layout_type": "named_grid",
            "chip_size": [settings.height, settings.width],
            "grid_id": f"geohash-{settings.precision}",
        },
        "emb:quantization": {
            "method": quantiser.name if quantiser else "linear",
            "original_dtype": "float32",
            "quantized_dtype": "int8",
            "scale": [scale],
            "offset": [0.0],
        },
        "emb:runtime_parameters": {"bands": list(settings.bands), "space_id": space_id},
        "links": [{"rel": "emb:model", "href": href} for href in models],
        "attribution": settings.attribution,
        "license": settings.licence,
    }


def write_shards(table: pa.Table, emb: Mapping[str, Any]) -> list[Shard]:
    """The rows as one shard or, above 32,768 rows, several in order. Raises BadInput."""
    rows = sort_rows(table)
    return [
        write_shard(rows.slice(start, MAX_ROWS), emb) for start in range(0, len(rows), MAX_ROWS)
    ]


def write_shard(table: pa.Table, emb: Mapping[str, Any]) -> Shard:
    """One shard of at most 32,768 rows; the same rows give the same bytes.

    emb: the `emb` footer value, see `emb_metadata`. Raises BadInput when rows are missing
    or too many, or the table's columns are not a shard's.
    """
    if not 0 < len(table) <= MAX_ROWS:
        raise BadInput(f"shard: expected 1 to {MAX_ROWS} rows, found {len(table)}")
    rows = _canonical(table)
    names = rows["geohash"].to_pylist()
    cells = grid.bounds(np.unique(np.asarray(names, dtype=np.str_)))
    extra = {
        "geo": geo_metadata(cells),
        "emb": dict(emb),
        "embarchive": {"format": "embarchive", "version": VERSION},
    }
    data = _parquet(rows, {key: _json(value) for key, value in extra.items()})
    metadata = pq.read_metadata(pa.BufferReader(data))
    footer = len(data) - _data_end(metadata)
    when = pa.compute.min_max(rows["datetime"]).as_py()
    return Shard(
        data=data,
        sha256=digests.sha256(data),
        length=len(data),
        footer_length=footer,
        outboard=make_outboard(data, metadata, footer),
        rows=len(rows),
        geohash_min=names[0],
        geohash_max=names[-1],
        bbox=_extent(cells),
        datetime_min=when["min"],
        datetime_max=when["max"],
        # The empty text is that of rows without a decoder.
        model_ids=tuple(sorted(filter(None, rows["model_id"].unique().to_pylist()))),
    )


def make_outboard(data: bytes, metadata: pq.FileMetaData, footer_length: int) -> bytes:
    """The digests of a shard's blocks and, unless it is small, its head: the footer, and of each
    row group the column chunks of HEAD_COLUMNS, and the dictionaries of others, that are at most
    16 KiB long."""
    found = digests.block_digests(data)
    if len(data) <= heads.WHOLE_BYTES:
        return found
    chunks = column_ranges(metadata, range(metadata.num_row_groups), HEAD_COLUMNS)
    every = [*chunks, *_dictionaries(metadata)]
    short = [(start, end) for start, end in every if end - start <= HEAD_CHUNK]
    return found + heads.pack(data, [*short, (len(data) - footer_length, len(data))])


def _dictionaries(metadata: pq.FileMetaData) -> list[tuple[int, int]]:
    """Byte ranges [start, end) of all dictionary pages, which any row of their column needs."""
    groups = [metadata.row_group(group) for group in range(metadata.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    found = [(one.dictionary_page_offset, one.data_page_offset) for one in chunks]
    return [(start, end) for start, end in found if start is not None and start < end]


def _canonical(table: pa.Table) -> pa.Table:
    """Sorted rows in the shard schema, dictionaries rebuilt so that bytes depend on values."""
    kinds = {field.name: field.type for field in table.schema}
    dim = kinds["embedding"].list_size if "embedding" in kinds else 0
    packed = kinds["packed"].byte_width if "packed" in kinds else 0
    want = schema(dim, kinds["bits"].byte_width * 8 if "bits" in kinds else 0, packed)
    if table.schema.remove_metadata() != want:
        raise BadInput(f"shard: expected columns {want.names}, found {table.schema.names}")
    rows = sort_rows(table)
    for name in ("model_id", "source"):
        place = rows.schema.get_field_index(name)
        text = rows[name].cast(pa.string()).combine_chunks()
        rows = rows.set_column(place, want.field(name), text.dictionary_encode())
    return rows.combine_chunks()


def _parquet(rows: pa.Table, extra: Mapping[str, str]) -> bytes:
    sink = io.BytesIO()
    paths = [p for f in rows.schema for p in _leaves(f)]
    with pq.ParquetWriter(
        sink,
        rows.schema,
        version="2.6",
        # codes are random: compression costs the page its fast path and saves nothing
        compression={path: "none" if path in ("bits", "packed") else "zstd" for path in paths},
        use_dictionary=list(DICTIONARY),
        write_statistics=list(STATISTICS),
        write_page_index=True,
        write_page_checksum=True,
        data_page_size=PAGE_BYTES,
        write_batch_size=BATCH_ROWS,
        sorting_columns=pq.SortingColumn.from_ordering(
            rows.schema, [(name, "ascending") for name in ORDER], null_placement="at_end"
        ),
    ) as writer:
        writer.add_key_value_metadata(dict(extra))
        writer.write_table(rows, row_group_size=ROW_GROUP)
    return sink.getvalue()


# ---------------------------------------------------------------- reading


def parse_footer(
    tail: bytes, dim: int, bits: int, name: str = "shard", packed: int = 0
) -> pq.FileMetaData:
    """The metadata in a shard's last bytes, checked against the schema and our own limits.

    tail: at least the metadata, its length and the magic; dim, bits, packed: see `rows.schema`.
    Raises Damaged or UnknownVersion.
    """
    if not 12 <= len(tail) <= MAX_FOOTER:
        raise Damaged(f"{name}: expected a footer of 12 to {MAX_FOOTER} bytes, found {len(tail)}")
    try:
        metadata = pq.read_metadata(pa.BufferReader(tail))
        found = metadata.schema.to_arrow_schema().remove_metadata()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"{name}: expected a Parquet footer, found {_first_line(error)}") from None
    _check_version(metadata, name)
    if found != schema(dim, bits, packed):
        want = schema(dim, bits, packed).names
        raise Damaged(f"{name}: expected columns {want}, found {found.names} or other types")
    if not 0 < metadata.num_rows <= MAX_ROWS or metadata.num_row_groups > MAX_ROWS // 64:
        raise Damaged(
            f"{name}: expected 1 to {MAX_ROWS} rows, found {metadata.num_rows} "
            f"in {metadata.num_row_groups} row groups"
        )
    groups = [metadata.row_group(g) for g in range(metadata.num_row_groups)]
    if sum(g.num_rows for g in groups) != metadata.num_rows:
        raise Damaged(f"{name}: expected {metadata.num_rows} rows, found another sum of groups")
    limit = MAX_ROWS * (dim * 8 + 4096)
    if any(not 0 <= g.total_byte_size <= limit for g in groups):
        raise Damaged(f"{name}: expected row groups under {limit} bytes, found a larger one")
    return metadata


def _check_version(metadata: pq.FileMetaData, name: str) -> None:
    try:
        stamp = json.loads((metadata.metadata or {}).get(b"embarchive", b"null"))
        found = (stamp["format"], stamp["version"])
    except (ValueError, TypeError, KeyError):
        raise Damaged(f"{name}: expected an embarchive shard, found another Parquet file") from None
    if found != ("embarchive", VERSION):
        raise UnknownVersion(f"{name}: expected embarchive shard version {VERSION}, found {found}")


def column_ranges(
    metadata: pq.FileMetaData, row_groups: Iterable[int], columns: Iterable[str]
) -> list[tuple[int, int]]:
    """Byte ranges [start, end) of the named top-level columns, in file order."""
    wanted = set(columns)
    ranges = []
    for group in row_groups:
        row_group = metadata.row_group(group)
        for index in range(row_group.num_columns):
            chunk = row_group.column(index)
            if chunk.path_in_schema.split(".")[0] in wanted:
                ranges.append(_chunk_range(chunk))
    return sorted(ranges)


def read_rows(
    file: Any, metadata: pq.FileMetaData | None, row_groups: Sequence[int], columns: Sequence[str]
) -> pa.Table:
    """Rows of the row groups, the named columns in schema order. `file` is file-like and is
    asked only for the ranges that `column_ranges` names. Raises Damaged."""
    try:
        # Read ahead, a thread of arrow may hold Python's bytes when the process ends: it aborts.
        parquet = pq.ParquetFile(
            file, metadata=metadata, pre_buffer=False, page_checksum_verification=True
        )
        table = parquet.read_row_groups(list(row_groups), columns=list(columns), use_threads=False)
    except EmbarchiveError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Damaged(f"shard: expected readable columns, found {_first_line(error)}") from None
    return table.replace_schema_metadata(None)


def _chunk_range(chunk: Any) -> tuple[int, int]:
    start = chunk.data_page_offset
    if chunk.dictionary_page_offset is not None:
        start = min(start, chunk.dictionary_page_offset)
    end = start + chunk.total_compressed_size
    if not 4 <= start < end <= MAX_FILE:
        raise Damaged(f"shard: expected a column inside the file, found bytes {start} to {end}")
    return start, end


def _data_end(metadata: pq.FileMetaData) -> int:
    names = {metadata.schema.column(i).path.split(".")[0] for i in range(metadata.num_columns)}
    return column_ranges(metadata, [metadata.num_row_groups - 1], names)[-1][1]


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:200] or type(error).__name__


def _leaves(field: pa.Field) -> list[str]:
    if pa.types.is_struct(field.type):
        return [f"{field.name}.{child.name}" for child in field.type]
    if pa.types.is_fixed_size_list(field.type):
        return [f"{field.name}.list.element"]
    return [field.name]


def _extent(cells: NDArray[np.float64]) -> tuple[float, float, float, float]:
    west, south = cells[:, :2].min(axis=0).tolist()
    east, north = cells[:, 2:].max(axis=0).tolist()
    return west, south, east, north


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
