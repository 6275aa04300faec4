"""Triplets of tiles: an anchor, a neighbour on the ground, and tiles that are distant from it.

After Tile2Vec (Jean et al. 2019): near places are more alike than distant ones. All tiles of a
batch are of one date, lest the date tell a distant tile; only a neighbour that is the anchor's own
place, later or earlier, is of another (`Pool.again`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embarchive import digests, grid
from embarchive.errors import BadInput

# Fewer places than this give the same few triplets over and over.
LEAST_PLACES = 8
# Blocks of neighbouring cells that a sample is to be made of, and anchors judged at once.
LEAST_BLOCKS, BATCH = 8, 64
# Neighbours that are known of a tile; of more, as with a wide radius, these many of all of them.
MOST_NEAR = 64
# Fewer metres than a degree of latitude has.
_DEGREE = 110_000.0

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Pool:
    """Tiles to draw from.

    lonlat: centres, degrees, float64 (n, 2); date: a number a date, int64 (n,); radius: metres
    within which a tile is a neighbour, and beyond which it is distant; starts, near: at most 64
    neighbours of the same date, of tile i near[starts[i]:starts[i + 1]]; again_starts, again:
    likewise its place on other dates.
    """

    lonlat: Floats
    date: Indices
    radius: float
    starts: Indices
    near: Indices
    again_starts: Indices
    again: Indices

    @property
    def anchors(self) -> Indices:
        """Tiles that have a neighbour."""
        return np.flatnonzero(np.diff(self.starts))

    def distant(self, tiles: Indices, others: Indices) -> Mask:
        """Which of others (m,) are distant from each of tiles (k,): bool (k, m), farther than the
        radius and of the same date."""
        away = grid.distance_m(self.lonlat[tiles][:, None], self.lonlat[others][None])
        same: Mask = self.date[tiles][:, None] == self.date[others]
        return same & (away > self.radius)


@dataclass(frozen=True)
class Pairs:
    """Anchors of one date and a neighbour of each, int64 (k,); distant: bool (k, k), which anchors
    are distant from which, at least one from each."""

    anchor: Indices
    neighbour: Indices
    distant: Mask


def default_radius(cells: NDArray[np.str_]) -> float:
    """Metres within which the eight cells around a cell have their centres, everywhere among cells
    (n,) of one length."""
    sides = grid.bounds(cells)
    x, y = grid.metres_per_degree(np.abs(sides[:, [1, 3]]).min(axis=1))
    # A little more: the sphere of distances is not the ellipsoid.
    return 1.01 * float(
        np.hypot(x * (sides[:, 2] - sides[:, 0]), y * (sides[:, 3] - sides[:, 1])).max(initial=0.0)
    )


def make_pool(lonlat: Floats, date: Indices, radius: float) -> Pool:
    """The pool of tiles at lonlat (n, 2), degrees, on dates (n,). Raises BadInput where there are
    fewer than 8 places with a neighbour, or no place is distant from another."""
    if not radius > 0:
        raise BadInput(f"tile2vec: expected a radius above 0 m, found {radius:g}")
    place = _places(lonlat)
    pairs = [_near(lonlat, np.flatnonzero(date == day), radius) for day in np.unique(date)]
    starts, near = _listed(np.concatenate([np.zeros((0, 2), np.int64), *pairs]), len(date))
    found = Pool(lonlat, date, radius, starts, near, *_listed(_same(place, date), len(date)))
    anchors = found.anchors
    count = len(np.unique(place[anchors]))
    if count < LEAST_PLACES:
        raise BadInput(
            f"tile2vec: expected at least {LEAST_PLACES} places with another within {radius:.0f} m "
            f"on the same date, found {count}"
        )
    if not any(found.distant(anchors[at : at + 1], anchors).any() for at in range(len(anchors))):
        raise BadInput(
            f"tile2vec: expected places more than {radius:.0f} m apart, found all within it"
        )
    return found


def draw(pool: Pool, count: int, temporal: float, rng: np.random.Generator) -> Pairs:
    """Pairs of one date, about `count`; dates by how many anchors they have.

    temporal: the share of anchors whose neighbour is their own place on another date, where there
    is one. Anchors from which no other of the batch is distant are left out; two at least stay.
    """
    anchors = pool.anchors
    while True:
        day = pool.date[rng.choice(anchors)]
        mine = anchors[pool.date[anchors] == day]
        anchor = rng.choice(mine, count)
        distant = pool.distant(anchor, anchor)
        if not distant.any():
            # All near each other, as tiles of a small area are: one that is not joins them.
            apart = mine[pool.distant(anchor[:1], mine)[0]]
            anchor = np.append(anchor, rng.choice(apart, min(1, len(apart))))
            distant = pool.distant(anchor, anchor)
        keep = distant.any(axis=1)
        if keep.any():
            break
    anchor = anchor[keep]
    neighbour = _pick(pool.starts, pool.near, anchor, rng)
    dated = np.diff(pool.again_starts)[anchor] > 0
    dated &= rng.random(len(anchor)) < temporal
    neighbour[dated] = _pick(pool.again_starts, pool.again, anchor[dated], rng)
    return Pairs(anchor, neighbour, distant[keep][:, keep])


def judge(pool: Pool, vectors: NDArray[np.float32], count: int) -> tuple[float, int]:
    """The share of triplets whose neighbour has the nearer vector, of vectors (n, dim); and of how
    many, at least `count`. Chance is a half."""
    rng = np.random.default_rng(0)
    right = seen = 0
    while seen < count:
        pairs = draw(pool, BATCH, 0.0, rng)
        distant = pairs.anchor[pick_any(pairs.distant, rng)]
        a, near, far = (vectors[some] for some in (pairs.anchor, pairs.neighbour, distant))
        right += int((np.square(a - near).sum(axis=1) < np.square(a - far).sum(axis=1)).sum())
        seen += len(a)
    return right / seen, seen


def pick_any(allowed: Mask, rng: np.random.Generator) -> Indices:
    """A column at random of each row (k,) among those that bool (k, m) allows."""
    drawn = np.where(allowed, rng.random(allowed.shape), -1.0)
    picked: Indices = drawn.argmax(axis=1).astype(np.int64)
    return picked


def together(cells: NDArray[np.str_], precision: int, most: int) -> NDArray[np.str_] | None:
    """Cells in whole blocks of neighbours, blocks at random by their names, so that at most `most`
    of cells (n,) are among them; None: all of them. One too many makes a block smaller."""
    if len(cells) <= most:
        return None
    names, tiles = np.unique(cells, return_counts=True)
    kept = names[:0]
    for length in range(max(1, precision - 2), precision):
        block, owner = np.unique(names.astype(f"U{length}"), return_inverse=True)
        size = np.bincount(owner.ravel(), weights=tiles)
        order = np.argsort([digests.sha256(name.encode()) for name in block.tolist()])
        count = int(np.searchsorted(np.cumsum(size[order]), most, side="right"))
        kept = names[np.isin(owner.ravel(), order[:count])]
        if count >= LEAST_BLOCKS:
            break
    return kept if len(kept) else None


def _pick(starts: Indices, listed: Indices, tiles: Indices, rng: np.random.Generator) -> Indices:
    """One of what is listed of each tile (k,)."""
    first, end = starts[tiles], starts[tiles + 1]
    picked: Indices = listed[first + (rng.random(len(tiles)) * (end - first)).astype(np.int64)]
    return picked


def _places(lonlat: Floats) -> Indices:
    return np.unique(lonlat, axis=0, return_inverse=True)[1].ravel().astype(np.int64)


def _near(lonlat: Floats, tiles: Indices, radius: float) -> Indices:
    """Pairs (k, 2) of a tile and another within the radius of it but not at its place."""
    order = tiles[np.argsort(lonlat[tiles, 1], kind="stable")]
    where = lonlat[order]
    # What is near lies in a run of latitudes.
    reach = radius / _DEGREE
    first = np.searchsorted(where[:, 1], where[:, 1] - reach).tolist()
    end = np.searchsorted(where[:, 1], where[:, 1] + reach, side="right").tolist()
    found = [np.zeros((0, 2), np.int64)]
    for at in range(len(order)):
        run = slice(first[at], end[at])
        away = grid.distance_m(where[at], where[run])
        others = order[run][(away > 0) & (away <= radius)]
        others = others[:: -(-len(others) // MOST_NEAR) or 1]
        found.append(np.stack([np.full(len(others), order[at]), others], axis=1))
    return np.concatenate(found)


def _same(place: Indices, date: Indices) -> Indices:
    """Pairs (k, 2) of tiles of one place and different dates."""
    order = np.argsort(place, kind="stable")
    found = [np.zeros((0, 2), np.int64)]
    for some in np.split(order, np.flatnonzero(np.diff(place[order])) + 1):
        a, b = np.nonzero(date[some][:, None] != date[some])
        found.append(np.stack([some[a], some[b]], axis=1))
    return np.concatenate(found)


def _listed(pairs: Indices, count: int) -> tuple[Indices, Indices]:
    """Where the second tiles of a first one begin (count + 1,), and those tiles."""
    pairs = pairs[np.lexsort(pairs.T[::-1])]
    starts = np.searchsorted(pairs[:, 0], np.arange(count + 1))
    return starts.astype(np.int64), pairs[:, 1]
