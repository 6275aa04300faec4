"""From the paths a user gives to products: folders, globs, .SAFE, Landsat, STAC. No pixels."""

from __future__ import annotations

import glob
import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

from embarchive import sensors, stac
from embarchive.bandnames import (
    is_cloud_layer,
    is_companion,
    is_picture,
    split_stem,
)
from embarchive.dates import date_of_path, parse_timeline
from embarchive.errors import BadInput
from embarchive.product import CloudLayer, Layer, Product, cloud_layer
from embarchive.strictjson import parse_strict_json

ENDS = (".tif", ".tiff", ".jp2", ".img", ".jpg", ".jpeg", ".png", ".nc", ".dat")
MAX_JSON, MAX_FILES = 64 << 20, 200_000
Skip = Callable[[Path, str], None]


def products(paths: Sequence[str | Path], on_skip: Skip) -> list[Product]:
    """The products that paths, folders (searched whole) and globs hold. Raises BadInput."""
    found: list[Product] = []
    for given in paths:
        found += (
            _of_path(Path(given), on_skip) if Path(given).exists() else _of_glob(given, on_skip)
        )
    return found


def timeline(folder: Path, count: int) -> tuple[datetime, ...] | None:
    """The dates of a text file `timeline` beside rasters of `count` bands, or None."""
    for name in ("timeline", "timeline.txt", "dates.txt"):
        if (folder / name).is_file() and (folder / name).stat().st_size < 1 << 20:
            return parse_timeline((folder / name).read_text(errors="replace"), count)
    return None


def _of_glob(given: str | Path, on_skip: Skip) -> list[Product]:
    matches = sorted(glob.glob(str(given), recursive=True))
    if not matches:
        raise BadInput(f"{given}: expected a raster, folder, glob or STAC Item, found no such file")
    files = [Path(match) for match in matches if Path(match).is_file() and _is_raster(Path(match))]
    found = _group(files, on_skip) if files else []
    for match in matches:
        if Path(match) not in files:
            found += _of_path(Path(match), on_skip)
    return found


def _of_path(path: Path, on_skip: Skip) -> list[Product]:
    if path.is_dir():
        return _of_folder(path, on_skip)
    if path.suffix.lower() in (".json", ".geojson"):
        return _of_json(path)
    if _is_landsat_text(path):
        return _of_landsat(path)
    # What was given by name is read as it is, whatever its name says.
    return _group([path], on_skip, given=True)


def _of_folder(folder: Path, on_skip: Skip) -> list[Product]:
    found: list[Product] = []
    files: list[Path] = []
    for path in _walk(folder):
        if path.is_dir():
            found += _of_safe(path)
        elif _is_landsat_text(path):
            found += _of_landsat(path)
        elif path.suffix.lower() in (".json", ".geojson"):
            found += _of_json(path, quiet=True)
        elif _is_raster(path):
            files.append(path)
    taken = {layer.path.resolve() for product in found for layer in product.layers}
    folders = {path.parent for path in taken}
    rest = [path for path in files if path.resolve() not in taken]
    # A product's folder holds its companions too: they are its business.
    rest = [path for path in rest if path.parent.resolve() not in folders]
    return found + _group(rest, on_skip)


def _walk(folder: Path) -> Iterator[Path]:
    """Files in order; a .SAFE folder is given as it is and not entered."""
    if folder.suffix.upper() == ".SAFE":
        yield folder
        return
    for count, path in enumerate(sorted(folder.iterdir())):
        if count > MAX_FILES:
            raise BadInput(f"{folder}: expected at most {MAX_FILES} files")
        if path.name.startswith("."):
            continue
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _is_raster(path: Path) -> bool:
    return path.suffix.lower() in ENDS


def _is_landsat_text(path: Path) -> bool:
    return path.name.upper().endswith(("_MTL.TXT", "_MTL.JSON"))


def _of_json(path: Path, quiet: bool = False) -> list[Product]:
    """STAC Items of a JSON file; quietly nothing when a folder holds other JSON."""
    try:
        if path.stat().st_size > MAX_JSON:
            raise BadInput(f"{path}: expected at most {MAX_JSON} bytes of JSON")
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        if quiet:
            return []
        raise BadInput(f"{path}: expected a STAC Item, found no JSON") from None
    if not stac.is_stac(value):
        if quiet or _is_landsat_text(path):
            return _of_landsat(path) if _is_landsat_text(path) else []
        raise BadInput(f"{path}: expected a STAC Item or a collection of Items")
    return [stac.product_of(item, path) for item in stac.items(value, str(path))]


def _of_safe(folder: Path) -> list[Product]:
    """One product of a .SAFE folder; each band at its finest resolution."""
    metadata = sorted([*folder.glob("MTD_MSIL*.xml"), *folder.glob("GRANULE/*/MTD_TL.xml")])
    facts = sensors.parse_safe(metadata[0].read_text(errors="replace") if metadata else "")
    start = facts.start or date_of_path(folder)
    best: dict[str, tuple[int, Path]] = {}
    cloud: tuple[int, CloudLayer] | None = None
    for path in sorted(folder.glob("GRANULE/*/IMG_DATA/**/*.jp2")):
        parts = split_stem(path.stem)
        if is_cloud_layer(parts.band):
            if cloud is None or parts.resolution < cloud[0]:
                cloud = parts.resolution, cloud_layer(parts.band, path)
        elif parts.band.upper() in sensors.S2_BANDS:
            held = best.get(parts.band)
            if held is None or parts.resolution < held[0]:
                best[parts.band] = parts.resolution, path
    if not best:
        raise BadInput(f"{folder}: expected JPEG 2000 bands under GRANULE, found none")
    layers = []
    for band in sorted(best, key=sensors.S2_BANDS.index):
        scaling = sensors.safe_scaling(facts, folder.name, band)
        values = scaling.scale, scaling.offset, scaling.nodata
        layers.append(Layer(best[band][1], band, 1, (), *values))
    return [
        Product(
            folder.stem,
            tuple(layers),
            start,
            cloud[1] if cloud else None,
            "reflectance",
            sensors.S2_ATTRIBUTION,
            sensors.S2_LICENCE,
        )
    ]


def _of_landsat(path: Path) -> list[Product]:
    """The product of a Landsat Collection 2 MTL file; nothing for the second of two twins."""
    twin = path.with_suffix(".json")
    if path.suffix.lower() == ".txt" and twin.exists():
        return []
    text = path.read_text(errors="replace")
    if path.suffix.lower() == ".txt":
        values = sensors.parse_mtl_text(text)
    else:
        values = parse_strict_json(text.encode(), str(path), MAX_JSON)
    facts = sensors.read_landsat(values)
    if facts is None:
        raise BadInput(f"{path}: expected Landsat Collection 2 metadata, found another format")
    layers = [
        Layer(path.parent / Path(name).name, band, 1, (), scale, offset, 0.0)
        for band, (name, scale, offset) in facts.bands.items()
        if (path.parent / Path(name).name).is_file()
    ]
    if not layers:
        raise BadInput(f"{path}: expected reflectance bands beside it, found none")
    quality = path.parent / Path(facts.quality).name if facts.quality else None
    cloud = cloud_layer("QA_PIXEL", quality) if quality and quality.is_file() else None
    return [
        Product(
            facts.product or path.stem,
            tuple(layers),
            facts.start,
            cloud,
            "reflectance",
            sensors.LANDSAT_ATTRIBUTION,
            sensors.LANDSAT_LICENCE,
        )
    ]


def _group(files: Sequence[Path], on_skip: Skip, given: bool = False) -> list[Product]:
    """Plain files: those of one folder that differ only in band and resolution are one scene."""
    scenes: dict[tuple[Path, str], list[tuple[Path, str]]] = {}
    clouds: dict[tuple[Path, str], CloudLayer] = {}
    for path in files:
        parts = split_stem(path.stem)
        key = (path.parent, parts.scene)
        if given:
            key, parts = (path.parent, path.stem), parts
        if is_picture(path.stem) and not given:
            on_skip(path, "a picture or labels by its name")
        elif is_cloud_layer(parts.band) and not given:
            clouds[key] = cloud_layer(parts.band, path)
        else:
            scenes.setdefault(key, []).append((path, parts.band))
    found = []
    for (folder, stem), members in scenes.items():
        layers = tuple(
            Layer(path, band, 1 if band else 0, wanted=given or not is_companion(band))
            for path, band in sorted(members)
        )
        cloud = clouds.get((folder, stem))
        found.append(Product(stem or folder.name, layers, date_of_path(members[0][0]), cloud))
    return found
