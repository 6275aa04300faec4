"""Shards: the bytes, their metadata, and other programs reading them."""

import io
import json
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import geopandas
import numpy as np
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import EMB, make_table

from embarchive import digests, heads, rows, shards
from embarchive.errors import BadInput, Damaged, UnknownVersion


@pytest.fixture(scope="module")
def table():
    return make_table(9000)


@pytest.fixture(scope="module")
def shard(table):
    return shards.write_shard(table, EMB)


@pytest.fixture(scope="module")
def path(shard, tmp_path_factory):
    path = tmp_path_factory.mktemp("shards") / "shard.parquet"
    path.write_bytes(shard.data)
    return path


def footer(shard):
    return shards.parse_footer(shard.data[-shard.footer_length :], 64, 128)


class Watched(io.BytesIO):
    """A file that knows which threads read it."""

    threads = frozenset()

    def read(self, *size):
        self.threads |= {threading.get_ident()}
        return super().read(*size)


def test_no_thread_of_its_own_reads(shard):
    file, metadata = Watched(shard.data), footer(shard)
    shards.read_rows(file, metadata, [0, 1], ["geohash", "embedding", "bits"])
    assert file.threads == {threading.get_ident()}


def test_what_is_written_is_read_back(table, shard):
    metadata = footer(shard)
    groups = list(range(metadata.num_row_groups))
    back = shards.read_rows(io.BytesIO(shard.data), metadata, groups, table.column_names)
    assert back.schema == rows.schema(64, 128)
    for name in table.column_names:
        assert back[name].to_pylist() == table[name].to_pylist()


def test_the_same_rows_give_the_same_bytes_in_any_order(table, shard):
    shuffled = table.take(np.random.default_rng(1).permutation(len(table)))
    assert shards.write_shard(shuffled, EMB).sha256 == shard.sha256


def test_the_summary_is_that_of_the_rows(table, shard):
    assert (shard.sha256, shard.length) == (digests.sha256(shard.data), len(shard.data))
    assert (shard.geohash_min, shard.geohash_max) == (
        min(table["geohash"].to_pylist()),
        max(table["geohash"].to_pylist()),
    )
    assert shard.model_ids == tuple(sorted(set(table["model_id"].to_pylist())))
    assert shard.rows == 9000


def test_the_head_has_the_footer_and_the_short_columns_that_say_which_rows_there_are(shard):
    outboard, held = heads.split("x", shard.outboard, shard.length)
    assert outboard == digests.block_digests(shard.data)
    head, metadata = heads.parse("x", held, shard.length), footer(shard)
    assert all(held[at : at + b - a] == shard.data[a:b] for a, b, at in head.spans)
    tail = (shard.length - shard.footer_length, shard.length)
    assert head.get(*tail) == shard.data[tail[0] :]
    for group in range(metadata.num_row_groups):
        for name in metadata.schema.to_arrow_schema().names:
            for start, end in shards.column_ranges(metadata, [group], [name]):
                there = head.get(start, end) is not None
                assert there == (name in shards.HEAD_COLUMNS and end - start <= 16_384)
    long = shards.column_ranges(metadata, [0], ["valid_fraction"])[0]
    assert long[1] - long[0] > 16_384


def test_a_shard_that_is_always_fetched_whole_has_no_head():
    shard = shards.write_shard(make_table(500), EMB)
    assert shard.length <= heads.WHOLE_BYTES
    assert shard.outboard == digests.block_digests(shard.data)


def test_only_the_ranges_of_the_columns_are_read(table, shard):
    metadata = footer(shard)
    ranges = shards.column_ranges(metadata, [1], ["geohash", "bits"])
    holes = bytearray(len(shard.data))
    for start, end in ranges:
        holes[start:end] = shard.data[start:end]
    back = shards.read_rows(io.BytesIO(holes), metadata, [1], ["geohash", "bits"])
    assert back["bits"].to_pylist() == table["bits"].to_pylist()[8192:]
    assert sum(end - start for start, end in ranges) < 40_000


def test_an_embedding_costs_less_than_its_bytes_and_bits_are_plain(shard):
    group = footer(shard).row_group(0)
    chunks = {group.column(i).path_in_schema: group.column(i) for i in range(group.num_columns)}
    assert chunks["embedding.list.element"].total_compressed_size / group.num_rows < 64
    assert chunks["bits"].compression == "UNCOMPRESSED"
    assert all(chunk.has_offset_index for chunk in chunks.values())
    assert {chunks[name].compression for name in ("geohash", "mse", "code")} == {"ZSTD"}


def test_too_many_rows_become_several_shards():
    table = make_table(33_000)
    first, second = shards.write_shards(table, EMB)
    assert (first.rows, second.rows) == (32_768, 232)
    assert first.geohash_max <= second.geohash_min


def test_no_rows_or_other_columns_are_refused(table):
    with pytest.raises(BadInput, match="expected 1 to 32768 rows, found 0"):
        shards.write_shard(table.slice(0, 0), EMB)
    with pytest.raises(BadInput, match="expected columns"):
        shards.write_shard(table.drop_columns(["mse"]), EMB)


def test_a_footer_of_another_width_or_another_file_is_refused(shard):
    tail = shard.data[-shard.footer_length :]
    with pytest.raises(Damaged, match="expected columns"):
        shards.parse_footer(tail, 32, 128)
    with pytest.raises(Damaged, match="expected a Parquet footer"):
        shards.parse_footer(tail[:-9] + b"x" + tail[-8:-4] + b"PARX", 64, 128)
    plain = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), plain)
    with pytest.raises(Damaged, match="another Parquet file"):
        shards.parse_footer(plain.getvalue(), 64, 128)


def test_another_version_is_refused_by_name(table, monkeypatch):
    monkeypatch.setattr(shards, "VERSION", 2)
    newer = shards.write_shard(table, EMB)
    monkeypatch.undo()
    with pytest.raises(UnknownVersion, match="version 1, found"):
        footer(newer)


@pytest.mark.parametrize("cut", [0, 11, 13, 500])
def test_a_short_footer_is_refused(shard, cut):
    with pytest.raises(Damaged):
        shards.parse_footer(shard.data[len(shard.data) - cut :], 64, 128)


def test_flipped_bits_never_give_other_rows(table, shard):
    metadata, rng = footer(shard), np.random.default_rng(5)
    names = ["geohash", "embedding", "bits"]
    spans = shards.column_ranges(metadata, [0], names)
    for _ in range(40):
        start, end = spans[rng.integers(len(spans))]
        data = bytearray(shard.data)
        data[rng.integers(start, end)] ^= 1 << int(rng.integers(8))
        try:
            back = shards.read_rows(io.BytesIO(data), metadata, [0], names)
        except Damaged:
            continue
        # a flip in a page header may be harmless; a wrong value is not
        assert all(back[n].equals(table[n].slice(0, 8192)) for n in names)


def test_geoparquet_validator_passes(path):
    tool = Path(sys.executable).with_name("geoparquet-validator")
    ran = subprocess.run([tool, "check", path], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout
    assert "FAIL" not in ran.stdout and "covering: 6 pass" in ran.stdout


def test_geopandas_reads_cells_in_degrees(path, table):
    frame = geopandas.read_parquet(path)
    assert frame.crs == "OGC:CRS84"
    assert frame.geometry.iloc[0].is_valid and len(frame) == len(table)
    some = geopandas.read_parquet(path, bbox=tuple(frame.geometry.iloc[5].bounds))
    assert table["geohash"][5].as_py() in set(some["geohash"])


def test_duckdb_and_polars_read_the_same_vectors(path, table):
    first = table["embedding"][0].as_py()
    query = "SELECT embedding, bits FROM read_parquet(?) LIMIT 1"
    vector, bits = duckdb.connect().execute(query, [str(path)]).fetchall()[0]
    assert list(vector) == first and bits == table["bits"][0].as_py()
    assert polars.read_parquet(path)["embedding"][0].to_list() == first


def test_the_footer_says_what_the_vectors_are(shard):
    extra = footer(shard).metadata
    emb, geo = json.loads(extra[b"emb"]), json.loads(extra[b"geo"])
    assert (emb["emb:type"], emb["emb:dimensions"], emb["data_type"]) == ("chip", 64, "int8")
    assert geo["version"] == "1.1.0" and "bbox" in geo["columns"]["geometry"]["covering"]
