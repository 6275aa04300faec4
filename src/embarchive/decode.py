"""Rows back to imagery: batches by model, crops, mosaics, and pictures to look at.

`decode_rows` needs numpy alone. Images are float32 (bands, height, width) in recipe units,
north up, on the chip grid of the archive.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import geohash, grid, model, pyramid
from embarchive.cellmeans import FINE
from embarchive.codes import Codes
from embarchive.errors import BadInput, Damaged, MissingExtra
from embarchive.quantisers import Quantiser
from embarchive.quantize import Int8
from embarchive.rows import embeddings

BATCH = 256
MAX_PIXELS = 100_000_000

Transform = tuple[float, float, float, float, float, float]
# Names under which the three visible bands go, in Sentinel-2, Landsat 8/9, Landsat 4-7 and
# plainly; the first set that the archive holds whole is used.
VISIBLE = (
    ("red", "green", "blue"),
    ("B04", "B03", "B02"),
    ("B4", "B3", "B2"),
    ("SR_B4", "SR_B3", "SR_B2"),
    ("SR_B3", "SR_B2", "SR_B1"),
    ("B3", "B2", "B1"),
    ("R", "G", "B"),
)


@dataclass(frozen=True)
class Decoder:
    """One model ready to decode: the backbone's (or whole network's) weights, for an
    adapter its own, and the scale of the int8 vectors of its space; for a region's whole VAE
    the scale of its own vectors, with which the rows' code begins; the space's fidelity codes,
    of which is the rest of it; the quantiser whose decoded codes the vectors are."""

    architecture: model.Architecture
    backbone: model.Weights
    adapter: model.Weights | None
    scale: float
    code_scale: float | None = None
    codes: Codes | None = None
    quantiser: Quantiser | None = None

    def vectors(self, q: NDArray[Any]) -> NDArray[np.float32]:
        """What the network takes, float32 (n, D), of int8 vectors of rows, or of means of them."""
        if self.quantiser is not None:
            return self.quantiser.restore(q)
        return Int8(self.scale).decode(q)


def decode_rows(load: Callable[[str], Decoder], table: pa.Table) -> NDArray[np.float32]:
    """Images of rows with the columns embedding (or mean) and model_id, in the rows' order.

    float32 (n, bands, height, width). `load` gives the decoder of a model_id and is asked
    once for each. Raises what `load` raises.
    """
    vectors = _numbers(table)
    owners = table["model_id"].cast(pa.string()).combine_chunks().dictionary_encode()
    owner = owners.indices.to_numpy(zero_copy_only=False)
    images: NDArray[np.float32] | None = None
    for code, model_id in enumerate(owners.dictionary.to_pylist()):
        decoder = load(model_id)
        index = np.flatnonzero(owner == code)
        for start in range(0, len(index), BATCH):
            some = index[start : start + BATCH]
            z = decoder.vectors(vectors[some])
            texts = _texts(table, some, decoder)
            if decoder.code_scale is not None:
                z = _vectors(texts, z.shape[1], decoder.codes is None)
                z *= np.float32(decoder.code_scale)
            batch = model.decode_batch(decoder.architecture, decoder.backbone, decoder.adapter, z)
            if decoder.codes is not None:
                skip = 0 if decoder.code_scale is None else z.shape[1]
                rest = [text[skip:] for text in texts]
                batch = decoder.codes.apply(batch, rest, _dates(table, some, decoder.codes))
            if images is None:
                images = np.empty((len(table), *batch.shape[1:]), dtype=np.float32)
            images[some] = batch
    return np.zeros((0, 0, 0, 0), dtype=np.float32) if images is None else images


def _numbers(table: pa.Table) -> NDArray[Any]:
    """Vectors of rows in int8 steps: whole ones, or means of cells, float32 (n, D)."""
    if "mean" not in table.column_names:
        return embeddings(table)
    return pyramid.means(table).astype(np.float32) / np.float32(FINE)


def _texts(table: pa.Table, some: NDArray[np.intp], decoder: Decoder) -> list[bytes]:
    """The code column of rows; [] where the decoder needs none. Raises BadInput or Damaged."""
    if decoder.code_scale is None and decoder.codes is None:
        return []
    if "code" not in table.column_names:
        raise BadInput("decode: expected the column code, which these rows decode from, found none")
    texts: list[bytes] = table["code"].take(pa.array(some)).to_pylist()
    if any(text is None for text in texts):
        raise Damaged("code column: expected a code in every row, found null")
    return texts


def _dates(table: pa.Table, some: NDArray[np.intp], codes: Codes) -> list[str | None]:
    """ISO dates of rows; none where nothing is coded by date. Raises BadInput."""
    if codes.place is None:
        return [None] * len(some)
    if "datetime" not in table.column_names:
        raise BadInput("decode: expected the column datetime, by which these rows decode")
    found = table["datetime"].take(pa.array(some)).to_pylist()
    return [None if day is None else day.isoformat() for day in found]


def _vectors(texts: Sequence[bytes], dim: int, alone: bool) -> NDArray[np.float32]:
    """The int8 vectors (n, dim) with which codes begin, or that they are. Raises Damaged."""
    if any(len(text) < dim or (alone and len(text) > dim) for text in texts):
        raise Damaged(f"code column: expected {dim} bytes a row of a region's own network")
    found = np.frombuffer(b"".join(text[:dim] for text in texts), dtype=np.int8)
    return found.reshape(len(texts), dim).astype(np.float32)


def crop(
    image: NDArray[np.float32], chips: grid.ChipGrid, geohash: str
) -> tuple[NDArray[np.float32], Transform]:
    """The pixels of a chip (bands, H, W) whose centres lie in the cell, and their affine
    transform (a, b, c, d, e, f) in degrees."""
    rows, columns = chips.crop(geohash)
    a, b, c, d, e, f = chips.transform(geohash)
    moved = (a, b, c + a * columns.start, d, e, f + e * rows.start)
    return image[:, rows, columns], moved


def mosaic(
    images: NDArray[np.float32], geohashes: Sequence[str], chips: grid.ChipGrid
) -> tuple[NDArray[np.float32], Transform]:
    """Chips pasted on one EPSG:4326 raster, nearest neighbour; later chips lie on top.

    Returns float32 (bands, rows, columns), NaN where no tile is, and its transform. Every
    pixel comes from the tile whose cell holds its centre. Raises BadInput when it would
    pass 100 million pixels.
    """
    cells = grid.bounds(np.asarray(geohashes, dtype=np.str_))
    steps = np.array([chips.transform(name) for name in geohashes])
    if cells[:, 2].max() - cells[:, 0].min() > 180:
        # tiles on both sides of the antimeridian: go on beyond 180 degrees east
        turn = np.where(cells[:, 0] < 0, 360.0, 0.0)
        cells[:, [0, 2]] += turn[:, None]
        steps[:, 2] += np.where(steps[:, 2] < 0, 360.0, 0.0)
    step_x, step_y = float(steps[:, 0].min()), float(-steps[:, 4].max())
    west, north = float(cells[:, 0].min()), float(cells[:, 3].max())
    # as many pixels as have their centre inside
    width = max(1, int(np.ceil((cells[:, 2].max() - west) / step_x - 0.5)))
    height = max(1, int(np.ceil((north - cells[:, 1].min()) / step_y - 0.5)))
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"decode: expected a mosaic of at most {MAX_PIXELS} pixels, found {width} x {height}"
        )
    out = np.full((images.shape[1], height, width), np.nan, dtype=np.float32)
    x = west + (np.arange(width) + 0.5) * step_x
    y = north - (np.arange(height) + 0.5) * step_y
    for image, cell, (a, _, c, _, e, f) in zip(images, cells, steps, strict=True):
        columns = slice(*np.searchsorted(x, (cell[0], cell[2])))
        rows = slice(*np.searchsorted(-y, (-cell[3], -cell[1])))
        from_x = np.clip(np.floor((x[columns] - c) / a), 0, image.shape[2] - 1).astype(int)
        from_y = np.clip(np.floor((y[rows] - f) / e), 0, image.shape[1] - 1).astype(int)
        out[:, rows, columns] = image[:, from_y[:, None], from_x[None, :]]
    return out, (step_x, 0.0, west, 0.0, -step_y, north)


def mean_pixels(load: Callable[[str], Decoder], cells: pa.Table) -> NDArray[np.float32]:
    """One pixel a cell, the mean of its decoded picture: float32 (n, bands), recipe units; a part
    of the cells at a time. Raises as `decode_rows`."""
    parts = [cells.slice(start, BATCH) for start in range(0, len(cells), BATCH)]
    means = [decode_rows(load, some).mean(axis=(2, 3), dtype=np.float64) for some in parts]
    return np.concatenate(means).astype(np.float32)


def cell_raster(
    pixels: NDArray[np.float32], geohashes: Sequence[str]
) -> tuple[NDArray[np.float32], Transform]:
    """Cells of one length (n, bands) on one EPSG:4326 raster, a pixel each: float32 (bands, rows,
    columns), NaN where no cell is, and its transform. Raises BadInput above 100 million pixels."""
    precision = len(geohashes[0])
    across, up = geohash.halvings(precision)
    column, row = grid.cell_indices(geohashes)
    if column.max() - column.min() > 2 ** (across - 1):
        # cells on both sides of the antimeridian: go on beyond 180 degrees east
        column = np.where(column < 2 ** (across - 1), column + 2**across, column)
    west, north = int(column.min()), int(row.max())
    width, height = int(column.max()) - west + 1, north - int(row.min()) + 1
    if width * height > MAX_PIXELS:
        raise BadInput(
            f"decode: expected a mosaic of at most {MAX_PIXELS} pixels, found {width} x {height}"
        )
    out = np.full((pixels.shape[1], height, width), np.nan, dtype=np.float32)
    out[:, north - row, column - west] = pixels.T
    step_x, step_y = 360 / 2**across, 180 / 2**up
    return out, (step_x, 0.0, west * step_x - 180, 0.0, -step_y, (north + 1) * step_y - 90)


def visible_bands(bands: Sequence[str]) -> tuple[int, int, int]:
    """Positions of red, green and blue by name; else the first three, or one thrice."""
    lower = [name.lower() for name in bands]
    for names in VISIBLE:
        if all(name.lower() in lower for name in names):
            red, green, blue = (lower.index(name.lower()) for name in names)
            return red, green, blue
    return (0, 1, 2) if len(bands) >= 3 else (0, 0, 0)


def stretch_limits(
    images: NDArray[np.float32], bands: Sequence[int], low: float = 2.0, high: float = 98.0
) -> NDArray[np.float32]:
    """Percentiles (3, 2) of the chosen bands over images (..., bands, h, w), NaN ignored; one
    stretch for several pictures keeps them comparable."""
    limits = []
    for band in bands:
        values = images[..., band, :, :]
        finite = values[np.isfinite(values)]
        limits.append(np.percentile(finite, (low, high)) if finite.size else (0.0, 1.0))
    return np.asarray(limits, dtype=np.float32)


def picture(
    image: NDArray[np.float32], bands: Sequence[int], limits: NDArray[np.float32] | None = None
) -> NDArray[np.uint8]:
    """An 8-bit RGB picture (h, w, 3) of an image (bands, h, w), stretched to 2-98 % of each
    band or to the given limits; NaN is black."""
    limits = stretch_limits(image, bands) if limits is None else limits
    low, high = limits[:, 0, None, None], limits[:, 1, None, None]
    span = np.where(high > low, high - low, 1)
    scaled = np.nan_to_num((image[list(bands)] - low) / span, nan=0.0)
    return (np.clip(scaled, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)


def png_bytes(rgb: NDArray[np.uint8]) -> bytes:
    """An RGB array uint8 (h, w, 3) as a PNG file."""
    height, width, _ = rgb.shape
    lines = np.zeros((height, 1 + width * 3), dtype=np.uint8)
    lines[:, 1:] = rgb.reshape(height, width * 3)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"".join(
        [
            b"\x89PNG\r\n\x1a\n",
            _chunk(b"IHDR", header),
            _chunk(b"IDAT", zlib.compress(lines.tobytes(), 6)),
            _chunk(b"IEND", b""),
        ]
    )


def write_png(path: str | Path, rgb: NDArray[np.uint8]) -> None:
    """Write an RGB array uint8 (h, w, 3). Raises BadInput when the file cannot be written."""
    try:
        Path(path).write_bytes(png_bytes(rgb))
    except OSError as error:
        raise BadInput(f"decode: cannot write {path}: {error.strerror}") from None


def write_geotiff(
    path: str | Path,
    images: NDArray[np.float32],
    geohashes: Sequence[str],
    chips: grid.ChipGrid,
    band_names: Sequence[str],
) -> None:
    """Write tiles as one GeoTIFF in EPSG:4326: one tile cropped to its cell, several as a
    mosaic. Raises BadInput when there is no tile, or rasterio is not installed."""
    if not len(geohashes):
        raise BadInput("decode: expected at least one tile to write, found none")
    if len(geohashes) == 1:
        image, transform = crop(images[0], chips, geohashes[0])
    else:
        image, transform = mosaic(images, geohashes, chips)
    write_raster(path, image, transform, band_names)


def write_raster(
    path: str | Path, image: NDArray[np.float32], transform: Transform, band_names: Sequence[str]
) -> None:
    """Write an image (bands, h, w) in EPSG:4326 as GeoTIFF. Raises BadInput without rasterio."""
    try:
        from embarchive import scenes
    except ImportError:
        raise MissingExtra(
            "decode: writing GeoTIFF needs rasterio, install embarchive[encode]"
        ) from None
    scenes.write_geotiff(path, image, transform, "EPSG:4326", list(band_names), nodata=np.nan)


def _chunk(kind: bytes, body: bytes) -> bytes:
    check = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", check)
