"""What a reader asks for: a place, a time, or both, checked once and tested exactly.

A filter keeps a row when its cell's float64 bounds intersect the box (and the polygon), its
geohash starts with one of the names given, and its date lies in the range, both ends
included. A row without a date only matches when no dates are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.oneband import band_of
from embarchive.recipe import parse_date
from embarchive.rows import cell_names, date_keys

Box = tuple[float, float, float, float]
Moment = str | date | datetime | None
Dates = str | date | datetime | tuple[Moment, Moment]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = -(2**62), 2**62


@dataclass(frozen=True)
class Filter:
    """bbox: west south east north, degrees, west > east across the antimeridian; polygon: a
    shapely geometry; geohash: full names or prefixes; start, end: microseconds since 1970,
    both included; band: of an archive of single bands. Every field may be None (or empty): no
    condition."""

    bbox: Box | None = None
    polygon: Any = None
    geohash: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    band: str | None = None

    @property
    def dated(self) -> bool:
        """Whether dates are asked for."""
        return self.start is not None or self.end is not None

    @property
    def everything(self) -> bool:
        """Whether there is no condition at all."""
        place = self.bbox is None and self.polygon is None and not self.geohash
        return place and not self.dated and self.band is None

    def span(self) -> tuple[int, int]:
        """Start and end with open sides filled in."""
        return (
            _FIRST if self.start is None else self.start,
            _LAST if self.end is None else self.end,
        )


def make_filter(
    bbox: Sequence[float] | None = None,
    polygon: Any = None,
    geohash: str | Sequence[str] | None = None,
    when: Dates | None = None,
) -> Filter:
    """A filter from what a caller wrote. `when`: "A/B", "A/..", "../B", one day or instant,
    or a tuple of two; a day as an end includes all of it. Raises BadInput."""
    names = (geohash,) if isinstance(geohash, str) else tuple(geohash or ())
    for name in names:
        grid.check_geohash(name)
    start, end = _dates(when)
    return Filter(
        bbox=None if bbox is None else check_bbox(bbox),
        polygon=None if polygon is None else grid.read_polygon(polygon),
        geohash=tuple(sorted(set(names))),
        start=start,
        end=end,
    )


def check_bbox(bbox: Sequence[float]) -> Box:
    """Four finite degrees, south <= north. Raises BadInput."""
    try:
        west, south, east, north = (float(side) for side in bbox)
    except (TypeError, ValueError):
        raise BadInput(f"bbox: expected west south east north, found {bbox!r}") from None
    if not all(map(math.isfinite, (west, south, east, north))):
        raise BadInput(f"bbox: expected finite degrees, found {bbox!r}")
    if south > north or south < -90 or north > 90:
        raise BadInput(f"bbox: expected -90 <= south <= north <= 90, found {south} and {north}")
    if not (-180 <= west <= 180 and -180 <= east <= 180):
        raise BadInput(f"bbox: expected longitudes in -180..180, found {west} and {east}")
    return west, south, east, north


def row_mask(table: pa.Table, wanted: Filter) -> NDArray[np.bool_]:
    """Which rows match, bool (n,), from the columns geohash, (when dated) datetime and (of a
    band) source."""
    keep = np.ones(len(table), dtype=bool)
    if wanted.geohash:
        keep &= _names_match(table["geohash"], wanted.geohash)
    if wanted.bbox is not None or wanted.polygon is not None:
        # A place has many dates: test each run of a cell once.
        names = cell_names(table["geohash"])
        starts = np.r_[True, names[1:] != names[:-1]][: len(names)]
        keep &= cells_match(names[starts], wanted)[np.cumsum(starts) - 1]
    if wanted.dated:
        low, high = wanted.span()
        when = date_keys(table["datetime"])
        keep &= (when >= low) & (when <= high)
    if wanted.band is not None:
        sources = table["source"].combine_chunks().dictionary_encode()
        own = np.array([band_of(name) == wanted.band for name in sources.dictionary.to_pylist()])
        keep &= own[sources.indices.to_numpy(zero_copy_only=False)]
    return keep


def cells_match(names: NDArray[np.str_], wanted: Filter) -> NDArray[np.bool_]:
    """Which cells intersect the box and the polygon, bool (n,)."""
    if not len(names):
        return np.zeros(0, dtype=bool)
    return boxes_match(grid.bounds(names), wanted)


def boxes_match(bounds: NDArray[np.float64], wanted: Filter) -> NDArray[np.bool_]:
    """Which boxes (n, 4) west south east north intersect the box and the polygon."""
    keep = np.ones(len(bounds), dtype=bool)
    if wanted.bbox is not None:
        keep &= grid.bbox_intersects(bounds, wanted.bbox)
    if wanted.polygon is not None and keep.any():
        keep[keep] = grid.polygon_intersects(bounds[keep], wanted.polygon)
    return keep


def to_micros(moment: datetime) -> int:
    """Microseconds since 1970 of a datetime; without an offset it is UTC."""
    aware = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return (aware - _EPOCH) // timedelta(microseconds=1)


def from_micros(micros: int) -> datetime:
    """Inverse of `to_micros`."""
    return _EPOCH + timedelta(microseconds=micros)


def _names_match(column: pa.ChunkedArray, names: Sequence[str]) -> NDArray[np.bool_]:
    keep = np.zeros(len(column), dtype=bool)
    longest = pc.max(pc.binary_length(column)).as_py() or 0
    for length in sorted({len(name) for name in names}):
        some = pa.array([name for name in names if len(name) == length])
        start = column if length >= longest else pc.utf8_slice_codeunits(column, 0, length)
        keep |= pc.is_in(start, value_set=some).to_numpy()
    return keep


def _dates(when: Dates | None) -> tuple[int | None, int | None]:
    if when is None:
        return None, None
    sides: tuple[Moment, Moment]
    if isinstance(when, tuple | list):
        if len(when) != 2:
            raise BadInput(f"datetime: expected a start and an end, found {list(when)}")
        sides = cast("tuple[Moment, Moment]", tuple(when))
    elif isinstance(when, str) and "/" in when:
        first, _, last = when.partition("/")
        sides = (first, last)
    else:
        sides = (when, when)
    start, end = _moment(sides[0])[0], _moment(sides[1])[1]
    if start is not None and end is not None and start > end:
        raise BadInput(f"datetime: expected the start before the end, found {sides[0]}/{sides[1]}")
    return start, end


def _moment(side: Moment) -> tuple[int | None, int | None]:
    """First and last microsecond of a moment: a day has many, an instant one."""
    if isinstance(side, str):
        side = side.strip()
    if side is None or side in ("", ".."):
        return None, None
    if isinstance(side, str):
        try:
            side = date.fromisoformat(side)
        except ValueError:
            side = parse_date(cast(str, side))
    if isinstance(side, datetime):
        return to_micros(side), to_micros(side)
    if not isinstance(side, date):
        raise BadInput(f"datetime: expected ISO 8601 such as 2023-08-15, found {side!r}")
    start = to_micros(datetime(side.year, side.month, side.day))
    return start, start + 86_400_000_000 - 1
