"""Archives of single bands: built, added to, searched within a band, put together again."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio
from kills import killed_runs
from rasterio import Affine
from test_jobs import quiet

import embarchive
from embarchive import errors, jobs, verify
from embarchive.cli import main
from embarchive.recipe import Recipe
from embarchive.store import open_store

RECIPE = Recipe(
    precision=5, gsd=240.0, region_prefix=3, dim=16, bits=64, steps=60, adapter_steps=40, batch=8,
    single_band=True,
)  # fmt: skip
FINE = {"precision": 6, "gsd": 80.0}
SIDE = 240


def write(folder, band, values=(2000, 400), day="20230601", step=60):
    """A raster of one band, 14.4 km a side, with the same fields in every band and date."""
    field = np.random.default_rng(1).normal(0, 1, (SIDE // 8, SIDE // 8)).repeat(8, 0).repeat(8, 1)
    noise = np.random.default_rng(int(day) + len(band)).normal(0, 0.1, field.shape)
    pixels = (values[0] + values[1] * (field + noise))[:: step // 60, :: step // 60]
    path = folder / f"T33XYZ_{day}_{band}.tif"
    place = Affine(step, 0, 500_000, 0, -step, 5_100_000)
    side = len(pixels)
    with rasterio.open(
        path, "w", driver="GTiff", width=side, height=side, count=1, dtype="float32",
        crs="EPSG:32633", transform=place, nodata=-1.0,
    ) as out:  # fmt: skip
        out.write(pixels.astype(np.float32), 1)
    return path


def build(out, paths, **more):
    recipe = replace(RECIPE, **more)
    jobs.build([str(path) for path in paths], str(out), recipe, workers=1, progress=quiet)
    return embarchive.open_archive(out)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bands")


@pytest.fixture(scope="module")
def first(folder):
    """B02 and, at half the resolution, a band in Kelvin."""
    paths = [write(folder, "B02"), write(folder, "B10", (290, 4), step=120)]
    return build(folder / "A", paths)


@pytest.fixture(scope="module")
def added(folder, first):
    """The same, with B08 that came later."""
    out = Path(first.root)
    before = first.spaces, first.models().to_pylist(), len(first)
    return before, build(out, [write(folder, "B08", (3000, 900))])


def errors_of(archive, band, spread):
    """Root of the mean squared error of a band's rows, in its spread."""
    rows = archive.select(columns=["mse"], band=band)["mse"].to_pylist()
    return float(np.sqrt(np.mean(rows)) / spread)


def test_every_band_is_a_tile_in_its_own_units(first):
    assert first.settings.bands == ("any",) and first.bands == ["B02", "B10"]
    assert first.info()["bands"] == ["B02", "B10"]
    sources = set(first.select()["source"].to_pylist())
    assert {name.rpartition(":")[2] for name in sources} == {"B02", "B10"}
    kelvin = first.decode(first.select(band="B10"))
    assert kelvin.shape[1] == 1 and abs(float(kelvin.mean()) - 290) < 2
    assert abs(float(first.decode(first.select(band="B02")).mean()) - 2000) < 200
    # Bands of very different values are told apart from their means equally well.
    assert errors_of(first, "B02", 400) < 0.9
    assert errors_of(first, "B10", 4) < 0.9


def test_a_new_band_joins_without_touching_what_is_there(added):
    (spaces, models, tiles), after = added
    assert after.generation == 2 and len(after) == 1.5 * tiles
    old, new = spaces[-1], after.spaces[-1]
    for name in ("space_id", "encoder", "backbone", "scale", "simhash"):
        assert getattr(old, name) == getattr(new, name)
    assert set(new.trained["bands"]) == {"B02", "B08", "B10"}
    assert all(new.trained["bands"][name] == old.trained["bands"][name] for name in ("B02", "B10"))
    rows = after.models().to_pylist()
    assert all(row in rows for row in models)
    assert {row["region"].split()[-1] for row in rows} == {"B02", "B08", "B10"}
    assert errors_of(after, "B08", 900) < 0.9
    assert abs(float(after.decode(after.select(band="B08")).mean()) - 3000) < 400
    assert verify.verify(open_store(after.root))["ok"]


def test_a_band_that_is_alike_but_for_its_values_has_the_same_vectors(added):
    _, after = added
    columns = ["embedding", "geohash"]
    z = {
        band: np.array(after.select(columns=columns, band=band)["embedding"].to_pylist())
        for band in ("B02", "B08")
    }
    gap = np.linalg.norm(z["B02"] - z["B08"], axis=1).mean()
    other = np.linalg.norm(z["B02"] - np.roll(z["B02"], 1, axis=0), axis=1).mean()
    assert gap < 0.5 * other


def test_a_search_stays_within_a_band_and_asks_which(added, folder):
    _, after = added
    place = after.select(columns=["geohash"])["geohash"][0].as_py()
    hits = after.search(like=[place], k=50, band="B08", columns=["source"])
    assert {name.rpartition(":")[2] for name in hits["source"].to_pylist()} == {"B08"}
    with pytest.raises(errors.BadInput, match="a tile a band: expected band, one of B02, B08, B10"):
        after.search(like=[place])
    with pytest.raises(errors.BadInput, match="single band that the archive has"):
        after.select(band="B05")
    with pytest.raises(errors.BadInput, match="expected a place in an archive of single bands"):
        after.search(like=[folder / "T33XYZ_20230601_B02.tif"], band="B08")


def test_bands_of_a_place_and_date_are_stacked_for_an_index(added):
    _, after = added
    table, images = embarchive.stack_bands(after, ["B08", "B02"])
    assert table.column_names == ["geohash", "datetime"]
    assert images.shape[:2] == (len(after) // 3, 2)
    for at, band in enumerate(("B08", "B02")):
        row = after.select(band=band, geohash=table["geohash"][1].as_py())
        assert np.allclose(images[1, at], after.decode(row)[0, 0], rtol=1e-5)
    index = (images[:, 0] - images[:, 1]) / images.sum(axis=1)
    assert 0.1 < float(index.mean()) < 0.3
    none = embarchive.stack_bands(after, ["B08", "B02"], datetime="1999-01-01")
    assert len(none[0]) == 0 and none[1].shape[:2] == (0, 2)
    with pytest.raises(errors.BadInput, match="expected distinct bands"):
        embarchive.stack_bands(after, ["B08", "B08"])


def test_a_feed_is_of_a_band(added):
    _, after = added
    fed = list(embarchive.TileDataset(after, images=True, band="B10"))
    assert len(fed) == len(after) // 3
    assert all(abs(float(tile["image"].mean()) - 290) < 20 for tile in fed)
    places = embarchive.TileDataset(after, sequences=True, min_dates=1, band="B10")
    assert sum(len(place["embeddings"]) for place in places) == len(after) // 3
    with pytest.raises(errors.BadInput, match="sequences: expected band, one of B02, B08, B10"):
        embarchive.TileDataset(after, sequences=True)


def test_the_same_scenes_again_add_nothing(added, folder):
    _, after = added
    again = build(Path(after.root), [folder / "T33XYZ_20230601_B02.tif"])
    assert len(again) == len(after)


def test_drift_of_a_band_is_that_bands_alone(folder, tmp_path):
    out = tmp_path / "A"
    some = [write(tmp_path, "B02"), write(tmp_path, "B10", (290, 4))]
    before = build(out, some, **FINE)
    later = [
        write(tmp_path, "B02", (4000, 1600), day="20230801"),
        write(tmp_path, "B10", (290, 4), day="20230801"),
    ]
    after = build(out, later, **FINE)
    seen = after.spaces[-1].trained["drift"]
    assert {row["region"].split()[-1] for row in seen["worst"]} == {"B02"}
    assert seen["refitted"] >= 1
    assert len(after.models()) == len(before.models()) + seen["refitted"]
    assert errors_of(after, "B02", 1600) < 1.5
    assert verify.verify(open_store(str(out)))["ok"]


def test_whole_networks_of_a_band_decode_in_its_units(tmp_path):
    paths = [write(tmp_path, "B02"), write(tmp_path, "B10", (290, 4))]
    found = build(tmp_path / "A", paths, codec="full", **FINE)
    assert "full" in found.info()["decoders"]
    assert abs(float(found.decode(found.select(band="B10")).mean()) - 290) < 2


def test_array_jobs_add_a_band_as_one_build_does(folder, tmp_path):
    paths = [write(tmp_path, "B02"), write(tmp_path, "B10", (290, 4))]
    found = []
    for name in "AB":
        out = str(tmp_path / name)
        build(out, paths[:1], **FINE)
        if name == "A":
            found.append(build(out, paths[1:], **FINE))
            continue
        jobs.plan([str(paths[1])], out, replace(RECIPE, **FINE), parts=2)
        for part in range(2):
            jobs.train(out, plan=None, part=(part, 2), backbone=False, progress=quiet)
        for part in range(2):
            jobs.encode(out, plan=None, part=(part, 2), progress=quiet)
        jobs.commit(out, plan=None, progress=quiet)
        found.append(embarchive.open_archive(out))
    rows = [one.select(columns=["geohash", "source", "model_id", "mse"]) for one in found]
    assert rows[0].to_pylist() == rows[1].to_pylist()
    assert found[0].spaces == found[1].spaces


def test_an_append_of_a_band_killed_at_random_completes_when_run_again(first, tmp_path):
    out = Path(shutil.copytree(first.root, tmp_path / "A"))
    scene = write(tmp_path, "B05", (1000, 100))
    job = f"build([{str(scene)!r}], {str(out)!r}, {RECIPE!r}"
    for _ in killed_runs(job, 1.5, 5.0):
        assert embarchive.open_archive(out).spaces[-1].space_id == first.spaces[-1].space_id
    after = build(out, [scene])
    assert "B05" in after.bands and len(after.select(band="B05"))
    assert verify.verify(open_store(str(out)))["ok"]


def test_a_new_space_of_single_bands_learns_them_anew(first, folder, tmp_path):
    out = Path(shutil.copytree(first.root, tmp_path / "A"))
    paths = [str(folder / f"T33XYZ_20230601_{band}.tif") for band in ("B02", "B10")]
    recipe = replace(RECIPE, single_band=False, seed=1)
    jobs.reencode(paths, str(out), recipe, workers=1, progress=quiet)
    after = embarchive.open_archive(out)
    assert len(after.spaces) == 2 and set(after.spaces[1].trained["bands"]) == {"B02", "B10"}
    kelvin = after.decode(after.select(band="B10"))
    assert abs(float(kelvin.mean()) - 290) < 2


def test_bands_of_two_resolutions_make_one_tile_where_bands_are_together(tmp_path):
    paths = [write(tmp_path, "B02"), write(tmp_path, "B11", (1000, 100), step=120)]
    found = build(tmp_path / "A", paths, single_band=False)
    assert found.settings.bands == ("B02", "B11")
    images = found.decode(found.select())
    assert np.allclose(images.mean(axis=(0, 2, 3)), (2000, 1000), atol=200)


def test_a_command_needs_the_band(first, tmp_path):
    out = str(tmp_path / "x.tif")
    place = first.select(columns=["geohash"])["geohash"][0].as_py()
    line = ["decode", first.root, "--geohash", place, "--out", out]
    assert main(line) == 2
    assert main([*line, "--band", "B10"]) == 0
    with rasterio.open(out) as image:
        assert image.count == 1 and abs(float(np.nanmean(image.read())) - 290) < 10
    assert main(["search", first.root, "--like", place, "--band", "B10"]) == 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"codec": "shared"}, "codec of single bands must be adapter or full, found 'shared'"),
        ({"quality": "32 bytes"}, "quality of single bands must be none"),
        ({"indices": {"x": ("a", "b")}}, "indices of single bands must be none"),
    ],
)
def test_what_needs_bands_together_is_refused(more, said):
    with pytest.raises(errors.BadInput, match=said):
        replace(RECIPE, **more)


def test_bands_together_are_no_archive_of_single_bands(tmp_path):
    path = write(tmp_path, "B02")
    together = build(tmp_path / "A", [path], single_band=False)
    with pytest.raises(errors.BadInput, match="archive's bands together, found single_band"):
        build(tmp_path / "A", [path])
    with pytest.raises(errors.BadInput, match="found one of bands together"):
        embarchive.stack_bands(together, ["B02"])
    with pytest.raises(errors.BadInput, match="expected a single band"):
        together.select(band="B02")
