"""The plain page of an archive without a viewer: what it is and how to query it."""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_STYLE = "body{font:16px/1.5 system-ui,sans-serif;max-width:42em;margin:3em auto;padding:0 1em}"
_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
POLICY = f"default-src 'none'; style-src 'sha256-{_DIGEST}'"
"""The page's Content-Security-Policy: its one style sheet and nothing else."""


def page(info: Mapping[str, Any], url: str) -> str:
    """HTML of an archive served at `url`; info: as of `Archive.info`. All text is escaped."""
    west, south, east, north = info["bounds"]
    middle = f"{(west + east) / 2:.4f},{(south + north) / 2:.4f}"
    title = html.escape(info["title"] or "An embarchive archive")
    code = html.escape(
        f'import embarchive\n\narchive = embarchive.open_archive("{url}")\n'
        f'hits = archive.search(like=["{middle}"], k=10)\nimages = archive.decode(hits)\n'
    )
    query = html.escape(
        f"embarchive search {url} --like {middle} -k 10\n"
        f'embarchive sql {url} "SELECT model_id, count(*) FROM tiles GROUP BY ALL"\n'
    )
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
        f"<style>{_STYLE}</style><h1>{title}</h1><dl>{_facts(info)}</dl>"
        f"<h2>Python</h2><pre>{code}</pre><h2>Shell and SQL</h2><pre>{query}</pre></html>\n"
    )


def _facts(info: Mapping[str, Any]) -> str:
    facts = {
        "generation": info["generation"],
        "tiles": f"{info['tiles']:,}",
        "bands": ", ".join(info["bands"]),
        "dates": " to ".join(day[:10] for day in info["datetime"] or ["none"]),
        "west, south, east, north": ", ".join(f"{side:.4f}" for side in info["bounds"]),
        "bytes": f"{info['bytes']['total']:,}",
        "attribution": info["attribution"],
        "licence": info["licence"],
    }
    return "".join(
        f"<dt>{name}<dd>{html.escape(str(value))}" for name, value in facts.items() if value
    )
