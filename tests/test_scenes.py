"""Scenes found and opened, from synthetic folders and from real imagery."""

import json
from dataclasses import replace

import numpy as np
import pytest
from faults import serving
from rasterfiles import PLACE, stac_item, write, write_landsat, write_safe
from rasterio import Affine

from embarchive import remotefile
from embarchive.errors import BadInput
from embarchive.recipe import Recipe
from embarchive.scenes import (
    find_scenes,
    image_scene,
    open_scene,
    read_image,
    scene_from_json,
    scene_to_json,
)


def find(*paths, **recipe):
    return find_scenes(paths, Recipe(**recipe))


def names(scene):
    return [band.name for band in scene.bands]


def test_a_safe_folder_becomes_reflectance_with_clouds_apart(tmp_path):
    write_safe(tmp_path)
    (scene,) = find(tmp_path)
    assert (
        names(scene) == ["B01", "B02", "B05"] and scene.gsd == 10 and scene.units == "reflectance"
    )
    with open_scene(scene) as reader:
        assert sorted(r.gsd for r in reader.rasters) == [10, 20, 20, 60]
        fine = next(r for r in reader.rasters if r.gsd == 10)
        (value,) = np.unique(fine.read(0, 5, 0, 5)[0])
        assert value * scene.bands[1].scale + scene.bands[1].offset == pytest.approx(0.1)
        assert reader.rasters[-1].cloud and reader.rasters[-1].read(0, 2, 0, 2)[1].all()


def test_a_companion_is_read_when_the_recipe_names_it(tmp_path):
    write_safe(tmp_path)
    assert names(find(tmp_path, bands=("B02", "AOT"))[0]) == ["B02", "AOT"]


def test_a_landsat_folder_opens_with_its_mask(tmp_path):
    write_landsat(tmp_path)
    (scene,) = find(tmp_path, bands=("B4",))
    assert names(scene) == ["B4"] and scene.datetime.hour == 9
    with open_scene(scene) as reader:
        data, cloud = reader.rasters
        assert cloud.read(0, 1, 0, 3)[1].tolist() == [[[False, False, True]]]
        assert data.read(0, 1, 0, 1)[0][0, 0, 0] * scene.bands[0].scale - 0.2 < 0


def test_a_stac_item_with_files_of_two_resolutions(tmp_path):
    write(tmp_path / "B04.tif")
    coarse = Affine(20, 0, PLACE.c, 0, -20, PLACE.f)
    write(tmp_path / "B11.tif", np.ones((1, 10, 10), np.uint16), transform=coarse)
    assets = {name: {"href": f"./{name}.tif"} for name in ("B04", "B11")}
    item = stac_item("one", assets, platform="sentinel-2b", **{"s2:processing_baseline": "05.09"})
    (tmp_path / "one.json").write_text(json.dumps(item))
    (scene,) = find(tmp_path / "one.json")
    assert (scene.source, scene.gsd, scene.bands[0].offset) == ("one", 10.0, -0.1)


def test_a_stac_item_whose_file_is_missing_is_refused(tmp_path):
    (tmp_path / "one.json").write_text(json.dumps(stac_item("one", {"B04": {"href": "B04.tif"}})))
    with pytest.raises(BadInput, match=r"B04\.tif: .*no such file"):
        find(tmp_path)


def test_dates_and_sources_of_a_stack_are_distinct(tmp_path):
    path = write(tmp_path / "stack.tif", np.ones((4, 20, 20), np.int16))
    scenes = find(path, bands=("red", "nir"), dates=("2018-04-29", "2018-05-13"))
    assert [scene.source for scene in scenes] == ["stack_20180429", "stack_20180513"]
    assert [band.index for band in scenes[1].bands] == [3, 4]


def test_single_bands_are_scenes_that_say_which_and_have_their_own_resolution(tmp_path):
    path = write(tmp_path / "stack.tif", np.ones((4, 20, 20), np.int16))
    dates = ("2018-04-29", "2018-05-13")
    scenes = find(path, bands=("red", "nir"), dates=dates, single_band=True)
    assert [scene.source for scene in scenes] == [
        "stack_20180429:nir", "stack_20180429:red", "stack_20180513:nir", "stack_20180513:red",
    ]  # fmt: skip
    assert [scene.bands[0].index for scene in scenes] == [2, 1, 4, 3]
    for folder in "ab":
        write(tmp_path / folder / "x.tif", np.ones((2, 20, 20), np.int16))
    found = find(tmp_path / "a", tmp_path / "b", single_band=True)
    names = {f"{name}:band{at}" for name in ("x", "b_x") for at in (1, 2)}
    assert {scene.source for scene in found} == names


def test_single_bands_may_have_other_units_and_resolutions(tmp_path):
    write(tmp_path / "a.tif", scales=(0.01,), offsets=(0.0,))
    coarse = Affine(20, 0, PLACE.c, 0, -20, PLACE.f)
    write(tmp_path / "b.tif", np.ones((1, 10, 10), np.uint16), transform=coarse)
    scenes = find(tmp_path, single_band=True)
    assert [(scene.units, scene.gsd) for scene in scenes] == [("scaled", 10.0), ("stored", 20.0)]


def test_a_timeline_beside_files_of_one_band_dates_them(tmp_path):
    for band in ("red", "nir"):
        write(tmp_path / f"{band}.tif", np.ones((2, 20, 20), np.int16))
    (tmp_path / "timeline").write_text("2007-09-14\n2007-09-30\n")
    scenes = find(tmp_path)
    assert [(names(scene), scene.datetime.day) for scene in scenes] == [
        (["nir", "red"], 14),
        (["nir", "red"], 30),
    ]


def test_equal_file_names_get_distinct_sources(tmp_path):
    for folder in "ab":
        write(tmp_path / folder / "x.tif")
    assert {scene.source for scene in find(tmp_path)} == {"x", "b_x"}


def test_the_date_is_the_recipes_the_tags_the_names_or_the_day_of_writing(tmp_path):
    writing = {"TIFFTAG_DATETIME": "2024:01:05 00:00:00"}
    write(tmp_path / "a.tif", tags=writing)
    write(tmp_path / "b_20230804.tif", tags=writing)
    write(tmp_path / "c_20230804.tif", tags={"ACQUISITION": "2023-08-03", **writing})
    days = {scene.source[0]: scene.datetime.day for scene in find(tmp_path)}
    assert days == {"a": 5, "b": 4, "c": 3}
    assert {scene.datetime.day for scene in find(tmp_path, dates=("2023-08-02",))} == {2}


def test_scenes_of_other_bands_are_refused_by_name(tmp_path):
    write(tmp_path / "a.tif")
    write(tmp_path / "b.tif", np.ones((2, 20, 20), np.uint8))
    with pytest.raises(
        BadInput, match=r"scene b: expected, as in a, bands band1 \(1\), found band1, band2 \(2\)"
    ):
        find(tmp_path)


def test_scenes_of_other_units_are_refused(tmp_path):
    write(tmp_path / "a" / "B04.tif")
    write(tmp_path / "S2A_33TWL_20230815_0_L2A" / "B04.tif")
    with pytest.raises(BadInput, match="found stored ones; give scale and offset in the recipe"):
        find(tmp_path)
    assert {scene.units for scene in find(tmp_path, scale=1e-4)} == {"scaled"}


def test_strangers_in_a_folder_are_told_and_left_out(tmp_path):
    write(tmp_path / "a.tif")
    write(tmp_path / "photo.png", np.ones((3, 20, 20), np.uint8), None, None, driver="PNG")
    (tmp_path / "photo.png.aux.xml").unlink(missing_ok=True)
    (tmp_path / "fake.tif").write_text("no raster")
    skipped = {}
    scenes = find_scenes([tmp_path], Recipe(), lambda path, why: skipped.update({path.name: why}))
    assert len(scenes) == 1
    assert skipped == {
        "fake.tif": "not a raster of a known format",
        "photo.png": "a picture without a place on the ground",
    }


@pytest.mark.parametrize("how", [{"crs": None}, {"transform": None}])
def test_a_raster_without_a_place_is_refused_in_a_folder_too(tmp_path, how):
    write(tmp_path / "a.tif", **how)
    with pytest.raises(BadInput, match=r"a\.tif: expected a "):
        find(tmp_path)


def test_a_folder_without_rasters_is_refused(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"x")
    with pytest.raises(BadInput, match="expected rasters, found none that can be read"):
        find(tmp_path)


def test_a_scene_survives_a_plan_and_opens_again(tmp_path):
    (scene,) = find(write(tmp_path / "a.tif"))
    again = scene_from_json(json.loads(json.dumps(scene_to_json(scene))))
    assert again == scene
    with open_scene(again) as reader:
        assert reader.rasters[0].read(0, 1, 0, 1)[0][0, 0, 0] == 1


def test_an_image_is_read_in_recipe_units_by_name_or_in_order(tmp_path):
    stored = np.stack([np.full((20, 20), v, np.uint16) for v in (100, 200)])
    named = write(tmp_path / "a.tif", stored, names=["B03", "B04"])
    assert read_image(image_scene(named, ("B04",)), 8, 8)[0, 0, 0] == 200
    plain = image_scene(write(tmp_path / "b.tif", stored, None, None), ("red", "nir"))
    assert read_image(plain, 8, 8).shape == (2, 8, 8) and plain.bounds == ()
    with pytest.raises(BadInput, match="expected band red"):
        image_scene(tmp_path / "b.tif", ("red",))


def test_an_image_in_other_units_than_the_archive_is_refused(tmp_path):
    stored = np.full((1, 20, 20), 2000, np.uint16)
    with pytest.raises(BadInput, match=r"expected reflectance values .* found stored ones"):
        image_scene(write(tmp_path / "a.tif", stored, names=["B04"]), ("B04",), "reflectance")
    scaled = write(tmp_path / "b.tif", stored, names=["B04"], scales=[0.5], offsets=[-1.0])
    found = image_scene(scaled, ("B04",), "reflectance")
    assert read_image(found, 8, 8)[0, 0, 0] == 999
    with pytest.raises(BadInput, match="expected stored values"):
        image_scene(scaled, ("B04",), "stored")
    real = write(tmp_path / "c.tif", stored.astype(np.float32), names=["B04"])
    assert image_scene(real, ("B04",), "reflectance").bands[0].scale == 1


REAL = [
    ("s2_l2a_33TW_aug2023", {}, 10, ["B02", "B03", "B04", "B08"], 120.0, "2023-08-10"),
    ("naip_nd_2009_2020", {}, 6, ["band1", "band2", "band3", "band4"], 5.0, "2009-08-18"),
    (
        "modis_mod13q1_mt_137dates",
        {"bands": ("red", "nir")},
        137,
        ["red", "nir"],
        231.66,
        "2007-09",
    ),
    ("modis_sinop_ndvi_12dates", {}, 12, ["NDVI"], 231.66, "2013-09-14"),
    ("landsat7_nc_labelled", {}, 1, [f"band{i}" for i in range(1, 6)], 28.5, "None"),
    ("oddballs/s2_antimeridian_T01WCQ", {}, 3, ["B04"], 120.0, "2023-06-02"),
    ("oddballs/gcps_only_no_transform.tif", {}, 1, ["band1"], 1514.2, "2005-03-31"),
    ("oddballs/l8_dateline_utm60_1band.tif", {}, 1, ["band1"], 100.01, "None"),
]


@pytest.mark.parametrize(("folder", "recipe", "count", "bands", "gsd", "day"), REAL)
def test_real_imagery_is_what_its_readme_says(real_data, folder, recipe, count, bands, gsd, day):
    scenes = find(real_data / folder, **recipe)
    assert len({scene.source for scene in scenes}) == count
    assert names(scenes[0]) == bands
    assert scenes[0].gsd == pytest.approx(gsd, abs=0.1)
    assert str(scenes[0].datetime).startswith(day)


def test_a_real_scene_in_two_files_is_one(real_data):
    (scene,) = find(real_data / "bigearthnet_T34VER_block")
    assert len(scene.bands) == 10 and scene.units == "reflectance"
    assert {band.offset for band in scene.bands} == {0.0}
    with open_scene(scene) as reader:
        assert [(r.gsd, len(r.bands)) for r in reader.rasters] == [(10, 4), (20, 6)]


def test_real_scenes_across_the_antimeridian_have_two_boxes(real_data):
    for name in ("s2_antimeridian_T01WCQ", "l8_dateline_utm60_1band.tif"):
        east, west = find(real_data / "oddballs" / name)[0].bounds
        assert 177 < east[0] < east[2] == 180 and -180 == west[0] < west[2] < -178


def test_a_scene_on_the_network_is_the_same_as_on_this_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(remotefile, "_servers", {})
    folder = tmp_path / "T33UVP_20230815"
    write(folder / "B04.tif"), write(folder / "SCL.tif", np.full((1, 20, 20), 4, np.uint8))
    with serving() as server:
        for path in folder.iterdir():
            server.objects[f"/{folder.name}/{path.name}"] = path.read_bytes()
        scenes = []
        for base in (".", f"{server.url}/{folder.name}"):
            assets = {name: {"href": f"{base}/{name}.tif"} for name in ("B04", "SCL")}
            (folder / "one.json").write_text(json.dumps(stac_item("one", assets)))
            scenes += find(folder / "one.json")
        here, there = scenes
        assert there.bands[0].path == f"{server.url}/{folder.name}/B04.tif"
        assert there.cloud.path == f"{server.url}/{folder.name}/SCL.tif"
        bands = tuple(replace(band, path=here.bands[0].path) for band in there.bands)
        assert replace(there, bands=bands, cloud=here.cloud) == here
        assert scene_from_json(json.loads(json.dumps(scene_to_json(there)))) == there
        with open_scene(there) as far, open_scene(here) as near:
            for one, other in zip(far.rasters, near.rasters, strict=True):
                pairs = zip(one.read(0, 9, 0, 9), other.read(0, 9, 0, 9), strict=True)
                assert all(np.array_equal(a, b) for a, b in pairs)
