"""Rows of shards, in portions and samples."""

import numpy as np
import pyarrow as pa
import pytest
from archives import make_archive

import embarchive
from embarchive import reader
from embarchive.errors import Damaged, GenerationExpired
from embarchive.filters import Filter, make_filter
from embarchive.reads import ReadPlan
from embarchive.rows import sort_rows


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("reader")
    make_archive(root, 20_000)
    return root


@pytest.fixture
def archive(root):
    return embarchive.open_archive(root)


def test_a_tiny_cache_changes_no_row(root, archive):
    plan = archive.plan(Filter())
    names = ["geohash", "embedding"]
    small = reader.Reader(archive.store, archive.settings, cache_bytes=100_000)
    assert small.rows(plan, Filter(), names).equals(archive.reader.rows(plan, Filter(), names))


def test_batches_are_the_rows_in_portions(root, archive, monkeypatch):
    monkeypatch.setattr(reader, "MAX_ROWS", 6000)
    monkeypatch.setattr(reader, "PORTION_BYTES", 1)
    for wanted in (Filter(), make_filter(geohash="u33d"), make_filter(geohash="s")):
        plan, names = archive.plan(wanted), ["geohash", "bits"]
        tables = list(archive.reader.batches(plan, wanted, names))
        assert len(tables) == max(1, len(plan.turns(6000)))
        whole = sort_rows(pa.concat_tables(tables).unify_dictionaries())
        assert whole.to_pylist() == archive.reader.rows(plan, wanted, names).to_pylist()


def test_batches_that_nobody_takes_are_not_read(archive, monkeypatch):
    monkeypatch.setattr(reader, "MAX_ROWS", 1)
    monkeypatch.setattr(reader, "PORTION_BYTES", 1)
    small = reader.Reader(archive.store, archive.settings)
    plan = archive.plan(Filter())
    batches = small.batches(plan, Filter(), ["geohash"])
    next(batches)
    batches.close()
    assert 1 <= len(small._footers) <= 2 < len(plan.reads)


def test_a_footer_of_another_archive_is_refused(archive):
    narrow = reader.Reader(
        archive.store,
        archive.settings.__class__.from_json({**archive.settings.to_json(), "dim": 32}),
    )
    with pytest.raises(Damaged, match="expected columns"):
        narrow.rows(archive.plan(Filter()), Filter(), ["geohash"])


def test_an_object_that_is_gone_means_that_the_generation_expired(archive):
    with pytest.raises(GenerationExpired, match="open the archive again"):
        archive.reader.object("model", "0" * 64, 5)


def test_threads_keep_the_order_and_raise_the_first_error():
    assert reader.in_threads(lambda n: n * n, list(range(50))) == [n * n for n in range(50)]
    with pytest.raises(ZeroDivisionError):
        reader.in_threads(lambda n: 1 // n, [2, 1, 0])


def test_a_sample_is_bounded_over_many_small_shards(tmp_path):
    make_archive(tmp_path / "small", 1500, dates=2, shard_prefix=5)
    archive = embarchive.open_archive(tmp_path / "small")
    plan = archive.plan(Filter())
    sizes = np.array([read.shard.rows for read in plan.reads])
    assert np.sum(-(-sizes // 30)) > 50
    table, numbers = archive.reader.sample(plan, Filter(), ["embedding"], 50)
    whole = [archive.reader.rows(ReadPlan((read,)), Filter(), ["embedding"]) for read in plan.reads]
    assert len(table) == len(numbers) == 50
    assert table.to_pylist() == pa.concat_tables(whole).to_pylist()[::30]
    assert numbers.tolist() == np.repeat(np.arange(len(sizes)), sizes)[::30].tolist()
    none, numbers = archive.reader.sample(ReadPlan(()), Filter(), ["embedding"], 50)
    assert len(none) == len(numbers) == 0
