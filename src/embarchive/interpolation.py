"""The straight line between two vectors, and the nearest tile at each of its steps: the definition.

Step i of n lies at a + (b - a) i / (n - 1), each number rounded to the nearest integer (a half goes
up), so that distances are those of the search: integers. Each step takes the nearest place that no
other has taken: first the two ends, then the steps between in order. After Tile2Vec's walks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput

LEAST_STEPS, MOST_STEPS = 2, 256

Int8s = NDArray[np.int8]


def check_steps(steps: int) -> None:
    """Raises BadInput outside 2..256."""
    whole = isinstance(steps, int) and not isinstance(steps, bool)
    if not whole or not LEAST_STEPS <= steps <= MOST_STEPS:
        raise BadInput(f"path: expected {LEAST_STEPS} to {MOST_STEPS} steps, found {steps}")


def line(a: Int8s, b: Int8s, steps: int) -> Int8s:
    """The steps from a (D,) to b (D,), both included: int8 (steps, D). Raises BadInput."""
    check_steps(steps)
    turn, last = np.arange(steps, dtype=np.int64)[:, None], steps - 1
    sums = a.astype(np.int64) * (last - turn) + b.astype(np.int64) * turn
    return ((2 * sums + last) // (2 * last)).astype(np.int8)


def distinct(ranked: Sequence[Sequence[str]]) -> list[int]:
    """Which of its ranked places each step takes: positions (steps,). ranked: of each step places
    from the nearest on, at least as many as steps where there are so many. Raises BadInput when
    there are fewer."""
    steps = len(ranked)
    taken: set[str] = set()
    chosen = [0] * steps
    for step in [0, steps - 1, *range(1, steps - 1)]:
        free = next((i for i, name in enumerate(ranked[step]) if name not in taken), None)
        if free is None:
            raise BadInput(f"path: expected at least {steps} places, found {len(taken)}")
        chosen[step] = free
        taken.add(ranked[step][free])
    return chosen
