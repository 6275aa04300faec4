"""The answers to GET and HEAD of files below a folder: ranges, entity tags, caches, CORS.

Single byte ranges and strong entity tags; several ranges in one request are answered with
the whole file, which HTTP allows. Data is never compressed; text of the page is, for who
accepts it.
"""

from __future__ import annotations

import gzip
import os
import re
import stat
from collections.abc import Iterator, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from embarchive.headers import content_digest, headers_of, is_compressed

PIECE = 1 << 20
MOST_PACKED = 16 << 20
OPEN_TO_ALL = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-allow-headers": "Range, If-Range, If-None-Match",
    "access-control-expose-headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
    "access-control-max-age": "86400",
}
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)
_REFUSED = re.compile(r"q=0(\.0*)?")
# Of a few files of a page, by path: the tag of the plain file and its gzipped bytes.
Packed = dict[str, tuple[str, bytes]]


class RangeError(ValueError):
    """A well-formed range that lies outside the file."""


def not_found() -> Response:
    """404, open to all."""
    return Response("not found\n", 404, OPEN_TO_ALL, "text/plain")


def answer(
    root: Path,
    path: str,
    request: Request,
    *,
    more: Mapping[str, str] | None = None,
    packed: Packed | None = None,
) -> Response:
    """The answer to GET or HEAD of the file `path` beneath the root.

    more: further headers; packed: where gzipped text is kept, without it nothing is gzipped.
    """
    if path.endswith("/"):
        path += "index.html"
    try:
        fd = open_inside(root, path)
    except OSError:
        return not_found()
    with os.fdopen(fd, "rb") as file:
        headers = {**_headers(path, os.fstat(fd)), **(more or {})}
        small = os.fstat(fd).st_size <= MOST_PACKED
        if packed is not None and small and is_compressed(path):
            headers["vary"] = "Accept-Encoding"
            if "range" not in request.headers and accepts_gzip(request.headers):
                return _compressed(file, path, request, headers, packed)
        if _is_current(request, headers):
            return Response(status_code=304, headers=headers)
        return _plain(root, path, fd, request, headers)


def _plain(root: Path, path: str, fd: int, request: Request, headers: dict[str, str]) -> Response:
    """The file or a range of it, as it is stored."""
    size = os.fstat(fd).st_size
    try:
        part = _wanted(request, headers, size)
    except RangeError:
        return Response(status_code=416, headers={**headers, "content-range": f"bytes */{size}"})
    start, end = part or (0, size)
    headers["content-length"] = str(end - start)
    if part:
        headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
    code = 206 if part else 200
    if request.method == "HEAD":
        return Response(status_code=code, headers=headers)
    if end - start > 4 * PIECE:
        return StreamingResponse(_pieces(root, path, start, end), code, headers)
    return Response(os.pread(fd, end - start, start), code, headers)


def _compressed(
    file: BinaryIO, path: str, request: Request, headers: dict[str, str], packed: Packed
) -> Response:
    """A whole text file, gzipped; another representation, so its tag is another."""
    plain_tag = headers["etag"]
    held = packed.get(path)
    if held is None or held[0] != plain_tag:
        packed[path] = held = plain_tag, gzip.compress(file.read(), mtime=0)
    del headers["accept-ranges"]
    headers["etag"] = f'{plain_tag[:-1]}-gzip"'
    if _is_current(request, headers):
        return Response(status_code=304, headers=headers)
    headers |= {"content-encoding": "gzip", "content-length": str(len(held[1]))}
    return Response(None if request.method == "HEAD" else held[1], 200, headers)


def accepts_gzip(headers: Mapping[str, str]) -> bool:
    """Whether `Accept-Encoding` names gzip, or *, with a weight above 0 (RFC 9110, 12.5.3)."""
    weights = {}
    for item in headers.get("accept-encoding", "").lower().split(","):
        name, _, weight = item.replace(" ", "").partition(";")
        weights[name] = not _REFUSED.fullmatch(weight)
    return weights.get("gzip", weights.get("*", False))


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """`Range` of a file of `size` bytes as [start, end); None when it is to be ignored
    (another unit, several ranges, not well formed). Raises RangeError (RFC 9110, 14.1)."""
    match = _RANGE.fullmatch(header.strip())
    if match is None or not (match[1] or match[2]):
        return None
    if not match[1]:
        start, end = max(0, size - int(match[2])), size
    else:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
        if match[2] and int(match[2]) < start:
            return None
    if start >= size:
        raise RangeError(header)
    return start, end


def open_inside(root: Path, path: str) -> int:
    """A descriptor of a regular file beneath the root, reached through no symbolic link, no
    hidden name and no `..`. Raises OSError."""
    names = path.split("/")
    if any(not name or name.startswith(".") or "\0" in name or "\\" in name for name in names):
        raise FileNotFoundError(path)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        for name in names[:-1]:
            inner = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = inner
        # NONBLOCK, so that a named pipe cannot hold the server up before it is refused.
        fd = os.open(names[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(path)
    return fd


def _is_current(request: Request, headers: Mapping[str, str]) -> bool:
    """Whether the client holds this very representation."""
    known = [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]
    return headers["etag"] in known or known == ["*"]


def _wanted(request: Request, headers: dict[str, str], size: int) -> tuple[int, int] | None:
    asked = request.headers.get("range")
    if asked is None or request.method != "GET":
        return None
    only_if = request.headers.get("if-range")
    if only_if is not None and only_if not in (headers["etag"], headers["last-modified"]):
        return None
    return parse_range(asked, size)


def _headers(path: str, status: os.stat_result) -> dict[str, str]:
    tag = content_digest(path) or f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return {
        **OPEN_TO_ALL,
        **headers_of(path),
        "accept-ranges": "bytes",
        "etag": f'"{tag}"',
        "last-modified": formatdate(status.st_mtime, usegmt=True),
        "x-content-type-options": "nosniff",
    }


def _pieces(root: Path, path: str, start: int, end: int) -> Iterator[bytes]:
    """Bytes [start, end) piece by piece. The file is opened by the first piece, so that an
    answer that is never sent holds nothing open."""
    with os.fdopen(open_inside(root, path), "rb") as file:
        while start < end:
            data = os.pread(file.fileno(), min(PIECE, end - start), start)
            if not data:
                raise OSError(f"{path} became shorter while it was being sent")
            start += len(data)
            yield data
