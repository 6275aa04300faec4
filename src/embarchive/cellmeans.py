"""Mean embeddings of cells: from rows, merged, and those of coarser cells.

Means are kept in 256ths of an int8 step, rounded half up, so that a cell of fewer than 256 rows
still tells the exact sum of its rows: cells are merged without loss there, and elsewhere by half a
256th a merge at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embarchive import geohash, rows

FINE = 256
# A level of which most cells hold few places shows little that the tiles do not.
LEAST_PLACES = 8
NO_FIRST, NO_LAST = np.iinfo(np.int64).max, np.iinfo(np.int64).min
_BLOCK, _STEP = 8192, 65_536

Codes = NDArray[np.uint64]
Longs = NDArray[np.int64]


@dataclass(frozen=True)
class Cells:
    """Cells of one space and level, sorted by code.

    codes: as `geohash.interleave` numbers them (n,); count: rows (n,); mean: int16 (n, D), 256ths
    of a step; model: who decodes it, bytes (n,); first, last: dates, microseconds since 1970,
    NO_FIRST and NO_LAST where no row has one.
    """

    level: int
    codes: Codes
    count: Longs
    mean: NDArray[np.int16]
    model: NDArray[np.bytes_]
    first: Longs
    last: Longs

    def __len__(self) -> int:
        return len(self.codes)

    def names(self) -> NDArray[np.str_]:
        """Geohashes."""
        return geohash.spell(self.codes, self.level)

    def pick(self, chosen: Any) -> Cells:
        """Some of the cells, by a mask, positions or a slice."""
        columns = (self.codes, self.count, self.mean, self.model, self.first, self.last)
        return Cells(self.level, *(column[chosen] for column in columns))


def codes_of(names: Sequence[str], level: int) -> Codes:
    """Numbers of geohashes of one length, or longer ones, at a level. Raises BadInput."""
    if not len(names):
        return np.zeros(0, np.uint64)
    short = geohash.as_names([name[:level] for name in names])
    column, row, _ = geohash.to_indices(short)
    return geohash.interleave(column, row, level)


def cells_of_rows(table: pa.Table, level: int) -> Cells:
    """The cells that rows with geohash, datetime, embedding and model_id lie in."""
    words = pc.utf8_slice_codeunits(table["geohash"], 0, level).combine_chunks().dictionary_encode()
    codes = codes_of(words.dictionary.to_pylist(), level)[words.indices.to_numpy()]
    when = rows.date_keys(table["datetime"])
    dated = when != NO_FIRST
    model = table["model_id"].cast(pa.string()).combine_chunks().dictionary_encode()
    known = np.array([name.encode() for name in model.dictionary.to_pylist()], "S64")
    each = Cells(
        level,
        codes,
        np.ones(len(table), np.int64),
        rows.embeddings(table).astype(np.int16) * np.int16(FINE),
        known[model.indices.to_numpy(zero_copy_only=False)] if len(known) else known,
        when,
        np.where(dated, when, NO_LAST),
    )
    return merge([each])


def merge(some: Sequence[Cells]) -> Cells:
    """Cells of one level as one table, those of one place as the mean of all their rows, with the
    model of the newest (of one date the greatest)."""
    return _grouped(_joined(some), vote=False)


def coarser(cells: Cells, level: int, *, finest: bool = False) -> Cells:
    """Cells of a level below that of `cells`, with the model of most rows (of equals the least);
    finest: with that of the newest row, as the finest level of a pyramid has."""
    shift = np.uint64(5 * (cells.level - level))
    columns = (cells.count, cells.mean, cells.model, cells.first, cells.last)
    return _grouped(Cells(level, cells.codes >> shift, *columns), vote=not finest)


def finest_level(spaces: Sequence[Cells], places: int, affordable: int) -> int:
    """The finest level that is worth its bytes: all levels of all spaces together have at most
    `affordable` cells, and its cells hold 8 of the archive's places or more, at the mean.

    spaces: cells of each, all of one level, which is the finest that can be."""
    level = min(cells.level for cells in spaces)
    while level > 1:
        most = max(_count(cells, level) for cells in spaces)
        total = sum(_count(cells, up) for cells in spaces for up in range(1, level + 1))
        if most * LEAST_PLACES <= places and total <= affordable:
            break
        level -= 1
    return level


def _count(cells: Cells, level: int) -> int:
    """How many cells there are at a coarser level."""
    codes = cells.codes >> np.uint64(5 * (cells.level - level))
    return int(np.count_nonzero(codes[1:] != codes[:-1])) + bool(len(codes))


def _joined(some: Sequence[Cells]) -> Cells:
    if len(some) == 1:
        return some[0]
    names = ("codes", "count", "mean", "model", "first", "last")
    return Cells(
        some[0].level, *(np.concatenate([getattr(one, name) for one in some]) for name in names)
    )


def _grouped(cells: Cells, vote: bool) -> Cells:
    """Cells of one code as one."""
    if not len(cells):
        return cells
    names, model = np.unique(cells.model, return_inverse=True)
    order = np.lexsort((model, cells.last, cells.codes))
    codes = cells.codes[order]
    starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
    count = np.add.reduceat(cells.count[order], starts)
    newest = np.r_[starts[1:], len(codes)] - 1
    chosen = _voted(cells, model) if vote else model[order][newest]
    return Cells(
        cells.level,
        codes[starts],
        count,
        _means(cells, order, starts, count),
        names[chosen],
        np.minimum.reduceat(cells.first[order], starts),
        np.maximum.reduceat(cells.last[order], starts),
    )


def _voted(cells: Cells, model: NDArray[np.intp]) -> NDArray[np.intp]:
    """The model of most rows of each code."""
    order = np.lexsort((model, cells.codes))
    codes, who = cells.codes[order], model[order]
    runs = np.flatnonzero(np.r_[True, (codes[1:] != codes[:-1]) | (who[1:] != who[:-1])])
    votes = np.add.reduceat(cells.count[order], runs)
    codes, who = codes[runs], who[runs]
    best = np.lexsort((-np.arange(len(runs)), votes, codes))
    ends = np.flatnonzero(np.r_[codes[1:] != codes[:-1], True])
    return who[best[ends]]


def _means(
    cells: Cells, order: NDArray[np.intp], starts: NDArray[np.intp], count: Longs
) -> NDArray[np.int16]:
    """Means of groups of cells, which stand in `order` from `starts` on; a part at a time."""
    ends = np.r_[starts[1:], len(order)]
    group = np.repeat(np.arange(len(starts)), ends - starts)
    out = np.empty((len(starts), cells.mean.shape[1]), np.int16)
    for first in range(0, len(starts), _BLOCK):
        last = min(first + _BLOCK, len(starts))
        sums = np.zeros((last - first, out.shape[1]), np.int64)
        for begin in range(starts[first], ends[last - 1], _STEP):
            some = slice(begin, min(begin + _STEP, ends[last - 1]))
            held = cells.mean[order[some]] * cells.count[order[some], None]
            own = group[some] - first
            at = np.flatnonzero(np.r_[True, own[1:] != own[:-1]])
            # Sums are whole numbers: rounding gives those of fewer than 256 rows back as they were.
            sums[own[at]] += np.add.reduceat((held + FINE // 2) >> 8, at, axis=0)
        n = count[first:last, None]
        out[first:last] = (2 * FINE * sums + n) // (2 * n)
    return out
