"""A search of an archive: exemplars to queries, and the rows they rank, a portion at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from embarchive import candidates, manifest, resolve, search
from embarchive.errors import BadInput
from embarchive.exemplars import Place, parse_all
from embarchive.filters import Filter
from embarchive.overview import Lists
from embarchive.reads import ReadPlan
from embarchive.rows import binary, embeddings
from embarchive.search import Query

if TYPE_CHECKING:
    from embarchive.archive import Archive

# Rows of the shards that a box touches, from which it is worth to look at lists: fewer are read at
# once.
LARGE = 1 << 18


@dataclass(frozen=True)
class Asked:
    """A search with its exemplars as vectors, and what it ranks: rows of a plan that a filter
    wants. compared: rows whose codes, bits or vectors are compared on the way there."""

    query: Query
    wanted: Filter
    plan: ReadPlan
    compared: int


def queries(
    archive: Archive,
    likes: Sequence[Any],
    unlike: Any,
    wanted: Filter,
    here: manifest.Space,
    columns: Sequence[str] = (),
    **options: Any,
) -> list[Asked]:
    """The exemplars of each search resolved to vectors of a space, and what it reads: the rows of a
    few cells where the space has lists to choose them by, else all that are wanted. Raises
    BadInput."""
    search.check_options(**options)
    search.check_bits(options.get("op", "mean"), archive.simhash(here))
    near = [parse_all(items, archive.settings.precision) for items in likes]
    far = parse_all(unlike, archive.settings.precision)
    if not near or not all(near):
        raise BadInput("search: expected at least one exemplar in like, found none")
    names = [*search.NEEDS, *(("bits",) if archive.settings.bits else ()), *columns]
    archive.reader.check_columns(names)
    lists, plan, share = _reads(archive, here, wanted, options)
    every = [*(item for items in near for item in items), *far]
    vectors = resolve.vectors(archive, every, here, plan, names, wanted.band).vectors
    made, at = [], 0
    for items in near:
        cells = {item.geohash for item in (*items, *far) if isinstance(item, Place)}
        positives, negatives = vectors[at : at + len(items)], vectors[len(every) - len(far) :]
        query = Query(positives, negatives, exclude=sorted(cells), **options)
        made.append(Asked(query, wanted, plan, plan.rows))
        at += len(items)
    return made if lists is None else [_narrowed(archive, one, here, lists, share) for one in made]


def _reads(
    archive: Archive, here: manifest.Space, wanted: Filter, options: dict[str, Any]
) -> tuple[Lists | None, ReadPlan, float]:
    """The lists of a space where they can choose what a search looks at and are less to read than
    the rows; the plan of these, empty where lists stand in for all of the archive; and the share of
    the space's rows that are wanted."""
    serves = candidates.serves(wanted, **options)
    if serves and wanted.everything:
        lists = archive.overview.lists(here)
        if lists and _pays(archive, lists, 1.0, **options):
            return lists, ReadPlan(()), 1.0
    plan = archive.plan(wanted, here.space_id)
    if wanted.everything or not serves or plan.rows < LARGE:
        return None, plan, 1.0
    lists = archive.overview.lists(here)
    share = plan.rows / lists.total if lists else 1.0
    return (lists if lists and _pays(archive, lists, share, **options) else None), plan, share


def _pays(archive: Archive, lists: Lists, share: float, k: int = 50, **_: Any) -> bool:
    """Whether the lists that a search for a share of the rows reads are fewer bytes than the bits,
    or vectors, of that share."""
    read = min(lists.total, candidates.rows_read(lists, k, share))
    return read < _worth(archive, lists, share)


def _worth(archive: Archive, lists: Lists, share: float) -> float:
    """Rows of lists that are as many bytes as the bits, or vectors, of a share of all rows."""
    s = archive.settings
    return share * lists.total * (s.bits // 8 or s.packed or s.dim) / lists.width


def _narrowed(
    archive: Archive, one: Asked, here: manifest.Space, lists: Lists, share: float
) -> Asked:
    """The search of the cells that lists choose; of all rows where fewer are to be read so."""
    limit = math.inf if one.wanted.everything else _worth(archive, lists, share)
    found = candidates.find(archive.overview, lists, one.query, one.wanted, share, limit)
    if found is None:
        return one
    wanted = Filter(geohash=found.cells or ("0" * 12,))
    plan = archive.plan(wanted, here.space_id)
    return Asked(replace(one.query, exact=True), wanted, plan, found.rows)


def hits(
    archive: Archive, asked: Sequence[Asked], here: manifest.Space, columns: Sequence[str]
) -> list[pa.Table]:
    """The hits of searches that differ in exemplars alone."""
    together = all(one.wanted is asked[0].wanted for one in asked)
    turns = [asked] if together else [[one] for one in asked]
    return [table for some in turns for table in _ranked(archive, some, here, columns)]


def _ranked(
    archive: Archive, asked: Sequence[Asked], here: manifest.Space, columns: Sequence[str]
) -> list[pa.Table]:
    """The hits of searches of the same rows. What fits into one portion is read once; of more the
    rows of the shortlist are read again, with all that hits have."""
    reader, simhash = archive.reader, archive.simhash(here)
    plan, wanted = asked[0].plan, asked[0].wanted
    few = plan.rows <= reader.portion or bool(wanted.geohash and asked[0].query.exact)
    # Bits are of the vectors: where these are read, computing some is less than fetching them.
    query = asked[0].query
    narrow = few and query.exact and "bits" not in columns and query.op not in search.LOGIC
    needed = query.needs(None if narrow else simhash)
    held = [reader.rows(plan, wanted, [*needed, *columns])] if few else []
    if narrow and simhash is not None:
        bits = binary(simhash.encode(embeddings(held[0])))
        held = [held[0].append_column("bits", bits)]

    def read(names: Sequence[str], cells: Sequence[str]) -> Iterable[pa.Table]:
        if held:
            return held
        if not cells:
            return reader.batches(plan, wanted, names)
        return reader.batches(plan.within(cells), replace(wanted, geohash=tuple(cells)), names)

    threads = min(8, os.cpu_count() or 1)
    every = [one.query for one in asked]
    return search.rank_all(read, every, simhash, here.scale, columns, threads)


def together(likes: Sequence[str], tables: Sequence[pa.Table]) -> pa.Table:
    """The hits of several searches as one table, with what each was like in the column like."""
    named = [
        table.append_column("like", pa.array([like] * len(table), pa.string()))
        for like, table in zip(likes, tables, strict=True)
    ]
    return pa.concat_tables(named)
