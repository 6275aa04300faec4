"""Builds, in the steps that array jobs run: plan, train, encode, commit.

Every step reads the plan, does what no record says is done, and writes content-named objects
first and its record last. Only `commit` touches the pointer. A killed step is run again.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from embarchive import engine, regions, tiles
from embarchive.encoding import encode_step as encode
from embarchive.finishing import commit
from embarchive.planning import decide, plan_cells
from embarchive.progress import Report
from embarchive.recipe import Recipe
from embarchive.sample import cut_scene, scene_cells
from embarchive.scenes import scene_from_json
from embarchive.staging import write_plan
from embarchive.store import open_store
from embarchive.training import train

__all__ = ["build", "commit", "dry_run", "encode", "plan", "train"]

PART_TILES = 100_000


def build(
    scenes: Sequence[str], out: str, recipe: Recipe, *, workers: int, progress: Report
) -> dict[str, Any]:
    """Plan, train, encode and commit; the `build` document of the command line."""
    began = time.monotonic()
    made = plan(scenes, out, recipe, parts=1)
    train(out, plan=made["plan"], part=None, backbone=False, progress=progress)
    task = partial(_encode_part, out, made["plan"])
    parts = max(-(-int(made["tiles"]) // PART_TILES), 2 * workers if workers > 1 else 1)
    for done, _ in enumerate(engine.run(task, parts, workers) if workers > 1 else ()):
        progress("encode parts", done + 1, parts)
    if workers <= 1:
        for part in range(parts):
            encode(out, plan=made["plan"], part=(part, parts), progress=progress)
    return commit(out, plan=made["plan"], progress=progress) | {
        "seconds": round(time.monotonic() - began, 3)
    }


def dry_run(scenes: Sequence[str], out: str, recipe: Recipe) -> dict[str, Any]:
    """Tiles, bytes and seconds that a build is expected to take; writes nothing.

    Tiles are counted from the scenes' outlines; the time from cutting a few of them.
    """
    job = decide(open_store(out), scenes, recipe)
    found = [scene_from_json(values) for values in job.scenes]
    cells = [scene_cells(scene, job.settings) for scene in found]
    total = sum(len(some) for some in cells)
    began, cut = time.monotonic(), 0
    for scene, some in zip(found[:1], cells[:1], strict=True):
        middle = tiles.groups(some)[len(tiles.groups(some)) // 2]
        cut += len(middle[:128])
        list(cut_scene(scene, middle[:128], job.settings))
    a_tile = (time.monotonic() - began) / max(cut, 1)
    training = 0.02 * recipe.steps if job.parent == 0 else 0.0
    s = job.settings
    return {
        "scenes": len(found),
        "tiles": total,
        "places": len(np.unique(np.concatenate(cells))),
        "regions": len(np.unique(regions.region_of(np.concatenate(cells), s))),
        "bytes": total * (s.dim + s.bits // 8 + 20),
        "seconds": round(total * (2 * a_tile + 0.004) + training, 1),
        "precision": s.precision,
        "gsd": s.gsd,
        "chip": [s.height, s.width],
        "bands": list(s.bands),
    }


def plan(scenes: Sequence[str], out: str, recipe: Recipe, *, parts: int) -> dict[str, Any]:
    """Decide what a build does and write the plan; the same input gives the same plan."""
    store = open_store(out)
    job = decide(store, scenes, recipe)
    store.check_writable()
    staging = write_plan(store, job)
    cells = plan_cells(job)
    return {
        "plan": staging.plan_id,
        "parts": parts,
        "scenes": len(job.scenes),
        "tiles": sum(len(some) for some in cells),
        "regions": len(np.unique(regions.region_of(np.concatenate(cells), job.settings))),
        "next": [f"embarchive encode {out} --part {i}/{parts}" for i in range(parts)],
    }


def _encode_part(out: str, plan_id: str, part: int, parts: int) -> None:
    encode(out, plan=plan_id, part=(part, parts), progress=lambda stage, done, total: None)
