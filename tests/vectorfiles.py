"""Parquet files of embeddings in the layouts that others publish, made up for the tests."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

DAY = datetime(2021, 6, 1, tzinfo=UTC)


def make_points(count, seed=0, west=10.0, south=45.0, span=2.0):
    """Longitudes and latitudes (count,) in a square."""
    rng = np.random.default_rng(seed)
    return west + rng.uniform(0, span, count), south + rng.uniform(0, span, count)


def make_floats(count, dim=64, seed=0):
    """Clustered float32 vectors (count, dim)."""
    rng = np.random.default_rng(seed)
    kinds = rng.normal(0, 1, (8, dim))
    return (kinds[rng.integers(8, size=count)] + rng.normal(0, 0.3, (count, dim))).astype(
        np.float32
    )


def lists(vectors, kind=None, fixed=False):
    """Vectors (n, dim) as a column of lists."""
    flat = pa.array(np.ascontiguousarray(vectors).ravel(), kind)
    n, dim = vectors.shape
    if fixed:
        return pa.FixedSizeListArray.from_arrays(flat, dim)
    return pa.ListArray.from_arrays(np.arange(n + 1, dtype=np.int32) * dim, flat)


def write(path, columns, geo=None, **options):
    """A Parquet file; geo: the entry of `geometry` in GeoParquet metadata."""
    table = pa.table(columns)
    if geo is not None:
        value = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geo}}
        table = table.replace_schema_metadata({"geo": json.dumps(value)})
    pq.write_table(table, path, **options)
    return path


def wkb(shapes):
    """Shapes as a column of WKB."""
    return pa.array(list(shapely.to_wkb(np.asarray(shapes, dtype=object))), pa.binary())


WKB = {"encoding": "WKB", "geometry_types": []}


def clay(path, count=60, dim=768):
    """Clay: chips as polygons, lists of float32, a day, where the chip came from."""
    lon, lat = make_points(count)
    boxes = shapely.box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)
    return write(
        path,
        {
            "source_url": [f"s3://some/tile_{i}.tif" for i in range(count)],
            "date": pa.array([date(2021, 6, 1)] * count),
            "embeddings": lists(make_floats(count, dim)),
            "geometry": wkb(boxes),
        },
        WKB,
    )


def alphaearth(path, count=60, int8=False):
    """AlphaEarth at points: columns A00 to A63 on the unit sphere, and a year."""
    lon, lat = make_points(count)
    unit = make_floats(count)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    stored = np.round(np.sign(unit) * np.sqrt(np.abs(unit)) * 127.5).astype(np.int8)
    numbers = stored if int8 else unit.astype(np.float64)
    axes = {f"A{i:02d}": numbers[:, i] for i in range(64)}
    columns = {"year": [2021] * count, **axes, "longitude": lon, "latitude": lat}
    return write(path, columns), unit


def tessera(path, count=60):
    """TESSERA at points: 128 numbered columns."""
    lon, lat = make_points(count)
    vectors = make_floats(count, 128)
    bands = {f"band_{i}": vectors[:, i] for i in range(128)}
    return write(path, {"lon": lon, "lat": lat, "year": [2024] * count, **bands}), vectors


def major_tom(path, count=60, geometry=True):
    """Major TOM: fixed-size lists, times as texts, a footprint or the centre alone."""
    lon, lat = make_points(count)
    boxes = shapely.box(lon - 0.01, lat - 0.01, lon + 0.01, lat + 0.01)
    times = [(DAY + timedelta(hours=i % 3)).strftime("%Y%m%dT%H%M%S") for i in range(count)]
    columns = {
        "unique_id": [f"id{i}" for i in range(count)],
        "embedding": lists(make_floats(count, 96), fixed=True),
        "timestamp": times,
        "grid_row_u": pa.array(range(count), pa.int16()),
        "centre_lat": pa.array(lat, pa.float64()),
        "centre_lon": pa.array(lon, pa.float64()),
    }
    if geometry:
        columns["geometry"] = wkb(boxes)
    return write(path, columns)


def plain(path, count=200, dim=64, kind=None, seed=0, **more):
    """Longitude, latitude and lists, nothing else; more: columns over those."""
    lon, lat = make_points(count, seed)
    vectors = lists(make_floats(count, dim, seed), kind)
    return write(path, {"lon": lon, "lat": lat, "embedding": vectors, **more})
