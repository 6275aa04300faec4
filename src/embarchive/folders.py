"""From the paths a user gives to products: folders, globs, .SAFE, Landsat, STAC. No pixels."""

from __future__ import annotations

import glob
import logging
import re
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from embarchive import itemtable, sensors, stac
from embarchive.bandnames import is_cloud_layer, is_companion, is_picture, split_stem
from embarchive.dates import date_of_path, parse_timeline
from embarchive.errors import BadInput
from embarchive.product import CloudLayer, Layer, Product, cloud_layer
from embarchive.strictjson import parse_strict_json

ENDS = (".tif", ".tiff", ".jp2", ".j2k", ".img", ".jpg", ".jpeg", ".png")
# Rasters of formats that are not read, worth a word when a folder holds them.
OTHERS = (".vrt", ".nc", ".hdf", ".h5", ".grib", ".grb", ".npy", ".zarr", ".ecw", ".sid", ".dat")
TABLES = (".parquet", ".geoparquet")
MAX_TEXT, MAX_TABLE, MAX_FILES, MAX_DEPTH = 64 << 20, 1 << 30, 1_000_000, 32
_log = logging.getLogger("embarchive")
Skip = Callable[[Path, str], None]


def products(paths: Sequence[str | Path], on_skip: Skip) -> list[Product]:
    """The products that paths, folders (searched whole) and globs hold. Raises BadInput.

    Files given together are grouped like those of a folder, so that `*_B??.tif` is one scene
    whoever expands it.
    """
    found: list[Product] = []
    files: dict[Path, None] = {}
    for given in paths:
        matches = [Path(given)] if Path(given).exists() else _matches(str(given))
        for path in matches:
            if path.is_dir():
                found += _of_folder(path, on_skip)
            elif path.suffix.lower() in (".json", ".geojson") or _is_mtl(path):
                found += _of_text(path)
            elif path.suffix.lower() in TABLES:
                found += _of_table(path)
            elif len(matches) == 1 or path.suffix.lower() in ENDS:
                files[path] = None
    return found + _group(list(files), on_skip)


def product_of_file(path: Path) -> Product:
    """One file by itself, whatever its name says."""
    return Product(path.stem, (Layer(path, split_stem(path.stem).band, 0),))


def timeline(folder: Path, count: int) -> tuple[datetime, ...] | None:
    """The dates of a text file `timeline` beside rasters of `count` bands, or None."""
    for name in ("timeline", "timeline.txt", "dates.txt"):
        if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 20:
            return parse_timeline(_text(folder / name), count)
    return None


def _matches(given: str) -> list[Path]:
    found = [Path(match) for match in sorted(glob.glob(given, recursive=True))]
    if not found:
        raise BadInput(f"{given}: expected a raster, folder, glob or STAC Item, found no such file")
    return found


def _of_folder(folder: Path, on_skip: Skip) -> list[Product]:
    found: list[Product] = []
    files: list[Path] = []
    for path in _walk(folder):
        end = path.suffix.lower()
        if path.is_dir():
            found.append(_of_safe(path))
        elif end in (".json", ".geojson") or _is_mtl(path):
            found += _of_text(path, quiet=True)
        elif end in ENDS:
            files.append(path)
        elif end in OTHERS:
            on_skip(path, f"{end} files are not read")
    # What a product's metadata lists is taken, and its folder's other files are its companions.
    paths = [layer.path for product in found for layer in product.layers]
    taken = {path.parent.resolve() for path in paths if isinstance(path, Path)}
    rest = []
    for path in files:
        if path.parent.resolve() in taken:
            _unlisted(path, found, on_skip)
        else:
            rest.append(path)
    return found + _group(rest, on_skip)


def _unlisted(path: Path, found: Sequence[Product], on_skip: Skip) -> None:
    listed = {str(layer.path) for product in found for layer in product.layers}
    clouds = {product.cloud.path for product in found if product.cloud}
    if str(path) not in listed | clouds and not is_companion(split_stem(path.stem).band):
        on_skip(path, "beside a product that does not list it")


def _walk(folder: Path, depth: int = 0) -> Iterator[Path]:
    """Files in order; a .SAFE folder is given as it is and not entered, links to folders are
    not followed."""
    if depth > MAX_DEPTH:
        raise BadInput(f"{folder}: expected at most {MAX_DEPTH} folders in each other")
    if folder.suffix.upper() == ".SAFE" or any(folder.glob("MTD_MSIL*.xml")):
        yield folder
        return
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise BadInput(f"{folder}: expected a folder to list, found {error.strerror}") from None
    if len(inside) > MAX_FILES:
        raise BadInput(f"{folder}: expected at most {MAX_FILES} files, found {len(inside)}")
    for path in inside:
        if path.name.startswith("."):
            continue
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from _walk(path, depth + 1)


def _is_mtl(path: Path) -> bool:
    return path.name.upper().endswith(("_MTL.TXT", "_MTL.JSON"))


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_TEXT:
            raise BadInput(f"{path}: expected at most {MAX_TEXT} bytes of text")
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise BadInput(f"{path}: expected a file to read, found {error.strerror}") from None


def _of_text(path: Path, quiet: bool = False) -> list[Product]:
    """STAC Items of a JSON file, or the product of an MTL; quietly nothing when a folder holds
    other JSON."""
    if _is_mtl(path):
        return _of_landsat(path)
    try:
        value = parse_strict_json(_text(path).encode(), str(path), MAX_TEXT)
    except Exception as error:
        if quiet:
            return []
        raise BadInput(f"{path}: expected a STAC Item, found {error}") from None
    if not stac.is_stac(value):
        if quiet:
            return []
        raise BadInput(f"{path}: expected a STAC Item or a collection of Items, found other JSON")
    if stac.has_next(value):
        _log.warning("%s: one page of a search; the Items of the next one are not read", path)
    return [stac.product_of(item, path) for item in stac.items(value, str(path))]


def _of_table(path: Path) -> list[Product]:
    """The Items of a stac-geoparquet file; never of one that is only found in a folder."""
    try:
        if path.stat().st_size > MAX_TABLE:
            raise BadInput(f"{path}: expected at most {MAX_TABLE} bytes of stac-geoparquet")
        data = path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path}: expected a file to read, found {error.strerror}") from None
    return [stac.product_of(item, path) for item in itemtable.parse(data, str(path))]


def _of_safe(folder: Path) -> Product:
    """The product of a .SAFE folder; each band at its finest native resolution."""
    metadata = sorted([*folder.glob("MTD_MSIL*.xml"), *folder.glob("GRANULE/*/MTD_TL.xml")])
    facts = sensors.parse_safe(_text(metadata[0]) if metadata else "")
    best: dict[str, tuple[int, Path]] = {}
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
        parts = split_stem(path.stem)
        if not (is_picture(path.stem) or not parts.band) and (
            parts.band not in best or parts.resolution < best[parts.band][0]
        ):
            best[parts.band] = parts.resolution, path
    order = [band for band in sensors.S2_BANDS if band in best]
    if not order:
        raise BadInput(f"{folder}: expected JPEG 2000 bands under GRANULE, found none")
    layers = []
    for band in order:
        scaling = sensors.safe_scaling(facts, folder.name, band)
        values = scaling.scale, scaling.offset, scaling.nodata
        layers.append(Layer(best[band][1], band, 1, (), *values))
    layers += [
        Layer(best[band][1], band, wanted=False)
        for band in sorted(best)
        if band not in order and not is_cloud_layer(band)
    ]
    return Product(
        source=folder.stem,
        layers=tuple(layers),
        datetime=facts.start or date_of_path(folder),
        cloud=cloud_layer("SCL", best["SCL"][1].absolute()) if "SCL" in best else None,
        units="reflectance",
        attribution=sensors.S2_ATTRIBUTION,
        licence=sensors.S2_LICENCE,
        listed=True,
    )


def _of_landsat(path: Path) -> list[Product]:
    """The product of a Landsat Collection 2 MTL file; nothing for the second of two twins."""
    if path.suffix.lower() == ".txt":
        if path.with_suffix(".json").exists():
            return []
        values = sensors.parse_mtl_text(_text(path))
    else:
        values = parse_strict_json(_text(path).encode(), str(path), MAX_TEXT)
    facts = sensors.read_landsat(values)
    if facts is None:
        raise BadInput(f"{path}: expected Landsat Collection 2 metadata, found another format")
    layers = []
    for band, (name, scale, offset) in facts.bands.items():
        # Only the name counts: the metadata cannot point out of its folder.
        file = path.parent / Path(name).name
        if file.is_file():
            layers.append(Layer(file, band, 1, (band.removeprefix("SR_"),), scale, offset, 0.0))
    if not layers:
        raise BadInput(f"{path}: expected reflectance bands beside it, found none")
    quality = (path.parent / Path(facts.quality).name) if facts.quality else path.parent
    return [
        Product(
            source=facts.product or path.stem,
            layers=tuple(layers),
            datetime=facts.start or date_of_path(path),
            cloud=cloud_layer("QA_PIXEL", quality.absolute()) if quality.is_file() else None,
            units="reflectance",
            attribution=sensors.LANDSAT_ATTRIBUTION,
            licence=sensors.LANDSAT_LICENCE,
            listed=True,
        )
    ]


def _group(files: Sequence[Path], on_skip: Skip) -> list[Product]:
    """Plain files: those of one folder that differ only in band and resolution are one scene.

    Pictures and labels are left out, unless there is nothing else.
    """
    shown = [path for path in files if not is_picture(path.stem)]
    for path in files if shown else ():
        if is_picture(path.stem):
            on_skip(path, "a picture or labels by its name")
    scenes: dict[tuple[Path, str], list[Layer]] = {}
    clouds: dict[tuple[Path, str], CloudLayer] = {}
    for path in sorted(shown or files, key=_in_order):
        parts = split_stem(path.stem)
        key = path.parent, parts.scene
        if is_cloud_layer(parts.band) and key not in clouds:
            clouds[key] = cloud_layer(parts.band, path.absolute())
        layer = Layer(path, parts.band, 0, wanted=not is_companion(parts.band))
        scenes.setdefault(key, []).append(layer)
    found = []
    for key, layers in scenes.items():
        wanted = [layer for layer in layers if layer.wanted]
        if not wanted and len(scenes) > 1:
            for layer in layers:
                on_skip(Path(layer.path), "no band of a scene by its name")
            continue
        others = [one for one in layers if not wanted or not is_cloud_layer(one.name)]
        cloud = clouds.get(key) if wanted else None
        source = key[1] or key[0].absolute().name
        found.append(Product(source, tuple(others), _granule_start(key[0]), cloud))
    return found


def _in_order(path: Path) -> tuple[Path, list[str]]:
    """By folder and name, numbers by their value: B2 before B8A before B10."""
    return path.parent, [word.zfill(12) for word in re.findall(r"\d+|\D+", path.stem)]


def _granule_start(folder: Path) -> datetime | None:
    """The sensing time of a bare Sentinel-2 granule, whose name tells another."""
    metadata = folder / "MTD_TL.xml"
    return sensors.parse_safe(_text(metadata)).start if metadata.is_file() else None
