"""GeoTIFFs out, pictures in."""

import numpy as np
import pytest
import rasterio
from rasterfiles import write

from embarchive.errors import BadInput
from embarchive.pictures import read_averaged, write_geotiff
from embarchive.product import Band

SIX = (0.5, 0.0, 10.0, 0.0, -0.5, 50.0)


def test_a_geotiff_comes_back_with_names_and_place(tmp_path):
    image = np.random.default_rng(0).random((2, 6, 5), dtype=np.float32)
    path = tmp_path / "out.tif"
    write_geotiff(path, image, SIX, "EPSG:4326", ["B04", "B08"], tags={"SOURCE": "x"})
    with rasterio.open(path) as source:
        assert np.array_equal(source.read(), image)
        assert source.descriptions == ("B04", "B08") and tuple(source.transform)[:6] == SIX
        assert source.tags()["SOURCE"] == "x"


def test_a_target_that_cannot_be_written_leaves_nothing(tmp_path):
    image = np.zeros((1, 4, 4), np.float32)
    with pytest.raises(BadInput, match="expected a file that can be written"):
        write_geotiff(tmp_path / "none" / "out.tif", image, SIX, "EPSG:4326", ["a"])
    assert not list(tmp_path.iterdir())


def test_a_picture_is_averaged_scaled_and_filled(tmp_path):
    stored = np.repeat(np.array([[[100, 300], [0, 500]]], np.uint16), 10, axis=1).repeat(10, axis=2)
    path = write(tmp_path / "a.tif", stored, nodata=0)
    found = read_averaged(path, [Band("a", str(path), 1, 0.01, -1.0, 0.0)], 2, 2)
    assert found.dtype == np.float32
    assert found[0].ravel() == pytest.approx([0, 2, 2, 4])


def test_a_picture_of_nothing_is_refused(tmp_path):
    path = write(tmp_path / "a.tif", np.zeros((1, 20, 20), np.uint8), nodata=0)
    with pytest.raises(BadInput, match="expected data in band red"):
        read_averaged(path, [Band("red", str(path), 1, 1.0, 0.0, 0.0)], 4, 4)
