"""The format objects: pointer, generation, spaces, and where every object lies.

The pointer names one generation; a generation names the settings, the spaces, the models
table and the manifest parts. All are strict, canonical JSON that carries its format and
version. Parts and the models table are Parquet, see `parts`. Pure: values and bytes.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from embarchive.errors import BadInput, Damaged, NotAnArchive, UnknownVersion
from embarchive.partition import dump_parts, parts_for
from embarchive.partrefs import parse_parts, part_columns
from embarchive.parts import (
    CELL,
    MODEL_SCHEMA,
    PART_SCHEMA,
    SHA,
    VERSION,
    PartRef,
    PyramidRef,
    ShardRow,
    dump_models,
    dump_part,
    models_table,
    parse_models,
    parse_part,
    part_ref,
    part_table,
)
from embarchive.quantize import MAX_BITS
from embarchive.recipe import Settings
from embarchive.strictjson import (
    build,
    canonical_json,
    check_keys,
    check_types,
    listed,
    parse_strict_json,
)

__all__ = [
    "MODEL_SCHEMA",
    "PART_SCHEMA",
    "VERSION",
    "Generation",
    "PartRef",
    "Pointer",
    "PyramidRef",
    "ShardRow",
    "Space",
    "TableRef",
    "check_pair",
    "dump_generation",
    "dump_models",
    "dump_part",
    "dump_parts",
    "dump_pointer",
    "models_table",
    "object_path",
    "parse_generation",
    "parse_models",
    "parse_part",
    "parse_pointer",
    "part_ref",
    "part_table",
    "parts_for",
]

POINTER = "embarchive.json"
MAX_POINTER, MAX_GENERATION = 1024, 4 << 20
_PLACES = {
    "manifest-json": "manifests/{sha}.json",
    "manifest-parquet": "manifests/{sha}.parquet",
    "shard": "embeddings/gh={prefix}/{sha}.parquet",
    "model": "models/{sha}.safetensors",
    "model-card": "models/{sha}.json",
    "model-onnx": "models/{sha}.onnx",
    "blocks": "blocks/{sha}",
    "overview": "overview/{sha}.parquet",
    "pyramid": "pyramid/{sha}.parquet",
}


@dataclass(frozen=True)
class Pointer:
    """The one mutable object: which generation is current.

    manifest, length: SHA-256 and bytes of the generation's JSON; commit_id: 32 hex digits
    drawn by the committer, so that it knows its own commit when it reads it back.
    """

    generation: int
    manifest: str
    length: int
    commit_id: str


@dataclass(frozen=True)
class TableRef:
    """A Parquet table by content: bytes and rows."""

    sha256: str
    length: int
    rows: int


@dataclass(frozen=True)
class Space:
    """An embedding space: encoder, calibration and basis, and what it was trained on.

    encoder: hash, None where vectors were imported; scale: one int8 step in embedding units;
    simhash: `SimHash.to_json`, empty without bits;
    trained: tiles, bounds and datetime of the first build, and how many numbers collapsed;
    saturation: season (or "training", "undated") -> share of numbers that the last job in it
    clipped; architecture: `Architecture.to_json`; backbone and onnx: hashes, None without
    decoders; peak: the range of the training pixels (99.95th less .05th percentile), recipe
    units, for PSNR; code: hash of the fidelity layer, None without; quality: what was
    asked of it; together: hash of the code of dates together, None without; quantiser: hash of
    what the rows' codes decode with (scale is then one step of that), None for plain int8.
    """

    space_id: str
    encoder: str | None
    encoder_length: int
    dim: int
    metric: str
    scale: float
    simhash: dict[str, Any] = field(default_factory=dict)
    trained: dict[str, Any] = field(default_factory=dict)
    saturation: dict[str, float] = field(default_factory=dict)
    architecture: dict[str, Any] = field(default_factory=dict)
    backbone: str | None = None
    backbone_length: int = 0
    onnx: str | None = None
    onnx_length: int = 0
    peak: float = 0.0
    code: str | None = None
    code_length: int = 0
    quality: str = ""
    together: str | None = None
    together_length: int = 0
    quantiser: str | None = None
    quantiser_length: int = 0

    @property
    def kind(self) -> str:
        """What encodes it: "vae", of which there are decoders, "tile2vec", or "none"."""
        if self.encoder is None:
            return "none"
        return "vae" if self.backbone else "tile2vec"

    def objects(self) -> list[tuple[str, str, int]]:
        """Kind (see `object_path`), hash and length of each object that the space names."""
        found = [
            ("model", self.encoder, self.encoder_length),
            ("model", self.backbone, self.backbone_length),
            ("model-onnx", self.onnx, self.onnx_length),
            ("model", self.code, self.code_length),
            ("model", self.together, self.together_length),
            ("model", self.quantiser, self.quantiser_length),
        ]
        return [(kind, sha256, length) for kind, sha256, length in found if sha256]


@dataclass(frozen=True)
class Generation:
    """One state of an archive, complete.

    parent: manifest hash of the generation before, None for the first; created: UTC, ISO
    8601; tiles: rows; places: distinct cells; bytes: of shards, models, overview (with the
    pyramid); scenes: number of scenes that came in so far.
    """

    number: int
    parent: str | None
    commit_id: str
    created: str
    settings: Settings
    spaces: tuple[Space, ...]
    models: TableRef | None
    parts: tuple[PartRef, ...]
    tiles: int
    places: int
    bytes: dict[str, int]
    scenes: int
    attribution: str = ""
    overview: TableRef | None = None
    pyramid: PyramidRef | None = None


def object_path(kind: str, sha: str, prefix: str | None = None) -> str:
    """Where an object lies, derived from its hash (and a shard's prefix). Raises Damaged."""
    if kind not in _PLACES:
        raise BadInput(f"object kind: expected one of {', '.join(_PLACES)}, found {kind!r}")
    if not isinstance(sha, str) or not re.fullmatch(SHA, sha):
        raise Damaged(f"{kind}: expected a sha256 of 64 hex digits, found {str(sha)[:80]!r}")
    if kind == "shard" and not re.fullmatch(CELL, prefix or ""):
        raise Damaged(f"shard {sha[:12]}: expected a geohash prefix, found {str(prefix)[:80]!r}")
    return _PLACES[kind].format(sha=sha, prefix=prefix)


def dump_pointer(pointer: Pointer) -> bytes:
    """Canonical JSON of a pointer."""
    return canonical_json({"format": "embarchive", "version": VERSION, **asdict(pointer)})


def parse_pointer(data: bytes, name: str = POINTER) -> Pointer:
    """Raises NotAnArchive, UnknownVersion or Damaged."""
    try:
        values = _document(data, name, MAX_POINTER)
    except Damaged as error:
        raise NotAnArchive(f"{error}") from None
    pointer = build(Pointer, values, name, _PATTERNS)
    # No hash covers the pointer: with one spelling only, a flipped bit changes a value.
    if dump_pointer(pointer) != data:
        raise Damaged(f"{name}: expected canonical JSON, found another spelling")
    return pointer


def check_pair(pointer: Pointer, generation: Generation, name: str = POINTER) -> None:
    """Raises Damaged unless the pointer says of the generation what it says of itself."""
    for key, found in (("generation", pointer.generation), ("commit_id", pointer.commit_id)):
        expected = generation.number if key == "generation" else generation.commit_id
        if found != expected:
            raise Damaged(f"{name}: expected {key} {expected}, found {found}")


def dump_generation(generation: Generation) -> bytes:
    """Canonical JSON of a generation. Raises BadInput for one that no reader would take."""
    values: dict[str, Any] = {f.name: getattr(generation, f.name) for f in fields(Generation)}
    values["settings"] = generation.settings.to_json()
    values["spaces"] = [_space_json(space) for space in generation.spaces]
    values["parts"] = part_columns(generation.parts)
    for key in ("models", "overview", "pyramid"):
        values[key] = asdict(values[key]) if values[key] else None
    data = canonical_json({"format": "embarchive", "version": VERSION, **values})
    try:
        parse_generation(data)
    except Damaged as error:
        raise BadInput(str(error)) from None
    return data


def parse_generation(data: bytes, name: str = "generation") -> Generation:
    """Raises UnknownVersion or Damaged."""
    values = _document(data, name, MAX_GENERATION)
    check_keys(values, Generation, name)
    values["settings"] = _settings(values["settings"], name)
    values["spaces"] = tuple(
        _space(item, f"{name} space") for item in listed(values, "spaces", name)
    )
    values["parts"] = parse_parts(values["parts"], f"{name} parts")
    for key in ("models", "overview", "pyramid"):
        if values[key] is not None:
            shape = PyramidRef if key == "pyramid" else TableRef
            values[key] = build(shape, values[key], f"{name} {key}", _PATTERNS)
    generation = build(Generation, values, name, _PATTERNS)
    _check_sums(generation, name)
    return generation


def _document(data: bytes, name: str, cap: int) -> dict[str, Any]:
    values = parse_strict_json(data, name, cap)
    if not isinstance(values, dict) or values.pop("format", None) != "embarchive":
        raise Damaged(f'{name}: expected "format": "embarchive", found another JSON document')
    version = values.pop("version", None)
    if version != VERSION or isinstance(version, bool):
        raise UnknownVersion(f"{name}: expected version {VERSION}, found {version!r}")
    return values


# Keys that a space has only with a fidelity layer, or with codes of a quantiser.
_LAYER: tuple[dict[str, Any], ...] = (
    {"code": None, "code_length": 0, "quality": ""},
    {"together": None, "together_length": 0},
    {"quantiser": None, "quantiser_length": 0},
)


def _space_json(space: Space) -> dict[str, Any]:
    values = asdict(space)
    for some in _LAYER:
        if values[next(iter(some))] is None:
            values = {key: value for key, value in values.items() if key not in some}
    return values


def _space(values: Any, name: str) -> Space:
    if not isinstance(values, dict):
        return build(Space, values, name, _PATTERNS)
    for some in _LAYER:
        first = next(iter(some))
        if not set(some) & set(values):
            values = {**some, **values}
        elif values.get(first, "") is None:
            raise Damaged(f"{name}: expected {first} to be a hash where it is named, found null")
    space = build(Space, values, name, _PATTERNS)
    if space.together and not space.code:
        raise Damaged(f"{name}: expected a code beside together, found none")
    if space.encoder is None and space.encoder_length:
        raise Damaged(f"{name}: expected no encoder_length without an encoder, found one")
    return space


def _settings(values: Any, name: str) -> Settings:
    """Settings with the types of their fields; they steer allocations, so also their sizes."""
    try:
        check_types(values, Settings, name)
        settings = Settings.from_json(values)
    except (BadInput, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        raise Damaged(f"{name}: settings: {str(error)[:160]}") from None
    limits = {
        "precision": 12, "height": 4096, "width": 4096, "region_prefix": 12, "shard_prefix": 12,
        "dim": 4096, "gsd": 1e7,
    }  # fmt: skip
    for key, most in limits.items():
        if not 0 < getattr(settings, key) <= most:
            raise Damaged(
                f"{name}: settings: expected {key} in 0 to {most}, found {getattr(settings, key)}"
            )
    if not 0 <= settings.bits <= MAX_BITS or settings.bits % 8:
        raise Damaged(f"{name}: settings: expected bits in eights, found {settings.bits}")
    if not 0 <= settings.packed <= 4096:
        raise Damaged(f"{name}: settings: expected packed to 4096, found {settings.packed}")
    return settings


_PATTERNS = {
    "manifest": SHA,
    "parent": SHA,
    "sha256": SHA,
    "blocks": SHA,
    "encoder": SHA,
    "commit_id": "[0-9a-f]{32}",
    "space_id": "[0-9A-Za-z._-]{1,64}",
    "metric": "l2",
    "backbone": SHA,
    "onnx": SHA,
    "code": SHA,
    "together": SHA,
    "quantiser": SHA,
}


def _check_sums(generation: Generation, name: str) -> None:
    rows = sum(part.rows for part in generation.parts)
    if rows != generation.tiles:
        raise Damaged(f"{name}: expected {generation.tiles} tiles in its parts, found {rows}")
    for space in generation.spaces:
        if (space.quantiser is None) != (generation.settings.packed == 0):
            said = "a quantiser" if generation.settings.packed else "no quantiser"
            raise Damaged(f"{name} space {space.space_id}: expected {said}, found otherwise")
