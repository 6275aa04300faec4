"""Scenes: what a user's paths hold, each with its bands, scaling, date, place and cloud layer.

`find_scenes` looks at headers alone, `open_scene` gives rasters to sample. Where a value can
come from several places the recipe wins, then the product's own metadata (STAC, MTD, MTL),
then the file's tags, then what its name says.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embarchive import folders, offers, oneband, rasters
from embarchive.bandnames import same_key
from embarchive.dates import date_of_path, date_of_tags, date_of_writing
from embarchive.errors import BadInput
from embarchive.offers import Offer
from embarchive.pictures import read_averaged, write_geotiff
from embarchive.product import (
    Band,
    CloudLayer,
    Product,
    Scene,
    Url,
    names_of,
    scene_from_json,
    scene_to_json,
)
from embarchive.rasters import Raster
from embarchive.recipe import Recipe, parse_date
from embarchive.remotefile import begin
from embarchive.sensors import S2_ATTRIBUTION, S2_LICENCE, is_sentinel2

__all__ = [
    "Band",
    "CloudLayer",
    "Raster",
    "Scene",
    "SceneReader",
    "find_scenes",
    "image_scene",
    "open_scene",
    "read_image",
    "scene_from_json",
    "scene_to_json",
    "write_geotiff",
]
_log = logging.getLogger("embarchive")
PICTURES = (".jpg", ".jpeg", ".png")
AHEAD = 16


@dataclass(frozen=True)
class SceneReader:
    """An open scene: one raster a pixel grid, and perhaps the cloud layer, last."""

    scene: Scene
    rasters: tuple[Raster, ...]


def find_scenes(
    paths: Sequence[str | Path], recipe: Recipe, on_skip: folders.Skip | None = None
) -> list[Scene]:
    """The scenes of files, folders, globs and STAC Items, sorted by date and source.

    `on_skip(path, reason)` hears of files in folders that belong to no scene. Raises BadInput
    for what cannot be read or placed, a band that is not there, scenes whose bands or units
    differ, and when there is no scene at all. Of single bands each is a scene.
    """
    skip = on_skip or (lambda path, why: _log.info("%s: left out: %s", path, why))
    given = {str(path) for path in paths if Path(path).is_file()}
    found: list[Scene] = []
    products = folders.products(paths, skip)
    for at, product in enumerate(products):
        if at % AHEAD == 0:
            _begin(products[at : at + AHEAD], recipe)
        found += _scenes_of(product, recipe, given, skip)
    if not found:
        named = ", ".join(str(path) for path in paths)
        raise BadInput(f"{named}: expected rasters, found none that can be read")
    if not recipe.single_band:
        _check_alike(found)
    late = datetime.max.replace(tzinfo=UTC)
    return sorted(
        _distinct(found, recipe.single_band),
        key=lambda scene: (scene.datetime or late, scene.source),
    )


@contextmanager
def open_scene(scene: Scene) -> Iterator[SceneReader]:
    """The rasters of a scene, open; bands on one pixel grid share a raster. Raises BadInput."""
    with ExitStack() as stack:
        found = list(rasters.open_rasters(scene.bands, stack))
        if scene.cloud is not None:
            found.append(rasters.open_cloud(scene.cloud, stack))
        yield SceneReader(scene, tuple(found))


def image_scene(path: str | Path, bands: Sequence[str], units: str = "stored") -> Scene:
    """Any raster as a scene of these bands; without bounds when it has no place on the ground.

    Bands are found by name; of a file without names there must be as many. units: of the
    archive. Integers need a scale where those are not stored ones; real numbers of a file
    without a scale are taken as they are. Raises BadInput.
    """
    recipe = Recipe(bands=tuple(bands))
    header = rasters.read_header(path)
    product = folders.product_of_file(Path(path))
    offered = offers.offered(product.layers[0], header, recipe)
    chosen = offers.choose(product, offered, recipe)
    day = date_of_tags(header.tags) or date_of_path(Path(path))
    found = [offers.band_of(product, one, recipe, day) for one in chosen]
    real = np.dtype(header.dtype).kind == "f"
    for band, unit in found:
        if (unit == "stored") != (units == "stored") and not (real and unit == "stored"):
            raise BadInput(
                f"{path}: expected {units} values as in the archive, found {unit} ones of type "
                f"{header.dtype} in band {band.name}"
            )
    plain = tuple(band for band, _ in found)
    place = () if header.trouble else header.bounds
    return Scene(product.source, None, plain, None, header.gsd, place, units, "", "")


def read_image(scene: Scene, height: int, width: int) -> NDArray[np.float32]:
    """A whole picture averaged to float32 (bands, height, width) in recipe units. Raises
    BadInput."""
    return read_averaged(scene.bands[0].path, scene.bands, height, width)


def _begin(products: Sequence[Product], recipe: Recipe) -> None:
    """Fetch the headers of scenes on the network side by side."""
    paths = [layer.path for product in products for layer in offers.needed(product, recipe)]
    begin([path for path in dict.fromkeys(paths) if isinstance(path, Url)])


def _scenes_of(
    product: Product, recipe: Recipe, given: set[str], skip: folders.Skip
) -> list[Scene]:
    """The scenes of a product: one, one a date of a stack, or none that can be read."""
    offered: dict[datetime | None, list[Offer]] = {}
    headers: dict[Path | Url, rasters.Header] = {}
    for layer in offers.needed(product, recipe):
        path = layer.path
        if path not in headers:
            # What is not listed was found in a folder, and nobody may have meant it.
            stranger = None if product.listed or str(path) in given else Path(path)
            if stranger and not rasters.is_raster(stranger):
                skip(stranger, "not a raster of a known format")
                continue
            header = rasters.read_header(path)
            if header.trouble:
                if stranger and stranger.suffix.lower() in PICTURES:
                    skip(stranger, "a picture without a place on the ground")
                    continue
                raise BadInput(header.trouble)
            headers[path] = header
        for one in offers.offered(layer, headers[layer.path], recipe):
            offered.setdefault(one.day, []).append(one)
    if recipe.single_band:
        return _single_bands(product, offered, recipe)
    scenes = [_scene(product, day, some, recipe) for day, some in offered.items()]
    if len(scenes) > 1:
        scenes = [
            replace(scene, source=f"{scene.source}_{scene.datetime:%Y%m%d}") for scene in scenes
        ]
    return scenes


def _single_bands(
    product: Product, offered: dict[datetime | None, list[Offer]], recipe: Recipe
) -> list[Scene]:
    """A scene a band and date; each has its own resolution, bounds and units."""
    found = []
    for day, some in offered.items():
        dated = f"{product.source}_{day:%Y%m%d}" if day and len(offered) > 1 else product.source
        named = replace(product, source=dated)
        for one in offers.choose(product, some, recipe):
            found.append(_scene_of(named, day, [one], recipe))
    return found


def _scene(product: Product, day: datetime | None, offered: list[Offer], recipe: Recipe) -> Scene:
    return _scene_of(product, day, offers.choose(product, offered, recipe), recipe)


def _scene_of(product: Product, day: datetime | None, chosen: list[Offer], recipe: Recipe) -> Scene:
    finest = min(chosen, key=lambda one: one.header.gsd)
    when = day or _date(product, chosen[0], recipe)
    found = [offers.band_of(product, one, recipe, when) for one in chosen]
    units = {unit for _, unit in found}
    first = names_of(found[0][0].path)
    sentinel = is_sentinel2(f"{product.source} {first.parent.name}")
    return Scene(
        source=product.source,
        datetime=when,
        bands=tuple(band for band, _ in found),
        cloud=product.cloud,
        gsd=finest.header.gsd,
        bounds=finest.header.bounds,
        units=units.pop() if len(units) == 1 else "stored",
        attribution=product.attribution or (S2_ATTRIBUTION if sentinel else ""),
        licence=product.licence or (S2_LICENCE if sentinel else ""),
    )


def _date(product: Product, one: Offer, recipe: Recipe) -> datetime | None:
    """The recipe's, the product's, the tags', the name's; TIFFTAG_DATETIME last of all."""
    if len(recipe.dates) == 1:
        return parse_date(recipe.dates[0])
    tags = one.header.tags
    named = date_of_path(names_of(one.header.path))
    return product.datetime or date_of_tags(tags) or named or date_of_writing(tags)


def _check_alike(scenes: list[Scene]) -> None:
    """All scenes of one archive have the same bands in the same units."""
    first = scenes[0]
    names = [same_key(band.name) for band in first.bands]
    for scene in scenes[1:]:
        here = f"scene {scene.source}: expected, as in {first.source},"
        if [same_key(band.name) for band in scene.bands] != names:
            raise BadInput(f"{here} bands {_listed(first)}, found {_listed(scene)}")
        if scene.units != first.units:
            raise BadInput(
                f"{here} {first.units} values, found {scene.units} ones; give scale and offset in "
                "the recipe"
            )


def _listed(scene: Scene) -> str:
    names = [band.name for band in scene.bands]
    shown = ", ".join(names[:16])
    return f"{shown}, ... ({len(names)})" if len(names) > 16 else f"{shown} ({len(names)})"


def _distinct(scenes: list[Scene], single: bool) -> list[Scene]:
    """Sources made unique: by the folder's name, then by a number. Those of single bands say which,
    so that the bands of a scene are told apart and nothing else is."""

    def full(name: str, scene: Scene) -> str:
        return oneband.source_of(name, scene.bands[0].name) if single else name

    seen: set[str] = set()
    out = []
    for scene in scenes:
        name = full(scene.source, scene)
        base = scene.source
        if name in seen:
            base = f"{names_of(scene.bands[0].path).parent.name}_{scene.source}"
            name = full(base, scene)
        number = 1
        while name in seen:
            number += 1
            name = full(f"{base}_{number}", scene)
        seen.add(name)
        out.append(replace(scene, source=name))
    return out
