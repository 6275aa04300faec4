"""The recipe a user writes (TOML) and the settings an archive is bound to.

`Recipe` is what was asked for, every field optional; `Settings` is what was decided, every
field fixed for the life of the archive and stored in its generation object.
"""

from __future__ import annotations

import math
import re
import tomllib
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from embarchive.errors import BadInput

CODECS = ("adapter", "full", "shared", "auto")
WEIGHT_TYPES = ("float16", "int8")
ENCODERS = ("vae", "tile2vec")
_QUALITIES = (
    ("bytes", re.compile(r"(\d+(?:\.\d+)?) bytes")),
    ("most", re.compile(r"at most (\d+) bytes")),
    ("mse", re.compile(r"mse (\d*\.?\d+(?:e-?\d+)?)")),
    ("psnr", re.compile(r"psnr (\d+(?:\.\d+)?)")),
)
_QUALITY_LIMITS = {
    "bytes": (1, 65_536),
    "most": (4, 65_536),
    "mse": (1e-12, 1e12),
    "psnr": (1, 80),
}


@dataclass(frozen=True)
class Recipe:
    """What the user asked for; `None` or empty means: decide from the scenes.

    precision:      geohash length of a tile (1..9)
    gsd:            ground sample distance of the chips, metres
    region_prefix:  geohash length of a region; or `region_file` for any grouping of cells
    shard_prefix:   geohash length of a shard
    bands:          band names to keep, in order; for files without band names, their names
    dates:          ISO dates: one for all scenes, or one per date of a multi-date stack
    scale, offset:  recipe units = stored value * scale + offset, overriding the file
    nodata:         overriding the file
    min_cover:      a cell is kept when this share of it is data, cloudy or not
    min_valid:      ... and this share of it is data and not cloud
    indices:        name -> (band, band): normalised difference (a - b) / (a + b)
    quality:        of the fidelity code, see `parse_quality`; "" for no code
    single_band:    every band of a scene becomes tiles of its own, see `oneband`
    drift:          bound of `drift.watch` above which a held decoder is fitted anew; 0: never
    encoder:        "vae", or "tile2vec": a second encoder, without a decoder, see `fit_tile2vec`
    radius:         of tile2vec: metres within which a tile is a neighbour
    temporal:       of tile2vec: share of neighbours that are the same place on another date
    """

    title: str = ""
    attribution: str = ""
    licence: str = ""
    precision: int | None = None
    gsd: float | None = None
    region_prefix: int | None = None
    region_file: str | None = None
    single_band: bool = False
    shard_prefix: int | None = None
    bands: tuple[str, ...] = ()
    dates: tuple[str, ...] = ()
    scale: float | None = None
    offset: float | None = None
    nodata: float | None = None
    min_cover: float = 0.5
    min_valid: float = 0.1
    indices: dict[str, tuple[str, str]] = field(default_factory=dict)
    dim: int = 64
    bits: int = 128
    codec: str = "adapter"
    quality: str = ""
    weights: str = "float16"
    steps: int = 600
    adapter_steps: int = 150
    batch: int = 24
    beta: float = 1e-5
    index_weight: float = 0.3
    seed: int = 0
    drift: float = 3.0
    encoder: str = "vae"
    radius: float | None = None
    temporal: float = 0.0

    def __post_init__(self) -> None:
        _check_range("precision", self.precision, 1, 9)
        _check_range("gsd", self.gsd, 1e-3, 1e6)
        _check_range("region_prefix", self.region_prefix, 1, 9)
        _check_range("shard_prefix", self.shard_prefix, 1, 9)
        _check_range("min_cover", self.min_cover, 0.0, 1.0)
        _check_range("min_valid", self.min_valid, 0.0, 1.0)
        _check_range("dim", self.dim, 2, 512)
        _check_range("bits", self.bits, 0, 1024)
        _check_range("steps", self.steps, 1, 10_000_000)
        _check_range("adapter_steps", self.adapter_steps, 0, 10_000_000)
        _check_range("batch", self.batch, 1, 65_536)
        _check_range("beta", self.beta, 0.0, 1e3)
        _check_range("index_weight", self.index_weight, 0.0, 1e3)
        _check_range("seed", self.seed, 0, 2**31 - 1)
        _check_range("drift", self.drift, 0.0, 1e6)
        _check_range("radius", self.radius, 1e-3, 1e7)
        _check_range("temporal", self.temporal, 0.0, 1.0)
        _check_choice("encoder", self.encoder, ENCODERS)
        _check_choice("codec", self.codec, CODECS)
        _check_choice("weights", self.weights, WEIGHT_TYPES)
        parse_quality(self.quality)
        if self.single_band:
            _check_single(self)
        if self.quality and self.encoder != "vae":
            raise BadInput(
                f"recipe: quality of encoder {self.encoder}, which has no decoder, must be none, "
                f"found {self.quality!r}"
            )
        if self.bits % 8:
            raise BadInput(f"recipe: bits must be a multiple of 8, found {self.bits}")
        if len(set(self.bands)) != len(self.bands):
            raise BadInput(f"recipe: bands must be distinct, found {list(self.bands)}")
        for day in self.dates:
            parse_date(day)
        for name, value in (("scale", self.scale), ("offset", self.offset)):
            if value is not None and not (math.isfinite(value) and (value or name == "offset")):
                wanted = "a finite number" + " other than 0" * (name == "scale")
                raise BadInput(f"recipe: {name} must be {wanted}, found {value:g}")
        for name, pair in self.indices.items():
            if len(pair) != 2 or pair[0] == pair[1]:
                raise BadInput(f"recipe: index {name} must name two bands, found {list(pair)}")


@dataclass(frozen=True)
class Quality:
    """kind: "bytes", a tile on average; "most", bytes of a tile at most; "mse", mean squared error
    in recipe units; "psnr", dB. value: the number."""

    kind: str
    value: float


@dataclass(frozen=True)
class Settings:
    """What every tile of one archive shares; written into each generation.

    height, width: pixels of a chip; gsd: metres a pixel; dim: numbers of an embedding;
    bits: SimHash bits a row (0 = none); indices: name -> (band, band); packed: bytes of a row's
    embedding in the code of a quantiser, 0 for plain int8.
    """

    precision: int
    gsd: float
    height: int
    width: int
    bands: tuple[str, ...]
    units: str
    region_prefix: int
    shard_prefix: int
    indices: dict[str, tuple[str, str]]
    dim: int
    bits: int
    codec: str
    min_cover: float
    min_valid: float
    regions: dict[str, str] = field(default_factory=dict)
    title: str = ""
    attribution: str = ""
    licence: str = ""
    packed: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; tuples become lists."""
        values = asdict(self)
        values["bands"] = list(self.bands)
        values["indices"] = {name: list(pair) for name, pair in self.indices.items()}
        if not self.packed:
            del values["packed"]
        return values

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Settings:
        """Inverse of `to_json`; raises BadInput on a missing or unknown key."""
        known = {f.name for f in fields(cls)}
        if set(values) | {"packed"} != known or values.get("packed") == 0:
            odd = sorted((set(values) ^ known) - {"packed"}) or "packed of 0"
            raise BadInput(f"settings: expected keys {sorted(known)}, differing in {odd}")
        plain = dict(values)
        plain["bands"] = tuple(values["bands"])
        plain["indices"] = {name: (pair[0], pair[1]) for name, pair in values["indices"].items()}
        return cls(**plain)


def read_recipe(path: str | Path) -> Recipe:
    """Read a TOML recipe: the tables [archive] [scenes] [tiles] [indices] [model] hold
    `Recipe`'s fields. Raises BadInput naming the file and the key."""
    try:
        text = Path(path).read_text(encoding="utf-8")
        tables = tomllib.loads(text)
    except OSError as error:
        raise BadInput(f"recipe {path}: cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadInput(f"recipe {path}: not TOML: {error}") from None
    return recipe_from_tables(tables, where=f"recipe {path}")


RECIPE_TABLES: dict[str, tuple[str, ...]] = {
    "archive": tuple(
        "title attribution licence precision gsd region_prefix region_file shard_prefix "
        "single_band".split()
    ),
    "scenes": tuple("bands dates scale offset nodata".split()),
    "tiles": tuple("min_cover min_valid".split()),
    "model": tuple(
        "dim bits codec quality weights steps adapter_steps batch beta index_weight seed "
        "drift encoder radius temporal".split()
    ),
}


def recipe_from_tables(tables: dict[str, Any], where: str = "recipe") -> Recipe:
    """Build a Recipe from parsed TOML tables; unknown tables and keys are refused."""
    found: dict[str, Any] = {}
    types = {f.name: str(f.type) for f in fields(Recipe)}
    for table, content in tables.items():
        if not isinstance(content, dict):
            raise BadInput(f"{where}: {table} must stand in a table, one of {_table_names()}")
        if table == "indices":
            found["indices"] = {name: _names(where, name, pair) for name, pair in content.items()}
            continue
        if table not in RECIPE_TABLES:
            raise BadInput(f"{where}: unknown table [{table}], expected one of {_table_names()}")
        for key, value in content.items():
            if key not in RECIPE_TABLES[table]:
                expected = ", ".join(RECIPE_TABLES[table])
                raise BadInput(f"{where}: unknown key {key} in [{table}], expected {expected}")
            found[key] = _coerce(where, key, value, types[key])
    return Recipe(**found)


def parse_date(text: str) -> datetime:
    """An ISO date or date-time; without an offset it is UTC."""
    from datetime import UTC

    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except (ValueError, AttributeError):
        raise BadInput(f"date: expected ISO 8601 such as 2023-08-15, found {text!r}") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def parse_quality(text: str) -> Quality | None:
    """ "32 bytes", "at most 32 bytes", "mse 0.0004" or "psnr 38"; None for "". Raises BadInput."""
    if not text:
        return None
    for kind, form in _QUALITIES:
        found = form.fullmatch(text)
        if found:
            low, high = _QUALITY_LIMITS[kind]
            if not low <= float(found[1]) <= high:
                raise BadInput(
                    f"recipe: quality in {kind} must be between {low:g} and {high:g}, "
                    f"found {found[1]}"
                )
            return Quality(kind, float(found[1]))
    raise BadInput(
        'recipe: quality must be like "32 bytes", "at most 32 bytes", "mse 0.0004" or "psnr 38", '
        f"found {text!r}"
    )


def _table_names() -> str:
    return ", ".join(f"[{name}]" for name in (*RECIPE_TABLES, "indices"))


def _names(where: str, key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadInput(f"{where}: {key} must be a list of names, found {value!r}")
    return tuple(value)


def _coerce(where: str, key: str, value: Any, annotation: str) -> Any:
    if annotation.startswith("tuple"):
        if key == "dates" and isinstance(value, list):
            value = [str(item) for item in value]
        return _names(where, key, value)
    if annotation == "bool":
        if not isinstance(value, bool):
            raise BadInput(f"{where}: {key} must be true or false, found {value!r}")
        return value
    wanted: tuple[type, ...] = (str,)
    if annotation.startswith("int"):
        wanted = (int,)
    elif annotation.startswith("float"):
        wanted = (int, float)
    if not isinstance(value, wanted) or isinstance(value, bool):
        raise BadInput(f"{where}: {key} must be {annotation.split(' ')[0]}, found {value!r}")
    if annotation.startswith("float"):
        return float(cast("float", value))
    return value


def _check_range(name: str, value: float | None, low: float, high: float) -> None:
    if value is not None and not low <= value <= high:
        raise BadInput(f"recipe: {name} must be between {low:g} and {high:g}, found {value:g}")


def _check_single(recipe: Recipe) -> None:
    """Single bands cannot have what needs bands side by side, or one scale for all."""
    odd = {
        "codec": recipe.codec not in ("adapter", "full"),
        "encoder": recipe.encoder != "vae",
        "quality": bool(recipe.quality),
        "indices": bool(recipe.indices),
    }
    for name, found in odd.items():
        if found:
            said = {"codec": "adapter or full", "encoder": "vae"}.get(name, "none")
            value = getattr(recipe, name)
            raise BadInput(f"recipe: {name} of single bands must be {said}, found {value!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise BadInput(f"recipe: {name} must be one of {', '.join(choices)}, found {value!r}")
