"""Decoding by model, crops, mosaics and pictures, with a decoder whose answer is known."""

import struct
import zlib

import numpy as np
import pytest
from archives import SCALE, make_cells, make_table

from embarchive import decode, grid
from embarchive.errors import BadInput
from embarchive.rows import embeddings

CHIPS = grid.ChipGrid(6, 25.0, 48, 48)


@pytest.fixture
def fake_model(monkeypatch):
    """A decoder that paints each number of z, plus its adapter's bias, on one band."""
    calls = []

    def decode_batch(architecture, backbone, adapter, z):
        calls.append(len(z))
        bias = adapter["bias"] if adapter else 0
        flat = z[:, :3] * backbone["gain"] + bias
        return np.broadcast_to(flat[:, :, None, None], (len(z), 3, 8, 8)).astype(np.float32)

    monkeypatch.setattr(decode.model, "decode_batch", decode_batch)
    return calls


def load(model_id):
    adapter = {"bias": np.float32(1)} if model_id.startswith("a") else None
    return decode.Decoder(None, {"gain": np.float32(2)}, adapter, SCALE)


def chips_of(names):
    """Images whose single band holds the longitude of each pixel."""
    lon, lat = CHIPS.pixel_lonlat(np.array(names))
    both = np.stack(np.broadcast_arrays(lon[:, None, :], lat[:, :, None]), axis=1)
    return both.astype(np.float32)


def test_rows_are_decoded_by_their_own_model_and_stay_in_order(fake_model):
    table = make_table(600)
    shuffled = table.take(np.random.default_rng(0).permutation(600))
    images = decode.decode_rows(load, shuffled)
    first = np.array([m.startswith("a") for m in shuffled["model_id"].to_pylist()])
    expected = embeddings(shuffled)[:, :3] * np.float32(SCALE) * 2 + first[:, None]
    assert images.shape == (600, 3, 8, 8) and images.dtype == np.float32
    assert np.array_equal(images[:, :, 0, 0], expected.astype(np.float32))
    assert max(fake_model) <= 256 and sum(fake_model) == 600


def test_no_rows_decode_to_no_images(fake_model):
    assert decode.decode_rows(load, make_table(3).slice(0, 0)).shape == (0, 0, 0, 0)


def test_what_the_loader_raises_is_raised(fake_model):
    def broken(model_id):
        raise BadInput("no such model")

    with pytest.raises(BadInput, match="no such model"):
        decode.decode_rows(broken, make_table(3))


def test_a_crop_holds_the_pixels_of_the_cell_and_knows_where_they_are():
    name = make_cells(1)[0]
    image, (a, _, c, _, e, f) = decode.crop(chips_of([name])[0], CHIPS, name)
    west, south, east, north = grid.bounds(np.array([name]))[0]
    lon, lat = image[0, 0], image[1, :, 0]
    assert (lon > west).all() and (lon < east).all() and (lat > south).all() and (lat < north).all()
    assert np.allclose(lon, c + (np.arange(len(lon)) + 0.5) * a, atol=1e-5)
    assert np.allclose(lat, f + (np.arange(len(lat)) + 0.5) * e, atol=1e-5)


def test_a_mosaic_puts_every_pixel_where_it_belongs():
    names = make_cells(9).tolist()
    image, (a, _, c, _, e, f) = decode.mosaic(chips_of(names), names, CHIPS)
    assert np.isfinite(image).all()
    lon = c + (np.arange(image.shape[2]) + 0.5) * a
    lat = f + (np.arange(image.shape[1]) + 0.5) * e
    # nearest neighbour: within one pixel of the source
    assert np.abs(image[0] - lon).max() < 1.01 * a
    assert np.abs(image[1] - lat[:, None]).max() < 1.01 * -e


def test_a_mosaic_is_empty_where_no_tile_is_and_refuses_the_world():
    cells = make_cells(9)
    corners = [cells[0], cells[-1]]
    image, _ = decode.mosaic(chips_of(corners), corners, CHIPS)
    assert 0 < np.isnan(image).mean() < 1
    with pytest.raises(BadInput, match="mosaic of at most"):
        far = [cells[0], "9q8yqx"]
        decode.mosaic(chips_of(far), far, CHIPS)


def test_a_mosaic_goes_on_across_the_antimeridian():
    both = grid.encode(np.array([179.999, -179.999]), np.array([5.0, 5.0]), 6).tolist()
    image, (a, _, c, *_) = decode.mosaic(chips_of(both), both, CHIPS)
    assert image.shape[2] < 100 and c < 180 < c + image.shape[2] * a
    assert np.isfinite(image).all() and (image[0, :, 0] > 0).all() and (image[0, :, -1] < 0).all()


@pytest.mark.parametrize(
    ("bands", "expected"),
    [
        (("B02", "B03", "B04", "B08"), (2, 1, 0)),
        (("blue", "green", "red"), (2, 1, 0)),
        (("SR_B2", "SR_B3", "SR_B4", "SR_B5"), (2, 1, 0)),
        (("x", "y", "z"), (0, 1, 2)),
        (("pan",), (0, 0, 0)),
    ],
)
def test_visible_bands_are_found_by_name(bands, expected):
    assert decode.visible_bands(bands) == expected


def test_a_picture_spans_black_to_white_and_nan_is_black():
    image = np.linspace(0, 1, 300, dtype=np.float32).reshape(3, 10, 10).copy()
    image[:, 0, 0] = np.nan
    shown = decode.picture(image, (0, 1, 2))
    assert shown.shape == (10, 10, 3) and shown.dtype == np.uint8
    assert shown[0, 0].tolist() == [0, 0, 0] and shown.max() == 255
    flat = decode.picture(np.full((3, 4, 4), 7, np.float32), (0, 1, 2))
    assert flat.max() == 0


def test_one_stretch_keeps_pictures_comparable():
    images = np.stack([np.zeros((3, 4, 4)), np.ones((3, 4, 4))]).astype(np.float32)
    limits = decode.stretch_limits(images, (0, 1, 2))
    assert decode.picture(images[0], (0, 1, 2), limits).max() == 0
    assert decode.picture(images[1], (0, 1, 2), limits).min() == 255


def test_a_png_holds_the_pixels(tmp_path):
    rgb = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    decode.write_png(tmp_path / "a.png", rgb)
    data = (tmp_path / "a.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (7, 5)
    start = data.index(b"IDAT") + 4
    size = struct.unpack(">I", data[start - 8 : start - 4])[0]
    lines = np.frombuffer(zlib.decompress(data[start : start + size]), np.uint8).reshape(5, 22)
    assert np.array_equal(lines[:, 1:].reshape(5, 7, 3), rgb) and not lines[:, 0].any()
    with pytest.raises(BadInput, match="cannot write"):
        decode.write_png(tmp_path / "no" / "a.png", rgb)


def test_a_geotiff_of_tiles_lies_on_their_cells(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    names = make_cells(4).tolist()
    for some in (names[:1], names):
        path = tmp_path / f"{len(some)}.tif"
        decode.write_geotiff(path, chips_of(some), some, CHIPS, ("lon", "lat"))
        with rasterio.open(path) as raster:
            x, y = raster.xy(3, 5)
            assert raster.crs.to_epsg() == 4326 and raster.descriptions == ("lon", "lat")
            assert np.isnan(raster.nodata)
            assert np.allclose(raster.read()[:, 3, 5], (x, y), atol=abs(raster.transform.a))


def test_no_tiles_make_no_geotiff(tmp_path):
    with pytest.raises(BadInput, match="at least one tile"):
        decode.write_geotiff(tmp_path / "a.tif", np.zeros((0, 1, 8, 8)), [], CHIPS, ("a",))
    assert not list(tmp_path.iterdir())
