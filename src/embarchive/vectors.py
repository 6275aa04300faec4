"""The rows of Parquet files of embeddings, a bounded number at a time, every value checked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embarchive import dates, geohash, grid, points
from embarchive.errors import BadInput
from embarchive.layouts import Layout, first_line, is_text, open_parquet
from embarchive.recipe import parse_date

NO_DATE = np.iinfo(np.int64).max
BATCH_BYTES = 16 << 20
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
# From the first of the year 1 to that of the year 10000, days since 1970.
_DAYS = (-719_162, 2_932_897)

Codes = NDArray[np.uint64]


@dataclass(frozen=True)
class Batch:
    """Some rows of a file: number of the first, from 1; cells at precision 12 as
    `geohash.interleave` numbers them, with zeros after a shorter geohash; dates in microseconds
    since 1970, NO_DATE without; sources, None for that of the file; shares of valid pixels;
    vectors float32 (n, dim), None where they were not asked for."""

    first: int
    cells: Codes
    when: NDArray[np.int64]
    source: pa.Array | None
    valid: NDArray[np.float32]
    vectors: NDArray[np.float32] | None


def batches(
    layout: Layout, vectors: bool, row_groups: Sequence[int] | None = None
) -> Iterator[Batch]:
    """The rows of a file, in order, a bounded number at a time; every value checked. Raises
    BadInput naming the row."""
    file = open_parquet(layout.path, layout.said)
    rows = int(np.clip(BATCH_BYTES // (8 * layout.dim), 256, 65_536))
    extra = (layout.datetime, layout.source, layout.valid)
    wanted = dict.fromkeys(name for name in (*layout.place, *extra) if name)
    groups = list(range(file.num_row_groups)) if row_groups is None else list(row_groups)
    wanted |= dict.fromkeys(layout.vector) if vectors else {}
    before = np.cumsum(
        [0, *(file.metadata.row_group(g).num_rows for g in range(file.num_row_groups))]
    )
    for group in groups:
        first = int(before[group]) + 1
        found = file.iter_batches(rows, [group], columns=list(wanted), use_threads=False)
        try:
            for batch in found:
                yield _batch(layout, batch, first, vectors)
                first += len(batch)
        except (pa.ArrowException, OSError) as error:
            raise BadInput(
                f"{layout.said}: expected readable rows, found {first_line(error)}"
            ) from None


def group_rows(layout: Layout) -> list[int]:
    """Rows of each row group of a file."""
    found = open_parquet(layout.path, layout.said).metadata
    return [found.row_group(g).num_rows for g in range(found.num_row_groups)]


def _batch(layout: Layout, batch: pa.RecordBatch, first: int, vectors: bool) -> Batch:
    columns = {name: batch.column(name) for name in batch.schema.names}
    n = len(batch)
    when = np.full(n, NO_DATE)
    if layout.datetime:
        when = _moments(columns[layout.datetime], layout.said, first)
    valid = np.ones(n, np.float32)
    if layout.valid:
        valid = _shares(columns[layout.valid], layout.said, first)
    return Batch(
        first=first,
        cells=_cells(layout, [columns[name] for name in layout.place], first),
        when=when,
        source=columns[layout.source].cast(pa.string()).fill_null("") if layout.source else None,
        valid=valid,
        vectors=_vectors(layout, [columns[name] for name in layout.vector], first)
        if vectors
        else None,
    )


def _vectors(layout: Layout, columns: Sequence[pa.Array], first: int) -> NDArray[np.float32]:
    """float32 (n, dim). Raises BadInput for a row that has none, or another number of numbers, or
    one that is not finite, or nothing but zeros where the file is no export."""
    where, n = layout.said, len(columns[0])
    if len(layout.vector) > 1:
        stored = np.stack([_numbers(column, np.float32) for column in columns], axis=1)
    else:
        stored = _numbers(_flat(columns[0], layout, first), np.float32).reshape(n, layout.dim)
    _refuse(~np.isfinite(stored).all(axis=1), where, first, "finite numbers", "one that is not")
    if layout.kind == "int8" and layout.alphaearth:
        masked = np.asarray((stored == -128).any(axis=1))
        _refuse(masked, where, first, "a vector", "-128, AlphaEarth's mark of no data")
        # As Google documents the bytes of its files.
        stored = np.sign(stored) * (stored / np.float32(127.5)) ** 2
    elif layout.kind == "int8" and layout.step is not None:
        stored = stored * np.float32(layout.step)
    # An export may hold rows that were less than a step.
    empty = ~np.asarray(stored.any(axis=1)) & (layout.scale is None)
    _refuse(empty, where, first, "a vector", "zeros alone (no data?)")
    return np.asarray(stored, np.float32)


def _flat(column: pa.Array, layout: Layout, first: int) -> pa.Array:
    """The numbers of lists, when each has `dim`."""
    kind, where = column.type, layout.said
    missing = column.is_null().to_numpy(zero_copy_only=False)
    _refuse(missing, where, first, "a vector", "none")
    if pa.types.is_fixed_size_list(kind):
        return column.flatten()
    lengths = pc.list_value_length(column).to_numpy(zero_copy_only=False)
    odd = lengths != layout.dim
    if odd.any():
        found = f"{int(lengths[odd][0])}"
        _refuse(odd, where, first, f"a vector of {layout.dim} numbers as in row 1", found)
    return column.flatten()


def _numbers(column: pa.Array, kind: Any) -> NDArray[Any]:
    """Numbers as floats, NaN for null."""
    with np.errstate(over="ignore"):
        return np.asarray(column.to_numpy(zero_copy_only=False)).astype(kind)


def _shares(column: pa.Array, where: str, first: int) -> NDArray[np.float32]:
    """Shares of valid pixels, 1 for null. Raises BadInput for a row with another number."""
    found = _numbers(column, np.float32)
    found[np.isnan(found)] = 1
    odd = ~((found >= 0) & (found <= 1))
    if odd.any():
        what = f"{found[odd][0]:g}"
        _refuse(odd, where, first, "a valid_fraction of 0 to 1", what)
    return cast("NDArray[np.float32]", found)


def _cells(layout: Layout, columns: Sequence[pa.Array], first: int) -> Codes:
    """Cells at precision 12. Raises BadInput for a row without a place on the globe."""
    where = layout.said
    if layout.precision is not None:
        return _spelt(columns[0], layout.precision, where, first)
    if len(columns) == 2:
        lon, lat = (_numbers(column, np.float64) for column in columns)
    else:
        lon, lat = points.centres(columns[0], layout.crs is None, where, first)
    _refuse(np.isnan(lon) | np.isnan(lat), where, first, "a place", "none")
    if layout.crs is not None:
        lon, lat = points.to_degrees(lon, lat, layout.crs, where)
    outside = ~((np.abs(lon) <= 180) & (np.abs(lat) <= 90))
    if outside.any():
        at = int(np.flatnonzero(outside)[0])
        found = f"{lon[at]:g} and {lat[at]:g}"
        _refuse(outside, where, first, "a longitude and a latitude in degrees", found)
    return grid.cell_codes(lon, lat, geohash.LONGEST)


def _spelt(column: pa.Array, precision: int, where: str, first: int) -> Codes:
    names = np.asarray(column.fill_null("").to_pylist(), dtype=np.str_)
    _refuse(np.char.str_len(names) != precision, where, first, f"{precision} letters", "others")
    known = np.isin(_letters(names), list(geohash.ALPHABET)).all(axis=1)
    odd = np.asarray(~known | (precision > geohash.LONGEST))
    if odd.any():
        expected = f"a geohash of 1 to {geohash.LONGEST} of {geohash.ALPHABET}"
        _refuse(odd, where, first, expected, repr(str(names[odd][0])[:40]))
    across, up, _ = geohash.to_indices(geohash.as_names(names))
    code = geohash.interleave(across, up, precision)
    return code << np.uint64(5 * (geohash.LONGEST - precision))


def _letters(names: NDArray[np.str_]) -> NDArray[np.str_]:
    """Texts of one length as letters (n, length)."""
    return np.ascontiguousarray(names).view("<U1").reshape(len(names), -1)


def _moments(column: pa.Array, where: str, first: int) -> NDArray[np.int64]:
    """Microseconds since 1970, UTC; NO_DATE for null. Whole numbers are years."""
    kind = column.type
    if is_text(kind) or pa.types.is_dictionary(kind):
        words = column.cast(pa.string()).dictionary_encode()
        moments = [_moment(text) for text in words.dictionary.to_pylist()]
        unread = [at for at, moment in enumerate(moments) if moment is None]
        odd = pc.is_in(words.indices, pa.array(unread, words.indices.type))
        if unread:
            what = repr(words.dictionary[unread[0]].as_py()[:40])
            _refuse(np.asarray(odd.to_numpy(zero_copy_only=False)), where, first, "a date", what)
        column = pa.array(moments, pa.timestamp("us", "UTC")).take(words.indices)
    elif pa.types.is_integer(kind):
        years = _numbers(column.cast(pa.float64()), np.float64)
        odd = (years < 1900) | (years > 2200)
        _refuse(odd, where, first, "a year, or a column of dates", "another number")
        column = pa.array(years - 1970, from_pandas=True).cast(pa.int64())
        whole = column.fill_null(0).to_numpy().astype("M8[Y]").astype("M8[us]")
        column = pc.if_else(column.is_valid(), pa.array(whole, pa.timestamp("us")), None)
    elif not (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
        raise BadInput(f"{where}: expected dates, found {str(kind)[:60]}")
    _check_years(column, where, first)
    zone = column.type.tz if pa.types.is_timestamp(column.type) else None
    micros = column.cast(pa.timestamp("us", zone), safe=False).cast(pa.int64()).fill_null(NO_DATE)
    return np.asarray(micros.to_numpy(zero_copy_only=False), np.int64)


def _check_years(column: pa.Array, where: str, first: int) -> None:
    """Raises BadInput for a row whose date no calendar of four digits has."""
    if pa.types.is_date32(column.type):
        a_day, ticks = 1, column.cast(pa.int32()).cast(pa.int64())
    else:
        unit = column.type.unit if pa.types.is_timestamp(column.type) else "ms"
        a_day, ticks = 86_400 * _TICKS[unit], column.cast(pa.int64())
    # Ticks of nanoseconds do not reach so far.
    low, high = (max(min(day * a_day, 2**63 - 1), -(2**63)) for day in _DAYS)
    odd = pc.or_(pc.less(ticks, low), pc.greater_equal(ticks, high)).fill_null(False)
    odd = np.asarray(odd.to_numpy(zero_copy_only=False))
    _refuse(odd, where, first, "a date of the years 1 to 9999", "another")


def _moment(text: str) -> Any:
    """The moment that a text says, None where it says none."""
    if re.fullmatch(r"\d{4}", text.strip()):
        return parse_date(f"{text.strip()}-01-01")
    try:
        return parse_date(text.strip())
    except BadInput:
        return dates.find_date(text)


def _refuse(bad: NDArray[np.bool_], where: str, first: int, expected: str, found: str) -> None:
    """Raise BadInput for the first row that is bad."""
    if bad.any():
        row = first + int(np.flatnonzero(bad)[0])
        raise BadInput(f"{where}: row {row}: expected {expected}, found {found}")
