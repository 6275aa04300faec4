"""Which region, shard, part or side of a split a cell belongs to.

Everything here is a pure function of geohashes, so that workers agree without talking.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embarchive import digests, grid, polygons
from embarchive.errors import BadInput

Names = NDArray[np.str_]
Mask = NDArray[np.bool_]

REGION_CELLS = 100
SHARD_ROWS = 32_768
MAX_PREFIXES = 100_000
MAX_NAME = 100
# A group of fewer cells than this has no held-out cells of its own.
LEAST_SPLIT = 20
_TRIALS = 24


class Grouping(Protocol):
    """What `region_of` reads of an archive's settings."""

    @property
    def region_prefix(self) -> int:
        """Geohash length of a region."""

    @property
    def regions(self) -> Mapping[str, str]:
        """Geohash prefix -> region name, for cells grouped by hand."""


def region_of(geohashes: ArrayLike, settings: Grouping) -> Names:
    """Region names of cells, (n,): the name of the longest matching prefix of
    `settings.regions`, else the geohash's own prefix of `settings.region_prefix`."""
    names = np.asarray(geohashes, dtype=np.str_)
    found = _prefix(names, settings.region_prefix).astype(object)
    keys = np.array(sorted(settings.regions), dtype=np.str_)
    lengths = np.char.str_len(keys) if len(keys) else np.zeros(0, dtype=int)
    for length in np.unique(lengths).tolist():
        some = keys[lengths == length]
        start = _prefix(names, length)
        at = np.minimum(np.searchsorted(some, start), len(some) - 1)
        hit = some[at] == start
        called = np.array([settings.regions[key] for key in some.tolist()], dtype=object)
        found[hit] = called[at[hit]]
    return found.astype(np.str_)


def choose_region_prefix(cells: ArrayLike, precision: int) -> int:
    """The longest prefix whose regions hold a median of at least 100 distinct cells; at
    least 1. cells: geohashes of `precision`, may repeat."""
    names = np.unique(np.asarray(cells, dtype=np.str_))
    for length in range(precision, 1, -1):
        if len(names) and np.median(_counts(_prefix(names, length))) >= REGION_CELLS:
            return length
    return 1


def choose_shard_prefix(cells: ArrayLike, rows_per_cell: float) -> int:
    """The shortest prefix, at least 1, whose fullest shard has at most 32,768 rows when every
    distinct cell has `rows_per_cell` (its dates); the cell itself when none is enough."""
    names = np.unique(np.asarray(cells, dtype=np.str_))
    longest = max(1, names.dtype.itemsize // 4)
    for length in range(1, longest):
        counts = _counts(_prefix(names, length))
        if not len(counts) or counts.max() * rows_per_cell <= SHARD_ROWS:
            return length
    return longest


def held_out(
    geohashes: ArrayLike,
    precision: int,
    share: float = 0.2,
    seed: int = 0,
    regions: ArrayLike | None = None,
) -> tuple[Mask, Mask]:
    """Masks (n,) of rows to train on and to test on; the rest is the gap.

    geohashes: of `precision`, one a row, may repeat: every date of a cell is on one side.
    regions: the region of each row; each with at least 20 cells is split on its own, smaller
    ones together, and below 20 cells nothing is held out. Test cells are squares of 2 to 8
    cells a side, the larger the more cells there are, placed at random for a seed; of up to
    24 placements the one is kept whose test share is nearest to `share` and whose gap loses
    least. The gap: no training cell touches a test cell of any region, not even at a corner.
    """
    names = np.asarray(geohashes, dtype=np.str_)
    if not 0 < share < 1:
        raise BadInput(f"held out: expected a share between 0 and 1, found {share}")
    if not len(names):
        return np.zeros(0, dtype=bool), np.zeros(0, dtype=bool)
    cells, first, inverse = np.unique(names, return_index=True, return_inverse=True)
    owner = np.zeros(len(cells), dtype=np.intp)
    labels = np.array([""])
    if regions is not None:
        labels, owner = np.unique(np.asarray(regions, dtype=np.str_)[first], return_inverse=True)
        sizes = np.bincount(owner)
        owner = np.where(sizes[owner] < LEAST_SPLIT, len(labels), owner)
        labels = np.append(labels, "")
    place = np.stack(grid.cell_indices(cells), axis=1)
    world = 2 ** ((5 * precision + 1) // 2)
    test = np.zeros(len(cells), dtype=bool)
    order = np.argsort(owner, kind="stable")
    for some in np.split(order, np.flatnonzero(np.diff(owner[order])) + 1):
        if len(some) >= LEAST_SPLIT:
            # Seeded by its name: a new region elsewhere leaves this split alone.
            key = f"{seed} {labels[owner[some[0]]]}"
            own_seed = int(digests.sha256(key.encode())[:15], 16)
            test[some] = _hold_out(place[some], share, world, own_seed)
    gap = _near(place, test, world) & ~test
    return (~test & ~gap)[inverse], test[inverse]


def assign(names: Sequence[str], parts: int) -> NDArray[np.intp]:
    """Part 0..parts-1 of each name by rendezvous hashing, (n,): the part whose mixed hash with
    the name is largest, so that another number of parts moves as few names as can be."""
    if parts < 1:
        raise BadInput(f"parts: expected at least 1, found {parts}")
    own = _hashes([f"name {name}" for name in names])
    best = np.zeros(len(own), dtype=np.uint64)
    chosen = np.zeros(len(own), dtype=np.intp)
    for part, salt in enumerate(_hashes([f"part {part}" for part in range(parts)])):
        weight = _mixed(own ^ salt)
        better = (weight > best) | (part == 0)
        best[better], chosen[better] = weight[better], part
    return chosen


def read_regions(path: str | Path, precision: int) -> dict[str, str]:
    """Geohash prefix -> region name from a file, for `Settings.regions`.

    A GeoJSON FeatureCollection of named polygons (a cell of `precision` belongs to the first
    polygon that holds its centre), a JSON object {prefix: name}, or CSV lines `prefix,name`
    with or without a header. Raises BadInput, also above 100,000 prefixes.
    """
    text = polygons.file_text(path)
    if text.lstrip().startswith("{"):
        try:
            document = json.loads(text)
        except (ValueError, RecursionError):
            raise BadInput(f"regions {path}: expected JSON") from None
        if "features" in document:
            return _from_polygons(path, polygons.named_polygons(path, text), precision)
        pairs = list(document.items())
    else:
        pairs = [tuple(row) for row in csv.reader(io.StringIO(text)) if row]
        if pairs and [str(cell).strip().lower() for cell in pairs[0]][1:] == ["name"]:
            pairs = pairs[1:]
    return _from_pairs(path, pairs, precision)


@dataclass(frozen=True)
class _Trial:
    test: Mask
    cost: float


def _hold_out(place: NDArray[np.int64], share: float, world: int, seed: int) -> Mask:
    """Test cells of one group, bool (n,), of columns and rows (n, 2)."""
    rng = np.random.default_rng(seed)
    wanted = share * len(place)
    # One square for a small group, so that the gap costs little; many of 4..8 for a large one.
    small = min(4, round(wanted**0.5))
    side = min(8, max(2, small, int((wanted / 2) ** 0.5)))
    best: _Trial | None = None
    for turn in range(_TRIALS):
        trial = _place_squares(
            place, side - (turn >= _TRIALS // 2 and side > 2), wanted, world, rng
        )
        if best is None or trial.cost < best.cost:
            best = trial
        if best.cost < 0.3:
            break
    assert best is not None
    return best.test


def _place_squares(
    place: NDArray[np.int64], side: int, wanted: float, world: int, rng: np.random.Generator
) -> _Trial:
    """Squares of a randomly shifted lattice in random order until `wanted` cells are held."""
    square = (place + rng.integers(0, side, 2)) // side
    _, owner, sizes = np.unique(square, axis=0, return_inverse=True, return_counts=True)
    owner = owner.ravel()
    order = rng.permutation(len(sizes))
    # Slivers at the edge have much gap for little test.
    order = order[np.argsort(sizes[order] * 2 < side * side, kind="stable")]
    total = np.cumsum(sizes[order])
    last = int(np.searchsorted(total, wanted))
    under = total[last - 1] if last else 0
    if last < len(total) and (last == 0 or total[last] - wanted <= wanted - under):
        last += 1
    test = np.isin(owner, order[: max(last, 1)])
    lost = (_near(place, test, world) & ~test).mean()
    return _Trial(test, float(lost + abs(test.mean() - wanted / len(place)) * 2))


def _near(place: NDArray[np.int64], test: Mask, world: int) -> Mask:
    """Cells within one column and row of a test cell; columns wrap around the world."""
    column, row = place[:, 0], place[:, 1]
    stride = np.int64(2**31)
    chosen = np.unique(column[test] * stride + row[test])
    near = np.zeros(len(place), dtype=bool)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            near |= np.isin((column + dx) % world * stride + row + dy, chosen)
    return near


def _from_pairs(path: str | Path, pairs: Sequence[Any], precision: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        if len(pair) != 2:
            raise BadInput(f"regions {path}: expected prefix,name, found {','.join(pair)!r}")
        prefix, name = (str(part).strip() for part in pair)
        grid.check_geohash(prefix)
        if len(prefix) > precision:
            raise BadInput(
                f"regions {path}: expected prefixes of at most {precision} characters, "
                f"found {prefix}"
            )
        if found.setdefault(prefix, name) != name:
            raise BadInput(f"regions {path}: {prefix} is both {found[prefix]!r} and {name!r}")
    return _checked(path, found)


def _from_polygons(
    path: str | Path, features: Sequence[tuple[str, Any]], precision: int
) -> dict[str, str]:
    """Prefixes that cover polygons: whole cells as soon as they lie inside, at `precision` the
    cells whose centre does."""
    found: dict[str, str] = {}
    taken: list[Any] = []
    for name, polygon in features:
        for other in taken:
            polygon = polygon.difference(other)
        taken.append(polygon)
        cells = grid.cells_in_bbox((-180.0, -90.0, 180.0, 90.0), 1)
        for length in range(1, precision + 1):
            cells = cells[polygons.polygon_intersects(grid.bounds(cells), polygon)]
            inside = polygons.polygon_contains(grid.bounds(cells), polygon)
            if length == precision:
                inside = polygons.polygon_holds(grid.centers(cells), polygon)
            found.update(dict.fromkeys(cells[inside].tolist(), name))
            rest = cells[~inside]
            if len(found) + len(rest) > MAX_PREFIXES:
                raise BadInput(
                    f"regions {path}: {name!r} needs more than {MAX_PREFIXES} prefixes at "
                    f"precision {precision}; simplify the polygons"
                )
            cells = np.char.add(rest[:, None], np.array(list(grid.ALPHABET))).ravel()
    return _checked(path, found)


def _checked(path: str | Path, found: dict[str, str]) -> dict[str, str]:
    if not found:
        raise BadInput(f"regions {path}: expected at least one region, found none")
    if len(found) > MAX_PREFIXES:
        raise BadInput(f"regions {path}: expected at most {MAX_PREFIXES} prefixes")
    for name in set(found.values()):
        if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
            raise BadInput(
                f"regions {path}: expected names of 1 to {MAX_NAME} printable characters, "
                f"found {name[:MAX_NAME]!r}"
            )
    return dict(sorted(found.items()))


def _prefix(names: Names, length: int) -> Names:
    return names.astype(f"U{length}")


def _counts(names: Names) -> NDArray[np.intp]:
    return np.unique(names, return_counts=True)[1]


def _hashes(texts: Sequence[str]) -> NDArray[np.uint64]:
    """First 64 bits of each text's SHA-256."""
    return np.array([int(digests.sha256(text.encode())[:16], 16) for text in texts], np.uint64)


def _mixed(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64: every output bit depends on every input bit."""
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words
