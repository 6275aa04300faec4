"""The code-size heuristic: chips of some regions, short trainings of a few sizes, a choice."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import encode, fitting, model, quantize, regions, sizing, train
from embarchive.baselines import tile_mean_error
from embarchive.errors import BadInput
from embarchive.gather import Names, Sample, gather, scene_cells
from embarchive.indices import index_target
from embarchive.memory import give_back
from embarchive.progress import Report
from embarchive.recipe import Recipe, Settings
from embarchive.step_plan import look

SIZES = (8, 16, 32, 64, 96)
# Seconds that all trainings together may take on a quiet machine, and steps of each.
SECONDS, STEPS, LEAST_STEPS = 90.0, 150, 20
ROOM = 128 << 20
# A region needs so many tiles, and so many held out; more than MOST_HELD say little more.
LEAST_TILES, LEAST_HELD, MOST_HELD, MOST_TILES = 24, 8, 64, 128
# More than a build holds out: what is told of a region is told from its held-out tiles.
HELD_SHARE = 0.3
WANTED_REGIONS, MOST_REGIONS = 16, 32


def size(
    scenes: Sequence[str],
    recipe: Recipe,
    *,
    error: float | None,
    relative: bool,
    progress: Report,
    sizes: Sequence[int] = SIZES,
) -> dict[str, Any]:
    """The smallest code whose predicted error is at most `error`; the `size` document.

    error: mean squared error in recipe units squared, or with `relative` as a share of the error
    of each tile's own band means. Raises BadInput, also for too few tiles.
    """
    if error is not None and not 0 < error < math.inf:
        raise BadInput(f"error: expected a number above 0, found {error:g}")
    if recipe.single_band:
        raise BadInput("size: expected a recipe of bands together, found single_band")
    began = time.monotonic()
    found, steps = measure(scenes, recipe, sizes, progress)
    rows = [
        {**asdict(region), "errors": dict(zip(map(str, sizes), region.errors, strict=True))}
        for region in found
    ]
    return {
        **sizing.judge(sizes, found, error, relative),
        "error": error,
        "unit": "share of the tile mean's error" if relative else "recipe units squared",
        "steps": steps,
        "seconds": round(time.monotonic() - began, 3),
        "regions": rows,
    }


def measure(
    paths: Sequence[str], recipe: Recipe, sizes: Sequence[int], progress: Report
) -> tuple[list[sizing.Region], int]:
    """Complexity of a sample of regions, and their held-out errors by one network a size for all
    of them, decoded from its int8 codes; and the training steps that each had."""
    seen = _read(paths, recipe, progress)
    names = _enough(seen.owner, seen.test)
    held = [np.flatnonzero(seen.test & (seen.owner == name))[:MOST_HELD] for name in names]
    errors = np.zeros((len(names), len(sizes)))
    steps = _steps(seen.settings, recipe, len(sizes))
    short = replace(recipe, steps=steps)
    for at, dim in enumerate(sizes):
        step = partial(progress, f"train {dim} numbers")
        errors[:, at] = _errors(seen, short, dim, held, step)
        give_back()
    level = _complexities(seen, names, recipe.seed)
    found = [
        sizing.Region(
            name=name,
            tiles=int((seen.owner == name).sum()),
            complexity=level[name],
            tile_mean=tile_mean_error(seen.sample.pixels[held[row]]),
            errors=tuple(errors[row].tolist()),
        )
        for row, name in enumerate(names)
    ]
    return found, steps


@dataclass(frozen=True)
class _Seen:
    """Chips of some regions; of each its region, and whether to train or to test on it (n,)."""

    settings: Settings
    sample: Sample
    owner: Names
    keep: NDArray[np.bool_]
    test: NDArray[np.bool_]


def _read(paths: Sequence[str], recipe: Recipe, progress: Report) -> _Seen:
    scenes, settings = look(paths, recipe)
    cells = np.concatenate([scene_cells(scene, settings) for scene in scenes])
    prefix, wanted = _choose(cells, settings, recipe.seed)
    grouping = replace(settings, region_prefix=prefix)
    within = regions.region_of(wanted, grouping)
    keep, test = regions.held_out(wanted, settings.precision, HELD_SHARE, recipe.seed, within)
    split = fitting.Split(frozenset(wanted[keep].tolist()), frozenset(wanted[test].tolist()))
    sample = gather(scenes, settings, wanted, ROOM, partial(progress, "read"))
    owner = regions.region_of(sample.geohash, grouping)
    return _Seen(settings, sample, owner, *split.masks(sample.geohash))


def _choose(cells: Names, settings: Settings, seed: int) -> tuple[int, Names]:
    """The prefix of the regions to look at, and the cells of at most MOST_REGIONS of them.

    cells: of every scene, so that dates count. The archive's own regions, or longer prefixes
    where those are few; regions made by hand stay.
    """
    best, names = 0, np.zeros(0, "U1")
    prefix = settings.region_prefix
    for length in range(settings.region_prefix, settings.precision):
        owner = regions.region_of(cells, replace(settings, region_prefix=length))
        found, count = np.unique(owner, return_counts=True)
        enough = found[count >= LEAST_TILES]
        if len(enough) > best:
            best, prefix, names = len(enough), length, enough
        if best >= WANTED_REGIONS:
            break
    names = np.random.default_rng(seed).permutation(names)[:MOST_REGIONS]
    owner = regions.region_of(cells, replace(settings, region_prefix=prefix))
    return prefix, np.unique(cells[np.isin(owner, names)])


def _enough(owner: Names, test: NDArray[np.bool_]) -> list[str]:
    """Regions with enough tiles and held-out tiles; raises BadInput where they are too few."""
    names = [
        str(name)
        for name in np.unique(owner)
        if (owner == name).sum() >= LEAST_TILES and test[owner == name].sum() >= LEAST_HELD
    ]
    if len(names) < sizing.LEAST_REGIONS:
        raise BadInput(
            f"size: expected at least {sizing.LEAST_REGIONS} regions of {LEAST_TILES} tiles, "
            f"{LEAST_HELD} of them held out, found {len(names)} in {len(owner)} tiles; "
            "give more scenes, or a finer precision"
        )
    return names


def _steps(settings: Settings, recipe: Recipe, count: int) -> int:
    """Training steps of each network, so that all of them take about SECONDS."""
    room = int(SECONDS / count / fitting.step_seconds(settings, recipe.batch))
    return min(recipe.steps, STEPS, max(LEAST_STEPS, room))


def _errors(
    seen: _Seen,
    recipe: Recipe,
    dim: int,
    held: Sequence[NDArray[np.intp]],
    step: train.Step,
) -> list[float]:
    """Mean squared errors of held-out tiles, a region each, by one network of `dim` numbers."""
    s, sample = seen.settings, seen.sample
    arch = model.choose_architecture(len(s.bands), s.height, s.width, dim)
    target = index_target(s, recipe.index_weight)
    fitted = train.fit(arch, sample.pixels[seen.keep], recipe, step, target)
    quantiser = quantize.Int8(float(fitted.encoder["step"][0]))
    found = []
    for rows in held:
        chips = sample.pixels[rows]
        code = quantiser.encode(encode.embed(arch, fitted.encoder, chips))
        images = encode.decode_chips(arch, fitted.decoder, None, quantiser.decode(code))
        every = np.ones_like(sample.valid[rows])
        found.append(float(encode.errors(chips, images, every, None)[0].mean()))
    return found


def _complexities(seen: _Seen, names: Sequence[str], seed: int) -> dict[str, dict[str, float]]:
    """COMPLEXITIES of regions: of as many tiles of each, and on one scale."""
    rng = np.random.default_rng(seed)
    sample = seen.sample
    rows = {name: rng.permutation(np.flatnonzero(seen.owner == name)) for name in names}
    count = min(MOST_TILES, *map(len, rows.values()))
    some = sample.pixels[:: max(1, len(sample) // 500)]
    low, high = np.percentile(some, [0.05, 99.95], axis=(0, 2, 3)).astype(np.float32)
    mean, std = some.mean(axis=(0, 2, 3)), some.std(axis=(0, 2, 3))
    return {
        name: sizing.complexity(sample.pixels[picked[:count]], low, high, mean, std)
        for name, picked in rows.items()
    }
