"""Builds, in the steps that array jobs run: plan, train, encode, commit.

Every step reads the plan, does what no record says is done, and writes content-named objects
first and its record last. Only `commit` touches the pointer. A killed step is run again.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from embarchive import fitting, model, tiles
from embarchive.commit import no_new_folder
from embarchive.engine import Engine, Pool, opened
from embarchive.errors import BadInput
from embarchive.gather import Names, cut_scene, scene_cells
from embarchive.progress import Report
from embarchive.recipe import Recipe, Settings
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import Staging, write_plan
from embarchive.step_commit import commit
from embarchive.step_drift import watch
from embarchive.step_encode import encode_step as encode
from embarchive.step_plan import decide, plan_areas, plan_cells
from embarchive.step_train import train as train_new
from embarchive.store import open_store

__all__ = ["build", "commit", "dry_run", "encode", "plan", "reencode", "train"]

PART_TILES = 100_000
_log = logging.getLogger("embarchive")


def build(
    scenes: Sequence[str],
    out: str,
    recipe: Recipe,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    progress: Report,
) -> dict[str, Any]:
    """Plan, train, encode and commit; the `build` document of the command line.

    engine: where parts run; default in `workers` processes, or in this one.
    """
    begin = partial(plan, scenes, out, recipe, parts=1)
    return _run(out, begin, engine or _local(workers), progress)


def reencode(
    scenes: Sequence[str],
    out: str,
    recipe: Recipe,
    *,
    workers: int = 1,
    engine: Engine | None = None,
    progress: Report,
) -> dict[str, Any]:
    """Train the networks of a new space on scenes and encode them in it, beside what the archive
    has; the document of `build`. Raises NotAnArchive."""
    begin = partial(plan, scenes, out, recipe, parts=1, new_space=True)
    done = _run(out, begin, engine or _local(workers), progress)
    if not done["added"]:
        said = "reencode: the same scenes and recipe gave space %s, which the archive has already"
        _log.warning(said, done["space_id"])
    return done


def train(
    out: str,
    *,
    plan: str | None,
    part: tuple[int, int] | None,
    backbone: bool,
    progress: Report,
) -> dict[str, Any]:
    """Train what a plan needs, see `step_train.train`, and watch the decoders that the archive
    holds for its regions; with `part` only that part's regions."""
    done = train_new(out, plan=plan, part=part, backbone=backbone, progress=progress)
    return done if backbone else done | watch(out, plan=plan, part=part, progress=progress)


def _local(workers: int) -> Engine:
    return Engine("process", workers) if workers > 1 else Engine()


def _run(
    out: str, begin: Callable[[], dict[str, Any]], engine: Engine, progress: Report
) -> dict[str, Any]:
    with no_new_folder(open_store(out)):
        return _steps(out, begin, engine, progress)


def _steps(
    out: str, begin: Callable[[], dict[str, Any]], engine: Engine, progress: Report
) -> dict[str, Any]:
    began = time.monotonic()
    # An engine that cannot work says so before anything is written.
    with opened(engine) as pool:
        made = begin()
        try:
            _train_all(out, made, pool, progress)
        except BadInput:
            Staging(open_store(out), made["plan"]).clear_if_idle()
            raise
        encoded = _encode_all(out, made, pool, progress)
    return commit(out, plan=made["plan"], progress=progress) | {
        "encoded": encoded,
        "seconds": round(time.monotonic() - began, 3),
    }


def _train_all(out: str, made: dict[str, Any], pool: Pool, progress: Report) -> None:
    """Regions by part where workers may be on other machines: on this one, one process trains
    them on all cores."""
    parts = min(pool.workers, int(made["regions"]))
    spread = pool.spread and parts > 1
    train(out, plan=made["plan"], part=None, backbone=spread, progress=progress)
    if spread:
        pool.run(partial(_train_part, out, made["plan"]), parts, "train parts", progress)


def _encode_all(out: str, made: dict[str, Any], pool: Pool, progress: Report) -> int:
    least = 2 * pool.workers if pool.workers > 1 else 1
    parts = max(-(-int(made["tiles"]) // PART_TILES), least)
    if pool.workers > 1:
        task = partial(_encode_part, out, made["plan"])
        return pool.run(task, parts, "encode parts", progress)
    return sum(
        encode(out, plan=made["plan"], part=(part, parts), progress=progress)["shards"]
        for part in range(parts)
    )


def dry_run(scenes: Sequence[str], out: str, recipe: Recipe) -> dict[str, Any]:
    """Tiles, bytes and seconds that a build is expected to take; writes nothing.

    The share of cells that are kept, and the time, come from cutting a few of them; bytes are
    those of shards and weights.
    """
    job = decide(open_store(out), scenes, recipe)
    found = [scene_from_json(values) for values in job.scenes]
    cells = [scene_cells(scene, job.settings) for scene in found]
    s = job.settings
    kept, a_cell = _try(found, cells, s)
    touched = sum(len(some) for some in cells)
    total = round(touched * kept)
    places = np.unique(np.concatenate(cells))
    areas = len(np.unique(np.concatenate(plan_areas(job))))
    arch = model.choose_architecture(len(s.bands), s.height, s.width, s.dim)
    size = {kind: _numbers(arch, kind) for kind in ("encoder", "backbone", "adapter")}
    weights = 2 * (size["encoder"] + size["backbone"] + areas * size["adapter"])
    # An adapter's step is that of a decoder alone, and many share their passes.
    steps = recipe.steps + areas * recipe.adapter_steps / 3 if job.parent == 0 else 0
    a_step = fitting.step_seconds(s, recipe.batch)
    return {
        "scenes": len(found),
        "tiles": total,
        "places": round(len(places) * kept),
        "regions": areas,
        "bytes": total * (s.dim + s.bits // 8) + 30_000 + (weights if job.parent == 0 else 0),
        "seconds": round(3 + touched * 1.5 * a_cell + total * 0.002 + steps * a_step, 1),
        "precision": s.precision,
        "gsd": s.gsd,
        "chip": [s.height, s.width],
        "bands": list(s.bands),
    }


def _try(
    scenes: Sequence[Scene], cells: Sequence[Names], settings: Settings
) -> tuple[float, float]:
    """The share of cells that are kept, from short runs all over a few scenes, and seconds a
    cell: of those runs, or of a long one as a build cuts it, whichever is less."""
    tried, kept, began = 0, 0, time.monotonic()
    for at in np.unique(np.linspace(0, len(scenes) - 1, 4).round()).astype(int):
        runs = tiles.groups(cells[at], 16)
        for one in np.unique(np.linspace(0, len(runs) - 1, 8).round()).astype(int):
            tried += len(runs[one])
            kept += sum(len(chips) for chips in cut_scene(scenes[at], runs[one], settings))
    between, middle = time.monotonic(), len(cells) // 2
    runs = tiles.groups(cells[middle])
    long = runs[len(runs) // 2]
    list(cut_scene(scenes[middle], long, settings))
    spent = (between - began) / max(tried, 1), (time.monotonic() - between) / len(long)
    return kept / max(tried, 1), min(spent)


def _numbers(arch: model.Architecture, kind: str) -> int:
    return sum(math.prod(shape) for shape in arch.shapes(kind).values())


def plan(
    scenes: Sequence[str], out: str, recipe: Recipe, *, parts: int, new_space: bool = False
) -> dict[str, Any]:
    """Decide what a build does and write the plan; the same input gives the same plan."""
    store = open_store(out)
    job = decide(store, scenes, recipe, reencode=new_space)
    store.check_writable()
    staging = write_plan(store, job)
    cells = plan_cells(job)
    return {
        "plan": staging.plan_id,
        "parts": parts,
        "scenes": len(job.scenes),
        "tiles": sum(len(some) for some in cells),
        "regions": len(np.unique(np.concatenate(plan_areas(job)))),
        "next": [
            f"embarchive train {out}",
            *(f"embarchive encode {out} --part {i}/{parts}" for i in range(parts)),
            f"embarchive commit {out}",
        ],
    }


def _train_part(out: str, plan_id: str, part: int, parts: int) -> int:
    done = train(out, plan=plan_id, part=(part, parts), backbone=False, progress=_unheard)
    return int(done["regions"])


def _encode_part(out: str, plan_id: str, part: int, parts: int) -> int:
    return int(encode(out, plan=plan_id, part=(part, parts), progress=_unheard)["shards"])


def _unheard(stage: str, done: int, total: int) -> None:
    """Progress within a worker, which nobody hears."""
