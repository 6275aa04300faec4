"""Rows read by the pages that they are in are those that Arrow reads from whole columns."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import EMB, make_table

import embarchive
from embarchive import shards
from embarchive.errors import Damaged
from embarchive.pages import Pages

ROWS = 9000


@pytest.fixture(scope="module")
def shard():
    return shards.write_shard(make_table(ROWS), EMB)


@pytest.fixture(scope="module")
def whole(shard) -> pa.Table:
    return pq.read_table(pa.BufferReader(shard.data))


def pages_of(shard) -> Pages:
    return Pages(shard.data[-shard.footer_length :], shard.length)


@pytest.mark.parametrize("group", [0, 1])
def test_any_rows_of_any_column(shard, whole, group):
    pages, rng = pages_of(shard), np.random.default_rng(group)
    size = min(shards.ROW_GROUP, ROWS - group * shards.ROW_GROUP)
    for name in whole.column_names:
        if name == "bbox":
            continue
        for count in (1, 3, 40):
            rows = np.sort(rng.choice(size, count, replace=False))
            chunk = pages.chunk(group, name)
            read = []

            def some(start, end, read=read):
                read.append((start, end))
                return shard.data[start:end]

            found = pages.take(chunk, whole.schema.field(name), rows, some)
            expected = whole[name].take(pa.array(rows + group * shards.ROW_GROUP))
            assert found.to_pylist() == expected.to_pylist()
            assert sorted(read) == sorted(chunk.ranges(rows))


def test_a_row_takes_few_bytes(shard):
    pages = pages_of(shard)
    chunk = pages.chunk(0, "embedding")
    every = sum(end - start for start, end in chunk.ranges(np.arange(shards.ROW_GROUP)))
    one = sum(end - start for start, end in chunk.ranges(np.array([4000])))
    assert one < 20_000 < every / 10


def test_a_column_of_several_leaves_or_none_is_refused(shard):
    for name in ("bbox", "nothing"):
        with pytest.raises(Damaged, match=name):
            pages_of(shard).chunk(0, name)


def test_flipped_footers_are_refused_or_read_the_same(shard, whole):
    tail, rng = shard.data[-shard.footer_length :], np.random.default_rng(0)
    rows = np.array([5, 4000])
    expected = whole["embedding"].take(pa.array(rows)).to_pylist()
    refused, right, field = 0, 0, whole.schema.field("embedding")
    for _ in range(300):
        data = bytearray(tail)
        data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        try:
            pages = Pages(bytes(data), shard.length)
            chunk = pages.chunk(0, "embedding")
            found = pages.take(chunk, field, rows, lambda a, b: shard.data[a:b])
        except Damaged:
            refused += 1
            continue
        # Which rows a page has stands in the index alone: a reader knows the footer by its hash.
        assert len(found) == 2
        right += found.to_pylist() == expected
    assert refused > 20 and right > 150


def test_a_few_cells_of_a_large_shard_take_few_bytes(tmp_path):
    from archives import make_archive, make_cells

    make_archive(tmp_path, 50_000)
    names = [str(name) for name in make_cells(50_000)[[100, 30_000]]]
    archive = embarchive.open_archive(tmp_path)
    before = archive.store.bytes_read
    few = archive.select(geohash=names, columns=["geohash", "embedding", "model_id", "code"])
    assert archive.store.bytes_read - before < 300_000
    columns = few.column_names
    every = archive.select(columns=columns)
    assert few.equals(every.filter(pa.compute.is_in(every["geohash"], pa.array(names))))
    assert few.schema == every.schema and len(few) == 2


def test_rows_beyond_those_of_the_pages_are_damage(shard):
    chunk = pages_of(shard).chunk(0, "embedding")
    assert chunk.ranges(np.array([shards.ROW_GROUP - 1]))
    with pytest.raises(Damaged, match="expected 8193 rows in pages, found 8192"):
        chunk.ranges(np.array([5, shards.ROW_GROUP]))
