"""Labels of places from a user's file: points, polygons or geohashes with a class each."""

from __future__ import annotations

import csv
import io
import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry import shape

from embarchive import grid, polygons
from embarchive.errors import BadInput

# Class -> how often, of each cell.
Votes = dict[str, Counter[str]]
# What reading another document than a FeatureCollection raises.
_OTHER = (
    ValueError, KeyError, TypeError, AttributeError, RecursionError, shapely.errors.GEOSException,
)  # fmt: skip


def read_labels(path: str | Path, column: str, cells: Sequence[str]) -> dict[str, str]:
    """The class of each of the cells that the file says one of.

    CSV with `geohash` (a cell, or a prefix of cells) or `lon` and `lat`, or a GeoJSON
    FeatureCollection of points and polygons; `column` holds the class. A cell has the class of most
    of the points in it, and of the polygon that holds its centre; of equals the first by name.
    Raises BadInput, also when no cell gets one.
    """
    text = polygons.file_text(path)
    where = f"labels {path}"
    votes: Votes = {}
    known = sorted(set(cells))
    if text.lstrip().startswith("{"):
        _from_features(where, text, column, known, votes)
    else:
        _from_rows(where, text, column, known, votes)
    if not votes:
        raise BadInput(f"{where}: expected labels of cells of the archive, found none of them")
    return {name: min(found, key=lambda one: (-found[one], one)) for name, found in votes.items()}


def _from_rows(where: str, text: str, column: str, cells: list[str], votes: Votes) -> None:
    try:
        rows = list(csv.DictReader(io.StringIO(text)))
    except csv.Error as error:
        raise BadInput(f"{where}: expected CSV, found {error}") from None
    heads = list(rows[0]) if rows else []
    placed = "geohash" in heads or {"lon", "lat"} <= set(heads)
    if column not in heads or not placed:
        raise BadInput(
            f"{where}: expected the columns {column} and geohash, or lon and lat, found "
            f"{', '.join(map(str, heads)) or 'none'}"[:200]
        )
    if "geohash" in heads:
        for row in rows:
            for name in _below(str(row["geohash"]).strip(), cells):
                _vote(votes, name, row[column])
        return
    try:
        points = np.array([[float(row["lon"]), float(row["lat"])] for row in rows])
    except (TypeError, ValueError):
        raise BadInput(f"{where}: expected lon and lat in degrees, found other text") from None
    _points(where, points, [row[column] for row in rows], cells, votes)


def _from_features(where: str, text: str, column: str, cells: list[str], votes: Votes) -> None:
    try:
        features = json.loads(text)["features"]
        pairs = [(one["properties"][column], shape(one["geometry"])) for one in features]
    except _OTHER:
        raise BadInput(
            f"{where}: expected a FeatureCollection whose features have a geometry and the "
            f"property {column}, found another document"
        ) from None
    centres = grid.centers(np.array(cells, dtype=np.str_)) if cells else np.zeros((0, 2))
    points, classes = [], []
    for name, geometry in pairs:
        if geometry.is_empty:
            raise BadInput(f"{where}: expected points and polygons, found an empty one")
        if geometry.geom_type == "Point":
            points.append([geometry.x, geometry.y])
            classes.append(name)
        elif geometry.geom_type in ("Polygon", "MultiPolygon"):
            for at in np.flatnonzero(polygons.polygon_holds(centres, geometry)).tolist():
                _vote(votes, cells[at], name)
        else:
            raise BadInput(f"{where}: expected points and polygons, found {geometry.geom_type}")
    if points:
        _points(where, np.array(points), classes, cells, votes)


def _points(
    where: str,
    points: NDArray[np.float64],
    classes: Sequence[Any],
    cells: list[str],
    votes: Votes,
) -> None:
    inside = (np.abs(points) <= (180, 90)).all(axis=1)
    if not inside.all():
        lon, lat = points[~inside][0].tolist()
        raise BadInput(f"{where}: expected degrees in -180..180, -90..90, found {lon:g}, {lat:g}")
    if not cells:
        return
    names = grid.encode(points[:, 0], points[:, 1], len(cells[0]))
    known = set(cells)
    for name, one in zip(names.tolist(), classes, strict=True):
        if name in known:
            _vote(votes, name, one)


def _below(name: str, cells: list[str]) -> list[str]:
    first, last = bisect_left(cells, name), bisect_left(cells, name + "~")
    return cells[first:last] if name else []


def _vote(votes: Votes, name: str, one: Any) -> None:
    if one is None or not str(one).strip():
        return
    votes.setdefault(name, Counter())[str(one).strip()] += 1


def classes(found: Mapping[str, str]) -> dict[str, int]:
    """How many cells each class has, the most frequent first."""
    return dict(Counter(found.values()).most_common())
