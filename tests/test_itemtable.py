"""STAC Items as a stac-geoparquet table, and back."""

import io
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import make_archive

from embarchive import itemtable
from embarchive.archive import open_archive
from embarchive.collection import items
from embarchive.errors import BadInput


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("table") / "archive"
    make_archive(root, 300, dates=2)
    archive = open_archive(root)
    return [item for _, item in items(archive.head.generation, archive.shards(), None)]


def parquet(rows, **columns):
    table = pa.Table.from_pylist(rows)
    for name, column in columns.items():
        table = table.append_column(name, column)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def test_items_come_back_as_they_went_in(made):
    back = itemtable.parse(itemtable.dump(made), "items.parquet")
    assert len(back) == len(made) > 1
    for one, item in zip(back, made, strict=True):
        known = {k: v for k, v in item.items() if k not in ("geometry", "bbox")}
        properties = {k: v for k, v in item["properties"].items() if v is not None}
        assert one == {**known, "properties": properties}


def test_equal_items_give_equal_bytes(made):
    assert itemtable.dump(made) == itemtable.dump(list(made))


def test_times_are_timestamps_and_the_file_is_geoparquet(made, tmp_path):
    data = itemtable.dump(made)
    table = pq.read_table(pa.BufferReader(data))
    for name in itemtable.TIMES:
        assert table.schema.field(name).type == pa.timestamp("us", tz="UTC")
    assert b"stac-geoparquet" in table.schema.metadata
    (tmp_path / "items.parquet").write_bytes(data)
    tool = Path(sys.executable).with_name("geoparquet-validator")
    if not tool.exists():
        pytest.skip("geoparquet-validator is not installed")
    done = subprocess.run(
        [tool, "check", tmp_path / "items.parquet"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_assets_that_an_item_does_not_have_are_left_out():
    asset = {"href": "https://x.org/a.tif", "type": "image/tiff", "roles": ["data"]}
    other = {**asset, "raster:bands": [{"scale": 1e-4, "nodata": None}]}
    data = parquet(
        [
            {"id": "a", "assets": {"B02": asset, "B03": None}, "s2:processing_baseline": "05.09"},
            {"id": "b", "assets": {"B02": None, "B03": other}, "s2:processing_baseline": None},
        ],
        datetime=pa.array([datetime(2023, 5, 1, tzinfo=UTC), None], pa.timestamp("ms", tz="UTC")),
    )
    first, second = itemtable.parse(data, "x")
    assert first["assets"] == {"B02": asset}
    assert first["properties"] == {
        "datetime": "2023-05-01T00:00:00Z",
        "s2:processing_baseline": "05.09",
    }
    assert second["assets"]["B03"]["raster:bands"] == [{"scale": 1e-4}]
    assert second["properties"] == {}


def test_a_time_without_a_zone_is_utc():
    when = pa.array([datetime(2023, 5, 1, 12)], pa.timestamp("us"))
    (one,) = itemtable.parse(parquet([{"id": "a", "assets": {"x": "y"}}], datetime=when), "x")
    assert one["properties"]["datetime"] == "2023-05-01T12:00:00Z"


def test_nanoseconds_are_cut_and_years_that_are_none_refused():
    for kind, count in (("ns", 1_682_942_400_000_000_123), ("ms", 1 << 60)):
        when = pa.array([count], pa.int64()).cast(pa.timestamp(kind, tz="UTC"))
        data = parquet([{"id": "a", "assets": {"x": "y"}}], datetime=when)
        if kind == "ns":
            (one,) = itemtable.parse(data, "x")
            assert one["properties"]["datetime"] == "2023-05-01T12:00:00Z"
        else:
            with pytest.raises(BadInput, match="x: expected readable columns"):
                itemtable.parse(data, "x")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"PAR1" + b"\0" * 40, "expected stac-geoparquet, found"),
        (parquet([{"id": "a"}]), "columns id and assets"),
        (parquet([{"id": "a", "assets": "text"}]), "columns id and assets"),
    ],
)
def test_what_is_no_stac_geoparquet_is_refused(data, message):
    with pytest.raises(BadInput, match=message) as error:
        itemtable.parse(data, "list.parquet")
    assert str(error.value).startswith("list.parquet: ")


def test_more_items_than_are_read_are_refused(monkeypatch):
    monkeypatch.setattr(itemtable, "MAX_ITEMS", 2)
    rows = [{"id": str(i), "assets": {"x": "y"}} for i in range(3)]
    with pytest.raises(BadInput, match="at most 2 Items, found 3"):
        itemtable.parse(parquet(rows), "x")


def test_what_unpacks_to_too_much_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(itemtable, "MAX_UNPACKED", 50)
    with pytest.raises(BadInput, match="at most 50 bytes unpacked"):
        itemtable.parse(parquet([{"id": "a" * 100, "assets": {"x": "y"}}]), "x")
