"""What every store is: a few verbs over relative paths, counted."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from embarchive.errors import BadInput

POINTER = "embarchive.json"
MAX_POINTER = 1024
_PATH = re.compile(r"[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*")


@dataclass(frozen=True)
class Entry:
    """One object of a listing; modified: UTC, by the store's clock."""

    path: str
    length: int
    modified: datetime


class Store(Protocol):
    """Bytes of objects by path, below one root. Only the pointer and the page ever change.

    root: for messages, without credentials; confirms_by_reading: whether a pointer that can
    be read back is durable (object stores), or a power cut may still take it back (disks).
    Every verb ends within the deadline, of a large object on S3 each part; it raises
    StoreUnreachable when the store does not answer or refuses, and never names a credential.
    """

    confirms_by_reading: bool

    @property
    def root(self) -> str: ...

    @property
    def requests(self) -> int:
        """Requests so far, attempts included."""
        ...

    @property
    def bytes_read(self) -> int: ...

    def get(self, path: str, *, length: int | None = None, limit: int | None = None) -> bytes:
        """A whole object. Raises Missing; Damaged when it is not `length` or above `limit`."""
        ...

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        """Bytes [start, end) of each range, one request each. Raises Missing, Damaged."""
        ...

    def put_new(self, path: str, data: bytes) -> None:
        """Write an immutable object, durably; writing it again is harmless."""
        ...

    def put_file(self, path: str, data: bytes) -> None:
        """Write or replace a file of the page, durably; text may be stored gzipped."""
        ...

    def read_pointer(self) -> tuple[bytes, str] | None:
        """The pointer and a token for `swap_pointer`; None when there is none."""
        ...

    def swap_pointer(self, data: bytes, token: str | None) -> None:
        """Create (None) or replace the pointer if it is still the token's. Raises Conflict
        when it is not, CommitUnknown when the outcome is not known."""
        ...

    def check_writable(self) -> None:
        """Raises BadInput or StoreUnreachable when this store cannot take a commit."""
        ...

    def list(self, prefix: str) -> list[Entry]:
        """Objects below a folder ("" for all), sorted by path; for gc, never for reading."""
        ...

    def delete(self, path: str) -> None:
        """Remove an object; one that is not there is fine. A folder left empty goes with it."""
        ...

    def delete_older(self, path: str, than: datetime) -> bool:
        """Remove an object last written before a time (UTC); whether it is gone. Writing it again
        counts, also where its bytes were there already."""
        ...


class Counters:
    """Requests and bytes of a store, counted across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = 0
        self._bytes = 0

    def add(self, requests: int = 0, bytes_read: int = 0) -> None:
        with self._lock:
            self._requests += requests
            self._bytes += bytes_read

    @property
    def requests(self) -> int:
        return self._requests

    @property
    def bytes_read(self) -> int:
        return self._bytes


def check_path(path: str) -> list[str]:
    """The components of a relative path; raises BadInput on anything that could leave the
    root: empty parts, `.`, `..`, a leading slash, other characters than A-Z a-z 0-9 . _ = -
    """
    parts = path.split("/")
    if not _PATH.fullmatch(path) or "." in parts or ".." in parts:
        raise BadInput(f"object path: expected letters, digits, . _ = - /, found {path[:80]!r}")
    return parts


def check_ranges(path: str, ranges: Sequence[tuple[int, int]]) -> None:
    """Raises BadInput unless every range is 0 <= start < end."""
    for start, end in ranges:
        if not 0 <= start < end:
            raise BadInput(f"{path}: expected ranges with 0 <= start < end, found {start}-{end}")
