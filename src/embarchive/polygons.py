"""Polygons as users give them, tested against boxes in degrees.

A polygon is a shapely Polygon or MultiPolygon in longitude and latitude within -180..180;
what a user draws past the antimeridian (up to +-540) is cut there and moved back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import translate

from embarchive.errors import BadInput

MAX_BYTES = 64_000_000
_WKT = re.compile(r"(?:SRID=4326;)?\s*(?:MULTI|GEOMETRY)?[A-Z]+(?:\s+[ZM]{1,2})?\s*(?:\(|EMPTY)")
_CELL = np.dtype(
    [
        ("order", "u1"),
        ("kind", "<u4"),
        ("rings", "<u4"),
        ("points", "<u4"),
        ("ring", "<f8", (5, 2)),
    ]
)


def file_text(path: str | Path) -> str:
    """The text of a user's file of at most 64 MB. Raises BadInput."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"{path}: cannot be read: {reason}") from None
    if len(data) > MAX_BYTES:
        raise BadInput(f"{path}: expected at most {MAX_BYTES} bytes, found more")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadInput(f"{path}: expected UTF-8 text") from None


def read_polygon(source: Any) -> Any:
    """A valid shapely Polygon or MultiPolygon within -180..180.

    source: a shapely geometry, a GeoJSON mapping (geometry, Feature or FeatureCollection,
    whose polygons are united), GeoJSON text, WKT, or the path of a GeoJSON or WKT file.
    Raises BadInput when it is not a polygon, is empty, is invalid, or leaves the globe.
    """
    if isinstance(source, shapely.Geometry):
        return _check("polygon", source)
    if isinstance(source, Mapping):
        return _from_geojson("polygon", source)
    if isinstance(source, str) and (text := source.strip()) and _is_inline(text):
        return _from_text("polygon", text)
    if isinstance(source, str | Path):
        return _from_text(f"polygon {source}", file_text(source).strip())
    raise BadInput(f"polygon: expected GeoJSON, WKT or a file, found {type(source).__name__}")


def named_polygons(source: str | Path, text: str) -> list[tuple[str, Any]]:
    """(name, polygon) of each feature of a GeoJSON FeatureCollection, in order.

    The name is the property `name`, else `id`, else the feature's id. Raises BadInput.
    """
    document = _json(f"regions {source}", text)
    features = document.get("features") if isinstance(document, Mapping) else None
    if not isinstance(features, list) or not features:
        raise BadInput(f"regions {source}: expected a FeatureCollection with features")
    found = []
    for number, feature in enumerate(features):
        where = f"regions {source}: feature {number}"
        if not isinstance(feature, Mapping):
            raise BadInput(f"{where}: expected a Feature, found {type(feature).__name__}")
        properties = feature.get("properties")
        properties = properties if isinstance(properties, Mapping) else {}
        name = properties.get("name", properties.get("id", feature.get("id")))
        if name is None:
            raise BadInput(f"{where}: expected a property name, found none")
        found.append((str(name), _from_geojson(where, feature)))
    return found


def polygon_intersects(bounds: NDArray[np.float64], polygon: Any) -> NDArray[np.bool_]:
    """Which boxes (n, 4) west south east north touch a polygon, exactly, bool (n,)."""
    boxes = np.asarray(bounds, dtype=np.float64).reshape(-1, 4)
    west, south, east, north = shapely.bounds(polygon)
    keep: NDArray[np.bool_] = (
        (boxes[:, 0] <= east)
        & (boxes[:, 2] >= west)
        & (boxes[:, 1] <= north)
        & (boxes[:, 3] >= south)
    )
    if keep.any():
        shapely.prepare(polygon)
        keep[keep] = shapely.intersects(polygon, shapely.box(*boxes[keep].T))
    return keep


def polygon_contains(bounds: NDArray[np.float64], polygon: Any) -> NDArray[np.bool_]:
    """Which boxes (n, 4) lie wholly inside a polygon, bool (n,)."""
    shapely.prepare(polygon)
    inside: NDArray[np.bool_] = shapely.covers(polygon, shapely.box(*np.asarray(bounds).T))
    return inside


def polygon_holds(points: NDArray[np.float64], polygon: Any) -> NDArray[np.bool_]:
    """Which points (n, 2) longitude latitude lie in a polygon or on its border, bool (n,)."""
    shapely.prepare(polygon)
    inside: NDArray[np.bool_] = shapely.covers(polygon, shapely.points(np.asarray(points)))
    return inside


def boxes_wkb(bounds: NDArray[np.float64]) -> list[bytes]:
    """Little-endian WKB of boxes (n, 4): closed counter-clockwise rings of five points."""
    boxes = np.asarray(bounds, dtype=np.float64).reshape(-1, 4)
    cells = np.zeros(len(boxes), dtype=_CELL)
    cells["order"], cells["kind"], cells["rings"], cells["points"] = 1, 3, 1, 5
    cells["ring"][..., 0] = boxes[:, [0, 2, 2, 0, 0]]
    cells["ring"][..., 1] = boxes[:, [1, 1, 3, 3, 1]]
    # Void items become bytes; fixed byte strings would lose trailing zeros.
    found: list[bytes] = cells.view(f"V{_CELL.itemsize}").tolist()
    return found


def _is_inline(text: str) -> bool:
    return text.startswith("{") or _WKT.match(text.upper()) is not None


def _from_text(where: str, text: str) -> Any:
    if text.startswith("{"):
        return _from_geojson(where, _json(where, text))
    try:
        return _check(where, shapely.from_wkt(re.sub(r"^SRID=4326;\s*", "", text)))
    except shapely.errors.GEOSException:
        raise BadInput(f"{where}: expected GeoJSON or WKT, found {text[:40]!r}") from None


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadInput(f"{where}: expected GeoJSON, found {text[:40]!r}") from None


def _from_geojson(where: str, document: Mapping[str, Any]) -> Any:
    kind = document.get("type")
    if kind == "FeatureCollection":
        features = document.get("features")
        if not isinstance(features, list) or not features:
            raise BadInput(f"{where}: expected features, found none")
        parts = [_from_geojson(where, _mapping(where, feature)) for feature in features]
        return _check(where, shapely.union_all(parts))
    if kind == "Feature":
        return _from_geojson(where, _mapping(where, document.get("geometry")))
    try:
        return _check(where, shapely.from_geojson(json.dumps(document)))
    except (shapely.errors.GEOSException, TypeError, ValueError):
        raise BadInput(f"{where}: expected a GeoJSON polygon, found type {kind!r}") from None


def _mapping(where: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(f"{where}: expected a GeoJSON geometry, found {value!r}")
    return value


def _check(where: str, geometry: Any) -> Any:
    """The geometry as a valid 2D (multi)polygon on the globe. Raises BadInput."""
    if geometry is None or geometry.geom_type not in ("Polygon", "MultiPolygon"):
        found = "nothing" if geometry is None else geometry.geom_type
        raise BadInput(f"{where}: expected a polygon, found {found}")
    if geometry.is_empty:
        raise BadInput(f"{where}: expected a polygon with an area, found an empty one")
    if not np.isfinite(shapely.get_coordinates(geometry)).all():
        raise BadInput(f"{where}: expected finite degrees")
    if not geometry.is_valid:
        raise BadInput(f"{where}: not a valid polygon: {shapely.is_valid_reason(geometry)}")
    west, south, east, north = geometry.bounds
    if south < -90 or north > 90 or west < -540 or east > 540:
        raise BadInput(
            f"{where}: expected degrees on the globe, found bounds "
            f"{west:g} {south:g} {east:g} {north:g}"
        )
    return _split(shapely.force_2d(geometry))


def _split(geometry: Any) -> Any:
    """Cut at the antimeridian and move what lies beyond it back into -180..180."""
    west, _, east, _ = geometry.bounds
    if west >= -180 and east <= 180:
        return geometry
    pieces = []
    for turn in (-1, 0, 1):
        inside = shapely.box(turn * 360 - 180, -90, turn * 360 + 180, 90)
        piece = shapely.intersection(geometry, inside)
        pieces.append(translate(piece, xoff=-360 * turn))
    # A border along the antimeridian leaves lines, which are not area.
    flat = shapely.get_parts(shapely.get_parts(np.asarray(pieces, dtype=object)))
    return shapely.union_all([part for part in flat if part.geom_type == "Polygon"])
