"""Where a raster lies on the ground: degrees to continuous pixel coordinates and back.

Pixel (row 0, column 0) covers 0..1 both ways. A file with ground control points alone is
placed by a polynomial fitted to them: of second order from ten points on, else of first.
Points that do not project, or lie far outside the control points, are NaN.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import CRSError, RasterioError
from rasterio.warp import transform as warp

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.product import Box

Floats = NDArray[np.float64]
LONLAT = CRS.from_epsg(4326)
# Positions inside a chip are interpolated between exact ones; where that could be further off
# than this, in pixels, all of the chip's are computed.
KNOTS, TOLERANCE = 9, 0.05
# Degrees or metres after which a coordinate system repeats itself.
_ROUND_MERCATOR = 2 * math.pi * 6_378_137
_BORDER = 65  # points a side of the border that bounds are taken from
_log = logging.getLogger("embarchive")


class Placement:
    """The map between degrees and pixels of one open rasterio dataset.

    name: for messages, by default the dataset's; shape: height, width. Raises BadInput: no
    coordinate system and no control points, no transform, one that cannot be inverted, a place
    that is not on the Earth.
    """

    def __init__(self, source: Any, name: str | None = None) -> None:
        self.name = name or str(source.name)
        self.shape = (int(source.height), int(source.width))
        points, code = source.gcps
        self.crs = source.crs or code
        self._fits: tuple[_Polynomial, _Polynomial] | None = None
        if self.crs is None:
            raise BadInput(
                f"{self.name}: expected a coordinate system or ground control points, found none"
            )
        if source.transform.is_identity:
            if not points:
                raise BadInput(f"{self.name}: expected a transform (geotransform), found none")
            self._fits = self._fit(points)
        elif not math.isfinite(source.transform.determinant) or source.transform.is_degenerate:
            raise BadInput(
                f"{self.name}: expected a transform that can be inverted, "
                f"found {tuple(source.transform)[:6]}"
            )
        self._forward = tuple(source.transform)[:6]
        self._back = None if self._fits else tuple(~source.transform)[:6]
        self._lonlat = bool(self.crs == LONLAT)
        self._period = 0.0
        if self._lonlat or self.crs.is_geographic:
            self._period = 360.0
        elif self.crs.to_epsg() == 3857:
            self._period = _ROUND_MERCATOR

    def pixels(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Column and row of points in degrees, any one shape; NaN where they do not project."""
        shape = np.shape(lon)
        x, y = np.ravel(lon).astype(np.float64), np.ravel(lat).astype(np.float64)
        if self._fits is not None:
            found = self._fits[0](x, y)
            return found[0].reshape(shape), found[1].reshape(shape)
        if not self._lonlat:
            x, y = _warp(LONLAT, self.crs, x, y)
        if self._period:
            # The same meridian has many longitudes: take the one nearest to the raster.
            a, b, c = self._forward[:3]
            middle = c + a * self.shape[1] / 2 + b * self.shape[0] / 2
            half = self._period / 2
            x = middle + (x - middle + half) % self._period - half
        column, row = _affine(self._back or self._forward, x, y)
        return column.reshape(shape), row.reshape(shape)

    def axes(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Column and row (n, H, W) of chips with evenly spaced axes lon (n, W), lat (n, H).

        Exact at 9 x 9 knots a chip and bilinear between. An interpolated value is off by at
        most an eighth of the second differences between knots; chips where that may exceed
        0.05 pixels (or a knot does not project) are computed whole.
        """
        lon = np.unwrap(lon, period=360, axis=1)
        shape = (len(lon), lat.shape[1], lon.shape[1])
        if min(shape[1:]) < KNOTS:
            return self._whole(lon, lat)
        t = np.linspace(0, 1, KNOTS)
        ends = lon[:, :1], lat[:, :1]
        knots = self._whole(
            ends[0] + t * (lon[:, -1:] - ends[0]), ends[1] + t * (lat[:, -1:] - ends[1])
        )
        down, across = _weights(shape[1]), _weights(shape[2])
        found = tuple(np.matmul(np.matmul(down, values), across.T) for values in knots)
        with np.errstate(invalid="ignore"):
            rough = ~np.all([_bend(values) <= TOLERANCE for values in knots], axis=0)
        for one in np.flatnonzero(rough):
            whole = self._whole(lon[one : one + 1], lat[one : one + 1])
            found[0][one], found[1][one] = whole[0][0], whole[1][0]
        return found[0], found[1]

    def lonlat(self, column: Floats, row: Floats) -> tuple[Floats, Floats]:
        """Degrees of continuous pixel coordinates (n,); NaN where there is no such place."""
        if self._fits is not None:
            return self._fits[1](column, row)
        x, y = _affine(self._forward, column, row)
        return (x, y) if self._lonlat else _warp(self.crs, LONLAT, x, y)

    def gsd(self) -> float:
        """Metres a pixel on the ground at the raster's middle, as the root of its area; the
        transform's own pixel size where that agrees within 1 %."""
        height, width = self.shape
        at = np.array([0.0, 1.0, 0.0]) + width / 2
        lon, lat = self.lonlat(at, np.array([0.0, 0.0, 1.0]) + height / 2)
        east, north = (float(v) for v in grid.metres_per_degree(lat[0]))
        turn = [(float(step) + 180) % 360 - 180 for step in lon[1:] - lon[0]]
        rise = [float(step) for step in lat[1:] - lat[0]]
        ground = math.sqrt(abs(turn[0] * rise[1] - turn[1] * rise[0]) * east * north)
        if not ground > 0 or not math.isfinite(ground):
            raise BadInput(f"{self.name}: expected a place on the Earth, found none at its middle")
        if self._fits is None and self.crs.is_projected:
            a, b, _, d, e, _ = self._forward
            nominal = math.sqrt(abs(a * e - b * d)) * float(self.crs.linear_units_factor[1])
            if abs(nominal / ground - 1) < 0.01:
                return nominal
        return ground

    def bounds(self) -> tuple[Box, ...]:
        """Boxes (west, south, east, north) in degrees around the raster, from its border: two
        across the antimeridian, all longitudes up to the pole where it holds one."""
        height, width = self.shape
        t = np.linspace(0, 1, _BORDER)
        zero, one = np.zeros_like(t), np.ones_like(t)
        column = np.concatenate([t, one, 1 - t, zero]) * width
        row = np.concatenate([zero, t, one, 1 - t]) * height
        lon, lat = self.lonlat(column, row)
        good = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) < 90.1)
        if not good.any():
            raise BadInput(f"{self.name}: expected a place on the Earth, found none on its border")
        lon, lat = np.unwrap(lon[good], period=360), np.clip(lat[good], -90, 90)
        south, north = float(lat.min()), float(lat.max())
        around = float(lon[-1] + (lon[0] - lon[-1] + 180) % 360 - 180 - lon[0])
        if abs(around) > 180 and not self.crs.is_geographic:
            return (
                ((-180.0, south, 180.0, 90.0),)
                if north + south > 0
                else ((-180.0, -90.0, 180.0, north),)
            )
        return _split(float(lon.min()), south, float(lon.max()), north)

    def _fit(self, points: Any) -> tuple[_Polynomial, _Polynomial]:
        if len(points) < 3:
            raise BadInput(f"{self.name}: expected 3 ground control points, found {len(points)}")
        lon, lat = _warp(
            self.crs,
            LONLAT,
            np.array([p.x for p in points], dtype=np.float64),
            np.array([p.y for p in points], dtype=np.float64),
        )
        lon = lon[0] + (lon - lon[0] + 180) % 360 - 180
        column = np.array([p.col for p in points], dtype=np.float64)
        row = np.array([p.row for p in points], dtype=np.float64)
        if not (np.isfinite(lon) & np.isfinite(lat)).all():
            raise BadInput(f"{self.name}: expected ground control points on the Earth")
        there = _Polynomial.fit(lon, lat, column, row, turning=True)
        if there.residual > 1:
            _log.warning("%s: control points fit to %.1f pixels", self.name, there.residual)
        return there, _Polynomial.fit(column, row, lon, lat)

    def _whole(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        shape = (len(lon), lat.shape[1], lon.shape[1])
        x, y = np.broadcast_to(lon[:, None, :], shape), np.broadcast_to(lat[:, :, None], shape)
        return self.pixels(x, y)


@dataclass(frozen=True)
class _Polynomial:
    """A polynomial map of points in the plane; NaN a quarter beyond the points fitted.

    residual: the root mean square distance left, in units of the target. turning: the first
    coordinate is a longitude.
    """

    middle: Floats
    spread: Floats
    weights: Floats
    residual: float
    turning: bool

    @classmethod
    def fit(
        cls, a: Floats, b: Floats, to_a: Floats, to_b: Floats, turning: bool = False
    ) -> _Polynomial:
        low, high = np.array([a.min(), b.min()]), np.array([a.max(), b.max()])
        middle, spread = (low + high) / 2, np.maximum(high - low, 1e-12) / 2
        x, y = (a - middle[0]) / spread[0], (b - middle[1]) / spread[1]
        terms = cls._terms(x, y, len(a) >= 10)
        there = np.stack([to_a, to_b], axis=1)
        weights = cast("Floats", np.linalg.lstsq(terms, there, rcond=None)[0])
        left = np.sqrt(((terms @ weights - there) ** 2).sum(axis=1).mean())
        return cls(middle, spread, weights, float(left), turning)

    @staticmethod
    def _terms(x: Floats, y: Floats, second: bool) -> Floats:
        linear = [np.ones_like(x), x, y]
        return np.stack(linear + ([x * x, x * y, y * y] if second else []), axis=1)

    def __call__(self, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        if self.turning:
            a = self.middle[0] + (a - self.middle[0] + 180) % 360 - 180
        x, y = (a - self.middle[0]) / self.spread[0], (b - self.middle[1]) / self.spread[1]
        found = self._terms(x, y, len(self.weights) == 6) @ self.weights
        # A parabola turns back: far outside, a point would land in the picture again.
        found[~((np.abs(x) <= 1.5) & (np.abs(y) <= 1.5))] = np.nan
        return found[:, 0], found[:, 1]


def _warp(source: CRS, target: CRS, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """rasterio's transform with NaN for points that do not project, instead of an error."""
    out = np.full((2, x.size), np.nan)
    known = np.isfinite(x) & np.isfinite(y)
    if source == LONLAT:
        known &= np.abs(y) <= 90
    queue = [np.flatnonzero(known)]
    while queue:
        part = queue.pop()
        if not part.size:
            continue
        try:
            out[:, part] = warp(source, target, x[part], y[part])
        except (CPLE_BaseError, CRSError, RasterioError):
            # One bad point fails all: halve until it is alone.
            if part.size > 1:
                queue += np.array_split(part, 2)
    out[:, ~(np.abs(out) < 1e15).all(axis=0)] = np.nan
    return out[0], out[1]


def _affine(six: tuple[float, ...], x: Floats, y: Floats) -> tuple[Floats, Floats]:
    a, b, c, d, e, f = six
    return a * x + b * y + c, d * x + e * y + f


def _weights(size: int) -> Floats:
    """Bilinear weights (size, KNOTS) of evenly spaced positions between the knots."""
    at = np.linspace(0, KNOTS - 1, size)
    return cast("Floats", np.maximum(0, 1 - np.abs(at[:, None] - np.arange(KNOTS))))


def _bend(knots: Floats) -> Floats:
    """The most that interpolating between knots (n, 9, 9) can be off, (n,)."""
    across = np.abs(np.diff(knots, 2, axis=2)).max(axis=(1, 2))
    down = np.abs(np.diff(knots, 2, axis=1)).max(axis=(1, 2))
    return cast("Floats", (across + down) / 8)


def _split(west: float, south: float, east: float, north: float) -> tuple[Box, ...]:
    """A box of any longitudes as boxes within -180..180."""
    if east - west >= 360:
        return ((-180.0, south, 180.0, north),)
    turn = 360 * math.floor((west + 180) / 360)
    west, east = west - turn, east - turn
    if east > 180:
        return ((west, south, 180.0, north), (-180.0, south, east - 360, north))
    return ((west, south, east, north),)
