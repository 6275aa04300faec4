"""What has been coded of a tile foretells how large its next coefficient is. Integers alone.

Coefficients come in scan order, those with the largest scale in training first. The expected
magnitude of one is that of training, times how much larger than expected its neighbours (by
frequency and component) that came before it were. Its logarithm chooses the table by which the
coefficient is coded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

NEIGHBOURS = 16
REACH = 3
# Expected magnitudes are in units of 2 ** -12 of a step; with none above 2 ** 12 steps all that is
# computed with them stays below 2 ** 53.
UNIT, MOST_EXPECTED = 1 << 12, 1 << 24
# Magnitudes that count at most, and what stands for no neighbours at all.
_MOST, _NONE = 15, 30
# Weights by squared distance in frequency, within a component and to another one.
_SAME = {1: 40, 2: 24, 4: 13, 5: 11, 8: 7, 9: 6}
_OTHER = {0: 30, 1: 10, 2: 6, 4: 3, 5: 3, 8: 2, 9: 2}
# Classes, four an octave of the expected magnitude, from 2 ** -8 of a step to 2 ** 5.
CLASSES = 53
_EDGES = np.rint(UNIT * 2.0 ** (-8 + np.arange(CLASSES - 1) / 4)).astype(np.int64)


@dataclass(frozen=True)
class Scan:
    """Neighbours of each position of a scan: before, int64 (positions, NEIGHBOURS), positions that
    came earlier, `positions` for none; weight, likewise, 0 for none."""

    before: Ints
    weight: Ints

    def __len__(self) -> int:
        return len(self.before)


def scan(order: Ints, shape: tuple[int, int, int]) -> Scan:
    """The neighbours in a scan of coefficients: order, flat indices into (components, h, w)."""
    components, h, w = shape
    count, (own, u, v) = len(order), np.unravel_index(order, shape)
    rank = np.full((components, h + 2 * REACH, w + 2 * REACH), count, np.int64)
    rank[own, u + REACH, v + REACH] = np.arange(count)
    near, weight = [], []
    steps = [(du, dv) for du in range(-REACH, REACH + 1) for dv in range(-REACH, REACH + 1)]
    for component in range(components):
        for du, dv in steps:
            square = du * du + dv * dv
            near.append(rank[component, u + REACH + du, v + REACH + dv])
            mine, other = _SAME.get(square, 0), _OTHER.get(square, 0)
            weight.append(np.where(own == component, mine, other))
    before, value = np.stack(near, axis=1), np.stack(weight, axis=1)
    known = before < np.arange(count)[:, None]
    before, value = np.where(known, before, count), np.where(known, value, 0)
    # The heaviest first, the latest first among equals.
    best = np.argsort(-(value * (count + 1) + before * known), axis=1, kind="stable")
    best = best[:, :NEIGHBOURS]
    return Scan(np.take_along_axis(before, best, 1), np.take_along_axis(value, best, 1))


def expected_near(found: Scan, expected: Ints) -> Ints:
    """Weighted expected magnitudes of the neighbours of each position (positions,), of expected
    magnitudes (positions,), what stands for none included."""
    padded = np.append(expected, 0)
    total = (found.weight * padded[found.before]).sum(axis=1) + _NONE * UNIT
    return np.asarray(total, np.int64)


def classes(found: Scan, at: int, near: Ints, expected: Ints, magnitude: Ints) -> Ints:
    """Classes (n,) of the coefficients at position `at` of n tiles.

    near: `expected_near` and expected: magnitudes, (1,) or (n,), at that position; magnitude int64
    (positions + 1, n): what is known, the last row 0.
    """
    seen = np.minimum(magnitude[found.before[at]], _MOST)
    total = found.weight[at] @ seen * UNIT + _NONE * UNIT
    found = np.searchsorted(_EDGES, expected * total // near, side="right")
    return np.asarray(found, np.int64)
