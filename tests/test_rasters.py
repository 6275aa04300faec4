"""Files: which are opened, what their headers say, which samples are data."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
from faults import serving
from rasterfiles import PLACE, write
from rasterio import Affine

from embarchive import rasters, remotefile
from embarchive.errors import BadInput, StoreUnreachable
from embarchive.product import Band, CloudLayer


def read(path, *bands, window=(0, 20, 0, 20)):
    """Values and validity of bands (index, nodata) of one file."""
    found = [Band(f"b{i}", str(path), i, 1.0, 0.0, nodata) for i, nodata in bands]
    with ExitStack() as stack:
        (raster,) = rasters.open_rasters(found, stack)
        return raster.read(*window)


def test_a_window_is_read_in_the_files_own_type(tmp_path):
    values, valid = read(write(tmp_path / "a.tif"), (1, None), window=(2, 4, 3, 6))
    assert values.dtype == np.uint16 and values.tolist() == [[[44, 45, 46], [64, 65, 66]]]
    assert valid.all()


@pytest.mark.parametrize(("kind", "nodata"), [("float32", float("nan")), ("float64", -1.7e308)])
def test_no_data_of_real_numbers_is_found(tmp_path, kind, nodata):
    stored = np.ones((1, 20, 20), kind)
    stored[0, 0, :3] = nodata, np.nan, np.inf
    path = write(tmp_path / "a.tif", stored, nodata=nodata)
    assert read(path, (1, nodata))[1][0, 0, :4].tolist() == [False, False, False, True]


@pytest.mark.parametrize("nodata", [-9999.0, 1e9, 0.5])
def test_no_data_that_the_type_cannot_hold_hides_nothing(tmp_path, nodata):
    assert read(write(tmp_path / "a.tif"), (1, nodata))[1].all()


def test_a_mask_in_the_file_hides_pixels(tmp_path):
    mask = np.full((20, 20), 255, np.uint8)
    mask[0, 0] = 0
    _, valid = read(write(tmp_path / "a.tif", mask=mask), (1, None))
    assert not valid[0, 0, 0] and valid.sum() == 399


def test_an_alpha_band_hides_pixels_and_is_no_band(tmp_path):
    stored = np.full((4, 20, 20), 255, np.uint8)
    stored[3, 0, 0] = 0
    path = write(tmp_path / "a.tif", stored, photometric="RGB", alpha="YES")
    header = rasters.read_header(path)
    assert header.alpha == (4,) and header.names[:3] == ("red", "green", "blue")
    assert not read(path, (1, None))[1][0, 0, 0]


def test_bands_on_one_grid_share_a_raster_and_others_do_not(tmp_path):
    fine = [write(tmp_path / f"{i}.tif") for i in range(2)]
    coarse = write(
        tmp_path / "c.tif",
        np.ones((1, 10, 10), np.uint16),
        transform=Affine(20, 0, PLACE.c, 0, -20, PLACE.f),
    )
    paths = [fine[0], coarse, fine[1]]
    bands = [Band(p.stem, str(p), 1, 1.0, 0.0, None) for p in paths]
    with ExitStack() as stack:
        found = list(rasters.open_rasters(bands, stack))
        assert [(r.bands, r.shape, r.gsd) for r in found] == [
            ((0, 2), (20, 20), 10.0),
            ((1,), (10, 10), 20.0),
        ]
        assert found[0].read(0, 1, 0, 1)[0].shape == (2, 1, 1)


@pytest.mark.parametrize(
    ("kind", "excluded", "clear"),
    [("classes", (0, 3, 8), [False, False, True, True]), ("bits", (3,), [True, True, True, False])],
)
def test_a_class_layer_tells_clear_from_cloud(tmp_path, kind, excluded, clear):
    stored = np.zeros((1, 1, 4), np.uint8)
    stored[0, 0] = 0, 3, 4, 12
    layer = CloudLayer(str(write(tmp_path / "SCL.tif", stored)), 1, kind, excluded)
    with ExitStack() as stack:
        raster = rasters.open_cloud(layer, stack)
        assert raster.cloud and raster.bands == ()
        assert raster.read(0, 1, 0, 4)[1][0, 0].tolist() == clear


def test_a_jpeg_2000_named_tif_is_opened(tmp_path):
    path = write(tmp_path / "a.jp2", driver="JP2OpenJPEG").rename(tmp_path / "a.tif")
    assert path.read_bytes()[4:6] == b"jP"
    assert rasters.read_header(path).count == 1


def test_a_virtual_raster_is_refused_whatever_its_name(tmp_path):
    path = tmp_path / "a.tif"
    path.write_text("<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>")
    with pytest.raises(BadInput, match=r"a\.tif: expected a raster .*found a virtual raster"):
        rasters.read_header(path)
    assert not rasters.is_raster(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [("none.tif", "found no such file"), ("README.md", "found another kind"), ("", "Is a direc")],
)
def test_what_is_no_raster_is_refused_by_name(tmp_path, name, message):
    (tmp_path / "README.md").write_text("# no raster")
    with pytest.raises(BadInput, match=message):
        rasters.read_header(tmp_path / name)


def test_a_tiff_cut_short_is_refused_at_its_header(tmp_path):
    path = write(tmp_path / "a.tif", np.random.default_rng(0).integers(0, 9999, (1, 200, 200)))
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(BadInput, match=r"a\.tif: expected \d+ bytes by its header, found \d+"):
        rasters.read_header(path)


def test_damage_within_a_file_is_one_line_when_it_is_read(tmp_path):
    stored = np.random.default_rng(0).integers(0, 9999, (1, 200, 200))
    path = write(tmp_path / "a.tif", stored.astype(np.uint16), compress="deflate")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 4000] = b"x" * 4000
    path.write_bytes(data)
    with pytest.raises(BadInput, match=r"a\.tif: expected pixels .*damaged") as caught:
        read(path, (1, None), window=(0, 200, 0, 200))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("driver", ["JPEG", "PNG", "JP2OpenJPEG"])
def test_a_picture_cut_short_is_an_error_and_not_grey(tmp_path, driver):
    stored = np.random.default_rng(0).integers(0, 255, (3, 300, 300)).astype(np.uint8)
    path = write(tmp_path / "a.bin", stored, driver=driver)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(BadInput, match=r"a\.bin: expected"):
        read(path, (1, None), window=(0, 300, 0, 300))


def test_a_header_that_promises_too_much_is_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "a.tif")
    monkeypatch.setattr(rasters, "MAX_PIXELS", 399)
    with pytest.raises(BadInput, match="expected at most 399 pixels"):
        rasters.read_header(path)
    monkeypatch.setattr(rasters, "MAX_PIXELS", 400)
    monkeypatch.setattr(rasters, "MAX_BLOCK", 100)
    with pytest.raises(BadInput, match="blocks of at most 100 bytes"):
        rasters.read_header(path)


def test_complex_samples_are_refused(tmp_path):
    with pytest.raises(BadInput, match="expected integer or real samples, found complex64"):
        rasters.read_header(write(tmp_path / "a.tif", np.ones((1, 20, 20), np.complex64)))


def test_windows_of_a_large_tiled_raster_read_no_more_than_their_tiles(tmp_path):
    stored = np.zeros((3, 1024, 1024), np.uint16)
    stored[:, 512:514, 512:514] = 7
    path = write(
        tmp_path / "a.tif", stored, tiled=True, compress="deflate", blockxsize=256, blockysize=256
    )
    data = bytearray(path.read_bytes())
    values, _ = read(path, (1, None), (3, None), window=(500, 520, 500, 520))
    assert values.shape == (2, 20, 20) and (values == 7).sum() == 8
    # All but the four tiles under the window may be rubbish: they are not looked at.
    with rasters.opened(path) as source:
        item = source.get_tag_item
        keep = [
            (
                int(item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1)),
                int(item(f"BLOCK_SIZE_{x}_{y}", "TIFF", bidx=1)),
            )
            for x in (1, 2)
            for y in (1, 2)
        ]
        first = min(
            int(item(f"BLOCK_OFFSET_{x}_{y}", "TIFF", bidx=1)) for x in range(4) for y in range(4)
        )
    safe = [(start, bytes(data[start : start + size])) for start, size in keep]
    data[first:] = b"\xff" * (len(data) - first)
    for start, piece in safe:
        data[start : start + len(piece)] = piece
    path.write_bytes(data)
    assert (read(path, (1, None), (3, None), window=(500, 520, 500, 520))[0] == 7).sum() == 8


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(remotefile, "DEADLINE", 2.0)
    monkeypatch.setattr(remotefile, "_servers", {})
    with serving() as one:
        yield one


def remote(server, path):
    """The URL of a file that the server has from now on, under another name."""
    server.objects["/far/scene"] = path.read_bytes()
    return f"{server.url}/far/scene"


NOISE = np.random.default_rng(0).integers(1, 9999, (2, 600, 600)).astype(np.uint16)


@pytest.mark.parametrize(
    "profile",
    [
        {"driver": "GTiff", "tiled": True, "blockxsize": 128, "blockysize": 128},
        {"driver": "GTiff", "compress": "deflate", "names": ("B1", "B2"), "scales": (0.1, 0.2)},
        {"driver": "JP2OpenJPEG"},
        {"driver": "HFA"},
    ],
)
def test_a_file_on_the_network_is_read_as_one_on_this_machine(tmp_path, server, profile):
    if "scales" in profile:
        profile["offsets"] = (1, 2)
    end = {"GTiff": "tif", "HFA": "img"}.get(profile.get("driver", "GTiff"), "jp2")
    path = write(tmp_path / f"a.{end}", NOISE, **profile)
    url = remote(server, path)
    here, there = rasters.read_header(path), rasters.read_header(url)
    assert replace(there, path=here.path) == here
    for window in ((0, 600, 0, 600), (100, 140, 500, 600)):
        for one, other in zip(
            read(path, (1, None), (2, 7.0), window=window),
            read(url, (1, None), (2, 7.0), window=window),
            strict=True,
        ):
            assert np.array_equal(one, other)
    assert {asked for _, asked in server.seen} == {"/far/scene"}, "nothing beside it"


def test_a_mask_within_a_file_on_the_network_hides_pixels(tmp_path, server):
    mask = np.full((20, 20), 255, np.uint8)
    mask[0, 0] = 0
    _, valid = read(remote(server, write(tmp_path / "a.tif", mask=mask)), (1, None))
    assert not valid[0, 0, 0] and valid.sum() == 399


def test_a_window_takes_few_of_the_bytes_of_a_file_on_the_network(tmp_path, server, monkeypatch):
    tiles = {"tiled": True, "blockxsize": 128, "blockysize": 128, "interleave": "band"}
    path = write(tmp_path / "a.tif", NOISE.repeat(2, 1).repeat(2, 2), **tiles)
    sent = []
    piece = remotefile.RemoteStore.piece
    monkeypatch.setattr(
        remotefile.RemoteStore, "piece", lambda *a: (sent.append(a[3] - a[2]), piece(*a))[1]
    )
    read(remote(server, path), (1, None), window=(600, 610, 600, 610))
    assert sum(sent) < path.stat().st_size / 20
    assert len(server.seen) <= 6


def test_two_files_on_the_network_are_open_at_once(tmp_path, server):
    bands = []
    for at in range(2):
        server.objects[f"/far/{at}"] = write(
            tmp_path / f"{at}.tif", NOISE[at : at + 1]
        ).read_bytes()
        bands.append(Band(f"b{at}", f"{server.url}/far/{at}", 1, 1.0, 0.0, None))
    with ExitStack() as stack:
        (raster,) = rasters.open_rasters(bands, stack)
        assert np.array_equal(raster.read(0, 600, 0, 600)[0], NOISE)


def test_what_the_network_does_not_give_is_said_and_not_taken_for_damage(tmp_path, server):
    url = remote(server, write(tmp_path / "a.tif", NOISE, compress="deflate"))
    rasters.read_header(url)
    said = r"/far/scene: expected an answer .* HTTP 503"
    with pytest.raises(StoreUnreachable, match=said), ExitStack() as stack:
        (raster,) = rasters.open_rasters([Band("b", url, 1, 1.0, 0.0, None)], stack)
        server.break_("GET", "/far/", "status", times=99)
        raster.read(0, 600, 0, 600)


def test_a_file_on_the_network_that_is_none_or_cut_short_is_refused(tmp_path, server):
    with pytest.raises(BadInput, match="found no such file"):
        rasters.read_header(f"{server.url}/far/none.tif")
    server.objects["/far/scene"] = b"<VRTDataset rasterXSize='1' rasterYSize='1'></VRTDataset>"
    with pytest.raises(BadInput, match=r"/far/scene: expected a raster .*found a virtual raster"):
        rasters.read_header(f"{server.url}/far/scene")
    url = remote(server, write(tmp_path / "a.tif", NOISE))
    server.objects["/far/scene"] = server.objects["/far/scene"][:-5000]
    with pytest.raises(BadInput, match=r"/far/scene: expected \d+ bytes by its header, found"):
        rasters.read_header(url)
    with pytest.raises(BadInput, match="without user, password, query"):
        rasters.read_header(f"{server.url}/far/scene?key=SECRET")
