"""Limits of row groups are those of their rows, and hostile statistics are refused in one line."""

import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import EMB, make_table

from embarchive import footers, reads, shards, thrift
from embarchive.errors import Damaged
from embarchive.filters import make_filter, to_micros
from embarchive.matching import Footer
from embarchive.pages import MAGIC, Pages


@pytest.fixture(scope="module")
def shard():
    return shards.write_shard(make_table(9000, dates=2), EMB)


def groups_of(shard, footer):
    metadata = pq.read_metadata(pa.BufferReader(shard.data))
    return footers.Groups(footer, footers.group_places(footer), metadata, footers.SHARD)


def limits_of(shard, footer):
    return groups_of(shard, footer).limits


def changed(shard, leaf, statistics):
    """The footer with other statistics of a leaf of the second row group: fields by number, those
    that are None taken away."""
    fields, _ = thrift.parse_struct(footers.footer_of(shard.data))
    meta = fields[4][1][1][1][1][1][1][leaf][3][1]
    held = meta[12][1]
    for number, value in statistics.items():
        held.pop(number, None)
        if value is not None:
            held[number] = (thrift.BINARY, value)
    return thrift.dump_struct(fields)


def test_limits_are_those_of_the_rows(shard):
    found = limits_of(shard, footers.footer_of(shard.data))
    file = pq.ParquetFile(pa.BufferReader(shard.data))
    assert len(found) == file.num_row_groups == 2
    for group, limits in enumerate(found):
        rows = file.read_row_group(group, columns=["geohash", "datetime", "bbox"])
        held = {name: rows[name].to_pylist() for name in ("geohash", "datetime")}
        held["datetime"] = [to_micros(one) for one in held["datetime"]]
        for side in ("xmin", "ymin", "xmax", "ymax"):
            held[f"bbox.{side}"] = [box[side] for box in rows["bbox"].to_pylist()]
        assert limits == {path: (min(values), max(values)) for path, values in held.items()}


def test_a_column_without_statistics_has_no_limits(shard):
    footer = changed(shard, 1, {1: None, 2: None, 5: None, 6: None})
    first, second = limits_of(shard, footer)
    assert "datetime" in first and set(first) - set(second) == {"datetime"}


def test_older_statistics_are_read_where_newer_are_not(shard):
    low, high = (struct.pack("<q", one) for one in (5, 6))
    older = {1: high, 2: low, 5: None, 6: None}
    assert limits_of(shard, changed(shard, 1, older))[1]["datetime"] == (5, 6)
    newer = {1: b"x", 2: b"y", 5: high, 6: low}
    assert limits_of(shard, changed(shard, 1, newer))[1]["datetime"] == (5, 6)


@pytest.mark.parametrize(
    ("leaf", "low", "high", "said"),
    [
        (1, b"\0", b"\0", "a time"),
        (1, b"", b"", "a time"),
        (1, bytes(9), bytes(9), "a time"),
        (1, struct.pack("<q", 6), struct.pack("<q", 5), "a time"),
        (0, b"\xff\xfe", b"\xff\xff", "a geohash"),
        (0, b"u33", b"", "a geohash"),
        (0, b"u33\n", b"u33\n", "a geohash"),
        (0, b"u" * 13, b"u" * 13, "a geohash"),
        (2, bytes(3), bytes(4), "a float"),
        (5, struct.pack("<f", float("nan")), bytes(4), "a float"),
    ],
)
def test_hostile_statistics_are_damaged_in_one_line(shard, leaf, low, high, said):
    with pytest.raises(Damaged, match=f"^shard: expected {said} .*, found .*$") as error:
        limits_of(shard, changed(shard, leaf, {6: low, 5: high}))
    assert "\n" not in str(error.value)


def test_times_beyond_any_calendar_are_compared_as_numbers(shard):
    far = struct.pack("<q", 1 << 62)
    footer = changed(shard, 1, {6: far, 5: far})
    tail = footer + len(footer).to_bytes(4, "little") + MAGIC
    metadata = pq.read_metadata(pa.BufferReader(tail))
    found = Footer(metadata, Pages(tail, len(tail))).groups.limits
    assert found[1]["datetime"] == (1 << 62, 1 << 62)
    assert reads.row_groups(found, make_filter(when="2023-05-01/..")) == [0, 1]
    assert reads.row_groups(found, make_filter(when="../2023-06-01")) == [0]


def test_columns_in_another_order_or_of_another_form_are_damaged(shard):
    fields, _ = thrift.parse_struct(footers.footer_of(shard.data))
    columns = fields[4][1][1][0][1][1][1]
    for wrong in (columns[::-1], columns[:5], []):
        fields[4][1][1][0][1] = (thrift.LIST, (thrift.STRUCT, wrong))
        with pytest.raises(Damaged, match=r"^shard: expected .*column"):
            limits_of(shard, thrift.dump_struct(fields))
    columns[0][3][1][12] = (thrift.STRUCT, {5: (thrift.I64, 1), 6: (thrift.I64, 1)})
    fields[4][1][1][0][1] = (thrift.LIST, (thrift.STRUCT, columns))
    with pytest.raises(Damaged, match="a geohash"):
        limits_of(shard, thrift.dump_struct(fields))


def test_a_footer_that_is_cut_off_is_damaged(shard):
    footer = footers.footer_of(shard.data)
    for cut in range(0, footers.group_places(footer)[1] + 9, 101):
        with pytest.raises(Damaged):
            limits_of(shard, footer[:cut])
    with pytest.raises(Damaged, match="expected a footer of"):
        footers.footer_of(shard.data[-100:])


def test_ranges_are_those_that_arrow_finds(shard):
    metadata = pq.read_metadata(pa.BufferReader(shard.data))
    groups = groups_of(shard, footers.footer_of(shard.data))
    names = metadata.schema.to_arrow_schema().names
    for some in (names, ["bbox"], ["geohash", "bits"], []):
        for which in ([0, 1], [1], []):
            expected = shards.column_ranges(metadata, which, some)
            assert groups.ranges(which, some) == expected


@pytest.mark.parametrize(
    ("number", "value"), [(9, 1), (9, -5), (7, 0), (7, 1 << 40), (11, 0), (9, None), (7, None)]
)
def test_a_column_outside_of_the_file_is_damaged(shard, number, value):
    fields, _ = thrift.parse_struct(footers.footer_of(shard.data))
    meta = fields[4][1][1][1][1][1][1][0][3][1]
    meta.pop(number, None)
    if value is not None:
        meta[number] = (thrift.I64, value)
    groups = groups_of(shard, thrift.dump_struct(fields))
    assert groups.ranges([0], ["geohash"])
    with pytest.raises(Damaged, match=r"^shard: expected a column inside the file, found bytes "):
        groups.ranges([1], ["geohash"])


def test_more_row_groups_than_arrow_finds_are_damaged(shard):
    footer = footers.footer_of(shard.data)
    metadata = pq.read_metadata(pa.BufferReader(shard.data))
    with pytest.raises(Damaged, match="expected 2 row groups, found 1"):
        footers.Groups(footer, footers.group_places(footer)[:1], metadata, footers.SHARD)
