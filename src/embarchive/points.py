"""Where the rows of a GeoParquet column lie: its geometries as one point each, in degrees.

WKB and the native geoarrow layouts of GeoParquet 1.1; of anything larger than a point the centre
of its bounds. Other coordinate systems are turned to longitude and latitude by pyproj.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import shapely
from numpy.typing import NDArray

from embarchive.errors import BadInput, MissingExtra

Floats = NDArray[np.float64]
# A little-endian WKB point: its order, its kind, x and y.
_POINT = np.dtype([("order", "u1"), ("kind", "<u4"), ("x", "<f8"), ("y", "<f8")])
_DEGREES = {("OGC", "CRS84"), ("EPSG", "4326"), ("OGC", "CRS84H"), ("EPSG", "4979")}


def centres(
    column: pa.Array, degrees: bool, where: str = "geometry", first: int = 1
) -> tuple[Floats, Floats]:
    """x and y float64 (n,) of the centres of geometries' bounds; NaN where there is none.

    column: WKB, or points, lines or polygons as nested lists of coordinates; degrees: whether x is
    a longitude, so that what is wider than half the globe crosses the antimeridian; where, first:
    the file and the number of the first row, for errors. Raises BadInput.
    """
    plain = column.storage if isinstance(column, pa.ExtensionArray) else column
    if _is_binary(plain.type):
        return _from_wkb(plain, degrees, where, first)
    x, y, offsets = _coordinates(plain, where)
    return _middles(x, y, offsets, plain, degrees)


def crs_of(field: pa.Field, geo: Any) -> Any:
    """The coordinate system of a geometry column as PROJJSON or text; None for longitude and
    latitude, and where none is said. geo: its entry in the GeoParquet metadata, whatever it is."""
    if isinstance(geo, Mapping):
        crs = geo.get("crs")
    else:
        text = (field.metadata or {}).get(b"ARROW:extension:metadata", b"{}")
        try:
            crs = json.loads(text).get("crs")
        except (ValueError, AttributeError):
            crs = None
    return None if crs is None or _identity(crs) in _DEGREES else crs


def to_degrees(x: Floats, y: Floats, crs: Any, where: str) -> tuple[Floats, Floats]:
    """Longitudes and latitudes of points in another system. Raises BadInput; MissingExtra without
    pyproj."""
    try:
        import pyproj
    except ImportError:
        raise MissingExtra(
            f"{where}: expected longitude and latitude (OGC:CRS84 or EPSG:4326), found "
            f"{name(crs)}; embarchive[geo] has pyproj, which turns it"
        ) from None
    try:
        source = pyproj.CRS.from_user_input(crs)
        turn = pyproj.Transformer.from_crs(source, "OGC:CRS84", always_xy=True)
    except pyproj.exceptions.ProjError as error:
        reason = str(error).split("\n")[0][:120]
        raise BadInput(f"{where}: expected a known coordinate system, found {reason}") from None
    lon, lat = turn.transform(x, y)
    return np.asarray(lon, np.float64), np.asarray(lat, np.float64)


def name(crs: Any) -> str:
    """A coordinate system in a few words."""
    found = _identity(crs)
    said = str(crs.get("name", "another")) if isinstance(crs, Mapping) else str(crs)
    return ":".join(found) if found else said[:60]


def _identity(crs: Any) -> tuple[str, str] | None:
    """Authority and code, when they are said."""
    if isinstance(crs, Mapping):
        own = crs.get("id")
        if not isinstance(own, Mapping):
            return None
        return str(own.get("authority", "")).upper(), str(own.get("code", "")).upper()
    authority, colon, code = str(crs).upper().partition(":")
    return (authority, code) if colon else None


# ---------------------------------------------------------------- WKB


def _is_binary(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    )


def _from_wkb(column: pa.Array, degrees: bool, where: str, first: int) -> tuple[Floats, Floats]:
    points = _plain_points(column)
    if points is not None:
        return points["x"].astype(np.float64), points["y"].astype(np.float64)
    stored = np.array(column.to_pylist(), dtype=object)
    try:
        shapes = shapely.from_wkb(stored)
    except (shapely.errors.ShapelyError, TypeError) as error:
        reason = str(error).split("\n")[0][:120]
        row = first + _first_odd(stored)
        raise BadInput(f"{where}: row {row}: expected WKB, found {reason}") from None
    sides = shapely.bounds(shapes).reshape(-1, 4)
    wide = degrees & (sides[:, 2] - sides[:, 0] > 180)
    for row in np.flatnonzero(wide).tolist():
        x, y = shapely.get_coordinates(shapes[row]).T
        x = np.where(x < 0, x + 360, x)
        sides[row] = x.min(), y.min(), x.max(), y.max()
    return _centre(sides[:, 0], sides[:, 2], degrees), (sides[:, 1] + sides[:, 3]) / 2


def _first_odd(stored: NDArray[np.object_]) -> int:
    """Number of the first value that shapely cannot read."""
    for at, value in enumerate(stored.tolist()):
        try:
            shapely.from_wkb(value)
        except (shapely.errors.ShapelyError, TypeError):
            return at
    return 0


def _plain_points(column: pa.Array) -> Any:
    """The coordinates of a column of little-endian points, None for any other."""
    if column.null_count or not len(column):
        return None
    whole = column.cast(pa.large_binary())
    offsets = np.frombuffer(whole.buffers()[1], np.int64)[whole.offset :][: len(whole) + 1]
    if (np.diff(offsets) != _POINT.itemsize).any():
        return None
    body = np.frombuffer(whole.buffers()[2], np.uint8)[offsets[0] : offsets[-1]]
    points = body.view(_POINT)
    return points if ((points["order"] == 1) & (points["kind"] == 1)).all() else None


# ---------------------------------------------------------------- geoarrow


def _coordinates(column: pa.Array, where: str) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """x and y of all coordinates, and where those of each row begin and end (n + 1,)."""
    kind = column.type
    if pa.types.is_struct(kind) and {"x", "y"} <= {field.name for field in kind}:
        x, y = (_floats(pa.compute.struct_field(column, side)) for side in ("x", "y"))
        return x, y, np.arange(len(column) + 1)
    if pa.types.is_fixed_size_list(kind) and pa.types.is_floating(kind.value_type):
        size = kind.list_size
        flat = _floats(column.values.slice(column.offset * size, len(column) * size))
        pairs = flat.reshape(len(column), size)
        return pairs[:, 0], pairs[:, 1], np.arange(len(column) + 1)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        offsets = column.offsets.to_numpy().astype(np.int64)
        inside = column.values.slice(offsets[0], offsets[-1] - offsets[0])
        x, y, inner = _coordinates(inside, where)
        return x, y, inner[offsets - offsets[0]]
    raise BadInput(f"{where}: expected WKB or geoarrow coordinates, found {str(kind)[:80]}")


def _middles(
    x: Floats, y: Floats, offsets: NDArray[np.int64], column: pa.Array, degrees: bool
) -> tuple[Floats, Floats]:
    n = len(offsets) - 1
    sides = np.full((n, 4), np.nan)
    full = np.flatnonzero(np.diff(offsets) > 0)
    if len(full):
        starts = offsets[full]
        if degrees:
            low, high = np.minimum.reduceat(x, starts), np.maximum.reduceat(x, starts)
            across = np.repeat(high - low > 180, np.diff(offsets)[full])
            x = np.where(across & (x < 0), x + 360, x)
        for at, values in ((0, x), (1, y)):
            sides[full, at] = np.minimum.reduceat(values, starts)
            sides[full, at + 2] = np.maximum.reduceat(values, starts)
    sides[column.is_null().to_numpy(zero_copy_only=False)] = np.nan
    return _centre(sides[:, 0], sides[:, 2], degrees), (sides[:, 1] + sides[:, 3]) / 2


def _centre(west: Floats, east: Floats, degrees: bool) -> Floats:
    middle = (west + east) / 2
    return np.where(middle > 180, middle - 360, middle) if degrees else middle


def _floats(column: pa.Array) -> Floats:
    return np.asarray(column.cast(pa.float64()).to_numpy(zero_copy_only=False), np.float64)
