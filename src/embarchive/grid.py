"""Geohash cells, and the pixels of a chip on the ground.

A geohash of length p is a dyadic box: (5 p + 1) // 2 halvings of longitude and 5 p // 2 of
latitude. Bounds are sums of dyadic fractions and so exact in float64, which SQL and the page
rely on. All functions on arrays are vectorised; a million cells take about a second.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embarchive.errors import BadInput
from embarchive.geohash import (
    ALPHABET,
    LONGEST,
    Names,
    as_names,
    check_geohash,
    from_indices,
    halvings,
    interleave,
    to_indices,
)
from embarchive.polygons import boxes_wkb, polygon_intersects, read_polygon

__all__ = [
    "ALPHABET",
    "ChipGrid",
    "bbox_intersects",
    "bounds",
    "cell_codes",
    "cell_indices",
    "cell_polygons_wkb",
    "cells_in_bbox",
    "centers",
    "check_count",
    "check_geohash",
    "chip_shape",
    "choose_grid",
    "choose_precision",
    "count_cells",
    "distance_m",
    "encode",
    "metres_per_degree",
    "pixels_a_cell",
    "polygon_intersects",
    "read_polygon",
]

MAX_CELLS = 50_000_000
MAX_SIDE = 128
MIN_SIDE = 16
# WGS84 semi-major axis (metres) and squared eccentricity; mean radius for distances.
_AXIS, _E2, _RADIUS = 6_378_137.0, 6.694379990141316e-3, 6_371_008.8

Floats = NDArray[np.float64]
_log = logging.getLogger("embarchive")


def encode(lon: ArrayLike, lat: ArrayLike, precision: int) -> Names:
    """Geohashes 'U{precision}' of points in degrees; any shape, broadcast.

    Longitudes are wrapped to -180..180; 180 and the poles fall into the last cell.
    Raises BadInput when a number is not finite or a latitude leaves -90..90.
    """
    x, y = np.broadcast_arrays(np.asarray(lon, np.float64), np.asarray(lat, np.float64))
    if not (np.isfinite(x).all() and np.isfinite(y).all() and (np.abs(y) <= 90).all()):
        raise BadInput("point: expected finite degrees with latitude in -90..90")
    x = np.where(np.abs(x) > 180, (x + 180) % 360 - 180, x)
    across, up = halvings(precision)
    return from_indices(_index(x, 360.0, across), _index(y, 180.0, up), precision)


def cell_codes(lon: Floats, lat: Floats, precision: int) -> NDArray[np.uint64]:
    """Cells of points in degrees (-180..180, -90..90) as `geohash.interleave` numbers them."""
    across, up = halvings(precision)
    return interleave(_index(lon, 360.0, across), _index(lat, 180.0, up), precision)


def bounds(geohashes: ArrayLike) -> Floats:
    """West, south, east, north in degrees, float64 (n, 4), exact; lengths may be mixed.

    Raises BadInput at the first text that is not a geohash.
    """
    names = as_names(geohashes)
    out = np.zeros((len(names), 4))
    if not len(names):
        return out
    column, row, length = to_indices(names)
    deepest = halvings(min(names.dtype.itemsize // 4, LONGEST))
    own = (5 * length + 1) // 2, 5 * length // 2
    for side, index, turn in ((0, column, 360.0), (1, row, 180.0)):
        out[:, side] = index * (turn / 2.0 ** deepest[side]) - turn / 2
        out[:, side + 2] = out[:, side] + turn / 2.0 ** own[side]
    return out


def centers(geohashes: ArrayLike) -> Floats:
    """Longitude and latitude of cell centres, float64 (n, 2), exact."""
    sides = bounds(geohashes)
    return (sides[:, :2] + sides[:, 2:]) / 2


def cell_indices(geohashes: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Column (from the west) and row (from the south) of cells of one length, int64 (n,)."""
    column, row, length = to_indices(as_names(geohashes))
    if len(length) and (length != length[0]).any():
        raise BadInput(f"geohash: expected one length, found {length.min()} to {length.max()}")
    return column, row


def count_cells(bbox: Sequence[float], precision: int) -> int:
    """How many cells `cells_in_bbox` would return; allocates nothing."""
    spans, (low, high) = _spans(bbox, precision)
    return sum(last - first + 1 for first, last in spans) * (high - low + 1)


def check_count(cells: int) -> None:
    """Raises BadInput above 50 million cells."""
    if cells > MAX_CELLS:
        raise BadInput(f"bbox: expected at most {MAX_CELLS} cells, found {cells}")


def cells_in_bbox(bbox: Sequence[float], precision: int) -> Names:
    """The cells that touch a box west, south, east, north (degrees), sorted.

    West > east means across the antimeridian. These are the cells that `bbox_intersects`
    keeps. Raises BadInput above 50 million cells, before anything is allocated.
    """
    check_count(count_cells(bbox, precision))
    spans, (low, high) = _spans(bbox, precision)
    columns = np.unique(np.concatenate([np.arange(a, b + 1) for a, b in spans]))
    rows = np.arange(low, high + 1)
    names = from_indices(np.tile(columns, len(rows)), np.repeat(rows, len(columns)), precision)
    return cast(Names, np.sort(names))


def bbox_intersects(bounds: Floats, bbox: Sequence[float]) -> NDArray[np.bool_]:
    """Which boxes (n, 4) touch a box west, south, east, north; west > east means across the
    antimeridian. Bool (n,)."""
    west, south, east, north = bbox
    eastward, westward = bounds[:, 0] <= east, bounds[:, 2] >= west
    within = (eastward | westward) if west > east else (eastward & westward)
    found: NDArray[np.bool_] = within & (bounds[:, 1] <= north) & (bounds[:, 3] >= south)
    return found


def cell_polygons_wkb(geohashes: ArrayLike) -> list[bytes]:
    """Little-endian WKB polygons of cells, counter-clockwise from the south-west corner."""
    return boxes_wkb(bounds(geohashes))


def metres_per_degree(lat: ArrayLike) -> tuple[Floats, Floats]:
    """Metres per degree of longitude and of latitude, from WGS84's radii of curvature.

    Longitude shrinks to nothing at the poles; beyond 89 degrees it stays what it is there.
    """
    angle = np.radians(np.clip(np.asarray(lat, np.float64), -89.0, 89.0))
    w = 1 - _E2 * np.sin(angle) ** 2
    degree = math.pi / 180
    return (
        np.asarray(_AXIS * np.cos(angle) / np.sqrt(w) * degree),
        np.asarray(_AXIS * (1 - _E2) / w**1.5 * degree),
    )


def distance_m(a: ArrayLike, b: ArrayLike) -> Floats:
    """Great-circle metres between points (..., 2) longitude latitude on the mean sphere."""
    here, there = np.radians(np.asarray(a, np.float64)), np.radians(np.asarray(b, np.float64))
    half = np.sin((there - here) / 2) ** 2
    cosines = np.cos(here[..., 1]) * np.cos(there[..., 1])
    chord = np.clip(half[..., 1] + cosines * half[..., 0], 0, 1)
    return np.asarray(2 * _RADIUS * np.arcsin(np.sqrt(chord)))


def box_distance_m(point: Sequence[float], boxes: ArrayLike) -> Floats:
    """Great-circle metres from a longitude and latitude to the nearest point of each box (n, 4)
    west south east north, west <= east; 0 inside."""
    lon, lat = point
    west, south, east, north = np.asarray(boxes, np.float64).T
    # The nearest point is on the point's own meridian, or on that side which is nearer.
    away = np.maximum(np.abs((lon - (west + east) / 2 + 180) % 360 - 180) - (east - west) / 2, 0)
    turned = np.cos(np.radians(away)), np.sin(np.radians(lat)), np.cos(np.radians(lat))
    best = np.degrees(np.arctan2(turned[1], turned[2] * turned[0]))
    sides = [np.clip(best, south, north), south, north]
    here = np.array([0.0, lat])
    gaps = [distance_m(here, np.stack([away, side], axis=-1)) for side in sides]
    return np.asarray(np.min(gaps, axis=0))


@dataclass(frozen=True)
class ChipGrid:
    """The pixels of a chip: height x width squares of `gsd` metres, centred on a cell.

    A chip lies on the equirectangular plane of its cell's centre (one longitude scale per
    chip), so it is an exact north-up affine in EPSG:4326 and pixels never stretch with
    latitude.
    """

    precision: int
    gsd: float
    height: int
    width: int

    def __post_init__(self) -> None:
        if not 1 <= self.precision <= 12 or self.height < 1 or self.width < 1:
            raise BadInput(f"chip: expected a precision in 1..12 and a size, found {self}")
        if not (math.isfinite(self.gsd) and self.gsd > 0):
            raise BadInput(f"chip: expected a gsd in metres above 0, found {self.gsd}")

    def steps(self, geohashes: ArrayLike) -> Floats:
        """Degrees of longitude and latitude a pixel, float64 (n, 2)."""
        return self.gsd / np.stack(metres_per_degree(centers(geohashes)[:, 1]), axis=1)

    def transform(self, geohash: str) -> tuple[float, float, float, float, float, float]:
        """The affine (a, b, c, d, e, f) of a chip: x = a col + b row + c, y = d col + e row + f,
        degrees; pixel corners at whole numbers. x may pass 180 at the antimeridian."""
        name = np.array([geohash])
        (lon, lat), (dx, dy) = centers(name)[0].tolist(), self.steps(name)[0].tolist()
        return (dx, 0.0, lon - dx * self.width / 2, 0.0, -dy, lat + dy * self.height / 2)

    def pixel_lonlat(self, geohashes: ArrayLike, k: int = 1) -> tuple[Floats, Floats]:
        """Axes of pixel centres: longitudes (n, W * k) in -180..180 and latitudes (n, H * k)
        from the north, of k x k points a pixel. Latitudes may pass a pole."""
        middle, step = centers(geohashes), self.steps(geohashes)
        x = (np.arange(self.width * k) + 0.5) / k - self.width / 2
        y = self.height / 2 - (np.arange(self.height * k) + 0.5) / k
        lon = middle[:, :1] + step[:, :1] * x
        lon = np.where(lon < -180, lon + 360, np.where(lon >= 180, lon - 360, lon))
        return lon, middle[:, 1:] + step[:, 1:] * y

    def crops(self, geohashes: ArrayLike) -> NDArray[np.int64]:
        """First row, end row, first column, end column of the pixels whose centre lies in the
        cell, int64 (n, 4); at least one pixel each way."""
        sides, step = bounds(geohashes), self.steps(geohashes)
        out = np.empty((len(sides), 4), dtype=np.int64)
        for at, size, axis in ((0, self.height, 1), (2, self.width, 0)):
            half = (sides[:, axis + 2] - sides[:, axis]) / 2 / step[:, axis]
            first = np.clip(np.ceil(size / 2 - half - 0.5), 0, (size - 1) // 2)
            out[:, at] = first
            out[:, at + 1] = size - first
        return out

    def crop(self, geohash: str) -> tuple[slice, slice]:
        """Rows and columns of the pixels whose centre lies in the cell, at least one each."""
        first, end, left, right = self.crops(np.array([geohash]))[0].tolist()
        return slice(first, end), slice(left, right)


def choose_precision(gsd: float, latitudes: ArrayLike) -> int:
    """The finest precision of 1..9 whose cell is at least 16 pixels on its short side at every
    latitude given (degrees; above 80 counts as 80); 1 when none is."""
    for precision in range(9, 1, -1):
        across, up = halvings(precision)
        lat = np.minimum(np.abs(np.asarray(latitudes, np.float64)), 80.0)
        east, north = metres_per_degree(lat)
        short = min((360 / 2**across * east).min(), (180 / 2**up * north).min())
        if short >= MIN_SIDE * gsd:
            return precision
    return 1


def pixels_a_cell(precision: int, gsd: float, latitudes: ArrayLike) -> float:
    """How many pixels of `gsd` metres the largest cell between the latitudes has."""
    height, width = _largest_cell(precision, latitudes)
    return height * width / gsd**2


def chip_shape(precision: int, gsd: float, latitudes: ArrayLike) -> tuple[int, int]:
    """Height and width in pixels, multiples of 16, that cover the largest cell between the
    latitudes given. Raises BadInput above 128 pixels, saying the gsd that would fit."""
    metres = _largest_cell(precision, latitudes)
    height, width = (16 * max(1, math.ceil(side / gsd / 16 - 1e-9)) for side in metres)
    if max(height, width) > MAX_SIDE:
        raise BadInput(
            f"gsd: expected at least {_fitting_gsd(metres):g} m for cells of precision {precision} "
            f"to fit {MAX_SIDE} pixels, found {gsd:g} m"
        )
    return height, width


def choose_grid(gsd: float, latitudes: ArrayLike, precision: int | None = None) -> ChipGrid:
    """The chips of an archive: the default precision unless one is given, and the gsd (metres)
    coarsened just enough when a cell would exceed 128 pixels (logged)."""
    if not (math.isfinite(gsd) and gsd > 0):
        raise BadInput(f"gsd: expected metres above 0, found {gsd}")
    chosen = choose_precision(gsd, latitudes) if precision is None else precision
    needed = _fitting_gsd(_largest_cell(chosen, latitudes))
    if needed > gsd:
        _log.info(
            "cells of precision %d need %.4g m a pixel to fit %d pixels: the chips are coarser "
            "than %.4g m", chosen, needed, MAX_SIDE, gsd,
        )  # fmt: skip
        gsd = needed
    return ChipGrid(chosen, gsd, *chip_shape(chosen, gsd, latitudes))


def _largest_cell(precision: int, latitudes: ArrayLike) -> tuple[float, float]:
    """Height and width in metres of the largest cell whose centre is between the latitudes."""
    across, up = halvings(precision)
    wide, tall = 360 / 2**across, 180 / 2**up
    lat = np.asarray(latitudes, np.float64).ravel()
    if not lat.size or not np.isfinite(lat).all():
        raise BadInput("latitudes: expected at least one, all finite")
    # The cell that holds a latitude has its centre up to half a cell away.
    low, high = float(lat.min()) - tall / 2, float(lat.max()) + tall / 2
    least = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    most = min(max(abs(low), abs(high)), 90.0)
    return tall * float(metres_per_degree(most)[1]), wide * float(metres_per_degree(least)[0])


def _fitting_gsd(metres: tuple[float, float]) -> float:
    """The least gsd with four digits at which a cell of this size fits a chip."""
    exact = max(metres) / MAX_SIDE
    unit = 10.0 ** (math.floor(math.log10(exact)) - 3)
    return float(f"{math.ceil(exact / unit) * unit:.10g}")


def _index(degrees: Floats, turn: float, depth: int) -> NDArray[np.int64]:
    """Column or row of the cell that holds a coordinate: start <= degrees < end, exactly."""
    step = turn / 2.0**depth
    index = np.floor((degrees + turn / 2) / step)
    # The sum above rounds; cell borders are exact, so one comparison each way repairs it.
    index -= degrees < index * step - turn / 2
    index += degrees >= (index + 1) * step - turn / 2
    return np.clip(index, 0, 2**depth - 1).astype(np.int64)


def _spans(bbox: Sequence[float], precision: int) -> tuple[list[tuple[int, int]], tuple[int, int]]:
    """Inclusive column ranges (two across the antimeridian) and row range that touch a box."""
    west, south, east, north = (float(side) for side in bbox)
    across, up = halvings(precision)
    if not (-180 <= west <= 180 and -180 <= east <= 180 and -90 <= south <= north <= 90):
        raise BadInput(f"bbox: expected west south east north in degrees, found {tuple(bbox)}")

    def touched(low: float, high: float, turn: float, depth: int) -> tuple[int, int]:
        first, last = _index(np.array([low, high]), turn, depth).tolist()
        touches = first and low == first * (turn / 2.0**depth) - turn / 2
        return first - int(touches), last

    sides = [(west, east)] if west <= east else [(-180.0, east), (west, 180.0)]
    columns = [touched(low, high, 360.0, across) for low, high in sides]
    if len(columns) == 2 and columns[0][1] >= columns[1][0]:
        columns = [(0, 2**across - 1)]
    return columns, touched(south, north, 180.0, up)
