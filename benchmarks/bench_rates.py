"""Encoding end to end beside reading alone and encoding alone, with and without a fidelity code.

A made scene of 10,980 x 10,980 x 12, of which one part in PARTS is taken. In one process and
thread, in turns: the cells cut (R tiles/s), the chips that this gave encoded (E), and the encode
step of a build on the same cells. An ideal chain has the rate 1 / (1/R + 1/E).

Ends with status 1 when the step is below 80 % of that.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import report
from bench_first_light import make_scene, quiet, say

from embarchive import jobs, regions, step_encode, tiles
from embarchive.encode import Encoder
from embarchive.gather import cut_scene
from embarchive.recipe import Recipe
from embarchive.scenes import Scene, scene_from_json
from embarchive.staging import JobPlan, Staging, read_plan
from embarchive.step_plan import plan_cells, shard_names
from embarchive.store import open_store

# Regions and shards of sizes that a part of the scene has several of; the rest is as it comes.
RECIPE = Recipe(steps=50, adapter_steps=10, region_prefix=3, shard_prefix=4)
QUALITIES = ("", "32 bytes")
PARTS, ROUNDS, LEAST = 20, 3, 0.8
Row = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """What a part of a trained plan has to encode."""

    out: Path
    staging: Staging
    job: JobPlan
    scene: Scene
    cells: np.ndarray
    encoder: Encoder

    def read(self) -> list[tiles.Chips]:
        """Reading and cutting alone."""
        return list(cut_scene(self.scene, self.cells, self.job.settings))

    def encode(self, chips: list[tiles.Chips]) -> None:
        """Encoding alone."""
        for some in chips:
            owner = regions.region_of(some.geohash, self.job.settings)
            self.encoder.rows(some, owner, self.scene.datetime, self.scene.source)

    def step(self) -> None:
        """The encode step of a build: reading, encoding, shards written."""
        for name in ("embeddings", "blocks", f"staging/{self.staging.plan_id}/encode"):
            shutil.rmtree(self.out / name, ignore_errors=True)
        jobs.encode(str(self.out), plan=self.staging.plan_id, part=(0, PARTS), progress=quiet)


def prepare(scene: Path, out: Path, recipe: Recipe) -> Work:
    """A plan with its networks trained."""
    made = jobs.plan([str(scene)], str(out), recipe, parts=PARTS)
    jobs.train(str(out), plan=made["plan"], part=None, backbone=False, progress=quiet)
    store = open_store(str(out))
    staging, job = read_plan(store, made["plan"])
    names = shard_names(job)
    mine = [one for one, part in zip(names, regions.assign(names, PARTS), strict=True) if part == 0]
    cells = plan_cells(job)[0]
    cells = cells[np.isin(cells.astype(f"U{job.settings.shard_prefix}"), mine)]
    encoder = step_encode.encoder_of(str(out), store, staging, job)
    return Work(out, staging, job, scene_from_json(job.scenes[0]), cells, encoder)


def measure(work: Work) -> Row:
    """Rates of a part, the medians of rounds; shares are of each round."""
    rounds = [turn(work) for _ in range(ROUNDS)]
    count = rounds[0][0]
    read, encode, step = (count / median(one[at] for one in rounds) for at in (1, 2, 3))
    shares = [(one[1] + one[2]) / one[3] for one in rounds]
    return {
        "quality": work.job.recipe.quality or "none",
        "tiles": count,
        "read, tiles/s": read,
        "encode, tiles/s": encode,
        "ideal, tiles/s": 1 / (1 / read + 1 / encode),
        "end to end, tiles/s": step,
        "share of ideal": median(shares),
        "least share": min(shares),
    }


def turn(work: Work) -> tuple[int, float, float, float]:
    """Tiles, and seconds of reading, of encoding and of the step, one after the other."""
    began = time.monotonic()
    chips = work.read()
    read = time.monotonic()
    work.encode(chips)
    encoded = time.monotonic()
    count = sum(map(len, chips))
    del chips
    before = time.monotonic()
    work.step()
    return count, read - began, encoded - read, time.monotonic() - before


def main() -> int:
    """Measure and save; 1 when a share is below 80 %."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="rates-") as name:
        scene = Path(name) / "full_20230815.tif"
        make_scene(scene)
        say("written")
        for quality in QUALITIES:
            work = prepare(scene, Path(name) / f"archive{len(rows)}",
                           replace(RECIPE, quality=quality))  # fmt: skip
            say(f"{quality or 'no code'}: trained, {len(work.cells)} cells")
            rows.append(measure(work))
            say(str(rows[-1]))
    say(str(report.save("rates", rows)))
    bad = [row for row in rows if row["share of ideal"] < LEAST]
    for row in bad:
        say(f"quality {row['quality']}: {row['share of ideal']:.2f} of ideal, expected {LEAST}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
