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

The ops "and", "or", "xor", "majority" make one code of the positives' bits ("majority": 1 where
more than half of them have 1, so that a tie is 0) and rank by it alone, without 2 to 4. Hamming
number: that to the code, times n, - the sum over negatives; score = number / n: the distance to
the code less the mean distance to negatives, in bits.

Rows may come in any chunks: the hits are those of one table of all rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import bitcount, shortlist
from embarchive.best import VALUE, Best
from embarchive.errors import BadInput
from embarchive.quantize import SimHash, squared_l2_many
from embarchive.rows import (
    ORDER,
    bit_rows,
    embeddings,
    exact_boxes,
    place_keys,
    place_names,
    sort_rows,
)

LOGIC = ("and", "or", "xor", "majority")
OPS = ("mean", "min", *LOGIC)
NEEDS = ("geohash", "datetime", "source", "model_id", "valid_fraction", "embedding")
_SLICE = 32_768
# Chunks of rows with at least these columns, of these cells (none named: of all). Rows of other
# cells may come along.
Read = Callable[[Sequence[str], Sequence[str]], Iterable[pa.Table]]


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
        p, n = 1 if self.op in LOGIC else len(self.positives), len(self.negatives)
        common = math.gcd(p, n)
        return (n // common, p // common) if n else (1, 0)

    @property
    def shortlist(self) -> int:
        """How many places (or rows) pass from Hamming to exact distances."""
        return max(200, 20 * self.k)

    def has_shortlist(self, simhash: SimHash | None) -> bool:
        """Whether Hamming numbers choose what exact distances rank."""
        return simhash is not None and not self.exact and self.op not in LOGIC

    def needs(self, simhash: SimHash | None) -> list[str]:
        """The columns of a candidate."""
        names = [name for name in NEEDS if self.op not in LOGIC or name != "embedding"]
        return names if simhash is None else [*names, "bits"]


def check_options(k: int = 50, op: str = "mean", per_place: int = 1, **_: Any) -> None:
    """Raises BadInput unless k >= 1, op is known and per_place is 0 or 1."""
    if isinstance(k, bool) or not isinstance(k, int) or k < 1:
        raise BadInput(f"search: k must be at least 1, found {k}")
    if op not in OPS:
        raise BadInput(f"search: op must be one of {', '.join(OPS)}, found {op!r}")
    if per_place not in (0, 1):
        raise BadInput(f"search: per_place must be 0 or 1, found {per_place}")


def check_bits(op: str, simhash: SimHash | None) -> None:
    """Raises BadInput for an op on bits in a space that has none."""
    if op in LOGIC and simhash is None:
        raise BadInput(f"search: op {op!r} needs bits, found an archive without")


def rank(
    table: pa.Table, query: Query, simhash: SimHash | None, scale: float, extra: Sequence[str] = ()
) -> pa.Table:
    """The best k rows as a table of hits, best first.

    table: the columns of `Query.needs`, and those of `extra`; any order. Hits: geohash, datetime,
    source, score float64, hamming int32 (null without bits), model_id, valid_fraction, bbox (the
    cell's float64 bounds), then `extra`. Raises BadInput.
    """
    return rank_all(lambda columns, cells: [table], [query], simhash, scale, extra)[0]


def rank_all(
    read: Read,
    queries: Sequence[Query],
    simhash: SimHash | None,
    scale: float,
    extra: Sequence[str] = (),
    threads: int = 1,
) -> list[pa.Table]:
    """Hits of several queries, which differ in exemplars alone, each as of `rank`.

    read: the candidates, each row once, in chunks of any size and order. With a shortlist it is
    called twice, first for what the shortlist needs. One chunk is in memory at a time.
    """
    one = queries[0]
    check_bits(one.op, simhash)
    own = [place_keys(pa.array(sorted(set(query.exclude)), pa.string())) for query in queries]
    columns = [*one.needs(simhash), *extra]
    if simhash is None or not one.has_shortlist(simhash):
        chunks, passed = read(columns, ()), None
    else:
        passed = _passing(read([*ORDER, "bits"], ()), queries, own, (simhash, threads))
        cells = place_names(np.unique(np.concatenate(passed)))
        # Without a candidate one chunk says what columns there are.
        chunks = read(columns, cells) if cells else islice(read(columns, ()), 1)
    # Of a shortlist of rows, not places, each row has to pass again by its number.
    rows_pass = passed is not None and not one.per_place
    voted = simhash if rows_pass or one.op in LOGIC else None
    best = [Best(one.shortlist if rows_pass else one.k, one.per_place) for _ in queries]
    for rows in _slices(chunks):
        places = place_keys(rows["geohash"])
        index = [
            np.flatnonzero(np.isin(places, keys, invert=passed is None))
            for keys in (own if passed is None else passed)
        ]
        values = _values(rows, index, queries, voted, together=passed is None)
        for keeper, some, value in zip(best, index, values, strict=True):
            keeper.add(rows, places, some, value)
    if rows_pass:
        best = [_again(keeper, query) for keeper, query in zip(best, queries, strict=True)]
    return [
        _hits(keeper.rows, query, simhash, scale, extra)
        for keeper, query in zip(best, queries, strict=True)
    ]


def query_bits(vectors: NDArray[np.int8], simhash: SimHash) -> NDArray[np.uint8]:
    """SimHash of exemplars int8 (p, D): uint8 (p, B / 8)."""
    return simhash.encode(np.ascontiguousarray(vectors, dtype=np.int8))


def codes(query: Query, simhash: SimHash) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The codes that rows are compared with, near and far, uint8 (p or 1, B / 8) and (n, B / 8)."""
    near = query_bits(query.positives, simhash)
    if query.op in LOGIC:
        near = combine_codes(near, query.op)[None]
    return near, query_bits(query.negatives, simhash)


def combine_codes(bits: NDArray[np.uint8], op: str) -> NDArray[np.uint8]:
    """One code uint8 (W,) of several (p, W): and, or, xor of each bit, or what more than half of
    them have (as many of both: 0)."""
    if op == "majority":
        votes = np.unpackbits(bits, axis=1).sum(axis=0, dtype=np.int64)
        return np.packbits(2 * votes > len(bits))
    kind = {"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[op]
    return cast("NDArray[np.uint8]", kind.reduce(bits, axis=0))


def _passing(
    chunks: Iterable[pa.Table],
    queries: Sequence[Query],
    own: Sequence[NDArray[np.int64]],
    by: tuple[SimHash, int],
) -> list[NDArray[np.int64]]:
    """The places of each query's shortlist."""
    simhash, threads = by

    def asked(query: Query, keys: NDArray[np.int64]) -> shortlist.Votes:
        plain = len(query.positives) == 1 and not len(query.negatives) and not query.invert
        combine = None if plain else partial(_combine, query=query, mean=False)
        return shortlist.Votes(*codes(query, simhash), combine, keys)

    found = shortlist.least(
        ((bit_rows(chunk), place_keys(chunk["geohash"])) for chunk in chunks if len(chunk)),
        [asked(query, keys) for query, keys in zip(queries, own, strict=True)],
        queries[0].shortlist,
        queries[0].per_place,
        threads,
    )
    return [places for places, _ in found]


def _values(
    rows: pa.Table,
    index: Sequence[NDArray[np.intp]],
    queries: Sequence[Query],
    voted: SimHash | None,
    together: bool,
) -> list[NDArray[Any]]:
    """What orders the indexed rows of each query: Hamming numbers int32 if `voted`, else exact
    values float64. together: most rows are wanted by all queries."""
    if voted is not None:
        bits = bit_rows(rows)
        return [_votes(bits[some], q, voted) for some, q in zip(index, queries, strict=True)]
    vectors = embeddings(rows)
    if not together:
        return [_exact(vectors[some], q) for some, q in zip(index, queries, strict=True)]
    every = np.concatenate([np.concatenate([q.positives, q.negatives]) for q in queries])
    found = squared_l2_many(vectors, every)
    ends = np.cumsum([len(q.positives) + len(q.negatives) for q in queries]).tolist()
    return [
        combined(found[start:end], query, mean=True)[some].astype(np.float64)
        for start, end, query, some in zip([0, *ends], ends, queries, index, strict=False)
    ]


def _votes(bits: NDArray[np.uint8], query: Query, simhash: SimHash) -> NDArray[np.int32]:
    """Hamming number of each row, int32 (n,)."""
    found = bitcount.counts(bits, np.concatenate(codes(query, simhash))).astype(np.int32)
    return cast("NDArray[np.int32]", combined(found, query, mean=False))


def _exact(vectors: NDArray[np.int8], query: Query) -> NDArray[np.float64]:
    """The exact value of each row, float64 (n,)."""
    found = squared_l2_many(vectors, np.concatenate([query.positives, query.negatives]))
    return cast("NDArray[np.float64]", combined(found, query, mean=True).astype(np.float64))


def combined(numbers: NDArray[Any], query: Query, mean: bool) -> NDArray[Any]:
    """Numbers to all exemplars (p + n, rows), each an integer, as one of each row: step 3 where
    `mean`, else step 2."""
    near = len(numbers) - len(query.negatives)
    return cast("NDArray[Any]", _combine(list(numbers[:near]), list(numbers[near:]), query, mean))


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


def _again(short: Best, query: Query) -> Best:
    """The best rows of a shortlist by their exact values."""
    rows = short.rows.drop_columns([VALUE])
    best = Best(query.k, query.per_place)
    every = np.arange(len(rows))
    best.add(rows, place_keys(rows["geohash"]), every, _exact(embeddings(rows), query))
    return best


def _slices(chunks: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The chunks in sorted pieces that keep what is computed of them small; at least one."""
    for chunk in chunks:
        rows = sort_rows(chunk)
        for start in range(0, max(len(rows), 1), _SLICE):
            yield rows.slice(start, _SLICE).combine_chunks()


def _hits(
    best: pa.Table, query: Query, simhash: SimHash | None, scale: float, extra: Sequence[str]
) -> pa.Table:
    order = np.argsort(Best.values(best), kind="stable")
    found = best.take(order)
    value = Best.values(found)
    votes = None if simhash is None else pa.array(_votes(bit_rows(found), query, simhash))
    score = value / max(1, len(query.negatives)) if query.op in LOGIC else value * (scale * scale)
    columns: dict[str, Any] = {
        "geohash": found["geohash"],
        "datetime": found["datetime"],
        "source": found["source"].cast(pa.string()),
        "score": pa.array(score, pa.float64()),
        "hamming": pa.nulls(len(found), pa.int32()) if votes is None else votes,
        "model_id": found["model_id"].cast(pa.string()),
        "valid_fraction": found["valid_fraction"],
        "bbox": exact_boxes(found["geohash"]),
    }
    for name in extra:
        columns.setdefault(name, found[name])
    return pa.table(columns)
