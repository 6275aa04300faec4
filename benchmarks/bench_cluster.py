"""Two workers beside two processes that only compute; and, by simulation, what 50 nodes would do.

Measured: the encode step of a made scene in parts, by the engine `process` with one and with two
workers, in turns with a control: as many tasks that only hash, in the same engine. The two runs of
each turn are compared with each other, so that what else the machine does falls out.

Simulated (docs/at-scale.md says the model): 400 such scenes on 1 to 50 nodes of 16 workers, with
the measured seconds of parts, drawn with replacement. Parts go to whoever is free, or are dealt to
workers beforehand by rendezvous hashing.

Ends with status 1 when two workers gain less than 90 % of the control.
"""

from __future__ import annotations

import hashlib
import heapq
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import report
from bench_first_light import make_scene, quiet, say
from bench_rates import RECIPE

from embarchive import jobs, regions
from embarchive.engine import Engine, opened
from embarchive.staging import read_plan
from embarchive.step_plan import plan_cells
from embarchive.store import open_store

# Parts of a scene, of which some are run; turns; the share of the control that is asked for.
PARTS, RUN, ROUNDS, LEAST = 24, 8, 3, 0.9
HASHES = 2600
# The model of the simulation.
SCENES, NODES, WORKERS = 400, (1, 2, 5, 10, 20, 50), 16
LATENCY, BANDWIDTH, IN_FLIGHT, LOST = 0.03, 1.25e9, 8, 0.01
SCENE_BYTES, BACKBONE, MANIFEST = 1.4e9, 600.0, 2.0
Row = dict[str, Any]


def encode(out: str, plan: str, part: int, _: int) -> int:
    """One part of the encode step: an engine's task."""
    jobs.encode(out, plan=plan, part=(part, PARTS), progress=quiet)
    return 1


def compute(part: int, _: int) -> int:
    """A task that only computes."""
    data = bytes(1 << 20)
    for _round in range(HASHES):
        data = hashlib.sha256(data).digest() + data[32:]
    return 1


def seconds(task: Any, workers: int) -> float:
    """Wall seconds of the task's parts on so many workers."""
    engine = Engine("process", workers)
    with opened(engine) as pool:
        pool.run(partial(_nothing), workers, "start", quiet)
        began = time.monotonic()
        pool.run(task, RUN, "run", quiet)
        return time.monotonic() - began


def _nothing(part: int, parts: int) -> int:
    from embarchive import jobs as _  # noqa: F401  # processes start with their imports done

    return 0


def two_workers(out: Path, plan: str) -> list[Row]:
    """Gains of two workers over one, of the encode step and of the control, by turn."""
    gains: dict[str, list[float]] = {"encode": [], "control": []}
    for turn in range(ROUNDS):
        for name, task in (("encode", partial(encode, str(out), plan)), ("control", compute)):
            spent = []
            for workers in (1, 2):
                for folder in ("embeddings", "blocks", f"staging/{plan}/encode"):
                    shutil.rmtree(out / folder, ignore_errors=True)
                spent.append(seconds(task, workers))
            gains[name].append(spent[0] / spent[1])
            say(f"turn {turn}, {name}: {spent[0]:.1f} s and {spent[1]:.1f} s")
    share = median(a / b for a, b in zip(gains["encode"], gains["control"], strict=True))
    return [_row("two workers", gain=median(gains["encode"]), control=median(gains["control"]),
                 share=share)]  # fmt: skip


def part_seconds(out: Path, plan: str) -> list[float]:
    """Seconds of each of the parts that are run, one after the other."""
    found = []
    for part in range(RUN):
        began = time.monotonic()
        encode(str(out), plan, part, PARTS)
        found.append(time.monotonic() - began)
    return found


@dataclass(frozen=True)
class Cluster:
    """Nodes of WORKERS workers each that share the node's line to the store."""

    nodes: int

    def spent(self, compute_s: np.ndarray) -> np.ndarray:
        """Seconds of parts with their reads and writes: the scene's bytes at the worker's share of
        the line, and a dozen requests."""
        read = SCENE_BYTES / PARTS / (BANDWIDTH / WORKERS)
        return compute_s + read + 12 * LATENCY


def simulate(measured: list[float], nodes: int, seed: int = 0) -> Row:
    """A build of SCENES scenes: the networks, then all parts, then the commit. A part in a hundred
    is lost half way and done again."""
    rng = np.random.default_rng(seed)
    count = SCENES * PARTS
    spent = Cluster(nodes).spent(rng.choice(measured, count))
    spent = np.where(rng.random(count) < LOST, 1.5 * spent, spent)
    workers = nodes * WORKERS
    free = [0.0] * workers
    for one in spent.tolist():
        heapq.heappush(free, heapq.heappop(free) + one)
    owner = regions.assign([f"part-{number}" for number in range(count)], workers)
    dealt = np.bincount(np.asarray(list(owner)), spent, workers).max()
    # The committer reads a record a part, and writes the manifest.
    rest = BACKBONE + count * LATENCY / IN_FLIGHT + MANIFEST
    alone = float(spent.sum()) / WORKERS + rest
    found = {"free": max(free) + rest, "dealt": float(dealt) + rest}
    return _row(
        "simulated", nodes=nodes, workers=workers, hours=found["free"] / 3600,
        hours_dealt=found["dealt"] / 3600, efficiency=alone / (nodes * found["free"]),
        efficiency_dealt=alone / (nodes * found["dealt"]),
    )  # fmt: skip


def _row(kind: str, **values: Any) -> Row:
    names = ("nodes", "workers", "hours", "hours_dealt", "efficiency", "efficiency_dealt",
             "gain", "control", "share", "tiles", "part_s")  # fmt: skip
    return {"kind": kind, **{name: values.get(name) for name in names}}


def main() -> int:
    """Measure, simulate and save; 1 when two workers gain less than 90 % of the control."""
    with tempfile.TemporaryDirectory(prefix="cluster-") as name:
        scene, out = Path(name) / "full_20230815.tif", Path(name) / "archive"
        make_scene(scene)
        recipe = replace(RECIPE, shard_prefix=5)
        made = jobs.plan([str(scene)], str(out), recipe, parts=PARTS)
        jobs.train(str(out), plan=made["plan"], part=None, backbone=False, progress=quiet)
        tiles = len(plan_cells(read_plan(open_store(str(out)), made["plan"])[1])[0])
        say(f"trained, {tiles} tiles")
        measured = part_seconds(out, made["plan"])
        rows = two_workers(out, made["plan"])
    rows.append(_row("a part", tiles=tiles // PARTS, part_s=float(np.mean(measured))))
    rows += [simulate(measured, nodes) for nodes in NODES]
    for row in rows:
        say(str({name: value for name, value in row.items() if value is not None}))
    say(str(report.save("cluster", rows)))
    return int(rows[0]["share"] < LEAST)


if __name__ == "__main__":
    sys.exit(main())
