"""A file behind http(s):// or s3://, read by ranges: what lets a raster be opened where it is.

Only the bytes that are asked for travel, in blocks that are kept. Redirects are not followed,
every request ends within a deadline, and the file must stay the same while it is open.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from urllib.parse import quote, urlsplit

from embarchive.errors import BadInput, Damaged, EmbarchiveError, Missing
from embarchive.httpstore import open_http_store
from embarchive.objectstore import open_object_store
from embarchive.product import Url
from embarchive.rangefile import RangeFile
from embarchive.remote import RemoteStore

# KEPT: of one file; all bands of a scene are open together, and GDAL keeps what it has decoded.
BLOCK, FIRST, KEPT, MOST = 1 << 15, 1 << 16, 24 << 20, 1 << 30
# Blocks: a gap costs less than another request; a longest run lets requests go side by side.
GAP, LONGEST, THREADS = 4, 64, 8
DEADLINE = 60.0
_SAFE = "/%:@!$&'()*+,;=~-._"

_lock = threading.Lock()
_servers: dict[tuple[int, str], RemoteStore] = {}
_begun: dict[tuple[int, str], RemoteFile] = {}


class RemoteFile:
    """One file and the blocks of it that are at hand; `handle` gives it to who reads files.

    trouble: the first error of a handle's read, which GDAL only sees as an early end.
    """

    def __init__(self, url: Url, server: RemoteStore) -> None:
        self.url, self._server = url, server
        path = urlsplit(url).path.lstrip("/")
        self._path = path if url.startswith("s3:") else quote(path, safe=_SAFE)
        self.length, self._tag = server.measure(self._path)
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.trouble: EmbarchiveError | None = None

    def handle(self) -> io.RawIOBase:
        """The file from its start, with a position of its own."""
        return _Handle(self)

    def range(self, start: int, end: int) -> bytes:
        """Bytes [start, end), within the file. Raises Missing, Damaged, StoreUnreachable."""
        if end - start > MOST:
            raise Damaged(
                f"{self.url}: expected reads of at most {MOST} bytes, found {end - start}"
            )
        first, last = start // BLOCK, -(-end // BLOCK)
        if not self._blocks:
            last = max(last, min(FIRST, self.length) // BLOCK)
        missing = [at for at in range(first, last) if at not in self._blocks]
        fresh = self._fetch(missing[0], missing[-1] + 1) if missing else {}
        kept = {at: self._blocks[at] for at in range(first, last) if at not in fresh}
        found = {at: fresh.get(at) or kept[at] for at in range(first, last)}
        self._keep(found)
        data = b"".join(found.values())
        return data[start - first * BLOCK : end - first * BLOCK]

    def bring(self, spans: Iterable[tuple[int, int]]) -> None:
        """Fetch bytes [start, end) that will be read soon, a few requests at a time; what is too
        much to keep is left to be read. Errors become `trouble`."""
        wanted: set[int] = set()
        for start, end in sorted(spans):
            # What a file says of its blocks may be anything.
            for at in range(max(0, start) // BLOCK, -(-min(end, self.length) // BLOCK)):
                if len(wanted) * BLOCK >= KEPT:
                    break
                wanted.add(at)
        runs = _runs(sorted(wanted - self._blocks.keys()))
        if not runs or self.trouble:
            return
        try:
            with ThreadPoolExecutor(THREADS) as pool:
                for found in pool.map(lambda run: self._fetch(*run), runs):
                    self._keep(found)
        except EmbarchiveError as error:
            self.trouble = error

    def _keep(self, blocks: Mapping[int, bytes]) -> None:
        for at, data in blocks.items():
            self._blocks[at] = data
            self._blocks.move_to_end(at)
        while len(self._blocks) * BLOCK > KEPT:
            self._blocks.popitem(last=False)

    def _fetch(self, first: int, last: int) -> dict[int, bytes]:
        """Blocks [first, last) in one request."""
        start, end = first * BLOCK, min(last * BLOCK, self.length)
        data, tag = self._server.piece(self._path, start, end)
        if tag != self._tag:
            raise Damaged(f"{self.url}: expected the same file all along, found another version")
        return {
            at: data[(at - first) * BLOCK : (at - first + 1) * BLOCK] for at in range(first, last)
        }


class _Handle(RangeFile):
    def __init__(self, file: RemoteFile) -> None:
        super().__init__(file.length)
        self._file = file

    def range(self, start: int, end: int) -> bytes:
        """Bytes [start, end); the file keeps what trouble there is."""
        if self._file.trouble:
            return b""
        try:
            return self._file.range(start, end)
        except EmbarchiveError as error:
            self._file.trouble = error
            return b""


def _runs(blocks: Sequence[int]) -> list[tuple[int, int]]:
    """Sorted blocks as runs [first, last) of at most LONGEST, over gaps of at most GAP blocks."""
    runs: list[tuple[int, int]] = []
    for at in blocks:
        if runs and at - runs[-1][1] <= GAP and at - runs[-1][0] < LONGEST:
            runs[-1] = runs[-1][0], at + 1
        else:
            runs.append((at, at + 1))
    return runs


def open_remote(url: Url) -> RemoteFile:
    """The file of a URL, its length known. Requests to s3:// are signed by the AWS_* variables.
    Raises BadInput where there is none, StoreUnreachable, Damaged."""
    with _lock:
        begun = _begun.pop((os.getpid(), url), None)
    try:
        return begun or RemoteFile(url, _server(url))
    except Missing:
        raise BadInput(f"{url}: expected a raster file, found no such file") from None


def begin(urls: Sequence[Url]) -> None:
    """Ask for the starts of files together, for the next `open_remote` of each, which says what
    is wrong with them."""

    def start(url: Url) -> None:
        with suppress(EmbarchiveError):
            file = RemoteFile(url, _server(url))
            file.range(0, min(1, file.length))
            with _lock:
                _begun[os.getpid(), url] = file

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(start, urls))


def _server(url: Url) -> RemoteStore:
    """What speaks to a host or bucket, with connections that are kept; of this process alone."""
    parts = urlsplit(url)
    root = f"{parts.scheme}://{parts.netloc}"
    with _lock:
        key = os.getpid(), root
        if key not in _servers:
            if parts.scheme == "s3":
                _servers[key] = open_object_store(root, os.environ, DEADLINE)
            else:
                _servers[key] = open_http_store(root, DEADLINE)
        return _servers[key]
