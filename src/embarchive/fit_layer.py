"""Fit the fidelity layer of a space: its block, its quantiser step, pixels or what the embedding
lacks of them, and its filter; and the code of dates together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import (
    digests,
    encode,
    fidelity,
    fit_fidelity,
    fit_refine,
    fitting,
    grid,
    refine,
    regions,
)
from embarchive.codes import CLEAR, DECODERS, complete, pictures, share, slots
from embarchive.errors import BadInput
from embarchive.fitting import Base
from embarchive.gather import Sample, chip_grid
from embarchive.layer import BASES, Layer, dump_layer, load_layer, rest_of
from embarchive.manifest import Space, object_path
from embarchive.model import Array
from embarchive.recipe import Quality, Recipe, Settings, parse_quality
from embarchive.storage import Store

LEAST_TILES = 32
# Dates of a place that are worth a code of their own, and what it has to come to beside that of
# single tiles.
LEAST_DATES, LEAST_SHARED = 3, 0.95
# Tiles that the search for a step looks at, two of three to fit to; and those that all is fitted
# to.
TRIED, MOST_TILES = 600, 4096
# One tile of so many is kept to see whether the filter helps there.
CHECK = 6
# A filter that gains less is not worth a second network.
LEAST_GAIN = 0.99
# How near below a quality a step has to come, as a logarithm, and trials for it.
_NEAR, _TRIES = 0.03, 10
Step = Callable[[int, int], None]


@dataclass(frozen=True)
class Tiles:
    """geohash (n,); pixels and decoded float32 (n, bands, height, width): chips, and what their
    embeddings decode to; clear (n,): shares that are data and not cloud; date (n,): number of the
    date in the order of `dates`, -1 for none of them."""

    geohash: NDArray[np.str_]
    pixels: Array
    decoded: Array
    clear: NDArray[np.floating]
    date: NDArray[np.int64]

    def only(self, rows: NDArray[np.bool_]) -> Tiles:
        """The tiles of a mask (n,)."""
        return Tiles(
            self.geohash[rows],
            self.pixels[rows],
            self.decoded[rows],
            self.clear[rows],
            self.date[rows],
        )


def halves(left_out: Tiles) -> tuple[Tiles | None, Tiles]:
    """Tiles that no network has seen, by place: those that the step of a code is chosen by, None
    where they are too few, and those that its error is stated of."""
    first = regions.assign(left_out.geohash.tolist(), 2) == 0
    if first.sum() < LEAST_TILES or (~first).sum() < LEAST_TILES:
        return None, left_out
    return left_out.only(first), left_out.only(~first)


def add_layer(
    store: Store,
    base: Base,
    settings: Settings,
    recipe: Recipe,
    samples: tuple[Sample, Sample],
    when: Sequence[datetime | None],
    step: Step,
) -> Space:
    """The space of `base` with the fidelity codes that the recipe asks for, written and measured;
    samples: training and test chips; when: dates of the scenes. Without a quality the space as it
    is. Raises BadInput."""
    quality = parse_quality(recipe.quality)
    if quality is None:
        return base.space
    dates = clear_dates(samples[0], when)
    train, left_out = (_tiles(base, some, when, dates) for some in samples)
    seen, test = halves(left_out)
    peak, bands = base.space.peak, len(settings.bands)
    tile = fit(chip_grid(settings), train, quality, peak, recipe, step, seen)
    place = None
    if settings.codec in DECODERS:
        place = fit_place(tile, train, dates, quality, peak, recipe, step)
    written = [None if one is None else _put(store, one, recipe) for one in (tile, place)]
    code, together = written
    assert code is not None
    size = bands, settings.height, settings.width
    made = load_layer(code[2], *size)
    about = _measured(made, test, settings)
    if together is not None:
        about["together"] = _measured_place(load_layer(together[2], *size), test)
    return replace(
        base.space,
        code=code[0],
        code_length=code[1],
        quality=recipe.quality,
        together=together and together[0],
        together_length=together[1] if together else 0,
        trained={**base.space.trained, "code": about},
    )


def _put(store: Store, layer: Layer, recipe: Recipe) -> tuple[str, int, bytes]:
    """Write a layer; its hash, length and bytes."""
    data = dump_layer(layer, recipe.weights)
    sha = digests.sha256(data)
    store.put_new(object_path("model", sha), data)
    return sha, len(data), data


def clear_dates(sample: Sample, when: Sequence[datetime | None]) -> tuple[str, ...]:
    """ISO dates, in order, on which at least half of the tiles are clear."""
    if sample.scene is None:
        return ()
    clear = sample.valid.mean(axis=(1, 2)) >= CLEAR
    days = [None if day is None else day.isoformat() for day in when]
    found = []
    for day in sorted({day for day in days if day is not None}):
        some = np.isin(sample.scene, [i for i, one in enumerate(days) if one == day])
        if some.any() and clear[some].mean() >= 0.5:
            found.append(day)
    return tuple(found)


def fit_place(
    tile: Layer,
    tiles: Tiles,
    dates: tuple[str, ...],
    quality: Quality,
    peak: float,
    recipe: Recipe,
    step: Step,
) -> Layer | None:
    """A code of all dates of a place together, where there are enough of both and it is at least
    LEAST_SHARED better than that of single tiles at the same quality; else None."""
    rows = complete(tiles.geohash.tolist(), tiles.date.tolist(), tiles.clear.tolist(), len(dates))
    if len(dates) < LEAST_DATES or len(rows) < LEAST_TILES or quality.kind == "most":
        return None
    rows = rows[np.random.default_rng(recipe.seed).permutation(len(rows))[:MOST_TILES]]
    block = (..., *tile.block(*tiles.pixels.shape[2:]))
    pixels, decoded = tiles.pixels[rows][block], tiles.decoded[rows][block]
    n, count, bands, height, width = pixels.shape
    alone = rest_of(tile.basis, pixels, decoded)
    left_alone = _fit_step(alone.reshape(-1, bands, height, width), quality, peak)[1]
    # A stream is of all dates, so that its bytes are too.
    whole = Quality("bytes", quality.value * count) if quality.kind == "bytes" else quality
    shape = n, count * bands, height, width
    stacked, below = pixels.reshape(shape), decoded.reshape(shape)
    basis, at, left = _fit_basis(stacked, below, whole, peak)
    if left / (1 if quality.kind == "bytes" else count) > LEAST_SHARED * left_alone:
        return None
    made = Layer(fit_fidelity.fit(rest_of(basis, stacked, below), at), basis, dates=dates)
    return with_filter_of_dates(made, stacked, below, tiles.geohash[rows[:, 0]], recipe, step)


def with_filter_of_dates(
    made: Layer,
    pixels: Array,
    decoded: Array,
    geohash: NDArray[np.str_],
    recipe: Recipe,
    step: Step,
) -> Layer:
    """The layer of dates together with a filter, where there may be one and it helps; pixels,
    decoded float32 (places, dates x bands, height, width) of the places geohash (places,)."""
    images = rest_of(made.basis, pixels, decoded)
    coded = fidelity.decode(made.code, fidelity.encode(made.code, images))
    dates, (n, channels, height, width) = len(made.dates), pixels.shape
    shape = n * dates, channels // dates, height, width
    coded = made.shown(coded.reshape(shape), decoded.reshape(shape))
    check = regions.assign(geohash.tolist(), CHECK) == 0
    return _mended(made, coded, pixels.reshape(shape), np.repeat(check, dates), recipe, step)


def _measured_place(place: Layer, test: Tiles) -> dict[str, Any]:
    """What it comes to on held-out places, a tile; None where there are none."""
    dates = len(place.dates)
    rows = complete(test.geohash.tolist(), test.date.tolist(), test.clear.tolist(), dates)
    about = {"dates": list(place.dates), "filter": place.filter is not None}
    if not len(rows):
        return {**about, "bytes": None, "mse": None}
    streams = share(place, test.pixels[rows], test.decoded[rows])
    flat = rows.ravel()
    block = (..., *place.block(*test.pixels.shape[2:]))
    every = [stream for stream in streams for _ in range(dates)]
    date = np.tile(np.arange(dates), len(rows)).tolist()
    gap = pictures(place, every, date, test.decoded[flat][block]) - test.pixels[flat][block]
    return {
        **about,
        "bytes": float(np.mean([len(stream) for stream in streams])) / dates,
        "mse": float((gap.astype(np.float64) ** 2).mean()),
    }


def _tiles(
    base: Base, sample: Sample, when: Sequence[datetime | None], dates: tuple[str, ...]
) -> Tiles:
    # The adapters of regions are not there yet; what they add the code will not have to.
    z = fitting.stored_vectors(base, sample.pixels)
    decoded = encode.decode_chips(base.architecture, base.backbone, None, z)
    slot = slots(when, dates)
    scene = np.zeros(len(sample), np.int64) if sample.scene is None else sample.scene
    date = np.array([slot.get(one, -1) for one in scene.tolist()], np.int64)
    return Tiles(sample.geohash, sample.pixels, decoded, sample.valid.mean(axis=(1, 2)), date)


def _measured(made: Layer, test: Tiles, settings: Settings) -> dict[str, Any]:
    """What the layer comes to on held-out tiles; None where there are none."""
    about = {"basis": made.basis, "filter": made.filter is not None}
    if not len(test.pixels):
        return {**about, "bytes": None, "mse": None}
    streams = made.write(test.pixels, test.decoded)
    block = (..., *made.block(settings.height, settings.width))
    gap = made.apply(test.decoded, streams)[block] - test.pixels[block]
    return {
        **about,
        "bytes": float(np.mean([len(stream) for stream in streams])),
        "mse": float((gap.astype(np.float64) ** 2).mean()),
    }


def block_of(chips: grid.ChipGrid, geohash: NDArray[np.str_]) -> tuple[int, int]:
    """Height and width, even, of a block in the middle of a chip that holds every cell."""
    first, end, left, right = chips.crops(np.unique(geohash)).T
    reach = np.max([chips.height / 2 - first, end - chips.height / 2])
    across = np.max([chips.width / 2 - left, right - chips.width / 2])
    return 2 * math.ceil(reach), 2 * math.ceil(across)


def fit(
    chips: grid.ChipGrid,
    tiles: Tiles,
    quality: Quality,
    peak: float,
    recipe: Recipe,
    step: Step,
    seen: Tiles | None = None,
) -> Layer:
    """A layer that meets a quality on tiles like these; peak: of PSNR; seen: tiles that its step is
    chosen by, by default some of these. `step(done, total)` is called while its filter trains.
    Raises BadInput below 32 tiles."""
    if len(tiles.pixels) < LEAST_TILES:
        raise BadInput(
            f"quality: expected at least {LEAST_TILES} training tiles to fit a code to, found "
            f"{len(tiles.pixels)}"
        )
    height, width = block_of(chips, tiles.geohash)
    top, left = (chips.height - height) // 2, (chips.width - width) // 2
    block = (..., slice(top, top + height), slice(left, left + width))
    some = np.random.default_rng(recipe.seed).permutation(len(tiles.pixels))[:MOST_TILES]
    pixels, decoded = tiles.pixels[some][block], tiles.decoded[some][block]
    judge = None if seen is None else (seen.pixels[:TRIED][block], seen.decoded[:TRIED][block])
    basis, at, _ = _fit_basis(pixels, decoded, quality, peak, judge)
    several = quality.kind == "most"
    code = fit_fidelity.fit(rest_of(basis, pixels, decoded), at, several)
    made = Layer(code, basis, int(quality.value) if several else 0)
    check = regions.assign(tiles.geohash[some].tolist(), CHECK) == 0
    return with_filter(made, pixels, decoded, check, recipe, step)


def with_filter(
    made: Layer, pixels: Array, decoded: Array, check: NDArray[np.bool_], recipe: Recipe, step: Step
) -> Layer:
    """The layer with a filter, where there may be one and it helps on the tiles to check with."""
    rest = rest_of(made.basis, pixels, decoded)
    coded = fidelity.decode(made.code, fidelity.encode(made.code, rest, made.most or None))
    return _mended(made, made.shown(coded, decoded), pixels, check, recipe, step)


def _mended(
    made: Layer, coded: Array, pixels: Array, check: NDArray[np.bool_], recipe: Recipe, step: Step
) -> Layer:
    shape = refine.choose_shape(*pixels.shape[1:])
    if shape is None or check.all() or not check.any():
        return made
    # A pass costs less than one of the shared networks, and there are more.
    weights = fit_refine.fit(
        shape, coded[~check], pixels[~check], 2 * recipe.steps, recipe.seed, step
    )
    gain = fit_refine.gain(weights, coded[check], pixels[check])
    return replace(made, filter=weights) if gain < LEAST_GAIN else made


def _fit_basis(
    pixels: Array,
    decoded: Array,
    quality: Quality,
    peak: float,
    seen: tuple[Array, Array] | None = None,
) -> tuple[str, float, float]:
    """What a code had better be of, its step, and what is left; seen: pixels and decoded of tiles
    to choose by."""
    found = {}
    for one in BASES:
        by = None if seen is None else rest_of(one, *seen)
        found[one] = _fit_step(rest_of(one, pixels, decoded), quality, peak, by)
    # As many bytes, or as small an error: what is left is the lower the better.
    basis = min(BASES, key=lambda one: found[one][1])
    return basis, *found[basis]


def _fit_step(
    images: Array, quality: Quality, peak: float, seen: Array | None = None
) -> tuple[float, float]:
    """The step that meets a quality on `seen`, or else on a third of the images, and what is left:
    the error at a number of bytes, or the bytes at an error."""
    some, cut = images[:TRIED], 2 * min(len(images), TRIED) // 3
    pair = (some[:cut], some[cut:]) if seen is None else (some, seen)
    if quality.kind in ("bytes", "most"):
        # Of streams of a most length the finest step is one at which most are too long.
        wanted = quality.value * (4 if quality.kind == "most" else 1)
        return _search(*pair, lambda size, error: (wanted / max(size, 0.01), error))
    wanted = quality.value if quality.kind == "mse" else peak**2 / 10 ** (quality.value / 10)
    return _search(*pair, lambda size, error: (error / wanted, size))


def _search(
    images: Array, seen: Array, judge: Callable[[float, float], tuple[float, float]]
) -> tuple[float, float]:
    """The coarsest step at which the first of `judge(bytes, error)` of `seen`, by a code fitted to
    images, is at most 1, and the second there; by secants of the logarithms."""
    place = math.log(float(images.std()) or 1.0)
    tried: list[tuple[float, float, float]] = []
    for _ in range(_TRIES):
        code = fit_fidelity.fit(images, math.exp(place))
        above, rest = judge(*fit_fidelity.sizes(code, seen))
        tried.append((place, math.log(max(above, 1e-9)), rest))
        if -_NEAR < tried[-1][1] <= 0:
            break
        slope = 1.2
        if len(tried) > 1 and abs(tried[-1][0] - tried[-2][0]) > 1e-6:
            slope = (tried[-1][1] - tried[-2][1]) / (tried[-1][0] - tried[-2][0])
        move = (tried[-1][1] + _NEAR / 2) / min(max(slope, 0.3), 3.0)
        place -= min(max(move, -2.0), 2.0)
    good = [one for one in tried if one[1] <= 0] or [min(tried, key=lambda one: one[1])]
    best = max(good, key=lambda one: one[1])
    return math.exp(best[0]), best[2]
