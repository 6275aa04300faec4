"""Chips read from scenes: all of some cells, or a sample of them that fits in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from embarchive import grid, regions, tiles
from embarchive.recipe import Settings
from embarchive.scenes import Scene, open_scene

Names = NDArray[np.str_]


@dataclass(frozen=True)
class Sample:
    """Chips of several scenes: geohash (n,), pixels float32 (n, bands, height, width), valid
    bool (n, height, width); whole: nothing was left out to fit in memory; scene (n,): which of
    the scenes, None where that is not known."""

    geohash: Names
    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    whole: bool
    scene: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.geohash)

    def only(self, mask: NDArray[np.bool_]) -> Sample:
        """The chips of a mask (n,)."""
        scene = None if self.scene is None else self.scene[mask]
        return Sample(self.geohash[mask], self.pixels[mask], self.valid[mask], self.whole, scene)


def chip_grid(settings: Settings) -> grid.ChipGrid:
    """The chips of an archive."""
    return grid.ChipGrid(settings.precision, settings.gsd, settings.height, settings.width)


def scene_cells(scene: Scene, settings: Settings) -> Names:
    """The cells that a scene may touch."""
    return tiles.cells_of(scene.bounds, settings.precision)


def cut_scene(scene: Scene, cells: Names, settings: Settings) -> Iterator[tiles.Chips]:
    """The chips that are kept of a scene's cells."""
    with open_scene(scene) as reader:
        least = settings.min_cover, settings.min_valid
        yield from tiles.cut(reader, cells, chip_grid(settings), *least)


def gather(
    scenes: Sequence[Scene],
    settings: Settings,
    wanted: Names | None,
    room: int,
    step: Callable[[int, int], None],
) -> Sample:
    """Chips of the wanted cells (None: all), thinned by whole cells to about `room` bytes.

    Which cells stay depends on their names alone, so that every date of a place stays with it.
    """
    cells = [scene_cells(scene, settings) for scene in scenes]
    if wanted is not None:
        cells = [some[np.isin(some, wanted)] for some in cells]
    one = 4 * len(settings.bands) * settings.height * settings.width
    thin = max(1, -(-sum(len(some) for some in cells) * one // room))
    if thin > 1:
        cells = [some[regions.assign(some.tolist(), thin) == 0] for some in cells]
    found: list[tiles.Chips] = []
    owner = [np.zeros(0, np.int64)]
    for index, (scene, some) in enumerate(zip(scenes, cells, strict=True)):
        if len(some):
            own = list(cut_scene(scene, some, settings))
            owner.append(np.full(sum(map(len, own)), index, np.int64))
            found += own
        step(index + 1, len(scenes))
    shape = (0, len(settings.bands), settings.height, settings.width)
    return Sample(
        np.concatenate([np.zeros(0, "U1"), *(chips.geohash for chips in found)]),
        np.concatenate([np.zeros(shape, np.float32), *(chips.pixels for chips in found)]),
        np.concatenate([np.zeros((0, *shape[2:]), bool), *(chips.valid for chips in found)]),
        thin == 1,
        np.concatenate(owner),
    )
