"""Scenes: what a user's paths hold, each with its bands, scaling, date, place and cloud layer.

The one reader of scenes: `find_scenes` looks at headers, `open_scene` gives rasters to sample.
Where a value can come from several places the recipe wins, then the product's own metadata,
then the file's tags, then what its name says.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from embarchive import folders, rasters
from embarchive.bandnames import is_companion, same_key
from embarchive.dates import date_of_tags, date_of_writing
from embarchive.errors import BadInput
from embarchive.product import (
    Band,
    CloudLayer,
    Layer,
    Product,
    Scene,
    scene_from_json,
    scene_to_json,
)
from embarchive.rasters import Header, Layers, read_image, write_geotiff
from embarchive.recipe import Recipe, parse_date
from embarchive.sensors import S2_ATTRIBUTION, S2_LICENCE, is_sentinel2, scaling_by_name

__all__ = [
    "Band",
    "CloudLayer",
    "Scene",
    "SceneReader",
    "find_scenes",
    "open_scene",
    "read_image",
    "scene_from_json",
    "scene_to_json",
    "write_geotiff",
]
_log = logging.getLogger("embarchive")


@dataclass(frozen=True)
class SceneReader:
    """An open scene: one raster a file and pixel grid, and perhaps the cloud layer."""

    scene: Scene
    rasters: tuple[Layers, ...]


@dataclass(frozen=True)
class _Found:
    """A band that a file offers, and the date it is of (None: the product's)."""

    layer: Layer
    header: Header
    day: datetime | None


def find_scenes(
    paths: Sequence[str | Path], recipe: Recipe, on_skip: folders.Skip | None = None
) -> list[Scene]:
    """The scenes of files, folders, globs and STAC Items, sorted by date and source.

    `on_skip(path, reason)` hears of files in folders that are no scene. Raises BadInput for a
    file given by name that cannot be read, a band that is not there, no scene at all.
    """
    skip = on_skip or (lambda path, why: _log.info("%s: left out: %s", path, why))
    single = [str(path) for path in paths if Path(path).is_file()]
    found: list[Scene] = []
    trouble: list[str] = []
    for product in folders.products(paths, skip):
        try:
            found += _scenes_of(product, recipe)
        except BadInput as error:
            if any(str(layer.path) in single for layer in product.layers) or _is_recipe(error):
                raise
            trouble.append(str(error))
            _log.warning("left out: %s", error)
    if not found:
        named = ", ".join(str(path) for path in paths)
        raise BadInput(trouble[0] if trouble else f"{named}: expected rasters, found none")
    found = _distinct(found)
    late = datetime.max.replace(tzinfo=UTC)
    return sorted(found, key=lambda scene: (scene.datetime or late, scene.source))


@contextmanager
def open_scene(scene: Scene) -> Iterator[SceneReader]:
    """The rasters of a scene, open; bands of one file share a raster. Raises BadInput."""
    groups: dict[str, list[int]] = {}
    for at, band in enumerate(scene.bands):
        groups.setdefault(band.path, []).append(at)
    with ExitStack() as stack:
        found = []
        for path, members in groups.items():
            source = stack.enter_context(rasters.opened(path))
            placement = rasters.Placement(source)
            index = tuple(scene.bands[at].index for at in members)
            nodata = tuple(scene.bands[at].nodata for at in members)
            one = Layers(source, placement, tuple(members), index, nodata, placement.gsd())
            found.append(one)
        if scene.cloud is not None:
            source = stack.enter_context(rasters.opened(scene.cloud.path))
            placement = rasters.Placement(source)
            hidden = (scene.cloud.kind, scene.cloud.excluded)
            index = (scene.cloud.index,)
            found.append(Layers(source, placement, (), index, (None,), placement.gsd(), hidden))
        yield SceneReader(scene, tuple(found))


def _scenes_of(product: Product, recipe: Recipe) -> list[Scene]:
    """The scenes of a product: one, or one a date of a stack."""
    headers = {str(layer.path): rasters.read_header(layer.path) for layer in product.layers}
    for path, header in headers.items():
        if not header.placed:
            raise BadInput(f"{path}: expected a coordinate system and a transform, found none")
    found: dict[datetime | None, list[_Found]] = {}
    for layer in product.layers:
        for one in _offered(layer, headers[str(layer.path)], recipe):
            found.setdefault(one.day, []).append(one)
    scenes = [_scene(product, day, bands, recipe) for day, bands in found.items()]
    if len(scenes) > 1:
        scenes = [
            replace(scene, source=f"{scene.source}_{scene.datetime:%Y%m%d}") for scene in scenes
        ]
    return scenes


def _offered(layer: Layer, header: Header, recipe: Recipe) -> list[_Found]:
    """The bands of one layer: one, all of a file, or those of a stack of dates."""
    if layer.index and not (layer.name and header.count > 1 and _days(header, recipe)):
        if layer.index > header.count:
            raise BadInput(f"{header.path}: expected band {layer.index}, found {header.count}")
        return [_Found(layer, header, None)]
    days = _days(header, recipe)
    if layer.name and days and len(days) == header.count:
        return [_Found(replace(layer, index=i + 1), header, day) for i, day in enumerate(days)]
    wanted = len(recipe.bands)
    plain = [i + 1 for i in range(header.count) if i + 1 not in header.alpha]
    if days and wanted and len(days) * wanted == len(plain):
        return [
            _Found(
                replace(layer, name=recipe.bands[at % wanted], index=i), header, days[at // wanted]
            )
            for at, i in enumerate(plain)
        ]
    named = [header.names[i - 1] for i in plain]
    if not all(named) or len(set(named)) < len(named):
        known = [same_key(name) for name in named]
        generic = [f"band{i}" for i in plain]
        asked = [same_key(name) for name in recipe.bands]
        fits = wanted == len(plain) and not set(asked) & {*known, *map(same_key, generic)}
        if len(plain) == 1 and layer.name:
            named = [layer.name]
        else:
            named = list(recipe.bands) if fits else generic
    return [
        _Found(replace(layer, name=name, index=i), header, None)
        for i, name in zip(plain, named, strict=True)
    ]


def _days(header: Header, recipe: Recipe) -> tuple[datetime, ...]:
    """The dates of a stack, by the recipe or a timeline file; empty for one moment."""
    if len(recipe.dates) > 1:
        return tuple(parse_date(day) for day in recipe.dates)
    if header.count > 1:
        return folders.timeline(Path(header.path).parent, header.count) or ()
    return ()


def _scene(product: Product, day: datetime | None, found: list[_Found], recipe: Recipe) -> Scene:
    chosen = _choose(product, found, recipe)
    finest = min(chosen, key=lambda one: one.header.gsd)
    when = day or _date(product, chosen, recipe)
    bands, units = [], set()
    for one in chosen:
        band, unit = _band(product, one, recipe, when)
        bands.append(band)
        units.add(unit)
    sentinel = is_sentinel2(f"{product.source} {Path(bands[0].path).parent.name}")
    return Scene(
        source=product.source,
        datetime=when,
        bands=tuple(bands),
        cloud=product.cloud,
        gsd=finest.header.gsd,
        bounds=finest.header.bounds,
        units=product.units or (units.pop() if len(units) == 1 else "stored"),
        attribution=product.attribution or (S2_ATTRIBUTION if sentinel else ""),
        licence=product.licence or (S2_LICENCE if sentinel else ""),
    )


def _choose(product: Product, found: list[_Found], recipe: Recipe) -> list[_Found]:
    """The bands of the recipe, in its order; else all that are reflectance, each name once."""
    if recipe.bands:
        known: dict[str, _Found] = {}
        for one in found:
            for name in (*one.layer.aliases, one.layer.name):
                known.setdefault(same_key(name), one)
        missing = [name for name in recipe.bands if same_key(name) not in known]
        if missing:
            have = ", ".join(one.layer.name for one in found[:30])
            raise BadInput(
                f"scene {product.source}: expected band {', '.join(missing)}, found {have}"
            )
        return [
            replace(known[same_key(name)], layer=replace(known[same_key(name)].layer, name=name))
            for name in recipe.bands
        ]
    once: dict[str, _Found] = {}
    for one in found:
        if one.layer.wanted and not is_companion(one.layer.name):
            name = one.layer.name or "band1"
            held = once.get(name)
            if held is None or one.header.gsd < held.header.gsd:
                once[name] = replace(one, layer=replace(one.layer, name=name))
    if not once:
        raise BadInput(f"scene {product.source}: expected bands, found none but companions")
    return list(once.values())


def _band(product: Product, one: _Found, recipe: Recipe, when: datetime | None) -> tuple[Band, str]:
    layer, header = one.layer, one.header
    at = layer.index - 1
    tagged = header.scales[at], header.offsets[at]
    path = Path(header.path)
    text = " ".join((path.name, path.parent.name, path.parent.parent.name, product.source))
    named = scaling_by_name(text, layer.name, when)
    scale, offset, unit = 1.0, 0.0, "stored"
    if recipe.scale is not None or recipe.offset is not None:
        scale, offset, unit = recipe.scale or 1.0, recipe.offset or 0.0, "scaled"
    elif layer.scale is not None:
        scale, offset = layer.scale, layer.offset or 0.0
        unit = product.units or "scaled"
    elif tagged != (1.0, 0.0):
        scale, offset, unit = *tagged, "scaled"
    elif named is not None:
        scale, offset, unit = named.scale, named.offset, "reflectance"
    nodata = recipe.nodata
    if nodata is None:
        nodata = layer.nodata if layer.nodata is not None else header.nodata
    if nodata is None and named is not None and scale == named.scale:
        nodata = named.nodata
    if nodata is not None and not math.isfinite(nodata):
        nodata = None
    absolute = str(Path(header.path).absolute())
    return Band(layer.name, absolute, layer.index, float(scale), float(offset), nodata), unit


def _date(product: Product, chosen: Sequence[_Found], recipe: Recipe) -> datetime | None:
    if len(recipe.dates) == 1:
        return parse_date(recipe.dates[0])
    tags = chosen[0].header.tags
    return date_of_tags(tags) or product.datetime or date_of_writing(tags)


def _distinct(scenes: list[Scene]) -> list[Scene]:
    """Sources made unique: by the folder's name, then by a number."""
    seen: dict[str, int] = {}
    out = []
    for scene in scenes:
        name = scene.source
        if name in seen:
            name = f"{Path(scene.bands[0].path).parent.name}_{name}"
        while name in seen:
            seen[scene.source] += 1
            name = f"{scene.source}_{seen[scene.source]}"
        seen[name] = 1
        out.append(replace(scene, source=name))
    return out


def _is_recipe(error: BadInput) -> bool:
    return "expected band " in str(error)
