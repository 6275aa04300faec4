"""Chips of other land in the place of some cells, in copies of a scene's rasters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.warp import transform as reproject

from embarchive import grid


def windows(path: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """First row, first column, rows and columns of cells in a raster, int64 (n, 4)."""
    with rasterio.open(path) as raster:
        found = []
        for west, south, east, north in grid.bounds(list(names)):
            x, y = reproject(
                "EPSG:4326", raster.crs, [west, east, east, west], [south, south, north, north]
            )
            a, b, c, d, e, f = tuple(~raster.transform)[:6]
            x, y = np.array(x), np.array(y)
            column, row = a * x + b * y + c, d * x + e * y + f
            wide, high = np.ptp(column), np.ptp(row)
            found.append([row.mean() - high / 2, column.mean() - wide / 2, high, wide])
        return np.rint(found).astype(np.int64)


def inside(path: Path, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which cells lie in a raster whole."""
    box = windows(path, names)
    with rasterio.open(path) as raster:
        low = (box[:, :2] >= 0).all(axis=1)
        return (
            low & (box[:, 0] + box[:, 2] <= raster.height) & (box[:, 1] + box[:, 3] <= raster.width)
        )


@dataclass(frozen=True)
class Plant:
    """A cell, the one whose land it gets, its kind, and the part of both: share of the sides, and
    where it begins in what is left, across and down, 0..1."""

    cell: str
    donor: str
    kind: int
    side: float
    at: tuple[float, float, float, float]


def rasters(scene: str) -> list[Path]:
    """The files of a scene."""
    return sorted(Path(scene).glob("*.tif")) if Path(scene).is_dir() else [Path(scene)]


def write_planted(scene: str, folder: Path, plants: Sequence[Plant]) -> str:
    """A copy of a scene with the plants that lie in it; its path."""
    name, found = Path(scene).name, rasters(scene)
    target = folder / name if Path(scene).is_dir() else folder
    target.mkdir(parents=True, exist_ok=True)
    kept = [p for p in plants if inside(found[0], [p.cell, p.donor]).all()]
    for path in found:
        with rasterio.open(path) as raster:
            data, crs, transform, nodata = (
                raster.read(), raster.crs, raster.transform, raster.nodata
            )  # fmt: skip
        out = data.copy()
        for plant in kept:
            (row, column, high, wide), (row2, column2, _, _) = windows(
                path, [plant.cell, plant.donor]
            ).tolist()
            h, w = round(high * plant.side), round(wide * plant.side)
            up, left, up2, left2 = (
                round(share * room)
                for share, room in zip(plant.at, (high - h, wide - w) * 2, strict=True)
            )
            out[:, row + up : row + up + h, column + left : column + left + w] = data[
                :, row2 + up2 : row2 + up2 + h, column2 + left2 : column2 + left2 + w
            ]
        profile = {
            "driver": "GTiff", "count": len(out), "height": out.shape[1], "width": out.shape[2],
            "dtype": out.dtype, "crs": crs, "transform": transform, "nodata": nodata,
            "photometric": "MINISBLACK",
        }  # fmt: skip
        with rasterio.open(target / path.name, "w", **profile) as copy:
            copy.write(out)
    return str(folder / name)
