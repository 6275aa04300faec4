"""The pyramid of an archive: read at a level, made from its rows, extended by new ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from embarchive import cellmeans, manifest, oneband, pyramid
from embarchive.cellmeans import Cells
from embarchive.commit import Draft, Head, commit, read_head
from embarchive.errors import BadInput
from embarchive.filters import Filter, row_mask
from embarchive.manifest import Generation, PyramidRef, ShardRow
from embarchive.progress import Report
from embarchive.reader import Reader, expiring
from embarchive.reads import read_plan, row_groups
from embarchive.shards import read_rows
from embarchive.storage import Store
from embarchive.store import HttpStore

KEPT = 64 << 20
COLUMNS = ("geohash", "embedding", "model_id", "datetime")


# ---------------------------------------------------------------- reading


def read_level(
    reader: Reader, generation: Generation, level: int, wanted: Filter, space_id: str
) -> pa.Table:
    """Cells of a level of a space that match, sorted by geohash: geohash, level, space_id, count,
    mean (int16, 256ths of an int8 step), model_id, datetime_min, datetime_max.

    Reads the footer and the row groups that the filter needs. Raises BadInput for a level that
    there is not, Damaged.
    """
    ref = generation.pyramid
    if ref is None:
        raise BadInput(
            f"{reader.store.root}: expected a pyramid, found none; `embarchive pyramid` makes it"
        )
    if isinstance(level, bool) or not 1 <= level <= ref.level:
        raise BadInput(f"level: expected 1 to {ref.level}, found {level}")
    table = expiring(lambda: _rows(reader, ref, wanted, space_id, level))
    return table.filter(pa.array(row_mask(table, wanted)))


def describe(ref: PyramidRef | None) -> dict[str, int] | None:
    """The finest level of a pyramid, its rows and bytes, in plain values; None for none."""
    return {"level": ref.level, "rows": ref.rows, "bytes": ref.length} if ref else None


def _rows(
    reader: Reader, ref: PyramidRef, wanted: Filter, space_id: str | None, level: int | None
) -> pa.Table:
    """Rows of the row groups that a filter needs, checked; None: of all spaces, or levels."""
    pyramid.check_ref(ref)
    file = reader.pyramid(ref)
    tail, dim = file.range(ref.length - ref.footer_length, ref.length), _dim(reader)
    metadata = pyramid.parse_footer(tail, dim, ref)
    held = pyramid.row_groups(tail, metadata, ref)
    own = set(pyramid.groups_of(held.limits, space_id, level))
    groups = [group for group in row_groups(held.limits, wanted) if group in own]
    names = [name for name in pyramid.schema(dim).names if name != "bbox"]
    file.fetch(held.ranges(groups, names))
    table = read_rows(file, metadata, groups, names)
    pyramid.check_rows(table, ref, space_id, level)
    return table


def _dim(reader: Reader) -> int:
    size: int = reader.schema.field("embedding").type.list_size
    return size


# ---------------------------------------------------------------- making


def make_pyramid(store: Store, *, progress: Report) -> dict[str, Any]:
    """Make the pyramid of an archive from its rows, in bounded memory, and commit it; a generation
    that has this very pyramid already stays.

    Gives generation, level (the finest), rows, bytes, made (whether it was). Raises BadInput for
    http(s), an archive of single bands or one without rows, Conflict as `commit` does.
    """
    if isinstance(store, HttpStore):
        raise BadInput(f"pyramid: expected a folder or s3://, found {store.root}: read only")
    read_head(store)
    tried: list[Generation] = []

    def build(head: Head | None) -> Draft | None:
        assert head is not None
        now = head.generation
        again = _caught_up(store, tried[-1], now) if tried else None
        table = again or _made(store, now, progress)
        tried.append(replace(now, pyramid=table.ref))
        if table.ref == now.pyramid:
            return None
        more = table.ref.length - (now.pyramid.length if now.pyramid else 0)
        sizes = {**now.bytes, "overview": now.bytes.get("overview", 0) + more}
        return Draft(replace(now, pyramid=table.ref, bytes=sizes), _objects(table))

    head = commit(store, build)
    ref = head.generation.pyramid
    assert ref is not None
    number = head.generation.number
    made = number > tried[-1].number
    return {"generation": number, **(describe(ref) or {}), "made": made}


def _caught_up(store: Store, tried: Generation, now: Generation) -> pyramid.Table | None:
    """The pyramid that was made and written for a generation, with the rows of shards that are new
    now; None where some of its shards are gone."""
    before, after = (
        {shard.sha256: shard for shard in _reader(store, one).shards(one.parts)}
        for one in (tried, now)
    )
    if not before.keys() <= after.keys():
        return None
    fresh = [shard for sha256, shard in after.items() if sha256 not in before]
    return _with_rows(store, tried, fresh, now.places)


def _made(store: Store, generation: Generation, progress: Report) -> pyramid.Table:
    """The pyramid of all rows of a generation."""
    settings = generation.settings
    if oneband.single(settings):
        raise BadInput(
            f"{store.root}: expected tiles of all bands, found an archive of single bands, whose "
            "means over bands would be of nothing"
        )
    if settings.precision < 2 or not generation.tiles:
        raise BadInput(f"{store.root}: expected tiles of precision 2 or more, found none")
    reader = _reader(store, generation)
    shards = reader.shards(generation.parts)
    dim = _dim(reader)
    total, spaces, level = generation.tiles, {}, settings.precision - 1
    for space in generation.spaces:
        own = [shard for shard in shards if shard.space_id == space.space_id]
        if own:
            cells = _streamed(reader, own, level, progress, total)
            level = cells.level
            spaces[space.space_id] = cells
    return _dumped(spaces, generation.places, dim)


def _dumped(spaces: dict[str, Cells], places: int, dim: int) -> pyramid.Table:
    """The table of the spaces' cells, at the finest level that is worth its bytes."""
    least = min(cells.level for cells in spaces.values())
    same = {name: _at(cells, least) for name, cells in spaces.items()}
    level = cellmeans.finest_level(list(same.values()), places, pyramid.affordable(dim))
    return pyramid.dump({name: _at(cells, level) for name, cells in same.items()}, dim)


def _at(cells: Cells, level: int) -> Cells:
    return cells if cells.level == level else cellmeans.coarser(cells, level, finest=True)


def _streamed(
    reader: Reader, shards: Sequence[ShardRow], level: int, progress: Report, total: int
) -> Cells:
    """Cells of the rows of one space's shards, a portion at a time: those that no later shard can
    add to are done with. Where they become too many, their level becomes coarser."""
    plan = read_plan(shards, Filter())
    turns = plan.turns(reader.portion)
    done: list[Cells] = []
    held: list[Cells] = []
    for number, table in enumerate(reader.batches(plan, Filter(), COLUMNS)):
        held = [cellmeans.merge([*held, cellmeans.cells_of_rows(table, level)])]
        if number + 1 < len(turns):
            least = turns[number + 1].reads[0].shard.geohash_min
            complete = held[0].codes < cellmeans.codes_of([least], level)[0]
            done.append(held[0].pick(complete))
            held = [held[0].pick(~complete)]
        while level > 1 and sum(map(len, (*done, *held))) > pyramid.affordable(_dim(reader)):
            level -= 1
            done, held = [[_at(cells, level) for cells in some] for some in (done, held)]
        progress("pyramid", sum(turn.rows for turn in turns[: number + 1]), total)
    return cellmeans.merge([*done, *held])


# ---------------------------------------------------------------- extending


def extended(
    store: Store, held: Generation, fresh: Sequence[ShardRow], places: int
) -> PyramidRef | None:
    """The pyramid of a generation, where it has one, with the rows of shards that it does not have,
    written; places: of all. Raises as reading does."""
    if held.pyramid is None or not fresh:
        return held.pyramid
    table = _with_rows(store, held, fresh, places)
    for path, data in _objects(table):
        store.put_new(path, data)
    return table.ref


def _with_rows(
    store: Store, held: Generation, fresh: Sequence[ShardRow], places: int
) -> pyramid.Table:
    """The pyramid of a generation that has one, with rows of further shards; places: of all."""
    assert held.pyramid is not None
    reader = _reader(store, held)
    spaces = dict(_held(reader, held.pyramid))
    for space_id in sorted({shard.space_id for shard in fresh}):
        own = [shard for shard in fresh if shard.space_id == space_id]
        cells = _streamed(reader, own, held.pyramid.level, lambda *_: None, 0)
        before = [_at(spaces[space_id], cells.level)] if space_id in spaces else []
        spaces[space_id] = cellmeans.merge([*before, cells])
    return _dumped(spaces, places, _dim(reader))


def _reader(store: Store, generation: Generation) -> Reader:
    # Each shard is read once: there is little to keep.
    return Reader(store, generation.settings, KEPT, generation.spaces)


def _held(reader: Reader, ref: PyramidRef) -> Iterator[tuple[str, Cells]]:
    """The finest cells of each space of a pyramid."""
    table = _rows(reader, ref, Filter(), None, ref.level)
    for space_id in table["space_id"].unique().to_pylist():
        own = table.filter(pa.compute.equal(table["space_id"], space_id))
        yield space_id, pyramid.cells_of(own)


def _objects(table: pyramid.Table) -> tuple[tuple[str, bytes], ...]:
    return (
        (manifest.object_path("blocks", table.ref.blocks), table.outboard),
        (manifest.object_path("pyramid", table.ref.sha256), table.data),
    )
