"""What embeddings and decodes are worth: hits look alike, also across regions and latitudes,
and pictures are better than their mean colour. `benchmarks/bench_first_light.py` has more."""

import numpy as np
import pytest

pytest.importorskip("torch")
rasterio = pytest.importorskip("rasterio")

from rasterio.transform import Affine  # noqa: E402
from rasterio.warp import transform as reproject  # noqa: E402

from embarchive import grid, jobs  # noqa: E402
from embarchive.archive import open_archive  # noqa: E402
from embarchive.encode import normalised_difference  # noqa: E402
from embarchive.gather import gather  # noqa: E402
from embarchive.recipe import Recipe  # noqa: E402
from embarchive.regions import region_of  # noqa: E402
from embarchive.scenes import find_scenes  # noqa: E402

SHORT = Recipe(precision=5, gsd=200.0, steps=150, adapter_steps=40)
UTM = "EPSG:32634"


def silent(stage, done, total):
    pass


@pytest.fixture(scope="session")
def alps(real_data, tmp_path_factory):
    """Two dates and two tiles of Sentinel-2 at 120 m: the archive, and of each row its geohash,
    column and row, region, valid fraction and the mean NDVI of its original chip."""
    home = real_data / "s2_l2a_33TW_aug2023"
    if not home.is_dir():
        pytest.skip(f"no {home.name} in the real imagery")
    paths = [str(folder) for day in (15, 20) for folder in sorted(home.glob(f"*_202308{day}_*"))]
    out = tmp_path_factory.mktemp("alps") / "archive"
    jobs.build(paths, str(out), SHORT, workers=1, progress=silent)
    archive = open_archive(out)
    s = archive.settings
    pair = tuple(map(s.bands.index, s.indices["ndvi"]))
    known = {}
    for scene in find_scenes(paths, SHORT):
        chips = gather([scene], s, None, 1 << 30, lambda done, total: None)
        ndvi = (normalised_difference(chips.pixels, pair) * chips.valid).sum(axis=(1, 2))
        ndvi /= np.maximum(chips.valid.sum(axis=(1, 2)), 1)
        for name, value in zip(chips.geohash.tolist(), ndvi.tolist(), strict=True):
            known[name, scene.datetime, scene.source] = value
    rows = archive.select(columns=["geohash", "datetime", "source", "valid_fraction"])
    keys = key_of(rows)
    names = np.array([key[0] for key in keys])
    return archive, {
        "keys": {key: i for i, key in enumerate(keys)},
        "like": [f"{key[0]}@{key[1]:%Y-%m-%d}" for key in keys],
        "place": np.stack(grid.cell_indices(names), axis=1),
        "region": region_of(names, s),
        "valid": rows["valid_fraction"].to_numpy(),
        "ndvi": np.array([known[key] for key in keys]),
    }


def key_of(rows):
    names = ("geohash", "datetime", "source")
    return list(zip(*(rows[name].to_pylist() for name in names), strict=True))


def ndvi_ratio(archive, truth, elsewhere):
    """Median |difference of mean NDVI| of ten hits over that of random tiles."""
    rng = np.random.default_rng(0)
    close, far = [], []
    for query in rng.choice(np.flatnonzero(truth["valid"] >= 0.8), 60, replace=False):
        hits = archive.search(truth["like"][query], k=len(truth["ndvi"]) if elsewhere else 40)
        found = np.array([truth["keys"][key] for key in key_of(hits)])
        other = rng.choice(len(truth["ndvi"]), 200)
        for rows, into in ((found, close), (other, far)):
            apart = np.abs(truth["place"][rows] - truth["place"][query]).max(axis=1) > 2
            if elsewhere:
                apart &= truth["region"][rows] != truth["region"][query]
            rows = rows[apart][:10] if into is close else rows[apart]
            into += np.abs(truth["ndvi"][rows] - truth["ndvi"][query]).tolist()
    return np.median(close) / np.median(far)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_hits_are_as_green_as_the_query_also_in_other_regions(alps, elsewhere):
    archive, truth = alps
    assert len(np.unique(truth["region"])) > 1
    assert ndvi_ratio(archive, truth, elsewhere) <= 0.6


def test_held_out_tiles_decode_better_than_their_mean_colour(alps):
    rows = [row for row in alps[0].models().to_pylist() if row["test_tiles"]]
    assert rows
    assert all(row["mse"] < row["mse_tile_mean"] for row in rows)


def test_stored_tiles_decode_better_than_their_mean_colour(alps):
    """The picture that a reader gets, against the original chip."""
    archive, _ = alps
    rows = archive.select(columns=["geohash", "mse", "valid_fraction"])
    whole = rows.filter(np.asarray(rows["valid_fraction"]) >= 0.99)
    table = archive.models().to_pylist()
    mean = np.median([row["mse_tile_mean"] for row in table if row["mse_tile_mean"]])
    assert np.median(whole["mse"].to_numpy()) < mean


# ---------------------------------------------------------------- latitude


def texture(rng, height, width, grain):
    """Four uint16 bands of one texture: cloudy noise with a spectrum, level and colour."""
    fall = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width))
    fall[0, 0] = 1
    noise = np.fft.ifft2(np.fft.fft2(rng.normal(size=(height, width))) / fall**grain).real
    colour, level = rng.uniform(50, 300, 4), rng.uniform(600, 3000, 4)
    bands = level[:, None, None] + colour[:, None, None] * noise / noise.std()
    return np.clip(bands, 1, 10_000).astype(np.uint16)


def write(path, pixels, west, north):
    with rasterio.open(
        path, "w", driver="GTiff", width=pixels.shape[2], height=pixels.shape[1], count=4,
        dtype="uint16", crs=UTM, transform=Affine(10, 0, west, 0, -10, north), nodata=0,
    ) as out:  # fmt: skip
        out.write(pixels)
        out.descriptions = ("B02", "B03", "B04", "B08")
    return str(path)


def lay(path, pixels, lon, lat):
    """Write pixels of 10 m centred on the cell that holds a place; its geohash."""
    cell = str(grid.encode(lon, lat, 6))
    x, y = reproject("EPSG:4326", UTM, *([float(v)] for v in grid.centers([cell])[0]))
    write(path, pixels, x[0] - 5 * pixels.shape[2], y[0] + 5 * pixels.shape[1])
    return cell


def test_a_patch_at_latitude_5_finds_its_copy_at_65_and_back(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latitudes")
    rng = np.random.default_rng(0)
    plain = [texture(rng, 130, 1040, grain) for grain in np.linspace(0.3, 1.8, 8)]
    write(folder / "plain.tif", np.concatenate(plain, axis=1), 500_000, 6_800_000)
    pairs = []
    for i, grain in enumerate((0.4, 0.9, 1.2, 1.6)):
        patch = texture(rng, 150, 190, grain)
        cells = [lay(folder / f"{i}-{lat}.tif", patch, 20.8 + 0.1 * i, lat) for lat in (5, 65)]
        pairs += [cells, cells[::-1]]
    out = folder / "archive"
    recipe = Recipe(precision=6, steps=100, adapter_steps=20, region_prefix=1)
    jobs.build([str(folder)], str(out), recipe, workers=1, progress=silent)
    archive = open_archive(out)
    for query, copy in pairs:
        assert copy in archive.search(query, k=5)["geohash"].to_pylist()
