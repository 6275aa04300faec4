"""Centroids and codes of an inverted file, fitted to a sample of rows.

Centroids in two levels of k-means: groups, and in each as many as it has rows for. Both are put in
an order in which neighbours are near, so that lists read together lie together in a file.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive.coarse import MOST_LISTS, Coarse
from embarchive.components import principal
from embarchive.errors import BadInput
from embarchive.fit_quantisers import fit_quantiser
from embarchive.quantisers import Quantiser

# Rows to fit to: of a centroid, and in all; and those to which codes are fitted.
A_LIST, MOST_ROWS, CODED = 48, 1 << 19, 16_384
_TURNS = 12

Floats = NDArray[np.float32]
Int8s = NDArray[np.int8]


def lists_for(rows: int) -> int:
    """How many lists an archive of so many rows gets: four times the root, 2^15 at most."""
    return int(np.clip(round(4 * rows**0.5), 1, MOST_LISTS))


def sample_for(rows: int) -> int:
    """How many rows the lists of so many are fitted to."""
    return min(rows, MOST_ROWS, max(CODED, A_LIST * lists_for(rows)))


def fit_coarse(sample: Int8s, count: int, length: int, seed: int = 0) -> Coarse:
    """At most `count` lists, and codes of `length` bytes, for rows of which these int8 (n, D) are a
    sample; the same sample gives the same ones. Raises BadInput."""
    if sample.ndim != 2 or not len(sample) or not 0 < length < sample.shape[1]:
        expected = f"rows of more than {length} numbers"
        raise BadInput(f"overview: expected {expected}, found {sample.shape}")
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
    plain = Quantiser("bits", 1.0, *_nothing(sample.shape[1]))
    coarse = Coarse(whole, np.array(starts, np.int32), plain)
    few = sample[np.sort(rng.permutation(len(sample))[:CODED])]
    differing = few.astype(np.float32) - whole[coarse.assign(few)]
    return replace(coarse, quantiser=fit_codes(differing, length, seed))


def fit_codes(differing: Floats, length: int, seed: int = 0) -> Quantiser:
    """Product codes of `length` bytes of what rows differ by from their centroids (n, D).

    The numbers are turned to principal axes, those of large and of small variance then put
    together in groups, so that each byte has about as much to say (eigenvalue allocation of Ge et
    al., doi 10.1109/TPAMI.2013.240).
    """
    dim = differing.shape[1] // length * length
    axes, spread = principal(differing.astype(np.float64), differing.shape[1])
    turn = axes[:, _allotted(spread[:dim] ** 2, length)].T.astype(np.float32)
    fitted = fit_quantiser(f"pq{length}", differing @ turn.T, seed)
    mean = (turn.T @ fitted.mean).astype(np.float32)
    name = f"pca{dim}+pq{length}"
    return replace(fitted, name=name, mean=mean, matrix=turn, inverse=turn.T.copy())


def _allotted(variance: NDArray[np.floating[Any]], groups: int) -> NDArray[np.intp]:
    """An order of axes in which groups of as many have about the same product of variances."""
    size, logs = len(variance) // groups, np.log(np.maximum(variance, 1e-9))
    held: list[list[int]] = [[] for _ in range(groups)]
    sums = np.zeros(groups)
    for axis, value in enumerate(logs.tolist()):
        room = [group for group in range(groups) if len(held[group]) < size]
        least = min(room, key=lambda group: (len(held[group]), sums[group]))
        held[least].append(axis)
        sums[least] += value
    return np.array([axis for group in held for axis in group], np.intp)


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


def _nothing(dim: int) -> tuple[Any, ...]:
    """Fields of a quantiser until there is one."""
    return (
        np.zeros(dim, np.float32),
        cast(Any, np.zeros((dim, 2, 1), np.int8)),
        np.zeros((dim, 1), np.int16),
    )
