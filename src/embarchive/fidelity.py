"""The fidelity code: a tile's pixels in the bytes that a stated error, or a byte budget, allows.

A transform code: principal components over channels, cosines in space (`transform`), one quantiser
step, and a range coder (`rangecoder`) whose tables follow what was coded before (`contexts`). All
that a reader does with bytes is whole numbers, so that every machine reads the same symbols and the
same picture; the optional networks before it (the embedding's decode) and after it (`refine`) are
in floating point. A stream is one image: a tile, or all dates of a place as one of more channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from embarchive import contexts, transform
from embarchive.contexts import Ints
from embarchive.rangecoder import TOTAL, Decoder, Encoder, uniform

Floats = NDArray[np.float64]
Images = NDArray[np.float32]

BATCH = 256
# Magnitudes up to EXACT have a symbol each; above, a symbol says how many more bits follow.
EXACT, MOST_EXTRA = 14, 20
# More bits go in pieces of so many.
PIECE = 12
BUCKETS = 1 + EXACT + MOST_EXTRA
SYMBOLS = 2 * BUCKETS - 1
MOST = EXACT + 2 ** (MOST_EXTRA + 1) - 2
# Magnitudes whose place within their step is known: 1, 2, and all others.
CENTRES = 3
# The price of a bit in squared steps, near the slope of a uniform quantiser's error (2 ln 2 / 12).
SLOPE = 0.11


@dataclass(frozen=True)
class Code:
    """What reads and writes the streams of tiles.

    height, width: pixels of an image; mean float64 (channels,) and basis int64 (components,
    channels): see `transform`; steps float64 (steps,): of the quantiser, each stream names its own
    where there are several; order int64 (positions,): coefficients in scan order, flat indices into
    (components, height, width); expected int64 (steps, positions): magnitudes, see `contexts`;
    tables int64 (CLASSES, SYMBOLS + 1), end_tables (steps, ends + 1) and step_table (1, steps + 1):
    cumulative frequencies; ends int64 (ends,): after how many positions a stream may end; centres
    int64 (CLASSES, CENTRES): where in its step a magnitude of 1, 2 or more lies, 64ths of a step.
    """

    height: int
    width: int
    mean: Floats
    basis: Ints
    steps: Floats
    order: Ints
    expected: Ints
    tables: Ints
    end_tables: Ints
    step_table: Ints
    ends: Ints
    centres: Ints

    @property
    def shape(self) -> tuple[int, int, int]:
        """Components, height and width of the coefficients of a tile."""
        return len(self.basis), self.height, self.width

    @cached_property
    def scan(self) -> contexts.Scan:
        """The neighbours of the positions."""
        return contexts.scan(self.order, self.shape)

    @cached_property
    def near(self) -> Ints:
        """`contexts.expected_near` of each step, (steps, positions)."""
        return np.stack([contexts.expected_near(self.scan, one) for one in self.expected])

    @cached_property
    def bits(self) -> Floats:
        """What a magnitude of each bucket costs with its sign, (CLASSES, BUCKETS)."""
        freq = np.diff(self.tables, axis=1)
        pairs = freq[:, 1::2] + freq[:, 2::2]
        found = -np.log2(np.concatenate([freq[:, :1], pairs], axis=1) / TOTAL)
        found[:, 1:] += 1
        found[:, EXACT + 1 :] += np.arange(1, MOST_EXTRA + 1)
        return found


@dataclass(frozen=True)
class Levels:
    """What is written of n tiles: level int64 (positions, n); kind: the classes, likewise; end
    (n,): index into ends; step (n,): index into steps; bits float64 (n,): about what it takes."""

    level: Ints
    kind: Ints
    end: Ints
    step: Ints
    bits: Floats


def encode(code: Code, images: Images, most: int | None = None) -> list[bytes]:
    """A stream for each of images float32 (n, channels, height, width).

    most: bytes of a stream at most, reached by the choice of its step; None: the first step for
    all.
    """
    found: list[bytes] = []
    for start in range(0, len(images), BATCH):
        values = coefficients(code, images[start : start + BATCH])
        step = np.zeros(values.shape[1], np.int64)
        if most is None:
            found += write(code, choose(code, values, step))
        else:
            found += _within(code, values, most)
    return found


def _within(code: Code, values: Floats, most: int) -> list[bytes]:
    """Streams of at most so many bytes: the finest step that fits, halving what is left to try;
    where the coarsest does not, an earlier end."""
    finest = np.zeros(values.shape[1], np.int64)
    coarsest = finest + len(code.steps) - 1
    while (finest < coarsest).any():
        middle = (finest + coarsest) // 2
        long = _long(write(code, choose(code, values, middle)), most)
        finest = np.minimum(np.where(long, middle + 1, finest), coarsest)
        coarsest = np.where(long, coarsest, middle)
    choice = choose(code, values, coarsest)
    streams = write(code, choice)
    while (long := _long(streams, most) & (choice.end > 0)).any():
        choice = replace(choice, end=choice.end - long)
        streams = write(code, choice)
    return streams


def _long(streams: Sequence[bytes], most: int) -> NDArray[np.bool_]:
    return np.array([len(stream) > most for stream in streams], dtype=bool)


def decode(code: Code, streams: Sequence[bytes]) -> Images:
    """Images float32 (n, channels, height, width) of streams; any bytes give some image."""
    shape = (len(streams), code.basis.shape[1], code.height, code.width)
    found = np.empty(shape, np.float32)
    for start in range(0, len(streams), BATCH):
        found[start : start + BATCH] = picture(code, read(code, streams[start : start + BATCH]))
    return found


def coefficients(code: Code, images: Images) -> Floats:
    """In scan order, float64 (positions, n)."""
    found = transform.forward(images, code.mean, code.basis)
    return np.ascontiguousarray(found.reshape(len(images), -1)[:, code.order].T)


def picture(code: Code, choice: Levels) -> Images:
    """What a reader sees of a choice, float32 (n, channels, height, width)."""
    level, n = choice.level, choice.level.shape[1]
    size = np.abs(level)
    centre = code.centres[choice.kind, np.clip(size, 1, CENTRES) - 1]
    units = np.sign(level) * (size * transform.STEP_UNITS + centre)
    flat = np.zeros((n, int(np.prod(code.shape))))
    flat[:, code.order[: len(level)]] = units.T
    found = np.empty((n, code.basis.shape[1], code.height, code.width), np.float32)
    for step in np.unique(choice.step).tolist():
        some = choice.step == step
        whole = flat[some].reshape(-1, *code.shape)
        found[some] = transform.inverse(whole, float(code.steps[step]), code.mean, code.basis)
    return found


def choose(code: Code, values: Floats, step: Ints, slope: float = SLOPE) -> Levels:
    """Levels of coefficients (positions, n) at steps (n,): each the rounded one or the one below,
    whichever is worth its bits, and the end after which no more is."""
    x = np.abs(values) / code.steps[step]
    top = np.minimum(np.floor(x + 0.5), MOST).astype(np.int64)
    some = np.flatnonzero(top.any(axis=1))
    last = int(np.searchsorted(code.ends, some[-1] + 1 if len(some) else 0))
    positions = int(code.ends[last])
    n, each = len(step), np.arange(len(step))
    size = np.zeros((len(code.order) + 1, n), np.int64)
    kind = np.zeros((positions, n), np.int64)
    gain, cost = np.zeros((positions + 1, n)), np.zeros((positions + 1, n))
    expected, near = code.expected[step].T, code.near[step].T
    for at in range(positions):
        own = contexts.classes(code.scan, at, near[at], expected[at], size)
        high, centre, price = top[at], code.centres[own] / transform.STEP_UNITS, code.bits[own]
        low = np.maximum(high - 1, 0)
        kept = [_value(x[at], level, centre, price, each, slope) for level in (high, low)]
        better = kept[1][0] > kept[0][0]
        size[at], kind[at] = np.where(better, low, high), own
        gain[at + 1] = np.where(better, kept[1][0], kept[0][0])
        cost[at + 1] = np.where(better, kept[1][1], kept[0][1])
    price = -np.log2(np.diff(code.end_tables[step], axis=1) / TOTAL)[:, : last + 1]
    ends = code.ends[: last + 1]
    total = np.cumsum(gain, axis=0)[ends].T - slope * price
    end = total.argmax(axis=1)
    bits = np.cumsum(cost, axis=0)[ends[end], each] + price[each, end]
    bits += -np.log2(np.diff(code.step_table)[0, step] / TOTAL)
    size = size[:positions] * (np.arange(positions)[:, None] < ends[end])
    return Levels(size * np.sign(values[:positions]).astype(np.int64), kind, end, step, bits)


def _value(
    x: Floats, level: Ints, centre: Floats, price: Floats, each: NDArray[np.intp], slope: float
) -> tuple[Floats, Floats]:
    """How much better than nothing a level is, in squared steps, and its bits."""
    known = level > 0
    place = np.where(known, level + centre[each, np.clip(level, 1, CENTRES) - 1], 0)
    bits = price[each, bucket(level)]
    return x**2 - (x - place) ** 2 - slope * bits, bits


def bucket(magnitude: Ints) -> Ints:
    """The bucket of each magnitude."""
    over = np.maximum(magnitude - EXACT + 1, 1)
    extra = np.floor(np.log2(over)).astype(np.int64)
    return np.where(magnitude <= EXACT, magnitude, EXACT + extra)


# ---------------------------------------------------------------- streams


def write(code: Code, choice: Levels) -> list[bytes]:
    """The streams of a choice."""
    count = code.ends[choice.end]
    order = np.argsort(-count, kind="stable")
    coder = Encoder(len(order))
    every = slice(0, len(order))
    if len(code.steps) > 1:
        _put(coder, every, np.broadcast_to(code.step_table, (len(order), len(code.steps) + 1)),
             choice.step[order])  # fmt: skip
    _put(coder, every, code.end_tables[choice.step[order]], choice.end[order])
    level, kind, count = choice.level[:, order], choice.kind[:, order], count[order]
    size = np.abs(level)
    box = bucket(size)
    symbol = np.where(size > 0, 2 * box - (level > 0), 0)
    for at in range(int(count.max(initial=0))):
        rows = slice(0, int(np.searchsorted(-count, -at)))
        _put(coder, rows, code.tables[kind[at, rows]], symbol[at, rows])
        more = box[at, rows] - EXACT
        for extra in np.unique(more[more > 0]).tolist():
            some = np.flatnonzero(more == extra)
            rest = size[at, some] - EXACT + 1 - (1 << extra)
            for shift in range(0, extra, PIECE):
                table = uniform(min(PIECE, extra - shift))
                piece = (rest >> shift) & (table.shape[1] - 2)
                _put(coder, some, np.repeat(table, len(some), axis=0), piece)
    streams = coder.finish()
    found = [b""] * len(streams)
    for place, stream in zip(order.tolist(), streams, strict=True):
        found[place] = stream
    return found


def read(code: Code, streams: Sequence[bytes]) -> Levels:
    """What streams say; any bytes say something."""
    coder, n = Decoder(streams), len(streams)
    step = coder.get(slice(0, n), code.step_table) if len(code.steps) > 1 else np.zeros(n, np.int64)
    end = coder.get(slice(0, n), code.end_tables[step])
    count = code.ends[end]
    order = np.argsort(-count, kind="stable")
    coder.sort(order)
    count, positions = count[order], int(count.max(initial=0))
    level, size = np.zeros((positions, n), np.int64), np.zeros((len(code.order) + 1, n), np.int64)
    kind = np.zeros((positions, n), np.int64)
    expected, near = code.expected[step[order]].T, code.near[step[order]].T
    for at in range(positions):
        rows = slice(0, int(np.searchsorted(-count, -at)))
        own = contexts.classes(code.scan, at, near[at, rows], expected[at, rows], size[:, rows])
        symbol = coder.get(rows, code.tables[own])
        box = (symbol + 1) // 2
        more = box - EXACT
        for extra in np.unique(more[more > 0]).tolist():
            some = np.flatnonzero(more == extra)
            rest = np.zeros(len(some), np.int64)
            for shift in range(0, extra, PIECE):
                rest |= coder.get(some, uniform(min(PIECE, extra - shift))) << shift
            box[some] = EXACT - 1 + (1 << extra) + rest
        kind[at, rows], size[at, rows] = own, box
        level[at, rows] = np.where(symbol % 2, box, -box)
    back = np.argsort(order)
    return Levels(level[:, back], kind[:, back], end, step, np.zeros(n))


def _put(coder: Encoder, rows: slice | Ints, tables: Ints, symbol: Ints) -> None:
    each = np.arange(len(symbol))
    start = tables[each, symbol]
    coder.put(rows, start, tables[each, symbol + 1] - start)
