"""STAC Items as products."""

from pathlib import Path

import pytest
from rasterfiles import stac_item

from embarchive.errors import BadInput
from embarchive.product import Url
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
    "href",
    ["https://example.com/x/a%20b.tif", "s3://bucket/a.tif", "HTTP://example.com:8080/a.tif"],
)
def test_an_href_on_the_network_is_kept(href):
    product = product_of(stac_item("a", {"B04": {"href": href}, "scl": {"href": href}}), HOME)
    wanted = href.replace("HTTP", "http")
    assert isinstance(product.layers[0].path, Url)
    assert product.layers[0].path == product.cloud.path == wanted


@pytest.mark.parametrize(
    "href",
    ["ftp://example.com/a.tif", "gopher://x/a.tif", "/vsicurl/http://x/a.tif", "/vsis3/b/a.tif", "",
     "\\\\host\\a.tif", "file://elsewhere/data/a.tif", "gs://bucket/a.tif", "data://x", "a\0.tif"],
)  # fmt: skip
def test_an_href_of_another_kind_is_refused(href):
    expected = "asset B04: expected an href to a file beside the Item, https:// or s3://, found"
    with pytest.raises(BadInput, match=expected) as error:
        product_of(stac_item("a", {"B04": {"href": href}}), HOME)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "href",
    ["https://user:SECRET@example.com/a.tif", "https://example.com/a.tif?sig=SECRET",
     "s3://SECRET@bucket/a.tif", "https://example.com/a.tif#SECRET", "https:///a.tif",
     "https://example.com", "https://[::1/a.tif", "https://example.com:99999/a.tif", "s3://bucket/",
     "https://example.com/../a.tif", "https://example.com/%2e%2E/a.tif", "http://x/a\x7f.tif"],
)  # fmt: skip
def test_a_url_with_credentials_or_without_a_file_is_refused_and_not_repeated(href):
    with pytest.raises(BadInput, match="asset B04: expected") as error:
        product_of(stac_item("a", {"B04": {"href": href}}), HOME)
    assert "SECRET" not in str(error.value) and "\n" not in str(error.value)


def test_a_file_href_beside_the_item_is_a_path():
    product = product_of(stac_item("a", {"B04": {"href": "file:///data/x/a%20b.tif"}}), HOME)
    assert product.layers[0].path == Path("/data/x/a b.tif")


@pytest.mark.parametrize(
    "href", ["file:///etc/a.tif", "/etc/a.tif", "../a.tif", "x/../../data2/a.tif", "/data2/a.tif",
             "file:///data/../etc/a.tif", "file:///data/%2e%2e/etc/a.tif", "."],
)  # fmt: skip
def test_an_item_cannot_choose_a_file_outside_its_folder(href):
    with pytest.raises(BadInput, match="in the folder of its Item or below, found one elsewhere"):
        product_of(stac_item("a", {"B04": {"href": href}}), HOME)


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
