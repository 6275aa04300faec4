"""STAC Items as products."""

from pathlib import Path

import pytest
from rasterfiles import stac_item

from embarchive.errors import BadInput
from embarchive.stac import is_stac, items, product_of

HOME = Path("/data/item.json")
OFFSET = {"raster:bands": [{"scale": 1e-4, "offset": -0.1, "nodata": 0}]}


def test_assets_are_bands_under_their_names_and_aliases():
    item = stac_item(
        "a",
        {
            "red": {"href": "B04.tif", "eo:bands": [{"name": "B04", "common_name": "red"}]},
            "scl": {"href": "./SCL.tif"},
            "aot": {"href": "AOT.tif"},
            "visual": {"href": "TCI.tif", "roles": ["visual"]},
            "thumbnail": {"href": "t.jpg", "type": "image/jpeg", "roles": ["thumbnail"]},
        },
    )
    product = product_of(item, HOME)
    assert [(layer.name, layer.wanted) for layer in product.layers] == [
        ("B04", True),
        ("AOT", False),
    ]
    assert product.layers[0].aliases == ("red",)
    assert product.layers[0].path == Path("/data/B04.tif")
    assert product.cloud.path == "/data/SCL.tif"
    assert product.datetime.isoformat() == "2023-08-15T10:00:31+00:00"


def test_the_bands_of_stac_1_1_carry_their_own_scale():
    bands = [
        {"name": "B3", "raster:scale": 0.5, "nodata": "nan"},
        {"name": "B4", "raster:offset": 2, "eo:common_name": "red"},
    ]
    layers = product_of(stac_item("a", {"data": {"href": "x.tif", "bands": bands}}), HOME).layers
    assert [(layer.name, layer.index, layer.scale, layer.offset) for layer in layers] == [
        ("B3", 1, 0.5, None),
        ("B4", 2, None, 2.0),
    ]


@pytest.mark.parametrize(
    ("properties", "asset", "offset"),
    [
        ({"earthsearch:boa_offset_applied": True}, OFFSET, 0.0),
        ({"earthsearch:boa_offset_applied": False}, OFFSET, -0.1),
        ({"s2:processing_baseline": "05.09"}, {}, -0.1),
        ({"s2:processing_baseline": "02.14"}, {}, 0.0),
        ({"s2:processing_baseline": "05.09", "earthsearch:boa_offset_applied": True}, {}, 0.0),
    ],
)
def test_the_offset_of_sentinel_2_is_applied_once(properties, asset, offset):
    assets = {"B04": {"href": "B04.tif", **asset}}
    product = product_of(stac_item("a", assets, platform="sentinel-2a", **properties), HOME)
    assert (product.layers[0].scale, product.layers[0].offset) == (1e-4, offset)
    assert product.units == "reflectance"


@pytest.mark.parametrize(
    "href", ["https://example.com/a.tif", "s3://bucket/a.tif", "/vsicurl/http://x/a.tif", ""]
)
def test_an_href_away_from_this_machine_is_refused(href):
    with pytest.raises(BadInput, match="asset B04: expected an href to a file on this machine"):
        product_of(stac_item("a", {"B04": {"href": href}}), HOME)


def test_a_file_href_is_a_path():
    product = product_of(stac_item("a", {"B04": {"href": "file:///x/a%20b.tif"}}), HOME)
    assert product.layers[0].path == Path("/x/a b.tif")


def test_a_collection_of_items_is_walked():
    one = stac_item("a", {"B04": {"href": "B04.tif"}})
    both = {"type": "FeatureCollection", "features": [one, one]}
    assert is_stac(both) and len(list(items(both, "x"))) == 2
    assert not is_stac({"type": "FeatureCollection", "features": []})
    assert not is_stac({"type": "Feature", "geometry": {}})


def test_a_null_datetime_falls_back_to_the_start():
    properties = {"datetime": None, "start_datetime": "2020-02-03T00:00:00Z"}
    product = product_of(stac_item("a", {"B1": {"href": "a.tif"}}, **properties), HOME)
    assert product.datetime.day == 3
