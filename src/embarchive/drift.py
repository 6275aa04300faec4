"""Whether a held decoder still fits: a cumulative sum of how far errors lie above its level.

Tiles come in the order of their dates. The errors of BATCH tiles are averaged and divided by the
held-out error that the decoder had when it was fitted; the logarithm of that, less ALLOWANCE, is
summed up, never below zero, and a sum above the bound is drift (Page 1954, Continuous inspection
schemes). The logarithm and the batches keep a few odd tiles from being taken for a season.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BATCH = 8
# Of the logarithm of a batch: errors up to a fifth above the level are not drift.
ALLOWANCE = 0.2
# Share of a tile that is data and not cloud, for it to count.
CLEAR = 0.9
# Where the encoder is at fault: the error that a new decoder leaves, in levels of the old one, and
# the share of numbers that int8 cuts off.
FAR, CLIPPED = 2.0, 0.01
# Regions that a summary names.
WORST = 20

Errors = NDArray[np.float64]


@dataclass(frozen=True)
class Watch:
    """What watching a region gave: clear tiles seen, the mean of their errors as a multiple of the
    level (NaN of none), the highest sum, and after how many tiles it passed the bound (None)."""

    tiles: int
    ratio: float
    highest: float
    alarm: int | None


def watch(errors: Errors, level: float, bound: float) -> Watch:
    """Watch the errors of tiles float64 (n,), in order; level, of the same unit, is above 0."""
    sums = cumulative(errors, level)
    above = np.flatnonzero(sums > bound)
    return Watch(
        tiles=len(errors),
        ratio=float(errors.mean() / level) if len(errors) else float("nan"),
        highest=float(sums.max(initial=0.0)),
        alarm=min(BATCH * (int(above[0]) + 1), len(errors)) if len(above) else None,
    )


def cumulative(errors: Errors, level: float) -> Errors:
    """The sum after each batch, float64 (batches,); a last batch of fewer tiles counts by them."""
    found = np.zeros(-(-len(errors) // BATCH))
    total = 0.0
    for i in range(len(found)):
        some = errors[i * BATCH : (i + 1) * BATCH]
        above = float(np.log(max(some.mean(), 1e-30) / level)) - ALLOWANCE
        total = max(0.0, total + above * len(some) / BATCH)
        found[i] = total
    return found


def beyond_decoders(alarm: bool, left: float, level: float, clipped: float) -> bool:
    """Whether only another encoder would help: left, the error of the best decoder there is, stays
    far above the level, or int8 cuts off too many numbers."""
    return clipped > CLIPPED or (alarm and left > FAR * level)


def summary(records: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What the records of regions say together, for the archive to keep; None where no tile was
    watched. records: see `step_drift.watch`."""
    seen = [record for record in records if record["tiles"]]
    if not seen:
        return None
    found = [record for record in seen if record["alarm"] is not None]
    encoder = [record for record in seen if record["encoder"]]
    told = sorted({r["region"]: r for r in [*found, *encoder]}.values(), key=lambda r: -r["ratio"])
    keys = ("region", "ratio", "alarm", "before", "after", "clipped", "encoder")
    return {
        "watched": len(seen),
        "drifted": len(found),
        "refitted": sum(record["model"] is not None for record in seen),
        "reencode": len(encoder),
        "worst": [{key: record[key] for key in keys} for record in told[:WORST]],
    }
