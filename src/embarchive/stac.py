"""STAC Items (JSON already parsed) to products; pure: no file is opened here.

Knows Item, ItemCollection and FeatureCollection; `bands` of STAC 1.1, `eo:bands` and
`raster:bands` of 1.0; Element 84's and ESA's Sentinel-2 properties. Hrefs are https://, http:// or
s3://, or files in the Item's own folder or below it: an Item is somebody else's, and must not
choose among the other files of this machine.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from embarchive.bandnames import is_cloud_layer, is_companion, is_picture
from embarchive.errors import BadInput
from embarchive.product import CloudLayer, Layer, Product, Url, cloud_layer, is_remote, remote_url
from embarchive.recipe import parse_date
from embarchive.sensors import S2_ATTRIBUTION, S2_LICENCE, needs_offset

RASTER_TYPES = ("image/tiff", "image/jp2", "image/vnd.stac.geotiff", "image/jpeg", "image/png")
RASTER_ENDS = (".tif", ".tiff", ".jp2", ".img")
PICTURE_ROLES = frozenset(("thumbnail", "overview", "visual", "metadata", "saturation"))
MAX_ITEMS = 100_000


def is_stac(value: Any) -> bool:
    """An Item, or a collection of Items, by its keys."""
    if not isinstance(value, Mapping):
        return False
    if value.get("type") == "Feature":
        return isinstance(value.get("assets"), Mapping)
    features = value.get("features")
    return isinstance(features, list) and bool(features) and all(map(is_stac, features))


def items(value: Mapping[str, Any], where: str) -> Iterator[Mapping[str, Any]]:
    """The Items of an Item or a collection; raises BadInput above 100,000."""
    features = value.get("features")
    if not isinstance(features, list):
        yield value
        return
    if len(features) > MAX_ITEMS:
        raise BadInput(f"{where}: expected at most {MAX_ITEMS} Items, found {len(features)}")
    yield from features


def has_next(value: Mapping[str, Any]) -> bool:
    """Whether a collection of Items is a page of a STAC API, with another one after it."""
    links = [_mapping(link) for link in _list(value, "links")]
    return isinstance(value.get("features"), list) and any(
        link.get("rel") == "next" for link in links
    )


def product_of(item: Mapping[str, Any], path: Path) -> Product:
    """The product of one Item; path: the file it stands in.

    Raises BadInput, naming the asset, for an href that `asset_path` refuses.
    """
    where = f"STAC Item {path} {item.get('id', '')}".strip()
    properties = _mapping(item.get("properties"))
    layers: list[Layer] = []
    cloud: CloudLayer | None = None
    for key, asset in _mapping(item.get("assets")).items():
        if not isinstance(asset, Mapping) or not _is_raster(asset):
            continue
        bands = asset_bands(asset, key)
        if len(bands) == 1 and is_cloud_layer(bands[0].name):
            cloud = cloud or cloud_layer(bands[0].name, asset_path(asset, path, where, key))
        elif not _is_picture(key, asset):
            target = asset_path(asset, path, where, key)
            layers += [replace(layer, path=target) for layer in bands]
    if not layers:
        raise BadInput(f"{where}: expected assets that are rasters, found none")
    layers = [once(layer, properties) for layer in _first_of_each(layers)]
    sentinel = is_sentinel(properties)
    known = all(layer.scale is not None for layer in layers if layer.wanted) and sentinel
    return Product(
        source=str(item.get("id") or path.stem),
        layers=tuple(layers),
        datetime=item_datetime(properties, where),
        cloud=cloud,
        units="reflectance" if known else "",
        attribution=_attribution(properties) or (S2_ATTRIBUTION if sentinel else ""),
        licence=str(properties.get("license") or (S2_LICENCE if sentinel else "")),
        listed=True,
    )


def asset_bands(asset: Mapping[str, Any], key: str) -> list[Layer]:
    """Layers of one asset, without their path; index 0 when the Item lists no bands."""
    named = [_mapping(band) for band in _list(asset, "bands") or _list(asset, "eo:bands")]
    raster = [_mapping(band) for band in _list(asset, "raster:bands")]
    count = max(len(named), len(raster))
    single = count <= 1
    layers = []
    for number in range(max(count, 1)):
        facts: dict[str, Any] = {
            **asset,
            **(raster[number] if number < len(raster) else {}),
            **(named[number] if number < len(named) else {}),
        }
        own = named[number] if number < len(named) else {}
        common = own.get("eo:common_name") or own.get("common_name")
        listed = str(own.get("name") or "")
        name = listed or (key if single else f"band_{number + 1}")
        if single and (is_cloud_layer(key) or is_companion(key)):
            name = key.upper()
        aliases = tuple({str(n) for n in (key if single else None, common) if n} - {name})
        layers.append(
            Layer(
                path=Path(),
                name=name,
                index=number + 1 if count else 0,
                aliases=tuple(sorted(aliases)),
                scale=_number(facts, "scale", "raster:scale"),
                offset=_number(facts, "offset", "raster:offset"),
                nodata=_number(facts, "nodata", "raster:nodata"),
                wanted=not is_companion(name),
            )
        )
    return layers


def once(layer: Layer, properties: Mapping[str, Any]) -> Layer:
    """A layer whose Sentinel-2 offset is applied exactly once.

    Where the publisher already took the 1000 away, an offset in `raster:bands` is a left-over
    (both occur together in the wild); where nothing is said, the baseline decides.
    """
    if not is_sentinel(properties) or not layer.wanted:
        return layer
    applied = properties.get(
        "earthsearch:boa_offset_applied", properties.get("sentinel:boa_offset_applied")
    )
    if applied is True:
        return replace(layer, scale=layer.scale or 1e-4, offset=0.0)
    if layer.scale is not None and layer.offset is not None:
        return layer
    baseline = properties.get("s2:processing_baseline", properties.get("processing:version", ""))
    text = str(baseline).strip()
    offset = -0.1 if needs_offset(text.zfill(5) if "." in text else text, None) else 0.0
    return replace(layer, scale=layer.scale or 1e-4, offset=offset)


def is_sentinel(properties: Mapping[str, Any]) -> bool:
    """A Sentinel-2 Item by its properties."""
    platform = str(properties.get("platform", "")).lower()
    constellation = str(properties.get("constellation", "")).lower()
    return "sentinel-2" in (platform[:10], constellation) or any(
        key.startswith("s2:") for key in properties
    )


def item_datetime(properties: Mapping[str, Any], where: str) -> datetime | None:
    """`datetime`, or `start_datetime` where it is null, in UTC."""
    text = properties.get("datetime") or properties.get("start_datetime")
    if text is None:
        return None
    try:
        return parse_date(str(text))
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None


def asset_path(asset: Mapping[str, Any], item: Path, where: str, key: str) -> Path | Url:
    """Where the file of an asset is. Raises BadInput for a file outside the Item's folder, another
    scheme, and a URL with credentials or a query, which is not repeated."""
    href = str(asset.get("href", ""))
    if is_remote(href):
        try:
            return remote_url(href)
        except BadInput as error:
            raise BadInput(f"{where}: asset {key}: {error}") from None
    scheme, found, rest = href.partition(":")
    if found and scheme.lower() == "file":
        host, _, named = rest.removeprefix("//").partition("/")
        href = unquote(f"/{named}") if rest.startswith("//") and host in ("", "localhost") else ""
    elif "://" in href or href.lower().startswith(("/vsi", "\\")):
        href = ""
    if not href or "\0" in href:
        shown = f"{scheme[:20]}:..." if found else repr(str(asset.get("href", ""))[:40])
        raise BadInput(
            f"{where}: asset {key}: expected an href to a file beside the Item, https:// or s3://, "
            f"found {shown}"
        )
    folder = os.path.abspath(item.parent)
    target = os.path.abspath(os.path.join(folder, href))
    if not target.startswith(folder.rstrip(os.sep) + os.sep):
        raise BadInput(
            f"{where}: asset {key}: expected a file in the folder of its Item or below, found one "
            "elsewhere (move the Item beside its files, and make the href relative)"
        )
    return item.parent / os.path.relpath(target, folder)


def _first_of_each(layers: list[Layer]) -> list[Layer]:
    """One layer a name: Items list the same band as COG and as JPEG 2000."""
    seen: dict[str, Layer] = {}
    for layer in layers:
        seen.setdefault(f"{layer.name}/{layer.index if layer.index == 0 else ''}", layer)
    return list(seen.values())


def _is_raster(asset: Mapping[str, Any]) -> bool:
    kind = str(asset.get("type", "")).split(";")[0].strip().lower()
    return kind in RASTER_TYPES or str(asset.get("href", "")).lower().endswith(RASTER_ENDS)


def _is_picture(key: str, asset: Mapping[str, Any]) -> bool:
    roles = asset.get("roles")
    if isinstance(roles, list) and PICTURE_ROLES & {str(role) for role in roles}:
        return True
    kind = str(asset.get("type", "")).lower()
    listed = bool(_list(asset, "bands") or _list(asset, "eo:bands"))
    return is_picture(key) or (kind.startswith(("image/png", "image/jpeg")) and not listed)


def _attribution(properties: Mapping[str, Any]) -> str:
    providers = properties.get("providers")
    names = (
        [str(_mapping(p).get("name", "")) for p in providers] if isinstance(providers, list) else []
    )
    return ", ".join(name for name in names if name)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(asset: Mapping[str, Any], key: str) -> list[Any]:
    value = asset.get(key)
    return value if isinstance(value, list) else []


def _number(facts: Mapping[str, Any], *keys: str) -> float | None:
    for key in keys:
        value = facts.get(key)
        if isinstance(value, str) and value.lower() == "nan":
            return float("nan")
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None
