"""Parquet files of embeddings, whoever made them: what their columns are.

Known without being told: a column of lists (Clay, Major TOM), or numbered columns (AlphaEarth's
A00 to A63, one per channel); a geometry, a longitude and a latitude, or a geohash; a date.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from embarchive import points
from embarchive.errors import BadInput, reason_of

VECTORS = ("embedding", "embeddings", "vector", "vectors", "features")
GEOMETRIES = ("geometry", "geom")
POINTS = (
    ("lon", "lat"), ("lng", "lat"), ("longitude", "latitude"), ("centre_lon", "centre_lat"),
    ("center_lon", "center_lat"), ("centroid_lon", "centroid_lat"),
)  # fmt: skip
DATES = ("datetime", "timestamp", "date", "acquired", "year")
# Fewer numbered columns than this are no vector.
LEAST_NUMBERED = 4
MAX_DIM = 4096
# Squared distances of vectors of MAX_DIM numbers at these int8 steps are normal float32 numbers.
LEAST_STEP, MOST_STEP = 1e-15, 1e15


@dataclass(frozen=True)
class Wishes:
    """The columns that a user names; None: found by their names and types."""

    vector: str | None = None
    geometry: str | None = None
    lon: str | None = None
    lat: str | None = None
    datetime: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Layout:
    """What the columns of one file are.

    vector: one column of lists, or numbered ones in order; kind: of its numbers; place: the
    geometry, a longitude and a latitude, or the geohash; crs: of the geometry, None for degrees;
    precision: of the geohashes, None without; valid: valid_fraction; scale: int8 step of the
    archive that the file was exported from, None for others.
    """

    path: Path
    rows: int
    vector: tuple[str, ...]
    dim: int
    kind: str
    place: tuple[str, ...]
    crs: Any
    precision: int | None
    datetime: str | None
    source: str | None
    valid: str | None
    scale: float | None

    @property
    def alphaearth(self) -> bool:
        """Whether the vectors are AlphaEarth's, whose bytes stand for squares."""
        return self.vector[0] == "A00" and len(self.vector) == 64

    @property
    def step(self) -> float | None:
        """The int8 step that the vectors have already, None where one is to be found."""
        return (
            1.0
            if self.scale is None and self.kind == "int8" and not self.alphaearth
            else self.scale
        )

    @property
    def said(self) -> str:
        """What errors call the file."""
        return f"import {self.path.name}"


def look(path: str | Path, wishes: Wishes) -> Layout:
    """What a file holds, from its schema and its first row. Raises BadInput."""
    where = f"import {Path(path).name}"
    file = open_parquet(path, where)
    schema, metadata = file.schema_arrow, file.metadata.metadata or {}
    if not file.metadata.num_rows:
        raise BadInput(f"{where}: expected rows, found none")
    _refuse_twins(schema, where)
    geo = _metadata(metadata, b"geo")
    vector = _vector(schema, wishes, where)
    place = _place(schema, wishes, geo, where)
    about = _nested(geo, "columns").get(place[0])
    crs = points.crs_of(schema.field(place[0]), about) if _shaped(schema, place) else None
    valid = _named(schema, None, ("valid_fraction",), where, "valid fraction")
    for name in (*(place if len(place) == 2 else ()), *([valid] if valid else [])):
        _check_numbers(schema, name, where)
    dim, precision = _first(file, vector, place, where)
    kind = schema.field(vector[0]).type
    return Layout(
        path=Path(path),
        rows=file.metadata.num_rows,
        vector=vector,
        dim=dim,
        kind=str(kind.value_type if _is_list(kind) else kind),
        place=place,
        crs=crs,
        precision=precision,
        datetime=_named(schema, wishes.datetime, DATES, where, "date"),
        # Of an export, what tells its rows apart.
        source=_named(
            schema, wishes.source, ("source",) * (precision is not None), where, "source"
        ),
        valid=valid,
        scale=_scale(metadata, where),
    )


def open_parquet(path: str | Path, where: str) -> pq.ParquetFile:
    """A Parquet file that is read as a stream. Raises BadInput."""
    try:
        return pq.ParquetFile(path, pre_buffer=False, buffer_size=1 << 20)
    except OSError as error:
        raise BadInput(f"{where}: cannot be read: {reason_of(error)}") from None
    except pa.ArrowException as error:
        raise BadInput(f"{where}: expected a Parquet file, found {first_line(error)}") from None


def _metadata(metadata: Mapping[bytes, bytes], key: bytes) -> dict[str, Any]:
    try:
        found = json.loads(metadata.get(key, b"{}"))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _nested(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object inside one of a stranger's; empty where something else stands there."""
    found = document.get(key)
    return found if isinstance(found, dict) else {}


def _refuse_twins(schema: pa.Schema, where: str) -> None:
    twins = [name for name, count in Counter(schema.names).items() if count > 1]
    if twins:
        raise BadInput(f"{where}: expected columns of different names, found two called {twins[0]}")


def _scale(metadata: Mapping[bytes, bytes], where: str) -> float | None:
    """The int8 step of the archive that a file is of: one of its shards, or an export. Raises
    BadInput for one whose squares distances cannot hold."""
    stamp = _metadata(metadata, b"embarchive").get("scale")
    if stamp is None:
        scales = _nested(_metadata(metadata, b"emb"), "emb:quantization").get("scale")
        stamp = scales[0] if isinstance(scales, list) and scales else None
    if not isinstance(stamp, int | float):
        return None
    if not LEAST_STEP <= stamp <= MOST_STEP:
        raise BadInput(
            f"{where}: expected an int8 scale of {LEAST_STEP:g} to {MOST_STEP:g} in the metadata, "
            f"found {str(stamp)[:20]}"
        )
    return float(stamp)


def _listing(schema: pa.Schema) -> str:
    names = [f"{field.name} ({str(field.type)[:40]})" for field in schema]
    return ", ".join(names[:40]) + (" and more" if len(names) > 40 else "")


def _named(
    schema: pa.Schema, wish: str | None, names: Sequence[str], where: str, what: str
) -> str | None:
    """The column that is wished for, or the first that is there of some names."""
    if wish is not None:
        if wish not in schema.names:
            raise BadInput(
                f"{where}: expected a column {wish} as the {what}, found {_listing(schema)}"
            )
        return wish
    own = {name.lower(): name for name in reversed(schema.names)}
    return next((own[name] for name in names if name in own), None)


def _is_list(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
    )


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds texts."""
    return bool(
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_int8(kind))


def _check_numbers(schema: pa.Schema, name: str, where: str) -> None:
    kind = schema.field(name).type
    known = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal)
    if not any(one(kind) for one in known):
        raise BadInput(f"{where}: expected {name} to be numbers, found {str(kind)[:40]}")


def _vector(schema: pa.Schema, wishes: Wishes, where: str) -> tuple[str, ...]:
    families = _families(schema)
    wish = wishes.vector
    if wish is not None and wish not in schema.names and wish in families:
        return families[wish]
    if wish is None:
        lists = [f.name for f in schema if _is_list(f.type) and _is_number(f.type.value_type)]
        wish = _named(schema.empty_table().select(lists).schema, None, VECTORS, where, "vector")
        wish = lists[0] if wish is None and len(lists) == 1 else wish
        if wish is None and lists:
            raise BadInput(f"{where}: expected --vector, one of {', '.join(lists)}")
        widest = max(families.values(), key=len, default=())
        if wish is None and widest:
            return widest
        if wish is None:
            raise BadInput(
                f"{where}: expected a column of vectors (lists of numbers, or numbered columns), "
                f"found {_listing(schema)}"
            )
    column = _named(schema, wish, (), where, "vector")
    assert column is not None
    kind = schema.field(column).type
    if not (_is_list(kind) and _is_number(kind.value_type)):
        raise BadInput(
            f"{where}: expected {column} to be lists of float16, float32, float64 or int8, "
            f"found {str(kind)[:80]}"
        )
    return (column,)


def _families(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Numeric columns whose names differ in a number that counts from 0 or 1, by their stem."""
    found: dict[str, dict[int, str]] = {}
    for field in schema:
        match = re.fullmatch(r"(.*?)(\d+)", field.name)
        if match and _is_number(field.type):
            found.setdefault(match[1], {})[int(match[2])] = field.name
    return {
        stem: tuple(numbered[i] for i in sorted(numbered))
        for stem, numbered in found.items()
        if len(numbered) >= LEAST_NUMBERED
        and min(numbered) in (0, 1)
        and max(numbered) - min(numbered) == len(numbered) - 1
    }


def _place(
    schema: pa.Schema, wishes: Wishes, geo: Mapping[str, Any], where: str
) -> tuple[str, ...]:
    if bool(wishes.lon) != bool(wishes.lat) or (wishes.lon and wishes.geometry):
        raise BadInput("import: expected --geometry, or both --lon and --lat")
    if wishes.lon:
        pair = [_named(schema, one, (), where, "place") for one in (wishes.lon, wishes.lat)]
        return tuple(name for name in pair if name)
    own = {name.lower(): name for name in reversed(schema.names)}
    if wishes.geometry is None and is_text(_type(schema, "geohash")):
        return ("geohash",)
    named = (str(geo.get("primary_column", "")), *GEOMETRIES)
    geometry = _named(schema, wishes.geometry, named, where, "geometry")
    if geometry is not None:
        return (geometry,)
    for lon, lat in POINTS:
        if lon in own and lat in own:
            return own[lon], own[lat]
    raise BadInput(
        f"{where}: expected a geometry, or a longitude and a latitude, found {_listing(schema)}"
    )


def _type(schema: pa.Schema, name: str) -> pa.DataType:
    return schema.field(name).type if name in schema.names else pa.null()


def _shaped(schema: pa.Schema, place: tuple[str, ...]) -> bool:
    return len(place) == 1 and place != ("geohash",)


def _first(
    file: pq.ParquetFile, vector: tuple[str, ...], place: tuple[str, ...], where: str
) -> tuple[int, int | None]:
    """Numbers of the first row's vector, and letters of its geohash where that is the place."""
    wanted = [vector[0], *(place if place == ("geohash",) else ())]
    row = next(file.iter_batches(1, columns=wanted, use_threads=False)).to_pylist()[0]
    dim = len(vector) if len(vector) > 1 else len(row[vector[0]] or ())
    if not 0 < dim <= MAX_DIM:
        raise BadInput(f"{where}: expected vectors of 1 to {MAX_DIM} numbers, found {dim}")
    return dim, len(row["geohash"] or "") if "geohash" in row else None


def first_line(error: BaseException) -> str:
    """What an error says, in one line."""
    return str(error).strip().split("\n")[0][:160] or type(error).__name__
