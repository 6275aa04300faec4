"""What a search is like: a tile, a point, a vector or an image, as a caller writes it.

Pure: `parse` says what was meant, `choose_row` which row of a place stands for it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import grid
from embarchive.errors import BadInput
from embarchive.filters import Filter, make_filter, row_mask
from embarchive.rows import date_keys, place_keys

GOOD = 0.8
_GEOHASH = re.compile(r"[0-9b-hjkmnp-z]{1,12}")
_EXPECTED = "GEOHASH, GEOHASH@DATE, LON,LAT, an image file or a vector"


@dataclass(frozen=True)
class Place:
    """A cell, and the dates to take it from (a filter on time alone)."""

    geohash: str
    when: Filter
    said: str


@dataclass(frozen=True)
class Vector:
    """Numbers (D,): int8 as stored, or floats in embedding units."""

    values: NDArray[Any]


@dataclass(frozen=True)
class Image:
    """An image file to be encoded."""

    path: Path


Exemplar = Place | Vector | Image


def parse_all(items: Any, precision: int) -> list[Exemplar]:
    """Exemplars from one item or several; a pair of numbers is one point. Raises BadInput."""
    one = isinstance(items, str | os.PathLike | np.ndarray) or _is_point(items)
    if one or not isinstance(items, Iterable):
        items = [items]
    return [parse(item, precision) for item in items]


def parse(item: Any, precision: int) -> Exemplar:
    """One exemplar from text, a (lon, lat) pair, a vector or a path. Raises BadInput."""
    if isinstance(item, np.ndarray):
        return _vector(item)
    if isinstance(item, os.PathLike):
        return _image(Path(item))
    if _is_point(item):
        return _point(float(item[0]), float(item[1]), precision)
    if not isinstance(item, str):
        raise BadInput(f"like: expected {_EXPECTED}, found {item!r}")
    text = item.strip()
    lon, comma, lat = text.partition(",")
    if comma:
        try:
            return _point(float(lon), float(lat), precision)
        except ValueError:
            raise BadInput(f"like: expected LON,LAT in degrees, found {item!r}") from None
    name, _, day = text.partition("@")
    if _GEOHASH.fullmatch(name) and (day or "@" not in text):
        return _place(name, make_filter(when=day or None), text, precision)
    if os.sep in text or "." in text:
        return _image(Path(text))
    raise BadInput(f"like: expected {_EXPECTED}, found {item!r}")


def choose_row(rows: pa.Table, place: Place) -> int:
    """The row that stands for a place: its latest date with valid_fraction >= 0.8, else its
    highest valid_fraction; on one date the highest valid_fraction, then the first source.

    rows: those of the place, sorted. Raises BadInput when none is on the date asked for.
    """
    index = np.flatnonzero(row_mask(rows, place.when))
    if not len(index):
        days = sorted({str(day)[:10] for day in rows["datetime"].to_pylist() if day})
        found = ", ".join(days[:8]) or "no date"
        raise BadInput(f"like: {place.said} has no tile on that date; it has {found}")
    valid = rows["valid_fraction"].to_numpy()[index]
    when = date_keys(rows["datetime"])[index]
    when = np.where(when == np.iinfo(np.int64).max, np.iinfo(np.int64).min, when)
    if place.when.dated:
        when = np.zeros_like(when)
    good = valid >= np.float32(GOOD)
    # lexsort takes its last key first; rows are in order, so position breaks ties
    keys = np.where(good, when, np.iinfo(np.int64).min)
    order = np.lexsort((np.arange(len(index)), -valid, -keys.astype(np.float64), ~good))
    return int(index[order[0]])


def best_of_places(rows: pa.Table) -> pa.Table:
    """One row a cell: its latest date with valid_fraction >= 0.8, else its highest
    valid_fraction. Rows sorted."""
    valid = rows["valid_fraction"].to_numpy()
    when = rows["datetime"].cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    good = valid >= np.float32(GOOD)
    places = place_keys(rows["geohash"])
    # Last key first; the best row of each cell comes last, of equal ones the first source.
    dated = np.where(good, when, np.iinfo(np.int64).min)
    order = np.lexsort((-np.arange(len(rows)), valid, dated, good, places))
    ends = np.append(places[order][1:] != places[order][:-1], True)
    return rows.take(pa.array(order[ends] if len(order) else order))


def nearest_cell(geohash: str, names: Sequence[str]) -> str:
    """The name whose centre is nearest to that of the geohash."""
    there = grid.centers(np.asarray(names, dtype=np.str_))
    here = np.broadcast_to(grid.centers(np.array([geohash])), there.shape)
    return str(names[int(np.argmin(grid.distance_m(here, there)))])


def _is_point(item: Any) -> bool:
    return (
        isinstance(item, tuple | list)
        and len(item) == 2
        and all(isinstance(v, int | float | np.number) for v in item)
    )


def _point(lon: float, lat: float, precision: int) -> Place:
    if not (-180 <= lon <= 180 and -90 <= lat <= 90):
        raise BadInput(f"like: expected LON,LAT in -180..180,-90..90, found {lon:g},{lat:g}")
    name = str(grid.encode(np.array([lon]), np.array([lat]), precision)[0])
    return Place(name, Filter(), f"{lon:g},{lat:g} (geohash {name})")


def _place(name: str, when: Filter, said: str, precision: int) -> Place:
    grid.check_geohash(name)
    if len(name) != precision:
        raise BadInput(
            f"like: expected a geohash of {precision} characters, found {name} of {len(name)}"
        )
    return Place(name, when, f"geohash {said}")


def _vector(values: NDArray[Any]) -> Vector:
    if values.ndim != 1 or values.dtype.kind not in "if":
        raise BadInput(
            f"like: expected a vector of numbers, found {values.dtype} of shape {values.shape}"
        )
    if not np.isfinite(values).all():
        raise BadInput("like: expected finite numbers in the vector, found nan or inf")
    return Vector(values)


def _image(path: Path) -> Image:
    if not path.is_file():
        raise BadInput(f"like: no such image file {path}")
    return Image(path)
