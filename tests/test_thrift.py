"""Thrift compact structs: what was read comes out as it went in, and bad bytes are refused."""

import numpy as np
import pytest
from archives import EMB, make_table

from embarchive import shards, thrift
from embarchive.errors import Damaged


@pytest.fixture(scope="module")
def footer() -> bytes:
    data = shards.write_shard(make_table(300), EMB).data
    size = int.from_bytes(data[-8:-4], "little")
    return data[-8 - size : -8]


def test_a_footer_comes_out_as_it_went_in(footer):
    fields, end = thrift.parse_struct(footer)
    assert end == len(footer)
    assert fields[3] == (thrift.I64, 300)
    assert thrift.dump_struct(fields) == footer


def test_numbers_of_any_size_and_long_lists():
    numbers = [0, 1, -1, 127, -128, 2**31, -(2**63), 2**63 - 1]
    fields = {
        1: (thrift.TRUE, True),
        7: (thrift.LIST, (thrift.I64, numbers * 3)),
        300: (thrift.STRUCT, {2: (thrift.BINARY, b"text"), 3: (thrift.FALSE, False)}),
    }
    assert thrift.parse_struct(thrift.dump_struct(fields)) == (
        fields,
        len(thrift.dump_struct(fields)),
    )


def test_what_is_found_is_what_parsing_gives(footer):
    fields, _ = thrift.parse_struct(footer)
    assert thrift.parse_number(footer, thrift.find_field(footer, 0, 3)) == 300
    for number in (2, 4):
        start = thrift.find_field(footer, 0, number)
        items = fields[number][1][1]
        assert thrift.parse_list(footer, start) == items
        found = thrift.find_items(footer, start)
        assert [thrift.parse_struct(footer, at)[0] for at in found] == items
        assert thrift.find_items(footer, start, 2) == found[:2]
    assert set(thrift.find_fields(footer, 0, (4, 77, 3))) == {3, 4}
    with pytest.raises(Damaged, match="field 77"):
        thrift.find_field(footer, 0, 77)


def some_struct(rng, depth):
    """Fields of any type, small and large."""
    fields, number = {}, 0
    for _ in range(int(rng.integers(5))):
        number += int(rng.choice([1, 2, 15, 16, 300]))
        number = min(number, 32_000)
        fields[number] = some_value(rng, depth)
    return fields


def some_value(rng, depth):
    kind = int(rng.choice([1, 2, 3, 4, 5, 6, 7, 8, *([9, 12] if depth else [])]))
    size = int(rng.choice([0, 1, 3, 14, 15, 40]))
    if kind == thrift.LIST:
        inner, first = some_value(rng, depth - 1)
        while inner in (thrift.TRUE, thrift.FALSE):
            inner, first = some_value(rng, depth - 1)
        return kind, (inner, [first] * size)
    values = {
        thrift.TRUE: True, thrift.FALSE: False, thrift.BYTE: 7,
        thrift.DOUBLE: bytes(range(8)), thrift.BINARY: bytes(rng.bytes(size + 2)),
        thrift.STRUCT: some_struct(rng, depth - 1) if depth else {},
    }  # fmt: skip
    return kind, values.get(kind, int(rng.integers(-(2**63), 2**63 - 1)) >> int(rng.integers(63)))


def test_what_is_skipped_is_what_is_parsed():
    rng = np.random.default_rng(0)
    for _ in range(400):
        fields = {1: (thrift.STRUCT, some_struct(rng, 3)), 2: (thrift.BINARY, b"after")}
        data = thrift.dump_struct(fields)
        at = thrift.find_field(data, 0, 2)
        assert data[at:] == b"\5after\0"
        assert thrift.parse_struct(data)[0] == fields


@pytest.mark.parametrize("cut", [1, 10, 100, -1])
def test_what_is_cut_off_is_refused(footer, cut):
    with pytest.raises(Damaged, match="readable metadata"):
        thrift.parse_struct(footer[:cut])
    with pytest.raises(Damaged):
        thrift.find_items(footer[:cut], thrift.find_field(footer[:cut], 0, 4))
        thrift.find_field(footer[:cut], 0, 77)


@pytest.mark.parametrize(
    "data",
    [
        bytes([0x1C]) * 200,  # structs in structs
        bytes([0x19]) * 5000,  # lists in lists
        bytes([0x19, 0xF6, 0xFF, 0xFF, 0xFF, 0x7F]),  # a list of 2^28 numbers
        bytes([0x16]) + b"\xff" * 12,  # a number without end
        bytes([0x18, 0x7F, 1]),  # a text beyond the end
        bytes([0x1B, 0]),  # a map: Parquet has none
    ],
)
def test_hostile_bytes_are_refused(data):
    with pytest.raises(Damaged):
        thrift.parse_struct(data)
    with pytest.raises(Damaged):
        thrift.find_field(data, 0, 300)
