"""How many steps a region's decoder takes to be as good as one trained from scratch, by its start.

Real data from EMBARCHIVE_DATA or ../shared/data. The regions of a set are those of `embarchive
size`; TARGETS of them are new, the others are what an archive holds: one shared network is trained
on them. They fall into clusters by k-means of the statistics of their tiles, k by silhouette. From
each start a new region's own tiles are trained on, in budgets of steps that double, each with a
schedule of its own, until the held-out error of a network that was trained from scratch is
reached: from random weights, or from principal components (`train.fit`), whichever was better, for
SCRATCH steps or 60 passes over the region's tiles, whichever is less, as builds stop. The start
itself costs nothing here: it is there already.

"same cluster's network" was trained on the region of the cluster that is nearest in statistics,
"adapter from the cluster" on all regions of the cluster. steps, epochs: the median over new
regions, null where it is never reached by half of them; reached: the share that does; loss:
held-out error after the default steps (150 for adapters, twice as many for networks), in units of
the better scratch.

Paper: figure 5 of the embedding data store paper, 400 epochs to about 50: an eighth.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import report
from bench_first_light import DATA, SETS, quiet, say
from sklearn.cluster import KMeans
from sklearn.metrics import silhouette_score

from embarchive import adapters, components, encode, model, step_size, train
from embarchive.components import Fitted
from embarchive.model import Array
from embarchive.recipe import Recipe

TITLES = ("Sentinel-2 120 m, 5 dates", "NAIP 5 m, 6 dates", "Sentinel-2 10 m (BigEarthNet)")
TARGETS, MOST_CLUSTERS = 4, 8
SCRATCH, DEFAULT = 600, 150
BUDGETS = (0, 4, 10, 19, 38, 75, 150, 300)
SHARED, RANDOM = "shared network", "scratch, random weights"
PLAIN = "scratch, principal components"
GOAL = 1 / 8
Loss = Callable[[int], float]


@dataclass(frozen=True)
class Region:
    """Training and test chips (n, bands, height, width) of a region."""

    name: str
    train: Array
    test: Array


@dataclass(frozen=True)
class Tried:
    """A start of a new region: steps until the better scratch was reached (None: never), the steps
    that scratch took, the loss after the default steps in its units, and training tiles."""

    steps: int | None
    full: int
    loss: float
    tiles: int


def regions_of(paths: list[str], recipe: Recipe) -> list[Region]:
    """The regions that `size` looks at."""
    seen = step_size._read(paths, recipe, quiet)
    found = []
    for name in step_size._enough(seen.owner, seen.test):
        own, pixels = seen.owner == name, seen.sample.pixels
        found.append(Region(name, pixels[own & seen.keep], pixels[own & seen.test]))
    return [region for region in found if len(region.train) >= train.LEAST_TILES]


def numbers_of(found: list[Region]) -> np.ndarray:
    """Standardised statistics of regions (n, p): what their tiles are in the mean, and how they
    differ."""
    rows = []
    for region in found:
        tiles = model.statistics(region.train / np.float32(scale_of(found)))
        rows.append(np.concatenate([tiles.mean(axis=0), tiles.std(axis=0)]))
    table = np.array(rows)
    return (table - table.mean(axis=0)) / np.maximum(table.std(axis=0), 1e-9)


def scale_of(found: list[Region]) -> float:
    """The spread of all pixels."""
    return float(np.mean([region.train.std() for region in found]))


def cluster(table: np.ndarray, seed: int) -> tuple[np.ndarray, int, float]:
    """Clusters (n,) of rows (n, p), how many, and their silhouette: the best of 2 to 8."""
    best: tuple[np.ndarray, int, float] | None = None
    for k in range(2, min(MOST_CLUSTERS, len(table) - 1) + 1):
        label = KMeans(k, n_init=10, random_state=seed).fit_predict(table)
        score = float(silhouette_score(table, label))
        if best is None or score > best[2]:
            best = label, k, score
    assert best is not None
    return best


def network_loss(arch: model.Architecture, own: Fitted, chips: Array) -> float:
    """Mean squared error of chips through a network, without int8."""
    z = encode.embed(arch, own.encoder, chips)
    return float(
        np.mean((encode.decode_chips(arch, own.decoder, None, z) - chips) ** 2, dtype=float)
    )


def random_network(arch: model.Architecture, chips: Array, recipe: Recipe, steps: int) -> Fitted:
    """A network trained from random weights, all of them at one rate."""
    rng = np.random.default_rng(recipe.seed)
    mean, std = components.normaliser(chips)
    x = (chips - mean[:, None, None]) / std[:, None, None]
    start = components.begin(arch, x, rng)
    for side, weights in (("encoder", start.encoder), ("decoder", start.decoder)):
        kind = "encoder" if side == "encoder" else "backbone"
        for name in ("patch", "dense", "dense_bias", "patch_bias", "prior", "prior_bias"):
            if name in weights:
                shape = arch.shapes(kind)[name]
                plain = name in ("prior", "prior_bias")
                weights[name] = (
                    np.zeros(shape, np.float32) if plain else components.noise(name, shape, rng)
                )
        weights.update(mean=mean, std=std)
    shares = dict(train.SHARES)
    train.SHARES.clear()
    try:
        return train._descend(arch, start, x, replace(recipe, steps=steps), quiet_step)
    finally:
        train.SHARES.update(shares)


def quiet_step(done: int, total: int) -> None:
    """No progress."""


def from_network(arch: model.Architecture, start: Fitted, region: Region, recipe: Recipe) -> Loss:
    """The loss after so many steps from a network."""

    def loss(steps: int) -> float:
        if not steps:
            return network_loss(arch, start, region.test)
        mean, std = start.encoder["mean"], start.encoder["std"]
        x = (region.train - mean[:, None, None]) / std[:, None, None]
        short = replace(recipe, steps=steps)
        rate = train.LEARNING_RATE / 10
        own = train._descend(arch, start, x, short, quiet_step, rate=rate)
        return network_loss(arch, own, region.test)

    return loss


def from_adapter(
    arch: model.Architecture, shared: Fitted, start: model.Weights, region: Region, recipe: Recipe
) -> Loss:
    """The loss after so many steps from an adapter on the shared backbone."""
    z, held = (encode.embed(arch, shared.encoder, x) for x in (region.train, region.test))

    def loss(steps: int) -> float:
        short = replace(recipe, adapter_steps=steps)
        fit = adapters.fit_adapters(arch, shared.decoder, [(z, region.train)], short, [start])
        own = next(fit) if steps else start
        fit.close()
        images = encode.decode_chips(arch, shared.decoder, own, held)
        return float(np.mean((images - region.test) ** 2, dtype=float))

    return loss


def reach(loss: Loss, target: float) -> tuple[int | None, float]:
    """The least budget whose loss is at most the target, and its loss; else none, and the last."""
    found = float("nan")
    for steps in BUDGETS:
        found = loss(steps)
        if found <= target:
            return steps, found
    return None, found


def starts_of(
    arch: model.Architecture, held: list[Region], table: np.ndarray, new: int,
    label: np.ndarray, shared: Fitted, recipe: Recipe,
) -> dict[str, Any]:  # fmt: skip
    """Networks and adapters that a new region may begin at; rows of table: held, then new ones."""
    apart = np.linalg.norm(table[: len(held)] - table[new], axis=1)
    same = np.flatnonzero(label[: len(held)] == label[new])
    nearest = int(np.argmin(apart))
    kin = int(same[np.argmin(apart[same])]) if len(same) else nearest
    rng = np.random.default_rng([recipe.seed, new])
    others = np.setdiff1d(np.arange(len(held)), same)
    stranger = int(rng.choice(others if len(others) else np.arange(len(held))))

    def fit(chips: Array) -> model.Weights:
        data = [(encode.embed(arch, shared.encoder, chips), chips)]
        return next(adapters.fit_adapters(arch, shared.decoder, data, recipe))

    together = np.concatenate([held[i].train for i in (same if len(same) else [nearest])])
    plain = replace(recipe, steps=SCRATCH)
    return {
        "random region's network": train.fit(arch, held[stranger].train, plain, quiet_step),
        "same cluster's network": train.fit(arch, held[kin].train, plain, quiet_step),
        SHARED: shared,
        "adapter on the shared backbone": model.neutral_adapter(arch),
        "adapter from the region most alike": fit(held[nearest].train),
        "adapter from the cluster": fit(together),
    }


def measure(title: str, paths: list[str], recipe: Recipe) -> list[dict[str, Any]]:
    """The rows of one set."""
    found = regions_of(paths, recipe)
    rng = np.random.default_rng(recipe.seed)
    order = rng.permutation(len(found)).tolist()
    new, held = [found[i] for i in order[:TARGETS]], [found[i] for i in order[TARGETS:]]
    table = numbers_of([*held, *new])
    label, k, score = cluster(table, recipe.seed)
    shape = found[0].train.shape
    arch = model.choose_architecture(shape[1], shape[2], shape[3], recipe.dim)
    shared = train.fit(arch, np.concatenate([r.train for r in held]), recipe, quiet_step)
    say(f"{title}: {len(held)} held, {len(new)} new, {k} clusters, silhouette {score:.2f}")
    seen: dict[str, list[Tried]] = {}
    for at, region in enumerate(new):
        chips, plain = region.train, replace(recipe, steps=SCRATCH)
        scratch = {
            RANDOM: network_loss(arch, random_network(arch, chips, recipe, SCRATCH), region.test),
            PLAIN: network_loss(arch, train.fit(arch, chips, plain, quiet_step), region.test),
        }
        target = min(scratch.values())
        full = min(SCRATCH, -(-train.MOST_PASSES * len(chips) // recipe.batch))
        for name, found_loss in scratch.items():
            steps = full if found_loss == target else None
            seen.setdefault(name, []).append(Tried(steps, full, found_loss / target, len(chips)))
        starts = starts_of(arch, held, table, len(held) + at, label, shared, recipe)
        for name, start in starts.items():
            if isinstance(start, Fitted):
                loss = from_network(arch, start, region, recipe)
            else:
                loss = from_adapter(arch, shared, start, region, recipe)
            steps, _ = reach(loss, target)
            usual = 2 * DEFAULT if isinstance(start, Fitted) else DEFAULT
            seen.setdefault(name, []).append(Tried(steps, full, loss(usual) / target, len(chips)))
        said = {name: (rows[-1].steps, round(rows[-1].loss, 3)) for name, rows in seen.items()}
        say(f"{region.name}, {len(chips)} tiles: {said}")
    tiles = float(np.median([len(region.train) for region in new]))
    sizes = {"held": len(held), "clusters": k, "silhouette": score, "tiles": tiles}
    return [row_of(title, name, some, sizes) for name, some in seen.items()]


def row_of(title: str, name: str, some: list[Tried], sizes: dict[str, Any]) -> dict[str, Any]:
    """One start of one set."""
    batch = adapters.BATCH if name.startswith("adapter") else Recipe().batch
    steps = [np.inf if one.steps is None else one.steps for one in some]
    shares = [count / one.full for count, one in zip(steps, some, strict=True)]
    epochs = [
        count * min(batch, one.tiles) / one.tiles for count, one in zip(steps, some, strict=True)
    ]
    return {
        "dataset": title,
        "start": name,
        "new regions": len(some),
        **sizes,
        "steps": middle(steps),
        "share_of_scratch": middle(shares),
        "epochs": middle(epochs),
        "reached": float(np.mean(np.isfinite(steps))),
        "loss": float(np.median([one.loss for one in some])),
        "worst loss": max(one.loss for one in some),
    }


def middle(values: list[float]) -> float | None:
    """The median, None where it is not finite."""
    found = float(np.median(values))
    return found if np.isfinite(found) else None


def main() -> int:
    """Measure all sets, save the rows; 1 where the adapter takes more than an eighth of scratch."""
    rows = []
    for one in SETS:
        if one.title in TITLES:
            began = time.monotonic()
            rows += measure(one.title, [str(DATA / path) for path in one.paths], one.recipe)
            say(f"{one.title}: {time.monotonic() - began:.0f} s")
    say(str(report.save("transfer", rows)))
    ours = [row for row in rows if row["start"] == "adapter on the shared backbone"]
    return int(any((row["share_of_scratch"] or 1) > GOAL for row in ours if row["steps"] != 0))


if __name__ == "__main__":
    sys.exit(main())
