"""Band names out of file names."""

import pytest

from embarchive.bandnames import is_companion, is_picture, same_key, split_stem


@pytest.mark.parametrize(
    ("stem", "band", "metres", "scene"),
    [
        ("B04", "B04", 0, ""),
        ("s2_B8A", "B8A", 0, "s2"),
        ("T01WCQ_20230602T000000_B04_10m", "B04", 10, "T01WCQ_20230602T000000"),
        ("S2A_MSIL2A_20170613T101032_T34VER_20m", "", 20, "S2A_MSIL2A_20170613T101032_T34VER"),
        ("LC08_190028_20230815_SR_B4", "SR_B4", 0, "LC08_190028_20230815"),
        ("x_QA_PIXEL", "QA_PIXEL", 0, "x"),
        ("MODIS_NDVI_2013-09-14", "NDVI", 0, "MODIS_2013-09-14"),
        ("blue", "blue", 0, ""),
        ("L7_ETMs_olinda_6band_uint8", "", 0, "L7_ETMs_olinda_6band_uint8"),
    ],
)
def test_a_stem_is_cut_into_band_resolution_and_scene(stem, band, metres, scene):
    parts = split_stem(stem)
    assert (parts.band, parts.resolution, parts.scene) == (band, metres, scene)


def test_spellings_of_one_band_share_a_key():
    assert {same_key(name) for name in ("B2", "B02", "b02", "band_2", "Band 2", "band2")} == {"b2"}
    assert same_key("B8A") != same_key("B08")
    assert same_key("NDVI") == "ndvi"


def test_pictures_and_labels_are_told_by_name():
    assert all(map(is_picture, ("T33_TCI_10m", "preview", "landsat96_labelled_pixels")))
    assert not any(map(is_picture, ("RGB.byte", "B04", "overviewless", "previewed_scene")))


def test_companions_are_no_bands_of_a_scene():
    assert all(map(is_companion, ("AOT", "wvp", "SCL", "BQA", "doy")))
    assert not is_companion("B04")
