"""The bands of a plan of single bands: the scenes of each, and the numbers that standardise it.

A plan of bands together has one group, None, and no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from embarchive import fitting, oneband
from embarchive.errors import BadInput
from embarchive.fitting import Split
from embarchive.gather import Sample, gather
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import JobPlan, Staging
from embarchive.step_plan import plan_areas, plan_cells

# Bytes of chips kept in memory to train the shared networks, and to learn a new band's numbers.
ROOM, BAND_ROOM = 128 << 20, 32 << 20
Numbers = dict[str, Any]
Progress = Callable[[int, int], None]


def band_scenes(job: JobPlan) -> dict[str | None, list[Scene]]:
    """The scenes of each band of a plan; of bands together all of them."""
    scenes = [scene_from_json(values) for values in job.scenes]
    if not oneband.single(job.settings):
        return {None: scenes}
    found: dict[str | None, list[Scene]] = {}
    for scene in scenes:
        found.setdefault(scene.bands[0].name, []).append(scene)
    return found


def band_areas(job: JobPlan) -> dict[str, str | None]:
    """The band of each region of `plan_areas`."""
    single = oneband.single(job.settings)
    found: dict[str, str | None] = {}
    for values, areas in zip(job.scenes, plan_areas(job), strict=True):
        band = scene_from_json(values).bands[0].name if single else None
        found.update(dict.fromkeys(np.unique(areas).tolist(), band))
    return found


def read_sample(job: JobPlan, progress: Progress) -> tuple[Sample, dict[str, Numbers]]:
    """Chips to train the shared networks on, and the numbers of bands: of single bands the chips of
    all, standardised. Raises BadInput where a band has none."""
    groups = band_scenes(job)
    if None in groups:
        return gather(groups[None], job.settings, None, ROOM, progress), {}
    split = _split(job)
    found, numbers = [], {}
    for band, scenes in groups.items():
        own = gather(scenes, job.settings, None, ROOM // len(groups), progress)
        name = str(band)
        numbers[name] = _numbers(name, own, split, scenes)
        pixels = oneband.standardised(own.pixels, numbers[name])
        found.append(replace(own, pixels=pixels))
    return Sample(
        np.concatenate([own.geohash for own in found]),
        np.concatenate([own.pixels for own in found]),
        np.concatenate([own.valid for own in found]),
        whole=False,
    ), numbers


def write_bands(staging: Staging, job: JobPlan, record: Mapping[str, Any]) -> None:
    """Learn the numbers of bands that are new to the space of a record. Raises BadInput."""
    groups, held = band_scenes(job), read_bands(staging, record)
    fresh = sorted(str(band) for band in groups if band is not None and band not in held)
    if not fresh:
        return
    split, found = _split(job), {}
    for name in fresh:
        own = gather(groups[name], job.settings, None, BAND_ROOM, lambda done, total: None)
        found[name] = _numbers(name, own, split, groups[name])
    staging.write("train", "bands", found)


def read_bands(staging: Staging, record: Mapping[str, Any]) -> dict[str, Numbers]:
    """The numbers of bands by name: those of the space of a record, and those new to it."""
    held = record["space"]["trained"].get("bands", {})
    return {**(staging.read("train", "bands") or {}), **held}


def _split(job: JobPlan) -> Split:
    cells = np.unique(np.concatenate(plan_cells(job)))
    return fitting.split_cells(cells, job.settings, job.recipe.seed)


def _numbers(name: str, own: Sample, split: Split, scenes: list[Scene]) -> Numbers:
    """Of training tiles alone."""
    chips = own.pixels[split.masks(own.geohash)[0]]
    if not len(chips):
        raise BadInput(f"band {name}: expected tiles that are data to train on, found none")
    return {**oneband.scaling(chips), "units": scenes[0].units}
