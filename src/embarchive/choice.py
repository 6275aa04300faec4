"""Which of a region's decoders is worth its bytes.

A decoder costs the logarithm of the error that it leaves plus RATE for each byte a tile that it
adds, the least cost wins: a byte must take away the share of the error that a byte of the fidelity
code would. Why that rate: docs/decisions/007-decoders-by-cost.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

# Of the logarithm of the error, for a byte a tile.
RATE = 0.02
# With fewer held-out tiles there is no telling.
LEAST_TEST = 8
# No network is fitted that would have to leave less than this share of the error.
LEAST_LEFT = 0.1


@dataclass(frozen=True)
class Candidate:
    """A decoder of a region: its held-out mean squared error, None where it was not fitted, and the
    bytes that it adds for all tiles of the region, beside those of the shared network."""

    kind: str
    mse: float | None
    bytes: int


@dataclass(frozen=True)
class Choice:
    """What was chosen and why, of what, for a model card. tiles: rows of the region; test_tiles:
    those that errors are of."""

    chosen: str
    reason: str
    rate: float
    tiles: int
    test_tiles: int
    candidates: tuple[Candidate, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self) | {"candidates": [asdict(one) for one in self.candidates]}


def hopeless(size: int, tiles: int) -> bool:
    """Whether `size` bytes over so many tiles could pay only by leaving next to no error."""
    return RATE * size / max(tiles, 1) > -math.log(LEAST_LEFT)


def choose(found: Sequence[Candidate], tiles: int, test_tiles: int) -> Choice:
    """The candidate of least cost; the first, which is the shared network and adds nothing, where
    held-out tiles are too few or nothing else was fitted."""
    first, others = found[0], found[1:]
    count = max(tiles, 1)
    best = first
    if test_tiles < LEAST_TEST:
        why = f"{test_tiles} held-out tiles, fewer than {LEAST_TEST}, cannot tell what would pay"
    elif not others:
        why = "too few tiles to fit a decoder of its own to"
    else:
        best = min(found, key=lambda one: _cost(one, count))
        why = "beside the shared network " + ", ".join(_said(one, first, count) for one in others)
    reason = f"{best.kind}: {why}"
    return Choice(best.kind, reason, RATE, tiles, test_tiles, tuple(found))


def _cost(one: Candidate, tiles: int) -> float:
    if one.mse is None:
        return math.inf
    return math.log(max(one.mse, 1e-30)) + RATE * one.bytes / tiles


def _said(one: Candidate, first: Candidate, tiles: int) -> str:
    """What a candidate brings and what it would have to."""
    each = one.bytes / tiles
    asked = f"{each:.1f} bytes a tile, to pay from {100 * (1 - math.exp(-RATE * each)):.1f} %"
    if one.mse is None or first.mse is None:
        return f"{one.kind} not fitted for {asked}"
    less = 100 * (1 - one.mse / max(first.mse, 1e-30))
    return f"{one.kind} has {abs(less):.1f} % {'less' if less >= 0 else 'more'} error for {asked}"
