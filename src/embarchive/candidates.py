"""Which cells of a space a search of all of it looks at: the best rows of the lists that lie best.

1. Lists: those of least value, ties by number, as long as together they hold no more rows than
   `PROBED` lists of the mean size, or 64 k; the first in any case. The value of a list is that of
   its centroid, see step 3 of `search`. Where a filter wants a share of all rows, as many more.
2. Rows: by the same value of what their codes decode to. Ties by cell.
3. Cells: the first of these rows, distinct, without the exemplars' own and those that a filter does
   not want: k where codes are exact, else k + ceil(4 k / 5). Their rows are what an exact search
   then ranks. Where there are not so many, four times the rows are read, until there are or all is.
"""

from __future__ import annotations

from collections.abc import Collection
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

# Lists, of the mean size, that a search of all rows reads; chosen in docs/decisions/016.
PROBED = 17
# Rows that are compared for each hit at least: few of a small archive, but not fewer than hits.
FOR_A_HIT = 64


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


def rows_read(lists: Lists, k: int, share: float = 1.0) -> float:
    """How many rows a search that wants a share of all looks at first, at most."""
    return max(PROBED * lists.total / len(lists.rows), FOR_A_HIT * k) / max(share, 1e-9)


def find(
    overview: Overview, lists: Lists, query: Query, wanted: Filter, share: float, limit: float
) -> Found | None:
    """The cells of a search, see above; None where more than `limit` rows would have to be read.

    share: of the space's rows that are wanted, at most; what a filter leaves of the rows read says
    how many it is. Raises Damaged, GenerationExpired.
    """
    exemplars = np.concatenate([query.positives, query.negatives])
    near = combined(lists.coarse.distances(exemplars), query, mean=True)
    order = np.argsort(near, kind="stable")
    held = np.cumsum(lists.rows[order])
    count = query.k if lists.coarse.exact else query.k + -(-4 * query.k // 5)
    # A first list without rows is no reason to read none.
    most, at = max(rows_read(lists, query.k, share), held[held > 0][0]), 0
    values, cells = [np.zeros(0)], [np.zeros(0, np.uint64)]
    while True:
        end = int(np.searchsorted(held, most, side="right"))
        for one, codes, own in overview.read(lists, np.sort(order[at:end])):
            keep = _wanted(own, wanted, overview.precision)
            gaps = squared_l2_many(lists.coarse.decode(codes, one).T[keep], exemplars)
            values.append(np.asarray(combined(gaps, query, mean=True), np.float64))
            cells.append(own[keep])
        rows = np.concatenate(values), np.concatenate(cells)
        chosen = _first(*rows, set(query.exclude), count, overview.precision)
        total = int(held[end - 1])
        needed = rows_read(lists, query.k, len(rows[0]) / total)
        if end == len(order) or (len(chosen) >= count and 2 * total >= needed):
            return Found(tuple(sorted(chosen)), total)
        most, at = max(4 * most if len(chosen) < count else needed, held[end]), end
        if most > limit:
            return None


def _wanted(cells: Cells, wanted: Filter, precision: int) -> NDArray[np.bool_]:
    if wanted.everything:
        return np.ones(len(cells), bool)
    names = geohash.spell(cells, precision).tolist()
    return row_mask(pa.table({"geohash": pa.array(names, pa.string())}), wanted)


def _first(
    values: NDArray[np.float64], cells: Cells, own: Collection[str], count: int, precision: int
) -> list[str]:
    """The first cells by value that are not the exemplars' own."""
    size = 4 * count
    while True:
        order = _least(values, cells, size)
        names = dict.fromkeys(geohash.spell(cells[order], precision).tolist())
        found = [name for name in names if name not in own]
        if len(found) >= count or len(order) == len(values):
            return found[:count]
        size *= 8


def _least(values: NDArray[np.float64], cells: Cells, size: int) -> NDArray[np.intp]:
    """Rows of the `size` least values in order, ties by cell; all ties of the last are in it."""
    some: NDArray[Any] = np.arange(len(values))
    if len(values) > size:
        some = np.flatnonzero(values <= np.partition(values, size - 1)[size - 1])
    return some[np.lexsort((cells[some], values[some]))]
