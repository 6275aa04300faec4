"""What training for an index gains on it, and costs on the bands: a frontier of weights.

Real data from EMBARCHIVE_DATA or ../shared/data. Each set is cut and split as a build does (spatial
blocks with a gap), its shared networks and the adapters of its regions are trained once a weight
with the default recipe, and held-out tiles are decoded from their int8 vectors. Errors are means
over held-out tiles and valid pixels; index_mae is that of rows (all valid pixels), bright_mae leaves
dark pixels out as training does. Ratios are to weight 0.

`--weights 0,0.1` and `--sets 2` are for a look; only a whole run is saved.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import report
from bench_first_light import DATA, SETS, DataSet, say

from embarchive import adapters, encode, fitting, indices, model, quantize, regions, train
from embarchive.gather import Sample, gather
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe, Settings
from embarchive.step_plan import look

TITLES = ("Sentinel-2 120 m, 5 dates", "NAIP 5 m, 6 dates", "Sentinel-2 10 m (BigEarthNet)")
WEIGHTS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
# Bytes of chips that a set is thinned to.
ROOM = 128 << 20


@dataclass(frozen=True)
class Cut:
    """Chips of a set, to train and to test on, and the region of each."""

    settings: Settings
    keep: Sample
    test: Sample


def cut(one: DataSet) -> Cut:
    """Read a set as a build does."""
    scenes, settings = look([str(DATA / path) for path in one.paths], one.recipe)
    sample = gather(scenes, settings, None, ROOM, lambda done, total: None)
    split = fitting.split_cells(sample.geohash, settings, one.recipe.seed)
    keep, test = (sample.only(mask) for mask in split.masks(sample.geohash))
    return Cut(settings, keep, test)


def decode(seen: Cut, recipe: Recipe, target: indices.IndexTarget) -> Array:
    """The held-out chips as an archive trained so would decode them."""
    s = seen.settings
    arch = model.choose_architecture(len(s.bands), s.height, s.width, recipe.dim)
    fitted = train.fit(arch, seen.keep.pixels, recipe, lambda done, total: None, target)
    images = np.empty_like(seen.test.pixels)
    owner, held = (regions.region_of(some.geohash, s) for some in (seen.keep, seen.test))
    names = [name for name in np.unique(held) if (owner == name).sum() >= train.LEAST_TILES]
    data = [(vectors(arch, fitted.encoder, p), p) for p in (seen.keep.pixels[owner == n] for n in names)]
    found = dict(
        zip(names, adapters.fit_adapters(arch, fitted.decoder, data, recipe, target), strict=True)
    )
    for name in np.unique(held):
        mine = held == name
        z = vectors(arch, fitted.encoder, seen.test.pixels[mine])
        images[mine] = encode.decode_chips(arch, fitted.decoder, found.get(name), z)
    return images


def vectors(arch: Architecture, weights: model.Weights, chips: Array) -> Array:
    """What a reader of stored rows would decode."""
    quantiser = quantize.Int8(float(weights["step"][0]))
    return quantiser.decode(quantiser.encode(encode.embed(arch, weights, chips)))


def rows_of(one: DataSet, seen: Cut, weights: list[float], recipe: Recipe) -> list[dict[str, Any]]:
    """A row for every index and weight."""
    found = []
    names = list(seen.settings.indices)
    for weight in weights:
        began = time.monotonic()
        target = indices.index_target(seen.settings, weight)
        images = decode(seen, recipe, target)
        seconds = time.monotonic() - began
        test = seen.test
        for name, pair in zip(names, target.pairs, strict=True):
            mse, mae = encode.errors(test.pixels, images, test.valid, pair)
            total = test.pixels[:, pair[0]] + test.pixels[:, pair[1]]
            floor = indices.index_target(seen.settings, 1).floors(
                seen.keep.pixels.mean(axis=(0, 2, 3))
            )[names.index(name)]
            bright = encode.errors(test.pixels, images, test.valid & (total >= floor), pair)[1]
            row = {
                "dataset": one.title,
                "index": name,
                "weight": weight,
                "index_mae": float(mae.mean()),
                "index_mae_ratio": 1.0,
                "bright_mae": float(bright.mean()),
                "bright_mae_ratio": 1.0,
                "mse": float(mse.mean()),
                "mse_ratio": 1.0,
                "seconds": seconds,
            }
            base = next((r for r in found if r["index"] == name), row)
            for key in ("index_mae", "bright_mae", "mse"):
                row[f"{key}_ratio"] = row[key] / base[key]
            say(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()))
            found.append(row)
    return found


def main() -> int:
    """Measure every set and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="")
    parser.add_argument("--sets", default="012")
    parser.add_argument("--indices", default="")
    options = parser.parse_args()
    weights = [float(w) for w in options.weights.split(",") if w] or list(WEIGHTS)
    rows = []
    for at, one in enumerate(one for one in SETS if one.title in TITLES):
        if str(at) not in options.sets:
            continue
        seen = cut(one)
        if options.indices:
            some = {k: v for k, v in seen.settings.indices.items() if k in options.indices.split(",")}
            seen = replace(seen, settings=replace(seen.settings, indices=some))
        say(f"{one.title}: {len(seen.keep)} {len(seen.test)} {seen.settings.indices}")
        rows += rows_of(one, seen, weights, one.recipe)
    if len(sys.argv) == 1:
        report.save("metric_loss", rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
