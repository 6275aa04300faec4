"""Tables and pictures in a user's files."""

import csv
import json
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from archives import make_table

from embarchive import grid, save
from embarchive.errors import BadInput


@pytest.fixture
def hits():
    table = make_table(6, dates=2).select(["geohash", "datetime", "bbox", "valid_fraction", "mse"])
    return table.append_column("score", pa.array([0.5, 1.0, 2.0, 3.0, float("nan"), 5.0]))


def test_geojson_has_the_cells_as_polygons(hits, tmp_path):
    save.write_table(hits, tmp_path / "h.geojson")
    features = json.loads((tmp_path / "h.geojson").read_text())["features"]
    west, south, east, north = grid.bounds(np.array(hits["geohash"].to_pylist()))[0]
    assert features[0]["geometry"]["coordinates"][0][0] == [west, south]
    assert features[0]["geometry"]["coordinates"][0][2] == [east, north]
    assert features[4]["properties"]["score"] is None


def test_csv_has_one_line_a_row_and_the_box_in_four_columns(hits, tmp_path):
    save.write_table(hits, tmp_path / "h.csv")
    with (tmp_path / "h.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["geohash"] for row in rows] == hits["geohash"].to_pylist()
    assert float(rows[0]["xmin"]) < float(rows[0]["xmax"])


def test_parquet_is_geoparquet_and_reads_back(hits, tmp_path):
    save.write_table(hits, tmp_path / "h.parquet")
    table = pq.read_table(tmp_path / "h.parquet")
    assert table["geohash"].to_pylist() == hits["geohash"].to_pylist()
    geo = json.loads(table.schema.metadata[b"geo"])
    assert geo["primary_column"] in table.column_names


@pytest.mark.parametrize("name", ["h", "h.xls", ".csv/h"])
def test_another_suffix_is_refused(hits, tmp_path, name):
    with pytest.raises(BadInput, match=r"expected a name ending in \.parquet"):
        save.write_table(hits, tmp_path / name)


def test_a_folder_that_is_not_there_is_one_clear_line(hits, tmp_path):
    with pytest.raises(BadInput, match=r"cannot write .*No such file"):
        save.write_table(hits, tmp_path / "none" / "h.csv")


def test_values_become_plain_json():
    found = save.plain({"a": [np.int8(3), float("inf"), b"\x0f"], "t": datetime(2023, 8, 1)})
    assert found == {"a": [3, None, "0f"], "t": "2023-08-01T00:00:00"}
