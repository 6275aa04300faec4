"""The packaged archive's format objects, copies of them with one value changed, and tables."""

import json
from dataclasses import asdict, replace
from pathlib import Path

from embarchive import manifest
from embarchive.errors import EmbarchiveError
from embarchive.filters import to_micros
from embarchive.manifest import Generation, Pointer
from embarchive.parts import parse_models, parse_part, part_ref
from embarchive.reads import shard_rows
from embarchive.strictjson import canonical_json

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "src/embarchive/demo"
GONE = "(gone)"
POINTERS = [
    ["format", "other"],
    ["format", GONE],
    ["version", 2],
    ["version", "1"],
    ["version", True],
    ["generation", -1],
    ["generation", "1"],
    ["generation", True],
    ["manifest", "A" * 64],
    ["manifest", None],
    ["length", 1.5],
    ["commit_id", "0" * 31],
    ["commit_id", GONE],
    ["more", 1],
    ["generation", 7],
]
# A space of vectors that were brought: no encoder and no decoder.
IMPORTED = {
    "space_id": "imported-1", "encoder": None, "encoder_length": 0, "dim": 64, "metric": "l2",
    "scale": 0.5, "simhash": {}, "trained": {}, "saturation": {}, "architecture": {},
    "backbone": None, "backbone_length": 0, "onnx": None, "onnx_length": 0, "peak": 0.0,
}  # fmt: skip
PYRAMID = {
    "sha256": "0" * 64, "length": 9, "footer_length": 7, "rows": 1, "level": 4, "blocks": "1" * 64,
}  # fmt: skip
GENERATIONS = [
    ["version", 2],
    ["format", GONE],
    ["number", None],
    ["number", -1],
    ["parent", "x"],
    ["parent", "0" * 64],
    ["commit_id", "0" * 33],
    ["created", 7],
    ["tiles", 639],
    ["places", 0.5],
    ["bytes", {"shards": "many"}],
    ["bytes", []],
    ["attribution", None],
    ["extra", 1],
    ["scenes", GONE],
    ["parts", {}],
    ["parts", []],
    ["parts.0", 1],
    ["parts.0.bbox", [0, 0, 1]],
    ["parts.0.bbox", [0, 0, 1, "1"]],
    ["parts.0.bbox", [0, 0, 1, 181]],
    ["parts.0.bbox", [0, 0, 1, True]],
    ["parts.0.rows", 639],
    ["parts.0.rows", -640],
    ["parts.0.prefix", ""],
    ["parts.0.prefix", "a"],
    ["parts.0.geohash_min", ""],
    ["parts.0.sha256", "0" * 63],
    ["parts.0.datetime_min", "2023-08-15T10:11:12Z"],
    ["parts.0.datetime_min", "1960-08-15T10:11:12.25+01:00"],
    ["parts.0.datetime_min", "2023-08-15T10:11:12"],
    ["parts.0.datetime_min", "2023-08-15"],
    ["parts.0.datetime_min", 5],
    ["parts.0.shards", GONE],
    ["spaces", None],
    ["spaces", []],
    ["spaces.0.encoder", None],
    ["spaces.0.encoder_length", 0],
    ["spaces", [IMPORTED]],
    ["spaces", [{**IMPORTED, "encoder_length": 7}]],
    ["spaces.0.code", "0" * 64],
    ["spaces.0.code", None],
    ["spaces.0.quality", "32 bytes"],
    ["spaces.0.together", "0" * 64],
    ["spaces.0.quantiser", "0" * 64],
    ["spaces.0.quantiser_length", 1],
    ["spaces.0.metric", "cosine"],
    ["spaces.0.scale", -0.5],
    ["spaces.0.scale", "1"],
    ["spaces.0.backbone", None],
    ["spaces.0.backbone", "x"],
    ["spaces.0.simhash", []],
    ["spaces.0.saturation", {"DJF": "x"}],
    ["spaces.0.saturation", {"DJF": 0}],
    ["spaces.0.space_id", "a/b"],
    ["spaces.0.dim", 64.5],
    ["models", None],
    ["models", []],
    ["models.rows", -1],
    ["models.sha256", "../x"],
    ["overview", {"sha256": "0" * 64, "length": 1, "rows": 1}],
    ["pyramid", {"sha256": "0" * 64, "length": 1}],
    ["pyramid", PYRAMID],
    ["pyramid", {**PYRAMID, "blocks": "x"}],
    ["pyramid", {**PYRAMID, "level": -1}],
    ["pyramid", {**PYRAMID, "footer_length": "7"}],
    ["settings", None],
    ["settings.dim", 4097],
    ["settings.dim", 0],
    ["settings.dim", "64"],
    ["settings.bits", 127],
    ["settings.bits", -8],
    ["settings.bits", 0],
    ["settings.bits", 4104],
    ["settings.packed", 0],
    ["settings.packed", 8],
    ["settings.packed", "8"],
    ["settings.packed", 4097],
    ["settings.precision", 13],
    ["settings.height", 1.5],
    ["settings.gsd", 0],
    ["settings.gsd", 1e8],
    ["settings.bands", "B02"],
    ["settings.indices", {"ndvi": ["B08"]}],
    ["settings.indices", []],
    ["settings.regions", {"x": 1}],
    ["settings.regions", {"u0": "Alps"}],
    ["settings.title", GONE],
    ["settings.more", 1],
]
# Of a generation whose parts are columns, as they are now written.
COLUMNS = [
    ["parts", 5],
    ["parts.prefix", ["d", "u0", "u0"]],
    ["parts.shards", GONE],
    ["parts.rows", [640, 60]],
    ["parts.rows", [640, 60, 60, 0]],
    ["parts.rows", {"0": 640}],
    ["parts.rows", "640"],
    ["parts.rows.0", "640"],
    ["parts.rows.0", True],
    ["parts.rows.0", -640],
    ["parts.rows.0", 639],
    ["parts.sha256", []],
    ["parts.sha256.1", "0" * 63],
    ["parts.sha256.1", None],
    ["parts.geohash_min.1", ""],
    ["parts.geohash_max.1", "a"],
    ["parts.bbox", [0, 0, 1, 1]],
    ["parts.bbox", [0] * 13],
    ["parts.bbox", [0] * 11],
    ["parts.bbox", [0] * 12],
    ["parts.bbox", [[0, 0, 1, 1]] * 3],
    ["parts.bbox.11", 181],
    ["parts.bbox.0", None],
    ["parts.datetime_min", None],
    ["parts.datetime_min.1", None],
    ["parts.datetime_min.1", "1960-08-15T10:11:12.25+01:00"],
    ["parts.datetime_min.1", "2023-08-15"],
    ["parts.datetime_max.1", 5],
]
PATHS = [
    ["shard", "0" * 64, "u0"],
    ["shard", "0" * 64, ""],
    ["shard", "0" * 64, "../x"],
    ["shard", "0" * 64, "u0\n"],
    ["shard", "0" * 64 + "\n", "u0"],
    ["model", "F" * 64, ""],
    ["model", "f" * 64, ""],
    ["model-card", "f" * 64, ""],
    ["model-onnx", "f" * 64, ""],
    ["blocks", "f" * 64, ""],
    ["manifest-json", "f" * 64, ""],
    ["manifest-parquet", "f" * 64, ""],
    ["constructor", "f" * 64, ""],
]


def changed(data, path, value):
    """Canonical JSON with the value at a dotted path replaced, or taken out."""
    document = json.loads(data)
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    inner = document
    for key in way:
        inner = inner[key]
    if value == GONE:
        del inner[last]
    else:
        inner[last] = value
    return canonical_json(document)


def outcome(work, *args):
    """Nothing, or the class of the error."""
    try:
        work(*args)
    except EmbarchiveError as error:
        return type(error).__name__
    return None


def plain(value):
    values = asdict(value)
    for key in ("datetime_min", "datetime_max"):
        values[key] = None if values[key] is None else to_micros(values[key])
    return values


def table(name):
    return (HERE / "tables" / f"{name}.parquet").read_bytes()


def make():
    pointer = (DEMO / "embarchive.json").read_bytes()
    found: Pointer = manifest.parse_pointer(pointer)
    body = (DEMO / manifest.object_path("manifest-json", found.manifest)).read_bytes()
    generation: Generation = manifest.parse_generation(body)
    rows = parse_part(table("part"))
    ref = part_ref(rows, "0" * 64, len(table("part")))
    several = (*generation.parts, ref, replace(ref, datetime_max=None))
    tiles = sum(part.rows for part in several)
    columns = manifest.dump_generation(replace(generation, spaces=(), parts=several, tiles=tiles))
    names = sorted(path.stem for path in (HERE / "tables").glob("*.parquet"))
    return {
        "pointer": asdict(found),
        "part": plain(generation.parts[0]),
        "pointers": [
            [key, value, outcome(manifest.parse_pointer, changed(pointer, key, value))]
            for key, value in POINTERS
        ],
        "spelling": outcome(manifest.parse_pointer, pointer.replace(b",", b", ")),
        "generations": [
            [key, value, outcome(manifest.parse_generation, changed(body, key, value))]
            for key, value in GENERATIONS
        ],
        "columns": columns.decode(),
        "columns_parts": [plain(part) for part in several],
        "columns_changed": [
            [key, value, outcome(manifest.parse_generation, changed(columns, key, value))]
            for key, value in COLUMNS
        ],
        "paths": [
            [kind, sha, prefix, outcome(manifest.object_path, kind, sha, prefix)]
            for kind, sha, prefix in PATHS
        ],
        "shard_path": manifest.object_path("shard", "0" * 64, "u0"),
        "ref": plain(ref),
        "shards": [plain(row) for row in shard_rows(rows)],
        "models": parse_models(table("models")).to_pylist(),
        "tables": {
            name: outcome(parse_part, table(name), ref)
            if name.startswith("part")
            else outcome(parse_models, table(name))
            for name in names
            if name.startswith(("part", "models"))
        },
    }
