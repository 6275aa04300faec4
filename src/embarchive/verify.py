"""Hash again everything that the current generation reaches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from embarchive import digests, heads, inverted, manifest, parts, pyramid
from embarchive.commit import find_head
from embarchive.errors import (
    EmbarchiveError,
    Missing,
    NotAnArchive,
    StoreUnreachable,
    UnknownVersion,
)
from embarchive.manifest import Generation
from embarchive.recipe import Settings
from embarchive.shards import parse_footer
from embarchive.storage import POINTER, Store

THREADS = 4
Bad = dict[str, str]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Item:
    """One object to check; shard: its manifest row when it is a shard; lists: rows of the
    overview's index when it is a file of lists."""

    path: str
    sha256: str
    length: int
    shard: dict[str, Any] | None = None
    lists: tuple[dict[str, Any], ...] = ()


def verify(store: Store, progress: Progress | None = None) -> dict[str, Any]:
    """{"ok": bool, "checked": objects, "bad": [{"object", "expected", "found"}]}.

    Every object's length and SHA-256, every shard's outboard and rows, and that pointer,
    generation and tables agree. progress(done, total) after each object. Raises
    NotAnArchive without a pointer, UnknownVersion, StoreUnreachable.
    """
    bad: list[Bad] = []
    try:
        head = find_head(store)
    except (UnknownVersion, StoreUnreachable):
        raise
    except EmbarchiveError as error:
        return {"ok": False, "checked": 1, "bad": [_said(_named(error), error)]}
    if head is None:
        raise NotAnArchive(f"{store.root}: expected {POINTER}, found none")
    tables, items = _tables(store, head.generation, bad)
    items += list(_models(head.generation, tables))
    counts = _counts(head.generation, tables)
    seen = {item.path: item for item in items}
    checked, settings = 2 + len(tables), head.generation.settings
    total = checked + len(seen) + bool(head.generation.pyramid)
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(lambda item: _check(store, item, settings), seen.values()):
            bad += found
            checked += 1
            if progress:
                progress(checked, total)
    if head.generation.pyramid:
        bad += _check_pyramid(store, head.generation, counts)
        checked += 1
        if progress:
            progress(checked, total)
    return {"ok": not bad, "checked": checked, "bad": bad}


def _tables(
    store: Store, generation: Generation, bad: list[Bad]
) -> tuple[dict[str, pa.Table | None], list[Item]]:
    """The models table and parts by path (None: damaged), and the shards that parts name."""
    tables: dict[str, pa.Table | None] = {}
    items: list[Item] = []
    for ref in (generation.models, *generation.parts):
        if ref is None:
            continue
        item = Item(manifest.object_path("manifest-parquet", ref.sha256), ref.sha256, ref.length)
        tables[item.path] = None
        data, wrong = _fetch(store, item)
        bad += wrong
        if data is None:
            continue
        try:
            if isinstance(ref, manifest.PartRef):
                tables[item.path] = manifest.parse_part(data, ref)
                items += _shards(tables[item.path])
            else:
                tables[item.path] = manifest.parse_models(data)
        except EmbarchiveError as error:
            bad.append(_said(item.path, error))
    if generation.overview:
        _index(store, generation, tables, bad)
    return tables, items


def _index(
    store: Store, generation: Generation, tables: dict[str, pa.Table | None], bad: list[Bad]
) -> None:
    """The overview's index among the tables, its rows counted."""
    assert generation.overview is not None
    item = _item("overview", generation.overview.sha256, generation.overview.length)
    tables[item.path] = None
    data, wrong = _fetch(store, item)
    bad += wrong
    if data is None:
        return
    try:
        table = tables[item.path] = inverted.parse_index(data)
    except EmbarchiveError as error:
        bad.append(_said(item.path, error))
        return
    counts = _counts(generation, tables)
    if counts is None:
        return
    for space_id, held in _summed([table]).items():
        if held != counts.get(space_id, 0):
            expected = f"{counts.get(space_id, 0)} rows in space {space_id}"
            bad.append(_bad(item.path, expected, f"{held}"))


def _shards(part: Any) -> Iterator[Item]:
    for row in part.to_pylist():
        path = manifest.object_path("shard", row["sha256"], row["prefix"])
        yield Item(path, row["sha256"], row["length"], row)


def _models(generation: Generation, tables: dict[str, pa.Table | None]) -> Iterator[Item]:
    """Encoders, weights, cards, ONNX files and the overview."""
    for space in generation.spaces:
        yield from (_item(*one) for one in space.objects())
    if generation.overview:
        yield _item("overview", generation.overview.sha256, generation.overview.length)
        index = tables[manifest.object_path("overview", generation.overview.sha256)]
        yield from _lists(index) if index is not None else ()
    if not generation.models:
        return
    table = tables[manifest.object_path("manifest-parquet", generation.models.sha256)]
    for row in table.to_pylist() if table is not None else []:
        yield from (_item(*one) for one in parts.model_objects(row))


def _lists(index: pa.Table) -> Iterator[Item]:
    """Centroids, and files with the rows of the index that say what lists they hold."""
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in index.to_pylist():
        rows.setdefault(row["file"], []).append(row)
    for kind, sha256, length in inverted.objects(index):
        yield replace(_item(kind, sha256, length), lists=tuple(rows.get(sha256, ())))


def _item(kind: str, sha256: str, length: int) -> Item:
    return Item(manifest.object_path(kind, sha256), sha256, length)


def _counts(generation: Generation, tables: dict[str, pa.Table | None]) -> dict[str, int] | None:
    """Rows of each space by the manifest; None where a part is damaged."""
    paths = [manifest.object_path("manifest-parquet", part.sha256) for part in generation.parts]
    held = [tables[path] for path in paths]
    whole = [table for table in held if table is not None]
    return _summed(whole) if len(whole) == len(held) else None


def _summed(held: Sequence[pa.Table]) -> dict[str, int]:
    """Rows of each space by tables that say how many rows there are of one."""
    found: dict[str, int] = {}
    for table in held:
        for row in table.select(["space_id", "rows"]).to_pylist():
            found[row["space_id"]] = found.get(row["space_id"], 0) + row["rows"]
    return found


def _check(store: Store, item: Item, settings: Settings) -> list[Bad]:
    if item.shard is None:
        data, bad = _fetch(store, item)
        return bad if data is None else list(_wrong_lists(item, data))
    row = item.shard
    data, bad = _with_outboard(store, item, row["blocks"])
    if data is None:
        return bad
    try:
        tail = data[-row["footer_length"] :]
        rows = parse_footer(tail, settings.dim, settings.bits, item.path, settings.packed).num_rows
        if rows != row["rows"]:
            bad.append(_bad(item.path, f"{row['rows']} rows", f"{rows} rows"))
    except EmbarchiveError as error:
        bad.append(_said(item.path, error))
    return bad


def _wrong_lists(item: Item, data: bytes) -> Iterator[Bad]:
    """Lists of a file that are not what the index says."""
    for row in item.lists:
        found = digests.short(data[row["offset"] : row["offset"] + row["length"]])
        if found != row["digest"]:
            yield _bad(f"{item.path} list {row['list']}", row["digest"].hex(), found.hex())


def _with_outboard(store: Store, item: Item, blocks: str) -> tuple[bytes | None, list[Bad]]:
    """The object's bytes when they are what they should be; its outboard is checked too."""
    data, bad = _fetch(store, item)
    path = manifest.object_path("blocks", blocks)
    held, wrong = _fetched(store, path, blocks, heads.most(item.length), f"sha256 {blocks}")
    bad += wrong
    if data is not None and held is not None:
        bad += _wrong_outboard(item, data, blocks, held)
    return data, bad


def _wrong_outboard(item: Item, data: bytes, blocks: str, held: bytes) -> Iterator[Bad]:
    """Digests, and copies in the head, that are not of the object's bytes."""
    path, expected = manifest.object_path("blocks", blocks), digests.block_digests(data)
    try:
        outboard, tail = heads.split(path, held, item.length)
        head = heads.parse(path, tail, item.length)
    except EmbarchiveError as error:
        yield _said(path, error)
        return
    if outboard != expected:
        found = digests.sha256(expected + tail)
        yield _bad(f"{item.path} outboard", blocks, found)
    for start, end, at in head.spans:
        copy = head.held[at : at + end - start]
        if copy != data[start:end]:
            right, found = digests.sha256(data[start:end]), digests.sha256(copy)
            yield _bad(f"{path} head {start}-{end}", f"sha256 {right}", f"sha256 {found}")


def _check_pyramid(
    store: Store, generation: Generation, counts: dict[str, int] | None
) -> list[Bad]:
    """The pyramid's bytes and outboard, every row, and that each level has all rows of a space."""
    ref = generation.pyramid
    assert ref is not None
    item = _item("pyramid", ref.sha256, ref.length)
    data, bad = _with_outboard(store, item, ref.blocks)
    if data is None:
        return bad
    try:
        table = pyramid.parse(data, ref)
    except EmbarchiveError as error:
        return [*bad, _said(item.path, error)]
    wanted = {
        (space_id, level): count
        for space_id, count in (counts or {}).items()
        for level in range(1, ref.level + 1)
    }
    if counts is not None and (found := pyramid.counts(table)) != wanted:
        odd = sorted(found.items() ^ wanted.items())[0]
        expected = f"{wanted.get(odd[0], 0)} rows in space {odd[0][0]} at level {odd[0][1]}"
        bad.append(_bad(item.path, expected, f"{found.get(odd[0], 0)}"))
    return bad


def _fetch(store: Store, item: Item) -> tuple[bytes | None, list[Bad]]:
    """The object's bytes when they are what they should be."""
    expected = f"{item.length} bytes, sha256 {item.sha256}"
    data, bad = _fetched(store, item.path, item.sha256, item.length, expected)
    if data is not None and len(data) != item.length:
        return None, [_bad(item.path, expected, f"{len(data)} bytes, sha256 {item.sha256}")]
    return data, bad


def _fetched(
    store: Store, path: str, sha256: str, limit: int, expected: str
) -> tuple[bytes | None, list[Bad]]:
    """An object's bytes when they are at most so many and have this hash."""
    try:
        data = store.get(path, limit=limit)
    except Missing:
        return None, [_bad(path, expected, "none")]
    except StoreUnreachable:
        raise
    except EmbarchiveError as error:
        return None, [_bad(path, expected, _found(error))]
    found = digests.sha256(data)
    if found != sha256:
        return None, [_bad(path, expected, f"{len(data)} bytes, sha256 {found}")]
    return data, []


def _bad(name: str, expected: str, found: str) -> Bad:
    return {"object": name, "expected": expected, "found": found}


def _said(name: str, error: EmbarchiveError) -> Bad:
    text = str(error)
    expected = text.partition("expected ")[2].partition(", found")[0] or "a readable object"
    return _bad(name, expected, _found(error))


def _named(error: EmbarchiveError) -> str:
    """The object that the error is about: the pointer or the generation it names."""
    name = str(error).partition(": expected")[0]
    return name[name.rfind("manifests/") :] if "manifests/" in name else POINTER


def _found(error: EmbarchiveError) -> str:
    return str(error).rpartition("found ")[2]
