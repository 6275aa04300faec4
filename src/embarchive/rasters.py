"""The door to raster files: headers, windows, positions on the ground, and GeoTIFFs out.

Only named drivers open a file, never a virtual raster, never the network. Where a file has
ground control points alone, pixel positions are a polynomial of second order fitted to them
(first order below ten points).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags, Resampling
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.warp import transform
from rasterio.windows import Window

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.product import Box

Floats = NDArray[np.float64]
Affine6 = tuple[float, float, float, float, float, float]
# A file is opened by the driver that its first bytes name, whatever it is called.
DRIVERS = {
    b"II*\0": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0*": "GTiff",
    b"MM\0+": "GTiff",
    b"\0\0\0\x0cjP  ": "JP2OpenJPEG",
    b"\xff\x4f\xff\x51": "JP2OpenJPEG",
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG": "PNG",
    b"EHFA_HEADER_TAG": "HFA",
}
SAFE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "FALSE",
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": "{none}",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_CACHEMAX": 128,
    "GDAL_PAM_ENABLED": "YES",
}
MAX_PIXELS = 10**10
MAX_BANDS = 4096
# Positions inside a chip are interpolated between exact ones; further off than this they are
# all computed.
KNOTS, TOLERANCE = 9, 0.05
_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}

logging.getLogger("rasterio").setLevel(logging.CRITICAL)


@dataclass(frozen=True)
class Header:
    """What a file says of itself without its pixels.

    names: of its bands, "" where it has none; shape: height, width; placed: it has a
    coordinate system and a transform, or ground control points.
    """

    path: str
    count: int
    shape: tuple[int, int]
    names: tuple[str, ...]
    alpha: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: float | None
    tags: Mapping[str, str]
    placed: bool
    gsd: float
    bounds: tuple[Box, ...]


class Placement:
    """Where a raster lies: longitude and latitude to continuous pixel coordinates and back."""

    def __init__(self, source: Any) -> None:
        self.shape = (int(source.height), int(source.width))
        points, code = source.gcps
        self.crs = source.crs or code
        if self.crs is None or (source.crs is None and not points):
            raise BadInput(f"{source.name}: expected a coordinate system, found none")
        self._fits: tuple[_Polynomial, _Polynomial] | None = None
        if source.crs is None or (source.transform.is_identity and points):
            x, y = np.array([p.x for p in points]), np.array([p.y for p in points])
            here = np.stack(_warp(self.crs, "EPSG:4326", x, y), axis=1)
            there = np.array([(p.col, p.row) for p in points], dtype=np.float64)
            self._fits = _Polynomial.fit(here, there), _Polynomial.fit(there, here)
        elif source.transform.is_identity:
            raise BadInput(f"{source.name}: expected a transform, found none")
        self._forward = source.transform
        self._back = ~source.transform
        self._geographic = bool(self.crs.is_geographic)

    def pixels(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Column and row of points in degrees, any shape; NaN where they do not project."""
        shape = lon.shape
        x, y = lon.ravel(), lat.ravel()
        if self._fits is not None:
            found = self._fits[0](np.stack([x, y], axis=1))
            return found[:, 0].reshape(shape), found[:, 1].reshape(shape)
        px, py = _warp("EPSG:4326", self.crs, x, y)
        if self._geographic:
            a, _, c = self._forward.a, self._forward.b, self._forward.c
            middle = c + a * self.shape[1] / 2
            px = middle + (px - middle + 180) % 360 - 180
        column, row = self._back * (px, py)
        return np.asarray(column).reshape(shape), np.asarray(row).reshape(shape)

    def lonlat(self, column: Floats, row: Floats) -> tuple[Floats, Floats]:
        """Degrees of continuous pixel coordinates (n,)."""
        if self._fits is not None:
            found = self._fits[1](np.stack([column, row], axis=1))
            return found[:, 0], found[:, 1]
        x, y = self._forward * (column, row)
        return _warp(self.crs, "EPSG:4326", np.asarray(x), np.asarray(y))

    def gsd(self) -> float:
        """Metres a pixel on the ground at the middle of the raster."""
        height, width = self.shape
        at = np.array([width / 2, width / 2 + 1, width / 2])
        lon, lat = self.lonlat(at, np.array([height / 2, height / 2, height / 2 + 1]))
        here = np.stack([lon, lat], axis=1)
        sides = grid.distance_m(here[:1], here[1:])
        return float(np.sqrt(sides[0] * sides[1]))

    def bounds(self) -> tuple[Box, ...]:
        """Boxes in degrees around the raster: two across the antimeridian, and to the pole for
        one that holds it."""
        height, width = self.shape
        t = np.linspace(0, 1, 65)
        zero, one = np.zeros_like(t), np.ones_like(t)
        column = np.concatenate([t, one, t, zero]) * width
        row = np.concatenate([zero, t, one, t]) * height
        lon, lat = self.lonlat(column, row)
        good = np.isfinite(lon) & np.isfinite(lat) & (np.abs(lat) <= 90.000001)
        if not good.any():
            raise BadInput("raster: expected a place on the ground, found none")
        lon, lat = lon[good], np.clip(lat[good], -90, 90)
        for pole in (90.0, -90.0):
            at = self.pixels(np.array([0.0]), np.array([pole]))
            if 0 <= at[0][0] <= width and 0 <= at[1][0] <= height and abs(lat).min() > 30:
                return ((-180.0, min(float(lat.min()), pole), 180.0, max(float(lat.max()), pole)),)
        if float(lon.max() - lon.min()) >= 359.0 and self._geographic:
            return ((-180.0, float(lat.min()), 180.0, float(lat.max())),)
        away = (lon - lon[0] + 180) % 360 - 180
        west, east = float(lon[0] + away.min()), float(lon[0] + away.max())
        return _split(west, float(lat.min()), east, float(lat.max()))


@dataclass(frozen=True)
class _Polynomial:
    """A polynomial map of points (n, 2), with its own normalisation."""

    middle: Floats
    spread: Floats
    weights: Floats

    @classmethod
    def fit(cls, here: Floats, there: Floats) -> _Polynomial:
        if len(here) < 3:
            raise BadInput(f"ground control points: expected at least 3, found {len(here)}")
        middle, spread = here.mean(axis=0), np.maximum(np.ptp(here, axis=0), 1e-12)
        terms = cls._terms((here - middle) / spread, len(here) >= 10)
        return cls(middle, spread, np.linalg.lstsq(terms, there, rcond=None)[0])

    @staticmethod
    def _terms(p: Floats, second: bool) -> Floats:
        x, y = p[:, 0], p[:, 1]
        linear = [np.ones_like(x), x, y]
        return np.stack(linear + ([x * x, x * y, y * y] if second else []), axis=1)

    def __call__(self, points: Floats) -> Floats:
        terms = self._terms((points - self.middle) / self.spread, len(self.weights) == 6)
        return cast("Floats", terms @ self.weights)


@dataclass(frozen=True)
class Layers:
    """Some bands of one open file, on one pixel grid; what `tiles.cut` samples.

    bands: indices into the scene's bands; index: the file's own, from 1; nodata: one a band;
    hidden: of a class layer, what counts as cloud.
    """

    source: Any
    placement: Placement
    bands: tuple[int, ...]
    index: tuple[int, ...]
    nodata: tuple[float | None, ...]
    gsd: float
    hidden: tuple[str, tuple[int, ...]] | None = None

    @property
    def cloud(self) -> bool:
        """Whether `read` gives only what is not cloud."""
        return self.hidden is not None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.placement.shape

    def project_axes(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Column and row (n, H, W) of axes lon (n, W), lat (n, H), degrees.

        Exact at 9 x 9 knots a chip and bilinear between; chips where that is more than 0.05
        pixels off half-way are computed whole. Each chip by itself.
        """
        n, w, h = len(lon), lon.shape[1], lat.shape[1]
        across, down = (np.linspace(0, size - 1, min(KNOTS, size)).round() for size in (w, h))
        i, j = across.astype(int), down.astype(int)
        knots = self._exact(lon[:, i], lat[:, j])
        wx, wy = _weights(across, w), _weights(down, h)
        found = [np.matmul(np.matmul(wy, values), wx.T) for values in knots]
        probe = int(i[:2].mean()), int(j[:2].mean())
        check = self._exact(lon[:, probe[:1]], lat[:, probe[1:]])
        gap = np.maximum(
            *(
                np.abs(a[:, probe[1], probe[0]] - b[:, 0, 0])
                for a, b in zip(found, check, strict=True)
            )
        )
        rough = np.flatnonzero(gap > TOLERANCE)
        for one in rough:
            whole = self._exact(lon[one : one + 1], lat[one : one + 1])
            for values, exact in zip(found, whole, strict=True):
                values[one] = exact[0]
        assert found[0].shape == (n, h, w)
        return found[0], found[1]

    def read(self, row0: int, row1: int, col0: int, col1: int) -> tuple[NDArray[Any], Any]:
        """Stored values (bands, h, w) and which of them are data; see `resample.Raster`."""
        window = Window(col0, row0, col1 - col0, row1 - row0)  # type: ignore[call-arg,no-untyped-call,unused-ignore]
        try:
            values = self.source.read(list(self.index), window=window)
            if self.hidden is not None:
                return values, _clear(values, *self.hidden)
            valid = np.ones(values.shape, dtype=bool)
            for at, (index, nodata) in enumerate(zip(self.index, self.nodata, strict=True)):
                if values.dtype.kind == "f":
                    valid[at] = np.isfinite(values[at])
                if nodata is not None and not np.isnan(nodata):
                    valid[at] &= values[at] != np.asarray(nodata).astype(values.dtype)
                flags = self.source.mask_flag_enums[index - 1]
                if MaskFlags.per_dataset in flags:
                    valid[at] &= self.source.read_masks(index, window=window) > 0
        except (RasterioError, ValueError, OSError) as error:
            raise BadInput(
                f"{self.source.name}: expected readable pixels, found {_line(error)}"
            ) from None
        return values, valid

    def _exact(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        shape = (len(lon), lat.shape[1], lon.shape[1])
        return self.placement.pixels(
            np.broadcast_to(lon[:, None, :], shape), np.broadcast_to(lat[:, :, None], shape)
        )


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An open rasterio dataset. Raises BadInput: no such file, not a raster, too large."""
    if not Path(path).is_file():
        raise BadInput(f"{path}: expected a raster file, found no such file")
    with rasterio.Env(**SAFE), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            source = rasterio.open(path, driver=_driver(path))
        except (RasterioError, ValueError, OSError) as error:
            raise BadInput(f"{path}: expected a raster, found {_line(error)}") from None
        with source:
            if source.width * source.height > MAX_PIXELS or source.count > MAX_BANDS:
                raise BadInput(
                    f"{path}: expected at most {MAX_PIXELS} pixels and {MAX_BANDS} bands, found "
                    f"{source.width} x {source.height} x {source.count}"
                )
            yield source


def _driver(path: str | Path) -> str:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError as error:
        raise BadInput(f"{path}: expected a raster file, found {error.strerror}") from None
    for magic, driver in DRIVERS.items():
        if start.startswith(magic):
            return driver
    known = ", ".join(dict.fromkeys(DRIVERS.values()))
    raise BadInput(f"{path}: expected a raster ({known}), found another kind of file")


def read_header(path: str | Path) -> Header:
    """The header of a raster file. Raises BadInput."""
    with opened(path) as source:
        try:
            placement: Placement | None = Placement(source)
        except BadInput:
            placement = None
        colours = source.colorinterp
        names = [
            (text or _COLOURS.get(colour, ""))
            for text, colour in zip(source.descriptions, colours, strict=True)
        ]
        return Header(
            path=str(path),
            count=source.count,
            shape=(source.height, source.width),
            names=tuple(names),
            alpha=tuple(i + 1 for i, c in enumerate(colours) if c == ColorInterp.alpha),
            scales=tuple(source.scales),
            offsets=tuple(source.offsets),
            nodata=source.nodata,
            tags=dict(source.tags()),
            placed=placement is not None,
            gsd=placement.gsd() if placement else 0.0,
            bounds=placement.bounds() if placement else (),
        )


def write_geotiff(
    path: str | Path,
    image: NDArray[np.float32],
    transform: Affine6,
    crs: str,
    band_names: Sequence[str],
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write an image float32 (bands, height, width) as a tiled, compressed GeoTIFF, whole or
    not at all. Raises BadInput when the target cannot be written."""
    count, height, width = image.shape
    target = Path(path)
    beside = target.with_name(f".{target.name}.part")
    try:
        with rasterio.open(
            beside,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype="float32",
            crs=crs,
            transform=rasterio.Affine(*transform),
            nodata=nodata,
            compress="deflate",
            predictor=3,
        ) as out:
            out.write(image)
            out.descriptions = tuple(band_names)
            out.update_tags(**dict(tags or {}))
        beside.replace(target)
    except (RasterioError, OSError) as error:
        beside.unlink(missing_ok=True)
        raise BadInput(f"{path}: expected a file that can be written: {_line(error)}") from None


def read_image(path: str | Path, count: int, height: int, width: int) -> NDArray[np.float32]:
    """The first `count` bands of any raster as stored numbers, averaged to height x width."""
    with opened(path) as source:
        if source.count < count:
            raise BadInput(f"{path}: expected at least {count} bands, found {source.count}")
        try:
            found = source.read(
                list(range(1, count + 1)),
                out_shape=(count, height, width),
                resampling=Resampling.average,
            )
        except (RasterioError, ValueError, OSError) as error:
            raise BadInput(f"{path}: expected readable pixels, found {_line(error)}") from None
    return cast("NDArray[np.float32]", found.astype(np.float32))


def _warp(source: Any, target: Any, x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Points (n,) in another coordinate system; NaN outside its domain."""
    try:
        found = np.array(transform(source, target, x, y)[:2], dtype=np.float64)
    except (RasterioError, CPLE_BaseError):
        # One point outside may fail all: halve until those that do are alone.
        if len(x) == 1:
            return np.full(1, np.nan), np.full(1, np.nan)
        half = len(x) // 2
        parts = [_warp(source, target, x[s], y[s]) for s in (slice(half), slice(half, None))]
        found = np.concatenate([np.stack(part) for part in parts], axis=1)
    found[:, ~np.isfinite(found).all(axis=0)] = np.nan
    return found[0], found[1]


def _weights(knots: Floats, size: int) -> Floats:
    """Bilinear weights (size, knots) of every position between knots."""
    at = np.arange(size, dtype=np.float64)
    left = np.clip(np.searchsorted(knots, at, side="right") - 1, 0, max(len(knots) - 2, 0))
    out = np.zeros((size, len(knots)))
    if len(knots) == 1:
        out[:, 0] = 1
        return out
    share = (at - knots[left]) / (knots[left + 1] - knots[left])
    out[np.arange(size), left] = 1 - share
    out[np.arange(size), left + 1] = share
    return out


def _clear(values: NDArray[Any], kind: str, hidden: Sequence[int]) -> NDArray[np.bool_]:
    if kind == "bits":
        mask = np.asarray(sum(1 << bit for bit in hidden), dtype=values.dtype)
        return cast("NDArray[np.bool_]", (values & mask) == 0)
    return ~np.isin(values, np.array(hidden))


def _split(west: float, south: float, east: float, north: float) -> tuple[Box, ...]:
    if east - west >= 360:
        return ((-180.0, south, 180.0, north),)
    if west < -180:
        return ((west + 360, south, 180.0, north), (-180.0, south, east, north))
    if east > 180:
        return ((west, south, 180.0, north), (-180.0, south, east - 360, north))
    return ((west, south, east, north),)


def _line(error: BaseException) -> str:
    return str(error).strip().split("\n")[0][:160] or type(error).__name__
