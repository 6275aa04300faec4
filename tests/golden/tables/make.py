"""Writes the Parquet files beside this file; what Python reads in them is in the golden files.

They are kept as they were written, so that another pyarrow changes nothing:
`python tests/golden/tables/make.py` makes them anew.
"""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pyarrow as pa

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent))

from golden import candidates  # noqa: E402

from embarchive import grid, inverted, parts, rows, shards  # noqa: E402

FIRST = datetime(2021, 12, 30, 23, 59, 59, 999_999, tzinfo=UTC)


def shard(dim=16, bits=32, count=700):
    """Three row groups; dates, codes and errors that are null here and there."""
    rng = np.random.default_rng(5)
    lon, lat = rng.uniform(11, 11.5, 90), rng.uniform(-3.3, -3, 90)
    names = np.resize(grid.encode(lon, lat, 7), count)
    days = [None if i % 11 == 0 else FIRST + timedelta(days=i % 7) for i in range(count)]
    table = rows.make_rows(
        names,
        days,
        rng.integers(-128, 128, (count, dim)).astype(np.int8),
        rng.integers(0, 256, (count, bits // 8), dtype=np.uint8),
        {
            "model_id": [f"{i % 3:064x}" for i in range(count)],
            "source": [("Zürich 2021", "scène", "s")[i % 3] for i in range(count)],
            "input_digest": [int(i).to_bytes(8, "big") for i in range(count)],
            "valid_fraction": np.linspace(0, 1, count),
            "mse": np.where(np.arange(count) % 5 == 0, np.nan, np.arange(count) / 64),
            "code": [None if i % 4 else bytes(range(i % 16)) for i in range(count)],
        },
    )
    with patch.object(shards, "ROW_GROUP", 256):
        return shards.write_shard(table, {"emb:type": "chip"}).data


def shard_row(name, i, **other):
    box = tuple(grid.bounds([name])[0].tolist())
    day = None if i == 2 else FIRST + timedelta(days=i)
    values = {
        "prefix": name[:3],
        "geohash_min": name,
        "geohash_max": name[:3] + "zz",
        "sha256": f"{i:064x}",
        "length": 100_000 + i,
        "footer_length": 4000,
        "rows": 10 + i,
        "bbox": box,
        "datetime_min": day,
        "datetime_max": day and day + timedelta(hours=3),
        "space_id": "space-1",
        "model_ids": tuple(f"{j:064x}" for j in range(i)),
        "blocks": f"{i + 100:064x}",
    }
    return parts.ShardRow(**{**values, **other})


def part(version=1, kind="part", schema=None, **other):
    """Five shards; `other` replaces values of the fourth."""
    names = ["u0nd9", "u0nf0", "u0p00", "u0pzz", "u0q00"]
    shards_ = [shard_row(name, i, **(other if i == 3 else {})) for i, name in enumerate(names)]
    table = parts.part_table(shards_)
    if schema:
        table = schema(table)
    with patch.object(parts, "VERSION", version):
        return parts.dump_table(table, kind)


def later(table):
    """The table with one shard's latest time beyond the year 9999."""
    times = [None if one is None else parts.YEARS[1] + 10**6
             for one in table["datetime_max"].to_pylist()]  # fmt: skip
    at = table.schema.get_field_index("datetime_max")
    kind = table.schema.field(at)
    return table.set_column(at, kind, pa.array(times, pa.int64()).cast(kind.type))


def models(**other):
    ids = [f"{i:064x}" for i in range(3)]
    listed = [
        {"model_id": ids[0], "length": 10, "kind": "adapter", "space_id": "s", "region": "u0"},
        {"model_id": ids[1], "length": 20, "kind": "full", "space_id": "s", "psnr": 31.5},
        {"model_id": ids[2], "length": 30, "kind": "shared", "space_id": "s", "backbone": ids[0]},
    ]
    listed[2].update(other)
    return parts.dump_table(parts.models_table(listed), "models")


def overview(**other):
    """The index of `golden.candidates`; `other` replaces values of its fourth row."""
    _, listed = candidates.files()
    found = inverted.index_table(listed).to_pylist()
    found[3].update(other)
    return parts.dump_table(pa.Table.from_pylist(found, inverted.INDEX_SCHEMA), "overview")


FILES = {
    "shard": shard,
    "part": part,
    "part-sha": lambda: part(sha256="A" * 64),
    "part-blocks": lambda: part(blocks="0" * 63),
    "part-prefix": lambda: part(prefix="u0n"),
    "part-prefixes": lambda: part(prefix="u0pz"),
    "part-cell": lambda: part(geohash_max="u0pza"),
    "part-footer": lambda: part(footer_length=100_004),
    "part-rows": lambda: part(rows=0),
    "part-length": lambda: part(length=2**40 + 1),
    "part-box": lambda: part(bbox=(0.0, 0.0, 181.0, 1.0)),
    "part-nan": lambda: part(bbox=(0.0, float("nan"), 1.0, 1.0)),
    "part-time": lambda: part(schema=later),
    "part-version": lambda: part(version=2),
    "part-kind": lambda: part(kind="models"),
    "part-missing": lambda: part(schema=lambda table: table.drop_columns("blocks")),
    "part-type": lambda: part(
        schema=lambda table: table.set_column(4, "length", table["length"].cast(pa.int32()))
    ),
    "models": models,
    "models-kind": lambda: models(kind="encoder "),
    "models-length": lambda: models(backbone_length=0),
    "models-sha": lambda: models(onnx_sha256="x"),
    "overview": overview,
    "overview-list": lambda: overview(list=-1),
    "overview-file": lambda: overview(file="x"),
    "overview-end": lambda: overview(length=100_000),
    "overview-coarse": lambda: overview(coarse="0" * 64),
    "overview-overlap": lambda: overview(offset=5),
}

if __name__ == "__main__":
    for name, build in FILES.items():
        (HERE / f"{name}.parquet").write_bytes(build())
