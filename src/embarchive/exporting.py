"""Rows of an archive, with their vectors, in one file that any other tool reads.

Shard after shard, so that memory is bounded by a shard and the reader's cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from embarchive import grid, save, shards
from embarchive.archive import Archive
from embarchive.errors import BadInput
from embarchive.filters import make_filter
from embarchive.manifest import Space
from embarchive.progress import Report
from embarchive.quantize import Int8
from embarchive.reads import ReadPlan
from embarchive.rows import SIDES, cell_names, embeddings

LEFT_OUT = ("bits", "code", "input_digest")
GROUP_BYTES = 32 << 20
Put = Callable[[pa.Table], None]


@dataclass(frozen=True)
class Wanted:
    """Which rows and columns: a box west south east north, a polygon, a date or a range, a space
    (default the newest), columns (default all but bits, code and input_digest); int8: vectors as
    they are stored; band: of an archive of single bands only this one."""

    bbox: Sequence[float] | None = None
    polygon: Any = None
    datetime: Any = None
    space: str | None = None
    columns: Sequence[str] | None = None
    int8: bool = False
    band: str | None = None


def export(archive: Archive, path: str | Path, wanted: Wanted, progress: Report) -> dict[str, Any]:
    """Write rows as .parquet (GeoParquet 1.1), .geojson or .csv; the `export` document of the
    command line. Vectors are float32 lists in embedding units, in .csv a column a number. Raises
    BadInput."""
    make = _kind(path)
    space = archive.space(wanted.space)
    names = _columns(archive, wanted)
    where = make_filter(wanted.bbox, wanted.polygon, None, wanted.datetime)
    chosen = archive.in_band(where, wanted.band)
    plan = archive.plan(chosen, space.space_id)
    count, held = 0, 0
    found: list[pa.Table] = []
    with save.aside(path) as part, make(part, space, wanted.int8) as put:
        for done, read in enumerate(plan.reads, 1):
            rows = archive.reader.rows(ReadPlan((read,)), chosen, names)
            found.append(_plain(rows.select(names), space, wanted.int8))
            count, held = count + len(rows), held + found[-1].nbytes
            # Shards may be small: a group of rows in a file should not be.
            if held > GROUP_BYTES or done == len(plan.reads):
                put(pa.concat_tables(found).combine_chunks())
                found, held = [], 0
            progress("export", done, len(plan.reads))
        if not count:
            raise BadInput("export: expected rows that match, found none")
    return {
        "out": str(path),
        "rows": count,
        "space_id": space.space_id,
        "scale": space.scale,
        "columns": list(names),
        "bytes": Path(path).stat().st_size,
    }


def _columns(archive: Archive, wanted: Wanted) -> list[str]:
    """Columns in the order of a shard; geohash, bbox and geometry always."""
    known = archive.reader.schema.names
    if wanted.columns is None:
        return [name for name in known if name not in LEFT_OUT]
    place = ("geohash", "bbox", "geometry")
    return list(archive.reader.check_columns([*place, *wanted.columns]))


def _plain(rows: pa.Table, space: Space, int8: bool) -> pa.Table:
    """Rows with texts as texts, and vectors as floats unless int8."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_dictionary(field.type):
            rows = rows.set_column(place, field.name, rows[field.name].cast(pa.string()))
        elif field.name == "embedding" and not int8:
            numbers = Int8(space.scale).decode(embeddings(rows))
            flat = pa.array(numbers.ravel())
            lists = pa.FixedSizeListArray.from_arrays(flat, numbers.shape[1])
            rows = rows.set_column(place, field.name, lists)
    return rows.combine_chunks()


# ---------------------------------------------------------------- files


@contextmanager
def _parquet(path: Path, space: Space, int8: bool) -> Iterator[Put]:
    """GeoParquet; its stamp has the int8 step, so that an import finds the same numbers."""
    extents: list[Any] = []
    writer: list[pq.ParquetWriter] = []

    def put(rows: pa.Table) -> None:
        if not len(rows):
            return
        cells = grid.bounds(cell_names(rows["geohash"]))
        extents.append(np.concatenate([cells[:, :2].min(axis=0), cells[:, 2:].max(axis=0)]))
        if not writer:
            writer.append(pq.ParquetWriter(path, rows.schema, version="2.6", compression="zstd"))
        writer[0].write_table(rows)

    try:
        yield put
        if writer:
            stamp = {"format": "embarchive", "kind": "export", "version": shards.VERSION}
            stamp |= {"space_id": space.space_id, "scale": space.scale}
            extra = {"geo": shards.geo_metadata(np.stack(extents)), "embarchive": stamp}
            texts = {key: json.dumps(value, sort_keys=True) for key, value in extra.items()}
            writer[0].add_key_value_metadata(texts)
    finally:
        for one in writer:
            one.close()


@contextmanager
def _csv(path: Path, space: Space, int8: bool) -> Iterator[Put]:
    """Bounds as four columns, vectors as a column a number, bytes in hex."""
    writer: list[pacsv.CSVWriter] = []

    def put(rows: pa.Table) -> None:
        flat = _flat(rows)
        if not writer:
            writer.append(pacsv.CSVWriter(path, flat.schema))
        writer[0].write_table(flat)

    try:
        yield put
    finally:
        for one in writer:
            one.close()


def _flat(rows: pa.Table) -> pa.Table:
    columns: dict[str, Any] = {}
    for field in rows.schema:
        column = rows[field.name]
        if field.name == "embedding":
            numbers = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
            numbers = numbers.reshape(len(rows), field.type.list_size)
            columns |= {f"embedding_{i}": pa.array(one) for i, one in enumerate(numbers.T)}
        elif field.name == "bbox":
            cells = grid.bounds(cell_names(rows["geohash"]))
            columns |= dict(zip(SIDES, map(pa.array, cells.T), strict=True))
        elif field.name == "datetime":
            columns["datetime"] = pa.array(map(save.plain, column.to_pylist()), pa.string())
        elif pa.types.is_binary(field.type) or pa.types.is_fixed_size_binary(field.type):
            if field.name != "geometry":
                columns[field.name] = pa.array(map(save.plain, column.to_pylist()), pa.string())
        else:
            columns[field.name] = column
    return pa.table(columns)


@contextmanager
def _geojson(path: Path, space: Space, int8: bool) -> Iterator[Put]:
    with path.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        between = ""

        def put(rows: pa.Table) -> None:
            nonlocal between
            for feature in save.features(rows.drop_columns(["geometry"])):
                file.write(f"{between}\n{json.dumps(feature, allow_nan=False)}")
                between = ","

        yield put
        file.write("\n]}\n")


_KINDS: dict[str, Callable[[Path, Space, bool], AbstractContextManager[Put]]] = {
    ".parquet": _parquet,
    ".geojson": _geojson,
    ".csv": _csv,
}


def _kind(path: str | Path) -> Callable[[Path, Space, bool], AbstractContextManager[Put]]:
    return save.kind(path, _KINDS)
