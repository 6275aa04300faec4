"""A range server for one local archive: what a static bucket does, on this machine.

GET and HEAD of files beneath the root, single byte ranges, strong entity tags, CORS. Nothing
is compressed or computed; several ranges in one request are answered with the whole file,
which HTTP allows.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email.utils import formatdate
from importlib.resources import files
from pathlib import Path, PurePosixPath

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from embarchive import welcome
from embarchive.archive import open_archive
from embarchive.errors import BadInput, EmbarchiveError, StoreUnreachable

POINTER = "embarchive.json"
PIECE = 1 << 20
TYPES = {
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
OPEN_TO_ALL = {
    "access-control-allow-origin": "*",
    "access-control-allow-methods": "GET, HEAD, OPTIONS",
    "access-control-allow-headers": "Range, If-Range, If-None-Match",
    "access-control-expose-headers": "Accept-Ranges, Content-Length, Content-Range, ETag",
    "access-control-max-age": "86400",
}
_CONTENT_NAME = re.compile(r"([0-9a-f]{64})(\.[a-z]+)?")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.IGNORECASE)


class RangeError(ValueError):
    """A well-formed range that lies outside the file."""


def demo_root() -> Path:
    """The archive that comes with the package. Raises BadInput where it was left out."""
    root = Path(str(files("embarchive") / "demo"))
    if not (root / POINTER).is_file():
        raise BadInput("serve: expected the demo archive in the installed package, found none")
    return root


def app(root: str | Path) -> Starlette:
    """The server of one archive as an ASGI application. Raises NotAnArchive,
    UnknownVersion or Damaged when the folder cannot be opened as one."""
    folder = Path(root)
    open_archive(folder)

    def front(request: Request) -> Response:
        for name in ("index.html", "viewer/index.html"):
            if (folder / name).is_file():
                return RedirectResponse(name, 307, OPEN_TO_ALL)
        return _page(folder, request)

    def file(request: Request) -> Response:
        return answer(folder, request.path_params["path"], request)

    def options(request: Request) -> Response:
        return Response(status_code=204, headers=OPEN_TO_ALL)

    return Starlette(
        routes=[
            Route("/{path:path}", options, methods=["OPTIONS"]),
            Route("/", front),
            Route("/{path:path}", file),
        ]
    )


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, port 0 for any free one; `url_of` tells its address. Raises
    BadInput when the address cannot be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BadInput(f"serve: cannot listen on {host} port {port}: {reason}") from None


def url_of(listening: socket.socket) -> str:
    """http://HOST:PORT of a listening socket."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve_on(application: Starlette, listening: socket.socket) -> None:
    """Answer requests on a socket until interrupted, then close it."""
    with listening:
        try:
            _server(application).run(sockets=[listening])
        except KeyboardInterrupt:
            return


@contextmanager
def running(root: str | Path, host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """The server in a thread of its own; gives its URL and stops it at the end."""
    server = _server(app(root))
    with listen(host, port) as listening:
        thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
        thread.start()
        try:
            deadline = time.monotonic() + 30
            while not server.started:
                if not thread.is_alive() or time.monotonic() > deadline:
                    raise StoreUnreachable(f"serve: expected {url_of(listening)} to start")
                time.sleep(0.005)
            yield url_of(listening)
        finally:
            server.should_exit = True
            thread.join(timeout=30)


def answer(root: Path, path: str, request: Request) -> Response:
    """The answer to GET or HEAD of a file beneath the root."""
    if path.endswith("/"):
        path += "index.html"
    try:
        fd = open_inside(root, path)
    except OSError:
        return Response("not found\n", 404, OPEN_TO_ALL, "text/plain")
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(file.fileno())
        headers = _headers(path, status)
        if request.headers.get("if-none-match") in (headers["etag"], "*"):
            return Response(status_code=304, headers=headers)
        size = status.st_size
        try:
            part = _wanted(request, headers, size)
        except RangeError:
            return Response(
                status_code=416, headers={**headers, "content-range": f"bytes */{size}"}
            )
        start, end = part or (0, size)
        headers["content-length"] = str(end - start)
        if part:
            headers["content-range"] = f"bytes {start}-{end - 1}/{size}"
        code = 206 if part else 200
        if request.method == "HEAD":
            return Response(status_code=code, headers=headers)
        if end - start > 4 * PIECE:
            return StreamingResponse(_pieces(root, path, start, end), code, headers)
        return Response(os.pread(file.fileno(), end - start, start), code, headers)


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


def _wanted(request: Request, headers: dict[str, str], size: int) -> tuple[int, int] | None:
    asked = request.headers.get("range")
    if asked is None or request.method != "GET":
        return None
    only_if = request.headers.get("if-range")
    if only_if is not None and only_if not in (headers["etag"], headers["last-modified"]):
        return None
    return parse_range(asked, size)


def _headers(path: str, status: os.stat_result) -> dict[str, str]:
    named = _CONTENT_NAME.fullmatch(PurePosixPath(path).name)
    tag = named[1] if named else f"{status.st_ino:x}-{status.st_size:x}-{status.st_mtime_ns:x}"
    return {
        **OPEN_TO_ALL,
        "accept-ranges": "bytes",
        "etag": f'"{tag}"',
        "last-modified": formatdate(status.st_mtime, usegmt=True),
        "cache-control": "public, max-age=31536000, immutable" if named else "no-cache",
        "content-type": TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
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


def _page(root: Path, request: Request) -> Response:
    headers = {
        **OPEN_TO_ALL,
        "cache-control": "no-cache",
        "content-security-policy": welcome.POLICY,
        "x-content-type-options": "nosniff",
    }
    try:
        info = open_archive(root).info()
    except EmbarchiveError as error:
        return Response(f"{error}\n", 500, headers, "text/plain")
    text = welcome.page(info, str(request.base_url).rstrip("/"))
    return Response(text, 200, headers, "text/html")


def _server(application: Starlette) -> uvicorn.Server:
    config = uvicorn.Config(
        application,
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        server_header=False,
        timeout_graceful_shutdown=2,
    )
    return uvicorn.Server(config)
