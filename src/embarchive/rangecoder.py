"""A range coder over many short streams at once, integers alone.

Martin 1979, with the carry kept in the digits until the end. Streams are rows of arrays, so that
one numpy call codes a symbol of every stream. A stream ends with the fewest bytes that tell its
numbers; what lies beyond its end reads as zeros, and trailing zeros are not stored.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Frequencies of a table sum to 2 ** PRECISION.
PRECISION = 15
TOTAL = 1 << PRECISION
_TOP, _LEAST = (1 << 32) - 1, 1 << 24
Ints = NDArray[np.int64]


class Encoder:
    """n streams being written; `put` takes a symbol each of the first m of them."""

    def __init__(self, n: int) -> None:
        self._low = np.zeros(n, np.int64)
        self._range = np.full(n, _TOP, np.int64)
        self._digits = np.zeros((n, 64), np.int64)
        self._count = np.zeros(n, np.int64)

    def put(self, rows: slice | Ints, start: Ints, freq: Ints) -> None:
        """Code symbols that take [start, start + freq) of TOTAL, one a stream of `rows`."""
        part = self._range[rows] >> PRECISION
        low, span = self._low[rows] + part * start, part * freq
        where = np.arange(len(self._low))[rows]
        for _ in range(2):
            small = np.flatnonzero(span < _LEAST)
            if not len(small):
                break
            self._emit(where[small], low[small] >> 24)
            low[small] = (low[small] & 0xFFFFFF) << 8
            span[small] <<= 8
        self._low[rows], self._range[rows] = low, span

    def finish(self) -> list[bytes]:
        """The bytes of every stream."""
        every = np.arange(len(self._low))
        last = self._low.copy()
        wanted = np.full(len(last), 4)
        for length in (3, 2, 1, 0):
            unit = 1 << (32 - 8 * length)
            found = (self._low + unit - 1) // unit * unit
            fits = found < self._low + self._range
            last[fits], wanted[fits] = found[fits], length
        for place in range(4):
            # The first digit holds the carry, if there is one.
            digit = last >> 24 if place == 0 else (last >> (24 - 8 * place)) & 0xFF
            self._emit(every, np.where(place < np.maximum(wanted, 1), digit, 0))
        digits = self._digits
        for column in range(int(self._count.max(initial=1)) - 1, 0, -1):
            digits[:, column - 1] += digits[:, column] >> 8
            digits[:, column] &= 0xFF
        packed = digits.astype(np.uint8)
        return [
            row[:count].tobytes().rstrip(b"\0")
            for row, count in zip(packed, self._count.tolist(), strict=True)
        ]

    def _emit(self, rows: Ints, digit: Ints) -> None:
        if int(self._count.max(initial=0)) >= self._digits.shape[1]:
            self._digits = np.pad(self._digits, ((0, 0), (0, self._digits.shape[1])))
        self._digits[rows, self._count[rows]] = digit
        self._count[rows] += 1


class Decoder:
    """n streams being read; `get` gives a symbol each of the first m of them. Any bytes decode to
    some symbols."""

    def __init__(self, streams: Sequence[bytes]) -> None:
        longest = max((len(stream) for stream in streams), default=0)
        self._data = np.zeros((len(streams), longest + 4), np.int64)
        for row, stream in zip(self._data, streams, strict=True):
            row[: len(stream)] = np.frombuffer(stream, np.uint8)
        self._value = np.zeros(len(streams), np.int64)
        for place in range(4):
            self._value = self._value << 8 | self._data[:, place]
        self._range = np.full(len(streams), _TOP, np.int64)
        self._next = np.full(len(streams), 4)

    def sort(self, order: Ints) -> None:
        """Put the streams in another order."""
        self._data, self._next = self._data[order], self._next[order]
        self._value, self._range = self._value[order], self._range[order]

    def get(self, rows: slice | Ints, tables: Ints) -> Ints:
        """Symbols (m,) of the streams in `rows` by cumulative tables (m, symbols + 1) or (1,
        symbols + 1), each from 0 to TOTAL."""
        value, part = self._value[rows], self._range[rows] >> PRECISION
        share = np.minimum(value // part, TOTAL - 1)
        symbol = (tables[:, 1:-1] <= share[:, None]).sum(axis=1)
        each = np.arange(len(share)) if len(tables) > 1 else np.zeros(len(share), np.intp)
        start = tables[each, symbol]
        span = part * (tables[each, symbol + 1] - start)
        # What no writer wrote may lie beyond the last symbol: so it stays within 32 bits.
        value = np.minimum(value - part * start, span - 1)
        where = np.arange(len(self._value))[rows]
        for _ in range(2):
            small = np.flatnonzero(span < _LEAST)
            if not len(small):
                break
            at = where[small]
            place = np.minimum(self._next[at], self._data.shape[1] - 1)
            value[small] = value[small] << 8 | self._data[at, place]
            span[small] <<= 8
            self._next[at] += 1
        self._value[rows], self._range[rows] = value, span
        return np.asarray(symbol, np.int64)


def cumulative(counts: NDArray[np.float64]) -> Ints:
    """Tables (..., symbols + 1) for counts (..., symbols): frequencies of at least 1 that sum to
    TOTAL."""
    share = counts / counts.sum(axis=-1, keepdims=True)
    freq = np.maximum(np.floor(share * (TOTAL - counts.shape[-1])), 0).astype(np.int64) + 1
    # What rounding leaves over goes to the most frequent symbol.
    best = freq.argmax(axis=-1)[..., None]
    over = TOTAL - freq.sum(axis=-1, keepdims=True)
    np.put_along_axis(freq, best, np.take_along_axis(freq, best, -1) + over, -1)
    zero = np.zeros((*freq.shape[:-1], 1), np.int64)
    return np.concatenate([zero, np.cumsum(freq, axis=-1)], axis=-1)


def uniform(bits: int) -> Ints:
    """The table (1, 2 ** bits + 1) of numbers of which all are as likely."""
    return np.arange(0, TOTAL + 1, TOTAL >> bits, dtype=np.int64)[None]
