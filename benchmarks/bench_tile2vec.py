"""Which vectors tell labels best that no network has seen: Tile2Vec's, the VAE's, or mean and std.

EuroSAT RGB (from EMBARCHIVE_DATA or ../shared/data): of each 1-degree cell, one image at random and
those nearest to it, up to CAP. Networks are trained on half of the cells without labels; labels of
the same half fit the probes, k-nearest-neighbours (k = 5) and logistic regression of standardised
vectors, which are judged on the other half. precision: share of the ten nearest images of the other
half that have the query's label; far: only images of other 1-degree cells, lest near ones be found
for being near. Vectors of networks are the int8 of an archive.

Tile2Vec's neighbours are images whose centres are within RADIUS, about those that touch; its
distant tiles are in the same 1-degree cell, as those of one scene are. `untrained` is its network
after a single step. Intervals are 95 % of 2,000 bootstraps of the 1-degree cells that are judged;
gains are over mean and std on the same bootstraps.

Ends with status 1 where neither network's gain is above 0 with its whole interval for all of knn,
linear, precision and far.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import report
from bench_first_light import DATA, EUROSAT, _jpeg, say
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from embarchive import encode, fit_tile2vec, grid, model, quantize, tile2vec, train
from embarchive.recipe import Recipe

CAP, RADIUS, STEPS, NEAREST, HITS, DRAWS = 40, 1_000.0, 300, 5, 10, 2_000
SCORES = ("knn", "linear", "precision", "far")
PLAIN, TILE2VEC, VAE = "band mean + std, standardised", "Tile2Vec", "VAE"


@dataclass(frozen=True)
class Images:
    """pixels float32 (n, 3, 64, 64); lonlat (n, 2); label (n,) and cell (n,): numbers; mine
    bool (n,): of the half that is trained on."""

    pixels: np.ndarray
    lonlat: np.ndarray
    label: np.ndarray
    cell: np.ndarray
    mine: np.ndarray


def read() -> Images:
    """The images, split by cells."""
    table = pq.read_table(DATA / EUROSAT, columns=["label", "lon", "lat", "jpeg"])
    lonlat = np.stack([table["lon"].to_numpy(), table["lat"].to_numpy()], axis=1)
    cell = np.unique(np.floor(lonlat), axis=0, return_inverse=True)[1].ravel()
    rng = np.random.default_rng(0)
    chosen = []
    for one in range(cell.max() + 1):
        mine = np.flatnonzero(cell == one)
        away = grid.distance_m(lonlat[rng.choice(mine)], lonlat[mine])
        chosen.append(mine[np.argsort(away, kind="stable")[:CAP]])
    rows = np.sort(np.concatenate(chosen))
    some = table.take(rows)
    label = np.unique(some["label"].to_pylist(), return_inverse=True)[1]
    half = rng.permutation(cell.max() + 1) < (cell.max() + 1) / 2
    pixels = np.stack([_jpeg(data) for data in some["jpeg"].to_pylist()])
    return Images(pixels, lonlat[rows], label, cell[rows], half[cell[rows]])


def stored(images: Images, arch: model.Architecture, encoder: model.Weights) -> np.ndarray:
    """What an archive would hold of all images."""
    quantiser = quantize.Int8(float(encoder["step"][0]))
    return quantiser.encode(encode.embed(arch, encoder, images.pixels)).astype(np.float64)


def by_triplets(images: Images, steps: int) -> np.ndarray:
    """Vectors of Tile2Vec."""
    mine = images.mine
    pool = tile2vec.make_pool(images.lonlat[mine], images.cell[mine], RADIUS)
    arch = fit_tile2vec.architecture(3, 64, 64, 64)
    found = fit_tile2vec.fit(arch, images.pixels[mine], pool, Recipe(steps=steps), quiet)
    return stored(images, arch, found.encoder)


def by_vae(images: Images) -> np.ndarray:
    """mu of the VAE."""
    arch = model.choose_architecture(3, 64, 64, 64)
    fitted = train.fit(arch, images.pixels[images.mine], Recipe(steps=STEPS), quiet)
    return stored(images, arch, fitted.encoder)


def plain(images: Images) -> np.ndarray:
    """Mean and std of each band, standardised by the half that is trained on."""
    numbers = np.concatenate([images.pixels.mean((2, 3)), images.pixels.std((2, 3))], axis=1)
    return StandardScaler().fit(numbers[images.mine]).transform(numbers.astype(np.float64))


def scores(images: Images, vectors: np.ndarray) -> np.ndarray:
    """Of every judged image (n, 4) the `SCORES`, 0 to 1."""
    known, asked = vectors[images.mine], vectors[~images.mine]
    label, truth = images.label[images.mine], images.label[~images.mine]
    nearest = np.argsort(distances(asked, known), axis=1, kind="stable")[:, :NEAREST]
    votes = (label[nearest][:, :, None] == np.arange(label.max() + 1)).sum(axis=1)
    scale = StandardScaler().fit(known)
    linear = LogisticRegression(max_iter=1000).fit(scale.transform(known), label)
    apart = distances(asked, asked)
    np.fill_diagonal(apart, np.inf)
    found = [votes.argmax(axis=1) == truth, linear.predict(scale.transform(asked)) == truth]
    own = images.cell[~images.mine]
    for _ in range(2):
        hits = np.argpartition(apart, HITS, axis=1)[:, :HITS]
        found.append((truth[hits] == truth[:, None]).mean(axis=1))
        apart[own[:, None] == own] = np.inf
    return np.stack(found, axis=1).astype(np.float64)


def distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Squared distances (n, m)."""
    return (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T


def bootstrapped(images: Images, found: np.ndarray) -> np.ndarray:
    """Means (DRAWS, 4) of scores (n, 4) over cells drawn with replacement, always the same."""
    cells, owner = np.unique(images.cell[~images.mine], return_inverse=True)
    share = np.full(len(cells), 1 / len(cells))
    drawn = np.random.default_rng(0).multinomial(len(cells), share, DRAWS)
    sums = np.stack([np.bincount(owner, weights=column) for column in found.T], axis=1)
    return (drawn @ sums) / (drawn @ np.bincount(owner))[:, None]


def main() -> int:
    """Measure all vectors, save the rows."""
    images = read()
    makers: dict[str, tuple[int, Callable[[], np.ndarray]]] = {
        PLAIN: (0, lambda: plain(images)),
        f"{TILE2VEC}, untrained": (1, lambda: by_triplets(images, 1)),
        TILE2VEC: (STEPS, lambda: by_triplets(images, STEPS)),
        VAE: (STEPS, lambda: by_vae(images)),
    }
    rows: list[dict[str, Any]] = []
    base: tuple[np.ndarray, np.ndarray] | None = None
    for name, (steps, make) in makers.items():
        began = time.monotonic()
        vectors = make()
        seconds = time.monotonic() - began
        each = scores(images, vectors)
        drawn = bootstrapped(images, each)
        base = base or (each.mean(axis=0), drawn)
        row = {
            "vectors": name,
            "numbers": vectors.shape[1],
            "trained on": int(images.mine.sum()),
            "judged": int((~images.mine).sum()),
            "steps": steps,
            "seconds": seconds,
        }
        for at, score in enumerate(SCORES):
            gain = drawn[:, at] - base[1][:, at]
            row |= {
                score: float(each[:, at].mean()),
                f"{score} low": float(np.percentile(drawn[:, at], 2.5)),
                f"{score} high": float(np.percentile(drawn[:, at], 97.5)),
                f"{score} gain": float(each[:, at].mean() - base[0][at]),
                f"{score} gain low": float(np.percentile(gain, 2.5)),
                f"{score} gain high": float(np.percentile(gain, 97.5)),
            }
        rows.append(row)
        say(str(row))
    say(str(report.save("tile2vec", rows)))
    kept = [
        row["vectors"]
        for row in rows
        if row["vectors"] in (TILE2VEC, VAE) and all(row[f"{one} gain low"] > 0 for one in SCORES)
    ]
    say(f"above {PLAIN} in every score: {', '.join(kept) or 'none'}")
    return int(not kept)


def quiet(done: int, total: int) -> None:
    """No progress."""


if __name__ == "__main__":
    sys.exit(main())
