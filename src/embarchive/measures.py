"""How good vectors are: neighbours found again, distances in order, intrinsic dimension, and
whether a difference is more than chance.

Pure arrays. Neighbours never come from the query's own place, so that a tile on another date, or
one that overlaps it, counts for nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]
Names = NDArray[np.generic]

_BLOCK = 256
# Of the ratios of TwoNN the largest tenth are left out, as its authors do.
_TWO_NN_KEPT = 0.9
RESAMPLES = 1000


def distances(queries: Floats, base: Floats) -> NDArray[np.float64]:
    """Squared L2 distances float64 (q, n), never below 0. Raises BadInput."""
    if queries.ndim != 2 or base.ndim != 2 or queries.shape[1] != base.shape[1]:
        found = f"{queries.shape} and {base.shape}"
        raise BadInput(f"vectors: expected two tables of one length, found {found}")
    a, b = queries.astype(np.float64), base.astype(np.float64)
    square = (a**2).sum(axis=1)[:, None] - 2 * (a @ b.T) + (b**2).sum(axis=1)
    return np.asarray(np.maximum(square, 0))


def nearest(
    queries: Floats, base: Floats, k: int, own: tuple[Names, Names] | None = None
) -> tuple[Ints, NDArray[np.float64]]:
    """Rows (q, k) of the k nearest of base, nearest first, of equals the first; their squared L2
    distances. own: places of queries (q,) and of base (n,), of which the same are left out.

    Raises BadInput where a query has fewer than k others.
    """
    rows, gaps = np.empty((len(queries), k), np.int64), np.empty((len(queries), k))
    for start in range(0, len(queries), _BLOCK):
        some = slice(start, start + _BLOCK)
        found = distances(queries[some], base)
        if own is not None:
            found[own[0][some][:, None] == own[1][None]] = np.inf
        if k > found.shape[1] or np.isinf(np.partition(found, k - 1, axis=1)[:, k - 1]).any():
            raise BadInput(f"neighbours: expected at least {k} rows of other places, found fewer")
        rows[some], gaps[some] = _least(found, k)
    return rows, gaps


def _least(found: NDArray[np.float64], k: int) -> tuple[Ints, NDArray[np.float64]]:
    limit = np.partition(found, k - 1, axis=1)[:, k - 1 : k]
    rows = np.empty((len(found), k), np.int64)
    for at, (line, most) in enumerate(zip(found, limit[:, 0], strict=True)):
        near = np.flatnonzero(line <= most)
        rows[at] = near[np.argsort(line[near], kind="stable")[:k]]
    return rows, np.take_along_axis(found, rows, axis=1)


def recall(true: Ints, found: Ints) -> NDArray[np.float64]:
    """Share of the true neighbours (q, k) that are among those found (q, m), (q,)."""
    same = (true[:, :, None] == found[:, None, :]).any(axis=2)
    return np.asarray(same.mean(axis=1))


def spearman(a: Floats, b: Floats) -> float:
    """Rank correlation of two lists of numbers (n,), ties by their mean rank (Spearman 1904); nan
    where either is constant."""
    first, second = _ranks(np.asarray(a)), _ranks(np.asarray(b))
    spread = float(first.std() * second.std())
    gap = ((first - first.mean()) * (second - second.mean())).mean()
    return float(gap) / spread if spread else math.nan


def _ranks(values: Floats) -> NDArray[np.float64]:
    _, where, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts - 1) / 2)[where.ravel()])


# ---------------------------------------------------------------- intrinsic dimension


def dimension_mle(gaps: NDArray[np.float64]) -> float:
    """Of squared distances (q, k) to the k nearest, ascending: the maximum-likelihood estimate of
    Levina & Bickel (2004), inverses averaged as MacKay & Ghahramani (2005) propose."""
    logs = np.log(gaps[(gaps > 0).all(axis=1)]) / 2
    if not len(logs) or logs.shape[1] < 3:
        return math.nan
    inverse = (logs[:, -1:] - logs[:, :-1]).mean(axis=1)
    return float(1 / inverse.mean()) if inverse.mean() > 0 else math.nan


def dimension_two_nn(gaps: NDArray[np.float64]) -> float:
    """Of squared distances (q, >= 2), ascending: TwoNN of Facco et al. (2017), a line through the
    origin fitted to the ratios of the second to the first, the largest tenth left out."""
    good = gaps[gaps[:, 0] > 0]
    if len(good) < 10:
        return math.nan
    ratio = np.sort(np.log(good[:, 1] / good[:, 0]) / 2)
    kept = int(len(ratio) * _TWO_NN_KEPT)
    rest = -np.log(1 - np.arange(1, kept + 1) / len(ratio))
    square = float(ratio[:kept] @ ratio[:kept])
    return float(rest @ ratio[:kept]) / square if square else math.nan


def dimension_local(base: Floats, rows: Ints, share: float = 0.95) -> float:
    """Components that hold `share` of the variance of the neighbours (q, k) of a point, the mean of
    all points (Fukunaga & Olsen 1971)."""
    counts = []
    for line in rows:
        some = base[line].astype(np.float64)
        spread = np.linalg.svd(some - some.mean(axis=0), compute_uv=False) ** 2
        if spread.sum() > 0:
            held = np.cumsum(spread) / spread.sum()
            counts.append(int(np.searchsorted(held, share - 1e-12)) + 1)
    return float(np.mean(counts)) if counts else math.nan


# ---------------------------------------------------------------- chance


def interval(
    values: Floats, block: Names, seed: int = 0, resamples: int = RESAMPLES
) -> tuple[float, float]:
    """95 % interval of the mean of values (n,), blocks (n,) of neighbours drawn whole with
    replacement (Efron 1979; Lahiri 2003); nan, nan below two blocks."""
    _, owner = np.unique(block, return_inverse=True)
    total = np.bincount(owner.ravel(), np.asarray(values, np.float64))
    count = np.bincount(owner.ravel()).astype(np.float64)
    if len(total) < 2:
        return math.nan, math.nan
    drawn = np.random.default_rng(seed).integers(0, len(total), (resamples, len(total)))
    means = total[drawn].sum(axis=1) / count[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5]).tolist()
    return low, high


def mcnemar(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Two-sided p that two classifiers, right or wrong (n,), are equally good (McNemar 1947): exact
    binomial of the tiles on which they differ."""
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    n, least = only_a + only_b, min(only_a, only_b)
    if not n:
        return 1.0
    logs = [
        math.lgamma(n + 1) - math.lgamma(i + 1) - math.lgamma(n - i + 1) - n * math.log(2)
        for i in range(least + 1)
    ]
    top = max(logs)
    return min(1.0, 2 * math.exp(top) * sum(math.exp(one - top) for one in logs))


def f1_by_class(truth: Names, said: Names) -> dict[str, float]:
    """F1 of each class of the truth (n,); 0 for one that is never said rightly."""
    found = {}
    for name in np.unique(truth).tolist():
        right = int(((truth == name) & (said == name)).sum())
        found[str(name)] = 2 * right / int((truth == name).sum() + (said == name).sum())
    return found
