"""What a job adds to an archive, merged into the generation that is current.

Only the manifest parts touched are read and written again; a shard, model or space that is
already there is not added twice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import pyarrow as pa

from embarchive import digests, inverted, levels, manifest, partition, parts, segments
from embarchive.commit import PATIENCE, Draft, Head, commit
from embarchive.errors import BadInput, Conflict
from embarchive.manifest import Generation, PartRef, ShardRow, Space, TableRef
from embarchive.reads import shard_rows
from embarchive.recipe import Settings
from embarchive.storage import Store
from embarchive.store import VerifiedObject

# What a space is; what it was trained on and clipped grows with the archive.
_IDENTITY = (
    "encoder", "encoder_length", "dim", "metric", "scale", "simhash", "architecture", "quantiser",
)  # fmt: skip


@dataclass(frozen=True)
class Addition:
    """New shards, models and spaces, whose bytes are on the store already or in `objects`.

    models: rows with the keys of MODEL_SCHEMA; scenes, places: how many are new; objects:
    (path, bytes) to write before the commit.
    """

    settings: Settings
    shards: tuple[ShardRow, ...] = ()
    models: tuple[Mapping[str, Any], ...] = ()
    spaces: tuple[Space, ...] = ()
    scenes: int = 0
    places: int = 0
    attribution: str = ""
    objects: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True)
class Swap:
    """Shards of one prefix and space, by hash, and those that take their place."""

    old: frozenset[str]
    new: tuple[ShardRow, ...]

    @property
    def first(self) -> str:
        """The least geohash."""
        return min(row.geohash_min for row in self.new)

    @property
    def last(self) -> str:
        """The greatest geohash."""
        return max(row.geohash_max for row in self.new)


def add_to_archive(
    store: Store,
    make: Callable[[Generation | None], Addition],
    *,
    patience: float = PATIENCE,
) -> Head:
    """Commit an addition and return the head that holds it.

    make: from the current generation (None: a new archive) to what to add; called again
    when another committer was first. It raises Conflict when a row of its own disagrees
    with a stored one. Raises BadInput when settings differ from the archive's, or it is packed.
    """

    def build(head: Head | None) -> Draft | None:
        parent = head.generation if head else None
        if parent:
            check_plain(str(store.root), parent.settings)
        return merge(store, parent, make(parent))

    return commit(store, build, patience=patience)


def check_plain(root: str, settings: Settings) -> None:
    """Raises BadInput for an archive whose embeddings are codes of a quantiser: nothing is added to
    it."""
    if settings.packed:
        raise BadInput(
            f"{root}: expected int8 embeddings to add to, found codes of {settings.packed} bytes; "
            "add to the archive that it was made from, and quantize that again"
        )


def merge(store: Store, parent: Generation | None, new: Addition) -> Draft | None:
    """The next generation with the addition in it; None when it holds it all already."""
    base = parent or _empty(new.settings)
    _check_settings(base.settings, new.settings)
    spaces = _merge_spaces(base.spaces, new.spaces)
    models = _merge_models(store, base.models, new.models)
    parts, objects, fresh = _merge_parts(store, base.parts, new.shards)
    same = not fresh and models is None and spaces == base.spaces
    if parent and same:
        return None
    places = base.places + new.places
    tables = [manifest.dump_models(models)] if models is not None else []
    ref = _table_ref(tables[0], len(models)) if models is not None else base.models
    generation = replace(
        base,
        spaces=spaces,
        models=ref,
        parts=parts,
        tiles=sum(part.rows for part in parts),
        places=places,
        scenes=base.scenes + new.scenes,
        attribution=_joined(base.attribution, new.attribution),
        overview=segments.extended(store, base, fresh),
        pyramid=levels.extended(store, base, fresh, places),
    )
    generation = replace(generation, bytes=sizes(store, generation, models))
    written = [(_table_path(data), data) for data in [*tables, *objects]]
    return Draft(generation, (*new.objects, *written))


def replace_shards(store: Store, parent: Generation, swaps: Sequence[Swap]) -> Draft | None:
    """The next generation with other shards that hold the same rows. A swap of which an old shard
    is gone is left out, it is another committer's work; None when no swap is left.

    Raises BadInput when the rows are not as many.
    """
    refs: list[PartRef] = []
    objects: list[bytes] = []
    for ref in parent.parts:
        here = [
            swap for swap in swaps if ref.geohash_min <= swap.last and swap.first <= ref.geohash_max
        ]
        changed = _swapped(store, ref, here) if here else []
        refs += [made for made, _ in changed] or [ref]
        objects += [data for _, data in changed]
    if not objects:
        return None
    refs.sort(key=lambda ref: ref.geohash_min)
    generation = replace(parent, parts=tuple(refs), tiles=sum(ref.rows for ref in refs))
    if generation.tiles != parent.tiles:
        raise BadInput(f"shards: expected {parent.tiles} rows in all, found {generation.tiles}")
    generation = replace(generation, bytes=sizes(store, generation))
    return Draft(generation, tuple((_table_path(data), data) for data in objects))


def _swapped(store: Store, ref: PartRef, swaps: Sequence[Swap]) -> list[tuple[PartRef, bytes]]:
    """A part with its shards swapped; nothing when it has none of them."""
    table = manifest.parse_part(_table(store, ref.sha256, ref.length), ref)
    names = table["sha256"].to_pylist()
    here = [swap for swap in swaps if swap.old <= set(names)]
    if not here:
        return []
    gone = frozenset[str]().union(*(swap.old for swap in here))
    left = table.filter(pa.array([sha not in gone for sha in names]))
    fresh = manifest.part_table([row for swap in here for row in swap.new])
    return partition.dump_parts(pa.concat_tables([left, fresh]))


def _empty(settings: Settings) -> Generation:
    sizes = {"shards": 0, "models": 0, "overview": 0}
    return Generation(0, None, "", "", settings, (), None, (), 0, 0, sizes, 0)


def _check_settings(held: Settings, new: Settings) -> None:
    for f in fields(Settings):
        expected, found = getattr(held, f.name), getattr(new, f.name)
        if expected != found:
            raise BadInput(
                f"settings: {f.name}: expected the archive's {str(expected)[:80]}, "
                f"found {str(found)[:80]}"
            )


def _merge_spaces(held: tuple[Space, ...], new: tuple[Space, ...]) -> tuple[Space, ...]:
    """Held spaces in their order, the new ones last; what is new of a held one replaces it."""
    found = {space.space_id: space for space in held}
    for space in new:
        old = found.get(space.space_id, space)
        for name in _IDENTITY:
            if getattr(old, name) != getattr(space, name):
                raise Conflict(
                    f"space {space.space_id}: {name}: expected {str(getattr(old, name))[:80]}, "
                    f"found {str(getattr(space, name))[:80]}"
                )
        found[space.space_id] = space
    return tuple(found.values())


def _merge_models(
    store: Store, held: TableRef | None, new: tuple[Mapping[str, Any], ...]
) -> pa.Table | None:
    """The models table with the new rows, after those of their regions that are held; None when
    it does not change. Of one model the first row wins."""
    rows = _models(store, held).to_pylist() if held else []
    known = {_model_key(row) for row in rows}
    fresh = {_model_key(row): row for row in reversed(new) if _model_key(row) not in known}
    if not fresh and (held or not new):
        return None
    return manifest.models_table([*rows, *fresh.values()])


def _model_key(row: Mapping[str, Any]) -> tuple[Any, Any, Any]:
    return row["model_id"], row.get("region"), row["space_id"]


def _models(store: Store, ref: TableRef) -> pa.Table:
    return manifest.parse_models(_table(store, ref.sha256, ref.length))


def _merge_parts(
    store: Store, held: tuple[PartRef, ...], new: tuple[ShardRow, ...]
) -> tuple[tuple[PartRef, ...], list[bytes], list[ShardRow]]:
    """Parts in geohash order, the bytes of the changed ones, the shards added."""
    if not new:
        return held, [], []
    width = len(new[0].prefix)
    spans = [(part.geohash_min[:width], part.geohash_max[:width]) for part in held]
    touched, apart = partition.merge_shards(spans, manifest.part_table(_distinct(new)))
    changed, added = partition.dump_parts(apart), shard_rows(apart)
    for home, rows in touched.items():
        old = manifest.parse_part(_table(store, held[home].sha256, held[home].length), held[home])
        known = set(old["sha256"].to_pylist())
        fresh = rows.filter(pa.array([sha not in known for sha in rows["sha256"].to_pylist()]))
        added += shard_rows(fresh)
        changed += partition.dump_parts(pa.concat_tables([old, fresh])) if len(fresh) else []
        if not len(fresh):
            touched[home] = fresh
    kept = [part for i, part in enumerate(held) if i not in touched or not len(touched[i])]
    parts = sorted([*kept, *(ref for ref, _ in changed)], key=lambda part: part.geohash_min)
    return tuple(parts), [data for _, data in changed], added


def _distinct(shards: tuple[ShardRow, ...]) -> list[ShardRow]:
    return list({shard.sha256: shard for shard in shards}.values())


def sizes(store: Store, generation: Generation, models: pa.Table | None = None) -> dict[str, int]:
    """Bytes of shards (not their outboards), of all of models/ that spaces and models name, and of
    overview and pyramid. models: the models table where it is at hand."""
    if models is None and generation.models:
        models = _models(store, generation.models)
    found: dict[str, int] = {}
    for space in generation.spaces:
        found |= {sha: length for _, sha, length in space.objects()}
    for row in models.to_pylist() if models is not None else []:
        found |= {sha: length for _, sha, length in parts.model_objects(row)}
    extra = [ref.length for ref in (generation.overview, generation.pyramid) if ref]
    if generation.overview:
        ref = generation.overview
        path = manifest.object_path("overview", ref.sha256)
        index = inverted.parse_index(VerifiedObject(store, path, ref.sha256, ref.length).whole())
        extra += [length for _, _, length in inverted.objects(index)]
    return {
        "shards": sum(part.shard_bytes for part in generation.parts),
        "models": sum(found.values()),
        "overview": sum(extra),
    }


def _joined(held: str, new: str) -> str:
    """Attributions, each once."""
    return "; ".join(dict.fromkeys(text for text in (*held.split("; "), *new.split("; ")) if text))


def _table(store: Store, sha256: str, length: int) -> bytes:
    path = manifest.object_path("manifest-parquet", sha256)
    return VerifiedObject(store, path, sha256, length).whole()


def _table_path(data: bytes) -> str:
    return manifest.object_path("manifest-parquet", digests.sha256(data))


def _table_ref(data: bytes, rows: int) -> TableRef:
    return TableRef(digests.sha256(data), len(data), rows)
