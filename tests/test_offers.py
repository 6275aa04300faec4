"""Which bands a file offers, and how they scale."""

from pathlib import Path

import pytest

from embarchive.errors import BadInput
from embarchive.offers import band_of, choose, offered
from embarchive.product import Layer, Product
from embarchive.rasters import Header
from embarchive.recipe import Recipe

PRODUCT = Product("scene", ())


def header(count=1, names=(), dtype="uint16", scales=None, offsets=None, nodata=None):
    return Header(
        path="/data/x/a.tif",
        count=count,
        shape=(20, 20),
        dtype=dtype,
        names=tuple(names) or ("",) * count,
        alpha=(),
        scales=scales or (1.0,) * count,
        offsets=offsets or (0.0,) * count,
        nodata=(nodata,) * count,
        tags={},
        trouble="",
        gsd=10.0,
        bounds=(),
    )


def whole(name=""):
    return Layer(Path("/data/x/a.tif"), name, 0)


def listed(found):
    return [(one.layer.name, one.layer.index, one.day and one.day.day) for one in found]


def picked(head, **recipe):
    recipe = Recipe(**recipe)
    return [one.layer.name for one in choose(PRODUCT, offered(whole(), head, recipe), recipe)]


def test_bands_are_named_by_file_name_description_recipe_or_number():
    assert listed(offered(whole("B04"), header(names=["grey"]), Recipe())) == [("B04", 1, None)]
    assert picked(header(2, ["B04", "B08"])) == ["B04", "B08"]
    assert picked(header(2), bands=("red", "nir")) == ["red", "nir"]
    assert picked(header(4), bands=("B2", "B3", "B4", "B8")) == ["B2", "B3", "B4", "B8"]
    assert picked(header(2)) == ["band1", "band2"]


def test_a_recipe_picks_and_orders_bands_by_any_spelling():
    assert picked(header(3, ["B02", "B03", "B04"]), bands=("B4", "b02")) == ["B4", "b02"]
    assert picked(header(3), bands=("band3", "band1")) == ["band3", "band1"]


def test_an_unknown_band_lists_what_there_is():
    with pytest.raises(BadInput, match="scene scene: expected band B9, found B02, B03"):
        picked(header(2, ["B02", "B03"]), bands=("B02", "B9"))


def test_a_stack_is_date_major():
    recipe = Recipe(bands=("red", "nir"), dates=("2018-04-29", "2018-05-13"))
    assert listed(offered(whole(), header(4), recipe)) == [
        ("red", 1, 29),
        ("nir", 2, 29),
        ("red", 3, 13),
        ("nir", 4, 13),
    ]


def test_a_file_of_one_band_may_have_a_date_a_band():
    recipe = Recipe(bands=("ndvi", "red"), dates=("2018-04-29", "2018-05-13"))
    assert listed(offered(whole("ndvi"), header(2), recipe)) == [("ndvi", 1, 29), ("ndvi", 2, 13)]


def test_dates_that_do_not_fit_are_refused():
    recipe = Recipe(bands=("red", "nir"), dates=("2018-04-29", "2018-05-13"))
    with pytest.raises(
        BadInput, match=r"a\.tif: expected 2 dates x 2 bands by the recipe, found 5"
    ):
        offered(whole(), header(5), recipe)


@pytest.mark.parametrize(
    ("layer", "tags", "recipe", "expected"),
    [
        ({}, (1.0, 0.0), {}, (1.0, 0.0, "stored")),
        ({}, (0.5, 2.0), {}, (0.5, 2.0, "scaled")),
        ({"scale": 0.1, "offset": 1.0}, (0.5, 2.0), {}, (0.1, 1.0, "scaled")),
        ({"scale": 0.1, "offset": 1.0}, (0.5, 2.0), {"scale": 3.0}, (3.0, 0.0, "scaled")),
        ({"scale": 0.1, "offset": 1.0}, (1.0, 0.0), {"offset": 4.0}, (0.1, 4.0, "scaled")),
    ],
)
def test_the_recipe_wins_over_metadata_and_metadata_over_tags(layer, tags, recipe, expected):
    recipe = Recipe(**recipe)
    head = header(scales=(tags[0],), offsets=(tags[1],))
    (one,) = offered(Layer(Path("a.tif"), "B04", 1, (), **layer), head, recipe)
    band, units = band_of(PRODUCT, one, recipe, None)
    assert (band.scale, band.offset, units) == expected


@pytest.mark.parametrize(("dtype", "scale"), [("uint16", 1e-4), ("float32", 1.0), ("uint8", 1.0)])
def test_digital_numbers_alone_are_scaled_by_the_sensors_name(dtype, scale):
    product = Product("S2A_33TWL_20230815_0_L2A", ())
    (one,) = offered(whole("B04"), header(dtype=dtype), Recipe())
    assert band_of(product, one, Recipe(), None)[0].scale == scale


def test_no_data_comes_from_the_recipe_first():
    (one,) = offered(whole("B04"), header(nodata=7.0), Recipe())
    assert band_of(PRODUCT, one, Recipe(nodata=5.0), None)[0].nodata == 5
    assert band_of(PRODUCT, one, Recipe(), None)[0].nodata == 7
