"""The page that comes with the package: its files, and the policy that it declares."""

from __future__ import annotations

import re
from html import unescape
from importlib.resources import files
from pathlib import Path

from embarchive.errors import BadInput

ENTRY = "viewer/index.html"
# Of a page that declares none: nothing from elsewhere.
_PLAIN_POLICY = "default-src 'self'; base-uri 'none'; form-action 'none'"
_META = re.compile(
    r"<meta\s[^>]*http-equiv=[\"']?Content-Security-Policy[\"']?[^>]*>", re.IGNORECASE
)
_CONTENT = re.compile(r"\bcontent=(?:\"([^\"]*)\"|'([^']*)')", re.IGNORECASE)
GENERATOR = b'<meta name="generator" content="embarchive publish">'
FRONT = (
    b"""<!doctype html>
<html lang="en">
<meta charset="utf-8">
%b
<meta http-equiv="Content-Security-Policy" \
content="default-src 'none'; base-uri 'none'; form-action 'none'">
<meta http-equiv="refresh" content="0; url=viewer/index.html">
<title>An embarchive archive</title>
<p><a href="viewer/index.html">Look at this archive</a>
</html>
"""
    % GENERATOR
)
"""The index.html of an archive's root: it leads to the page and runs nothing."""


def find_page() -> Path | None:
    """The folder that holds viewer/: the installed package, or web/ of a checkout."""
    checkout = Path(__file__).parents[2] / "web"
    for folder in (Path(str(files("embarchive"))), checkout):
        if (folder / ENTRY).is_file():
            return folder
    return None


def read_page(folder: Path | None = None) -> dict[str, bytes]:
    """The page's files by their path in an archive, viewer/…, sorted; hidden ones and types
    for the editor (.d.ts) are left out. folder: what holds viewer/, instead of the package.
    Raises BadInput where there is none."""
    folder = folder or find_page()
    if folder is None:
        raise BadInput(
            "the page: expected viewer/index.html in the installed package or in web/ of a "
            "checkout, found neither"
        )
    paths = [path for path in (folder / "viewer").rglob("*") if path.is_file()]
    names = sorted(path.relative_to(folder).as_posix() for path in paths)
    shown = [name for name in names if "/." not in name and not name.endswith(".d.ts")]
    return {name: (folder / name).read_bytes() for name in shown}


def policy_of(entry: bytes) -> str:
    """The Content-Security-Policy header for a page with this index.html: what its <meta>
    declares, and that no other site may frame it, which only a header can say."""
    declared = _META.search(entry.decode("utf-8", errors="replace"))
    content = _CONTENT.search(declared[0]) if declared else None
    policy = unescape(content[1] or content[2] or "") if content else ""
    # One line, and what HTTP allows in it.
    plain = re.sub(r"[^\x21-\x7e]+", " ", policy).strip("; ")
    return f"{plain or _PLAIN_POLICY}; frame-ancestors 'none'"
