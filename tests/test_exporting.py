"""Rows with their vectors in one file, as other tools read it, and back."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from archives import SCALE, make_archive, make_settings
from vectorfiles import plain

import embarchive
from embarchive import exporting
from embarchive.archive import Archive
from embarchive.cli import main
from embarchive.errors import BadInput
from embarchive.exporting import Wanted, export
from embarchive.import_plan import Options
from embarchive.importing import import_vectors
from embarchive.layouts import Wishes
from embarchive.oneband import ANY
from embarchive.rows import embeddings


def quiet(stage, done, total):
    pass


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("export") / "a"
    make_archive(root, 600, dates=3, nulls=True, shard_prefix=5)
    return root


@pytest.fixture(scope="module")
def archive(root):
    return embarchive.open_archive(root)


def exported(archive, path, **wanted):
    done = export(archive, path, Wanted(**wanted), quiet)
    return done, pq.read_table(path)


def test_rows_come_whole_with_vectors_in_embedding_units(archive, tmp_path):
    done, table = exported(archive, tmp_path / "f.parquet")
    names = ["geohash", "datetime", "bbox", "geometry", "embedding", "model_id", "source"]
    assert table.column_names == [*names, "valid_fraction", "mse", "index_mae"]
    rows = archive.select(columns=table.column_names)
    assert (done["rows"], done["scale"]) == (600, SCALE)
    assert table.drop_columns(["embedding", "model_id", "source"]).equals(
        rows.drop_columns(["embedding", "model_id", "source"])
    )
    assert table["source"].to_pylist() == rows["source"].to_pylist()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), 64)
    floats = table["embedding"].combine_chunks().flatten().to_numpy().reshape(-1, 64)
    np.testing.assert_array_equal(floats, embeddings(rows) * np.float32(SCALE))


def test_rows_are_those_asked_for(archive, tmp_path):
    where = {"bbox": (13.0, 52.0, 13.1, 52.1), "datetime": "2023-05-11"}
    _, table = exported(archive, tmp_path / "f.parquet", **where, columns=["embedding"], int8=True)
    rows = archive.select(**where, columns=["geohash", "embedding"])
    assert 0 < len(table) < 200
    assert table.column_names == ["geohash", "bbox", "geometry", "embedding"]
    assert table["geohash"].to_pylist() == rows["geohash"].to_pylist()
    assert table["embedding"].to_pylist() == rows["embedding"].to_pylist()
    assert table.schema.field("embedding").type.value_type == pa.int8()


def test_other_tools_read_it(archive, tmp_path):
    geopandas, polars, duckdb = map(pytest.importorskip, ("geopandas", "polars", "duckdb"))
    _, table = exported(archive, tmp_path / "f.parquet")
    frame = geopandas.read_parquet(tmp_path / "f.parquet")
    cell = embarchive.grid.bounds(np.array(table["geohash"].to_pylist()))
    np.testing.assert_allclose(frame.geometry.bounds.to_numpy(), cell)
    assert frame.crs == "OGC:CRS84"
    np.testing.assert_allclose(frame.total_bounds, archive.bounds)
    small = geopandas.read_parquet(tmp_path / "f.parquet", bbox=(13.0, 52.0, 13.02, 52.02))
    assert 0 < len(small) < 600
    found = polars.read_parquet(tmp_path / "f.parquet")
    first = table["embedding"][0].as_py()
    assert found["embedding"][0].to_list() == first and len(found) == 600
    query = "SELECT count(*), first(embedding) FROM read_parquet(?)"
    count, vector = duckdb.execute(query, [str(tmp_path / "f.parquet")]).fetchone()
    assert count == 600 and list(vector) == first


def test_it_is_valid_geoparquet(archive, tmp_path):
    exported(archive, tmp_path / "f.parquet")
    tool = Path(sys.executable).with_name("geoparquet-validator")
    ran = subprocess.run([tool, "check", tmp_path / "f.parquet"], capture_output=True, text=True)
    assert ran.returncode == 0 and "FAIL" not in ran.stdout, ran.stdout
    geo = json.loads(pq.read_metadata(tmp_path / "f.parquet").metadata[b"geo"])
    np.testing.assert_allclose(geo["columns"]["geometry"]["bbox"], archive.bounds)


@pytest.mark.parametrize("int8", [False, True])
def test_an_import_of_an_export_has_the_same_numbers_and_hits(archive, tmp_path, int8):
    exported(archive, tmp_path / "f.parquet", int8=int8)
    out = tmp_path / "b"
    import_vectors([tmp_path / "f.parquet"], str(out), Wishes(), Options(), quiet)
    again = embarchive.open_archive(out)
    columns = ["geohash", "datetime", "source", "embedding", "valid_fraction"]
    one, two = archive.select(columns=columns), again.select(columns=columns)
    for name in columns:
        assert two[name].to_pylist() == one[name].to_pylist()
    assert again.space().scale == SCALE
    like = [one["geohash"][50].as_py(), one["geohash"][300].as_py()]
    for options in ({}, {"op": "min", "per_place": 0}):
        hits = again.search(like, k=20, exact=True, **options)
        truth = archive.search(like, k=20, exact=True, **options)
        for name in ("geohash", "datetime", "source", "score"):
            assert hits[name].to_pylist() == truth[name].to_pylist()


def test_an_imported_archive_comes_back_to_the_byte(tmp_path):
    for name in ("a", "b"):
        files = [plain(tmp_path / "v.parquet", 300)] if name == "a" else [tmp_path / "f.parquet"]
        import_vectors(files, str(tmp_path / name), Wishes(), Options(), quiet)
        if name == "a":
            export(embarchive.open_archive(tmp_path / "a"), tmp_path / "f.parquet", Wanted(), quiet)
    one, two = (embarchive.open_archive(tmp_path / name) for name in "ab")
    assert one.space().space_id == two.space().space_id
    columns = ["geohash", "datetime", "source", "embedding", "bits", "valid_fraction"]
    assert one.select(columns=columns) == two.select(columns=columns)
    like = one.select()["geohash"][3].as_py()
    assert one.search(like, k=30) == two.search(like, k=30)


@pytest.mark.parametrize("tool", ["polars", "duckdb", "geopandas"])
def test_what_another_tool_wrote_of_it_is_imported(archive, tmp_path, tool):
    module = pytest.importorskip(tool)
    exported(archive, tmp_path / "f.parquet")
    source, target = str(tmp_path / "f.parquet"), str(tmp_path / "g.parquet")
    if tool == "duckdb":
        module.execute(f"COPY (FROM read_parquet('{source}')) TO '{target}' (FORMAT parquet)")
    elif tool == "polars":
        module.read_parquet(source).write_parquet(target)
    else:
        module.read_parquet(source).to_parquet(target)
    done = import_vectors([target], str(tmp_path / "b"), Wishes(), Options(), quiet)
    again = embarchive.open_archive(tmp_path / "b")
    assert (done["tiles"], done["renamed"], done["precision"]) == (600, 0, 6)
    names = ["geohash", "datetime", "source"]
    one, two = archive.select(columns=names), again.select(columns=names)
    assert [two[n].to_pylist() for n in names] == [one[n].to_pylist() for n in names]
    found = embeddings(again.select(columns=["embedding"])) * done["scale"]
    floats = embeddings(archive.select(columns=["embedding"])) * SCALE
    assert np.abs(found - floats).max() <= done["scale"] / 2 + 0.01


def test_csv_has_a_column_a_number(archive, tmp_path):
    done = export(
        archive, tmp_path / "f.csv", Wanted(columns=["source", "embedding", "bits"]), quiet
    )
    table = pacsv.read_csv(tmp_path / "f.csv")
    rows = archive.select(columns=["geohash", "embedding", "bits"])
    assert len(table) == done["rows"] == 600
    assert table.column_names[:6] == ["geohash", "xmin", "ymin", "xmax", "ymax", "embedding_0"]
    assert table["bits"][0].as_py() == rows["bits"][0].as_py().hex()
    column = table["embedding_63"].to_numpy()
    np.testing.assert_allclose(column, embeddings(rows)[:, 63] * SCALE, rtol=1e-6)


def test_geojson_has_a_feature_a_row(archive, tmp_path):
    export(archive, tmp_path / "f.geojson", Wanted(columns=["datetime", "embedding"]), quiet)
    found = json.loads((tmp_path / "f.geojson").read_text())
    assert found["type"] == "FeatureCollection" and len(found["features"]) == 600
    one = found["features"][7]
    assert set(one["properties"]) == {"geohash", "datetime", "embedding"}
    assert one["geometry"]["type"] == "Polygon" and len(one["properties"]["embedding"]) == 64


def test_rows_are_written_in_groups_of_some_size(archive, tmp_path, monkeypatch):
    exported(archive, tmp_path / "f.parquet")
    one = pq.read_metadata(tmp_path / "f.parquet")
    assert one.num_row_groups == 1
    monkeypatch.setattr(exporting, "GROUP_BYTES", 1)
    _, table = exported(archive, tmp_path / "g.parquet")
    many = pq.read_metadata(tmp_path / "g.parquet")
    assert many.num_row_groups == archive.info()["shards"] > 1
    assert table == pq.read_table(tmp_path / "f.parquet")


@pytest.mark.parametrize(
    ("name", "wanted", "said"),
    [
        ("f.txt", {}, "out: expected a name ending in .parquet, .geojson, .csv, found"),
        ("no/f.parquet", {}, "out: cannot write"),
        ("f.parquet", {"columns": ["nope"]}, "columns: expected some of geohash, .* found 'nope'"),
        ("f.parquet", {"bbox": (0, 0, 1, 1)}, "export: expected rows that match, found none"),
        ("f.csv", {"space": "x"}, "space: expected one of synthetic-1, found 'x'"),
    ],
)
def test_what_cannot_be_leaves_no_file(archive, tmp_path, name, wanted, said):
    with pytest.raises(BadInput, match=said):
        export(archive, tmp_path / name, Wanted(**wanted), quiet)
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_wrote(root, tmp_path, capsys):
    out = tmp_path / "f.parquet"
    line = ["export", str(root), "--out", str(out), "--columns", "source,embedding", "--json", "-q"]
    assert main(line) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["bytes"]) == (600, out.stat().st_size)
    assert found["columns"] == ["geohash", "bbox", "geometry", "embedding", "source"]
    assert main(["export", str(root), "--out", str(tmp_path / "f.doc")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_band_alone_is_written(tmp_path, monkeypatch):
    settings = replace(make_settings(), bands=(ANY,))
    make_archive(tmp_path / "A", 60, dates=2, settings=settings)
    monkeypatch.setattr(Archive, "bands", ["scene-0-0", "scene-1-1"])
    line = ["export", str(tmp_path / "A"), "--band", "scene-1-1", "--out"]
    assert main([*line, str(tmp_path / "f.parquet")]) == 0
    assert set(pq.read_table(tmp_path / "f.parquet")["source"].to_pylist()) == {"scene-1-1"}
