"""A file behind http(s):// or s3://, read by ranges: what lets a raster be opened where it is.

Only the bytes that are asked for travel, in blocks that are kept. Redirects are not followed,
every request ends within a deadline, and the file must stay the same while it is open.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from urllib.parse import quote, urlsplit

from embarchive.errors import BadInput, Damaged, EmbarchiveError, Missing
from embarchive.httpstore import open_http_store
from embarchive.objectstore import open_object_store
from embarchive.product import Url
from embarchive.remote import RemoteStore

BLOCK, FIRST, KEPT = 1 << 15, 1 << 16, 64 << 20
DEADLINE = 60.0
_SAFE = "/%:@!$&'()*+,;=~-._"

_lock = threading.Lock()
_servers: dict[tuple[int, str], RemoteStore] = {}


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
        first, last = start // BLOCK, -(-end // BLOCK)
        if not self._blocks:
            last = max(last, min(FIRST, self.length) // BLOCK)
        missing = [at for at in range(first, last) if at not in self._blocks]
        fresh = self._fetch(missing[0], missing[-1] + 1) if missing else {}
        kept = {at: self._blocks[at] for at in range(first, last) if at not in fresh}
        data = b"".join(fresh.get(at) or kept[at] for at in range(first, last))
        for at in range(first, last):
            self._blocks[at] = fresh.get(at) or kept[at]
            self._blocks.move_to_end(at)
        while len(self._blocks) * BLOCK > KEPT:
            self._blocks.popitem(last=False)
        return data[start - first * BLOCK : end - first * BLOCK]

    def _fetch(self, first: int, last: int) -> dict[int, bytes]:
        """Blocks [first, last) in one request."""
        start, end = first * BLOCK, min(last * BLOCK, self.length)
        data, tag = self._server.piece(self._path, start, end)
        if tag != self._tag:
            raise Damaged(f"{self.url}: expected the same file all along, found another version")
        return {
            at: data[(at - first) * BLOCK : (at - first + 1) * BLOCK] for at in range(first, last)
        }


class _Handle(io.RawIOBase):
    def __init__(self, file: RemoteFile) -> None:
        super().__init__()
        self._file, self._at = file, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._file.length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        length = self._file.length
        end = length if size is None or size < 0 else min(length, self._at + size)
        if end <= self._at or self._file.trouble:
            return b""
        try:
            data = self._file.range(self._at, end)
        except EmbarchiveError as error:
            self._file.trouble = error
            return b""
        self._at = end
        return data


def open_remote(url: Url) -> RemoteFile:
    """The file of a URL, its length known. Requests to s3:// are signed by the AWS_* variables.
    Raises BadInput where there is none, StoreUnreachable, Damaged."""
    try:
        return RemoteFile(url, _server(url))
    except Missing:
        raise BadInput(f"{url}: expected a raster file, found no such file") from None


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
