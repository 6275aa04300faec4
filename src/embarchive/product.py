"""What a scene is made of: the frozen values that travel from folder listing to job plan.

A `Layer` is one band (or one whole file) as a folder, STAC Item or product describes it,
before its raster was opened; a `Product` is the layers of one moment. Opening turns a
Product into a `Scene`, which holds everything that reading needs and nothing to look up.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from embarchive.errors import BadInput

# SCL of Sentinel-2 L2A: 0 no data, 1 saturated or defective; 3 cloud shadow, 8 and 9 cloud
# of medium and high probability, 10 thin cirrus. Kept: 2 dark, 4 vegetation, 5 bare,
# 6 water, 7 unclassified, 11 snow or ice.
SCL_EXCLUDED = (0, 1, 3, 8, 9, 10)
# QA_PIXEL of Landsat Collection 2, bits: 0 fill, 1 dilated cloud, 2 cirrus, 3 cloud,
# 4 cloud shadow. Kept: 5 snow, 6 clear, 7 water.
QA_PIXEL_EXCLUDED = (0, 1, 2, 3, 4)

Box = tuple[float, float, float, float]
REMOTE = ("https", "http", "s3")


class Url(str):
    """Where a file on the network is: http(s):// or s3://, without credentials or query."""

    __slots__ = ()


@dataclass(frozen=True)
class Band:
    """One band of a scene: band `index` (from 1) of the file `path`.

    Recipe units = stored value * scale + offset. nodata: the stored value that is no data
    (NaN is always none), or None. The file's own mask or alpha
    band hides pixels too.
    """

    name: str
    path: str
    index: int
    scale: float
    offset: float
    nodata: float | None


@dataclass(frozen=True)
class CloudLayer:
    """A class layer that hides pixels: of `classes` those in `excluded`, or of a field of
    `bits` those with any of the bits `excluded` set."""

    path: str
    index: int
    kind: str
    excluded: tuple[int, ...]


@dataclass(frozen=True)
class Scene:
    """One moment of one sensor over one place.

    source: short id, unique among the scenes found together; datetime: UTC; gsd: metres on
    the ground of the finest band at the scene's centre; bounds: boxes (west, south, east,
    north) in degrees, two when the scene crosses the antimeridian; units: "reflectance"
    when known, "scaled" after a scale of unknown meaning, "stored" otherwise.
    """

    source: str
    datetime: datetime | None
    bands: tuple[Band, ...]
    cloud: CloudLayer | None
    gsd: float
    bounds: tuple[Box, ...]
    units: str
    attribution: str
    licence: str


@dataclass(frozen=True)
class Layer:
    """One band as its folder or Item describes it; None where only the file can tell.

    index: from 1, or 0 for every band of the file. aliases: other names it answers to.
    wanted: part of the scene unless the recipe names its bands.
    """

    path: Path | Url
    name: str
    index: int = 1
    aliases: tuple[str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    wanted: bool = True


@dataclass(frozen=True)
class Product:
    """Layers of one moment. units: "" when the layers do not know; listed: metadata names the
    files, so that one which cannot be read is an error and not some stranger."""

    source: str
    layers: tuple[Layer, ...]
    datetime: datetime | None = None
    cloud: CloudLayer | None = None
    units: str = ""
    attribution: str = ""
    licence: str = ""
    listed: bool = False


def is_remote(path: str | Path) -> bool:
    """Whether a path is that of a file on the network."""
    return str(path).partition("://")[0].lower() in REMOTE and "://" in str(path)


def remote_url(href: str) -> Url:
    """A URL whose file can be read. Raises BadInput, without repeating it, for one with user,
    password, query or fragment, another scheme, or no file."""
    try:
        parts = urlsplit(href)
        _ = parts.port
    except ValueError:
        raise BadInput("expected a URL https://HOST/PATH, found a malformed one") from None
    shown = f"{parts.scheme}://{(parts.hostname or '')[:80]}/..."
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise BadInput(
            f"expected a URL without user, password, query or fragment, found one at {shown}"
        )
    named = parts.path.strip("/")
    if parts.scheme.lower() not in REMOTE or not parts.hostname or not named:
        raise BadInput(f"expected https://HOST/FILE or s3://BUCKET/KEY, found {shown}")
    if not href.isprintable() or {".", ".."} & set(unquote(parts.path).split("/")):
        raise BadInput(f"expected a plain path in a URL, found another at {shown}")
    return Url(f"{parts.scheme.lower()}://{parts.netloc}{parts.path}")


def absolute(path: str | Path) -> str:
    """The path as any process finds it: a URL as it is."""
    return str(path) if is_remote(path) else os.path.abspath(path)


def names_of(path: str | Path) -> PurePath:
    """The names in a path, for what they tell of date and sensor."""
    if not is_remote(path):
        return Path(path).absolute()
    return PurePosixPath(unquote(urlsplit(str(path)).path))


def cloud_layer(name: str, path: Path | Url) -> CloudLayer:
    """The layer that an SCL or QA_PIXEL file is."""
    if name.upper() == "SCL":
        return CloudLayer(str(path), 1, "classes", SCL_EXCLUDED)
    return CloudLayer(str(path), 1, "bits", QA_PIXEL_EXCLUDED)


def scene_to_json(scene: Scene) -> dict[str, Any]:
    """Plain JSON values, paths absolute; the inverse of `scene_from_json`."""
    values = asdict(scene)
    values["datetime"] = scene.datetime.isoformat() if scene.datetime else None
    values["bands"] = [asdict(band) for band in scene.bands]
    values["bounds"] = [list(box) for box in scene.bounds]
    if scene.cloud:
        values["cloud"]["excluded"] = list(scene.cloud.excluded)
    return values


def scene_from_json(values: Mapping[str, Any]) -> Scene:
    """A Scene out of a job plan; raises BadInput when a field is missing or odd."""
    try:
        plain = dict(values)
        day = plain["datetime"]
        plain["datetime"] = datetime.fromisoformat(day).astimezone(UTC) if day else None
        plain["bands"] = tuple(Band(**band) for band in plain["bands"])
        plain["bounds"] = tuple((b[0], b[1], b[2], b[3]) for b in plain["bounds"])
        if plain["cloud"]:
            cloud = dict(plain["cloud"])
            cloud["excluded"] = tuple(cloud["excluded"])
            plain["cloud"] = CloudLayer(**cloud)
        return Scene(**plain)
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise BadInput(f"scene of a plan: expected the fields of Scene, found {error}") from None
