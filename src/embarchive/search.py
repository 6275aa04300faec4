"""Ranking rows by similarity: a Hamming shortlist, then exact distances of int8 vectors.

The definition is shared with SQL and the page, so every step is integer or one stated
float64 operation, and every tie is broken by (geohash, datetime, source), null dates last:

1. Candidates: the rows given, without the exemplars' own cells.
2. Shortlist: the max(200, 20 k) places (or rows, `per_place=0`) of least Hamming number.
   op "mean": n' sum over positives - p' sum over negatives, with p' : n' their counts in lowest
   terms (so that it orders as step 3 does, in integers); "min": least - least.
3. Value: with d2 the squared L2 distance of int8 vectors, op "mean": sum / p - sum / n;
   "min": least - least. `invert` turns 2 and 3 around (0 - number).
4. Score = value * scale^2, ascending: a squared distance in embedding units.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.quantize import SimHash, hamming, squared_l2
from embarchive.rows import SIDES, bit_rows, embeddings, place_keys, sort_rows

OPS = ("mean", "min")
NEEDS = ("geohash", "datetime", "source", "model_id", "valid_fraction", "embedding")
_BOX = pa.struct([pa.field(side, pa.float64(), nullable=False) for side in SIDES])


@dataclass(frozen=True)
class Query:
    """What to rank by: positives int8 (p, D), negatives int8 (n, D), and the exemplars'
    own geohashes to leave out. Raises BadInput."""

    positives: NDArray[np.int8]
    negatives: NDArray[np.int8]
    k: int = 50
    op: str = "mean"
    invert: bool = False
    exact: bool = False
    per_place: int = 1
    exclude: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        check_options(self.k, self.op, self.per_place)
        if not len(self.positives):
            raise BadInput("search: expected at least one exemplar in like, found none")
        if self.positives.shape[1:] != self.negatives.shape[1:]:
            raise BadInput(
                f"search: expected vectors of one length, found {self.positives.shape[1]} in "
                f"like and {self.negatives.shape[1]} in unlike"
            )

    @property
    def weights(self) -> tuple[int, int]:
        """What sums of integers over positives and over negatives are multiplied with, to
        compare as their means do."""
        p, n = len(self.positives), len(self.negatives)
        common = math.gcd(p, n)
        return (n // common, p // common) if n else (1, 0)

    @property
    def shortlist(self) -> int:
        """How many places (or rows) pass from Hamming to exact distances."""
        return max(200, 20 * self.k)


def check_options(k: int = 50, op: str = "mean", per_place: int = 1, **_: Any) -> None:
    """Raises BadInput unless k >= 1, op is known and per_place is 0 or 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadInput(f"search: k must be at least 1, found {k}")
    if op not in OPS:
        raise BadInput(f"search: op must be one of {', '.join(OPS)}, found {op!r}")
    if per_place not in (0, 1):
        raise BadInput(f"search: per_place must be 0 or 1, found {per_place}")


def rank(
    table: pa.Table, query: Query, simhash: SimHash | None, scale: float, extra: Sequence[str] = ()
) -> pa.Table:
    """The best k rows as a table of hits, best first.

    table: the columns of `NEEDS`, `bits` unless simhash is None, and those of `extra`; any
    order. Hits: geohash, datetime, source, score float64, hamming int32 (null without
    bits), model_id, valid_fraction, bbox (the cell's float64 bounds), then `extra`.
    """
    rows = sort_rows(table)
    places = place_keys(rows["geohash"])
    own = place_keys(pa.array(sorted(set(query.exclude)), pa.string()))
    index = np.flatnonzero(~np.isin(places, own)) if len(own) else np.arange(len(rows))
    votes = None if simhash is None else _votes(bit_rows(rows), query, simhash)
    if votes is not None and not query.exact and len(index):
        index = index[_shortlist(votes[index], places[index], query)]
    value = _values(embeddings(rows)[index], query)
    score = value * (scale * scale)
    best = _first(score, places[index], query)
    chosen = index[best]
    return _hits(rows, chosen, score[best], None if votes is None else votes[chosen], extra)


def query_bits(vectors: NDArray[np.int8], simhash: SimHash) -> NDArray[np.uint8]:
    """SimHash of exemplars int8 (p, D): uint8 (p, B / 8)."""
    return simhash.encode(np.ascontiguousarray(vectors, dtype=np.int8))


def _votes(bits: NDArray[np.uint8], query: Query, simhash: SimHash) -> NDArray[np.int32]:
    """Hamming number of each row, int32 (n,)."""

    def distances(vectors: NDArray[np.int8]) -> list[NDArray[np.int32]]:
        return [hamming(bits, code).astype(np.int32) for code in query_bits(vectors, simhash)]

    found = _combine(distances(query.positives), distances(query.negatives), query, mean=False)
    return cast("NDArray[np.int32]", found)


def _values(vectors: NDArray[np.int8], query: Query) -> NDArray[np.float64]:
    """The exact value of each row, float64 (n,)."""

    def distances(exemplars: NDArray[np.int8]) -> list[NDArray[np.int64]]:
        return [squared_l2(vectors, one.astype(np.int64)).astype(np.int64) for one in exemplars]

    found = _combine(distances(query.positives), distances(query.negatives), query, mean=True)
    return cast("NDArray[np.float64]", found.astype(np.float64))


def _combine(near: list[Any], far: list[Any], query: Query, mean: bool) -> Any:
    """Numbers to positives against numbers to negatives. `mean` divides the sums, each an
    exact integer, by their count; else they are weighed by `Query.weights`. The order of these
    operations is part of the definition."""

    def reduce(parts: list[Any], weight: int) -> Any:
        if query.op == "min":
            return np.minimum.reduce(parts)
        total = np.add.reduce(parts)
        return total.astype(np.float64) / len(parts) if mean else total * weight

    positive, negative = query.weights
    total = reduce(near, positive)
    if far:
        total = total - reduce(far, negative)
    return 0 - total if query.invert else total


def _shortlist(
    votes: NDArray[np.int32], places: NDArray[np.int64], query: Query
) -> NDArray[np.intp]:
    """Positions of the rows that pass, ascending. Rows are sorted, so order breaks ties."""
    if not query.per_place:
        return _least(votes, query.shortlist)
    starts = np.flatnonzero(np.r_[True, places[1:] != places[:-1]])
    chosen = _least(np.minimum.reduceat(votes, starts), query.shortlist)
    passed = np.zeros(len(starts), dtype=bool)
    passed[chosen] = True
    return np.flatnonzero(np.repeat(passed, np.diff(np.r_[starts, len(places)])))


def _least(values: NDArray[np.int32], count: int) -> NDArray[np.intp]:
    """Positions of the `count` least values, ties by position, ascending by position."""
    if len(values) <= count:
        return np.arange(len(values))
    limit = np.partition(values, count - 1)[count - 1]
    below = np.flatnonzero(values < limit)
    ties = np.flatnonzero(values == limit)[: count - len(below)]
    return np.sort(np.r_[below, ties])


def _first(score: NDArray[np.float64], places: NDArray[np.int64], query: Query) -> NDArray[np.intp]:
    """Positions of the k best rows, or of the best row of the k best places."""
    order = np.argsort(score, kind="stable")
    if query.per_place:
        _, first = np.unique(places[order], return_index=True)
        order = order[np.sort(first)]
    return order[: query.k]


def _hits(
    rows: pa.Table,
    chosen: NDArray[np.intp],
    score: NDArray[np.float64],
    votes: NDArray[np.int32] | None,
    extra: Sequence[str],
) -> pa.Table:
    found = rows.take(chosen)
    names = np.asarray(found["geohash"].to_pylist(), dtype=np.str_)
    sides = grid.bounds(names) if len(names) else np.zeros((0, 4))
    columns: dict[str, Any] = {
        "geohash": found["geohash"],
        "datetime": found["datetime"],
        "source": found["source"].cast(pa.string()),
        "score": pa.array(score, pa.float64()),
        "hamming": pa.nulls(len(found), pa.int32()) if votes is None else pa.array(votes),
        "model_id": found["model_id"].cast(pa.string()),
        "valid_fraction": found["valid_fraction"],
        "bbox": pa.StructArray.from_arrays(
            [pa.array(side) for side in sides.T.copy()], fields=list(_BOX)
        ),
    }
    for name in extra:
        columns.setdefault(name, found[name])
    return pa.table(columns)
