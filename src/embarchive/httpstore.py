"""A read-only store behind `http(s)://`: any server that answers byte ranges.

Python's own client carries the bytes, because obstore follows redirects and cannot be told
not to. Here a redirect is an error, a body must be the range that was asked for, and every
read of the socket, of headers too, ends with the attempt's share of the deadline.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

from embarchive.errors import BadInput, Damaged
from embarchive.remote import CHUNK, NO_RANGES, Fault, RemoteStore, plain_url
from embarchive.storage import Entry

IDLE = 16
CONNECT = 5.0
_SAFE = "/%:@!$&'()*+,;=~-._"
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "embarchive"}


class HttpStore(RemoteStore):
    """Objects below a URL; see `open_http_store`."""

    def __init__(self, root: str, *, deadline: float) -> None:
        super().__init__(root, deadline)
        _, parts = plain_url(root)
        self._line = _Line(parts.scheme == "https", parts.hostname or "", parts.port)
        self._path = quote(parts.path, safe=_SAFE)

    def put_new(self, path: str, data: bytes) -> None:
        self._read_only(path)

    def put_file(self, path: str, data: bytes) -> None:
        self._read_only(path)

    def swap_pointer(self, data: bytes, token: str | None) -> None:
        self._read_only("embarchive.json")

    def check_writable(self) -> None:
        self._read_only("write")

    def list(self, prefix: str) -> list[Entry]:
        self._read_only(f"list {prefix}")

    def delete(self, path: str) -> None:
        self._read_only(path)

    def delete_older(self, path: str, than: datetime) -> bool:
        self._read_only(path)

    def _read_only(self, what: str) -> NoReturn:
        raise BadInput(f"{self._root}: {what}: http(s) archives are read only")

    def _read(
        self, path: str, span: tuple[int, int] | None, length: int | None, limit: int | None
    ) -> tuple[bytes, str]:
        headers = {**_HEADERS, "Range": f"bytes={span[0]}-{span[1] - 1}"} if span else _HEADERS
        until = time.monotonic() + self._deadline / 2
        connection, answer = self._line.ask(f"{self._path}/{path}", headers, until)
        try:
            _check_status(path, answer, span)
            said = answer.length  # None when the body comes in chunks
            if said is None:
                body = self._collect(path, _chunks(answer), length, limit)
            else:
                size = self._checked_size(path, said, length, limit)
                body = self._collect(path, _chunks(answer), size)
        except BaseException:
            connection.close()
            raise
        self._line.keep(connection, answer)
        return body, answer.getheader("ETag") or ""

    def _measure(self, path: str) -> tuple[int, str]:
        # Not every server that answers GET with ranges answers HEAD.
        headers = {**_HEADERS, "Range": "bytes=0-0"}
        until = time.monotonic() + self._deadline / 2
        connection, answer = self._line.ask(f"{self._path}/{path}", headers, until)
        try:
            _check_status(path, answer, (0, 1))
            said = (answer.getheader("Content-Range") or "").rpartition("/")[2]
            if not re.fullmatch(r"\d{1,15}", said):
                raise Damaged(f"{path}: expected a server that says the length, found none")
            self._collect(path, _chunks(answer), 1)
        except BaseException:
            connection.close()
            raise
        self._line.keep(connection, answer)
        return int(said), answer.getheader("ETag") or ""


def open_http_store(url: str, deadline: float) -> HttpStore:
    """A store for `http://…` or `https://…`. deadline: seconds for one operation, retries
    included. Raises BadInput."""
    root, parts = plain_url(url)
    try:
        _ = parts.port
    except ValueError:
        raise BadInput(f"{root}: expected a port in 0-65535, found another") from None
    return HttpStore(root, deadline=deadline)


def _check_status(
    path: str, answer: http.client.HTTPResponse, span: tuple[int, int] | None
) -> None:
    status = answer.status
    if status == 404:
        raise FileNotFoundError(path)
    if 300 <= status < 400:
        raise Fault(f"a redirect (HTTP {status}), which is not followed", status)
    if status not in (200, 206):
        raise Fault(f"HTTP {status}", status)
    if span is None:
        if status != 200:
            raise Damaged(f"{path}: expected HTTP 200, found 206")
        return
    if status != 206:
        raise Fault(NO_RANGES, status)
    said = answer.getheader("Content-Range") or ""
    if not re.fullmatch(rf"bytes {span[0]}-{span[1] - 1}/(\d+|\*)", said):
        raise Damaged(f"{path}: expected bytes {span[0]}-{span[1] - 1}, found {said[:60]!r}")


def _chunks(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            chunk = answer.read(CHUNK)
        except (OSError, http.client.HTTPException) as error:
            raise _fault(error, "a body cut short") from None
        if not chunk:
            return
        yield chunk


def _fault(error: Exception, otherwise: str) -> Fault:
    if isinstance(error, TimeoutError):
        return Fault("a time-out")
    if isinstance(error, ssl.SSLCertVerificationError):
        return Fault("a certificate that is not trusted", 495)
    if isinstance(error, socket.gaierror):
        return Fault("no such host")
    if isinstance(error, ConnectionRefusedError):
        return Fault("no connection")
    return Fault(otherwise)


class _Raw(io.RawIOBase):
    """The receiving side of a socket, every read of which ends at the same moment. A socket
    whose connection is closed stays open until `held`, a file of it, is closed too."""

    def __init__(self, sock: socket.socket, held: Any, until: float) -> None:
        super().__init__()
        self._sock, self._held, self._until = sock, held, until

    def close(self) -> None:
        self._held.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


class _Line:
    """Connections to one server, kept open between requests; safe to use from threads."""

    def __init__(self, tls: bool, host: str, port: int | None) -> None:
        self._tls, self._host, self._port = tls, host, port
        self._lock, self._owner = threading.Lock(), os.getpid()
        self._idle: list[http.client.HTTPConnection] = []
        self._context = ssl.create_default_context() if tls else None
        proxy = getproxies().get("https" if tls else "http", "")
        named = host if port is None else f"{host}:{port}"
        self._proxy = None if not proxy or proxy_bypass(named) else plain_url(proxy)[1]

    def ask(
        self, path: str, headers: dict[str, str], until: float
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a GET and read the answer's headers. Raises Fault."""
        connection, kept = self._take()
        if kept:
            try:
                return connection, self._ask(connection, path, headers, until)
            except TimeoutError:
                connection.close()
                raise Fault("a time-out") from None
            except (OSError, http.client.HTTPException):
                # the server gave the connection up while it was idle: that is no failure
                connection.close()
                connection = self._new()
        try:
            return connection, self._ask(connection, path, headers, until)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _fault(error, "a connection that was lost") from None

    def keep(self, connection: Any, answer: http.client.HTTPResponse) -> None:
        """Hand a connection back after its answer was read to the end."""
        with self._lock:
            if not answer.will_close and answer.isclosed() and len(self._idle) < IDLE:
                self._idle.append(connection)
                return
        connection.close()

    def _drop(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle, self._owner = [], os.getpid()

    def __del__(self) -> None:
        self._drop()

    def _ask(
        self, connection: Any, path: str, headers: dict[str, str], until: float
    ) -> http.client.HTTPResponse:
        left = until - time.monotonic()
        connection.timeout = max(0.001, min(CONNECT, left))
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(max(0.001, left))
        full = f"http://{self._host}:{self._port or 80}{path}"
        connection.request("GET", full if self._proxy and not self._tls else path, headers=headers)
        connection.response_class = lambda sock, **more: _timed(sock, until, **more)
        return connection.getresponse()  # type: ignore[no-any-return]

    def _take(self) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            if self._owner != os.getpid():  # a child shares its parent's sockets
                self._drop()
            if self._idle:
                return self._idle.pop(), True
        return self._new(), False

    def _new(self) -> http.client.HTTPConnection:
        host, port = self._host, self._port
        if self._proxy:
            host, port = self._proxy.hostname or "", self._proxy.port or 80
        if not self._tls:
            return http.client.HTTPConnection(host, port)
        connection = http.client.HTTPSConnection(host, port, context=self._context)
        if self._proxy:
            connection.set_tunnel(self._host, self._port or 443)
        return connection


def _timed(sock: socket.socket, until: float, **more: Any) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(sock, **more)
    answer.fp = io.BufferedReader(_Raw(sock, answer.fp, until), 1 << 16)
    return answer
