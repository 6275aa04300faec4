"""How generation N becomes N+1: objects first, then the generation, then the pointer.

Objects are named by content, so writing them twice is harmless and what a killed commit
leaves behind are orphans. The pointer is swapped only if it is still the one that was read;
a committer that loses the race builds again on the winner's generation. An answer that was
lost is resolved by reading back: our commit in the pointer, or among the ancestors of the
current generation, means that it landed.
"""

from __future__ import annotations

import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from embarchive import digests, manifest
from embarchive.errors import (
    BadInput,
    CommitUnknown,
    Conflict,
    EmbarchiveError,
    Missing,
    NotAnArchive,
    StoreUnreachable,
)
from embarchive.localstore import LocalStore
from embarchive.manifest import Generation, Pointer
from embarchive.storage import POINTER, Store
from embarchive.store import VerifiedObject

log = logging.getLogger("embarchive")

PATIENCE = 300.0
READ_BACKS = 5


@dataclass(frozen=True)
class Head:
    """A generation and the pointer that named it."""

    pointer: Pointer
    generation: Generation


@dataclass(frozen=True)
class Draft:
    """What a commit adds: a generation, and the objects to write before it.

    The generation's number, parent, commit_id and created are filled in by `commit`.
    objects: (path, bytes), each named by its content.
    """

    generation: Generation
    objects: tuple[tuple[str, bytes], ...] = ()


def read_head(store: Store, known: Head | None = None) -> Head:
    """Pointer and generation, verified against each other; `known` itself when it is still the
    current one. Raises NotAnArchive, Damaged, UnknownVersion, Missing, StoreUnreachable."""
    found = _find(store, known)
    if found is None:
        raise NotAnArchive(f"{store.root}: expected {POINTER}, found none")
    return found[0]


def find_head(store: Store) -> Head | None:
    """As `read_head`; None where there is no archive yet."""
    found = _find(store)
    return found[0] if found else None


def _find(store: Store, known: Head | None = None) -> tuple[Head, str] | None:
    """The head, or the known one, and what the store compares when its pointer is swapped."""
    found = store.read_pointer()
    if found is None:
        return None
    data, token = found
    pointer = manifest.parse_pointer(data)
    if known is not None and pointer == known.pointer:
        return known, token
    path = manifest.object_path("manifest-json", pointer.manifest)
    body = VerifiedObject(store, path, pointer.manifest, pointer.length).whole()
    generation = manifest.parse_generation(body, f"generation {pointer.manifest[:12]}")
    manifest.check_pair(pointer, generation)
    return Head(pointer, generation), token


def commit(
    store: Store, build: Callable[[Head | None], Draft | None], *, patience: float = PATIENCE
) -> Head:
    """Make the next generation, durably, and return it.

    build: from the current head (None: no archive yet) to what to add, or None when nothing
    is new: then the head is returned as it is. It is called again on the new head whenever
    another committer was first; it raises Conflict for what cannot be rebased.
    patience: seconds to keep trying. Raises Conflict when it runs out, CommitUnknown when
    the outcome cannot be read back.
    """
    store.check_writable()
    written: set[str] = set()
    until, pause = time.monotonic() + patience, 0.01
    while True:
        found = _find(store)
        head, token = found or (None, None)
        draft = build(head)
        if draft is None:
            if head is None:
                raise NotAnArchive(f"{store.root}: expected something to commit, found nothing")
            return head
        pointer, generation, body = _seal(draft.generation, head)
        path = manifest.object_path("manifest-json", pointer.manifest)
        for name, data in (*draft.objects, (path, body)):
            if name not in written:
                store.put_new(name, data)
                written.add(name)
        if _swap(store, pointer, token):
            log.info("committed generation %d", generation.number)
            return Head(pointer, generation)
        if time.monotonic() > until:
            raise Conflict(
                f"{store.root}: expected to commit within {patience:g} s, "
                "found other committers faster every time"
            )
        time.sleep(random.uniform(0, pause))
        pause = min(pause * 2, 2.0)


def _seal(draft: Generation, head: Head | None) -> tuple[Pointer, Generation, bytes]:
    generation = replace(
        draft,
        number=head.generation.number + 1 if head else 1,
        parent=head.pointer.manifest if head else None,
        commit_id=secrets.token_hex(16),
        created=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    body = manifest.dump_generation(generation)
    sha256 = digests.sha256(body)
    return Pointer(generation.number, sha256, len(body), generation.commit_id), generation, body


def _swap(store: Store, pointer: Pointer, old: str | None) -> bool:
    """Swap the pointer. Returns False when another committer was first.

    The same bytes are sent again while the pointer is still the old one: whichever of the
    attempts lands, it is this commit and only once.
    """
    data = manifest.dump_pointer(pointer)
    reason: EmbarchiveError | None = None
    for turn in range(READ_BACKS):
        if turn:
            time.sleep(random.uniform(0.01, 0.05) * 2**turn)
        try:
            store.swap_pointer(data, old)
            return True
        except Conflict as error:
            reason = error
        except CommitUnknown as error:
            if not store.confirms_by_reading:
                raise
            reason = error
        try:
            found = store.read_pointer()
        except (StoreUnreachable, Missing) as error:
            reason = error
            continue
        if (found[1] if found else None) != old:
            return _landed(store, pointer, found)
    raise CommitUnknown(
        f"{store.root}: commit {pointer.commit_id}: expected it to be read back, found: {reason}"
    )


def _landed(store: Store, ours: Pointer, found: tuple[bytes, str] | None) -> bool:
    """Whether our generation is the current one or an ancestor of it."""
    if found is None:
        raise CommitUnknown(f"{store.root}: commit {ours.commit_id}: the pointer is gone")
    pointer = manifest.parse_pointer(found[0])
    number, sha256 = pointer.generation, pointer.manifest
    try:
        while number > ours.generation:
            path = manifest.object_path("manifest-json", sha256)
            body = store.get(path, limit=manifest.MAX_GENERATION)
            digests.check_object(path, body, sha256, len(body))
            generation = manifest.parse_generation(body)
            if generation.parent is None or generation.number != number:
                break
            number, sha256 = number - 1, generation.parent
    except EmbarchiveError as error:
        raise CommitUnknown(
            f"{store.root}: commit {ours.commit_id}: expected its descendants, found: {error}"
        ) from None
    return sha256 == ours.manifest


# ---------------------------------------------------------------- what is refused


@contextmanager
def unless_refused(store: Store) -> Iterator[Store]:
    """The store to write a new archive to: when BadInput ends the writing, what was written through
    it goes again. Nothing goes once there is an archive."""
    kept = _Noting(store)
    with no_new_folder(store):
        try:
            yield cast(Store, kept)
        except BadInput:
            if find_head(store) is None:
                for path in kept.written:
                    store.delete(path)
            raise


@contextmanager
def no_new_folder(store: Store) -> Iterator[None]:
    """Take away the empty folders that came to be for an archive that BadInput ended."""
    local = isinstance(store, LocalStore)
    root = Path(store.root)
    missing = [one for one in (root, *root.parents) if not one.exists()] if local else []
    try:
        yield
    except BadInput:
        # The system itself refuses to remove a folder that holds anything.
        with suppress(OSError):
            for folder in missing:
                folder.rmdir()
        raise


class _Noting:
    """A store that notes the objects put to it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.written: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def put_new(self, path: str, data: bytes) -> None:
        self.written.append(path)
        self._store.put_new(path, data)
