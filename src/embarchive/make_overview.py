"""The overview of an archive made, or its lists merged; committed as a generation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa

from embarchive import digests, inverted, memory, spill
from embarchive.additions import sizes
from embarchive.archive import Archive
from embarchive.coarse import Coarse, dump_coarse
from embarchive.commit import Draft, Head, commit
from embarchive.errors import BadInput, Conflict
from embarchive.filters import Filter
from embarchive.fit_coarse import fit_coarse, lists_for, sample_for
from embarchive.manifest import ShardRow, Space, TableRef, object_path
from embarchive.overview import Lists
from embarchive.progress import Report
from embarchive.rows import binary, bit_rows, embeddings
from embarchive.segments import Writer, coded, grouped, longest
from embarchive.storage import Store
from embarchive.store import HttpStore

# Lists that are merged at a time.
_TURN = 256


def make(store: Store, *, lists: int | None = None, progress: Report) -> dict[str, Any]:
    """Write lists of all rows of all spaces and commit them as the archive's overview.

    lists: of a space, default twelve times the cube root of its rows. All vectors are read twice;
    the temporary folder holds codes of all rows meanwhile. Gives generation, lists, rows, bytes,
    and what share of the shards they are. Raises BadInput for http(s) and an archive without rows,
    Conflict when another committer was first.
    """
    if isinstance(store, HttpStore):
        raise BadInput(f"overview: expected a folder or s3://, found {store.root}: read only")
    archive = Archive(store)
    if not len(archive):
        raise BadInput(f"overview: expected tiles in {archive.root}, found none")
    store.check_writable()
    rows: list[dict[str, Any]] = []
    for space in archive.spaces:
        own = sorted(
            (one for one in archive.shards() if one.space_id == space.space_id),
            key=lambda one: (one.geohash_min, one.geohash_max, one.sha256),
        )
        if own:
            rows += _lists_of(archive, store, space, own, lists, progress)
    index = inverted.index_table(rows)
    data = inverted.dump_index(index)
    head = put(store, archive.head, data, len(rows))
    size = len(data) + sum(length for _, _, length in inverted.objects(index))
    return {
        "generation": head.generation.number,
        "lists": len(rows),
        "rows": sum(row["rows"] for row in rows),
        "bytes": size,
        "share": round(size / head.generation.bytes["shards"], 4),
    }


def put(store: Store, base: Head, index: bytes, count: int) -> Head:
    """Commit an index of the rows of a generation. Raises Conflict when that is no longer the
    current one."""
    ref = TableRef(digests.sha256(index), len(index), count)

    def build(head: Head | None) -> Draft | None:
        if head is None or head.generation.number != base.generation.number:
            raise Conflict(
                f"{store.root}: expected generation {base.generation.number} to be the current "
                "one still, found another writer's; run it again"
            )
        if head.generation.overview == ref:
            return None
        store.put_new(object_path("overview", ref.sha256), index)
        made = replace(head.generation, overview=ref)
        return Draft(replace(made, bytes=sizes(store, made)))

    return commit(store, build)


def _lists_of(
    archive: Archive,
    store: Store,
    space: Space,
    own: list[ShardRow],
    count: int | None,
    progress: Report,
) -> list[dict[str, Any]]:
    total = sum(one.rows for one in own)
    plan = archive.plan(Filter(), space.space_id)
    lists = count or lists_for(total)
    table, _ = archive.reader.sample(plan, Filter(), ("embedding",), sample_for(total, lists))
    q = embeddings(table)
    progress("overview fit", 0, 0)
    coarse = fit_coarse(q, lists)
    data = dump_coarse(coarse)
    sha256 = digests.sha256(data)
    store.put_new(object_path("model", sha256), data)
    writer = Writer(store, space.space_id, (sha256, len(data)))
    kinds = {"list": pa.int32(), "cell": pa.uint64(), "code": pa.binary(coarse.dim)}
    edges = np.unique(np.linspace(0, len(coarse.centroids), spill.MOST_BUCKETS, False).astype("u8"))
    with spill.Spill(edges, pa.schema(list(kinds.items()))) as aside:
        for done, part in enumerate(_tables(archive, coarse, own), 1):
            aside.add(part["list"].to_numpy().astype(np.uint64), part)
            progress("overview", done, len(own))
            if done % 16 == 0:
                memory.give_back()
        for bucket in aside.buckets():
            numbers, cells = (bucket[name].to_numpy() for name in ("list", "cell"))
            for segment in grouped(numbers, cells, bit_rows(bucket, "code").view(np.int8)):
                writer.add(segment)
    writer.flush()
    return writer.rows


def merge(store: Store, *, progress: Report) -> int:
    """Write lists that are in several segments as one each, and commit that where some are; how
    many segments went. Raises as `make`."""
    archive = Archive(store)
    index = archive.overview.index
    every = [(space, archive.overview.lists(space)) for space in archive.spaces]
    held = [(space, lists) for space, lists in every if lists is not None]
    if index is None or len(index) == sum(_fewest(lists) for _, lists in held):
        return 0
    rows: list[dict[str, Any]] = []
    for space, lists in held:
        rows += _merged(archive, store, space, lists, progress)
    data = inverted.dump_index(inverted.index_table(rows))
    put(store, archive.head, data, len(rows))
    return len(index) - len(rows)


def _fewest(lists: Lists) -> int:
    """Segments that the lists of a space need."""
    return int(np.sum(-(-lists.rows // longest(lists.coarse.dim))))


def _merged(
    archive: Archive, store: Store, space: Space, lists: Lists, progress: Report
) -> list[dict[str, Any]]:
    writer = Writer(store, space.space_id, lists.named)
    full = np.flatnonzero(lists.rows)
    for start in range(0, len(full), _TURN):
        found = archive.overview.read(lists, full[start : start + _TURN])
        numbers = np.repeat([one for one, _, _ in found], [len(cells) for _, _, cells in found])
        codes = np.concatenate([codes.T for _, codes, _ in found])
        cells = np.concatenate([cells for _, _, cells in found])
        for segment in grouped(numbers.astype(np.int32), cells, codes):
            writer.add(segment)
        progress("overview merge", min(start + _TURN, len(full)), len(full))
    writer.flush()
    return writer.rows


def _tables(archive: Archive, coarse: Coarse, own: list[ShardRow]) -> Iterator[pa.Table]:
    for one in coded(archive.reader, coarse, own):
        columns = [pa.array(one.lists), pa.array(one.cells), binary(one.codes.view(np.uint8))]
        yield pa.table(columns, names=["list", "cell", "code"])
