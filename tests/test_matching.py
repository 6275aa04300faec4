"""Rows that a filter wants, read by pages or whole columns, are those of a filter over all rows."""

from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from archives import EMB, make_archive, make_table, without_heads

import embarchive
from embarchive import footers, held, matching, reader, reads, shards, thrift
from embarchive.errors import Damaged, EmbarchiveError
from embarchive.filters import Filter, make_filter, row_mask
from embarchive.pages import Pages
from embarchive.rows import schema

COLUMNS = [*schema(64, 128).names]


@pytest.fixture(scope="module", params=[True, False], ids=["heads", "none"])
def root(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("matching")
    make_archive(root, 24_000, dates=3, nulls=True)
    if not request.param:
        without_heads(root)
    return root


@pytest.fixture(scope="module")
def table(root):
    return embarchive.open_archive(root).select(columns=COLUMNS)


def filters(table):
    names = np.unique(table["geohash"].to_pylist()).tolist()
    return {
        "one cell": Filter(geohash=(names[len(names) // 2],)),
        "cells of all places": Filter(geohash=tuple(names[::900])),
        "most cells": Filter(geohash=tuple(names[10:-10])),
        "prefix": Filter(geohash=(names[0][:5],)),
        "small box": make_filter((13.02, 52.02, 13.06, 52.05), None, None, None),
        "box of all": make_filter((12.0, 50.0, 15.0, 54.0), None, None, None),
        "dates": make_filter(None, None, None, "2023-05-05/2023-05-15"),
        "box and dates": make_filter((13.02, 52.02, 13.3, 52.4), None, None, "2023-05-20/.."),
        "no cell": Filter(geohash=("gcp0zz",)),
        "no date": make_filter(None, None, None, "1999-01-01"),
    }


@pytest.mark.parametrize("name", filters(pa.table({"geohash": [f"u3{i}" for i in range(100)]})))
@pytest.mark.parametrize("columns", [COLUMNS, ["embedding"], ["bits", "source"], ["bbox", "mse"]])
def test_rows_are_those_of_a_filter_over_all(root, table, name, columns):
    wanted, archive = filters(table)[name], embarchive.open_archive(root)
    found = archive.reader.rows(archive.plan(wanted), wanted, columns)
    right = table.filter(pa.array(row_mask(table, wanted))).select(found.column_names)
    assert found.schema.names == right.schema.names
    assert found.to_pylist() == right.to_pylist()


def test_few_rows_are_few_bytes(root, table):
    for name in ("one cell", "small box"):
        archive = embarchive.open_archive(root)
        wanted = filters(table)[name]
        plan = archive.plan(wanted)
        before = archive.store.bytes_read
        assert len(archive.reader.rows(plan, wanted, ["embedding"]))
        assert archive.store.bytes_read - before < 0.3 * plan.bytes


def test_a_column_is_read_whole_where_most_of_its_pages_are_wanted(root, table, monkeypatch):
    read, taken = [], []
    whole, take = matching.read_rows, reader.Pages.take
    monkeypatch.setattr(matching, "read_rows", lambda *a: read.append(a[3]) or whole(*a))
    monkeypatch.setattr(reader.Pages, "take", lambda *a: taken.append(a[2].name) or take(*a))
    for name, by_pages in (("one cell", True), ("most cells", False)):
        archive, wanted = embarchive.open_archive(root), filters(table)[name]
        read.clear(), taken.clear()
        archive.reader.rows(archive.plan(wanted), wanted, ["embedding"])
        assert ("embedding" in taken) is by_pages
        assert any("embedding" in columns for columns in read) is not by_pages


@pytest.mark.parametrize("asked", ["everything", "small box", "cells of all places"])
def test_hostile_footers_are_refused_or_read_and_end_no_process(table, asked):
    with patch.object(shards, "ROW_GROUP", 512):
        shard = shards.write_shard(make_table(1500, dates=2), EMB)
    wanted = {"everything": Filter(), **filters(table)}[asked]
    size = len(footers.footer_of(shard.data))
    rng, seen = np.random.default_rng(len(asked)), set()
    for _ in range(150):
        data = bytearray(shard.data)
        for at in rng.integers(len(data) - 8 - size, len(data) - 8, int(rng.integers(1, 4))):
            data[at] = int(rng.integers(256))
        try:
            seen.add(len(rows_of(bytes(data), shard.footer_length, wanted)) >= 0)
        except EmbarchiveError as error:
            assert "\n" not in str(error)
            seen.add(type(error).__name__)
    assert {True, "Damaged"} <= seen


def test_a_histogram_of_another_length_ends_no_process():
    shard = shards.write_shard(make_table(300), EMB)
    fields, _ = thrift.parse_struct(footers.footer_of(shard.data))
    for column in fields[4][1][1][0][1][1][1]:
        column[3][1][16] = (thrift.STRUCT, {2: (thrift.LIST, (thrift.I64, [1] * 5))})
    footer = thrift.dump_struct(fields)
    body = shard.data[: -shard.footer_length]
    data = body + footer + len(footer).to_bytes(4, "little") + b"PAR1"
    with pytest.raises(Damaged, match=r"^shard: expected "):
        rows_of(data, len(data) - len(body), Filter(geohash=("u",)))


def rows_of(data, footer_length, wanted):
    """Rows as a reader takes them from bytes that it has checked by their hash."""
    whole = SimpleNamespace(path="shard", rather_whole=lambda _: True, whole=lambda: data)
    file = held.ShardFile(SimpleNamespace(sha256="", length=len(data)), whole, held.Cache())
    tail = data[-footer_length:]
    footer = matching.Footer(shards.parse_footer(tail, 64, 128), Pages(tail, len(data)))
    groups = reads.row_groups(footer.groups.limits, wanted)
    return matching.matching(file, footer, groups, wanted, schema(64, 128))
