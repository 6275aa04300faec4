"""Garbage: what no generation that a reader may be on reaches, and that is past its grace time.

A generation is out of use once the next one is older than the grace time: a reader that opened it
while it was the current one has had that long. Everything else is kept: what such readers and
unfinished jobs need, whatever was written within the grace time, and names that are not ours.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from embarchive import digests, inverted, manifest, parts
from embarchive.commit import Head, read_head
from embarchive.errors import BadInput, Missing, StoreUnreachable
from embarchive.manifest import Generation, PartRef, TableRef, object_path
from embarchive.progress import Report
from embarchive.storage import Entry, Store
from embarchive.store import HttpStore, VerifiedObject

GRACE = 24.0
THREADS = 8
_FOLDERS = rf"(?:manifests|embeddings/gh={parts.CELL}|models|blocks|overview|pyramid|items)"
_PLAN_OF = re.compile(rf"staging/({parts.SHA})/(?:plan\.json|[a-z]+/[A-Za-z0-9._=-]+\.json)")
_OBJECT = re.compile(
    rf"(?:manifests/({parts.SHA})\.(?:json|parquet)|embeddings/gh={parts.CELL}/({parts.SHA})\.parquet"
    rf"|models/({parts.SHA})\.(?:safetensors|json|onnx)|blocks/({parts.SHA})"
    rf"|(?:overview|pyramid)/({parts.SHA})\.parquet)"
)
# What writers that were killed leave: temporary files, and probes of conditional writes.
_LEAVING = re.compile(
    rf"(?:(?:{_FOLDERS}|staging(?:/{parts.SHA}(?:/[a-z]+)?)?)/)?\.tmp-[0-9a-f]{{16}}"
    r"|staging/probe-[0-9a-f]{16}"
)
_HASH = re.compile(parts.SHA.encode())
_MAX_RECORD = 256 << 20


@dataclass(frozen=True)
class _Sweep:
    """One run: where, the last moment (UTC, by the store) that is past its grace time, and
    whether to delete or only to list."""

    store: Store
    now: datetime
    before: datetime
    delete: bool

    def remove(self, entry: Entry) -> bool:
        """Whether the object is gone, or would be."""
        if entry.modified >= self.before:
            return False
        return not self.delete or self.store.delete_older(entry.path, self.before)


def collect(
    store: Store, *, grace: float = GRACE, delete: bool = False, progress: Report
) -> dict[str, Any]:
    """List what may be removed from an archive, or remove it.

    grace: hours; must exceed any job that writes and any reader that stays open. Gives
    generation, deleted (whether it was), grace, kept (objects left below the root), removed
    [{object, bytes, age: seconds}] and bytes, their sum. Doing it again is harmless, and so is
    being killed. Raises BadInput for http(s), NotAnArchive, and as reading does where what
    is kept cannot be told for sure: then nothing but unfinished plans was removed.
    """
    if isinstance(store, HttpStore):
        raise BadInput(f"gc: expected a folder or s3://, found {store.root}: read only")
    if not 0 <= grace < 1e6:
        raise BadInput(f"gc: expected a grace time of 0 to 1000000 hours, found {grace}")
    read_head(store)
    now = _clock(store) if delete else datetime.now(UTC)
    sweep = _Sweep(store, now, now - timedelta(hours=grace), delete)
    entries = store.list("")
    removed = _dead_plans(sweep, entries)
    # Whoever takes a plan up again from here on finds none of its records; who did so before is
    # seen in this second listing, or in the generation that is read after it.
    gone = {entry.path for entry in removed}
    staged = [entry for entry in entries if entry.path not in gone]
    live = _hashes(store, store.list("staging") if delete else staged)
    progress("gc read", 0, 0)
    head = read_head(store)
    kept = reached(store, head, {entry.path: entry.modified for entry in entries}, sweep.before)
    garbage = [entry for entry in entries if _is_garbage(entry, kept, live)]
    removed += _remove(sweep, garbage, progress)
    return {
        "generation": head.generation.number,
        "deleted": delete,
        "grace": grace,
        "kept": len(entries) - len(removed),
        "removed": [
            {
                "object": entry.path,
                "bytes": entry.length,
                "age": round((now - entry.modified).total_seconds()),
            }
            for entry in sorted(removed, key=lambda entry: entry.path)
        ],
        "bytes": sum(entry.length for entry in removed),
    }


def _clock(store: Store) -> datetime:
    """The store's time or this machine's, whichever is earlier: a clock that is ahead must not
    make anything old."""
    probe = f"staging/probe-{secrets.token_hex(8)}"
    store.put_new(probe, b"probe")
    try:
        found = [entry.modified for entry in store.list("staging") if entry.path == probe]
    finally:
        store.delete(probe)
    if not found:
        raise StoreUnreachable(
            f"{store.root}/{probe}: expected it in the listing, found it missing"
        )
    return min(datetime.now(UTC), found[0])


# ---------------------------------------------------------------- what is reached


def reached(
    store: Store, head: Head, written: Mapping[str, datetime], before: datetime
) -> set[str]:
    """Paths of all that a head names, and its ancestors whose successor is not older than
    `before`; written: when, by path. Raises Missing, Damaged for a head that is not whole."""
    found: set[str] = set()
    generation, sha256 = head.generation, head.pointer.manifest
    while True:
        path = object_path("manifest-json", sha256)
        try:
            for one in _names(store, generation, found):
                found.add(one)
        except Missing:
            if generation is head.generation:
                raise
            # A generation that was collected in part is no longer there for anyone.
        found.add(path)
        parent = generation.parent
        if parent is None or written.get(path, before) < before:
            return found
        try:
            body = store.get(object_path("manifest-json", parent), limit=manifest.MAX_GENERATION)
        except Missing:
            return found
        digests.check_object(object_path("manifest-json", parent), body, parent, len(body))
        generation, sha256 = manifest.parse_generation(body), parent


def _names(store: Store, generation: Generation, known: set[str]) -> Iterator[str]:
    """Paths that a generation names, but for those that a table among `known` names."""
    for space in generation.spaces:
        yield from (object_path(kind, sha256) for kind, sha256, _ in space.objects())
    if generation.pyramid:
        yield object_path("pyramid", generation.pyramid.sha256)
        yield object_path("blocks", generation.pyramid.blocks)
    if generation.overview:
        path = object_path("overview", generation.overview.sha256)
        if path not in known:
            ref = generation.overview
            data = VerifiedObject(store, path, ref.sha256, ref.length).whole()
            named = inverted.objects(inverted.parse_index(data))
            yield from (object_path(kind, sha256) for kind, sha256, _ in named)
            yield path
    for table in (generation.models, *generation.parts):
        if table is None:
            continue
        path = object_path("manifest-parquet", table.sha256)
        if path not in known:
            # only then is the table known: what it names comes first
            yield from _named_in(store, path, table)
            yield path


def _named_in(store: Store, path: str, ref: PartRef | TableRef) -> list[str]:
    data = VerifiedObject(store, path, ref.sha256, ref.length).whole()
    if isinstance(ref, TableRef):
        rows = manifest.parse_models(data).to_pylist()
        return [object_path(kind, sha) for row in rows for kind, sha, _ in parts.model_objects(row)]
    table = manifest.parse_part(data, ref)
    columns = [table[name].to_pylist() for name in ("prefix", "sha256", "blocks")]
    return [
        path
        for prefix, sha256, blocks in zip(*columns, strict=True)
        for path in (object_path("shard", sha256, prefix), object_path("blocks", blocks))
    ]


# ---------------------------------------------------------------- jobs


def _dead_plans(sweep: _Sweep, entries: Iterable[Entry]) -> list[Entry]:
    """Remove plans of which nothing was written within the grace time; what went of them.

    The plan goes first: a job that takes it up again writes it anew, which keeps it, and all
    records with it.
    """
    plans: dict[str, list[Entry]] = {}
    for entry in entries:
        found = _PLAN_OF.fullmatch(entry.path)
        if found:
            plans.setdefault(found[1], []).append(entry)
    removed = []
    for name, some in plans.items():
        if max(entry.modified for entry in some) >= sweep.before:
            continue
        some.sort(key=lambda entry: entry.path != f"staging/{name}/plan.json")
        for entry in some:
            if not sweep.remove(entry):
                break
            removed.append(entry)
    return removed


def _hashes(store: Store, staged: Iterable[Entry]) -> set[str]:
    """All hashes in what is staged: what records of unfinished jobs name."""
    found: set[str] = set()
    for entry in staged:
        if _PLAN_OF.fullmatch(entry.path):
            with suppress(Missing):
                data = store.get(entry.path, limit=_MAX_RECORD)
                found |= {match.decode() for match in _HASH.findall(data)}
    return found


# ---------------------------------------------------------------- removing


def _is_garbage(entry: Entry, kept: set[str], live: set[str]) -> bool:
    if _LEAVING.fullmatch(entry.path):
        return True
    named = _OBJECT.fullmatch(entry.path)
    if named is None or entry.path in kept:
        return False
    return next(sha for sha in named.groups() if sha) not in live


def _remove(sweep: _Sweep, garbage: Sequence[Entry], progress: Report) -> list[Entry]:
    removed = []
    with ThreadPoolExecutor(THREADS) as pool:
        for done, (entry, gone) in enumerate(
            zip(garbage, pool.map(sweep.remove, garbage), strict=True), 1
        ):
            removed += [entry] if gone else []
            progress("gc delete" if sweep.delete else "gc", done, len(garbage))
    return removed
