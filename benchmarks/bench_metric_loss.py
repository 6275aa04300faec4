"""What training for indices gains on them, and costs on the bands: a frontier of weights.

Real data from EMBARCHIVE_DATA or ../shared/data. Each set is cut and split as a build does (spatial
blocks with a gap); its shared networks and the adapters of its regions are trained once a weight
with the default recipe, for all default indices together, and held-out tiles are decoded from
their int8 vectors. Errors are means over held-out tiles and their valid pixels: index_mae as rows
have it, mse of all bands. Ratios are to weight 0. `code for it alone` is the index_mae ratio of PCA
of nothing but that index, with as many numbers: about what a code of this size can have at all.

Ends with status 1 when the default weight costs 5 % of mse or more, or betters no index.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import report
from bench_first_light import DATA, SETS, DataSet, say

from embarchive import adapters, encode, fitting, indices, model, quantize, regions, train
from embarchive.baselines import fit_pca
from embarchive.gather import Sample, gather
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe, Settings
from embarchive.step_plan import look

TITLES = ("Sentinel-2 120 m, 5 dates", "NAIP 5 m, 6 dates", "Sentinel-2 10 m (BigEarthNet)")
WEIGHTS = (0.0, 0.1, 0.3, 1.0, 3.0)
# Bytes of chips that a set is thinned to, as in a build.
ROOM = 128 << 20
MOST_COST = 1.05


@dataclass(frozen=True)
class Cut:
    """Chips of a set, to train and to test on."""

    settings: Settings
    keep: Sample
    test: Sample


def cut(one: DataSet) -> Cut:
    """Read and split a set."""
    scenes, settings = look([str(DATA / path) for path in one.paths], one.recipe)
    sample = gather(scenes, settings, None, ROOM, lambda done, total: None)
    split = fitting.split_cells(sample.geohash, settings, one.recipe.seed)
    keep, test = (sample.only(mask) for mask in split.masks(sample.geohash))
    return Cut(settings, keep, test)


def decode(seen: Cut, recipe: Recipe) -> Array:
    """The held-out chips as an archive of this recipe would decode them."""
    s, target = seen.settings, indices.index_target(seen.settings, recipe.index_weight)
    arch = model.choose_architecture(len(s.bands), s.height, s.width, s.dim)
    fitted = train.fit(arch, seen.keep.pixels, recipe, lambda done, total: None, target)
    owner, held = (regions.region_of(some.geohash, s) for some in (seen.keep, seen.test))
    names = [name for name in np.unique(held) if (owner == name).sum() >= train.LEAST_TILES]
    chips = [seen.keep.pixels[owner == name] for name in names]
    data = [(vectors(arch, fitted.encoder, some), some) for some in chips]
    fresh = adapters.fit_adapters(arch, fitted.decoder, data, recipe, target)
    own = dict(zip(names, fresh, strict=True))
    images = np.empty_like(seen.test.pixels)
    for name in np.unique(held):
        mine = held == name
        z = vectors(arch, fitted.encoder, seen.test.pixels[mine])
        images[mine] = encode.decode_chips(arch, fitted.decoder, own.get(name), z)
    return images


def vectors(arch: Architecture, weights: model.Weights, chips: Array) -> Array:
    """What a reader of stored rows decodes."""
    quantiser = quantize.Int8(float(weights["step"][0]))
    return quantiser.decode(quantiser.encode(encode.embed(arch, weights, chips)))


def alone(seen: Cut, pair: tuple[int, int]) -> float:
    """Mean absolute error of an index through PCA of itself."""
    keep, test = (
        encode.normalised_difference(some.pixels, pair).astype(np.float32).reshape(len(some), -1)
        for some in (seen.keep, seen.test)
    )
    pca = fit_pca(keep, seen.settings.dim)
    gap = np.abs((test - pca.mean) @ pca.axes @ pca.axes.T + pca.mean - test)
    valid = seen.test.valid.reshape(len(test), -1)
    return float(((gap * valid).sum(axis=1) / np.maximum(valid.sum(axis=1), 1)).mean())


def rows_of(one: DataSet, seen: Cut) -> list[dict[str, Any]]:
    """A row for every index and weight."""
    pairs = dict(zip(seen.settings.indices, indices.index_bands(seen.settings), strict=True))
    floor = {name: alone(seen, pair) for name, pair in pairs.items()}
    start: dict[str, tuple[float, float]] = {}
    found = []
    for weight in WEIGHTS:
        images = decode(seen, replace(one.recipe, index_weight=weight))
        for name, pair in pairs.items():
            errors = encode.errors(seen.test.pixels, images, seen.test.valid, pair)
            mse, mae = (float(some.mean()) for some in errors)
            base = start.setdefault(name, (mse, mae))
            found.append(
                {
                    "dataset": one.title,
                    "index": name,
                    "weight": weight,
                    "index_mae": mae,
                    "index_mae_ratio": mae / base[1],
                    "mse": mse,
                    "mse_ratio": mse / base[0],
                    "code for it alone": floor[name] / base[1],
                }
            )
            say(str(found[-1]))
    return found


def main() -> int:
    """Measure every set and save."""
    rows = []
    for one in SETS:
        if one.title in TITLES:
            rows += rows_of(one, cut(one))
    report.save("metric_loss", rows)
    usual = [row for row in rows if row["weight"] == Recipe().index_weight]
    bad = [r for r in usual if r["mse_ratio"] >= MOST_COST or r["index_mae_ratio"] >= 1]
    for row in bad:
        say(f"not kept: {row}")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
