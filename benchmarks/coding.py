"""What the methods of bench_storage share: bands to components, tiles to one picture, and bytes
spent where they lower the error most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from sets import Images, Task, Tiles, blocks

# Pixels that the transform of bands is fitted to.
KLT_PIXELS = 1_000_000
FLOAT16 = 2
# Curves up to which the last bytes are spent by trial.
FEW = 16


@dataclass(frozen=True)
class Coded:
    """Test tiles through a method at a target of mean bytes a tile and date.

    rate: "slope" (one rate-distortion slope for all tiles, whose mean is the target) or "equal"
    (each tile at most the target); code_bytes: mean of the tiles; model_bytes: what all tiles of
    a set share; images float32 (n, bands, height, width), recipe units.
    """

    method: str
    target: int
    rate: str
    code_bytes: float
    model_bytes: int
    images: Images


# Every method of the benchmark: a task and targets in bytes to what it made of the test tiles.
Method = Callable[[Task, Sequence[int]], list[Coded]]


@dataclass(frozen=True)
class Klt:
    """Bands as uncorrelated components, by decreasing variance; orthonormal, so that squared
    errors add up. mean (bands,), axes (bands, bands)."""

    mean: NDArray[np.float64]
    axes: NDArray[np.float64]

    def forward(self, images: Images) -> Images:
        """Components float32 (n, bands, height, width)."""
        centred = images - self.mean.astype(np.float32)[:, None, None]
        found: Images = np.einsum("nbhw,bk->nkhw", centred, self.axes.astype(np.float32))
        return found

    def inverse(self, planes: Images) -> Images:
        """Bands of the first components float32 (n, k, height, width)."""
        axes = self.axes[:, : planes.shape[1]].astype(np.float32)
        found: Images = np.einsum("nkhw,bk->nbhw", planes, axes)
        return found + self.mean.astype(np.float32)[:, None, None]

    def bytes(self, count: int) -> int:
        """Of the mean and `count` axes as float16."""
        return FLOAT16 * len(self.mean) * (1 + count)


def fit_klt(images: Images) -> Klt:
    """The transform of training images, with the precision that float16 keeps."""
    flat = images.transpose(1, 0, 2, 3).reshape(images.shape[1], -1)
    flat = flat[:, :: max(1, flat.shape[1] // KLT_PIXELS)].astype(np.float64)
    mean = flat.mean(axis=1)
    values, axes = np.linalg.eigh(np.atleast_2d(np.cov(flat)))
    axes = axes[:, np.argsort(values)[::-1]].astype(np.float16).astype(np.float64)
    return Klt(mean.astype(np.float32).astype(np.float64), axes)


# ---------------------------------------------------------------- one picture of all tiles


@dataclass(frozen=True)
class Mosaic:
    """Tiles in one picture, neighbours beside each other: shape; corner int (n, 2): row and
    column of each tile; known bool (height, width)."""

    corner: NDArray[np.int64]
    known: NDArray[np.bool_]
    tile: tuple[int, int]

    def lay(self, plane: Images) -> Images:
        """The picture of one component (n, height, width); between the blocks the nearest
        pixel, which no codec spends much on."""
        picture = np.zeros(self.known.shape, np.float32)
        height, width = self.tile
        for (row, column), image in zip(self.corner.tolist(), plane, strict=True):
            picture[row : row + height, column : column + width] = image
        if not self.known.all():
            rows, columns = distance_transform_edt(
                ~self.known, return_distances=False, return_indices=True
            )
            picture = picture[rows, columns]
        return picture

    def cut(self, picture: Images) -> Images:
        """The tiles (n, height, width) of a picture."""
        height, width = self.tile
        return np.stack(
            [picture[r : r + height, c : c + width] for r, c in self.corner.tolist()]
        ).astype(np.float32)


def lay_out(tiles: Tiles) -> Mosaic:
    """Each block of neighbouring tiles as it lies on the ground, blocks close together."""
    owner, (height, width) = blocks(tiles), tiles.images.shape[2:]
    place = np.stack([-tiles.place[:, 1], tiles.place[:, 0]], axis=1)
    sizes = np.bincount(owner)
    for block in range(len(sizes)):
        place[owner == block] -= place[owner == block].min(axis=0)
    across = max(int(place[:, 1].max()) + 1, round((len(tiles) * height / width) ** 0.5))
    taken = np.zeros((int(place[:, 0].max()) + 1 + len(tiles), across), dtype=bool)
    for block in np.argsort(-sizes, kind="stable").tolist():
        shape = place[owner == block]
        place[owner == block] = shape = shape + _first_fit(taken, shape)
        taken[shape[:, 0], shape[:, 1]] = True
    known = taken[: int(place[:, 0].max()) + 1, : int(place[:, 1].max()) + 1]
    known = known.repeat(height, axis=0).repeat(width, axis=1)
    return Mosaic(place * (height, width), known, (height, width))


def _first_fit(taken: NDArray[np.bool_], shape: NDArray[np.int64]) -> tuple[int, int]:
    """The topmost, then leftmost shift at which a shape of cells (n, 2) is free."""
    wide = int(shape[:, 1].max()) + 1
    row = 0
    while True:
        for column in range(taken.shape[1] - wide + 1):
            if not taken[shape[:, 0] + row, shape[:, 1] + column].any():
                return row, column
        row += 1


# ---------------------------------------------------------------- bytes where they pay


@dataclass(frozen=True)
class Curve:
    """What a unit (a component of a tile, or of a picture) may cost: bytes and squared error of
    each choice; choice 0 is to leave it out."""

    rate: NDArray[np.float64]
    error: NDArray[np.float64]

    def efficient(self) -> list[int]:
        """Choices that no other beats in both, by increasing rate."""
        kept: list[int] = []
        for one in np.lexsort((self.error, self.rate)).tolist():
            if not kept or self.error[one] < self.error[kept[-1]]:
                kept.append(one)
        return kept

    def hull(self) -> list[int]:
        """Choices on the lower convex hull, by increasing rate."""
        order = np.lexsort((self.error, self.rate)).tolist()
        kept: list[int] = []
        for one in order:
            if kept and self.error[one] >= self.error[kept[-1]]:
                continue
            while len(kept) > 1 and self._gain(kept[-2], kept[-1]) <= self._gain(kept[-1], one):
                kept.pop()
            if kept and self.rate[one] <= self.rate[kept[-1]]:
                kept.pop()
            kept.append(one)
        return kept

    def _gain(self, a: int, b: int) -> float:
        return float((self.error[a] - self.error[b]) / max(self.rate[b] - self.rate[a], 1e-12))


def spend(curves: Sequence[Curve], budget: float) -> list[int]:
    """The choice of each curve by one slope for all, within a budget of bytes together; what
    the next step of the slope would overspend goes to the best steps that still fit, and where
    curves are few to any choice that does."""
    steps = []
    hulls = [curve.hull() for curve in curves]
    for unit, (curve, hull) in enumerate(zip(curves, hulls, strict=True)):
        for at in range(1, len(hull)):
            a, b = hull[at - 1], hull[at]
            steps.append((-curve._gain(a, b), unit, at, curve.rate[b] - curve.rate[a]))
    chosen = [0] * len(curves)
    left = budget - sum(float(c.rate[h[0]]) for c, h in zip(curves, hulls, strict=True))
    for _, unit, at, cost in sorted(steps):
        if at == chosen[unit] + 1 and cost <= left:
            chosen[unit], left = at, left - cost
    found = [hull[at] for hull, at in zip(hulls, chosen, strict=True)]
    return _filled(curves, found, left) if len(curves) <= FEW else found


def _filled(curves: Sequence[Curve], chosen: list[int], left: float) -> list[int]:
    """The choices, each time the one that lowers the error most within what is left changed."""
    while True:
        best = (0.0, -1, -1)
        for unit, curve in enumerate(curves):
            gain = curve.error[chosen[unit]] - curve.error
            gain[curve.rate - curve.rate[chosen[unit]] > left] = 0
            at = int(gain.argmax())
            best = max(best, (float(gain[at]), unit, at))
        gained, unit, at = best
        if gained <= 0:
            return chosen
        left -= float(curves[unit].rate[at] - curves[unit].rate[chosen[unit]])
        chosen[unit] = at
