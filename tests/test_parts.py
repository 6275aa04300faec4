import io
from dataclasses import replace

import duckdb
import fakes
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from embarchive import parts
from embarchive.errors import BadInput, Damaged, UnknownVersion

ROWS = [fakes.shard_row("u33", bytes([i]) * 50_000, rows=i + 1) for i in range(5)]


def a_part():
    table = parts.part_table(ROWS)
    data = parts.dump_part(table)
    return parts.part_ref(table, fakes.sha(data), len(data)), data


def restamped(data, stamp):
    table = pq.read_table(io.BytesIO(data))
    sink = io.BytesIO()
    with pq.ParquetWriter(sink, table.schema, store_schema=False) as writer:
        writer.add_key_value_metadata({"embarchive": stamp})
        writer.write_table(table)
    return sink.getvalue()


def test_a_part_round_trips_and_equal_rows_are_equal_bytes():
    ref, data = a_part()
    table = parts.parse_part(data, ref)
    assert table.equals(parts.part_table(ROWS))
    assert parts.dump_part(parts.part_table(ROWS[::-1])) == data
    assert (ref.rows, ref.shards, ref.shard_bytes) == (15, 5, 250_000)


def test_plain_duckdb_reads_a_part():
    _, data = a_part()
    table = pq.read_table(io.BytesIO(data))
    query = "SELECT prefix, sha256, rows, bbox.xmin, model_ids[1] FROM t ORDER BY rows LIMIT 1"
    with duckdb.connect() as con:
        con.register("t", table)
        found = con.execute(query).fetchall()
    assert found == [("u33", ROWS[0].sha256, 1, 13.0, fakes.sha("model"))]


def test_a_shard_without_dates_is_held():
    row = replace(ROWS[0], datetime_min=None, datetime_max=None)
    table = parts.part_table([row])
    ref = parts.part_ref(table, "a" * 64, 1)
    assert ref.datetime_min is None and parts.parse_part(parts.dump_part(table)).equals(table)


@pytest.mark.parametrize(
    "wrong",
    [
        {"sha256": "../x"}, {"sha256": "A" * 64}, {"blocks": ""}, {"prefix": "../u"},
        {"geohash_min": "u33a"}, {"length": -5}, {"length": 1 << 60}, {"rows": 0},
        {"footer_length": 60_000}, {"bbox": (0.0, 0.0, 999.0, 1.0)}, {"geohash_max": "v33"},
        {"bbox": (float("nan"), 0.0, 1.0, 1.0)}, {"sha256": "a" * 64 + "\n"},
    ],
)  # fmt: skip
def test_a_hostile_row_is_neither_read_nor_written(wrong):
    table = parts.part_table([*ROWS, replace(ROWS[0], **wrong)])
    with pytest.raises(Damaged, match="part"):
        parts.parse_part(parts.dump_table(table, "part"))
    with pytest.raises(BadInput, match="part"):
        parts.dump_part(table)


@pytest.mark.parametrize("micros", [1 << 62, -(1 << 62), parts.YEARS[0] - 1, parts.YEARS[1] + 1])
@pytest.mark.parametrize("column", ["datetime_min", "datetime_max"])
def test_a_time_in_no_year_that_python_has_is_neither_read_nor_written(column, micros):
    table = parts.part_table(ROWS)
    at, kind = table.schema.get_field_index(column), table.schema.field(column)

    def with_time(last):
        times = pa.array([0] * (len(table) - 1) + [last], pa.int64()).cast(kind.type)
        return table.set_column(at, kind, times)

    with pytest.raises(Damaged, match=f"^part: expected {column} in .*, found .*$"):
        parts.parse_part(parts.dump_table(with_time(micros), "part"))
    with pytest.raises(BadInput, match=column):
        parts.dump_part(with_time(micros))
    within = with_time(min(max(micros, parts.YEARS[0]), parts.YEARS[1]))
    assert parts.part_ref(parts.parse_part(parts.dump_part(within)), "a" * 64, 1).rows == 15


def test_a_part_that_its_reference_does_not_describe_is_damaged():
    ref, data = a_part()
    with pytest.raises(Damaged, match="totals of its reference"):
        parts.parse_part(data, replace(ref, rows=99))


def test_another_version_or_kind_of_table_is_refused():
    _, data = a_part()
    stamp = '{"format": "embarchive", "kind": "part", "version": 9}'
    with pytest.raises(UnknownVersion, match="expected version 1, found 9"):
        parts.parse_part(restamped(data, stamp))
    with pytest.raises(Damaged, match="expected embarchive models, found"):
        parts.parse_models(data)
    with pytest.raises(Damaged, match="another Parquet file"):
        parts.parse_part(restamped(data, "[1]"))


def test_bytes_that_are_no_table_are_damaged():
    _, data = a_part()
    for wrong in (b"", b"PAR1", data[:-20], data[:200] + data[300:]):
        with pytest.raises(Damaged):
            parts.parse_part(wrong)


def test_models_round_trip_with_absent_values_null():
    row = {"model_id": fakes.sha("m"), "length": 9, "kind": "adapter", "region": "u33",
           "space_id": "s1", "backbone": fakes.sha("b"), "backbone_length": 5,
           "mse": 0.25}  # fmt: skip
    table = parts.models_table([row])
    assert parts.parse_models(parts.dump_models(table)).equals(table)
    assert table["mse"].to_pylist() == [0.25] and table["card_sha256"].null_count == 1


def test_versions_of_a_region_stay_in_the_order_given():
    same = {"length": 9, "kind": "adapter", "space_id": "s1"}
    ids = [fakes.sha(name) for name in "zamb"]
    listed = [{**same, "model_id": name, "region": region}
              for name, region in zip(ids, ["u3", "u2", "u3", "u3"], strict=True)]  # fmt: skip
    table = parts.parse_models(parts.dump_models(parts.models_table(listed)))
    assert table["model_id"].to_pylist() == [ids[1], ids[0], ids[2], ids[3]]


@pytest.mark.parametrize("wrong", [{"colour": 1}, {"length": "x"}, {"kind": None}])
def test_a_model_row_that_cannot_be_is_refused(wrong):
    row = {"model_id": fakes.sha("m"), "length": 9, "kind": "full", "space_id": "s1"}
    with pytest.raises(BadInput, match="model row"):
        parts.models_table([{**row, **wrong}])


def test_a_model_of_unknown_kind_is_damaged():
    row = {"model_id": fakes.sha("m"), "length": 9, "kind": "pickle", "space_id": "s1"}
    with pytest.raises(Damaged, match="kind"):
        parts.parse_models(parts.dump_table(parts.models_table([row]), "models"))
    with pytest.raises(BadInput, match="kind"):
        parts.dump_models(parts.models_table([row]))
