"""What a server says of a file, by its path alone: its type, how long it may be kept, and
whether it travels compressed. The local server and object stores say the same."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

IMMUTABLE = "public, max-age=31536000, immutable"
VIEWER = "viewer/"
FILE_LIST = "viewer/files.json"
TYPES = {
    ".json": "application/json",
    ".parquet": "application/vnd.apache.parquet",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".wasm": "application/wasm",
}
_TEXT = {".html", ".js", ".mjs", ".css", ".json", ".txt", ".svg"}
_CONTENT_NAME = re.compile(r"([0-9a-f]{64})(\.[a-z]+)?")


def content_digest(path: str) -> str | None:
    """The SHA-256 by which an immutable object is named; None for all other files."""
    named = _CONTENT_NAME.fullmatch(PurePosixPath(path).name)
    return named[1] if named else None


def headers_of(path: str) -> dict[str, str]:
    """Content-Type and Cache-Control of a file of an archive, by names in lower case.

    What is named by its hash never changes; all else (the pointer, the page) is asked for
    again at each use, which costs a 304.
    """
    return {
        "content-type": TYPES.get(PurePosixPath(path).suffix, "application/octet-stream"),
        "cache-control": "no-cache" if content_digest(path) is None else IMMUTABLE,
    }


def is_compressed(path: str) -> bool:
    """Whether the file travels gzipped: text of the page. Data never does, because ranges
    count bytes as stored; nor what `publish` itself reads back."""
    return path.startswith(VIEWER) and path != FILE_LIST and PurePosixPath(path).suffix in _TEXT
