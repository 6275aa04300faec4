"""The one door for bytes of objects: stores, and objects whose every byte is verified."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from embarchive import digests, heads
from embarchive.digests import BLOCK
from embarchive.errors import BadInput
from embarchive.heads import WHOLE_BYTES
from embarchive.httpstore import HttpStore, open_http_store
from embarchive.localstore import LocalStore
from embarchive.manifest import object_path
from embarchive.objectstore import ObjectStore, open_object_store
from embarchive.storage import Entry, Store

__all__ = [
    "WHOLE_BYTES",
    "Entry",
    "HttpStore",
    "LocalStore",
    "ObjectStore",
    "Store",
    "VerifiedObject",
    "coalesce",
    "cut",
    "open_store",
]

DEADLINE = 60.0
# Ranges at most so many bytes apart are fetched together.
GAP = 128 << 10


def open_store(
    url: str | Path,
    *,
    env: Mapping[str, str] | None = None,
    deadline: float = DEADLINE,
    single_writer: bool = False,
) -> Store:
    """The store of a path, `file://`, `s3://` or `http(s)://` URL. Nothing is read yet.

    env: instead of the process's environment (AWS_* variables); deadline: seconds for one
    operation, retries included; single_writer: accept an S3 store without conditional
    writes. Raises BadInput.
    """
    if not deadline > 0:
        raise BadInput(f"deadline: expected more than 0 s, found {deadline!r}")
    text = str(url)
    scheme, found, rest = text.partition("://")
    if not found or isinstance(url, Path):
        return LocalStore(Path(url), deadline)
    if scheme == "file":
        return LocalStore(Path(rest), deadline)
    if scheme == "s3":
        settings = os.environ if env is None else env
        return open_object_store(text, settings, deadline, single_writer)
    if scheme in ("http", "https"):
        return open_http_store(text, deadline)
    raise BadInput(f"archive: expected a path, s3:// or http(s)://, found {scheme[:20]!r}://")


class VerifiedObject:
    """One immutable object; whatever it returns was checked against its hash.

    Small objects, and large ones of which more than half is wanted at first, are fetched whole and
    checked by SHA-256. Otherwise ranges are rounded to 16 KiB blocks, merged when they are
    at most 128 KiB apart, and checked by the outboard, which is fetched once, with the head.
    """

    def __init__(
        self, store: Store, path: str, sha256: str, length: int, blocks: str | None = None
    ) -> None:
        self.path, self.sha256, self.length = path, sha256, length
        self._store, self._blocks = store, blocks
        self._outboard: bytes | None = None
        self._headless = False
        self._lock = threading.Lock()

    def whole(self) -> bytes:
        """The whole object. Raises Damaged, Missing, StoreUnreachable."""
        data = self._store.get(self.path, length=self.length)
        digests.check_object(self.path, data, self.sha256, self.length)
        return data

    def read(self, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Bytes [start, end) of each range, in order. Raises as `whole`, and BadInput for a
        range outside the object."""
        for start, end in ranges:
            if not 0 <= start <= end <= self.length:
                raise BadInput(f"{self.path}: expected a range in 0-{self.length}, found "
                               f"{start}-{end}")  # fmt: skip
        spans = coalesce([span for span in ranges if span[0] < span[1]], self.length)
        if not spans:
            return [b"" for _ in ranges]
        if self.rather_whole(sum(end - start for start, end in spans)):
            data = self.whole()
            return [data[start:end] for start, end in ranges]
        outboard = self.outboard()
        bodies = self._store.get_ranges(self.path, spans)
        for (start, _), body in zip(spans, bodies, strict=True):
            digests.check_block_range(self.path, body, start, outboard, self.length)
        return [cut(spans, bodies, start, end) for start, end in ranges]

    def rather_whole(self, wanted: int) -> bool:
        """Whether all of the object costs less than so many bytes in ranges: without digests at
        hand from half of it on, with them where little else is left."""
        if self._blocks is None or self.length <= WHOLE_BYTES:
            return True
        return wanted > (self.length // 2 if self._outboard is None else self.length - GAP)

    def outboard(self) -> bytes:
        """The digests of the object's blocks, verified by their own hash. Raises BadInput
        for an object that has none."""
        with self._lock:
            return self._outboard or self._fetch_outboard()[0]

    def head(self) -> bytes:
        """What follows the digests in the same object, verified with them; empty where nothing
        does. It is not kept, the digests are. Raises as `outboard`."""
        with self._lock:
            return b"" if self._headless else self._fetch_outboard()[1]

    def _fetch_outboard(self) -> tuple[bytes, bytes]:
        if self._blocks is None:
            raise BadInput(f"{self.path}: expected an outboard, found none")
        path = object_path("blocks", self._blocks)
        data = self._store.get(path, limit=heads.most(self.length))
        digests.check_hash(path, data, self._blocks)
        self._outboard, head = heads.split(path, data, self.length)
        self._headless = not head
        return self._outboard, head


def coalesce(
    ranges: Sequence[tuple[int, int]], length: int, block: int = BLOCK
) -> list[tuple[int, int]]:
    """Ranges rounded outward to blocks (and the object's end), sorted, merged over gaps of
    at most 128 KiB: what to ask for, one request each."""
    spans: list[tuple[int, int]] = []
    for start, end in sorted(ranges):
        first, last = start // block * block, min(-(-end // block) * block, length)
        if spans and first - spans[-1][1] <= GAP:
            spans[-1] = (spans[-1][0], max(spans[-1][1], last))
        else:
            spans.append((first, last))
    return spans


def cut(spans: list[tuple[int, int]], bodies: list[bytes], start: int, end: int) -> bytes:
    """Bytes [start, end) out of the bodies of the spans that `coalesce` made of them."""
    for (first, last), body in zip(spans, bodies, strict=True):
        if first <= start and end <= last:
            return body[start - first : end - first]
    return b""
