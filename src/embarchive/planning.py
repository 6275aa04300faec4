"""The plan step: scenes and a recipe become the settings and the work of a build."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from embarchive import fitting, grid, model, regions, tiles
from embarchive.commit import find_head
from embarchive.errors import BadInput
from embarchive.recipe import Recipe, Settings
from embarchive.sample import Names, scene_cells
from embarchive.scenes import Scene, find_scenes, scene_from_json, scene_to_json
from embarchive.staging import MODEL_KEYS, JobPlan
from embarchive.storage import Store


def decide(store: Store, paths: Sequence[str], recipe: Recipe) -> JobPlan:
    """What a build of these scenes will do; an append uses the archive's own settings."""
    head = find_head(store)
    if head is not None:
        recipe = replace(recipe, bands=head.generation.settings.bands)
    scenes = find_scenes(paths, recipe)
    if not scenes:
        raise BadInput(f"scenes: expected rasters in {', '.join(paths)}, found none")
    settings = head.generation.settings if head else _settings(scenes, recipe)
    for scene in scenes:
        names = tuple(band.name for band in scene.bands)
        if names != settings.bands:
            raise BadInput(
                f"scene {scene.source}: expected bands {', '.join(settings.bands)}, "
                f"found {', '.join(names)}"
            )
    values = {key: getattr(recipe, key) for key in MODEL_KEYS}
    return JobPlan(
        tuple(scene_to_json(scene) for scene in scenes),
        settings,
        values,
        head.generation.number if head else 0,
    )


def _settings(scenes: Sequence[Scene], recipe: Recipe) -> Settings:
    latitudes = [lat for scene in scenes for box in scene.bounds for lat in (box[1], box[3])]
    gsd = recipe.gsd or min(scene.gsd for scene in scenes)
    chips = grid.choose_grid(gsd, latitudes, recipe.precision)
    dates = len({scene.datetime for scene in scenes})
    cells = np.unique(
        np.concatenate([tiles.cells_of(scene.bounds, chips.precision) for scene in scenes])
    )
    bands = tuple(band.name for band in scenes[0].bands)
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
        units=scenes[0].units,
        region_prefix=prefix,
        shard_prefix=recipe.shard_prefix or regions.choose_shard_prefix(cells, dates),
        indices=recipe.indices or fitting.default_index(bands),
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
    fitting.index_bands(settings)
    return settings


def plan_cells(job: JobPlan) -> list[Names]:
    """The cells that each scene may touch."""
    return [scene_cells(scene_from_json(values), job.settings) for values in job.scenes]


def shard_names(job: JobPlan) -> list[str]:
    """The shard prefixes that the plan's cells fall into, sorted."""
    names = np.unique(np.concatenate(plan_cells(job)))
    return [str(name) for name in np.unique(names.astype(f"U{job.settings.shard_prefix}"))]
