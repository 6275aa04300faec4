"""A range server for one local archive: what a static bucket does, on this machine.

Files of the archive are answered as they are. The page is the archive's own, where one was
published beside the data, and else the one that comes with the package.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from embarchive import welcome
from embarchive.answers import OPEN_TO_ALL, Packed, answer, not_found, open_inside
from embarchive.archive import open_archive
from embarchive.errors import BadInput, EmbarchiveError, StoreUnreachable
from embarchive.headers import VIEWER
from embarchive.page import ENTRY, find_page, policy_of
from embarchive.storage import POINTER


def demo_root() -> Path:
    """The archive that comes with the package. Raises BadInput where it was left out."""
    root = Path(str(files("embarchive") / "demo"))
    if not (root / POINTER).is_file():
        raise BadInput("serve: expected the demo archive in the installed package, found none")
    return root


def app(root: str | Path, page: Path | None = None) -> Starlette:
    """The server of one archive as an ASGI application.

    page: the folder that holds viewer/, instead of the package's. Raises NotAnArchive,
    UnknownVersion or Damaged when the root cannot be opened as an archive.
    """
    folder, packed = Path(root), Packed()
    places = [place for place in (folder, page or find_page()) if place]
    open_archive(folder)

    def shown() -> tuple[Path, bytes] | None:
        """What holds viewer/ now, and the page's index.html."""
        found = ((place, _entry(place)) for place in places)
        return next((pair for pair in found if pair[1]), None)

    def front(request: Request) -> Response:
        return RedirectResponse(ENTRY, 307, OPEN_TO_ALL) if shown() else _welcome(folder, request)

    def viewer(request: Request) -> Response:
        found = shown()
        if found is None:
            return not_found()
        # Workers too take their policy from here: a <meta> does not reach them.
        more = {"content-security-policy": policy_of(found[1])}
        return answer(found[0], VIEWER + request.path_params["path"], request, more=more,
                      packed=packed)  # fmt: skip

    def file(request: Request) -> Response:
        return answer(folder, request.path_params["path"], request)

    def options(request: Request) -> Response:
        return Response(status_code=204, headers=OPEN_TO_ALL)

    return Starlette(
        routes=[
            Route("/{path:path}", options, methods=["OPTIONS"]),
            Route("/", front),
            Route("/viewer", front),
            Route("/viewer/{path:path}", viewer),
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
def running(
    root: str | Path, host: str = "127.0.0.1", port: int = 0, page: Path | None = None
) -> Iterator[str]:
    """The server in a thread of its own; gives its URL and stops it at the end."""
    server = _server(app(root, page))
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


def _entry(place: Path) -> bytes:
    """The page's index.html beneath a folder; nothing where there is none."""
    try:
        with os.fdopen(open_inside(place, ENTRY), "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def _welcome(root: Path, request: Request) -> Response:
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
