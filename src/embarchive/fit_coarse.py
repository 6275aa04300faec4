"""Centroids and steps of an inverted file, fitted to a sample of rows.

Centroids in two levels of k-means: groups, and in each as many as it has rows for. Both are put in
an order in which neighbours are near, so that lists read together lie together in a file.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from embarchive.coarse import MOST_LISTS, MOST_STEP, Coarse
from embarchive.errors import BadInput

# Rows to fit to: of a centroid, and in all; and those to which the step is fitted.
A_LIST, MOST_ROWS, CODED = 96, 1 << 19, 16_384
# Bits that a number takes at most, on average.
MOST_BITS = 4.0
_TURNS = 12

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]


def lists_for(rows: int) -> int:
    """How many lists an archive of so many rows gets: twelve times the cube root, 2^15 at most."""
    return int(np.clip(round(12 * rows ** (1 / 3)), 1, MOST_LISTS))


def sample_for(rows: int, lists: int) -> int:
    """How many of so many rows so many lists are fitted to."""
    return min(rows, MOST_ROWS, max(CODED, A_LIST * lists))


def fit_coarse(sample: Int8s, count: int, seed: int = 0) -> Coarse:
    """At most `count` lists for rows of which these int8 (n, D) are a sample, and the step of their
    codes; the same sample gives the same ones. Raises BadInput."""
    if sample.ndim != 2 or not sample.size:
        raise BadInput(f"overview: expected rows of numbers, found {sample.shape}")
    rng = np.random.default_rng(seed)
    rows = sample.astype(np.float32)
    groups, owner = _means(rows, min(len(rows), max(1, round(count**0.5))), rng)
    order = _chain(groups)
    found: list[Floats] = []
    starts: list[int] = []
    for group in order.tolist():
        own = rows[owner == group]
        if not len(own):
            continue
        # One each, and what is left by their rows: never more than `count` in all.
        size = 1 + int((count - len(groups)) * len(own) / len(rows))
        centroids, _ = _means(own, min(size, len(own)), rng)
        some = np.unique(np.rint(centroids), axis=0)
        starts.append(sum(len(one) for one in found))
        found.append(some[_chain(some, found[-1][-1] if found else None)])
    whole = np.concatenate(found).astype(np.int8)
    coarse = Coarse(whole, np.array(starts, np.int32), 1)
    few = sample[np.sort(rng.permutation(len(sample))[:CODED])]
    gaps = few.astype(np.int16) - whole[coarse.assign(few)]
    return replace(coarse, step=fit_step(gaps))


def fit_step(gaps: NDArray[np.int16]) -> int:
    """The least step for which the nearest steps to these numbers have an entropy of 4 bits at
    most."""
    for step in range(1, MOST_STEP):
        _, counts = np.unique(np.rint(gaps / step).astype(np.int16), return_counts=True)
        shares = counts / gaps.size
        if -np.sum(shares * np.log2(shares)) <= MOST_BITS:
            return step
    return MOST_STEP


def _means(rows: Floats, count: int, rng: np.random.Generator) -> tuple[Floats, NDArray[np.intp]]:
    """Lloyd's centroids (count, D) of rows, and the nearest of each row; one without rows moves to
    a row that lies far out."""
    centroids = rows[rng.permutation(len(rows))[:count]].copy()
    for turn in range(_TURNS + 1):
        gaps = np.sum(centroids**2, axis=1) - 2 * (rows @ centroids.T)
        nearest = np.argmin(gaps, axis=1)
        if turn == _TURNS:
            break
        held = np.bincount(nearest, minlength=count)
        order = np.argsort(nearest, kind="stable")
        full = np.flatnonzero(held)
        sums = np.add.reduceat(rows[order], np.r_[0, np.cumsum(held[full])[:-1]], axis=0)
        centroids[full] = sums / held[full][:, None]
        empty = np.flatnonzero(held == 0)
        if len(empty):
            far = gaps[np.arange(len(rows)), nearest] + np.sum(rows**2, axis=1)
            centroids[empty] = rows[np.argsort(-far, kind="stable")[: len(empty)]]
    return centroids, nearest


def _chain(points: Floats, start: Floats | None = None) -> NDArray[np.intp]:
    """An order of points in which each is the nearest left to the one before."""
    left = np.ones(len(points), bool)
    here = points.mean(axis=0) if start is None else start
    found = np.empty(len(points), np.intp)
    for at in range(len(points)):
        gaps = np.where(left, np.sum((points - here) ** 2, axis=1), np.inf)
        found[at] = np.argmin(gaps)
        here, left[found[at]] = points[found[at]], False
    return found
