"""Changes, views and paths, asked of an archive: what is read, and the tables that come of it.

Shards are read a few at a time and reduced to one row a place at once, so that memory is bounded by
places, not by dates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from embarchive import change as changes
from embarchive import interpolation, oneband, resolve, views
from embarchive.change import Asked, Example, Usual
from embarchive.errors import BadInput
from embarchive.exemplars import Exemplar, Place, best_of_places, parse, parse_all
from embarchive.filters import Dates, Filter, make_filter
from embarchive.manifest import Space
from embarchive.reader import THREADS
from embarchive.reads import ReadPlan
from embarchive.rows import (
    ORDER,
    cell_names,
    embeddings,
    exact_boxes,
    joined,
    place_keys,
    sort_rows,
)
from embarchive.search import NEEDS, Query, rank

if TYPE_CHECKING:
    from embarchive.archive import Archive

WHERE = ("bbox", "polygon", "datetime", "space", "band")
Reduce = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Scope:
    """The rows of one space that match a filter."""

    archive: Archive
    space: Space
    wanted: Filter

    def pieces(self) -> Iterator[pa.Table]:
        """The rows of a few shards at a time, with what a search needs; one table at least."""
        reads = self.archive.plan(self.wanted, self.space.space_id).reads
        for start in range(0, max(1, len(reads)), THREADS):
            plan = ReadPlan(reads[start : start + THREADS])
            yield self.archive.reader.rows(plan, self.wanted, NEEDS)

    def reduced(self, reduce: Reduce, join: Reduce | None = None) -> pa.Table:
        """The rows through `reduce`, then what the pieces leave through `join` (default: the same).
        Both keep some rows of each place, and the order of rows must not matter to them."""
        held: pa.Table | None = None
        for piece in self.pieces():
            found = reduce(piece)
            held = found if held is None else (join or reduce)(joined([held, found]))
        assert held is not None
        return held


def check_names(method: str, given: Iterable[str], known: Sequence[str] = WHERE) -> None:
    """Raises TypeError in the name of a public method for an option that it does not have."""
    for name in given:
        if name not in known:
            raise TypeError(
                f"Archive.{method}() has no option {name!r}, expected {', '.join(known)}"
            )


def scope(
    archive: Archive,
    *,
    bbox: Sequence[float] | None = None,
    polygon: Any = None,
    datetime: Dates | None = None,
    space: str | None = None,
    band: str | None = None,
) -> Scope:
    """What a question is about. Raises BadInput."""
    if oneband.single(archive.settings) and band is None:
        raise BadInput(f"band: expected one of {', '.join(archive.bands)}, found none")
    wanted = archive.in_band(make_filter(bbox, polygon, None, datetime), band)
    return Scope(archive, archive.space(space), wanted)


# ------------------------------------------------------------ change


def change(
    archive: Archive,
    windows: Sequence[Dates],
    like: Any = (),
    unlike: Any = (),
    *,
    k: int = 50,
    floor: float = changes.FLOOR,
    valid: float = changes.LEAST,
    plain: bool = False,
    **where: Any,
) -> pa.Table:
    """See `Archive.change`."""
    check_names("change", where)
    began = time.monotonic()
    asked, spans = Asked(k, floor, valid, plain), changes.windows_of(windows)
    precision = archive.settings.precision
    near, far = (changes.parse_examples(x, precision, len(spans)) for x in (like, unlike))
    if far and not near:
        raise BadInput("change: expected like where unlike is given, found none")
    if "datetime" in where:
        raise BadInput("change: expected dates as windows, found datetime")
    about = scope(archive, **where)
    rows, dz = _compared(about, spans, asked)
    measured = None if plain else changes.fit_usual(dz)
    v = dz if measured is None else measured.apply(dz)
    queries = [_query_of(about, one, spans, asked, measured) for one in near + far]
    size, scale2 = changes.sizes(v), float(about.space.scale) ** 2
    median = changes.usual_size(size)
    least = changes.floor_of(size, floor) if near else 0
    own = place_keys(pa.array(sorted({one.place.geohash for one in near + far}), pa.string()))
    index = np.flatnonzero((size >= least) & ~np.isin(place_keys(rows[-1]["geohash"]), own))
    order, score = changes.ranked(v[index], queries[: len(near)], queries[len(near) :], k)
    index = index[order]
    found = changes.sizes(dz[index]).astype(np.float64) * scale2
    if not near:
        score = found if plain else score / median
    hits = changes.hits_table(rows, index, score, found)
    lowest = least * scale2 if plain else least / median
    said = {"places": str(len(size)), "floor": repr(float(lowest))}
    return hits.replace_schema_metadata(_said(about, began) | said)


def _compared(
    about: Scope, spans: Sequence[Filter], asked: Asked
) -> tuple[list[pa.Table], NDArray[np.int16]]:
    """The rows of the places that have one in every window, a table a window, and their changes."""
    rows = changes.together([_best(about, span, asked.least) for span in spans])
    return rows, changes.vectors_of(rows)


def _best(about: Scope, span: Filter, least: float) -> pa.Table:
    """The best row of each place in a window, sorted."""
    inside = replace(about, wanted=replace(about.wanted, start=span.start, end=span.end))
    return inside.reduced(lambda rows: changes.best_rows(rows, least))


def _query_of(
    about: Scope, example: Example, spans: Sequence[Filter], asked: Asked, usual: Usual | None
) -> NDArray[np.integer[Any]]:
    """The change of an example (M,), which the filter need not hold; in windows of its own less
    what is usual in those. Raises BadInput."""
    dz = _change_of(about, example.place, example.windows or spans, asked)
    if usual is not None:
        if example.windows:
            there = _compared(about, example.windows, asked)[1]
            usual = replace(usual, centre=changes.fit_usual(there).centre)
        found: NDArray[np.integer[Any]] = usual.apply(dz)[0]
    else:
        found = dz[0]
    if not found.any():
        raise BadInput(f"change: {example.place.said} has not changed, there is nothing to compare")
    return found


def _change_of(
    about: Scope, place: Place, spans: Sequence[Filter], asked: Asked
) -> NDArray[np.int16]:
    """The change of one place int16 (1, M). Raises BadInput where a window has no good row."""
    band = about.wanted.band
    here = replace(about, wanted=Filter(geohash=(place.geohash,), band=band))
    rows = [_best(here, span, asked.least) for span in spans]
    for span, found in zip(spans, rows, strict=True):
        if not len(found):
            # Says the nearest place, or which dates there are, where that is what is missing.
            dated, space_id = replace(place, when=span), about.space.space_id
            resolve.rows_of_places(about.archive, [dated], space_id, NEEDS, (None, band))
            raise BadInput(
                f"change: {place.said} has no tile of valid_fraction >= {asked.least:g} in a window"
            )
    return changes.vectors_of(rows)


# ------------------------------------------------------------ views


def view(
    archive: Archive,
    kind: str,
    like: Any = (),
    unlike: Any = (),
    *,
    threshold: float | None = None,
    seed: int = 0,
    **where: Any,
) -> pa.Table:
    """See `Archive.view`."""
    check_names("view", where)
    began = time.monotonic()
    near, far = (parse_all(items, archive.settings.precision) for items in (like, unlike))
    views.check_kind(kind, bool(near), bool(far), threshold)
    about = scope(archive, **where)
    rows, score = _scored(about, near, far) if near else _vectors(about, kind, seed)
    names = cell_names(rows["geohash"])
    if kind == "gradient":
        score = views.gradient(score, views.neighbours(names, views.GRADIENT))
    columns = {name: rows[name] for name in ("geohash", "datetime", "source")}
    columns |= {"score": pa.array(score, pa.float64()), "bbox": exact_boxes(rows["geohash"])}
    order = np.argsort(score if kind in views.LEAST_FIRST else -score, kind="stable")
    if threshold is not None:
        order = order[score[order] <= threshold]
    said = {"places": str(len(rows)), "histogram": json.dumps(views.histogram(score))}
    table = pa.table(columns).take(pa.array(order))
    return table.replace_schema_metadata(_said(about, began) | said)


def _scored(
    about: Scope, near: Sequence[Exemplar], far: Sequence[Exemplar]
) -> tuple[pa.Table, NDArray[np.float64]]:
    """The row of least score of every place, sorted by geohash, and the scores."""
    query = _query(about, near, far)

    def ranked(rows: pa.Table) -> pa.Table:
        whole = replace(query, k=max(1, len(rows)))
        return rank(rows, whole, None, about.space.scale).select([*ORDER, "score"])

    rows = sort_rows(about.reduced(ranked, _least_of_places))
    return rows, rows["score"].to_numpy()


def _vectors(about: Scope, kind: str, seed: int) -> tuple[pa.Table, NDArray[np.float64]]:
    """The row that stands for every place, sorted by geohash, and how odd it is."""
    rows = about.reduced(lambda some: best_of_places(sort_rows(some)))
    vectors = embeddings(rows)
    if kind == "outlier":
        score = views.outlier(vectors, views.draw(len(rows), seed))
    else:
        score = views.surprise(
            vectors, views.neighbours(cell_names(rows["geohash"]), views.SURPRISE)
        )
    return rows, score * about.space.scale**2


def _query(about: Scope, near: Sequence[Exemplar], far: Sequence[Exemplar]) -> Query:
    """An exact search of everything, the exemplars' own cells too."""
    archive, band = about.archive, about.wanted.band
    plan = archive.plan(about.wanted, about.space.space_id)
    found = resolve.vectors(archive, [*near, *far], about.space, plan, NEEDS, band).vectors
    return Query(found[: len(near)], found[len(near) :], exact=True)


# ------------------------------------------------------------ paths


def path(archive: Archive, a: Any, b: Any, steps: int = 8, **where: Any) -> pa.Table:
    """See `Archive.path`."""
    check_names("path", where)
    began = time.monotonic()
    interpolation.check_steps(steps)
    ends = [parse(item, archive.settings.precision) for item in (a, b)]
    about = scope(archive, **where)
    both = _query(about, ends, []).positives
    points = interpolation.line(both[0], both[1], steps)
    none = np.zeros((0, points.shape[1]), np.int8)
    queries = [Query(one[None], none, k=steps, exact=True) for one in points]
    held: list[list[pa.Table]] = [[] for _ in queries]
    for piece in about.pieces():
        for query, found in zip(queries, held, strict=True):
            found.append(rank(piece, query, None, about.space.scale))
    best = [_least_of_places(joined(found)).slice(0, steps) for found in held]
    chosen = interpolation.distinct([one["geohash"].to_pylist() for one in best])
    hits = joined([one.slice(at, 1) for one, at in zip(best, chosen, strict=True)])
    flat = pa.array(points.ravel())
    table = hits.drop_columns("hamming").add_column(0, "step", pa.array(range(steps), pa.int32()))
    table = table.append_column("point", pa.FixedSizeListArray.from_arrays(flat, points.shape[1]))
    return table.replace_schema_metadata(_said(about, began))


# ------------------------------------------------------------ tables


def _least_of_places(rows: pa.Table) -> pa.Table:
    """The row of least score of each place, least first; ties by (geohash, datetime, source)."""
    whole = sort_rows(rows)
    order = np.argsort(whole["score"].to_numpy(), kind="stable")
    _, first = np.unique(place_keys(whole["geohash"])[order], return_index=True)
    return whole.take(pa.array(order[np.sort(first)]))


def _said(about: Scope, began: float) -> dict[str, str]:
    spent = time.monotonic() - began
    return {"space_id": about.space.space_id, "seconds": f"{spent:.6f}"}
