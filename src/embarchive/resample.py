"""One raster sampled at the pixels of chips: averaged, bilinear, weighted by what is valid.

With r = chip gsd / raster gsd, a finer raster is block-averaged by the integer factor floor(r),
on blocks aligned to the raster's origin, and then sampled bilinearly at k x k points a pixel,
k = ceil(what ratio remains); a coarser one is sampled bilinearly. All weights are renormalised
over valid samples; where less than half of the weight is valid nothing is known. Positions are
rounded to 1/4096 of a block, so that results depend neither on how chips are grouped nor on
the last bit of a projection.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from embarchive import digests, grid

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

READ_BYTES = 64_000_000
# A ratio this much above a whole number is taken for that number: gsd is not exact.
_SLACK = 0.05
_BITS = 12
_FINE = 1 << _BITS
_PAD = 2
_STRIPE = 128


class BandLike(Protocol):
    """Recipe units = stored value * scale + offset."""

    @property
    def scale(self) -> float:
        """Factor of a stored value."""

    @property
    def offset(self) -> float:
        """Added after the factor."""


class RasterLike(Protocol):
    """Bands on one pixel grid, or the cloud layer."""

    @property
    def bands(self) -> Sequence[int]:
        """Indices into the scene's bands; none for a cloud layer."""

    @property
    def cloud(self) -> bool:
        """Whether `read` gives only what is not cloud."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @property
    def gsd(self) -> float:
        """Metres a pixel on the ground."""

    def project_axes(
        self, lon: NDArray[np.float64], lat: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Column and row (n, H, W) of axes lon (n, W), lat (n, H); pixel 0 spans 0..1."""

    def read(self, row0: int, row1: int, col0: int, col1: int) -> tuple[NDArray[Any], Mask]:
        """Stored values (bands, h, w) and which of them are data; for a cloud layer (1, h, w)
        False where cloudy."""


@dataclass(frozen=True)
class Plan:
    """How one raster is resampled: blocks of `factor` pixels a side, k x k points a pixel."""

    raster: RasterLike
    factor: int
    k: int

    @classmethod
    def of(cls, raster: RasterLike, chips: grid.ChipGrid) -> Plan:
        """The plan for chips of another gsd."""
        ratio = chips.gsd / raster.gsd
        factor = max(1, math.floor(ratio + _SLACK))
        return cls(raster, factor, max(1, math.ceil(ratio / factor - _SLACK)))

    @property
    def blocks(self) -> tuple[int, int]:
        """Rows and columns of blocks, the last ones perhaps not whole."""
        height, width = self.raster.shape
        return -(-height // self.factor), -(-width // self.factor)

    def positions(
        self, lon: NDArray[np.float64], lat: NDArray[np.float64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns and rows (n, H, W) in 1/4096 of a block from the first block's centre; far
        outside where a point does not project."""
        column, row = self.raster.project_axes(lon, np.clip(lat, -90.0, 90.0))
        off = ~(np.isfinite(column) & np.isfinite(row)) | (np.abs(lat) > 90)[:, :, None]
        found = []
        for place, size in ((column, self.blocks[1]), (row, self.blocks[0])):
            place = np.where(off, -9.0, np.clip(place / self.factor - 0.5, -9.0, size + 9.0))
            found.append(np.rint(place * _FINE).astype(np.int64))
        return found[0], found[1]

    def spans(self, column: NDArray[np.int64], row: NDArray[np.int64]) -> NDArray[np.int64]:
        """Blocks that bilinear sampling touches, clipped to the raster: first row, end row, first
        column, end column, (n, 4); empty ones have end <= first."""
        out = np.empty((len(column), 4), dtype=np.int64)
        for at, place, size in ((0, row, self.blocks[0]), (2, column, self.blocks[1])):
            out[:, at] = np.maximum(place.min(axis=(1, 2)) // _FINE, 0)
            out[:, at + 1] = np.minimum(place.max(axis=(1, 2)) // _FINE + 2, size)
        return out

    def window_bytes(self, names: NDArray[np.str_], chips: grid.ChipGrid) -> float:
        """Bytes of the averaged window of a group, from the corners of its chips."""
        lon, lat = chips.pixel_lonlat(names)
        spans = self.spans(*self.positions(lon[:, [0, -1]], lat[:, [0, -1]]))
        spans = spans[(spans[:, 1] > spans[:, 0]) & (spans[:, 3] > spans[:, 2])]
        if not len(spans):
            return 0.0
        row0, _, col0, _ = spans.min(axis=0).tolist()
        _, row1, _, col1 = spans.max(axis=0).tolist()
        return float(4 * max(1, len(self.raster.bands)) * (row1 - row0) * (col1 - col0))


@dataclass(frozen=True)
class Window:
    """Averaged blocks around a group with a border of nothing: values float32 (bands, h, w), 0
    where nothing is valid; weight float32 (h, w), the valid share of a block; row and column of
    the first block of the border."""

    values: Floats
    weight: Floats
    row0: int
    col0: int


def read_window(
    plan: Plan, bands: Sequence[BandLike], spans: NDArray[np.int64], parts: list[list[bytes]]
) -> Window:
    """Read what a group needs of a raster, average it, and add the digest of each chip's native
    samples, stripe by stripe, to its parts."""
    raster, f = plan.raster, plan.factor
    some = np.flatnonzero((spans[:, 1] > spans[:, 0]) & (spans[:, 3] > spans[:, 2]))
    count = max(1, len(raster.bands))
    if not len(some):
        nothing = np.zeros((2 * _PAD, 2 * _PAD), dtype=np.float32)
        return Window(np.zeros((count, *nothing.shape), dtype=np.float32), nothing, 0, 0)
    row0, _, col0, _ = spans[some].min(axis=0).tolist()
    _, row1, _, col1 = spans[some].max(axis=0).tolist()
    shape = (row1 - row0 + 2 * _PAD, col1 - col0 + 2 * _PAD)
    values, weight = np.zeros((count, *shape), np.float32), np.zeros(shape, np.float32)
    # Stripes are fixed rows of the raster, so that digests do not depend on the reads.
    stripe = -(-_STRIPE // f)
    wide = (col1 - col0) * f * count * 4
    step = stripe * max(1, READ_BYTES // (wide * stripe * f))
    inside = (slice(_PAD, _PAD + col1 - col0),)
    for start in range(row0 - row0 % step, row1, step):
        first, last = max(start, row0), min(start + step, row1)
        stored, valid = _read_pixels(raster, (first * f, last * f, col0 * f, col1 * f))
        _digest(plan, spans, some, (first, last, col0, stripe), stored, valid, parts)
        rows = slice(first - row0 + _PAD, last - row0 + _PAD)
        values[(slice(None), rows, *inside)], weight[(rows, *inside)] = _average(
            stored, valid, [bands[i] for i in raster.bands], f
        )
    return Window(values, weight, row0 - _PAD, col0 - _PAD)


def _read_pixels(
    raster: RasterLike, window: tuple[int, int, int, int]
) -> tuple[NDArray[Any], Mask]:
    """Stored values (bands, h, w) and where they count, (1, h, w): valid in all bands. For a
    cloud layer 1 where clear, valid everywhere."""
    row0, row1, col0, col1 = window
    stored, valid = raster.read(row0, min(row1, raster.shape[0]), col0, min(col1, raster.shape[1]))
    if raster.cloud:
        return np.ascontiguousarray(valid, dtype=np.uint8), np.ones_like(valid)
    together = np.logical_and.reduce(valid, axis=0, keepdims=True)
    if stored.dtype.kind == "f":
        together &= np.isfinite(stored).all(axis=0, keepdims=True)
    return stored, together


def _digest(
    plan: Plan,
    spans: NDArray[np.int64],
    some: NDArray[np.intp],
    window: tuple[int, int, int, int],
    stored: NDArray[Any],
    valid: Mask,
    parts: list[list[bytes]],
) -> None:
    """Hash the native samples of each chip in the window's block rows first..last, from the
    column col0, a stripe at a time."""
    first, last, col0, stripe = window
    f = plan.factor
    for i in some.tolist():
        row0, row1, left, right = spans[i].tolist()
        columns = slice((left - col0) * f, (right - col0) * f)
        start = max(row0, first)
        while start < min(row1, last):
            end = min(start - start % stripe + stripe, row1, last)
            rows = slice((start - first) * f, (end - first) * f)
            samples = stored[:, rows, columns]
            raw = samples.ravel().view(np.uint8).data
            counted = np.packbits(valid[:, rows, columns])
            head = f"{samples.dtype.str} {samples.shape} {list(plan.raster.bands)}"
            parts[i].append(digests.chip_digest([head.encode(), raw, counted.data]))
            start = end


def _average(
    stored: NDArray[Any], valid: Mask, bands: Sequence[BandLike], f: int
) -> tuple[Floats, Floats]:
    """Blocks of f x f: sums of valid values in recipe units over f * f, float32 (bands, h, w),
    and the valid share of each block, float32 (h, w)."""
    known = valid[0]
    weight = _block_sums(known.astype(np.float32), f)
    values = np.empty((len(stored), *weight.shape), dtype=np.float32)
    for i, one in enumerate(stored):
        units = one.astype(np.float32)
        if bands:
            units *= np.float32(bands[i].scale)
            units += np.float32(bands[i].offset)
        units[~known] = 0
        values[i] = _block_sums(units, f)
    scale = np.float32(1 / (f * f))
    return values * scale, weight * scale


def _block_sums(image: Floats, f: int) -> Floats:
    """Sums of blocks f x f; what is missing of the last ones counts as 0."""
    if f == 1:
        return image
    height, width = image.shape
    image = np.pad(image, ((0, -height % f), (0, -width % f)))
    rows = image.reshape(-1, f, image.shape[1]).sum(axis=1)
    return cast(Floats, np.add.reduce([rows[:, i::f] for i in range(f)]))


def sample(
    window: Window, column: NDArray[np.int64], row: NDArray[np.int64], k: int
) -> tuple[Floats, Floats]:
    """Bilinear values float32 (bands, H, W) of one chip at positions (H * k, W * k), and the
    weight of valid samples, float32 (H, W)."""
    height, width = window.weight.shape
    x = np.clip((column >> _BITS) - window.col0, 0, width - 2)
    y = np.clip((row >> _BITS) - window.row0, 0, height - 2)
    fx = ((column & (_FINE - 1)) * (1 / _FINE)).astype(np.float32).ravel()
    fy = ((row & (_FINE - 1)) * (1 / _FINE)).astype(np.float32).ravel()
    at = (y * width + x).ravel()
    values = window.values.reshape(len(window.values), -1)
    total, weight = np.float32(0), np.float32(0)
    for step, share in (
        (0, (1 - fx) * (1 - fy)),
        (1, fx * (1 - fy)),
        (width, (1 - fx) * fy),
        (width + 1, fx * fy),
    ):
        corner = at + step
        total = total + np.take(values, corner, axis=1) * share
        weight = weight + np.take(window.weight.ravel(), corner) * share
    shape = (row.shape[0] // k, k, row.shape[1] // k, k)
    weight = weight.reshape(shape).sum(axis=(1, 3)) / np.float32(k * k)
    total = total.reshape(-1, *shape).sum(axis=(2, 4)) / np.float32(k * k)
    return total / np.where(weight > 0, weight, np.float32(1)), weight
