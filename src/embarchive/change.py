"""What changed between windows of time, and where it changed alike: the definition.

1. Of every place and window the row of highest valid_fraction, at least `LEAST`; of equal ones the
   first by (datetime, source). A place counts that has one in every window.
2. dz: the int8 vector of a window less that of the window before it, int16; of several windows
   joined. change = |dz|^2 * scale^2: a squared distance in embedding units.
3. v: dz in sixteenths of what is usual between these windows, see `fit_usual`; or dz, `plain`.
4. Without exemplars score = |v|^2 / m with m the lower median of |v|^2 over all places, at least 1;
   plain: change. With exemplars: only places whose |v|^2 is at least that of the share `floor` of
   all places, and not 0; score = mean over like of cos - mean over unlike of cos, with
   cos = (v . q) / sqrt(|v|^2 * |q|^2).
5. The exemplars' own cells are left out; greatest score first, ties by geohash.

All but the fit of 3 are integers and the float64 operations that are stated; the statement in
docs/commands.md gives the same for plain in SQL.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive.errors import BadInput
from embarchive.exemplars import GOOD, Place, parse
from embarchive.filters import Dates, Filter, make_filter
from embarchive.rows import embeddings, exact_boxes, place_keys, sort_rows

LEAST = GOOD
FLOOR = 0.75
MOST_WINDOWS = 16
_CHUNK = 65_536
_UNIT = 4096

Ints = NDArray[np.int64]
Steps = NDArray[np.int16]
Changes = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Asked:
    """How to rank changes: k hits; floor: share of places that changed too little to be compared;
    least: valid_fraction of rows; plain: differences as they are. Raises BadInput."""

    k: int = 50
    floor: float = FLOOR
    least: float = LEAST
    plain: bool = False

    def __post_init__(self) -> None:
        if isinstance(self.k, bool) or not isinstance(self.k, int) or self.k < 1:
            raise BadInput(f"change: k must be at least 1, found {self.k}")
        for name, value in (("floor", self.floor), ("valid", self.least)):
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise BadInput(f"change: expected {name} as a share from 0 to 1, found {value}")


@dataclass(frozen=True)
class Example:
    """A place whose change is asked for, and its windows (none: those of the question)."""

    place: Place
    windows: tuple[Filter, ...]


def windows_of(items: Sequence[Dates]) -> tuple[Filter, ...]:
    """Two windows or more as filters on time alone, as they were given. Raises BadInput."""
    if not 2 <= len(items) <= MOST_WINDOWS:
        raise BadInput(f"change: expected 2 to {MOST_WINDOWS} windows of time, found {len(items)}")
    found = tuple(make_filter(when=one) for one in items)
    for one, said in zip(found, items, strict=True):
        if not one.dated:
            raise BadInput(f"change: expected a day or a range as window, found {said!r}")
    return found


def parse_examples(items: Any, precision: int, count: int) -> list[Example]:
    """One item or several: PLACE or PLACE@D1..D2, with as many days or ranges as windows; PLACE:
    GEOHASH, LON,LAT or (lon, lat). Raises BadInput."""
    pair = isinstance(items, tuple | list) and len(items) == 2
    alone = isinstance(items, str) or (pair and not any(isinstance(x, str | tuple) for x in items))
    return [_parse(item, precision, count) for item in ([items] if alone else items)]


def _parse(item: Any, precision: int, count: int) -> Example:
    name: Any = item
    windows: tuple[Filter, ...] = ()
    if isinstance(item, str) and "@" in item:
        name, _, dates = item.partition("@")
        days = dates.split("..")
        if len(days) != count or not all(day.strip(" /") for day in days):
            expected = "..".join(f"DATE{index + 1}" for index in range(count))
            raise BadInput(f"change: expected PLACE or PLACE@{expected}, found {item!r}")
        windows = windows_of(days)
    found = parse(name, precision)
    if not isinstance(found, Place):
        raise BadInput(f"change: expected places as examples, found {item!r}")
    return Example(found, windows)


def best_rows(table: pa.Table, least: float = LEAST) -> pa.Table:
    """Of each place the row of highest valid_fraction, at least `least`, sorted by geohash; of
    equal ones the first by (datetime, source). Any order of rows gives the same."""
    valid = table["valid_fraction"].to_numpy()
    rows = sort_rows(table.filter(pa.array(valid >= np.float32(least))))
    places, valid = place_keys(rows["geohash"]), rows["valid_fraction"].to_numpy()
    order = np.lexsort((np.arange(len(rows)), -valid, places))
    first = np.r_[True, places[order][1:] != places[order][:-1]] if len(order) else order
    return rows.take(pa.array(order[first] if len(order) else order))


def together(windows: Sequence[pa.Table]) -> list[pa.Table]:
    """The rows of the places that stand in every table, as many tables; each has one row a place,
    sorted."""
    keys = [place_keys(one["geohash"]) for one in windows]
    kept = keys[0]
    for other in keys[1:]:
        kept = np.intersect1d(kept, other, assume_unique=True)
    found = [np.searchsorted(own, kept) for own in keys]
    return [one.take(pa.array(at)) for one, at in zip(windows, found, strict=True)]


def differences(vectors: Sequence[NDArray[np.int8]]) -> Steps:
    """int16 (n, (w - 1) D) of w windows int8 (n, D), in the order of time."""
    wide = [one.astype(np.int16) for one in vectors]
    steps = [after - before for before, after in pairwise(wide)]
    return np.concatenate(steps, axis=1)


def centre_of(dz: Changes) -> Ints:
    """The lower median of each number of changes (n, M): int64 (M,), 0 without any."""
    if not len(dz):
        return np.zeros(dz.shape[1], dtype=np.int64)
    middle = (len(dz) - 1) // 2
    return np.asarray(np.partition(dz, middle, axis=0)[middle], dtype=np.int64)


@dataclass(frozen=True)
class Usual:
    """What changes of M numbers usually are: centre int64 (M,), weights int64 (M, M)."""

    centre: Ints
    weights: Ints

    def apply(self, dz: Steps) -> NDArray[np.int32]:
        """Changes int16 (n, M) in sixteenths of the usual: int32 (n, M)."""
        out = np.empty(dz.shape, dtype=np.int32)
        for start in range(0, len(dz), _CHUNK):
            part = slice(start, start + _CHUNK)
            # Whole numbers below 2**53: exact in float64.
            wide = (dz[part] - self.centre).astype(np.float64) @ self.weights.T.astype(np.float64)
            out[part] = (wide.astype(np.int64) + _UNIT // 32) // (_UNIT // 16)
        return out


def fit_usual(dz: Steps) -> Usual:
    """What is usual among changes int16 (n, M), so that haze, season and sensor, which move all
    places alike, count little.

    Centre: the lower median of each number. Weights: the inverse of the Cholesky factor of the
    covariance about it, in whole 4096ths, of the nine tenths of places that changed least by these
    weights (twice over). To the covariance's diagonal are added 1/6, the rounding of int8, and
    1/8 + M / n of its mean. Of more than 65,536 places every second, third or nth is fitted to.
    After the chi-square of multivariate alteration detection (Nielsen 2007).
    """
    dz = dz[:: max(1, -(-len(dz) // _CHUNK))]
    count, numbers = dz.shape
    kept = dz
    found = Usual(np.zeros(numbers, np.int64), np.eye(numbers, dtype=np.int64) * _UNIT)
    if not count:
        return found
    for _ in range(3):
        centre = centre_of(kept)
        wide = (kept - centre).astype(np.float64)
        spread = wide.T @ wide / len(kept)
        more = 1 / 6 + (1 / 8 + numbers / count) * np.trace(spread) / numbers
        factor = np.linalg.cholesky(spread + more * np.eye(numbers))
        found = Usual(centre, np.rint(np.linalg.inv(factor) * _UNIT).astype(np.int64))
        size = sizes(found.apply(dz))
        kept = dz[size <= np.partition(size, (9 * count - 1) // 10)[(9 * count - 1) // 10]]
    return found


def sizes(dz: Changes) -> Ints:
    """|dz|^2 of changes (n, M), int64 (n,)."""
    out = np.empty(len(dz), dtype=np.int64)
    for start in range(0, len(dz), _CHUNK):
        part = dz[start : start + _CHUNK].astype(np.float64)
        # Whole numbers below 2**53: exact in float64.
        out[start : start + _CHUNK] = np.einsum("nd,nd->n", part, part)
    return out


def cosines(dz: Changes, size: Ints, query: Changes) -> NDArray[np.float64]:
    """cos of each change (n, M), of |dz|^2 above 0, with one (M,): float64 (n,)."""
    own = float(np.sum(query.astype(np.int64) ** 2))
    out = np.empty(len(dz))
    for start in range(0, len(dz), _CHUNK):
        part = slice(start, start + _CHUNK)
        out[part] = dz[part].astype(np.float64) @ query.astype(np.float64)
        out[part] /= np.sqrt(size[part].astype(np.float64) * own)
    return out


def usual_size(size: Ints) -> int:
    """The lower median of |v|^2 (n,), at least 1."""
    return max(1, int(centre_of(size[:, None])[0]))


def floor_of(size: Ints, share: float) -> int:
    """The |dz|^2 that `share` of all places stay below: the value of that rank, at least 1."""
    if not len(size):
        return 1
    rank = min(math.ceil(share * len(size)), len(size) - 1)
    return max(1, int(np.partition(size, rank)[rank]))


def ranked(
    dz: Changes, near: Sequence[Changes], far: Sequence[Changes], k: int
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Positions of the k best changes, best first, and their scores (without exemplars |dz|^2).

    dz (n, M) in the order of geohashes; near, far: changes (M,); with near none is 0.
    """
    size = sizes(dz)
    score = _mean(dz, size, near) if near else size.astype(np.float64)
    if far:
        score = score - _mean(dz, size, far)
    order = np.argsort(-score, kind="stable")[:k]
    return order, score[order]


def _mean(dz: Changes, size: Ints, queries: Sequence[Changes]) -> NDArray[np.float64]:
    total = np.zeros(len(dz))
    for one in queries:
        total = total + cosines(dz, size, one)
    return total / len(queries)


def hits_table(
    windows: Sequence[pa.Table],
    chosen: NDArray[np.intp],
    score: NDArray[np.float64],
    change: NDArray[np.float64],
) -> pa.Table:
    """Hits: geohash, datetime, source and valid_fraction of the last window, score, change,
    model_id, bbox; then datetime, source and valid_fraction of the windows before it, with the
    suffix _before, of more than two windows _1, _2 and so on."""
    rows = [one.take(pa.array(chosen)) for one in windows]
    last = rows[-1]
    columns: dict[str, Any] = {
        "geohash": last["geohash"],
        "datetime": last["datetime"],
        "source": last["source"].cast(pa.string()),
        "score": pa.array(score, pa.float64()),
        "change": pa.array(change, pa.float64()),
        "model_id": last["model_id"].cast(pa.string()),
        "valid_fraction": last["valid_fraction"],
        "bbox": exact_boxes(last["geohash"]),
    }
    for index, one in enumerate(rows[:-1]):
        suffix = "before" if len(rows) == 2 else str(index + 1)
        columns[f"datetime_{suffix}"] = one["datetime"]
        columns[f"source_{suffix}"] = one["source"].cast(pa.string())
        columns[f"valid_fraction_{suffix}"] = one["valid_fraction"]
    return pa.table(columns)


def vectors_of(windows: Sequence[pa.Table]) -> Steps:
    """The changes of places from one table a window, each with one row a place."""
    return differences([embeddings(one) for one in windows])
