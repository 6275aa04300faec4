"""What the columns of files of embeddings are, as their makers publish them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from vectorfiles import (
    WKB,
    alphaearth,
    clay,
    lists,
    major_tom,
    make_floats,
    plain,
    tessera,
    wkb,
    write,
)

from embarchive.errors import BadInput
from embarchive.layouts import Wishes, look


@pytest.fixture
def path(tmp_path):
    return tmp_path / "v.parquet"


def test_clay_is_known(path):
    found = look(clay(path), Wishes())
    assert (found.vector, found.dim, found.kind) == (("embeddings",), 768, "float")
    assert (found.place, found.crs, found.datetime) == (("geometry",), None, "date")
    assert (found.rows, found.source, found.step) == (60, None, None)


@pytest.mark.parametrize("int8", [False, True])
def test_alphaearth_is_known(path, int8):
    found = look(alphaearth(path, int8=int8)[0], Wishes())
    assert found.vector == tuple(f"A{i:02d}" for i in range(64))
    assert (found.place, found.datetime) == (("longitude", "latitude"), "year")
    assert found.alphaearth and found.step is None


def test_tessera_is_known(path):
    found = look(tessera(path)[0], Wishes())
    assert (found.dim, found.vector[:2], found.datetime) == (128, ("band_0", "band_1"), "year")


@pytest.mark.parametrize("geometry", [True, False])
def test_major_tom_is_known(path, geometry):
    found = look(major_tom(path, geometry=geometry), Wishes())
    assert (found.vector, found.dim, found.datetime) == (("embedding",), 96, "timestamp")
    assert found.place == (("geometry",) if geometry else ("centre_lon", "centre_lat"))


def test_plain_tables_are_known_and_int8_has_its_step(path):
    found = look(plain(path, kind=pa.float16()), Wishes())
    assert (found.kind, found.place, found.step) == ("halffloat", ("lon", "lat"), None)
    whole = np.ones((5, 8), np.int8)
    columns = {"lon": [1.0] * 5, "lat": [1.0] * 5, "emb": lists(whole), "other": [1] * 5}
    found = look(write(path, columns), Wishes())
    assert (found.vector, found.kind, found.step) == (("emb",), "int8", 1.0)


def test_wishes_come_before_names(path):
    columns = {"lon": [1.0], "lat": [1.0], "x": [2.0], "y": [3.0], "when": ["2020-01-01"]}
    vectors = {"embedding": lists(make_floats(1, 8)), "mine": lists(make_floats(1, 16))}
    numbered = {f"b{i}": [0.5] for i in range(1, 6)}
    write(path, {**columns, **vectors, **numbered, "scene": ["s"]})
    found = look(path, Wishes("mine", None, "x", "y", "when", "scene"))
    assert (found.vector, found.dim, found.place) == (("mine",), 16, ("x", "y"))
    assert (found.datetime, found.source) == ("when", "scene")
    found = look(path, Wishes(vector="b"))
    assert found.vector == ("b1", "b2", "b3", "b4", "b5")


def test_the_primary_column_is_the_geometry(path):
    columns = {"shape": wkb([]), "embedding": lists(make_floats(0, 8))}
    table = pa.table({**columns}).schema.empty_table()
    geo = {"primary_column": "shape", "columns": {"shape": WKB}}
    rows = pa.table({"shape": [b""], "embedding": lists(make_floats(1, 8))}, schema=table.schema)
    pq.write_table(rows.replace_schema_metadata({"geo": json.dumps(geo)}), path)
    assert look(path, Wishes()).place == ("shape",)


@pytest.mark.parametrize(
    ("columns", "wishes", "said"),
    [
        ({"lon": [1.0], "name": ["x"]}, {}, r"expected a column of vectors .* lon \(double\)"),
        ({"a": [[1.0]], "b": [[1.0]]}, {}, "expected --vector, one of a, b"),
        ({"embedding": [[1.0]]}, {}, "expected a geometry, or a longitude and a latitude"),
        ({"embedding": [[1.0]]}, {"vector": "v"}, "expected a column v as the vector, found embed"),
        ({"embedding": [["x"]]}, {"vector": "embedding"}, "embedding to be lists of float16"),
        ({"embedding": [[1]]}, {"vector": "embedding"}, r"float64 or int8, found list<.*int64"),
        ({"embedding": [[]], "lon": [0.0], "lat": [0.0]}, {"vector": "embedding"}, "found"),
        ({"embedding": [[1.0]]}, {"lon": "x"}, "expected --geometry, or both --lon and --lat"),
        ({"embedding": [[1.0]], "lon": [0.0], "lat": [0.0]}, {"datetime": "d"}, "d as the date"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said_with_what_there_is(path, columns, wishes, said):
    write(path, columns)
    with pytest.raises(BadInput, match=said) as error:
        look(path, Wishes(**wishes))
    assert "\n" not in str(error.value)


def test_what_is_no_parquet_is_refused(tmp_path):
    (tmp_path / "x.parquet").write_text("hello")
    with pytest.raises(BadInput, match=r"import x.parquet: expected a Parquet file, found"):
        look(tmp_path / "x.parquet", Wishes())
    with pytest.raises(BadInput) as error:
        look(tmp_path / "y.parquet", Wishes())
    assert str(error.value) == "import y.parquet: cannot be read: No such file or directory"
    plain(tmp_path / "z.parquet", count=0)
    with pytest.raises(BadInput, match=r"import z.parquet: expected rows, found none"):
        look(tmp_path / "z.parquet", Wishes())


@pytest.mark.parametrize(
    "metadata",
    [
        {"geo": []},
        {"geo": {"columns": ["geometry"], "primary_column": ["x"]}},
        {"geo": {"columns": {"geometry": "WKB"}}},
        {"emb": {"emb:quantization": None}},
        {"emb": {"emb:quantization": {"scale": []}}},
        {"emb": {"emb:quantization": {"scale": {"a": 1}}}},
        {"embarchive": {"scale": "1"}},
    ],
)
def test_metadata_of_another_shape_says_nothing(path, metadata):
    columns = {"geometry": wkb([shapely.Point(1, 2)]), "embedding": lists(make_floats(1, 8))}
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    pq.write_table(pa.table(columns).replace_schema_metadata(texts), path)
    found = look(path, Wishes())
    assert (found.place, found.crs, found.step) == (("geometry",), None, None)


def test_metadata_nested_too_deep_say_nothing(path):
    columns = {"geometry": wkb([shapely.Point(1, 2)]), "embedding": lists(make_floats(1, 8))}
    deep = {"geo": "[" * 100_000 + "]" * 100_000}
    pq.write_table(pa.table(columns).replace_schema_metadata(deep), path)
    assert look(path, Wishes()).crs is None


@pytest.mark.parametrize("scale", [10**400, 1e300, 1e16, 1e-16, 0, -1.0, float("nan")])
@pytest.mark.parametrize("key", ["embarchive", "emb"])
def test_scales_whose_squares_distances_cannot_hold_are_refused(path, scale, key):
    said = {"scale": scale} if key == "embarchive" else {"emb:quantization": {"scale": [scale]}}
    columns = {"lon": [1.0], "lat": [2.0], "embedding": lists(make_floats(1, 8))}
    pq.write_table(pa.table(columns).replace_schema_metadata({key: json.dumps(said)}), path)
    with pytest.raises(BadInput, match=r"expected an int8 scale of 1e-15 to 1e.15 in the metadata"):
        look(path, Wishes())


def test_two_columns_of_one_name_are_refused(path):
    columns = [pa.array([1.0]), pa.array([2.0]), lists(make_floats(1, 8)), pa.array([1.0])]
    pq.write_table(pa.table(columns, names=["lon", "lat", "embedding", "lon"]), path)
    with pytest.raises(BadInput, match="different names, found two called lon"):
        look(path, Wishes())
