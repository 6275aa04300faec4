"""What paths, folders and globs hold, before a raster is opened."""

import json
from datetime import datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rasterfiles import LANDSAT, stac_item, write, write_landsat, write_safe

from embarchive import folders
from embarchive.errors import BadInput


def products(*paths):
    skipped = []
    found = folders.products(paths, lambda path, why: skipped.append(path.name))
    return found, skipped


def names(product):
    return [layer.name for layer in product.layers if layer.wanted]


def test_files_of_a_folder_that_differ_in_band_are_one_scene(tmp_path):
    for day in ("20230810", "20230815"):
        for band in ("B10", "B8A", "B02", "SCL", "TCI", "AOT"):
            write(tmp_path / f"T33_{day}_{band}_10m.tif")
    (tmp_path / "notes.md").write_text("x")
    (tmp_path / "old.nc").write_text("x")
    found, skipped = products(tmp_path)
    assert [product.source for product in found] == ["T33_20230810", "T33_20230815"]
    assert names(found[0]) == ["B02", "B8A", "B10"]
    assert found[0].cloud.path.endswith("T33_20230810_SCL_10m.tif")
    assert sorted(skipped) == ["T33_20230810_TCI_10m.tif", "T33_20230815_TCI_10m.tif", "old.nc"]


def test_a_folder_of_bands_alone_names_the_scene(tmp_path):
    for band in ("B02", "B03"):
        write(tmp_path / "S2A_33TWL_20230815_0_L2A" / f"{band}.tif")
    (product,), _ = products(tmp_path)
    assert product.source == "S2A_33TWL_20230815_0_L2A"


def test_files_and_globs_are_grouped_alike(tmp_path):
    paths = [write(tmp_path / f"s2_{band}.tif") for band in ("B02", "B03")]
    (listed,), _ = products(*paths)
    (globbed,), _ = products(str(tmp_path / "*.tif"))
    assert names(listed) == names(globbed) == ["B02", "B03"]


def test_a_picture_alone_is_taken_at_its_word(tmp_path):
    (product,), skipped = products(write(tmp_path / "T33_TCI.tif"))
    assert product.source == "T33_TCI" and not skipped


def test_a_safe_folder_keeps_each_bands_finest_file(tmp_path):
    write_safe(tmp_path)
    (product,), _ = products(tmp_path)
    assert names(product) == ["B01", "B02", "B05"]
    assert [layer.path.parent.name for layer in product.layers] == ["R60m", "R10m", "R20m", "R10m"]
    assert product.layers[1].offset == -0.1 and product.layers[1].nodata == 0
    assert product.cloud.path.endswith("SCL_20m.jp2")
    assert product.datetime.isoformat() == "2023-08-15T10:00:31+00:00"


def test_a_safe_folder_without_metadata_goes_by_its_name(tmp_path):
    (product,), _ = products(write_safe(tmp_path, metadata=False))
    assert product.layers[1].offset == -0.1
    assert product.datetime.isoformat() == "2023-08-15T10:00:31+00:00"


@pytest.mark.parametrize("text", [False, True])
def test_a_landsat_folder_has_reflectance_and_a_mask(tmp_path, text):
    (product,), skipped = products(write_landsat(tmp_path / "l8", text))
    assert product.source == LANDSAT and names(product) == ["SR_B3", "SR_B4"]
    assert (product.layers[0].scale, product.layers[0].offset) == (2.75e-5, -0.2)
    assert product.cloud.kind == "bits"
    assert skipped == [f"{LANDSAT}_ST_B10.TIF"]


def test_stac_items_of_a_folder_take_their_files(tmp_path):
    write(tmp_path / "img" / "B04.tif")
    item = stac_item("item-1", {"B04": {"href": "img/B04.tif"}})
    (tmp_path / "item.json").write_text(json.dumps(item))
    (tmp_path / "other.json").write_text("{}")
    (product,), _ = products(tmp_path)
    assert product.source == "item-1"


@pytest.mark.parametrize(
    ("text", "message"), [("{", "expected a STAC Item"), ("{}", "found other JSON")]
)
def test_json_that_is_no_item_is_refused_when_it_is_named(tmp_path, text, message):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        products(tmp_path / "a.json")


def test_nothing_there_is_one_line(tmp_path):
    with pytest.raises(BadInput, match="found no such file"):
        products(tmp_path / "nope*.tif")


def test_links_to_folders_are_not_followed(tmp_path):
    write(tmp_path / "a" / "x.tif")
    (tmp_path / "a" / "loop").symlink_to(tmp_path / "a")
    found, _ = products(tmp_path)
    assert len(found) == 1


def table_of(path, items):
    """Items as a stac-geoparquet file, but for geometry, which scenes have of their own."""
    rows = []
    for item in items:
        when = datetime.fromisoformat(item["properties"]["datetime"])
        rows.append({"id": item["id"], "assets": item["assets"], "datetime": when})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_one_file_may_hold_the_items_of_many_scenes(tmp_path):
    many = [stac_item(name, {"B04": {"href": f"https://x.org/{name}.tif"}}) for name in "ab"]
    (tmp_path / "found.json").write_text(
        json.dumps({"type": "FeatureCollection", "features": many})
    )
    table_of(tmp_path / "found.parquet", many)
    for name in ("found.json", "found.parquet"):
        found, _ = products(tmp_path / name)
        assert [str(one.layers[0].path) for one in found] == [
            "https://x.org/a.tif",
            "https://x.org/b.tif",
        ]
        assert {one.source for one in found} == {"a", "b"}
        assert {one.datetime.isoformat() for one in found} == {"2023-08-15T10:00:31+00:00"}


def test_a_page_of_a_search_says_that_there_is_more(tmp_path, caplog):
    page = {"type": "FeatureCollection", "links": [{"rel": "next", "href": "https://x.org/2"}]}
    page["features"] = [stac_item("a", {"B04": {"href": "https://x.org/a.tif"}})]
    (tmp_path / "found.json").write_text(json.dumps(page))
    assert len(products(tmp_path / "found.json")[0]) == 1
    assert "found.json: one page of a search" in caplog.text
    (tmp_path / "found.json").write_text(json.dumps({**page, "links": [{"rel": "self"}, 3]}))
    caplog.clear()
    products(tmp_path / "found.json")
    assert not caplog.text


def test_a_table_that_is_only_found_in_a_folder_is_no_list_of_scenes(tmp_path):
    write(tmp_path / "B04.tif")
    table_of(tmp_path / "x.parquet", [stac_item("a", {"B04": {"href": "https://x.org/a.tif"}})])
    (product,), _ = products(tmp_path)
    assert product.layers[0].path == tmp_path / "B04.tif"


def test_a_table_that_is_none_or_too_large_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(BadInput, match=r"a\.parquet: expected stac-geoparquet, found"):
        products(tmp_path / "a.parquet")
    monkeypatch.setattr(folders, "MAX_TABLE", 3)
    with pytest.raises(BadInput, match="at most 3 bytes of stac-geoparquet"):
        products(tmp_path / "a.parquet")


def test_an_item_of_a_table_cannot_choose_among_the_files_of_this_machine(tmp_path):
    path = table_of(tmp_path / "a.parquet", [stac_item("a", {"B04": {"href": "/etc/a.tif"}})])
    with pytest.raises(BadInput, match="in the folder of its Item or below"):
        products(path)
