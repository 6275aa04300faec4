"""What the scenes themselves take, and how well tiles give back their own samples.

Raw means native samples at native resolution, and an error there is measured after resampling
the decoded tile to that grid: else resampling makes any ratio free.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.io import MemoryFile
from rasterio.warp import transform, transform_bounds
from rasterio.windows import Window, from_bounds
from scipy.ndimage import map_coordinates
from sets import Images, Task

from embarchive import grid
from embarchive.gather import chip_grid
from embarchive.product import Band


@dataclass(frozen=True)
class Stored:
    """Mean bytes a tile and date: native samples as they are, and all of a scene compressed."""

    raw: float
    lzw_geotiff: float
    zstd_cog: float


def lossless(task: Task) -> Stored:
    """What the scenes of a set take a tile, by their pixels that are data."""
    area = _cell_area(task)
    totals, raw = np.zeros(2), 0.0
    share = 1 / len(task.scenes)
    for scene in task.scenes:
        for path in sorted({band.path for band in scene.bands}):
            bands = [band for band in scene.bands if band.path == path]
            with rasterio.open(path) as source:
                pixels = source.read([band.index for band in bands])
                profile, pixel = source.profile, abs(source.transform.a * source.transform.e)
            raw += share * len(bands) * area / pixel * pixels.dtype.itemsize
            data = _is_data(pixels[0], bands[0]).mean() * pixels[0].size * pixel / area
            for at, options in enumerate((LZW, ZSTD)):
                totals[at] += share * _size(pixels, profile, options) / max(data, 1e-9)
    return Stored(raw, *totals.tolist())


LZW = {"driver": "GTiff", "compress": "LZW", "tiled": True}
ZSTD = {"driver": "COG", "compress": "ZSTD", "level": 15, "overviews": "NONE"}


def _size(
    pixels: NDArray[np.generic], profile: dict[str, object], options: dict[str, object]
) -> int:
    real = pixels.dtype.kind == "f"
    predictor = {"predictor": 3 if real else 2}
    if options["driver"] == "COG":
        predictor = {"predictor": "FLOATING_POINT" if real else "STANDARD"}
    with MemoryFile() as memory:
        with memory.open(
            **options, **predictor, count=len(pixels), height=pixels.shape[1],
            width=pixels.shape[2], dtype=pixels.dtype, crs=profile["crs"],
            transform=profile["transform"], nodata=profile.get("nodata"),
        ) as out:  # fmt: skip
            out.write(pixels)
        return len(memory.read())


def native_error(task: Task, images: Images) -> NDArray[np.float64]:
    """Mean squared error (n,) of decoded test tiles over the native samples of their cells,
    recipe units, each band at its own resolution; NaN where a tile has none that is valid."""
    grids, test = chip_grid(task.settings), task.test
    total, count = np.zeros(len(test)), np.zeros(len(test))
    for number, scene in enumerate(task.scenes):
        rows = np.flatnonzero(test.scene == number)
        for at, band in enumerate(scene.bands):
            with rasterio.open(band.path) as source:
                # At once: a JPEG 2000 file is decoded whole for each window.
                whole = source.read(band.index)
                for i in rows.tolist():
                    name = str(test.sample.geohash[i])
                    lon, lat, values = _samples(source, whole, name)
                    a, _, left, _, e, top = grids.transform(name)
                    place = np.stack(
                        [
                            (lat - top) / e - 0.5 - task.crop[0].start,
                            (lon - left) / a - 0.5 - task.crop[1].start,
                        ]
                    )
                    valid = map_coordinates(test.valid[i].astype(np.float32), place, order=0,
                                            mode="nearest") > 0.5  # fmt: skip
                    known = valid & _is_data(values, band)
                    found = map_coordinates(images[i, at], place, order=1, mode="nearest")
                    truth = values.astype(np.float64) * band.scale + band.offset
                    total[i] += np.square(found - truth)[known].sum()
                    count[i] += known.sum()
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _samples(
    source: rasterio.DatasetReader, whole: NDArray[np.generic], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.generic]]:
    """Longitude, latitude and stored value (m,) of the samples whose centre lies in a cell."""
    west, south, east, north = grid.bounds([name])[0].tolist()
    box = transform_bounds("EPSG:4326", source.crs, west, south, east, north, densify_pts=9)
    exact = from_bounds(*box, source.transform)
    top, left = max(0, math.floor(exact.row_off)), max(0, math.floor(exact.col_off))
    end = min(source.height, math.ceil(exact.row_off + exact.height))
    right = min(source.width, math.ceil(exact.col_off + exact.width))
    end, right = max(end, top + 1), max(right, left + 1)
    values = whole[top:end, left:right]
    window = Window(left, top, right - left, end - top)
    rows, columns = np.indices(values.shape)
    x, y = source.window_transform(window) @ (columns.ravel() + 0.5, rows.ravel() + 0.5)
    lon, lat = (np.array(axis) for axis in transform(source.crs, "EPSG:4326", x, y))
    inside = (lon >= west) & (lon < east) & (lat >= south) & (lat < north)
    return lon[inside], lat[inside], values.ravel()[inside]


def _is_data(values: NDArray[np.generic], band: Band) -> NDArray[np.bool_]:
    known = np.isfinite(values.astype(np.float64))
    return known if band.nodata is None else known & (values != band.nodata)


def _cell_area(task: Task) -> float:
    """Mean square metres of a test cell."""
    west, south, east, north = grid.bounds(np.unique(task.test.sample.geohash)).T
    across, up = grid.metres_per_degree((south + north) / 2)
    return float(np.mean((east - west) * across * (north - south) * up))
