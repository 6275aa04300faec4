"""The page put beside the data of an archive, where any static server shows it, and its STAC
collection.

The list viewer/files.json says which files are the page's, so that a later publish takes
away what it no longer needs, and nothing else. It names a file before that file is written
and as long as it may be there: a publish that was killed leaves nothing that the next one
does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embarchive.archive import Archive
from embarchive.catalog import refresh_catalog
from embarchive.collection import COLLECTION
from embarchive.errors import BadInput, Damaged, Missing
from embarchive.headers import FILE_LIST, VIEWER
from embarchive.page import ENTRY, FRONT, GENERATOR, read_page
from embarchive.storage import check_path
from embarchive.store import HttpStore, Store, open_store
from embarchive.strictjson import canonical_json, parse_strict_json

INDEX = "index.html"
_MAX_LIST, _MAX_INDEX = 1 << 18, 1 << 16


@dataclass(frozen=True)
class Changes:
    """What a publish does. write: paths in their order; remove: files of an older page."""

    write: tuple[str, ...]
    remove: tuple[str, ...]


def plan(page: Iterable[str], before: Iterable[str]) -> Changes:
    """Parts of the page first and its entry last, so that it never names what is not there."""
    files = set(page)
    parts = sorted(files - {ENTRY})
    return Changes((*parts, *sorted(files & {ENTRY})), tuple(sorted(set(before) - files)))


def publish(archive: str | Path, page: Mapping[str, bytes] | None = None) -> dict[str, Any]:
    """Write the page below viewer/ of an archive, an index.html that leads to it, and
    collection.json, as `write_catalog` wrote it last.

    page: files by path, default the package's. Another's index.html or collection.json is kept.
    Gives page (where it is), files, bytes, removed, kept. Doing it again is harmless. Raises
    NotAnArchive, BadInput for an archive that cannot be written, StoreUnreachable.
    """
    store = open_store(archive)
    if isinstance(store, HttpStore):
        raise BadInput(f"publish: expected a folder or s3://, found {store.root}: read only")
    held = Archive(store)
    files = dict(page or read_page())
    before = _listed(store)
    changes = plan(files, before)
    if set(before) != set(files):
        _write_list(store, {*before, *files})
    for path in changes.write:
        store.put_file(path, files[path])
    ours = _leads_here(store)
    if ours:
        store.put_file(INDEX, FRONT)
        files[INDEX] = FRONT
    for path in changes.remove:
        store.delete(path)
    _write_list(store, changes.write)
    described = len(held) == 0 or refresh_catalog(store)
    return {
        "page": f"{held.root}/{ENTRY}",
        "files": [*changes.write, *([INDEX] if ours else [])],
        "bytes": sum(map(len, files.values())),
        "removed": list(changes.remove),
        "kept": [*([] if ours else [INDEX]), *([] if described else [COLLECTION])],
    }


def _listed(store: Store) -> list[str]:
    """The files that an earlier publish wrote. Raises Damaged when the list is none: what it
    names is removed, so it is believed only for plain names below viewer/."""
    try:
        data = store.get(FILE_LIST, limit=_MAX_LIST)
    except Missing:
        return []
    found = parse_strict_json(data, FILE_LIST, _MAX_LIST)
    names = found.get("files") if isinstance(found, dict) else None
    if not isinstance(names, list) or not all(map(_is_ours, names)):
        raise Damaged(f"{FILE_LIST}: expected the files of the page, found others; remove it")
    return names


def _is_ours(name: object) -> bool:
    if not isinstance(name, str) or not name.startswith(VIEWER) or name == FILE_LIST:
        return False
    try:
        return bool(check_path(name))
    except BadInput:
        return False


def _write_list(store: Store, files: Iterable[str]) -> None:
    store.put_file(FILE_LIST, canonical_json({"files": sorted(files)}) + b"\n")


def _leads_here(store: Store) -> bool:
    """Whether the root's index.html is there to be written: none, or one of `publish`."""
    try:
        return GENERATOR in store.get(INDEX, limit=_MAX_INDEX)
    except Missing:
        return True
    except Damaged:
        return False
