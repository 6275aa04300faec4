"""The best rows of chunks by some value: a running table of them, ties by the order of rows."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive.rows import place_keys, sort_rows

VALUE = "embarchive.value"


class Best:
    """The best rows so far by some value, at most one a place if `per_place`: a table sorted as
    rows are, its last column the values."""

    def __init__(self, count: int, per_place: int) -> None:
        self.rows = pa.table({})
        self._count, self._per_place = count, per_place
        self._limit: Any = np.inf

    def add(
        self,
        rows: pa.Table,
        places: NDArray[np.int64],
        index: NDArray[np.intp],
        values: NDArray[Any],
    ) -> None:
        """Looks at the indexed ones of sorted rows, which have these values."""
        some = values <= self._limit
        index, values = index[some], values[some]
        first = _first(values, places[index], self._count, self._per_place)
        if not len(first) and self.rows.num_columns:
            return
        kept = rows.take(index[first]).append_column(VALUE, pa.array(values[first]))
        if len(self.rows):
            kept = pa.concat_tables([self.rows, kept]).unify_dictionaries()
        kept = sort_rows(kept)
        if len(self.rows):
            there = place_keys(kept["geohash"])
            kept = kept.take(_first(self.values(kept), there, self._count, self._per_place))
            kept = sort_rows(kept)
        self.rows = kept
        if len(kept) == self._count:
            self._limit = self.values(kept).max()

    @staticmethod
    def values(rows: pa.Table) -> NDArray[Any]:
        """The values of rows."""
        return cast("NDArray[Any]", rows[VALUE].combine_chunks().to_numpy())


def _first(
    values: NDArray[Any], places: NDArray[np.int64], count: int, per_place: int
) -> NDArray[np.intp]:
    """Positions of the rows of least value, or of the best row of the best places, best first.
    Rows are sorted, so order breaks ties."""
    if per_place and len(values):
        starts = np.flatnonzero(np.r_[True, places[1:] != places[:-1]])
        lows = np.minimum.reduceat(values, starts)
        chosen = _least(lows, count)
        spans = zip(starts[chosen], np.r_[starts, len(places)][chosen + 1], strict=True)
        found = np.array([a + int(np.argmin(values[a:b])) for a, b in spans], dtype=np.intp)
    else:
        found = _least(values, count)
    return found[np.argsort(values[found], kind="stable")]


def _least(values: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Positions of the `count` least values, ties by position, ascending by position."""
    if len(values) <= count:
        return np.arange(len(values))
    limit = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < limit)
    ties = np.flatnonzero(values == limit)[: count - len(below)]
    return np.sort(np.r_[below, ties])
