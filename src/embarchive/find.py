"""A search of an archive: exemplars to queries, and the rows they rank, a portion at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embarchive import manifest, resolve, search
from embarchive.errors import BadInput
from embarchive.exemplars import Place, parse_all
from embarchive.filters import Filter
from embarchive.reads import ReadPlan
from embarchive.search import Query

if TYPE_CHECKING:
    from embarchive.archive import Archive


def queries(
    archive: Archive,
    likes: Sequence[Any],
    unlike: Any,
    wanted: Filter,
    here: manifest.Space,
    columns: Sequence[str] = (),
    **options: Any,
) -> tuple[list[Query], ReadPlan]:
    """The exemplars of each search resolved to vectors of a space, and the reads of all. Shards
    that both need are read once. Raises BadInput."""
    search.check_options(**options)
    search.check_bits(options.get("op", "mean"), archive.simhash(here))
    near = [parse_all(items, archive.settings.precision) for items in likes]
    far = parse_all(unlike, archive.settings.precision)
    if not near or not all(near):
        raise BadInput("search: expected at least one exemplar in like, found none")
    plan = archive.plan(wanted, here.space_id)
    names = [*search.NEEDS, *(("bits",) if archive.settings.bits else ()), *columns]
    archive.reader.check_columns(names)
    every = [*(item for items in near for item in items), *far]
    vectors = resolve.vectors(archive, every, here, plan, names, wanted.band).vectors
    made, at = [], 0
    for items in near:
        cells = {item.geohash for item in (*items, *far) if isinstance(item, Place)}
        positives, negatives = vectors[at : at + len(items)], vectors[len(every) - len(far) :]
        made.append(Query(positives, negatives, exclude=sorted(cells), **options))
        at += len(items)
    return made, plan


def hits(
    archive: Archive,
    asked: Sequence[Query],
    plan: ReadPlan,
    wanted: Filter,
    here: manifest.Space,
    columns: Sequence[str],
) -> list[pa.Table]:
    """The hits of queries that differ in exemplars alone. What fits into one portion is read once;
    of more the rows of the shortlist are read again, with all that hits have."""
    reader, simhash = archive.reader, archive.simhash(here)
    few = plan.rows <= reader.portion
    held = [reader.rows(plan, wanted, [*asked[0].needs(simhash), *columns])] if few else []

    def read(names: Sequence[str], cells: Sequence[str]) -> Iterable[pa.Table]:
        if held:
            return held
        if not cells:
            return reader.batches(plan, wanted, names)
        return reader.batches(plan.within(cells), replace(wanted, geohash=tuple(cells)), names)

    threads = min(8, os.cpu_count() or 1)
    return search.rank_all(read, asked, simhash, here.scale, columns, threads)


def together(likes: Sequence[str], tables: Sequence[pa.Table]) -> pa.Table:
    """The hits of several searches as one table, with what each was like in the column like."""
    named = [
        table.append_column("like", pa.array([like] * len(table), pa.string()))
        for like, table in zip(likes, tables, strict=True)
    ]
    return pa.concat_tables(named)
