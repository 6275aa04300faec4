"""An archive's STAC Collection, and Items if wanted, written beside its data.

Derived from a generation and never read by a reader of the archive. Items come before the
collection that names them; what an earlier one named and this one does not goes last.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from embarchive import itemtable
from embarchive.archive import Archive
from embarchive.collection import (
    COLLECTION,
    EMBEDDINGS,
    ITEM_NAME,
    MIRROR,
    Wishes,
    collection,
    dated,
    items,
    newest,
    of_space,
    wishes_of,
)
from embarchive.errors import BadInput, Damaged, Missing
from embarchive.progress import Report
from embarchive.storage import Store
from embarchive.store import HttpStore
from embarchive.strictjson import canonical_json, parse_strict_json

THREADS = 8
_MAX_COLLECTION = 64 << 20


def write_catalog(
    store: Store, wishes: Wishes | None = None, progress: Report | None = None
) -> dict[str, Any]:
    """Write collection.json, and items/ as wished, from the newest generation.

    Gives collection (where it is), generation, id, items (how many), undated (shards without a
    date, which cannot be Items), bytes, removed (files of an earlier one), lacks (links without
    which the embedding extension is not declared). The same generation and wishes give the
    same bytes. Raises NotAnArchive, BadInput for http(s), an archive without tiles, or another's
    collection.json.
    """
    if isinstance(store, HttpStore):
        raise BadInput(f"stac: expected a folder or s3://, found {store.root}: read only")
    wishes, earlier = wishes or Wishes(), _earlier(store)
    if earlier is None:
        raise BadInput(
            f"{store.root}/{COLLECTION}: expected none or one of embarchive, found another; move it"
        )
    # Who has no Items and had none needs no right to list.
    listing = bool(wishes.items or earlier.items)
    archive = Archive(store)
    pointer, generation = archive.head.pointer, archive.head.generation
    quantiser = archive.quantiser(newest(generation))
    shards = of_space(generation, archive.shards())
    document = collection(pointer, generation, shards, quantiser, wishes)
    found = items(generation, shards, quantiser) if wishes.items else []
    files = _files(found, wishes)
    with ThreadPoolExecutor(THREADS) as pool:
        written = pool.map(lambda one: store.put_file(*one), files)
        for done, _ in enumerate(written, 1):
            if progress:
                progress("stac", done, len(files))
    data = canonical_json(document) + b"\n"
    store.put_file(COLLECTION, data)
    return {
        "collection": f"{archive.root}/{COLLECTION}",
        "generation": generation.number,
        "id": document["id"],
        "items": len(found),
        "undated": len(shards) - len(dated(shards)) if wishes.items else 0,
        "bytes": len(data) + sum(len(body) for _, body in files),
        "removed": _remove(store, {path for path, _ in files}) if listing else [],
        "lacks": [] if EMBEDDINGS in document["stac_extensions"] else ["emb:model"],
    }


def refresh_catalog(store: Store) -> bool:
    """Write the collection as it was written last, or plainly where there is none; False where one
    is there that is not ours, which stays."""
    wishes = _earlier(store)
    if wishes is None:
        return False
    write_catalog(store, wishes)
    return True


def _earlier(store: Store) -> Wishes | None:
    """What the collection there was written with, plain wishes where there is none, and None where
    it is not ours."""
    try:
        data = store.get(COLLECTION, limit=_MAX_COLLECTION)
        return wishes_of(parse_strict_json(data, COLLECTION, _MAX_COLLECTION))
    except Missing:
        return Wishes()
    except (Damaged, BadInput):
        return None


def _files(found: Sequence[tuple[str, dict[str, Any]]], wishes: Wishes) -> list[tuple[str, bytes]]:
    if wishes.items == "parquet" and found:
        return [(MIRROR, itemtable.dump([item for _, item in found]))]
    return [(path, canonical_json(item) + b"\n") for path, item in found]


def _remove(store: Store, kept: set[str]) -> list[str]:
    """Take away Items of an earlier collection; other files in items/ stay."""
    there = [entry.path for entry in store.list("items")]
    gone = [one for one in there if one not in kept and (ITEM_NAME.fullmatch(one) or one == MIRROR)]
    for path in gone:
        store.delete(path)
    return gone
