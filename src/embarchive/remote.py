"""What stores behind a network share: reading with checks, and attempts within a deadline."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn, TypeVar
from urllib.parse import SplitResult, urlsplit

from embarchive.errors import BadInput, Damaged, Missing, NotAnArchive, StoreUnreachable
from embarchive.storage import MAX_POINTER, POINTER, Counters, check_path, check_ranges

CHUNK = 1 << 20
THREADS = 8
NO_RANGES = "a server without range requests (`embarchive serve` has them)"
RETRIED = (None, 408, 429, 500, 502, 503, 504)
Answer = TypeVar("Answer")


class Fault(OSError):
    """No usable answer, in our own words: what others say can hold credentials.

    status: of HTTP, None when there was no answer; worth repeating are the RETRIED ones.
    """

    def __init__(self, reason: str, status: int | None = None) -> None:
        super().__init__(reason)
        self.reason, self.status = reason, status


class RemoteStore:
    """Reads objects below a root; a subclass makes one attempt in `_read`."""

    confirms_by_reading = True

    def __init__(self, root: str, deadline: float) -> None:
        self._root, self._deadline = root, deadline
        self._counters = Counters()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._root}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a store may hold credentials and is not pickled; open it again")

    @property
    def root(self) -> str:
        return self._root

    @property
    def requests(self) -> int:
        return self._counters.requests

    @property
    def bytes_read(self) -> int:
        return self._counters.bytes_read

    # ------------------------------------------------------------ files of others

    def measure(self, path: str) -> tuple[int, str]:
        """Length and ETag of a file that is no object of an archive, whatever its name. Raises
        Missing, Damaged, StoreUnreachable."""
        return self._retrying(path, lambda: self._measure(path))

    def piece(self, path: str, start: int, end: int) -> tuple[bytes, str]:
        """Bytes [start, end) of such a file, and its ETag. Raises as `measure`."""
        return self._retrying(path, lambda: self._read(path, (start, end), end - start, None))

    # ------------------------------------------------------------ reading

    def get(self, path: str, *, length: int | None = None, limit: int | None = None) -> bytes:
        return self._get(path, length, limit)[0]

    def get_ranges(self, path: str, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
        check_ranges(path, ranges)
        if len(ranges) < 2:
            return [self._get_range(path, start, end) for start, end in ranges]
        with ThreadPoolExecutor(min(THREADS, len(ranges))) as pool:
            return list(pool.map(lambda span: self._get_range(path, *span), ranges))

    def read_pointer(self) -> tuple[bytes, str] | None:
        try:
            data, tag = self._get(POINTER, None, MAX_POINTER)
        except Missing:
            return None
        except Damaged as error:
            raise NotAnArchive(f"{self._root}: {error}") from None
        return data, tag

    def _get(self, path: str, length: int | None, limit: int | None) -> tuple[bytes, str]:
        """The body and its ETag."""
        check_path(path)
        return self._retrying(path, lambda: self._read(path, None, length, limit))

    def _get_range(self, path: str, start: int, end: int) -> bytes:
        check_path(path)
        return self._retrying(path, lambda: self._read(path, (start, end), end - start, None))[0]

    def _read(
        self, path: str, span: tuple[int, int] | None, length: int | None, limit: int | None
    ) -> tuple[bytes, str]:
        """One attempt at an object, or at bytes [start, end) of it: the body and its ETag.
        Raises FileNotFoundError, Fault, Damaged."""
        raise NotImplementedError

    def _measure(self, path: str) -> tuple[int, str]:
        """One attempt at the length and the ETag. Raises as `_read`."""
        raise NotImplementedError

    def _checked_size(self, path: str, said: int, length: int | None, limit: int | None) -> int:
        """The length that the server announces, when it may be that long."""
        if length is not None and said != length:
            raise Damaged(f"{path}: expected {length} bytes, found {said}")
        if limit is not None and said > limit:
            raise Damaged(f"{path}: expected at most {limit} bytes, found {said}")
        return said

    def _collect(
        self, path: str, chunks: Iterable[bytes], length: int | None, limit: int | None = None
    ) -> bytes:
        """The body, given up as soon as it is longer than `length`, or than `limit`."""
        held, parts = 0, []
        most = limit if length is None else length
        for chunk in chunks:
            parts.append(chunk)
            held += len(chunk)
            self._counters.add(bytes_read=len(chunk))
            if most is not None and held > most:
                raise Damaged(f"{path}: expected a body of {most} bytes, found {held} or more")
        if length is not None and held != length:
            raise Damaged(f"{path}: expected a body of {length} bytes, found {held}")
        return b"".join(parts)

    # ------------------------------------------------------------ attempts

    def _retrying(self, path: str, attempt: Callable[[], Answer]) -> Answer:
        """Repeat what is harmless to repeat. One attempt may take half the deadline (the
        client's own limit), and none begins in the second half."""
        began, pause = time.monotonic(), 0.05
        while True:
            self._counters.add(1)
            try:
                return attempt()
            except FileNotFoundError:
                raise Missing(f"{self._root}/{path}: expected it there, found none") from None
            except Damaged:
                # a body that was cut or replaced under way; what stays so is damaged
                if pause > 0.1 or self._late(began, pause):
                    raise
            except Fault as fault:
                if fault.status not in RETRIED or self._late(began, pause):
                    self._fail(path, fault)
            time.sleep(pause * random.uniform(0.5, 1.0))
            pause = min(pause * 2, 5.0)

    def _late(self, began: float, pause: float) -> bool:
        return time.monotonic() - began + pause > self._deadline / 2

    def _fail(self, path: str, fault: Fault) -> NoReturn:
        tried = f" within {self._deadline:g} s" if fault.status in RETRIED else ""
        raise StoreUnreachable(
            f"{self._root}/{path}: expected an answer{tried}, found {fault.reason}"
        ) from None


def plain_url(url: str) -> tuple[str, SplitResult]:
    """The URL without a final slash, and its parts. Raises BadInput, without repeating it,
    for one that carries a user, password, query or fragment."""
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}".rstrip("/")
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise BadInput(f"{root}: expected a URL without user, password, query or fragment")
    if not parts.hostname:
        raise BadInput(f"{parts.scheme}://: expected a host or bucket after it, found none")
    return root, parts
