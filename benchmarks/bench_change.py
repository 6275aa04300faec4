"""Where did the land change? Planted changes and real ones, found by embeddings and by pixels.

Real data from EMBARCHIVE_DATA or ../shared/data: NAIP at 5 m, years apart, and Sentinel-2 at 120 m,
days apart. Copies of the later date's rasters, in a temporary folder, have chips of other land in
place of some cells, whole or half of their area somewhere inside. What is other land: k-means of
the band means of tiles, four classes, three kinds of change (from a class to another) at medium
distance. The networks have seen the other dates of a set, the earlier date too, but nothing of the
later date, planted or not: its copy is added to the archive that the others made.

Real change has no labels: a place has really changed when other pairs of dates say so, by the least
of their differences of band means (each band matched linearly), among the greatest 5 %. Those dates
are not those that are compared; the archive holds them.

Precision at 20: of the largest changes, planted (or real) ones. Alike: of the 20 changes most like
a planted one, those of its kind; mean over the queries. Pixels are those of cells, the same places
for all methods, none with a valid_fraction below that of the set at either date. Ends with status 1
when ours is not ahead of every pixel difference on NAIP.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import report
import sets
from bench_first_light import DATA, quiet, say
from numpy.typing import NDArray
from rasterio.warp import transform as reproject
from sklearn.cluster import KMeans

from embarchive import grid, jobs
from embarchive.archive import Archive, open_archive
from embarchive.encode import normalised_difference
from embarchive.gather import gather
from embarchive.recipe import Recipe
from embarchive.scenes import find_scenes

K, CLASSES, KINDS, PLANTS, QUERIES = 20, 4, 3, 25, 10
SEEDS = (0, 1)
SHARE = 0.05
Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A set: files of a day; days that the archive is made of; the planted pair; the pair of the
    real change and the pairs that judge it; the least valid_fraction; red and near infrared."""

    title: str
    pattern: str
    recipe: Recipe
    first: tuple[str, ...]
    planted: tuple[str, str]
    real: tuple[str, str]
    judges: tuple[tuple[str, str], ...]
    valid: float
    index: tuple[int, int]

    def paths(self, day: str) -> list[str]:
        """The scenes of a day."""
        return [str(path) for path in sorted(DATA.glob(self.pattern.format(day)))]


NAIP = Case(
    "NAIP 5 m",
    "naip_nd_2009_2020/*_{}.tif",
    Recipe(bands=("R", "G", "B", "N")),
    ("20090818", "20100629", "20120731", "20140720", "20170827"),
    ("20170827", "20200831"),
    ("20100629", "20170827"),
    (("20090818", "20140720"), ("20090818", "20200831"), ("20120731", "20200831")),
    0.8,
    (3, 0),
)
S2 = Case(
    "Sentinel-2 120 m",
    "s2_l2a_33TW_aug2023/*_{}_*",
    Recipe(),
    ("20230810", "20230813", "20230815", "20230818"),
    ("20230815", "20230820"),
    ("20230813", "20230818"),
    (("20230815", "20230820"),),
    0.95,
    (3, 2),
)


# ------------------------------------------------------------ pixels


@dataclass(frozen=True)
class Tiles:
    """Tiles of a day by cell: the cell's pixels float32 (bands, height, width)."""

    of: dict[str, NDArray[np.float32]]

    def stack(self, names: Sequence[str]) -> Floats:
        """float64 (n, bands, height, width)."""
        return np.stack([self.of[name] for name in names]).astype(np.float64)


def tiles_of(case: Case, archive: Archive, paths: Sequence[str]) -> Tiles:
    """The clear tiles of scenes; of two of a cell the one that shows more."""
    settings = archive.settings
    scenes = find_scenes(list(paths), case.recipe)
    found = gather(scenes, settings, None, sets.ROOM, lambda done, total: None)
    rows, columns = sets.common_crop(settings, found.geohash)
    valid = found.valid[:, rows, columns].mean(axis=(1, 2))
    order = np.argsort(valid, kind="stable")
    keep = order[valid[order] >= case.valid]
    pixels = found.pixels[:, :, rows, columns]
    return Tiles(dict(zip(found.geohash[keep].tolist(), pixels[keep], strict=True)))


def linear(after: Floats, before: Floats) -> Floats:
    """Each band with the mean and spread that it has before."""
    axes = (0, 2, 3)
    own, there = (
        (one.mean(axes)[:, None, None], one.std(axes)[:, None, None]) for one in (after, before)
    )
    return (after - own[0]) / own[1] * there[1] + there[0]


def histogram(after: Floats, before: Floats) -> Floats:
    """Each band with the histogram that it has before."""
    out = np.empty_like(after)
    for band in range(after.shape[1]):
        order = np.argsort(after[:, band], axis=None, kind="stable")
        values = np.empty(order.size)
        values[order] = np.sort(before[:, band], axis=None)
        out[:, band] = values.reshape(after[:, band].shape)
    return out


def sizes_by_pixels(before: Floats, after: Floats, index: tuple[int, int]) -> dict[str, Floats]:
    """Size of change (n,) by method."""
    found = {}
    matches: dict[str, Callable[[Floats, Floats], Floats]] = {
        "": lambda one, _: one,
        ", linear match": linear,
        ", histogram match": histogram,
    }
    for name, match in matches.items():
        gap = match(after, before) - before
        found[f"pixels{name}"] = np.abs(gap).mean(axis=(1, 2, 3))
    gap = linear(after, before) - before
    found["band means, linear match"] = (gap.mean(axis=(2, 3)) ** 2).sum(axis=1)
    ndvi = [normalised_difference(one, index) for one in (before, after)]
    found["NDVI, pixels"] = np.abs(ndvi[1] - ndvi[0]).mean(axis=(1, 2))
    found["NDVI, means"] = np.abs((ndvi[1] - ndvi[0]).mean(axis=(1, 2)))
    return found


def alike_by_pixels(before: Floats, after: Floats, asked: int) -> dict[str, Floats]:
    """Cosine (n,) of every change with one of them, by method."""
    gap = linear(after, before) - before
    found = {}
    for name, values in (
        ("pixels, linear match", gap.reshape(len(gap), -1)),
        ("band means, linear match", gap.mean(axis=(2, 3))),
    ):
        length = np.maximum(np.linalg.norm(values, axis=1), 1e-12)
        found[name] = values @ values[asked] / (length * length[asked])
    return found


# ------------------------------------------------------------ plants


def windows(path: Path, names: Sequence[str]) -> NDArray[np.int64]:
    """First row, first column, rows and columns of cells in a raster, int64 (n, 4)."""
    with rasterio.open(path) as raster:
        found = []
        for west, south, east, north in grid.bounds(list(names)):
            x, y = reproject(
                "EPSG:4326", raster.crs, [west, east, east, west], [south, south, north, north]
            )
            column, row = ~raster.transform * (np.array(x), np.array(y))
            wide, high = np.ptp(column), np.ptp(row)
            found.append([row.mean() - high / 2, column.mean() - wide / 2, high, wide])
        return np.rint(found).astype(np.int64)


def inside(path: Path, names: Sequence[str]) -> NDArray[np.bool_]:
    """Which cells lie in a raster whole."""
    box = windows(path, names)
    with rasterio.open(path) as raster:
        low = (box[:, :2] >= 0).all(axis=1)
        return (
            low & (box[:, 0] + box[:, 2] <= raster.height) & (box[:, 1] + box[:, 3] <= raster.width)
        )


@dataclass(frozen=True)
class Plant:
    """A cell, the one whose land it gets, its kind, and the part of both: share of the sides, and
    where it begins in what is left, across and down, 0..1."""

    cell: str
    donor: str
    kind: int
    side: float
    at: tuple[float, float, float, float]


def rasters(scene: str) -> list[Path]:
    """The files of a scene."""
    return sorted(Path(scene).glob("*.tif")) if Path(scene).is_dir() else [Path(scene)]


def write_planted(scene: str, folder: Path, plants: Sequence[Plant]) -> str:
    """A copy of a scene with the plants that lie in it; its path."""
    name, found = Path(scene).name, rasters(scene)
    target = folder / name if Path(scene).is_dir() else folder
    target.mkdir(parents=True, exist_ok=True)
    kept = [p for p in plants if inside(found[0], [p.cell, p.donor]).all()]
    for path in found:
        with rasterio.open(path) as raster:
            data, crs, transform, nodata = (
                raster.read(), raster.crs, raster.transform, raster.nodata
            )  # fmt: skip
        out = data.copy()
        for plant in kept:
            (row, column, high, wide), (row2, column2, _, _) = windows(
                path, [plant.cell, plant.donor]
            ).tolist()
            h, w = round(high * plant.side), round(wide * plant.side)
            up, left, up2, left2 = (
                round(share * room)
                for share, room in zip(plant.at, (high - h, wide - w) * 2, strict=True)
            )
            out[:, row + up : row + up + h, column + left : column + left + w] = data[
                :, row2 + up2 : row2 + up2 + h, column2 + left2 : column2 + left2 + w
            ]
        profile = {
            "driver": "GTiff", "count": len(out), "height": out.shape[1], "width": out.shape[2],
            "dtype": out.dtype, "crs": crs, "transform": transform, "nodata": nodata,
            "photometric": "MINISBLACK",
        }  # fmt: skip
        with rasterio.open(target / path.name, "w", **profile) as copy:
            copy.write(out)
    return str(folder / name)


def choose_plants(case: Case, tiles: Tiles, side: float, seed: int) -> list[Plant]:
    """Plants of three kinds in cells that lie in one scene of the later day alone."""
    rng = np.random.default_rng(seed)
    names = np.array(sorted(tiles.of))
    means = tiles.stack(names.tolist()).mean(axis=(2, 3))
    means = (means - means.mean(axis=0)) / means.std(axis=0)
    classes = KMeans(CLASSES, n_init=4, random_state=0).fit(means)
    held = np.array(
        [inside(rasters(path)[0], names.tolist()) for path in case.paths(case.planted[1])]
    )
    scene = np.where(held.sum(axis=0) == 1, held.argmax(axis=0), -1)
    middle = classes.cluster_centers_
    far = sorted(
        (float(np.linalg.norm(middle[a] - middle[b])), a, b)
        for a in range(CLASSES)
        for b in range(CLASSES)
        if a != b and ((classes.labels_ == a) & (scene >= 0)).sum() > 2 * PLANTS
    )
    first = max(0, len(far) // 2 - KINDS // 2)
    plants: list[Plant] = []
    for kind, (_, a, b) in enumerate(far[first : first + KINDS]):
        taken = [plant.cell for plant in plants]
        free = ~np.isin(names, taken) & (scene >= 0)
        cells = rng.permutation(np.flatnonzero(free & (classes.labels_ == a)))[:PLANTS]
        for cell in cells:
            near = free & (classes.labels_ == b) & (scene == scene[cell])
            donor = str(rng.choice(names[near & ~np.isin(names, names[cells])]))
            at = tuple(rng.uniform(size=4).tolist())
            plants.append(Plant(str(names[cell]), donor, kind, side, at))
    return plants


# ------------------------------------------------------------ measures


def day(text: str) -> str:
    """20200831 as 2020-08-31."""
    return f"{text[:4]}-{text[4:6]}-{text[6:]}"


def precision(score: Floats, right: NDArray[np.bool_]) -> float:
    """The share that is right of the 20 of greatest score."""
    return float(right[np.argsort(-score, kind="stable")[:K]].mean())


def found_by_us(
    archive: Archive, pair: Sequence[str], names: Sequence[str], **asked: Any
) -> list[int]:
    """Positions in names of the hits of a change query, best first."""
    hits = archive.change(*map(day, pair), k=100_000, **asked)
    where = {name: at for at, name in enumerate(names)}
    return [where[name] for name in hits["geohash"].to_pylist() if name in where]


def compare(
    case: Case, archive: Archive, pair: tuple[str, str], both: tuple[Tiles, Tiles],
    truth: Callable[[list[str]], NDArray[np.int64]],
) -> dict[str, tuple[float, float | None]]:  # fmt: skip
    """Precision at 20 and alike, by method; truth: of the places compared -1 or the kind."""
    seen = archive.change(*map(day, pair), k=100_000, valid=case.valid)["geohash"].to_pylist()
    names = sorted(set(seen) & set(both[0].of) & set(both[1].of))
    kind = truth(names)
    before, after = (one.stack(names) for one in both)
    found: dict[str, list[Any]] = {
        name: [precision(score, kind >= 0), None]
        for name, score in sizes_by_pixels(before, after, case.index).items()
    }
    ours = {"embarchive": False, "embarchive, plain": True}
    for name, plain in ours.items():
        best = found_by_us(archive, pair, names, valid=case.valid, plain=plain)[:K]
        found[name] = [float((kind[best] >= 0).mean()), None]
    queries = [
        at for one in range(KINDS) for at in np.flatnonzero(kind == one)[:QUERIES].tolist()
    ] if kind.max() > 0 else []  # fmt: skip
    alike: dict[str, list[float]] = {}
    for at in queries:
        right = kind == kind[at]
        for name, score in alike_by_pixels(before, after, at).items():
            score[at] = -np.inf
            alike.setdefault(name, []).append(precision(score, right))
        for name, plain in ours.items():
            best = found_by_us(archive, pair, names, like=names[at], valid=case.valid, plain=plain)[
                :K
            ]
            alike.setdefault(name, []).append(float(right[best].mean()))
    for name, values in alike.items():
        found[name][1] = float(np.mean(values))
    return {name: (values[0], values[1]) for name, values in found.items()}


def rows_of(
    case: Case, question: str, runs: Sequence[dict[str, tuple[float, float | None]]]
) -> list[Row]:
    """A row a method, means over runs."""
    rows = []
    for name in runs[0]:
        alike = [run[name][1] for run in runs]
        rows.append(
            {
                "dataset": case.title,
                "change": question,
                "method": name,
                "precision@20": float(np.mean([run[name][0] for run in runs])),
                "alike@20": None if None in alike else float(np.mean(alike)),
            }
        )
        say(str(rows[-1]))
    return rows


def planted(case: Case, root: Path) -> list[Row]:
    """Planted changes, whole cells and half of their area."""
    made = open_archive(root / "archive")
    before, later = case.planted
    original = tiles_of(case, made, case.paths(later))
    earlier = tiles_of(case, made, case.paths(before))
    both = Tiles({name: one for name, one in original.of.items() if name in earlier.of})
    rows = []
    for question, side in (("planted, whole cells", 1.0), ("planted, half of cells", 0.7)):
        runs = []
        for seed in SEEDS:
            copy, folder = root / "copy", root / "planted"
            shutil.copytree(root / "archive", copy)
            plants = choose_plants(case, both, side, seed)
            paths = [write_planted(path, folder, plants) for path in case.paths(later)]
            jobs.build(paths, str(copy), case.recipe, workers=1, progress=quiet)
            archive, kinds = open_archive(copy), {one.cell: one.kind for one in plants}

            def truth(names: list[str], kinds: dict[str, int] = kinds) -> NDArray[np.int64]:
                return np.array([kinds.get(name, -1) for name in names])

            pixels = earlier, tiles_of(case, archive, paths)
            runs.append(compare(case, archive, case.planted, pixels, truth))
            for path in (copy, folder):
                shutil.rmtree(path)
        rows += rows_of(case, question, runs)
    return rows


def real(case: Case, root: Path) -> list[Row]:
    """Real change, judged by other dates."""
    archive = open_archive(root / "archive")
    days = {one for pair in (case.real, *case.judges) for one in pair}
    tiles = {one: tiles_of(case, archive, case.paths(one)) for one in days}

    def truth(names: list[str]) -> NDArray[np.int64]:
        least = np.full(len(names), np.inf)
        for pair in case.judges:
            held = np.array([all(name in tiles[one].of for one in pair) for name in names])
            some = [name for name, known in zip(names, held, strict=True) if known]
            before, after = (tiles[one].stack(some) for one in pair)
            gap = (linear(after, before) - before).mean(axis=(2, 3)) / before.std(axis=(0, 2, 3))
            size = np.zeros(len(names))
            size[held] = (gap**2).sum(axis=1)
            least = np.minimum(least, size)
        return np.where(least > np.quantile(least, 1 - SHARE), 0, -1)

    pair = tiles[case.real[0]], tiles[case.real[1]]
    return rows_of(case, "real", [compare(case, archive, case.real, pair, truth)])


def main() -> int:
    """Both sets, saved; 1 when a pixel difference is ahead of us on NAIP's plants."""
    rows = []
    for case in (NAIP, S2):
        with tempfile.TemporaryDirectory() as folder:
            began = time.monotonic()
            paths = [path for one in case.first for path in case.paths(one)]
            jobs.build(paths, str(Path(folder) / "archive"), case.recipe, workers=1, progress=quiet)
            say(f"{case.title}: built in {time.monotonic() - began:.0f} s")
            rows += real(case, Path(folder)) + planted(case, Path(folder))
            say(f"{case.title}: {time.monotonic() - began:.0f} s")
    say(str(report.save("change", rows)))
    kept = [
        {row["method"]: row["precision@20"] for row in rows if row["dataset"] == NAIP.title
         and row["change"] == question}
        for question in {row["change"] for row in rows if row["change"].startswith("planted")}
    ]  # fmt: skip
    return int(
        any(one["embarchive"] <= value for one in kept for name, value in one.items()
            if name.startswith("pixels"))
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
