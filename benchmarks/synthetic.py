"""Synthetic embeddings of any number, fitted to real ones: for tests of scale only.

A mixture of Gaussians with full covariances, whose radii are those of the real rows, fitted to
the int8 embeddings of 13,000 EuroSAT images by our VAE. It is a density: no row repeats a real
one, and at any number of rows there are no clumps finer than its components, where real archives
may have some. Neighbouring cells mostly share the component, and a part of what is left: blocks of
2 x 2, 8 x 8 and 32 x 32 cells, prefixes and their parents each copy what holds them, or draw anew.
What is drawn under a prefix depends on the fit, the seed and the prefix alone, so that a larger
archive holds a smaller one. Queries are drawn from another seed and stored nowhere.

    python benchmarks/synthetic.py      # compares with the real rows
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import measures

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
DIM, COMPONENTS, RADII, LIMIT = 64, 144, 128, 127
# Rows that the common shape counts for.
PRIOR = 2
# Blocks of cells in geohash order, from the coarsest: bits of the index within the block, and how
# likely one copies the component of the block around it.
BLOCKS = ((15, 0.5), (10, 0.6), (6, 0.85), (2, 0.85), (0, 0.85))
ANOTHER_DATE = 0.8
# Shares of the variance within a component that rows, 2 x 2 and 8 x 8 blocks have of their own.
SHARES = ((0, 0.5), (2, 0.25), (6, 0.25))
STREAM, QUERIES = 1, 2
TRAINING_STEPS = 600
# Rows whose neighbours are looked at; rows of a piece of a scan.
ASKED, PIECE = 4_000, 8_192


@dataclass(frozen=True)
class Fit:
    """name: what it is fitted to; scale: one int8 step; of K components: weights (K,), means
    (K, D), roots of the covariances (K, D, D), and radii (K, R) of rows, 1 at the mean."""

    name: str
    scale: float
    weights: Floats
    means: Floats
    roots: Floats
    radii: Floats


def folder() -> Path:
    """Where fits and archives lie: EMBARCHIVE_SCALE, or below the folder for temporary files."""
    named = os.environ.get("EMBARCHIVE_SCALE")
    return Path(named) if named else Path(tempfile.gettempdir()) / "embarchive-scale"


@dataclass(frozen=True)
class Real:
    """Real embeddings: what they are, one int8 step, rows (n, D) in steps, not rounded; mine: those
    that the encoder was fitted to (n,)."""

    name: str
    scale: float
    rows: Floats
    mine: NDArray[np.bool_]


def load(real: Real | None = None) -> Fit:
    """The fit kept in the folder, made if need be; a plain one without the data."""
    path = folder() / "fit.npz"
    if not path.is_file():
        real = real or real_rows()
        if real is None:
            return plain()
        made = fit(real)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(aside, **asdict(made))
        aside.rename(path)
    with np.load(path) as kept:
        held = {name: kept[name] for name in kept.files}
    return Fit(str(held.pop("name")), float(held.pop("scale")), **held)


def real_rows() -> Real | None:
    """mu of EuroSAT by an encoder of our own; None without the data."""
    import bench_quantisers
    import sets

    from embarchive.quantize import fit_int8

    if not (sets.DATA / bench_quantisers.EUROSAT).exists():
        return None
    task = next(bench_quantisers.eurosat(TRAINING_STEPS))
    scale = fit_int8(task.data.fit).scale
    mine = np.ones(len(task.data.base), dtype=bool)
    mine[task.asked] = False
    return Real("fitted to EuroSAT, VAE", scale, task.data.base / np.float32(scale), mine)


def fit(real: Real, components: int = COMPONENTS) -> Fit:
    """A mixture of full covariances by EM, each then drawn towards the shape that all have in
    common: components of few rows are flat else."""
    from sklearn.mixture import GaussianMixture

    rows = real.rows
    model = GaussianMixture(
        components, reg_covar=0.05, max_iter=40, init_params="k-means++", random_state=0
    ).fit(rows.astype(np.float64))
    owner, count = model.predict(rows), model.weights_ * len(rows)
    common = np.einsum("k,kij->ij", model.weights_, model.covariances_)
    size = np.trace(model.covariances_, axis1=1, axis2=2) / np.trace(common)
    trust = (count / (count + PRIOR))[:, None, None]
    shape = trust * model.covariances_ + (1 - trust) * size[:, None, None] * common
    values, vectors = np.linalg.eigh(shape)
    radii = np.ones((components, RADII))
    for one in np.unique(owner).tolist():
        turned = (rows[owner == one] - model.means_[one]) @ vectors[one] / np.sqrt(values[one])
        own = np.sqrt((turned**2).mean(axis=1))
        own /= np.sqrt((own**2).mean())
        radii[one] = np.quantile(own, (np.arange(RADII) + 0.5) / RADII)
    roots = (vectors * np.sqrt(values)[:, None]) @ vectors.transpose(0, 2, 1)
    parts = (model.weights_, model.means_, roots, radii)
    return Fit(real.name, real.scale, *(part.astype(np.float32) for part in parts))


def plain(seed: int = 0) -> Fit:
    """Where there is no real data: components by chance, of about the same spread."""
    rng = np.random.default_rng(seed)
    spread = np.r_[40 * 0.75 ** np.arange(8), np.full(DIM - 8, 2.7)].astype(np.float32)
    means = rng.standard_normal((COMPONENTS, DIM), np.float32) * spread * 0.8
    size = rng.uniform(0.5, 1.0, (COMPONENTS, 1, 1)).astype(np.float32)
    roots = size * np.diag(spread * 0.7)
    weights = np.full(COMPONENTS, 1 / COMPONENTS, np.float32)
    return Fit("plain, no real data", 0.03, weights, means, roots, np.ones((COMPONENTS, 1), "f4"))


def draw(model: Fit, count: int, seed: int, stream: int = STREAM) -> NDArray[np.int8]:
    """Independent rows int8 (count, D)."""
    rng = np.random.default_rng([stream, seed])
    owner = _chosen(model, rng, count)
    return _rows(model, owner, rng.standard_normal((count, DIM), np.float32), rng)


def rounded(rows: Floats) -> NDArray[np.int8]:
    """As an archive stores them."""
    return np.clip(np.rint(rows), -LIMIT, LIMIT).astype(np.int8)


def queries(model: Fit, count: int, seed: int = 0) -> NDArray[np.int8]:
    """Rows that no archive holds, int8 (count, D)."""
    return draw(model, count, seed, QUERIES)


def of_prefix(model: Fit, prefix: str, dates: int, seed: int = 0) -> NDArray[np.int8]:
    """Rows of all cells three characters below a prefix, int8 (32768, dates, D), in the order of
    their geohashes."""
    rng = np.random.default_rng([STREAM, seed, *prefix.encode()])
    parent = np.random.default_rng([STREAM, seed, *prefix[:-1].encode()])
    owner = _chosen(model, parent, 1)
    for bits, likely in BLOCKS:
        count = 1 << (BLOCKS[0][0] - bits)
        owner = _copied(model, rng, np.repeat(owner, count // len(owner)), likely)
    if dates > 1:
        owner = _copied(model, rng, np.repeat(owner, dates), ANOTHER_DATE)
    cells = len(owner) // dates
    z = np.zeros((cells, dates, DIM), np.float32)
    for bits, share in SHARES:
        own = rng.standard_normal((cells >> bits, 1 if bits else dates, DIM), np.float32)
        own *= np.float32(np.sqrt(share))
        z.reshape(cells >> bits, 1 << bits, dates, DIM)[:] += own[:, None]
    return _rows(model, owner, z.reshape(-1, DIM), rng).reshape(cells, dates, DIM)


def _chosen(model: Fit, rng: np.random.Generator, count: int) -> Ints:
    edges = np.cumsum(model.weights, dtype=np.float64)
    drawn = np.searchsorted(edges, rng.random(count) * edges[-1], side="right")
    return np.minimum(drawn, len(edges) - 1)


def _copied(model: Fit, rng: np.random.Generator, owner: Ints, likely: float) -> Ints:
    """Components kept or drawn anew: each is one by the weights, whatever is copied."""
    fresh = rng.random(len(owner)) >= likely
    kept = owner.copy()
    kept[fresh] = _chosen(model, rng, int(fresh.sum()))
    return kept


def _rows(model: Fit, owner: Ints, z: Floats, rng: np.random.Generator) -> NDArray[np.int8]:
    """Rows of components (n,) from normal numbers (n, D), which are used up."""
    radii = model.radii[owner, rng.integers(model.radii.shape[1], size=len(owner))]
    if model.radii.shape[1] > 1:
        length = np.sqrt(np.einsum("nd,nd->n", z, z) / DIM)
        z *= (radii / length)[:, None]
    out = np.empty(z.shape, np.int8)
    order = np.argsort(owner, kind="stable")
    edges = np.searchsorted(owner[order], np.arange(len(model.weights) + 1)).tolist()
    for one, (start, end) in enumerate(pairwise(edges)):
        if start < end:
            some = order[start:end]
            made = z[some] @ model.roots[one] + model.means[one]
            out[some] = np.clip(np.rint(made, out=made), -LIMIT, LIMIT, out=made)
    return out


# ---------------------------------------------------------------- beside the real rows


def compare(
    name: str, vectors: NDArray[np.int8], count: int, held: NDArray[np.int8] | None = None
) -> dict[str, Any]:
    """What an index of nearest neighbours sees of vectors int8 (n, D), `count` of them at random.
    held: real rows that nothing was fitted to, and how far the nearest vectors are from them."""
    rng = np.random.default_rng(0)
    some = vectors[rng.permutation(len(vectors))[:count]].astype(np.float32)
    _, gaps = nearest(some[:ASKED], some, 11)
    gaps, half = gaps[:, 1:], min(count // 2, 1000)
    apart = np.sqrt(measures.distances(some[:half], some[half : 2 * half]))
    spread = some.std(axis=0)
    far = None if held is None else np.sqrt(nearest(held.astype(np.float32), some, 10)[1])
    return {
        "rows": name,
        "n": count,
        "two_nn": measures.dimension_two_nn(gaps),
        "mle": measures.dimension_mle(gaps),
        "tenth_to_mean": float(np.sqrt(gaps[:, 9]).mean() / apart.mean()),
        "std_first_8": float(spread[:8].mean()),
        "std_others": float(spread[8:].mean()),
        "held_out_first": None if far is None else float(far[:, 0].mean()),
        "held_out_tenth": None if far is None else float(far[:, 9].mean()),
    }


def nearest(queries: Floats, base: NDArray[Any], k: int) -> tuple[Ints, NDArray[np.float64]]:
    """As `measures.nearest`, by float32 products and pieces of base: exact for int8."""
    rows = np.zeros((len(queries), 0), np.int64)
    gaps = np.zeros((len(queries), 0))
    own = np.einsum("nd,nd->n", queries, queries)[:, None]
    for start in range(0, len(base), PIECE):
        part = base[start : start + PIECE].astype(np.float32)
        found = own - 2 * queries @ part.T + np.einsum("nd,nd->n", part, part)
        near = np.argpartition(found, min(k, len(part)) - 1, axis=1)[:, :k]
        rows = np.concatenate([rows, near + start], axis=1)
        gaps = np.concatenate([gaps, np.take_along_axis(found, near, axis=1)], axis=1)
        order = np.argsort(gaps, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(rows, order, axis=1)
        gaps = np.take_along_axis(gaps, order, axis=1)
    return rows, gaps


def main() -> int:
    """Compare at equal numbers, see how it goes with more, and save; 1 where dimensions differ by
    more than a tenth, 2 without the data."""
    import report

    real = real_rows()
    if real is None:
        print("synthetic: expected EMBARCHIVE_DATA or ../shared/data, found none", file=sys.stderr)
        return 2
    true, mine = rounded(real.rows), real.mine
    model, found = load(real), []
    for count in (1_000, 3_000, len(true)):
        found.append(compare("real", true, count))
        found.append(compare("synthetic", draw(model, count, 0), count))
    last = [row["two_nn"] for row in found[-2:]]
    for count in (100_000, 1_000_000):
        found.append(compare("synthetic", draw(model, count, 0), count))
    half, held = int(mine.sum()), true[~mine]
    found.append(compare("real, of one half of the cells", true[mine], half, held))
    less = fit(Real(real.name, real.scale, real.rows[mine], mine[mine]))
    found.append(compare("synthetic, fitted to them", draw(less, half, 0), half, held))
    print(report.save("synthetic", found), file=sys.stderr)
    return int(abs(last[1] / last[0] - 1) > 0.1)


if __name__ == "__main__":
    sys.exit(main())
