"""The door to raster files: headers, and windows of pixels with what of them is data.

A file is opened by the driver that its first bytes name and by no other: never a virtual
raster. GDAL itself never uses the network: of a file there it gets the bytes from `remotefile`.
What a header says is checked before a pixel is read.
"""

from __future__ import annotations

import logging
import math
import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio._err import CPLE_BaseError
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.windows import Window

from embarchive.errors import BadInput
from embarchive.placement import Floats, Placement
from embarchive.product import Band, Box, CloudLayer, is_remote, remote_url
from embarchive.remotefile import RemoteFile, open_remote

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
# No address ends like this, so GDAL's network file systems open nothing. A picture cut short
# is an error, not grey pixels.
GDAL_OPTIONS = {
    "CPL_VSIL_CURL_ALLOWED_EXTENSIONS": ".no-network",
    "GDAL_HTTP_MAX_RETRY": "0",
    "GDAL_HTTP_TIMEOUT": "1",
    "GDAL_CACHEMAX": 128,
    "GDAL_PAM_ENABLED": "YES",
    "GDAL_ERROR_ON_LIBJPEG_WARNING": "TRUE",
}
# Of a remote file: nothing beside it is looked for, and no thread of GDAL's own asks Python.
ALONE = {"GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR", "GDAL_NUM_THREADS": "1"}
MAX_PIXELS = 10**10
MAX_BANDS = 4096
MAX_BLOCK = 1 << 30  # bytes that GDAL decodes at once
_COLOURS = {ColorInterp.red: "red", ColorInterp.green: "green", ColorInterp.blue: "blue"}
FAILURES = (RasterioError, CPLE_BaseError, ValueError, OSError)

# What rasterio logs, it also raises.
logging.getLogger("rasterio").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Header:
    """What a file says of itself without its pixels.

    names: of its bands, "" where it has none; alpha: bands (from 1) that are a mask; shape:
    height, width; trouble: why it has no place on the ground, "" when it has one.
    """

    path: str
    count: int
    shape: tuple[int, int]
    dtype: str
    names: tuple[str, ...]
    alpha: tuple[int, ...]
    scales: tuple[float, ...]
    offsets: tuple[float, ...]
    nodata: tuple[float | None, ...]
    tags: Mapping[str, str]
    trouble: str
    gsd: float
    bounds: tuple[Box, ...]


@dataclass(frozen=True)
class Part:
    """Bands of one open file: their numbers from 1, the nodata value of each, and where it is."""

    source: Any
    index: tuple[int, ...]
    nodata: tuple[float | None, ...]
    path: str
    remote: RemoteFile | None = None


@dataclass(frozen=True)
class Raster:
    """Bands on one pixel grid, of one file or of several; what `tiles.cut` samples.

    bands: indices into the scene's bands, in the order of `read`; gsd: metres a pixel;
    hidden: of a class layer, what counts as cloud.
    """

    parts: tuple[Part, ...]
    placement: Placement
    bands: tuple[int, ...]
    gsd: float
    hidden: CloudLayer | None = None

    @property
    def cloud(self) -> bool:
        """Whether `read` gives classes, and which of them are not cloud."""
        return self.hidden is not None

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.placement.shape

    def project_axes(self, lon: Floats, lat: Floats) -> tuple[Floats, Floats]:
        """Column and row (n, H, W) of evenly spaced axes lon (n, W), lat (n, H), degrees."""
        return self.placement.axes(lon, lat)

    def read(
        self, row0: int, row1: int, col0: int, col1: int
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """Stored values (bands, h, w) of a window, and which of them are data (of a cloud
        layer: not cloud). Raises BadInput, naming the file, when its bytes are damaged."""
        window = Window(col0, row0, col1 - col0, row1 - row0)
        values, valid = [], []
        for part in self.parts:
            try:
                _bring(part, window)
                stored = part.source.read(list(part.index), window=window)
                if self.hidden is None:
                    known = _data(part, stored, window)
                else:
                    known = _clear(stored, self.hidden)
            except FAILURES as error:
                raise BadInput(
                    f"{part.path}: expected pixels at rows {row0} to {row1}, columns {col0} "
                    f"to {col1}, found {one_line(error)}; the file is damaged or cut short"
                ) from None
            values.append(stored)
            valid.append(known)
        if len(values) == 1:
            return values[0], valid[0]
        return np.concatenate(values), np.concatenate(valid)


def open_rasters(bands: Sequence[Band], stack: Any) -> Iterator[Raster]:
    """One raster for each pixel grid and sample type among the bands; stack: an ExitStack."""
    files: dict[str, list[int]] = {}
    for at, band in enumerate(bands):
        files.setdefault(band.path, []).append(at)
    grids: dict[Any, list[tuple[Part, list[int], Placement]]] = {}
    for path, members in files.items():
        source, remote = stack.enter_context(_opened(path))
        placement = Placement(source, path)
        index = tuple(bands[at].index for at in members)
        if max(index) > source.count:
            raise BadInput(f"{path}: expected band {max(index)}, found {source.count} bands")
        part = Part(source, index, tuple(bands[at].nodata for at in members), path, remote)
        key = path if source.transform.is_identity else (placement.crs.to_wkt(), source.transform)
        grids.setdefault((key, source.shape, source.dtypes[0]), []).append(
            (part, members, placement)
        )
    for same in grids.values():
        placement = same[0][2]
        order = tuple(at for _, some, _ in same for at in some)
        yield Raster(tuple(part for part, _, _ in same), placement, order, placement.gsd())


def open_cloud(layer: CloudLayer, stack: Any) -> Raster:
    """The raster of a class layer; stack: an ExitStack."""
    source, remote = stack.enter_context(_opened(layer.path))
    placement = Placement(source, layer.path)
    part = Part(source, (layer.index,), (None,), layer.path, remote)
    return Raster((part,), placement, (), placement.gsd(), layer)


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """An open rasterio dataset. Raises BadInput: no such file, not a raster, too large; of a
    remote file also StoreUnreachable, Damaged."""
    with _opened(path) as (source, _):
        yield source


@contextmanager
def _opened(path: str | Path) -> Iterator[tuple[Any, RemoteFile | None]]:
    remote = open_remote(remote_url(str(path))) if is_remote(path) else None
    with ExitStack() as stack:
        stack.enter_context(rasterio.Env(**GDAL_OPTIONS, **(ALONE if remote else {})))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        try:
            source = stack.enter_context(_open(path, remote))
            _check_size(path, source)
            _check_end(path, source, remote)
            yield source, remote
        except Exception:
            # What GDAL could not read may be what the network did not give.
            if remote and remote.trouble:
                raise remote.trouble from None
            raise
        if remote and remote.trouble:
            raise remote.trouble


def _open(path: str | Path, remote: RemoteFile | None) -> Any:
    driver = _driver(path, remote)
    # An absolute path is never taken for one of GDAL's virtual file systems. GDAL itself has no
    # network: it reads a remote file by our hands, and that file alone.
    try:
        if remote is None:
            return rasterio.open(os.path.abspath(path), driver=driver, sharing=False)
        name = f"/{secrets.token_hex(8)}/raster"
        opener = partial(_handle, remote, name)
        return rasterio.open(name, driver=driver, sharing=False, opener=opener)
    except FAILURES as error:
        raise BadInput(f"{path}: expected a raster, found {one_line(error)}") from None


def _handle(remote: RemoteFile, name: str, asked: str, mode: str = "rb") -> Any:
    """What rasterio's plugin opens for GDAL: this file, and none that may lie beside it."""
    if not asked.endswith(name) or not mode.startswith("r") or "+" in mode:
        raise FileNotFoundError(asked)
    return remote.handle()


def read_header(path: str | Path) -> Header:
    """The header of a raster file. Raises BadInput."""
    with opened(path) as source:
        trouble, gsd, bounds = "", 0.0, cast("tuple[Box, ...]", ())
        try:
            placement = Placement(source, str(path))
            gsd, bounds = placement.gsd(), placement.bounds()
        except BadInput as error:
            trouble = str(error)
        colours = source.colorinterp
        named = zip(source.descriptions, colours, strict=True)
        return Header(
            path=str(path),
            count=source.count,
            shape=(source.height, source.width),
            dtype=str(source.dtypes[0]),
            names=tuple((text or _COLOURS.get(colour, "")).strip() for text, colour in named),
            alpha=tuple(i + 1 for i, c in enumerate(colours) if c == ColorInterp.alpha),
            scales=tuple(source.scales),
            offsets=tuple(source.offsets),
            nodata=tuple(source.nodatavals),
            tags=dict(source.tags()),
            trouble=trouble,
            gsd=gsd,
            bounds=bounds,
        )


def is_raster(path: Path) -> bool:
    """The first bytes are those of a format that is read."""
    try:
        return bool(_driver(path))
    except BadInput:
        return False


def _driver(path: str | Path, remote: RemoteFile | None = None) -> str:
    try:
        with remote.handle() if remote else open(path, "rb") as file:
            start = file.read(16)
    except FileNotFoundError:
        raise BadInput(f"{path}: expected a raster file, found no such file") from None
    except OSError as error:
        raise BadInput(f"{path}: expected a raster file, found {error.strerror}") from None
    for magic, driver in DRIVERS.items():
        if start.startswith(magic):
            return driver
    known = ", ".join(dict.fromkeys(DRIVERS.values()))
    kind = "a virtual raster, which is refused" if start[:11] == b"<VRTDataset" else "another kind"
    raise BadInput(f"{path}: expected a raster ({known}), found {kind}")


def _check_size(path: str | Path, source: Any) -> None:
    if source.width * source.height > MAX_PIXELS or source.count > MAX_BANDS:
        raise BadInput(
            f"{path}: expected at most {MAX_PIXELS:g} pixels and {MAX_BANDS} bands, found "
            f"{source.width} x {source.height} x {source.count}"
        )
    if any(np.dtype(kind).kind not in "uif" for kind in source.dtypes):
        raise BadInput(f"{path}: expected integer or real samples, found {source.dtypes[0]}")
    rows, columns = source.block_shapes[0]
    together = source.count if source.profile.get("interleave") == "pixel" else 1
    block = rows * columns * together * np.dtype(source.dtypes[0]).itemsize
    if block > MAX_BLOCK:
        raise BadInput(
            f"{path}: expected blocks of at most {MAX_BLOCK} bytes, found {block}; rewrite it tiled"
        )


def _check_end(path: str | Path, source: Any, remote: RemoteFile | None) -> None:
    """A TIFF cut short: its last block would lie beyond the end of the file. A PNG cut short
    has no end mark, and GDAL would read zeros."""
    size = remote.length if remote else os.path.getsize(path)
    if source.driver == "PNG":
        with remote.handle() if remote else open(path, "rb") as file:
            file.seek(max(0, size - 4096))
            if b"IEND" not in file.read():
                raise BadInput(f"{path}: expected a PNG with its end, found one cut short")
    if source.driver != "GTiff":
        return
    rows, columns = source.block_shapes[-1]
    x, y = math.ceil(source.width / columns) - 1, math.ceil(source.height / rows) - 1
    band = source.count
    start = source.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=band)
    length = source.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=band)
    if start and length and int(start) + int(length) > size:
        raise BadInput(
            f"{path}: expected {int(start) + int(length)} bytes by its header, found {size}; "
            "the file is cut short"
        )


def _bring(part: Part, window: Window) -> None:
    """Ask for the blocks of a window of a remote TIFF together: GDAL asks for one after another."""
    source = part.source
    if part.remote is None or source.driver != "GTiff":
        return
    rows, columns = source.block_shapes[0]
    together = source.profile.get("interleave") == "pixel"
    spans = []
    for index in part.index[:1] if together else part.index:
        for y in range(window.row_off // rows, -(-(window.row_off + window.height) // rows)):
            for x in range(
                window.col_off // columns, -(-(window.col_off + window.width) // columns)
            ):
                start = source.get_tag_item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=index)
                size = source.get_tag_item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=index)
                if start and size:
                    spans.append((int(start), int(start) + int(size)))
    part.remote.bring(spans)


def _data(part: Part, stored: NDArray[Any], window: Window) -> NDArray[np.bool_]:
    """Which samples are data: not the nodata value, finite, and not masked by the file."""
    valid = np.ones(stored.shape, dtype=bool)
    for at, (index, nodata) in enumerate(zip(part.index, part.nodata, strict=True)):
        if stored.dtype.kind == "f":
            # Some files fill with the most negative number there is, rounded in the tag.
            valid[at] = np.abs(stored[at]) < 1e30
        if nodata is not None and _fits(nodata, stored.dtype):
            valid[at] &= stored[at] != stored.dtype.type(nodata)
        if MaskFlags.per_dataset in part.source.mask_flag_enums[index - 1]:
            valid[at] &= part.source.read_masks(index, window=window) > 0
    return valid


def _fits(nodata: float, dtype: np.dtype[Any]) -> bool:
    """A sample of this type can hold the value; -9999 of an unsigned file matches nothing."""
    if not math.isfinite(nodata):
        return False
    if dtype.kind == "f":
        return abs(nodata) <= float(np.finfo(dtype).max)
    limits = np.iinfo(dtype)
    return nodata == int(nodata) and int(limits.min) <= nodata <= int(limits.max)


def _clear(stored: NDArray[Any], layer: CloudLayer) -> NDArray[np.bool_]:
    if layer.kind == "bits":
        mask = sum(1 << bit for bit in layer.excluded)
        return cast("NDArray[np.bool_]", (stored.astype(np.int64) & mask) == 0)
    return ~np.isin(stored, np.array(layer.excluded))


def one_line(error: BaseException) -> str:
    """An error of GDAL as one short line."""
    return str(error).strip().split("\n")[0][:160] or type(error).__name__
