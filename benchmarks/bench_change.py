"""Where did the land change? Planted changes and real ones, found by embeddings and by pixels.

Real data from EMBARCHIVE_DATA or ../shared/data: NAIP at 5 m, years apart, and Sentinel-2 at 120 m,
days apart. Copies of the later date's rasters, in a temporary folder, have chips of other land in
place of some cells, whole or half of their area somewhere inside. What is other land: k-means of
the band means of tiles, four classes, three kinds of change (from a class to another) at medium
distance. The networks have seen the other dates of a set, the earlier date too, but nothing of the
later date, planted or not: its copy is added to the archive that the others made.

Real change has no labels: a place has really changed when other pairs of dates say so, by the least
of their differences of band means (each band matched linearly), among the greatest 5 %, and 20 at
least. Those dates are not those that are compared; the archive holds them.

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
import report
import sets
from bench_first_light import DATA, quiet, say
from numpy.typing import NDArray
from plants import Plant, inside, rasters, write_planted
from sklearn.cluster import KMeans

from embarchive import jobs
from embarchive.archive import Archive, open_archive
from embarchive.encode import normalised_difference
from embarchive.gather import gather
from embarchive.recipe import Recipe
from embarchive.scenes import find_scenes

K, CLASSES, KINDS, PLANTS, QUERIES = 20, 4, 3, 25, 10
SEEDS = (0, 1)
SHARE = 0.05
OURS = {"embarchive": False, "embarchive, plain": True}
Floats = NDArray[np.float64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A set: files of a day; days that the archive is made of; the planted pair; the pair of the
    real change and the pairs that judge it; the least valid_fraction of either question; near
    infrared and red."""

    title: str
    pattern: str
    recipe: Recipe
    first: tuple[str, ...]
    planted: tuple[str, str]
    real: tuple[str, str]
    judges: tuple[tuple[str, str], ...]
    valid: tuple[float, float]
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
    (0.8, 0.8),
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
    (0.95, 0.8),
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


def tiles_of(case: Case, archive: Archive, paths: Sequence[str], least: float) -> Tiles:
    """The clear tiles of scenes; of two of a cell the one that shows more."""
    settings = archive.settings
    scenes = find_scenes(list(paths), case.recipe)
    found = gather(scenes, settings, None, sets.ROOM, lambda done, total: None)
    rows, columns = sets.common_crop(settings, found.geohash)
    valid = found.valid[:, rows, columns].mean(axis=(1, 2))
    order = np.argsort(valid, kind="stable")
    keep = order[valid[order] >= least]
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


@dataclass(frozen=True)
class Pair:
    """What is compared: the archive, two days, their tiles, the least valid_fraction."""

    archive: Archive
    days: tuple[str, str]
    tiles: tuple[Tiles, Tiles]
    valid: float

    def ours(self, names: Sequence[str], **asked: Any) -> list[int]:
        """Positions in names of the 20 best hits."""
        hits = self.archive.change(*map(day, self.days), k=100_000, valid=self.valid, **asked)
        where = {name: at for at, name in enumerate(names)}
        return [where[name] for name in hits["geohash"].to_pylist() if name in where][:K]


Truth = Callable[[list[str]], NDArray[np.int64]]
Found = dict[str, tuple[float, float | None, int, int]]


def compare(case: Case, pair: Pair, truth: Truth) -> Found:
    """Precision at 20, alike, places and right ones, by method; truth: of places -1 or the kind."""
    seen = pair.archive.change(*map(day, pair.days), k=100_000, valid=pair.valid)
    names = sorted(set(seen["geohash"].to_pylist()) & set(pair.tiles[0].of) & set(pair.tiles[1].of))
    kind = truth(names)
    before, after = (one.stack(names) for one in pair.tiles)
    by_pixels = sizes_by_pixels(before, after, case.index)
    large = {name: precision(score, kind >= 0) for name, score in by_pixels.items()}
    for name, plain in OURS.items():
        large[name] = float((kind[pair.ours(names, plain=plain)] >= 0).mean())
    alike: dict[str, list[float]] = {}
    queries = [np.flatnonzero(kind == one)[:QUERIES].tolist() for one in range(KINDS)]
    for at in [at for some in queries for at in some] if kind.max() > 0 else []:
        right = kind == kind[at]
        for name, score in alike_by_pixels(before, after, at).items():
            score[at] = -np.inf
            alike.setdefault(name, []).append(precision(score, right))
        for name, plain in OURS.items():
            best = pair.ours(names, like=names[at], plain=plain)
            alike.setdefault(name, []).append(float(right[best].mean()))
    mean = {name: float(np.mean(values)) for name, values in alike.items()}
    counts = len(names), int((kind >= 0).sum())
    return {name: (value, mean.get(name), *counts) for name, value in large.items()}


def rows_of(case: Case, question: str, runs: Sequence[Found]) -> list[Row]:
    """A row a method, means over runs."""
    rows = []
    for name, (_, _, places, right) in runs[0].items():
        large, alike = ([run[name][at] for run in runs] for at in (0, 1))
        rows.append(
            {
                "dataset": case.title,
                "change": question,
                "places": places,
                "right": right,
                "method": name,
                "precision@20": float(np.mean(large)),
                "alike@20": None if None in alike else float(np.mean(alike)),
            }
        )
        say(str(rows[-1]))
    return rows


def planted(case: Case, root: Path) -> list[Row]:
    """Planted changes, whole cells and half of their area."""
    made, least = open_archive(root / "archive"), case.valid[0]
    before, later = case.planted
    original = tiles_of(case, made, case.paths(later), least)
    earlier = tiles_of(case, made, case.paths(before), least)
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

            pixels = earlier, tiles_of(case, archive, paths, least)
            runs.append(compare(case, Pair(archive, case.planted, pixels, least), truth))
            for path in (copy, folder):
                shutil.rmtree(path)
        rows += rows_of(case, question, runs)
    return rows


def real(case: Case, root: Path) -> list[Row]:
    """Real change, judged by other dates."""
    archive, least = open_archive(root / "archive"), case.valid[1]
    days = {one for pair in (case.real, *case.judges) for one in pair}
    tiles = {one: tiles_of(case, archive, case.paths(one), least) for one in days}

    def truth(names: list[str]) -> NDArray[np.int64]:
        sure = np.full(len(names), np.inf)
        for pair in case.judges:
            held = np.array([all(name in tiles[one].of for one in pair) for name in names])
            some = [name for name, known in zip(names, held, strict=True) if known]
            before, after = (tiles[one].stack(some) for one in pair)
            gap = (linear(after, before) - before).mean(axis=(2, 3)) / before.std(axis=(0, 2, 3))
            size = np.zeros(len(names))
            size[held] = (gap**2).sum(axis=1)
            sure = np.minimum(sure, size)
        found = np.full(len(names), -1)
        found[np.argsort(-sure, kind="stable")[: max(K, round(SHARE * len(names)))]] = 0
        return found

    pair = Pair(archive, case.real, (tiles[case.real[0]], tiles[case.real[1]]), least)
    return rows_of(case, "real", [compare(case, pair, truth)])


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
