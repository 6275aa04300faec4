"""From scenes to search and pictures: what an archive of real imagery is worth, set by set.

Real data from EMBARCHIVE_DATA or ../shared/data. Each set is built by library calls in a
temporary folder with the default recipe (the bands of files without names are named here;
`--steps` trains for less).
`--full-size` ends with a made 10,980 x 10,980 x 12 scene in a process of its own.

NDVI ratio: the median |difference of mean NDVI| between a query and its ten best hits, over that
between the query and random tiles. NDVI is of the original chips. The query's own cell and
every cell whose chip touches its chip are left out of both. A query counts when at least 100 tiles
are left to choose from. Red where there is no near infrared.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import report
from PIL import Image
from rasterio.transform import Affine
from rasterio.warp import transform as reproject

from embarchive import encode, grid, jobs, model, quantize, train
from embarchive.archive import Archive, open_archive
from embarchive.encode import normalised_difference
from embarchive.gather import gather
from embarchive.recipe import Recipe
from embarchive.regions import region_of
from embarchive.scenes import find_scenes

HERE = Path(__file__).parent
DATA = Path(os.environ.get("EMBARCHIVE_DATA") or HERE.parent.parent / "shared" / "data")
QUERIES, RANDOM = 100, 200
IMAGES = 4000
SIDE, BANDS = 10_980, 12
# Memory and cutting are the question there: little training.
FULL_SIZE = Recipe(steps=50, adapter_steps=10)
PEAK_LIMIT = 3072
# Fewer tiles than this show nothing, and are not judged.
LEAST_TILES = 100
LANDSAT = ("blue", "green", "red", "nir", "swir1")
LABELLED = ("embarchive int8", "per-band mean + std, standardised", "per-band mean + std, raw")
EUROSAT = "eurosat_rgb_even_cells.parquet"
Row = dict[str, Any]


@dataclass(frozen=True)
class DataSet:
    """Scenes under the data folder, and what their recipe must say."""

    title: str
    paths: tuple[str, ...]
    recipe: Recipe = field(default_factory=Recipe)


SETS = (
    DataSet("Sentinel-2 120 m, 5 dates", ("s2_l2a_33TW_aug2023",)),
    DataSet("NAIP 5 m, 6 dates", ("naip_nd_2009_2020",), Recipe(bands=("R", "G", "B", "N"))),
    DataSet(
        "Landsat 7",
        ("landsat7_nc_labelled/landsat_multiband.tif",),
        Recipe(bands=LANDSAT, dates=("2000-03-31",)),
    ),
    DataSet(
        "Sentinel-2 10 m (BigEarthNet)",
        ("bigearthnet_T34VER_block/S2A_MSIL2A_20170613T101032_T34VER_10m.tif",),
    ),
    DataSet("Sentinel-2 at the antimeridian, red", ("oddballs/s2_antimeridian_T01WCQ",)),
)


def quiet(stage: str, done: int, total: int) -> None:
    """No progress."""


def say(text: str) -> None:
    """One line on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def timed_build(paths: list[str], out: Path, recipe: Recipe) -> tuple[int, float, float]:
    """Tiles written, seconds of cutting and encoding, seconds of the whole build."""
    began = time.monotonic()
    made = jobs.plan(paths, str(out), recipe, parts=1)
    jobs.train(str(out), plan=made["plan"], part=None, backbone=False, progress=quiet)
    before = time.monotonic()
    jobs.encode(str(out), plan=made["plan"], part=(0, 1), progress=quiet)
    encoded = time.monotonic() - before
    done = jobs.commit(str(out), plan=made["plan"], progress=quiet)
    return done["tiles"], encoded, time.monotonic() - began


# ---------------------------------------------------------------- search


@dataclass(frozen=True)
class Truth:
    """Every row of an archive and its mean index of the original chip.

    geohash, region (n,); place int (n, 2): column and row; value float (n,): mean NDVI, or the
    mean of the first band; valid_fraction (n,); when: dates as text."""

    geohash: np.ndarray
    region: np.ndarray
    place: np.ndarray
    value: np.ndarray
    valid: np.ndarray
    key: dict[tuple[str, Any, str], int]
    rows: pa.Table
    reach: tuple[int, int]
    world: int

    @classmethod
    def of(cls, archive: Archive, paths: list[str], recipe: Recipe) -> Truth:
        """Cut the scenes again and take the index of each chip's valid pixels."""
        s = archive.settings
        pair = next((tuple(map(s.bands.index, pair)) for pair in s.indices.values()), None)
        found: dict[tuple[str, Any, str], float] = {}
        for scene in find_scenes(paths, recipe):
            chips = gather([scene], s, None, 4 << 30, lambda done, total: None)
            image = normalised_difference(chips.pixels, pair) if pair else chips.pixels[:, 0]
            total = (image * chips.valid).sum(axis=(1, 2), dtype=np.float64)
            means = total / np.maximum(chips.valid.sum(axis=(1, 2)), 1)
            found |= {
                (name, scene.datetime, scene.source): float(value)
                for name, value in zip(chips.geohash.tolist(), means, strict=True)
            }
        rows = archive.select(columns=["geohash", "datetime", "source", "valid_fraction"])
        keys = list(zip(*(rows[name].to_pylist() for name in rows.column_names[:3]), strict=True))
        names = np.array([key[0] for key in keys])
        west, south, east, north = grid.bounds(names[:1])[0]
        across, up = (float(one) for one in grid.metres_per_degree((south + north) / 2))
        width, height = (east - west) * across, (north - south) * up
        reach = int(-(-s.width * s.gsd // width)) - 1, int(-(-s.height * s.gsd // height)) - 1
        return cls(
            geohash=names,
            region=region_of(names, s),
            place=np.stack(grid.cell_indices(names), axis=1),
            value=np.array([found[key] for key in keys]),
            valid=rows["valid_fraction"].to_numpy(),
            key={key: i for i, key in enumerate(keys)},
            rows=rows,
            reach=(max(1, reach[0]), max(1, reach[1])),
            world=2 ** ((5 * s.precision + 1) // 2),
        )

    def apart(self, query: int, others: np.ndarray) -> np.ndarray:
        """Which rows have a chip that does not touch the query's."""
        gap = np.abs(self.place[others] - self.place[query])
        gap[:, 0] = np.minimum(gap[:, 0], self.world - gap[:, 0])
        return (gap[:, 0] > self.reach[0]) | (gap[:, 1] > self.reach[1])


def ndvi_ratio(
    archive: Archive, truth: Truth, rng: np.random.Generator, elsewhere: bool
) -> float | None:
    """Median |difference| of ten hits over that of random tiles; `elsewhere`: in other regions
    than the query's. None where no query has 100 tiles to choose from."""
    if elsewhere and len(np.unique(truth.region)) < 2:
        return None
    good = np.flatnonzero(truth.valid >= 0.8)
    picked = rng.choice(good, min(QUERIES, len(good)), replace=False)
    close, far = [], []
    touching = (2 * truth.reach[0] + 1) * (2 * truth.reach[1] + 1)
    k = len(truth.geohash) if elsewhere else 10 + touching

    def allowed(query: int, rows: np.ndarray) -> np.ndarray:
        keep = truth.apart(query, rows)
        return keep & (truth.region[rows] != truth.region[query]) if elsewhere else keep

    every = np.arange(len(truth.geohash))
    for query in picked.tolist():
        if allowed(query, every).sum() < LEAST_TILES:
            continue
        hits = archive.search(exemplar(truth, query), k=k)
        columns = [hits[name].to_pylist() for name in ("geohash", "datetime", "source")]
        rows = np.array([truth.key[key] for key in zip(*columns, strict=True)], dtype=np.intp)
        rows = rows[allowed(query, rows)][:10]
        others = rng.choice(len(truth.geohash), RANDOM)
        others = others[allowed(query, others)]
        close += np.abs(truth.value[rows] - truth.value[query]).tolist()
        far += np.abs(truth.value[others] - truth.value[query]).tolist()
    return float(np.median(close) / np.median(far)) if close and far else None


def exemplar(truth: Truth, row: int) -> str:
    """A row as a search names it."""
    when = truth.rows["datetime"][row].as_py()
    name = str(truth.geohash[row])
    return name if when is None else f"{name}@{when:%Y-%m-%d}"


def latencies(out: Path, truth: Truth, rng: np.random.Generator) -> Row:
    """A first search of a fresh reader, later ones, and 64 tiles decoded."""
    archive = open_archive(out)
    like = [exemplar(truth, i) for i in rng.choice(len(truth.geohash), 21).tolist()]
    first = archive.search(like[0], k=10).schema.metadata
    later = [float(archive.search(one, k=10).schema.metadata[b"seconds"]) for one in like[1:]]
    wanted = archive.select(columns=["geohash", "embedding", "code", "model_id"]).slice(0, 64)
    archive.decode(wanted)
    began = time.monotonic()
    archive.decode(wanted)
    return {
        "first search, ms": 1000 * float(first[b"seconds"]),
        "first search, requests": int(first[b"requests"]),
        "first search, bytes": int(first[b"bytes_read"]),
        "later searches, ms": 1000 * float(np.median(later)),
        "decode of 64 tiles, ms": 1000 * (time.monotonic() - began) * 64 / max(len(wanted), 1),
    }


# ---------------------------------------------------------------- the sets


def measure(one: DataSet, folder: Path, steps: int) -> Row:
    """Build a set and measure it."""
    paths, out = [str(DATA / path) for path in one.paths], folder / "archive"
    tiles, encoded, whole = timed_build(paths, out, replace(one.recipe, steps=steps))
    archive = open_archive(out)
    info = archive.info()
    say(f"{one.title}: {tiles} tiles in {whole:.0f} s")
    truth = Truth.of(archive, paths, one.recipe)
    return {
        "tiles": tiles,
        "regions": info["regions"],
        "training steps": steps,
        "build, s": whole,
        "cut and encode, tiles/s": tiles / encoded,
        "bytes a tile, shards": info["bytes"]["shards"] / tiles,
        "bytes, models (with ONNX)": info["bytes"]["models"],
        "bytes a tile, all of the archive": info["bytes"]["total"] / tiles,
        **held_out(archive),
        "NDVI ratio": ndvi_ratio(archive, truth, np.random.default_rng(0), False),
        "NDVI ratio, other regions": ndvi_ratio(archive, truth, np.random.default_rng(0), True),
        **latencies(out, truth, np.random.default_rng(1)),
    }


def held_out(archive: Archive) -> Row:
    """Held-out errors at the median region, recipe units."""
    rows = [row for row in archive.models().to_pylist() if row["mse"] is not None]
    mse, mean, pca = (
        np.array([row[key] for row in rows], dtype=float)
        for key in ("mse", "mse_tile_mean", "mse_pca")
    )
    if not len(rows):
        return dict.fromkeys(HELD_OUT)
    values = (
        *(float(np.median(part)) for part in (mse, mean, pca, mse / pca, mse / mean)),
        float((mse <= pca).mean()),
        float((mse < mean).mean()),
    )
    return dict(zip(HELD_OUT, values, strict=True))


HELD_OUT = (
    "held-out mse",
    "... of the tile mean",
    "... of PCA, as many numbers",
    "held-out mse / PCA",
    "held-out mse / tile mean",
    "regions at or below PCA",
    "regions below the tile mean",
)


# ---------------------------------------------------------------- labels


def eurosat(steps: int) -> Row:
    """Label precision@10 on one half of the 1-degree cells, trained on the other."""
    table = pq.read_table(DATA / EUROSAT, columns=["label", "lon", "lat", "jpeg"])
    rng = np.random.default_rng(0)
    table = table.take(np.sort(rng.permutation(len(table))[:IMAGES]))
    pixels = np.stack([_jpeg(data) for data in table["jpeg"].to_pylist()])
    label = np.array(table["label"].to_pylist())
    degree = np.floor(np.stack([table["lon"].to_numpy(), table["lat"].to_numpy()], axis=1))
    cells, owner = np.unique(degree, axis=0, return_inverse=True)
    owner = owner.ravel()
    mine = (rng.permutation(len(cells)) < len(cells) / 2)[owner]
    arch = model.choose_architecture(3, 64, 64, 64)
    fitted = train.fit(arch, pixels[mine], Recipe(steps=steps), lambda done, total: None)
    mu = encode.embed(arch, fitted.encoder, pixels)
    q = quantize.fit_int8(mu[mine]).encode(mu).astype(np.float32)
    plain = np.concatenate([pixels.mean(axis=(2, 3)), pixels.std(axis=(2, 3))], axis=1)
    standard = (plain - plain[mine].mean(axis=0)) / plain[mine].std(axis=0)
    test = ~mine
    found: Row = {"tiles": len(pixels), "training steps": steps}
    for name, vectors in zip(LABELLED, (q, standard, plain), strict=True):
        own, far = _precision(vectors[test], label[test], owner[test])
        found |= {
            f"label precision@10, {name}": own,
            f"... hits in other 1-degree cells, {name}": far,
        }
    return found


def _jpeg(data: bytes) -> np.ndarray:
    image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32)
    return image.transpose(2, 0, 1) / 255


def _precision(vectors: np.ndarray, label: np.ndarray, place: np.ndarray) -> tuple[float, float]:
    """Share of the ten nearest with the query's label: of all others, and of other places."""
    square = (vectors.astype(np.float64) ** 2).sum(axis=1)
    distance = square[:, None] + square - 2 * vectors.astype(np.float64) @ vectors.T
    np.fill_diagonal(distance, np.inf)
    found = []
    for _ in range(2):
        nearest = np.argpartition(distance, 10, axis=1)[:, :10]
        found.append(float((label[nearest] == label[:, None]).mean()))
        distance[place[:, None] == place] = np.inf
    return found[0], found[1]


# ---------------------------------------------------------------- latitudes


def latitudes(folder: Path, steps: int) -> Row:
    """Patches of real imagery laid at latitude 5 and at 65, in UTM, among a scene of tiles:
    how often, and how far down, each finds its copy."""
    source = DATA / SETS[3].paths[0]
    with rasterio.open(source) as scene:
        pixels, where, crs = scene.read(), scene.transform, scene.crs
        names = scene.descriptions
    write(folder / "plain_20170613.tif", pixels[:, 400:], where @ Affine.translation(0, 400),
          crs, names)  # fmt: skip
    side, pairs, paths = 200, [], [str(folder / "plain_20170613.tif")]
    for i in range(8):
        patch = pixels[:, 100:300, side * i : side * (i + 1)]
        pair = [
            lay(folder / f"copy{i}_{lat}_20170613.tif", patch, 20.65 + 0.1 * i, lat, names)
            for lat in (5, 65)
        ]
        pairs.append([cell for cell, _ in pair])
        paths += [path for _, path in pair]
    tiles, _, _ = timed_build(paths, folder / "archive", Recipe(precision=6, steps=steps))
    archive = open_archive(folder / "archive")
    ranks = []
    for pair in pairs:
        for query, copy in (pair, pair[::-1]):
            hits = archive.search(query, k=len(archive))["geohash"].to_pylist()
            ranks.append(hits.index(copy) + 1 if copy in hits else len(hits) + 1)
    return {
        "tiles": tiles,
        "training steps": steps,
        "copies at latitude 5 and 65 in the top 5": float(np.mean(np.array(ranks) <= 5)),
        "lowest rank of a copy": max(ranks),
    }


def lay(
    path: Path, patch: np.ndarray, lon: float, lat: float, names: tuple[str, ...]
) -> tuple[str, str]:
    """Write a patch of 10 m pixels centred on the cell of precision 6 at a place: cell, path."""
    cell = str(grid.encode(lon, lat, 6))
    x, y = reproject("EPSG:4326", "EPSG:32634", *([float(v)] for v in grid.centers([cell])[0]))
    corner = Affine(10, 0, x[0] - 5 * patch.shape[2], 0, -10, y[0] + 5 * patch.shape[1])
    write(path, patch, corner, "EPSG:32634", names)
    return cell, str(path)


def write(path: Path, pixels: np.ndarray, where: Affine, crs: Any, names: tuple[str, ...]) -> None:
    """A GeoTIFF of bands with names."""
    bands, height, width = pixels.shape
    with rasterio.open(
        path, "w", driver="GTiff", width=width, height=height, count=bands,
        dtype=pixels.dtype, crs=crs, transform=where,
    ) as out:  # fmt: skip
        out.write(pixels)
        out.descriptions = names


# ---------------------------------------------------------------- the full-size scene


def full_size(folder: Path) -> Row:
    """Build a scene of the size of a Sentinel-2 granule in a process of its own."""
    path = folder / "full_20230815.tif"
    make_scene(path)
    say("full size: written")
    done = subprocess.run(
        [sys.executable, __file__, "--measure", str(path), str(folder / "archive")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"full size: the build failed: {done.stderr.strip()[-2000:]}")
    return dict(json.loads(done.stdout))


def make_scene(path: Path) -> None:
    """Textured uint16 pixels of 10 m in tiles of 512, written window by window."""
    rng = np.random.default_rng(0)
    freq = np.hypot(np.fft.fftfreq(1024)[:, None], np.fft.fftfreq(1024))
    freq[0, 0] = 1
    grain = np.fft.ifft2(np.fft.fft2(rng.normal(size=(1024, 1024))) / freq**1.2).real
    grain = (grain / grain.std()).astype(np.float32)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=BANDS, dtype="uint16",
        crs="EPSG:32633", transform=Affine(10, 0, 499_980, 0, -10, 5_400_000), tiled=True,
        blockxsize=512, blockysize=512, nodata=0, BIGTIFF="YES", interleave="pixel",
    ) as out:  # fmt: skip
        for _, window in out.block_windows(1):
            a, b = window.row_off // 512, window.col_off // 512
            some = np.roll(grain, (131 * b + 17 * a, 197 * a), (0, 1))
            some = some[: window.height, : window.width]
            slope = np.sin(0.4 * a) + np.cos(0.3 * b)
            bands = np.arange(1, BANDS + 1, dtype=np.float32)[:, None, None]
            values = 1500 + 120 * bands + 250 * slope + (120 + 15 * bands) * some
            out.write(np.clip(values, 1, 10_000).astype(np.uint16), window=window)


def measure_full(scene: str, out: str) -> None:
    """In the process of its own: build, and print what it took as JSON."""
    tiles, encoded, whole = timed_build([scene], Path(out), FULL_SIZE)
    info = open_archive(out).info()
    found = {
        "tiles": tiles,
        "regions": info["regions"],
        "training steps": FULL_SIZE.steps,
        "build, s": whole,
        "cut and encode, tiles/s": tiles / encoded,
        "bytes a tile, shards": info["bytes"]["shards"] / tiles,
        "bytes, models (with ONNX)": info["bytes"]["models"],
        "bytes a tile, all of the archive": info["bytes"]["total"] / tiles,
        "peak memory, MB": peak_mb(),
    }
    print(json.dumps(found))


def peak_mb() -> float:
    """Peak resident memory of this process, MB (2**20).

    Linux hands a parent's ru_maxrss on to the program it starts, so VmHWM goes first."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        kib = next(line.split()[1] for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        kib = str(peak / 1024 if sys.platform == "darwin" else peak)
    return float(kib) / 1024


# ---------------------------------------------------------------- all of it


def table(found: dict[str, Row]) -> list[Row]:
    """Measures down, sets across; what a set does not have is None."""
    measures = list(dict.fromkeys(name for values in found.values() for name in values))
    return [
        {"": name, **{title: values.get(name) for title, values in found.items()}}
        for name in measures
    ]


def main() -> int:
    """Measure every set and save; 2 when there is no data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full-size", action="store_true", help="end with the full-size scene")
    parser.add_argument("--steps", type=int, default=Recipe().steps, help="training steps")
    parser.add_argument("--measure", nargs=2, metavar=("SCENE", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure_full(*options.measure)
        return 0
    missing = [path for one in SETS for path in one.paths if not (DATA / path).exists()]
    missing += [] if (DATA / EUROSAT).exists() else [EUROSAT]
    if missing:
        print(
            f"first_light: expected {missing[0]} under EMBARCHIVE_DATA or ../shared/data, "
            "found none",
            file=sys.stderr,
        )
        return 2
    found: dict[str, Row] = {}
    steps = [
        (one.title, lambda folder, one=one: measure(one, folder, options.steps)) for one in SETS
    ]
    steps += [("EuroSAT RGB", lambda folder: eurosat(options.steps))]
    steps += [("two latitudes", lambda folder: latitudes(folder, options.steps))]
    if options.full_size:
        steps.append((f"made scene, {SIDE} x {SIDE} x {BANDS}", full_size))
    for title, step in steps:
        with tempfile.TemporaryDirectory(prefix="first-light-") as name:
            found[title] = step(Path(name))
        say(f"{title}: {json.dumps(found[title])}")
        report.save("first_light", table(found))
    return judge(found)


def judge(found: dict[str, Row]) -> int:
    """Say every promise that is not kept, by sets of at least 100 tiles; 1 when there is one."""
    bad = []
    for title, row in found.items():
        if row.get("tiles", 0) < LEAST_TILES:
            continue
        for name in ("NDVI ratio", "NDVI ratio, other regions"):
            if (row.get(name) or 0) > 0.6:
                bad.append(f"{title}: {name} expected at most 0.6, found {row[name]:.2f}")
        better, plain = (row.get(f"label precision@10, {name}", 0) for name in LABELLED[:2])
        if better < plain:
            bad.append(f"{title}: label precision {better:.3f}, below mean + std {plain:.3f}")
        if (row.get("held-out mse / PCA") or 0) > 1:
            bad.append(f"{title}: held-out mse / PCA {row['held-out mse / PCA']:.3f}, above 1")
        if (
            row.get("regions below the tile mean") is not None
            and row["regions below the tile mean"] < 1
        ):
            bad.append(f"{title}: a region is not below the tile mean")
        if row.get("peak memory, MB", 0) >= PEAK_LIMIT:
            bad.append(f"{title}: peak memory {row['peak memory, MB']:.0f} MB")
        if row.get("copies at latitude 5 and 65 in the top 5", 1) < 1:
            bad.append(f"{title}: a copy is not in the top 5")
    for line in bad:
        say(line)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
