"""The table of the pyramid: the same cells give the same bytes, and no other table is taken."""

import io
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import make_table

from embarchive import digests, footers, pyramid, thrift
from embarchive.cellmeans import cells_of_rows, coarser
from embarchive.errors import Damaged, UnknownVersion
from embarchive.pyramid import affordable, cells_of, check_ref, counts, dump, levels, parse

TABLE = make_table(3000, dates=2, nulls=True)
CELLS = cells_of_rows(TABLE, 5)
MADE = dump({"b": CELLS, "a": CELLS}, 64)


def test_equal_cells_give_equal_bytes_and_come_back():
    again = dump({"a": CELLS, "b": CELLS}, 64)
    assert again.data == MADE.data and again.ref == MADE.ref
    assert MADE.ref.sha256 == digests.sha256(MADE.data)
    assert MADE.outboard == digests.block_digests(MADE.data)
    table = parse(MADE.data, MADE.ref)
    assert len(table) == MADE.ref.rows == 2 * sum(map(len, levels(CELLS)))
    for space_id in "ab":
        for level in range(1, 6):
            own = table.filter(
                pa.compute.and_(
                    pa.compute.equal(table["space_id"], space_id),
                    pa.compute.equal(table["level"], level),
                )
            )
            found, want = cells_of(own), coarser(CELLS, level) if level < 5 else CELLS
            for name in ("codes", "count", "mean", "model", "first", "last"):
                assert np.array_equal(getattr(found, name), getattr(want, name)), name
    assert counts(table) == {(s, level): 3000 for s in "ab" for level in range(1, 6)}


def test_row_groups_hold_one_level_of_one_space(monkeypatch):
    monkeypatch.setattr(pyramid, "GROUP_ROWS", 16)
    made = dump({"a": CELLS, "b": CELLS}, 64)
    metadata = pq.read_metadata(io.BytesIO(made.data))
    limits = pyramid.row_groups(made.data, metadata, made.ref).limits
    per_level = [pyramid.groups_of(limits, "a", level) for level in range(1, 6)]
    assert [len(one) for one in per_level] == [
        -(-len(coarser(CELLS, level)) // 16) if level < 5 else -(-len(CELLS) // 16)
        for level in range(1, 6)
    ]
    assert len(pyramid.groups_of(limits, None, None)) == metadata.num_row_groups
    assert len(pyramid.groups_of(limits, "c", 3)) == 0


@pytest.mark.parametrize(("leaf", "value"), [(0, b"\xff"), (1, b"\1"), (1, b""), (2, b"ail")])
def test_hostile_statistics_are_damaged(leaf, value):
    made = dump({"a": CELLS}, 64)
    metadata = pq.read_metadata(io.BytesIO(made.data))
    fields, _ = thrift.parse_struct(footers.footer_of(made.data))
    held = fields[4][1][1][0][1][1][1][leaf][3][1][12][1]
    held[5] = held[6] = (thrift.BINARY, value)
    footer = thrift.dump_struct(fields)
    with pytest.raises(Damaged, match=r"^pyramid \w+: expected .*, found .*$"):
        tail = footer + len(footer).to_bytes(4, "little") + b"PAR1"
        _ = pyramid.row_groups(tail, metadata, made.ref).limits


def test_what_is_affordable_stays_below_what_a_reader_takes():
    for dim in (1, 64, 1024, 4096):
        assert affordable(dim) * (2 * dim + 48) <= pyramid.MAX_FILE
        assert affordable(dim) > 10_000


def rewritten(change, stamp=None, groups=1024):
    """The table with its rows changed, written as a hostile writer may, and its reference."""
    table = change(pq.read_table(io.BytesIO(MADE.data)))
    sink = io.BytesIO()
    said = {"format": "embarchive", "kind": "pyramid", "version": 1} if stamp is None else stamp
    with pq.ParquetWriter(sink, table.schema, compression="zstd") as writer:
        writer.add_key_value_metadata({"embarchive": json.dumps(said)})
        writer.write_table(table, row_group_size=groups)
    data = sink.getvalue()
    footer = pq.read_metadata(io.BytesIO(data)).serialized_size + 8
    return data, replace(MADE.ref, length=len(data), footer_length=footer, rows=len(table))


def put(name, row, value):
    def change(table):
        values = table[name].to_pylist()
        values[row] = value
        field = table.schema.field(name)
        return table.set_column(
            table.schema.get_field_index(name), field, pa.array(values, field.type)
        )

    return change


def test_the_rewritten_table_itself_is_taken():
    assert len(parse(*rewritten(lambda table: table))) == MADE.ref.rows


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put("geohash", 3, "ua"), "geohash"),
        (put("geohash", 3, "u3\n"), "geohash"),
        (put("geohash", 9, "u"), "levels that are the length"),
        (put("level", 3, 7), "levels"),
        (put("count", 3, 0), "counts above 0"),
        (put("count", 3, -5), "counts above 0"),
        (put("count", 3, 1 << 41), "counts of rows"),
        (put("model_id", 3, "../x"), "model_id"),
        (lambda table: table.take(pa.array([1, 0, *range(2, len(table))])), "in order"),
        (lambda table: table.take(pa.array([0, *range(len(table))])), "each cell once"),
        (lambda table: table.drop_columns("mean"), "Parquet table"),
        (lambda table: table.append_column("more", table["count"]), "columns"),
        (lambda table: table.set_column(4, "count", table["count"].cast(pa.int32())), "columns"),
    ],
)  # fmt: skip
def test_a_hostile_table_is_refused_in_one_line(change, said):
    with pytest.raises(Damaged, match=said) as error:
        parse(*rewritten(change))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_other_files_versions_and_sizes_are_refused():
    data, ref = rewritten(lambda table: table, stamp={"kind": "part", "version": 1})
    with pytest.raises(Damaged, match="another Parquet file"):
        parse(data, ref)
    data, ref = rewritten(lambda table: table, stamp={"kind": "pyramid", "version": 2})
    with pytest.raises(UnknownVersion, match="version 1, found 2"):
        parse(data, ref)
    with pytest.raises(Damaged, match="row groups"):
        parse(*rewritten(lambda table: pa.concat_tables([table] * 9), groups=2048))
    with pytest.raises(Damaged, match="rows"):
        parse(MADE.data, replace(MADE.ref, rows=MADE.ref.rows + 1))
    with pytest.raises(Damaged, match="Parquet"):
        parse(b"x" * MADE.ref.length, MADE.ref)
    for wrong in ({"footer_length": MADE.ref.length + 1}, {"footer_length": 3}, {"level": 12}):
        with pytest.raises(Damaged, match=r"footer|level"):
            check_ref(replace(MADE.ref, **wrong))
    with pytest.raises(Damaged, match="levels of 1 to 4"):
        parse(MADE.data, replace(MADE.ref, level=4))


def test_any_flipped_byte_is_refused_or_harmless():
    """Without hashes even: nothing but our own errors comes of it."""
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(MADE.data), 150).tolist():
        data = bytearray(MADE.data)
        data[at] ^= 1 << int(rng.integers(8))
        try:
            parse(bytes(data), MADE.ref)
        except (Damaged, UnknownVersion) as error:
            assert re.match(r"pyramid [0-9a-f]{12}: expected ", str(error))
