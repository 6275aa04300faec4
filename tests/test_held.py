"""Verified files and the cache behind them."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from archives import make_archive, without_heads
from hypothesis import given, settings
from hypothesis import strategies as st

import embarchive
from embarchive import digests, held, manifest
from embarchive.errors import Damaged
from embarchive.filters import Filter, make_filter
from embarchive.heads import MAX_HEAD
from embarchive.held import Cache
from embarchive.shards import column_ranges


@pytest.fixture(scope="module", params=[True, False], ids=["heads", "none"])
def root(request, tmp_path_factory):
    """An archive whose blocks have heads, and one as they were before there were any."""
    root = tmp_path_factory.mktemp("held")
    make_archive(root, 20_000)
    if not request.param:
        without_heads(root)
    return root


@pytest.fixture
def archive(root):
    return embarchive.open_archive(root)


def largest(archive):
    return max(archive.shards(), key=lambda shard: shard.length)


def bytes_of(root, shard):
    return (root / f"embeddings/gh={shard.prefix}/{shard.sha256}.parquet").read_bytes()


@pytest.mark.parametrize("whole", [True, False])
def test_a_range_beyond_the_end_is_damage_that_names_shard_and_end(archive, whole):
    shard = largest(archive)
    file = archive.reader.file(shard)
    if whole:
        file.fetch_whole()
    end = shard.length
    for wrong in ((end - 5, end + 1), (end + 9, end + 10), (1 << 40, 1 << 41), (-1, 4), (9, 8)):
        said = f"{shard.sha256}.* at {end}, found {wrong[0]} to {wrong[1]}$"
        with pytest.raises(Damaged, match=said):
            file.range(*wrong)
        with pytest.raises(Damaged, match=said):
            file.fetch([(4, 9), wrong])
    assert len(file.range(0, end)) == end


def test_the_cache_forgets_what_was_not_used_for_longest():
    cache = Cache(limit=30)
    for number in range(3):
        cache.put(("a", number), bytes(10))
    cache.get(("a", 0))
    cache.put(("a", 3), bytes(10))
    assert [cache.get(("a", n)) is not None for n in range(4)] == [True, False, True, True]
    cache.put(("a", 3), bytes(31))
    assert cache.get(("a", 3)) == bytes(10)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2_000_000), st.integers(0, 90_000)), max_size=5))
def test_a_file_reads_the_bytes_of_the_shard(root, spans):
    archive = embarchive.open_archive(root)
    shard = largest(archive)
    data, file = bytes_of(root, shard), archive.reader.file(shard)
    for start, size in spans:
        assert file.seek(start) == start
        assert file.read(size) == data[start : start + size]
    assert file.seek(-4, 2) == len(data) - 4 and file.read() == b"PAR1"


def test_what_was_read_once_is_not_asked_for_again(archive):
    file = archive.reader.file(largest(archive))
    file.fetch([(0, 100), (200_000, 300_000)])
    before = archive.store.requests
    file.fetch([(10, 90), (210_000, 290_000)])
    assert file.range(250_000, 250_100) and archive.store.requests == before


def test_more_than_half_of_a_shard_is_fetched_whole_in_one_request(archive):
    shard = largest(archive)
    before = archive.store.requests
    archive.reader.file(shard).fetch([(0, shard.length * 2 // 3)])
    assert archive.store.requests == before + 1
    assert archive.reader.file(shard).range(shard.length - 4, shard.length) == b"PAR1"
    assert archive.store.requests == before + 1


def test_runs_cover_the_numbers_and_nothing_else():
    numbers = sorted(set(np.random.default_rng(0).integers(0, 60, 40).tolist()))
    runs = held._runs(numbers)
    assert [n for a, b in runs for n in range(a, b)] == numbers
    assert all(second[0] > first[1] for first, second in pairwise(runs))


def test_the_head_and_the_footer_are_one_request(root, archive):
    shard, heads = largest(archive), "held0" in str(root)
    data, before = bytes_of(root, shard), archive.store.requests
    file = archive.reader.file(shard)
    tail = shard.length - shard.footer_length
    assert file.range(tail, shard.length) == data[tail:]
    metadata = archive.reader._footer(shard, file).metadata
    ranges = column_ranges(metadata, range(metadata.num_row_groups), ["geohash", "datetime"])
    file.fetch(ranges)
    assert all(file.range(start, end) == data[start:end] for start, end in ranges)
    assert archive.store.requests - before == (1 if heads else 4)


def test_a_few_rows_of_a_shard_are_the_head_and_their_pages(root, archive):
    shard, heads = largest(archive), "held0" in str(root)
    names = archive.select(geohash=shard.geohash_min[:3], columns=["geohash"])["geohash"]
    archive = embarchive.open_archive(root)
    plan = archive.plan(make_filter(geohash=names[700].as_py()))
    plan = type(plan)(tuple(read for read in plan.reads if read.shard == shard))
    before = archive.store.requests
    wanted, columns = make_filter(geohash=names[700].as_py()), ["embedding", "model_id", "source"]
    found = archive.reader.rows(plan, wanted, columns)
    assert len(found) == 1
    assert archive.store.requests - before == (2 if heads else 5)


def test_no_head_is_fetched_of_a_shard_read_whole(archive):
    plan = archive.plan(Filter())
    reads = tuple(type(read)(read.shard, whole=True) for read in plan.reads)
    before = archive.store.requests
    archive.reader.rows(type(plan)(reads), Filter(), ["bits"])
    assert archive.store.requests - before == len(reads)


def with_blocks(archive, shard, outboard):
    """The shard as a file, its digests and head in another object."""
    sha = digests.sha256(outboard)
    archive.store.put_new(manifest.object_path("blocks", sha), outboard)
    return archive.reader.file(replace(shard, blocks=sha))


@pytest.mark.parametrize("tail", [bytes(4), b"\1\0\0\0" + bytes(16), b"\xff" * 40, b"\1"])
def test_a_head_that_is_none_is_damage_in_one_line(archive, tail):
    shard = largest(archive)
    outboard = digests.block_digests(archive.reader.file(shard).fetch_whole()) + tail
    archive = embarchive.open_archive(archive.root)
    file = with_blocks(archive, shard, outboard)
    for read in (lambda: file.range(4, 5), lambda: file.fetch([(4, 5)])):
        with pytest.raises(Damaged, match=r"^embeddings/\S+: expected a head.*, found .*$"):
            read()


def test_a_head_beyond_all_measure_is_not_fetched(archive):
    shard = largest(archive)
    outboard = digests.block_digests(archive.reader.file(shard).fetch_whole())
    archive = embarchive.open_archive(archive.root)
    file = with_blocks(archive, shard, outboard + bytes(MAX_HEAD + 1))
    with pytest.raises(Damaged, match=rf"expected at most {len(outboard) + MAX_HEAD} bytes, found"):
        file.range(4, 5)
    assert archive.store.bytes_read < 2 * shard.length
