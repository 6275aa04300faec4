"""STAC Items as one Parquet table, and back: stac-geoparquet 1.1, a row an Item.

Properties are columns, geometry is WKB, and times are timestamps. Reading takes 1.0 and what older
writers left too; what all rows of a struct share as null an Item does not have.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embarchive.errors import BadInput
from embarchive.polygons import boxes_wkb

MAX_ITEMS = 100_000
MAX_UNPACKED = 2 << 30
TIMES = ("datetime", "start_datetime", "end_datetime")
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_TOP = ("type", "stac_version", "stac_extensions", "id", "links", "assets", "collection")
_MOMENT = pa.timestamp("us", tz="UTC")
_OWN = frozenset((*_TOP, "geometry", "bbox"))


def dump(items: Sequence[Mapping[str, Any]]) -> bytes:
    """Items whose geometry is their box, all with the same keys, as Parquet; equal Items give equal
    bytes."""
    boxes = np.array([item["bbox"] for item in items], dtype=np.float64).reshape(-1, 4)
    rows = [{**{key: item[key] for key in _TOP}, **item["properties"]} for item in items]
    names = dict.fromkeys(name for row in rows for name in row)
    table = pa.Table.from_pylist([{name: row.get(name) for name in names} for row in rows])
    for name in TIMES:
        when = [_moment(row.get(name)) for row in rows]
        column = pa.array(when, _MOMENT)
        at = table.schema.get_field_index(name)
        field = pa.field(name, _MOMENT)
        table = (
            table.append_column(field, column) if at < 0 else table.set_column(at, field, column)
        )
    sides = [pa.array(boxes[:, side]) for side in range(4)]
    table = table.append_column("bbox", pa.StructArray.from_arrays(sides, _SIDES))
    table = table.append_column("geometry", pa.array(boxes_wkb(boxes), pa.binary()))
    least, most = boxes.min(axis=0).tolist(), boxes.max(axis=0).tolist()
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"],
        "orientation": "counterclockwise",
        "bbox": [*least[:2], *most[2:]],
        "covering": {"bbox": {side: ["bbox", side] for side in _SIDES}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    said = {"geo": json.dumps(geo, sort_keys=True), "stac-geoparquet": '{"version":"1.1.0"}'}
    sink = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(said), sink, compression="zstd")
    return sink.getvalue()


def parse(data: bytes, name: str) -> list[dict[str, Any]]:
    """The Items of a stac-geoparquet file, as in JSON but without geometry and bbox. Raises
    BadInput for another file, more than 100,000 Items, or more than 2 GiB unpacked."""
    try:
        file = pq.ParquetFile(pa.BufferReader(data), pre_buffer=False)
        known = file.schema_arrow
        groups = [file.metadata.row_group(at) for at in range(file.metadata.num_row_groups)]
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadInput(f"{name}: expected stac-geoparquet, found {_line(error)}") from None
    if not {"id", "assets"} <= set(known.names) or not pa.types.is_struct(
        known.field("assets").type
    ):
        raise BadInput(
            f"{name}: expected stac-geoparquet with the columns id and assets, a struct; found "
            + ", ".join(known.names)[:120]
        )
    if file.metadata.num_rows > MAX_ITEMS:
        raise BadInput(
            f"{name}: expected at most {MAX_ITEMS} Items, found {file.metadata.num_rows}"
        )
    size = sum(group.total_byte_size for group in groups)
    if not 0 <= size <= MAX_UNPACKED:
        raise BadInput(f"{name}: expected at most {MAX_UNPACKED} bytes unpacked, found {size}")
    wanted = [one for one in known.names if one not in ("geometry", "bbox", "proj:geometry")]
    try:
        rows = _in_micros(file.read(columns=wanted, use_threads=False)).to_pylist()
    except (pa.ArrowException, OSError, ValueError, OverflowError) as error:
        raise BadInput(f"{name}: expected readable columns, found {_line(error)}") from None
    return [_item(row) for row in rows]


def _in_micros(table: pa.Table) -> pa.Table:
    """Python's times have no nanoseconds."""
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            coarse = table.column(at).cast(pa.timestamp("us", tz=field.type.tz), safe=False)
            table = table.set_column(at, field.name, coarse)
    return table


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {key: value for key, value in _plain(row).items() if value is not None}
    properties = {key: value for key, value in plain.items() if key not in _OWN}
    top = {key: value for key, value in plain.items() if key in _OWN}
    return {"type": "Feature", "assets": {}, **top, "properties": properties}


def _plain(value: Any) -> Any:
    """Values of JSON; of structs only what is not null: the others are other Items' keys."""
    if isinstance(value, Mapping):
        found = {key: _plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in found.items() if inner is not None}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    if isinstance(value, datetime):
        moment = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _moment(text: Any) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__
