"""Which cells of a space a search of all of it looks at: the best rows of the lists that lie best.

1. Lists: those of least value, ties by number, as long as together they hold no more rows than
   `PROBED` lists of the mean size; the first in any case. The value of a list is that of its
   centroid, see step 3 of `search`. Where a share of all rows is asked for, as many more.
2. Rows: by the same value of what their codes decode to. Ties by cell.
3. Cells: the first of these rows, distinct, without the exemplars' own and those that a filter does
   not want: k where codes are exact, else k + ceil(4 k / 5). Their rows are what an exact search
   then ranks.
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


def rows_read(lists: Lists, share: float = 1.0) -> float:
    """How many rows a search that wants a share of all looks at, at most."""
    return PROBED * lists.total / len(lists.rows) / max(share, 1e-9)


def find(overview: Overview, lists: Lists, query: Query, wanted: Filter, share: float) -> Found:
    """The cells of a search that wants a share of all rows, see above. Raises Damaged,
    GenerationExpired."""
    exemplars = np.concatenate([query.positives, query.negatives])
    near = combined(lists.coarse.distances(exemplars), query, mean=True)
    order = np.argsort(near, kind="stable")
    held = np.cumsum(lists.rows[order])
    # A first list without rows is no reason to read none.
    most = max(rows_read(lists, share), held[held > 0][0])
    read = overview.read(lists, np.sort(order[: np.searchsorted(held, most, side="right")]))
    rows = np.concatenate([lists.coarse.decode(codes, one) for one, codes, _ in read], axis=1)
    cells = np.concatenate([own for _, _, own in read])
    gaps = squared_l2_many(rows.T, exemplars)
    values = np.asarray(combined(gaps, query, mean=True), np.float64)
    count = query.k if lists.coarse.exact else query.k + -(-4 * query.k // 5)
    chosen = _first(values, cells, set(query.exclude), wanted, count, overview.precision)
    return Found(tuple(sorted(chosen)), len(cells))


def _first(
    values: NDArray[np.float64], cells: Cells, own: Collection[str], wanted: Filter, count: int,
    precision: int,
) -> list[str]:  # fmt: skip
    """The first cells by value that are wanted and not the exemplars' own."""
    size = 4 * count
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
