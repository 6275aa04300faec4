"""Single pictures: GeoTIFFs out, and any raster in, averaged to the size of a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Resampling

from embarchive.errors import BadInput
from embarchive.product import Band
from embarchive.rasters import FAILURES, GDAL_OPTIONS, one_line, opened

Affine6 = tuple[float, float, float, float, float, float]


def write_geotiff(
    path: str | Path,
    image: NDArray[np.float32],
    transform: Affine6,
    crs: str,
    band_names: Sequence[str],
    nodata: float | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Write an image float32 (bands, height, width) as a compressed GeoTIFF, whole or not at
    all. Raises BadInput when the target cannot be written."""
    count, height, width = image.shape
    target = Path(path)
    beside = target.with_name(f".{target.name}.part")
    try:
        with (
            rasterio.Env(**GDAL_OPTIONS),
            rasterio.open(
                beside.absolute(),
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
                tiled=min(height, width) >= 512,
                bigtiff="if_safer",
            ) as out,
        ):
            out.write(image)
            out.descriptions = tuple(band_names)
            out.update_tags(**dict(tags or {}))
        beside.replace(target)
    except FAILURES as error:
        beside.unlink(missing_ok=True)
        raise BadInput(f"{path}: expected a file that can be written: {one_line(error)}") from None


def read_averaged(
    path: str | Path, bands: Sequence[Band], height: int, width: int
) -> NDArray[np.float32]:
    """Bands of one file, any place or none, averaged to float32 (bands, height, width) in
    recipe units; what is no data becomes the mean of its band."""
    with opened(path) as source:
        shape = (len(bands), height, width)
        index = [band.index for band in bands]
        resampling = Resampling.average
        if height > source.height or width > source.width:
            resampling = Resampling.bilinear
        try:
            stored = source.read(
                index, out_shape=shape, resampling=resampling, out_dtype="float32", masked=True
            )
        except FAILURES as error:
            raise BadInput(f"{path}: expected readable pixels, found {one_line(error)}") from None
    known = ~np.ma.getmaskarray(stored) & np.isfinite(stored.data)
    out = np.zeros(shape, dtype=np.float32)
    for at, band in enumerate(bands):
        values = stored.data[at] * np.float32(band.scale) + np.float32(band.offset)
        if not known[at].any():
            raise BadInput(f"{path}: expected data in band {band.name}, found none")
        out[at] = np.where(known[at], values, values[known[at]].mean())
    return out
