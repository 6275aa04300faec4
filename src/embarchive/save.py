"""Tables and pictures written to a user's files, the kind told by the suffix."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from embarchive import decode, grid, shards
from embarchive.archive import Archive
from embarchive.errors import BadInput, reason_of
from embarchive.exemplars import best_of_places
from embarchive.rows import SIDES, cell_names

Kind = TypeVar("Kind")
# Pixels of the longer side of a picture of few cells.
LOOKED_AT = 1024


def table_kind(path: str | Path) -> Callable[[pa.Table, Path], None]:
    """The writer for a path's suffix; asked before the work, so that a wrong one costs
    nothing. Raises BadInput."""
    return kind(path, _TABLES)


def write_table(table: pa.Table, path: str | Path) -> None:
    """Rows with geohash (and bbox) as .parquet (GeoParquet), .geojson, .csv or .json.
    Raises BadInput for another suffix or a file that cannot be written."""
    write = table_kind(path)
    with aside(path) as part:
        write(table, part)


@contextmanager
def aside(path: str | Path) -> Iterator[Path]:
    """Where to write a file that takes its own name once it is whole, and is gone when it is not.
    Raises BadInput when it cannot be written."""
    target = Path(path)
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield part
        part.replace(target)
    except OSError as error:
        raise BadInput(f"out: cannot write {path}: {reason_of(error)}") from None
    finally:
        part.unlink(missing_ok=True)


def image_kind(path: str | Path) -> str:
    """ ".tif" or ".png". Raises BadInput for another suffix."""
    return kind(path, {".tif": ".tif", ".tiff": ".tif", ".png": ".png"})


def write_images(archive: Archive, rows: pa.Table, path: str | Path) -> None:
    """Decoded tiles on one raster: .tif holds every band in recipe units, .png a picture of
    the visible ones. One image a cell, see `best_of_places`. Raises BadInput."""
    form = image_kind(path)
    if not len(rows):
        raise BadInput("decode: expected at least one tile, found none that match")
    chosen = best_of_places(rows)
    names = chosen["geohash"].to_pylist()
    images = archive.decode(chosen)
    bands = archive.settings.bands
    if form == ".tif":
        decode.write_geotiff(path, images, names, archive.chips, bands)
        return
    whole, _ = decode.mosaic(images, names, archive.chips)
    decode.write_png(path, decode.picture(whole, decode.visible_bands(bands)))


def write_cells(archive: Archive, cells: pa.Table, path: str | Path) -> None:
    """Cells of the pyramid on one raster, a pixel each: the mean of what they decode to. A .png is
    of so many pixels a cell that it can be looked at. Raises BadInput."""
    form = image_kind(path)
    if not len(cells):
        raise BadInput("decode: expected at least one cell, found none that match")
    pixels = decode.mean_pixels(archive.weights.plain_decoder, cells)
    image, transform = decode.cell_raster(pixels, cells["geohash"].to_pylist())
    bands = archive.settings.bands
    if form == ".tif":
        decode.write_raster(path, image, transform, bands)
        return
    tall = max(1, round(-transform[4] / transform[0]))
    wide = max(1, round(transform[0] / -transform[4]))
    scale = max(1, LOOKED_AT // max(image.shape[1] * tall, image.shape[2] * wide))
    larger = image.repeat(scale * tall, axis=1).repeat(scale * wide, axis=2)
    decode.write_png(path, decode.picture(larger, decode.visible_bands(bands)))


def path_kind(path: str | Path) -> bool:
    """Whether a path goes to a picture (.png); else to a table. Raises BadInput for neither."""
    picture = Path(path).suffix.lower() == ".png"
    if not picture:
        kind(path, {".png": None, **_TABLES})
    return picture


def write_path(archive: Archive, path: pa.Table, target: str | Path) -> None:
    """A .png of a path: its steps decoded above, the nearest tiles below. Raises BadInput."""
    lines = [archive.decode_points(path), archive.decode(path)]
    bands = decode.visible_bands(archive.settings.bands)
    limits = decode.stretch_limits(np.concatenate(lines), bands)
    decode.write_png(
        target,
        np.concatenate(
            [np.hstack([decode.picture(one, bands, limits) for one in line]) for line in lines]
        ),
    )


def plain(value: Any) -> Any:
    """A value of a table in JSON's terms: dates as ISO 8601 in UTC, bytes as hex, and no
    number that is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    if isinstance(value, datetime):
        return (value.astimezone(UTC) if value.tzinfo else value).isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, str | int | bool | None) else str(value)


def records(table: pa.Table) -> list[dict[str, Any]]:
    """The rows of a table as JSON-able dictionaries."""
    return [plain(row) for row in table.to_pylist()]


def kind(path: str | Path, kinds: Mapping[str, Kind]) -> Kind:
    """What stands for a path's suffix. Raises BadInput."""
    suffix = Path(path).suffix.lower()
    if suffix not in kinds:
        expected = ", ".join(kinds)
        raise BadInput(f"out: expected a name ending in {expected}, found {str(path)!r}")
    return kinds[suffix]


def _cells(table: pa.Table) -> Any:
    return grid.bounds(cell_names(table["geohash"]))


def _parquet(table: pa.Table, path: Path) -> None:
    names = cell_names(table["geohash"])
    if len(names) and "bbox" in table.column_names:
        polygons = pa.array(list(grid.cell_polygons_wkb(names)), pa.binary())
        geo = json.dumps(shards.geo_metadata(_cells(table)))
        table = table.append_column("geometry", polygons).replace_schema_metadata({"geo": geo})
    pq.write_table(table, path, compression="zstd")


def features(table: pa.Table) -> Iterator[dict[str, Any]]:
    """Rows with geohash as GeoJSON features, each its cell."""
    for row, (west, south, east, north) in zip(records(table), _cells(table), strict=True):
        row.pop("bbox", None)
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        shape = {"type": "Polygon", "coordinates": [ring]}
        yield {"type": "Feature", "geometry": shape, "properties": row}


def _geojson(table: pa.Table, path: Path) -> None:
    document = {"type": "FeatureCollection", "features": list(features(table))}
    path.write_text(json.dumps(document, allow_nan=False), encoding="utf-8")


def _csv(table: pa.Table, path: Path) -> None:
    names = [name for name in table.column_names if name != "bbox"]
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow([*names, *SIDES])
        for row, cell in zip(records(table), _cells(table), strict=True):
            lines.writerow([*(row[name] for name in names), *cell.tolist()])


def _json(table: pa.Table, path: Path) -> None:
    path.write_text(json.dumps(records(table), allow_nan=False, indent=1), encoding="utf-8")


_TABLES: dict[str, Callable[[pa.Table, Path], None]] = {
    ".parquet": _parquet,
    ".geojson": _geojson,
    ".csv": _csv,
    ".json": _json,
}
