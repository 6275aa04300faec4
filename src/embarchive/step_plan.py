"""The plan step: scenes and a recipe become the settings and the work of a build."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embarchive import grid, indices, model, oneband, regions, tiles
from embarchive.additions import check_plain
from embarchive.bandnames import same_key
from embarchive.commit import find_head, read_head
from embarchive.errors import BadInput
from embarchive.gather import Names, scene_cells
from embarchive.manifest import Space
from embarchive.recipe import Recipe, Settings
from embarchive.scenes import Scene, find_scenes, scene_from_json, scene_to_json
from embarchive.staging import MODEL_KEYS, JobPlan
from embarchive.storage import Store

# What an archive was built with and an append cannot change. The title and whose imagery it is
# are left out: a recipe for several archives may well say them.
FIXED = (
    "precision gsd region_prefix shard_prefix bands indices dim bits codec min_cover min_valid"
).split()
# Source pixels of a cell, and of a pixel of a chip: with fewer there is nothing to tell apart.
LEAST_PIXELS, LEAST_SHARE = 64, 0.25
_log = logging.getLogger("embarchive")


def decide(
    store: Store, paths: Sequence[str], recipe: Recipe, *, reencode: bool = False
) -> JobPlan:
    """What a build of these scenes will do; an append uses the archive's own settings.

    reencode: train a new space in an archive that there is. Raises BadInput also for a recipe that
    asks an archive for other settings than its own, and for cells or pixels far finer than the
    scenes'; NotAnArchive.
    """
    head = read_head(store) if reencode else find_head(store)
    if head is not None:
        _check_append(store.root, head.generation.settings, recipe)
        same = [space for space in head.generation.spaces if space.kind == recipe.encoder]
        _check_quality(store.root, same, recipe)
        if oneband.single(head.generation.settings):
            recipe = replace(recipe, single_band=True)
        else:
            recipe = replace(recipe, bands=head.generation.settings.bands)
    if recipe.encoder != "vae" and not (reencode or (head and same)):
        raise BadInput(
            f"{store.root}: expected a space of encoder {recipe.encoder} to add to, found none; "
            "build with the vae, then reencode"
        )
    scenes, settings = look(paths, recipe, head.generation.settings if head else None)
    if head is not None and recipe.single_band:
        scenes = _spelt(scenes, head.generation.spaces)
    values = {key: getattr(recipe, key) for key in MODEL_KEYS}
    return JobPlan(
        tuple(scene_to_json(scene) for scene in scenes),
        settings,
        values,
        head.generation.number if head else 0,
        reencode,
    )


def look(
    paths: Sequence[str], recipe: Recipe, held: Settings | None = None
) -> tuple[list[Scene], Settings]:
    """The scenes, and the settings that they have to fit: those held, or a new archive's.

    Raises BadInput where there are no scenes, or one of other bands or units.
    """
    if held and not held.bands:
        raise BadInput("build: expected an archive of scenes to add to, found one of vectors")
    scenes = find_scenes(paths, recipe)
    if not scenes:
        raise BadInput(f"scenes: expected rasters in {', '.join(paths)}, found none")
    settings = held or _settings(scenes, recipe)
    if oneband.single(settings):
        _check_units(scenes)
        return scenes, settings
    for scene in scenes:
        names = tuple(band.name for band in scene.bands)
        if names != settings.bands:
            raise BadInput(
                f"scene {scene.source}: expected bands {', '.join(settings.bands)}, "
                f"found {', '.join(names)}"
            )
        if scene.units != settings.units:
            raise BadInput(
                f"scene {scene.source}: expected the archive's {settings.units} values, found "
                f"{scene.units} ones; give scale and offset in the recipe as it was built"
            )
    return scenes, settings


def _check_units(scenes: Sequence[Scene]) -> None:
    """A band has the same units in all scenes."""
    seen: dict[str, Scene] = {}
    for scene in scenes:
        first = seen.setdefault(scene.bands[0].name, scene)
        if first.units != scene.units:
            raise BadInput(
                f"scene {scene.source}: expected, as in {first.source}, {first.units} values, "
                f"found {scene.units} ones; give scale and offset in the recipe"
            )


def _spelt(scenes: Sequence[Scene], spaces: Sequence[Space]) -> list[Scene]:
    """Scenes of single bands with bands named as the archive does. Raises BadInput for other units
    than a band has there."""
    held = spaces[-1].trained.get("bands", {}) if spaces else {}
    found = []
    for scene in scenes:
        band = scene.bands[0]
        name = oneband.known_name(band.name, list(held))
        units = held.get(name, {}).get("units", scene.units)
        if units != scene.units:
            raise BadInput(
                f"scene {scene.source}: expected the archive's {units} values of band {name}, "
                f"found {scene.units} ones; give scale and offset in the recipe as it was built"
            )
        source = oneband.source_of(scene.source.rpartition(":")[0], name)
        found.append(replace(scene, source=source, bands=(replace(band, name=name),)))
    return found


def _check_append(root: str, held: Settings, recipe: Recipe) -> None:
    """Refuse a recipe that sets what the archive has otherwise. A value that is the default
    may not have been set at all, and passes."""
    check_plain(root, held)
    single = oneband.single(held)
    if recipe.single_band and not single:
        raise BadInput(f"{root}: expected the archive's bands together, found single_band")
    for key in FIXED:
        if single and key == "bands":
            continue
        asked, have = getattr(recipe, key), getattr(held, key)
        if asked in (getattr(Recipe(), key), have):
            continue
        if key == "bands" and list(map(same_key, asked)) == list(map(same_key, have)):
            continue
        if key == "gsd" and asked < have and max(held.height, held.width) == grid.MAX_SIDE:
            _tell_coarser(asked, grid.ChipGrid(held.precision, have, held.height, held.width))
            continue
        raise BadInput(f"{root}: expected the archive's {key} {_said(have)}, found {_said(asked)}")
    if recipe.region_file:
        found = regions.read_regions(recipe.region_file, held.precision)
        if found != held.regions:
            raise BadInput(
                f"{root}: expected the archive's region_file of {len(held.regions)} prefixes, "
                f"found another of {len(found)}: {recipe.region_file}"
            )


def _check_quality(root: str, spaces: Sequence[Space], recipe: Recipe) -> None:
    """Refuse a quality that is not that of the newest space; none asked for may not have been
    set at all, and passes."""
    held = spaces[-1].quality if spaces else ""
    if recipe.quality and recipe.quality != held:
        raise BadInput(
            f"{root}: expected the archive's quality {held or 'none'!r}, found {recipe.quality!r}"
        )


def _said(value: object) -> str:
    """A setting as a message names it."""
    if isinstance(value, dict):
        pairs = (f"{name} of {_said(pair)}" for name, pair in sorted(value.items()))
        return "; ".join(pairs) or "none"
    return ", ".join(value) if isinstance(value, tuple) else f"{value}"


def _tell_coarser(asked: float, chips: grid.ChipGrid) -> None:
    _log.warning(
        "gsd: %g m was asked for, the chips have %g m: a cell of precision %d takes it to fit "
        "%d pixels", asked, chips.gsd, chips.precision, grid.MAX_SIDE,
    )  # fmt: skip


def _chips(scenes: Sequence[Scene], recipe: Recipe) -> grid.ChipGrid:
    """The chips of a new archive. Raises BadInput where they would hold next to nothing of the
    scenes, many times over."""
    latitudes = [lat for scene in scenes for box in scene.bounds for lat in (box[1], box[3])]
    finest = min(scene.gsd for scene in scenes)
    chips = grid.choose_grid(recipe.gsd or finest, latitudes, recipe.precision)
    if recipe.gsd and chips.gsd < LEAST_SHARE * finest:
        raise BadInput(
            f"gsd: expected at least {LEAST_SHARE * finest:g} m for scenes of {finest:g} m, "
            f"found {recipe.gsd:g} m"
        )
    pixels = {p: grid.pixels_a_cell(p, finest, latitudes) for p in range(1, chips.precision + 1)}
    most = max(p for p in pixels if p == 1 or pixels[p] >= LEAST_PIXELS)
    if recipe.precision and recipe.precision > most:
        raise BadInput(
            f"precision: expected at most {most} for scenes of {finest:g} m, found "
            f"{recipe.precision}, whose cells have {pixels[recipe.precision]:.2g} of their pixels"
        )
    if recipe.gsd and chips.gsd > recipe.gsd:
        _tell_coarser(recipe.gsd, chips)
    return chips


def _check_prefixes(recipe: Recipe, precision: int) -> None:
    for key in ("region_prefix", "shard_prefix"):
        if (getattr(recipe, key) or 1) > precision:
            raise BadInput(
                f"{key}: expected at most the {precision} characters of a tile's geohash, "
                f"found {getattr(recipe, key)}"
            )


def _settings(scenes: Sequence[Scene], recipe: Recipe) -> Settings:
    chips = _chips(scenes, recipe)
    _check_prefixes(recipe, chips.precision)
    single = recipe.single_band
    bands = (oneband.ANY,) if single else tuple(band.name for band in scenes[0].bands)
    kinds = {scene.bands[0].name if single else "" for scene in scenes}
    dates = len({scene.datetime for scene in scenes}) * len(kinds)
    cells = np.unique(
        np.concatenate([tiles.cells_of(scene.bounds, chips.precision) for scene in scenes])
    )
    if len(bands) > model.MAX_BANDS:
        raise BadInput(
            f"scene {scenes[0].source}: expected at most {model.MAX_BANDS} bands, found "
            f"{len(bands)}; say which bands to keep, or the dates of a stack of dates"
        )
    mapping = (
        regions.read_regions(recipe.region_file, chips.precision) if recipe.region_file else {}
    )
    prefix = recipe.region_prefix or regions.choose_region_prefix(cells, chips.precision)
    settings = Settings(
        precision=chips.precision,
        gsd=chips.gsd,
        height=chips.height,
        width=chips.width,
        bands=bands,
        units=oneband.UNITS if single else scenes[0].units,
        region_prefix=prefix,
        shard_prefix=recipe.shard_prefix or regions.choose_shard_prefix(cells, dates),
        indices=recipe.indices or indices.default_indices(bands),
        dim=recipe.dim,
        bits=recipe.bits,
        codec=recipe.codec,
        min_cover=recipe.min_cover,
        min_valid=recipe.min_valid,
        regions=mapping,
        title=recipe.title,
        attribution=recipe.attribution or scenes[0].attribution,
        licence=recipe.licence or scenes[0].licence,
    )
    indices.index_bands(settings)
    return settings


def plan_cells(job: JobPlan) -> list[Names]:
    """The cells that each scene may touch."""
    return [scene_cells(scene_from_json(values), job.settings) for values in job.scenes]


def plan_areas(job: JobPlan) -> list[Names]:
    """What decodes each of `plan_cells`: its region, of single bands the region's band."""
    return [
        areas(cells, scene_from_json(values), job.settings)
        for values, cells in zip(job.scenes, plan_cells(job), strict=True)
    ]


def areas(cells: Names, scene: Scene, settings: Settings) -> Names:
    """The regions (n,) of a scene's cells, of single bands those of its band."""
    found = regions.region_of(cells, settings)
    return oneband.area_of(found, scene.bands[0].name) if oneband.single(settings) else found


def shard_names(job: JobPlan) -> list[str]:
    """The shard prefixes that the plan's cells fall into, sorted."""
    names = np.unique(np.concatenate(plan_cells(job)))
    return [str(name) for name in np.unique(names.astype(f"U{job.settings.shard_prefix}"))]
