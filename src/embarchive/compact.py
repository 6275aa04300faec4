"""Small shards of a prefix become shards as a build writes them; no row changes.

The old shards stay for readers of earlier generations, until `collect` removes them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import pyarrow as pa

from embarchive import make_overview, memory, rows, shards
from embarchive.additions import Swap, replace_shards
from embarchive.archive import Archive
from embarchive.commit import Draft, Head, commit, read_head
from embarchive.errors import BadInput, Damaged
from embarchive.manifest import ShardRow, Space, object_path
from embarchive.prefixes import put_shard
from embarchive.progress import Report
from embarchive.storage import Store
from embarchive.store import HttpStore, VerifiedObject

BELOW = shards.MAX_ROWS // 2


def compact(store: Store, *, below: int = BELOW, progress: Report) -> dict[str, Any]:
    """Merge the shards of each prefix and space in which one has fewer than `below` rows, unless
    they lie as a build would write them; commit what came of it as one generation.

    Then lists of the overview that are in several segments become one each, see
    `make_overview.merge`. Rows of a prefix are in memory at a time. Gives generation, merged
    (prefixes, by space), segments (that went into others), shards before and after (of the
    archive), rows and bytes written; nothing is committed where nothing is merged. Raises BadInput
    for http(s), NotAnArchive, Damaged, Conflict as `commit` does.
    """
    if isinstance(store, HttpStore):
        raise BadInput(f"compact: expected a folder or s3://, found {store.root}: read only")
    if below < 1:
        raise BadInput(f"compact: expected --below of 1 row or more, found {below}")
    archive = Archive(store)
    before = archive.shards()
    work = [some for some in _groups(before) if _is_scattered(some, below)]
    swaps = []
    for done, some in enumerate(work, 1):
        swaps.append(_merge(archive, store, some))
        memory.give_back()
        progress("compact", done, len(work))
    head = commit(store, partial(_draft, store, swaps)) if swaps else archive.head
    after = Archive(store, head).shards() if swaps else before
    held = {row.sha256 for row in after}
    segments = make_overview.merge(store, progress=progress)
    if segments:
        head = read_head(store)
    # Another committer may have merged the same shards first.
    swaps = [swap for swap in swaps if all(row.sha256 in held for row in swap.new)]
    return {
        "generation": head.generation.number,
        "merged": len(swaps),
        "segments": segments,
        "shards": {"before": len(before), "after": len(after)},
        "rows": sum(row.rows for swap in swaps for row in swap.new),
        "bytes": sum(row.length for swap in swaps for row in swap.new),
    }


def _draft(store: Store, swaps: Sequence[Swap], head: Head | None) -> Draft | None:
    return replace_shards(store, head.generation, swaps) if head else None


def _groups(found: Sequence[ShardRow]) -> Iterator[list[ShardRow]]:
    """Shards by prefix and space, each group in the order of geohashes."""
    groups: dict[tuple[str, str], list[ShardRow]] = {}
    for row in found:
        groups.setdefault((row.prefix, row.space_id), []).append(row)
    for key in sorted(groups):
        yield sorted(groups[key], key=lambda row: (row.geohash_min, row.geohash_max))


def _is_scattered(some: Sequence[ShardRow], below: int) -> bool:
    """Whether one is small and they are not as a build cuts a prefix: full but for the last, one
    beginning where the other ends."""
    if len(some) < 2 or min(row.rows for row in some) >= below:
        return False
    full = all(row.rows == shards.MAX_ROWS for row in some[:-1])
    return not full or any(a.geohash_max > b.geohash_min for a, b in pairwise(some))


def _merge(archive: Archive, store: Store, some: Sequence[ShardRow]) -> Swap:
    """Write the rows of some shards as a build would."""
    space = archive.space(some[0].space_id)
    table = pa.concat_tables([_rows(archive, store, row) for row in some]).unify_dictionaries()
    made = [
        put_shard(store, shard, some[0].prefix, space.space_id)
        for shard in shards.write_shards(table, _emb(archive, space))
    ]
    return Swap(frozenset(row.sha256 for row in some), tuple(made))


def _rows(archive: Archive, store: Store, row: ShardRow) -> pa.Table:
    """The rows of a shard as they are stored, from verified bytes."""
    s, path = archive.settings, object_path("shard", row.sha256, row.prefix)
    data = VerifiedObject(store, path, row.sha256, row.length).whole()
    metadata = shards.parse_footer(data[-row.footer_length :], s.dim, s.bits, path, s.packed)
    if metadata.num_rows != row.rows:
        raise Damaged(f"{path}: expected {row.rows} rows, found {metadata.num_rows}")
    names = rows.schema(s.dim, s.bits, s.packed).names
    groups = list(range(metadata.num_row_groups))
    return shards.read_rows(pa.BufferReader(data), metadata, groups, names)


def _emb(archive: Archive, space: Space) -> dict[str, Any]:
    quantiser = archive.quantiser(space)
    return shards.emb_metadata(
        archive.settings, space.space_id, space.encoder, space.scale, quantiser
    )
