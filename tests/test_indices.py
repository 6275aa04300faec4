"""Which indices an archive has by default, and what training for them means."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SETTINGS

from embarchive import indices
from embarchive.errors import BadInput
from embarchive.indices import IndexTarget


@pytest.mark.parametrize(
    ("bands", "found"),
    [
        (("B02", "B03", "B04", "B08", "B11"), "ndvi B08 B04, ndwi B03 B08, ndbi B11 B08"),
        (("b4", "B8A", "B8"), "ndvi B8 b4"),
        (("B03", "B04", "B8A"), "ndvi B8A B04, ndwi B03 B8A"),
        (("R", "G", "B", "N"), "ndvi N R, ndwi G N"),
        (("blue", "Green", "red", "NIR", "swir1"), "ndvi NIR red, ndwi Green NIR, ndbi swir1 NIR"),
        (
            ("green", "red", "nir08", "swir16"),
            "ndvi nir08 red, ndwi green nir08, ndbi swir16 nir08",
        ),
        (
            ("SR_B3", "SR_B4", "SR_B5", "SR_B6"),
            "ndvi SR_B5 SR_B4, ndwi SR_B3 SR_B5, ndbi SR_B6 SR_B5",
        ),
        (("nir", "B04"), ""),
        (("B01", "VV"), ""),
    ],
)
def test_indices_are_told_from_the_names_of_one_sensor_and_ndvi_is_first(bands, found):
    pairs = indices.default_indices(bands)
    assert ", ".join(f"{name} {a} {b}" for name, (a, b) in pairs.items()) == found


def test_a_target_has_the_bands_positions_and_the_floor_of_the_units():
    settings = replace(SETTINGS, units="reflectance")
    assert indices.index_target(settings, 0.5) == IndexTarget(((1, 0),), 0.5, 0.02)
    stored = indices.index_target(replace(settings, units="stored"), 0.5)
    assert stored.floor is None
    assert stored.floors(np.array([100.0, 60.0])) == [pytest.approx(16)]
    assert stored.floors(np.array([1.0, -3.0])) == [1e-6]


def test_no_weight_or_no_index_is_no_target():
    assert not indices.index_target(SETTINGS, 0.0)
    assert not indices.index_target(replace(SETTINGS, indices={}), 1.0)
    assert indices.index_target(SETTINGS, 1.0)


def test_an_index_of_a_band_that_is_not_there_is_refused():
    odd = replace(SETTINGS, indices={"ndsi": ("B02", "B11")})
    with pytest.raises(BadInput, match=r"^index ndsi: expected two of the bands .*, found B11$"):
        indices.index_target(odd, 1.0)
