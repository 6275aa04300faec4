"""Verified bytes at hand: objects, and shards as files of which parts are fetched once.

Every byte handed on was checked by `store`. Verified bytes are kept (256 MB at most, least
recently used first out), so that asking twice costs one request.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from embarchive import heads
from embarchive.digests import BLOCK
from embarchive.errors import Damaged
from embarchive.heads import WHOLE_BYTES, Head
from embarchive.rangefile import RangeFile
from embarchive.store import VerifiedObject

CACHE_BYTES = 256 << 20
# Beside the number of a block: the whole object, the head of a shard.
WHOLE, HEAD = -1, -2


class Cache:
    """Verified bytes by key, thread safe, least recently used first out."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._held = 0
        self._items: OrderedDict[tuple[str, int], bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[str, int]) -> bytes | None:
        """The bytes, or None."""
        with self._lock:
            found = self._items.get(key)
            if found is not None:
                self._items.move_to_end(key)
            return found

    def put(self, key: tuple[str, int], data: bytes) -> None:
        """Keep the bytes, unless they alone are over the limit."""
        if len(data) > self._limit:
            return
        with self._lock:
            old = self._items.pop(key, b"")
            self._items[key] = data
            self._held += len(data) - len(old)
            while self._held > self._limit:
                self._held -= len(self._items.popitem(last=False)[1])


class Named(Protocol):
    """An object by its content."""

    @property
    def sha256(self) -> str: ...
    @property
    def length(self) -> int: ...


class ShardFile(RangeFile):
    """One shard, or the pyramid, as a read-only file whose every byte is verified before it is
    returned. What the head of a shard holds takes no request of its own."""

    def __init__(self, shard: Named, verified: VerifiedObject, cache: Cache) -> None:
        super().__init__(shard.length)
        self.shard, self._verified, self._cache = shard, verified, cache
        self._parsed: Head | None = None

    def range(self, start: int, end: int) -> bytes:
        """Bytes [start, end). Raises Damaged for such as the object does not have."""
        self._check(start, end)
        whole = self._whole()
        if whole is not None:
            return whole[start:end]
        held = self._head(end - start).get(start, end)
        if held is not None:
            return held
        first, last = start // BLOCK, (end - 1) // BLOCK
        blocks = self._blocks(range(first, last + 1))
        return b"".join(blocks)[start - first * BLOCK : end - first * BLOCK]

    def fetch(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Bring the ranges into the cache in as few requests as possible. Raises Damaged for such
        as the object does not have."""
        asked = list(ranges)
        for start, end in asked:
            self._check(start, end)
        if self._whole() is not None:
            return
        head = self._head(sum(end - start for start, end in asked))
        left = [(s, e) for s, e in asked if head.get(s, e) is None]
        wanted = {b for s, e in left for b in range(s // BLOCK, (e - 1) // BLOCK + 1)}
        self._blocks(sorted(wanted))

    def holds(self, ranges: Iterable[tuple[int, int]]) -> bool:
        """Whether the ranges are at hand in the head, or with the whole object."""
        if self._whole() is not None:
            return True
        return all(self._head(end - start).get(start, end) is not None for start, end in ranges)

    def _check(self, start: int, end: int) -> None:
        if not 0 <= start <= end <= self.shard.length:
            expected = f"bytes below its end at {self.shard.length}"
            raise Damaged(f"{self._verified.path}: expected {expected}, found {start} to {end}")

    def fetch_whole(self) -> bytes:
        """The whole object, in one request unless it is at hand."""
        key = (self.shard.sha256, WHOLE)
        data = self._cache.get(key)
        if data is None:
            data = self._verified.whole()
            self._cache.put(key, data)
        return data

    def _whole(self) -> bytes | None:
        """The whole object where it is at hand, or small enough to be fetched so."""
        if self.shard.length <= WHOLE_BYTES:
            return self.fetch_whole()
        return self._cache.get((self.shard.sha256, WHOLE))

    def _head(self, wanted: int) -> Head:
        """The head; none where so many bytes are fetched with the whole object."""
        if self._verified.rather_whole(wanted):
            return heads.NONE
        if self._parsed is None:
            key = (self.shard.sha256, HEAD)
            held = self._cache.get(key)
            if held is None:
                held = self._verified.head()
                self._cache.put(key, held)
            self._parsed = heads.parse(self._verified.path, held, self.shard.length)
        return self._parsed

    def _blocks(self, numbers: Sequence[int]) -> list[bytes]:
        sha = self.shard.sha256
        found = {n: self._cache.get((sha, n)) for n in numbers}
        runs = _runs([n for n, data in found.items() if data is None])
        if runs and self._verified.rather_whole(BLOCK * sum(b - a for a, b in runs)):
            whole = self.fetch_whole()
            return [whole[n * BLOCK : (n + 1) * BLOCK] for n in numbers]
        if runs:
            length = self.shard.length
            spans = [(a * BLOCK, min(b * BLOCK, length)) for a, b in runs]
            for (first, _), data in zip(runs, self._verified.read(spans), strict=True):
                for offset in range(0, len(data), BLOCK):
                    number = first + offset // BLOCK
                    found[number] = data[offset : offset + BLOCK]
                    self._cache.put((sha, number), found[number] or b"")
        return [found[n] or b"" for n in numbers]


def _runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Runs [first, last + 1) of consecutive ascending numbers."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and runs[-1][1] == number:
            runs[-1] = (runs[-1][0], number + 1)
        else:
            runs.append((number, number + 1))
    return runs
