"""Adapters of many regions, one by one and as one program: region-steps a second, peak memory.

Regions are made chips of 4 bands, 64 x 64 pixels, on a shared network trained on such chips.
They come in chunks of the size that a build keeps in memory; of each chunk a few are fitted one
by one (`tests/onebyone.py`, which is how builds trained before) and then all of them batched, so
that both meet the same machine. A ratio is the median of those of the chunks.

Ends with status 1 when a loss differs by more than 1e-4 of itself, or a ratio is below 3.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from bench_first_light import peak_mb
from report import save

from embarchive import adapters, encode, model, step_train, train
from embarchive.components import Fitted
from embarchive.model import Array
from embarchive.recipe import Recipe

TESTS = Path(__file__).parent.parent / "tests"
sys.path.insert(0, str(TESTS))
from networks import textures  # noqa: E402
from onebyone import fit_adapter  # noqa: E402

# Regions, tiles of each, and how often all of them are fitted.
CASES = ((64, 32, 2), (256, 32, 1), (16, 200, 2))
# Regions of a chunk that are fitted one by one; steps, of which a build takes 150; chips that
# regions are made of.
FEW, STEPS, POOL = 2, 20, 256
LARGEST_DIFFERENCE, LEAST_RATIO = 1e-4, 3.0
ARCH = model.choose_architecture(4, 64, 64, 64)
Data = list[tuple[Array, Array]]


@dataclass(frozen=True)
class Known:
    """A shared network, chips (n, bands, height, width) and their vectors (n, dim)."""

    fitted: Fitted
    chips: Array
    z: Array


def known() -> Known:
    """A shared network as builds have one."""
    chips, _ = textures(POOL, ARCH.bands, ARCH.height, seed=0)
    fitted = train.fit(ARCH, chips, Recipe(steps=10), lambda done, total: None)
    return Known(fitted, chips, encode.embed(ARCH, fitted.encoder, chips))


def make_region(base: Known, tiles: int, seed: int) -> tuple[Array, Array]:
    """Vectors and chips of a region, of a brightness of its own."""
    rng = np.random.default_rng(seed)
    chosen = rng.permutation(POOL)[:tiles]
    level = rng.normal(0, 0.3, (ARCH.bands, 1, 1)).astype(np.float32)
    return base.z[chosen], base.chips[chosen] + level


def chunks(base: Known, regions: int, tiles: int) -> Iterator[Data]:
    """Regions, as many at once as a build keeps in memory."""
    size = step_train.CHUNK_ROOM // (4 * ARCH.bands * ARCH.height * ARCH.width * tiles)
    for start in range(0, regions, size):
        seeds = range(start, min(start + size, regions))
        yield [make_region(base, tiles, seed) for seed in seeds]


def fit(name: str, base: Known, data: Data, steps: int) -> list[dict[str, Array]]:
    """Adapters by either method."""
    recipe = Recipe(adapter_steps=steps)
    if name == "batched":
        return list(adapters.fit_adapters(ARCH, base.fitted.decoder, data, recipe))
    return [fit_adapter(ARCH, base.fitted.decoder, *some, recipe) for some in data]


def difference(base: Known, data: Data, alone: Sequence[Any], together: Sequence[Any]) -> float:
    """The largest difference of a region's loss, as a share of it."""
    worst = 0.0
    for (z, chips), *both in zip(data, alone, together, strict=True):
        first, second = (
            np.mean(
                (encode.decode_chips(ARCH, base.fitted.decoder, own, z) - chips) ** 2, dtype=float
            )
            for own in both
        )
        worst = max(worst, abs(float(second / first) - 1))
    return worst


def measure(base: Known, regions: int, tiles: int, times: int) -> list[dict[str, Any]]:
    """The rows of both methods."""
    rates: dict[str, list[float]] = {"one by one": [], "batched": []}
    worst = 0.0
    for data in (data for _ in range(times) for data in chunks(base, regions, tiles)):
        made = []
        for name, some in (("one by one", data[:FEW]), ("batched", data)):
            began = time.perf_counter()
            made.append(fit(name, base, some, STEPS))
            rates[name].append(len(some) * STEPS / (time.perf_counter() - began))
        worst = max(worst, difference(base, data[:FEW], made[0], made[1][:FEW]))
    ratio = np.divide(rates["batched"], rates["one by one"])
    print(regions, tiles, ratio.round(2).tolist(), worst, flush=True)
    return [
        {
            "regions": regions,
            "tiles a region": tiles,
            "method": name,
            "region_steps_per_s": float(np.median(rates[name])),
            "ratio": float(np.median(ratio)) if name == "batched" else 1.0,
            "least ratio": float(ratio.min()) if name == "batched" else 1.0,
            "peak_mb": peak_of(name, regions, tiles),
            "loss_difference": worst if name == "batched" else 0.0,
        }
        for name in rates
    ]


def peak_of(name: str, regions: int, tiles: int) -> float:
    """Peak memory of a process that does nothing else, chunk after chunk, MB."""
    command = [sys.executable, __file__, name, str(regions), str(tiles)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def only(name: str, regions: int, tiles: int) -> float:
    """Fit two chunks by one method, in one step; the peak memory of this process, MB."""
    base = known()
    for data in islice(chunks(base, regions, tiles), 2):
        fit(name, base, data, 1)
    return peak_mb()


def main() -> int:
    """Measure all cases and save them."""
    base = known()
    for name in ("one by one", "batched"):
        fit(name, base, next(chunks(base, 8, 32)), 5)
    rows = [row for case in CASES for row in measure(base, *case)]
    save("train_many", rows)
    # The promise is of many regions; of a few with many tiles the ratio is told, not promised.
    bad = [r for r in rows[1::2] if r["regions"] >= 64 and r["ratio"] < LEAST_RATIO]
    return int(bool(bad) or any(r["loss_difference"] > LARGEST_DIFFERENCE for r in rows))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(only(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
        sys.exit(0)
    sys.exit(main())
