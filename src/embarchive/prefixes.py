"""What an archive holds under a shard prefix, and new rows written there as shards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from typing import Any

import pyarrow as pa

from embarchive import digests, rows, shards
from embarchive.archive import Archive
from embarchive.errors import Conflict
from embarchive.manifest import ShardRow, object_path
from embarchive.recipe import Settings
from embarchive.storage import Store

KEYS = ("geohash", "datetime", "source", "input_digest")
Key = tuple[str, datetime | None, str]


def agree(key: Key, held: bytes, new: bytes) -> None:
    """Raise Conflict, naming both digests, when a stored tile has other input pixels."""
    if held != new:
        name, when, source = key
        raise Conflict(
            f"tile {name} of {source} at {when}: expected the stored input {held.hex()}, "
            f"found {new.hex()}"
        )


@dataclass(frozen=True)
class Stored:
    """What is held under a shard prefix: the input_digest of each row of a space by (geohash,
    datetime, source), the places of every space, and the sources of the others."""

    keys: dict[Key, bytes]
    places: frozenset[str]
    elsewhere: frozenset[str]


NOTHING = Stored({}, frozenset(), frozenset())


def held_rows(archive: Archive, prefix: str, space_id: str) -> Stored:
    """What a generation holds under a shard prefix."""
    keys: dict[str, dict[Key, bytes]] = {space_id: {}}
    for space in archive.spaces:
        held = archive.select(geohash=[prefix], columns=list(KEYS), space=space.space_id)
        columns = [held[name].to_pylist() for name in KEYS]
        found = zip(*columns, strict=True)
        keys[space.space_id] = {(g, when, s): digest for g, when, s, digest in found}
    others = [keys[name] for name in keys if name != space_id]
    return Stored(
        keys[space_id],
        frozenset(key[0] for some in keys.values() for key in some),
        frozenset(key[2] for some in others for key in some),
    )


def put_shard(store: Store, shard: shards.Shard, prefix: str, space_id: str) -> ShardRow:
    """Store a shard and its outboard; its row in a manifest part."""
    blocks = digests.sha256(shard.outboard)
    store.put_new(object_path("blocks", blocks), shard.outboard)
    store.put_new(object_path("shard", shard.sha256, prefix), shard.data)
    known = {f.name: getattr(shard, f.name) for f in fields(ShardRow) if hasattr(shard, f.name)}
    return ShardRow(prefix=prefix, space_id=space_id, blocks=blocks, **known)


def write_shard_record(
    store: Store,
    settings: Settings,
    space: Mapping[str, Any],
    prefix: str,
    found: Sequence[pa.Table],
    held: Stored,
) -> dict[str, Any]:
    """Write the shards of a prefix; their record."""
    if not found:
        return {"rows": 0, "places": 0, "sources": [], "shards": []}
    table = rows.sort_rows(pa.concat_tables(found).unify_dictionaries())
    emb = shards.emb_metadata(settings, space["space_id"], space["encoder"], space["scale"])
    written = []
    for shard in shards.write_shards(table, emb):
        values = asdict(put_shard(store, shard, prefix, space["space_id"]))
        values["model_ids"], values["bbox"] = list(shard.model_ids), list(shard.bbox)
        for key in ("datetime_min", "datetime_max"):
            moment: datetime | None = getattr(shard, key)
            values[key] = moment.isoformat() if moment else None
        written.append(values)
    return {
        "rows": len(table),
        "places": len(set(table["geohash"].to_pylist()) - held.places),
        "sources": sorted(set(table["source"].cast(pa.string()).to_pylist()) - held.elsewhere),
        "shards": written,
    }


def shard_row(values: Mapping[str, Any]) -> ShardRow:
    """The row of a manifest part that a record has."""
    plain = dict(values)
    for key in ("datetime_min", "datetime_max"):
        plain[key] = datetime.fromisoformat(plain[key]) if plain[key] else None
    plain["bbox"], plain["model_ids"] = tuple(plain["bbox"]), tuple(plain["model_ids"])
    return ShardRow(**plain)
