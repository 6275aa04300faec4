"""Views of an archive: a number for every place, from vectors and from neighbours on the ground.

heat and threshold are the search's scores of all places. The others, in squared embedding units
(d2: the squared L2 distance of int8 vectors, an integer; times scale^2 at the end):

- outlier: mean d2 to a sample of places drawn by seed, but for the place itself.
- surprise: mean d2 to the 8 nearest places on the ground.
- gradient: mean |difference of scores| to the 6 nearest places on the ground.

Nearest are cell centres by the chord through the unit sphere, so that neither the antimeridian nor
a pole is an edge; in whole millimetres, ties by geohash. After TerraBit's views, which compare all
pairs in degrees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import grid
from embarchive.errors import BadInput, MissingExtra
from embarchive.quantize import dot

KINDS = ("heat", "threshold", "outlier", "surprise", "gradient")
BY_SCORE = ("heat", "threshold", "gradient")
LEAST_FIRST = ("heat", "threshold")
SURPRISE, GRADIENT = 8, 6
SAMPLE = 1000
BINS = 32
_RADIUS_MM = 6_371_008_800.0
_CHUNK = 65_536

Int8s = NDArray[np.int8]
Names = NDArray[np.str_]
Floats = NDArray[np.float64]
Positions = NDArray[np.intp]


def check_kind(kind: str, like: bool, unlike: bool, threshold: float | None) -> None:
    """Raises BadInput unless the kind is known and has what it needs, and nothing more."""
    if kind not in KINDS:
        raise BadInput(f"view: kind must be one of {', '.join(KINDS)}, found {kind!r}")
    if kind in BY_SCORE and not like:
        raise BadInput(f"view: expected at least one exemplar in like for {kind}, found none")
    if kind not in BY_SCORE and (like or unlike):
        raise BadInput(f"view: expected no exemplars for {kind}, found some")
    if (threshold is not None) != (kind == "threshold"):
        expected = "a threshold" if kind == "threshold" else "no threshold"
        raise BadInput(f"view: expected {expected} for {kind}, found {threshold}")
    if threshold is not None and not np.isfinite(threshold):
        raise BadInput(f"view: expected a finite threshold, found {threshold}")


def outlier(vectors: Int8s, sample: Positions) -> Floats:
    """Mean d2 of places int8 (n, D) to those of the sample, positions (m,) each once, without
    themselves: float64 (n,). Raises BadInput below two places."""
    _need_two(len(vectors))
    chosen = vectors[sample].astype(np.int64)
    own = np.zeros(len(vectors), dtype=np.int64)
    own[sample] = 1
    # sum |x - r|^2 = m |x|^2 - 2 x . sum r + sum |r|^2, exact in int64
    ahead, squares = chosen.sum(axis=0), int((chosen**2).sum())
    total = np.empty(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        wide = vectors[part].astype(np.int64)
        total[part] = len(sample) * (wide**2).sum(axis=1) - 2 * dot(vectors[part], ahead) + squares
    return np.asarray(total / (len(sample) - own), dtype=np.float64)


def draw(count: int, seed: int, most: int = SAMPLE) -> Positions:
    """The sample: at most `most` positions of `count`, each once, at least two."""
    found: Positions = np.random.default_rng(seed).permutation(count)[: max(2, most)]
    return np.sort(found)


def surprise(vectors: Int8s, near: Positions) -> Floats:
    """Mean d2 of places int8 (n, D) to their neighbours (n, k): float64 (n,)."""
    total = np.zeros(len(vectors), dtype=np.int64)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        own = vectors[part].astype(np.int32)
        for column in near[part].T:
            gap = own - vectors[column]
            total[part] += np.einsum("nd,nd->n", gap, gap, dtype=np.int64)
    return np.asarray(total / near.shape[1], dtype=np.float64)


def gradient(scores: Floats, near: Positions) -> Floats:
    """Mean |difference| of scores (n,) to those of the neighbours (n, k), summed from the nearest
    on: float64 (n,)."""
    total = np.zeros(len(scores))
    for column in near.T:
        total = total + np.abs(scores - scores[column])
    return np.asarray(total / near.shape[1], dtype=np.float64)


def neighbours(names: Names, count: int) -> Positions:
    """Of each cell (n,) the `count` nearest others, nearest first: positions (n, k), k at most
    n - 1. Names sorted, each once. Raises BadInput below two cells, MissingExtra without scipy."""
    try:
        from scipy.spatial import cKDTree
    except ImportError:
        raise MissingExtra("view: neighbours need scipy, install embarchive[report]") from None
    _need_two(len(names))
    points = unit_sphere(names)
    tree, count = cKDTree(points), min(count, len(names) - 1)
    found = np.empty((len(names), count), dtype=np.intp)
    todo, more = np.arange(len(names)), count + 9
    while len(todo):
        more, left = min(more, len(names)), []
        for start in range(0, len(todo), _CHUNK):
            some = todo[start : start + _CHUNK]
            found[some], whole = _nearest(tree, points, some, more, count)
            left.append(some[~whole])
        todo, more = np.concatenate(left), 2 * more
    return found


def _nearest(
    tree: Any, points: Floats, some: Positions, more: int, count: int
) -> tuple[Positions, NDArray[np.bool_]]:
    """The nearest `count` among the tree's nearest `more`, and where no tie can have been cut."""
    near = tree.query(points[some], more)[1]
    away = chords_mm(points[some][:, None], points[near])
    away[near == some[:, None]] = -1
    order = np.lexsort((near, away), axis=-1)
    near, away = (np.take_along_axis(one, order, axis=1) for one in (near, away))
    whole = (away[:, -1] > away[:, count] + 1) | (more == len(points))
    return near[:, 1 : count + 1], whole


def unit_sphere(names: Names) -> Floats:
    """Centres of cells on the unit sphere, float64 (n, 3)."""
    lon, lat = np.radians(grid.centers(names)).T
    return np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)], axis=1)


def chords_mm(here: Floats, there: Floats) -> NDArray[np.int64]:
    """Chords between points (..., 3) of the unit sphere in whole millimetres of the earth."""
    gap = here - there
    squares = gap[..., 0] ** 2 + gap[..., 1] ** 2 + gap[..., 2] ** 2
    return np.rint(np.sqrt(squares) * _RADIUS_MM).astype(np.int64)


def histogram(scores: Floats) -> dict[str, list[float] | list[int]]:
    """How scores (n,) spread: counts in 32 equal bins, and the 33 edges between them."""
    counts, edges = np.histogram(scores, BINS)
    return {"counts": counts.tolist(), "edges": edges.tolist()}


def _need_two(count: int) -> None:
    if count < 2:
        raise BadInput(f"view: expected at least two places, found {count}")
