"""An archive as STAC 1.0: a Collection of its newest embedding space, and an Item a shard.

Pure: from a generation and its shards to JSON values. With the embedding extension 0.0.1, whose
schema refers to STAC 1.0.0, and file info, item assets, table and attribution. What the
archive does not know is left out; the embedding extension is declared where its links are known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from embarchive.errors import BadInput
from embarchive.manifest import POINTER, Generation, Pointer, ShardRow, Space, object_path
from embarchive.quantisers import Quantiser
from embarchive.rows import schema
from embarchive.shards import emb_metadata

COLLECTION, MIRROR = "collection.json", "items/items.parquet"
ITEM_NAME = re.compile(r"items/[0-9b-hjkmnp-z]{1,12}-[0-9a-f]{16}\.json")
EXTENSIONS = "https://stac-extensions.github.io/"
EMBEDDINGS = f"{EXTENSIONS}embeddings/v0.0.1/schema.json"
FILE = f"{EXTENSIONS}file/v2.1.0/schema.json"
ITEM_ASSETS = f"{EXTENSIONS}item-assets/v1.0.0/schema.json"
TABLE = f"{EXTENSIONS}table/v1.2.0/schema.json"
ATTRIBUTION = f"{EXTENSIONS}attribution/v0.1.0/schema.json"
STAMP = "embarchive:generation"
PARQUET, JSON, ITEM = "application/vnd.apache.parquet", "application/json", "application/geo+json"
KINDS = ("json", "parquet")
# Of one word, as SPDX identifiers are; all else is a text of its own.
_SPDX = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+-]*")


@dataclass(frozen=True)
class Wishes:
    """What an archive does not know of its collection.

    items: "json", a file a shard; "parquet", one stac-geoparquet file; "" for none; base_url: where
    the archive is read; model, source_data: URLs that describe encoder and source data, instead
    of files of the archive. Raises BadInput for what is no plain http(s) URL.
    """

    items: str = ""
    base_url: str = ""
    model: str = ""
    source_data: str = ""

    def __post_init__(self) -> None:
        if self.items not in ("", *KINDS):
            raise BadInput(f"stac: expected items of {' or '.join(KINDS)}, found {self.items!r}")
        for name in ("base_url", "model", "source_data"):
            if text := getattr(self, name):
                _check_url(text, f"stac: {name.replace('_', '-')}")


def collection(
    pointer: Pointer,
    generation: Generation,
    shards: Sequence[ShardRow],
    quantiser: Quantiser | None,
    wishes: Wishes,
) -> dict[str, Any]:
    """The Collection of a generation's newest space.

    shards: those of `of_space`; quantiser: of the space, None for plain int8. Equal input gives
    equal values. Raises BadInput for an archive without tiles.
    """
    space = newest(generation)
    if not shards:
        raise BadInput("stac: expected an archive with tiles, found none")
    settings = generation.settings
    emb = _emb(generation, space, quantiser)
    links, known = _links(pointer, space, wishes)
    names = [FILE, TABLE, *([EMBEDDINGS] if known else [])]
    names += [ITEM_ASSETS] if wishes.items else []
    names += [ATTRIBUTION] if generation.attribution else []
    if wishes.items == "json":
        links += [
            {"rel": "item", "href": f"./{item_path(shard)}", "type": ITEM}
            for shard in dated(shards)
        ]
    values: dict[str, Any] = {
        "stac_version": "1.0.0",
        "stac_extensions": sorted(names),
        "type": "Collection",
        "id": collection_id(generation),
        "description": _description(generation, space, emb, shards),
        "license": settings.licence if _SPDX.fullmatch(settings.licence) else "proprietary",
        "extent": {
            "spatial": {"bbox": [extent_of([shard.bbox for shard in shards])]},
            "temporal": {"interval": [_interval(shards)]},
        },
        "links": links + _licence_link(settings.licence),
        "assets": _assets(pointer, generation, wishes.items == "parquet" and bool(dated(shards))),
        "table:columns": _columns(generation),
        "table:primary_geometry": "geometry",
        "table:row_count": sum(shard.rows for shard in shards),
        STAMP: generation.number,
        **{key: emb[key] for key in ("emb:type", "emb:dimensions", "data_type", "gsd")},
        "emb:chip_layout": emb["emb:chip_layout"],
    }
    if settings.title:
        values["title"] = settings.title
    if generation.attribution:
        values["attribution"] = generation.attribution
    if wishes.items:
        title = "Embeddings of the tiles below one geohash prefix"
        values["item_assets"] = {"embeddings": {"type": PARQUET, "roles": ["data"], "title": title}}
    return values


def items(
    generation: Generation, shards: Sequence[ShardRow], quantiser: Quantiser | None
) -> list[tuple[str, dict[str, Any]]]:
    """Path and Item of each shard that has a date; the others cannot be Items."""
    emb = _emb(generation, newest(generation), quantiser)
    name = collection_id(generation)
    return [(item_path(shard), _item(shard, name, emb)) for shard in dated(shards)]


def newest(generation: Generation) -> Space:
    """The space that a collection is of. Raises BadInput where there is none."""
    if not generation.spaces:
        raise BadInput("stac: expected an archive with an embedding space, found none")
    return generation.spaces[-1]


def of_space(generation: Generation, shards: Sequence[ShardRow]) -> list[ShardRow]:
    """Shards of the newest space, in the order of the manifest."""
    here = newest(generation).space_id
    return [shard for shard in shards if shard.space_id == here]


def dated(shards: Sequence[ShardRow]) -> list[ShardRow]:
    """Shards with a row that has a date: an Item must have one."""
    return [shard for shard in shards if shard.datetime_min and shard.datetime_max]


def item_path(shard: ShardRow) -> str:
    """Where the Item of a shard lies. Not its whole hash: an Item may change, and caches keep for
    ever what is named by a hash."""
    return f"items/{shard.prefix}-{shard.sha256[:16]}.json"


def collection_id(generation: Generation) -> str:
    """The same for all generations of a space: its title's words, and the space."""
    words = re.sub(r"[^a-z0-9]+", "-", generation.settings.title.lower()).strip("-")[:60]
    return f"{words.strip('-') or 'embarchive'}-{newest(generation).space_id}"


def extent_of(boxes: Sequence[tuple[float, float, float, float]]) -> list[float]:
    """The least box of boxes, degrees; west > east where it crosses the antimeridian (GeoJSON)."""
    spans = sorted((box[0], box[2]) for box in boxes)
    west, reach = spans[0]
    widest, inner = 0.0, (0.0, 0.0)
    for start, end in spans[1:]:
        if start - reach > widest:
            widest, inner = start - reach, (start, reach)
        reach = max(reach, end)
    if widest <= west + 360 - reach:
        inner = west, reach
    south, north = min(box[1] for box in boxes), max(box[3] for box in boxes)
    return [inner[0], south, inner[1], north]


def wishes_of(document: Any) -> Wishes | None:
    """What an earlier collection of an archive was written with; None when it is not one of ours.
    Raises BadInput for links that no collection of ours would have."""
    if not isinstance(document, Mapping) or not isinstance(document.get(STAMP), int):
        return None
    links = document.get("links")
    rels: dict[str, str] = {}
    for link in links if isinstance(links, list) else []:
        if isinstance(link, Mapping):
            rels.setdefault(str(link.get("rel")), str(link.get("href")))
    assets = document.get("assets")
    mirrored = isinstance(assets, Mapping) and "items" in assets
    told = {
        name: href if "://" in href else ""
        for name, href in (
            ("model", rels.get("emb:model", "")),
            ("source_data", rels.get("emb:source-data", "")),
            ("base_url", rels.get("self", "").removesuffix(f"/{COLLECTION}")),
        )
    }
    return Wishes("parquet" if mirrored else "json" if "item" in rels else "", **told)


# ---------------------------------------------------------------- parts of the documents


def _emb(generation: Generation, space: Space, quantiser: Quantiser | None) -> dict[str, Any]:
    return emb_metadata(generation.settings, space.space_id, space.encoder, space.scale, quantiser)


def _links(pointer: Pointer, space: Space, wishes: Wishes) -> tuple[list[dict[str, Any]], bool]:
    """Links of a collection, and whether they are all that the embedding extension requires."""
    generation = object_path("manifest-json", pointer.manifest)
    links: list[dict[str, Any]] = [{"rel": "root", "href": f"./{COLLECTION}", "type": JSON}]
    if wishes.base_url:
        href = f"{wishes.base_url.rstrip('/')}/{COLLECTION}"
        links.append({"rel": "self", "href": href, "type": JSON})
    if wishes.model:
        links.append({"rel": "emb:model", "href": wishes.model})
    elif space.encoder:
        links.append(_weights("emb:model", object_path("model", space.encoder), "The encoder"))
    if space.onnx:
        path = object_path("model-onnx", space.onnx)
        links.append(_weights("emb:decoder", path, "The shared decoder, ONNX"))
    if space.backbone:
        path = object_path("model", space.backbone)
        links.append(_weights("emb:decoder", path, "The shared decoder, safetensors"))
    source: dict[str, Any] = {"rel": "emb:source-data", "href": wishes.source_data}
    if not wishes.source_data:
        title = "What the archive says of its source data; the column source names each row's scene"
        source |= {"href": f"./{generation}", "type": JSON, "title": title}
    return [*links, source], bool(wishes.model or space.encoder)


def _weights(rel: str, path: str, title: str) -> dict[str, Any]:
    return {"rel": rel, "href": f"./{path}", "type": "application/octet-stream", "title": title}


def _licence_link(licence: str) -> list[dict[str, Any]]:
    if not licence.startswith(("https://", "http://")):
        return []
    return [{"rel": "license", "href": licence}]


def _assets(pointer: Pointer, generation: Generation, mirrored: bool) -> dict[str, Any]:
    """The pointer, what it leads to, and the Items where they are in one file."""
    found = {
        "pointer": {
            "href": f"./{POINTER}",
            "type": JSON,
            "roles": ["metadata"],
            "title": "Where a reader of the archive starts",
        },
        "generation": _asset("manifest-json", pointer.manifest, pointer.length),
    }
    for number, part in enumerate(generation.parts):
        asset = _asset("manifest-parquet", part.sha256, part.length)
        found[f"manifest-{number:05}"] = asset | {"table:row_count": part.shards}
    if generation.models:
        table = generation.models
        asset = _asset("manifest-parquet", table.sha256, table.length)
        found["models"] = asset | {"table:row_count": table.rows}
    if mirrored:
        found["items"] = {
            "href": f"./{MIRROR}",
            "type": PARQUET,
            "roles": ["collection-mirror"],
            "title": "Items, as stac-geoparquet",
        }
    return found


def _asset(kind: str, sha256: str, length: int) -> dict[str, Any]:
    return {
        "href": f"./{object_path(kind, sha256)}",
        "type": JSON if kind == "manifest-json" else PARQUET,
        "roles": ["metadata"],
        **_contents(sha256, length),
    }


def _contents(sha256: str, length: int) -> dict[str, Any]:
    """Size and multihash; 12 is SHA-256, 20 its 32 bytes."""
    return {"file:size": length, "file:checksum": f"1220{sha256}"}


def _columns(generation: Generation) -> list[dict[str, str]]:
    s = generation.settings
    return [
        {"name": field.name, "type": str(field.type)} for field in schema(s.dim, s.bits, s.packed)
    ]


def _description(
    generation: Generation, space: Space, emb: Mapping[str, Any], shards: Sequence[ShardRow]
) -> str:
    s = generation.settings
    rows = sum(shard.rows for shard in shards)
    others = len(generation.spaces) - 1
    told = [
        f"{rows} embeddings of {emb['emb:dimensions']} numbers, of geohash cells of {s.precision} "
        f"letters at their dates; GeoParquet files: {len(shards)}; embedding space "
        f"{space.space_id}" + (f", the newest of {others + 1}." if others else "."),
        f"The archive is read by way of {POINTER}: files that it does not lead to are superseded.",
        *([f"Attribution: {generation.attribution}."] if generation.attribution else []),
        f"Licence of the source data: {s.licence}." if s.licence else "No licence is stated.",
    ]
    return " ".join(told)


def _item(shard: ShardRow, name: str, emb: Mapping[str, Any]) -> dict[str, Any]:
    west, south, east, north = shard.bbox
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    first, last = _interval([shard])
    when: dict[str, Any] = {"datetime": first}
    if first != last:
        when = {"datetime": None, "start_datetime": first, "end_datetime": last}
    above = {"href": f"../{COLLECTION}", "type": JSON}
    path = object_path("shard", shard.sha256, shard.prefix)
    return {
        "stac_version": "1.0.0",
        "stac_extensions": sorted([EMBEDDINGS, FILE, TABLE]),
        "type": "Feature",
        "id": item_path(shard).removeprefix("items/").removesuffix(".json"),
        "collection": name,
        "bbox": list(shard.bbox),
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            **when,
            "gsd": emb["gsd"],
            "emb:quantization": emb["emb:quantization"],
            "emb:runtime_parameters": emb["emb:runtime_parameters"],
            "table:primary_geometry": "geometry",
            "table:row_count": shard.rows,
        },
        "links": [{"rel": rel, **above} for rel in ("root", "parent", "collection")],
        "assets": {
            "embeddings": {
                "href": f"../{path}",
                "type": PARQUET,
                "roles": ["data"],
                **_contents(shard.sha256, shard.length),
            }
        },
    }


def _interval(shards: Sequence[ShardRow]) -> list[str | None]:
    """The first and the last date; null where none is known."""
    first = [shard.datetime_min for shard in shards if shard.datetime_min]
    last = [shard.datetime_max for shard in shards if shard.datetime_max]
    return [_moment(min(first)) if first else None, _moment(max(last)) if last else None]


def _moment(when: datetime) -> str:
    return when.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _check_url(text: str, where: str) -> None:
    """No credentials: neither before the host nor in a query. Raises BadInput."""
    try:
        parts = urlsplit(text)
        plain = parts.scheme in ("http", "https") and bool(parts.hostname)
        secret = "@" in parts.netloc or bool(parts.query or parts.fragment)
    except ValueError:
        plain = secret = False
    if not plain or secret or not text.isprintable() or " " in text:
        found = "one with credentials or a query" if secret else "another text"
        raise BadInput(f"{where}: expected a URL https://HOST/PATH, found {found}")
