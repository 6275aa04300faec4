"""Shards as Python reads them: the packaged archive's, and one with dates, codes and nulls."""

from pathlib import Path

import pyarrow as pa

from embarchive import digests, rows, shards

HERE = Path(__file__).parent
DEMO = HERE.parents[1] / "src/embarchive/demo"
FEW = (0, 1, 255, 256, 511, 639)


def column(table, name):
    """A column as plain values; bytes as hex."""
    found = table[name].combine_chunks()
    if name == "bbox":
        return [list(box.values()) for box in found.to_pylist()]
    if pa.types.is_timestamp(found.type):
        return found.cast(pa.int64()).to_pylist()
    values = found.to_pylist()
    return [value.hex() if isinstance(value, bytes) else value for value in values]


def limits(metadata):
    """Least and greatest value of each column that has them, one object a row group."""
    found = []
    for g in range(metadata.num_row_groups):
        chunks = [metadata.row_group(g).column(i) for i in range(metadata.num_columns)]
        both = {
            chunk.path_in_schema: pa.array([chunk.statistics.min, chunk.statistics.max])
            for chunk in chunks
            if chunk.statistics is not None and chunk.statistics.has_min_max
        }
        found.append(
            {
                path: (
                    pair.cast(pa.int64()) if pa.types.is_timestamp(pair.type) else pair
                ).to_pylist()
                for path, pair in both.items()
            }
        )
    return found


def read(path, dim, bits):
    data = path.read_bytes()
    metadata = shards.parse_footer(data, dim, bits)
    groups = range(metadata.num_row_groups)
    names = rows.schema(dim, bits).names
    table = shards.read_rows(pa.BufferReader(data), metadata, list(groups), names)
    few = table.take(pa.array(FEW))
    return {
        "dim": dim,
        "bits": bits,
        "rows": len(table),
        "names": names,
        "ranges": shards.column_ranges(metadata, groups, ["bits", "geohash"]),
        "limits": limits(metadata),
        "embedding": digests.sha256(rows.embeddings(table).tobytes()),
        "bits_sha256": digests.sha256(rows.bit_rows(table).tobytes()),
        "geohash": digests.sha256("\n".join(table["geohash"].to_pylist()).encode()),
        "source": digests.sha256("\n".join(table["source"].to_pylist()).encode()),
        "datetime": digests.sha256("\n".join(map(str, column(table, "datetime"))).encode()),
        "nulls": {name: table[name].null_count for name in names},
        "few": {name: column(few, name) for name in names},
    }


def make():
    demo = next((DEMO / "embeddings").rglob("*.parquet"))
    return {
        "at": list(FEW),
        "demo": read(demo, 64, 128),
        "shard": read(HERE / "tables/shard.parquet", 16, 32),
    }
