"""Synthetic embeddings of any number, fitted to real ones: for tests of scale only.

A mixture of Gaussians with full covariances, whose radii are those of the real rows, fitted to
the int8 embeddings of 13,000 EuroSAT images by our VAE. It is a density: no row repeats a real one,
and at any number of rows there are no clumps finer than its components; real archives may have
some. Neighbouring cells mostly share the component, and a part of what is left: blocks of 2 x 2,
8 x 8 and 32 x 32 cells, prefixes and their parents each copy what holds them, or draw anew.
What is drawn under a prefix depends on the fit, the seed and the prefix alone, so that a larger
archive holds a smaller one. Queries are drawn from another seed and stored nowhere.

    python benchmarks/synthetic.py      # fits, and compares with the real rows
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import measures

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
DIM, COMPONENTS, RADII, LIMIT = 64, 96, 128, 127
# Blocks of cells in geohash order, from the coarsest: bits of the index within the block, and how
# likely one copies the component of the block around it.
BLOCKS = ((15, 0.5), (10, 0.6), (6, 0.85), (2, 0.85), (0, 0.85))
ANOTHER_DATE = 0.8
# Shares of the variance within a component that rows, 2 x 2 and 8 x 8 blocks have of their own.
SHARES = ((0, 0.5), (2, 0.25), (6, 0.25))
STREAM, QUERIES = 1, 2
TRAINING_STEPS = 600


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


def load() -> Fit:
    """The fit kept in the folder, made if need be; a plain one without the data."""
    path = folder() / "fit.npz"
    if not path.is_file():
        real = real_rows()
        if real is None:
            return plain()
        made = fit(*real)
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_suffix(f".{os.getpid()}.npz")
        np.savez(aside, **asdict(made))
        aside.rename(path)
    with np.load(path) as kept:
        held = {name: kept[name] for name in kept.files}
    return Fit(str(held.pop("name")), float(held.pop("scale")), **held)


def real_rows() -> tuple[Floats, float, str] | None:
    """mu (13000, 64) of EuroSAT in int8 steps, not rounded, the step, and what it is; None
    without the data."""
    import bench_quantisers
    import sets

    from embarchive.quantize import fit_int8

    if not (sets.DATA / bench_quantisers.EUROSAT).exists():
        return None
    data = next(bench_quantisers.eurosat(TRAINING_STEPS)).data
    scale = fit_int8(data.fit).scale
    return data.base / np.float32(scale), scale, "fitted to EuroSAT, VAE"


def fit(rows: Floats, scale: float, name: str, components: int = COMPONENTS) -> Fit:
    """A mixture fitted to rows (n, D) in int8 steps."""
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        components, reg_covar=0.05, max_iter=40, init_params="k-means++", random_state=0
    ).fit(rows.astype(np.float64))
    owner = model.predict(rows)
    values, vectors = np.linalg.eigh(model.covariances_)
    radii = np.ones((components, RADII))
    for one in np.unique(owner).tolist():
        turned = (rows[owner == one] - model.means_[one]) @ vectors[one] / np.sqrt(values[one])
        own = np.sqrt((turned**2).mean(axis=1))
        radii[one] = np.quantile(own, (np.arange(RADII) + 0.5) / RADII)
    roots = (vectors * np.sqrt(values)[:, None]) @ vectors.transpose(0, 2, 1)
    parts = (model.weights_, model.means_, roots, radii)
    return Fit(name, scale, *(part.astype(np.float32) for part in parts))


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
    for one, (start, end) in enumerate(zip(edges, edges[1:], strict=False)):
        if start < end:
            some = order[start:end]
            made = z[some] @ model.roots[one] + model.means[one]
            out[some] = np.clip(np.rint(made, out=made), -LIMIT, LIMIT, out=made)
    return out


# ---------------------------------------------------------------- beside the real rows


def compare(rows: str, vectors: NDArray[np.int8], count: int, asked: int) -> dict[str, Any]:
    """What an index of nearest neighbours sees of vectors int8 (n, D), `count` of them at random."""
    rng = np.random.default_rng(0)
    some = vectors[rng.permutation(len(vectors))[:count]].astype(np.float32)
    _, gaps = nearest(some[:asked], some, 11)
    gaps = gaps[:, 1:]
    apart = np.sqrt(measures.distances(some[:1000], some[1000:2000]))
    spread = some.std(axis=0)
    return {
        "rows": rows,
        "n": count,
        "two_nn": measures.dimension_two_nn(gaps),
        "mle": measures.dimension_mle(gaps),
        "tenth_to_mean": float(np.sqrt(gaps[:, 9]).mean() / apart.mean()),
        "nearest": float(np.sqrt(gaps[:, 0]).mean()),
        "std_first_8": float(spread[:8].mean()),
        "std_others": float(spread[8:].mean()),
    }


def nearest(queries: Floats, base: NDArray[Any], k: int) -> tuple[Ints, NDArray[np.float64]]:
    """As `measures.nearest`, by float32 products and pieces of base: exact for int8."""
    rows = np.zeros((len(queries), 0), np.int64)
    gaps = np.zeros((len(queries), 0))
    own = np.einsum("nd,nd->n", queries, queries)[:, None]
    for start in range(0, len(base), 8192):
        part = base[start : start + 8192].astype(np.float32)
        found = own - 2 * queries @ part.T + np.einsum("nd,nd->n", part, part)
        near = np.argpartition(found, min(k, len(part)) - 1, axis=1)[:, :k]
        rows = np.concatenate([rows, near + start], axis=1)
        gaps = np.concatenate([gaps, np.take_along_axis(found, near, axis=1)], axis=1)
        order = np.argsort(gaps, axis=1, kind="stable")[:, :k]
        rows = np.take_along_axis(rows, order, axis=1)
        gaps = np.take_along_axis(gaps, order, axis=1)
    return rows, gaps


def main() -> int:
    """Fit, compare at equal numbers, and see how it goes with more rows."""
    import report

    real = real_rows()
    if real is None:
        print("synthetic: expected EMBARCHIVE_DATA or ../shared/data, found none", file=sys.stderr)
        return 2
    model = load()
    found = []
    true = np.clip(np.rint(real[0]), -LIMIT, LIMIT).astype(np.int8)
    for count in (1_000, 3_000, len(true)):
        # Several draws of the small ones would tell the same with less chance.
        asked = min(count, 4_000)
        made = draw(model, count, 0)
        found.append(compare("real", true, count, asked))
        found.append(compare("synthetic", made, count, asked))
    for count in (100_000, 1_000_000):
        found.append(compare("synthetic", draw(model, count, 0), count, 2_000))
    for row in found:
        print(row, flush=True)
    print(report.save("synthetic", found), file=sys.stderr)
    last = {row["rows"]: row["two_nn"] for row in found if row["n"] == len(true)}
    return int(abs(last["synthetic"] / last["real"] - 1) > 0.1)


if __name__ == "__main__":
    sys.exit(main())
