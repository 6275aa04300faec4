"""A scene cut into chips: float32 pixels in recipe units, with their valid fraction.

A cell is kept when the share of its pixels that are data, cloudy or not, is at least
`min_cover`, and the share that is data and not cloud is at least `min_valid`, both counted over
the pixels whose centre lies in the cell. What a chip shows of its neighbours may be missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embarchive import digests, grid
from embarchive.resample import BandLike, Plan, RasterLike, read_window, sample

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]

# Bounds of one group: bytes of a raster's averaged window as float32, positions sampled, chips,
# and bytes of the chips.
WINDOW_BYTES = 96_000_000
POSITIONS = 2_100_000
CHIPS = 512
CHIP_BYTES = 128_000_000


class SceneLike(Protocol):
    """What is read of a scene."""

    @property
    def bands(self) -> Sequence[BandLike]:
        """The bands of a chip, in order."""


class SceneReaderLike(Protocol):
    """An open scene."""

    @property
    def scene(self) -> SceneLike:
        """What it is a scene of."""

    @property
    def rasters(self) -> Sequence[RasterLike]:
        """The rasters of all bands, and perhaps a cloud layer."""


@dataclass(frozen=True)
class Chips:
    """Chips of one scene.

    geohash (n,); pixels float32 (n, bands, H, W) in recipe units, what is not valid filled with
    the mean of the chip's own band; valid bool (n, H, W): data in all bands and not cloud; cover
    and valid_fraction float32 (n,): shares of the cell; digest: 8 bytes each, of the source
    samples that the chip was made of.
    """

    geohash: NDArray[np.str_]
    pixels: Floats
    valid: Mask
    cover: Floats
    valid_fraction: Floats
    digest: tuple[bytes, ...]

    def __len__(self) -> int:
        return len(self.geohash)

    def select(self, mask: Mask) -> Chips:
        """The chips of a mask (n,)."""
        return Chips(
            self.geohash[mask],
            self.pixels[mask],
            self.valid[mask],
            self.cover[mask],
            self.valid_fraction[mask],
            tuple(digest for digest, kept in zip(self.digest, mask, strict=True) if kept),
        )


def cells_of(
    boxes: Sequence[tuple[float, float, float, float]], precision: int
) -> NDArray[np.str_]:
    """The cells that touch any of a scene's boxes (west, south, east, north), sorted, once each.

    Raises BadInput above 50 million, before anything is allocated.
    """
    grid.check_count(sum(grid.count_cells(box, precision) for box in boxes))
    return np.unique(np.concatenate([grid.cells_in_bbox(box, precision) for box in boxes]))


def groups(cells: ArrayLike, most: int = CHIPS) -> list[NDArray[np.str_]]:
    """Cells (distinct, any order) in runs of at most `most` that lie together: by the prefix two
    shorter, longer runs halved in geohash order, which follows squares of squares."""
    names = np.unique(np.asarray(cells, dtype=np.str_))
    if not len(names):
        return []
    length = max(1, names.dtype.itemsize // 4 - 2)
    found: list[NDArray[np.str_]] = []
    for _, run in groupby(names.tolist(), key=lambda name: name[:length]):
        found += _runs(np.array(list(run)), most)
    return found


def cut(
    reader: SceneReaderLike,
    cells: ArrayLike,
    chips: grid.ChipGrid,
    min_cover: float = 0.5,
    min_valid: float = 0.1,
) -> Iterator[Chips]:
    """Chips of the cells that are kept, group by group in geohash order; never empty ones.

    Each raster is read once a group, or in strips when that is much; a group is split when its
    window would pass 96 MB.
    """
    bands = len(reader.scene.bands)
    plans = [Plan.of(raster, chips) for raster in reader.rasters]
    points = chips.height * chips.width
    densest = max((plan.k for plan in plans), default=1) ** 2
    most = min(CHIPS, POSITIONS // (points * densest), CHIP_BYTES // (4 * points * max(1, bands)))
    queue = groups(cells, max(1, most))[::-1]
    while queue:
        names = queue.pop()
        if len(names) > 1 and any(plan.window_bytes(names, chips) > WINDOW_BYTES for plan in plans):
            queue += _runs(names, -(-len(names) // 2))[::-1]
            continue
        found = _cut_group(reader.scene, plans, names, chips, (min_cover, min_valid))
        if len(found):
            yield found


def _cut_group(
    scene: SceneLike,
    plans: Sequence[Plan],
    names: NDArray[np.str_],
    chips: grid.ChipGrid,
    least: tuple[float, float],
) -> Chips:
    shape = (len(names), chips.height, chips.width)
    pixels = np.zeros((len(names), len(scene.bands), *shape[1:]), dtype=np.float32)
    data, clear = np.ones(shape, dtype=bool), np.ones(shape, dtype=bool)
    parts: list[list[bytes]] = [[] for _ in names]
    for plan in plans:
        column, row = plan.positions(*chips.pixel_lonlat(names, plan.k))
        spans = plan.spans(column, row)
        window = read_window(plan, scene.bands, spans, parts)
        for i in range(len(names)):
            values, weight = sample(window, column[i], row[i], plan.k)
            known = weight >= 0.5
            if plan.raster.cloud:
                clear[i] = known & (values[0] > 0.5)
            else:
                pixels[i, list(plan.raster.bands)] = values
                data[i] &= known
    valid = data & clear
    crops = chips.crops(names)
    cover, fraction = _shares(data, crops), _shares(valid, crops)
    keep = (cover > 0) & (cover >= least[0]) & (fraction >= least[1])
    if not keep.all():
        pixels, valid, data = pixels[keep], valid[keep], data[keep]
    _fill(pixels, valid, data)
    return Chips(
        geohash=names[keep],
        pixels=pixels,
        valid=valid,
        cover=cover[keep],
        valid_fraction=fraction[keep],
        digest=tuple(digests.chip_digest(parts[i]) for i in np.flatnonzero(keep)),
    )


def _shares(mask: Mask, crops: NDArray[np.int64]) -> Floats:
    """The share of True within each cell, float32 (n,)."""
    found = [mask[i, a:b, c:d].mean() for i, (a, b, c, d) in enumerate(crops.tolist())]
    return np.array(found, dtype=np.float32)


def _fill(pixels: Floats, valid: Mask, data: Mask) -> None:
    """Put the mean of a chip's valid pixels (else of its cloudy ones, else 0), band by band,
    where it is not valid."""
    for i in np.flatnonzero(~valid.all(axis=(1, 2))).tolist():
        known = valid[i] if valid[i].any() else data[i]
        chip = pixels[i]
        means = chip[:, known].mean(axis=1, dtype=np.float64) if known.any() else 0.0
        chip[:, ~valid[i]] = np.broadcast_to(means, len(chip))[:, None]


def _runs(names: NDArray[np.str_], most: int) -> list[NDArray[np.str_]]:
    """Equal runs of at most `most`."""
    return np.array_split(names, -(-len(names) // most))
