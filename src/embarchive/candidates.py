"""Which cells of a space a search of all of it looks at: the best rows of the lists that lie best.

1. Lists: the `PROBED` of least value, ties by number; the value of a list is that of its centroid,
   see step 3 of `search`. Among rows of which a share is asked for, as many more.
2. Rows: by the same value of what their codes decode to; distances are of whole numbers. Ties by
   cell.
3. Cells: the first k + ceil(4 k / 5) distinct cells of these rows, without the exemplars' own and
   those that a filter does not want. Their rows are what an exact search then ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import geohash
from embarchive.filters import Filter, row_mask
from embarchive.inverted import Cells
from embarchive.overview import Lists, Overview
from embarchive.quantize import squared_l2_many
from embarchive.search import LOGIC, Query, combined

# Lists that a search of all rows reads; chosen in docs/decisions/016.
PROBED = 60


@dataclass(frozen=True)
class Found:
    """Cells to rank exactly, sorted, and the number of rows whose codes were compared."""

    cells: tuple[str, ...]
    rows: int


def serves(
    wanted: Filter, exact: bool = False, invert: bool = False, op: str = "mean", **_: Any
) -> bool:
    """Whether lists can stand in for the rows of a search: not where it is exact, the farthest are
    asked for, rows are ranked by bits, or dates or a band choose among them."""
    return not (exact or invert or op in LOGIC or wanted.dated or wanted.band)


def how_many(lists: Lists, share: float = 1.0) -> int:
    """How many lists a search reads that wants a share of all rows."""
    return min(len(lists.rows), math.ceil(PROBED / max(share, 1e-9)))


def find(overview: Overview, lists: Lists, query: Query, wanted: Filter, share: float) -> Found:
    """The cells of a search that wants a share of all rows, see above. Raises Damaged,
    GenerationExpired."""
    exemplars = np.concatenate([query.positives, query.negatives])
    near = combined(lists.coarse.distances(exemplars), query, mean=True)
    probed = np.argsort(near, kind="stable")[: how_many(lists, share)]
    values, cells = [np.zeros(0)], [np.zeros(0, np.uint64)]
    for number, codes, own in overview.read(lists, np.sort(probed)):
        decoded = lists.coarse.quantiser.decode(codes)
        gaps = squared_l2_many(decoded, lists.coarse.asked(exemplars, number))
        values.append(np.asarray(combined(gaps, query, mean=True), np.float64))
        cells.append(own)
    rows = np.concatenate(values), np.concatenate(cells)
    chosen = _first(*rows, query, wanted, overview.precision)
    return Found(tuple(sorted(chosen)), len(rows[0]))


def _first(
    values: NDArray[np.float64], cells: Cells, query: Query, wanted: Filter, precision: int
) -> list[str]:
    """The first cells by value that are wanted."""
    count = query.k + -(-4 * query.k // 5)
    own, found, size = set(query.exclude), dict[str, None](), 4 * count
    while True:
        order = _least(values, cells, size)
        names = geohash.spell(cells[order], precision).tolist()
        table = pa.table({"geohash": pa.array(names, pa.string())})
        keep = row_mask(table, wanted) if not wanted.everything else np.ones(len(names), bool)
        kept = (name for name, good in zip(names, keep.tolist(), strict=True) if good)
        found = dict.fromkeys(name for name in kept if name not in own)
        if len(found) >= count or len(order) == len(values):
            return list(found)[:count]
        size *= 8


def _least(values: NDArray[np.float64], cells: Cells, size: int) -> NDArray[np.intp]:
    """Rows of the `size` least values in order, ties by cell; all ties of the last are in it."""
    some: NDArray[Any] = np.arange(len(values))
    if len(values) > size:
        some = np.flatnonzero(values <= np.partition(values, size - 1)[size - 1])
    return some[np.lexsort((cells[some], values[some]))]
