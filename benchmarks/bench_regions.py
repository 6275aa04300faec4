"""What decoder does a region pay for? All three of every region, their errors, and what was chosen.

Real data from EMBARCHIVE_DATA or ../shared/data. Of each set an archive's shared networks, and of
each region an adapter and a whole network, whatever they cost: the held-out error by each, the
bytes that it adds, and what `choice` would take, with its reason. Below them what the rate of that
choice rests on, with region "-": the whole set by the shared network, by PCA with 64 numbers and
with 80, and by fidelity codes of a few bytes (on their blocks).

After section 4.2 of the embedding data store paper, which has a network a region and counts none.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import report
import sets

from embarchive import choice, fit_layer, fit_regions, fitting, regions, step_train, train
from embarchive.baselines import Pca, fit_pca
from embarchive.choice import Candidate
from embarchive.fit_regions import Area, Work
from embarchive.gather import Sample, gather
from embarchive.recipe import Recipe
from embarchive.step_plan import look
from embarchive.store import open_store

NAMES = ("s2_33TW", "bigearthnet", "naip")
BYTES = (16, 32)
Row = dict[str, Any]


def quiet(done: int, total: int) -> None:
    """Progress that nobody reads."""


def measure(name: str, recipe: Recipe, folder: str, bytes_: tuple[int, ...] = BYTES) -> list[Row]:
    """The rows of one set."""
    scenes, settings = look(list(sets.paths_of(name)), recipe)
    settings = replace(settings, codec="auto")
    sample = gather(scenes, settings, None, sets.ROOM, quiet)
    split = fitting.split_cells(sample.geohash, settings, recipe.seed)
    store = open_store(folder)
    space = fitting.fit_space(store, settings, recipe, sample, split, quiet)
    base = step_train.load_base(store, {"space": asdict(space)})
    work = Work(store, base, settings, recipe)
    owner = regions.region_of(sample.geohash, settings)
    found = []
    for region in np.unique(owner).tolist():
        own = sample.only(owner == region)
        keep, test = split.masks(own.geohash)
        area = Area(region, own.only(keep), own.only(test), len(own))
        if len(area.test) and len(area.train) >= train.LEAST_TILES:
            found += [{"dataset": sets.SETS[name].title, **row} for row in _region(work, area)]
    keep, test = split.masks(sample.geohash)
    both = sample.only(keep), sample.only(test)
    dataset = sets.SETS[name].title
    return found + [{"dataset": dataset, **row} for row in _rates(work, both, bytes_)]


def _region(work: Work, area: Area) -> Iterator[Row]:
    base, region = work.base, area.region
    chips = [area.train.pixels]
    fresh = next(iter(fit_regions.fit_adapters(base, work.settings, work.recipe, chips)))
    made = {
        "shared": None,
        "adapter": work.pack(fresh, "adapter", region),
        "full": work.full(region, fit_regions.shared_start(base), area.train.pixels),
    }
    tried = []
    for kind, one in made.items():
        mse = work.measure(area.test, one, None)["mse"]
        coded = area.tiles * base.space.dim if kind == "full" else 0
        tried.append(Candidate(kind, mse, coded + (len(one.data) if one else 0)))
    why = choice.choose(tried, area.tiles, len(area.test))
    for one in tried:
        yield {
            "region": region,
            "tiles": area.tiles,
            "test_tiles": len(area.test),
            "kind": one.kind,
            "held_out_mse": one.mse,
            "mse_to_shared": (one.mse or 0.0) / max(tried[0].mse or 0.0, 1e-30),
            "bytes": one.bytes,
            "bytes_a_tile": one.bytes / area.tiles,
            "fitted_by_auto": one.kind != "full" or not choice.hopeless(one.bytes, area.tiles),
            "chosen": one.kind == why.chosen,
            "reason": why.reason,
        }


def _rates(work: Work, both: tuple[Sample, Sample], sizes: tuple[int, ...]) -> Iterator[Row]:
    base, (fit_to, test) = work.base, both
    shared = work.measure(test, None, None)["mse"]
    pca, dim = fit_pca(fit_to.pixels, 80), base.space.dim
    found = [("shared network", shared, float(dim))]
    for count in (dim, 80):
        error = Pca(pca.mean, pca.axes[:, :count]).error(test.pixels)
        found.append((f"PCA of {count} numbers", error, float(count)))
    some = replace(work.recipe, quality="")
    for size in sizes:
        asked = replace(some, quality=f"{size} bytes")
        layer = fit_layer.add_layer(work.store, base, work.settings, asked, both, [], quiet)
        code = layer.trained["code"]
        found.append((f"fidelity code, {size} bytes", code["mse"], dim + code["bytes"]))
    for kind, mse, size_ in found:
        yield {
            "region": "-",
            "tiles": len(fit_to) + len(test),
            "test_tiles": len(test),
            "kind": kind,
            "held_out_mse": mse,
            "mse_to_shared": mse / shared,
            "bytes": None,
            "bytes_a_tile": size_,
            "fitted_by_auto": None,
            "chosen": None,
            "reason": None,
        }


def main() -> int:
    """Measure all sets and save them."""
    rows = []
    for name in NAMES:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(name, sets.SETS[name].recipe, folder)
        kinds = [row["kind"] for row in rows if row["chosen"]]
        print(name, {kind: kinds.count(kind) for kind in kinds}, flush=True)
    report.save("regions", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
