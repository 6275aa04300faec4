"""Differing bits between many rows and many codes, block by block so that a block stays in cache.

Where numba is installed its loops do large work (`compiled`); numpy gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput

Bits = NDArray[np.uint8]
ROWS = 8192
# Bytes of rows, times codes, from which numba is worth the time that it takes to start.
LARGE = 16 << 20
# Codes a word of a row from which columns pay; rows whose columns, and numbers, stay in cache.
_MANY, _COLUMNS, _NUMBERS, _FIRST = 3, 2048, 1 << 17, 1024


def blocks(bits: Bits, codes: Bits) -> Iterator[tuple[int, NDArray[np.integer[Any]]]]:
    """Hamming numbers of rows uint8 (n, W) to codes uint8 (c, W), in blocks of rows: the first row
    of each, and unsigned integers (c, rows), valid until the next block. Raises BadInput."""
    rows, wanted = np.ascontiguousarray(bits), np.ascontiguousarray(codes)
    if rows.ndim != 2 or wanted.ndim != 2 or rows.shape[1] != wanted.shape[1]:
        raise BadInput(f"hamming: expected codes of one length, found {rows.shape}, {wanted.shape}")
    if not wanted.size or not rows.size:
        return iter(())
    if rows.shape[1] % 8 == 0 and rows.size * len(wanted) >= LARGE and compiled_loops() is not None:
        return _by_numba(rows.view(np.uint64), wanted.view(np.uint64))
    return _by_numpy(rows, wanted)


def counts(bits: Bits, codes: Bits) -> NDArray[np.uint16]:
    """Hamming numbers of all rows (n, W) to codes (c, W): uint16 (c, n)."""
    out = np.zeros((len(codes), len(bits)), dtype=np.uint16)
    for start, numbers in blocks(bits, codes):
        out[:, start : start + numbers.shape[1]] = numbers
    return out


def _by_numpy(rows: Bits, codes: Bits) -> Iterator[tuple[int, NDArray[np.integer[Any]]]]:
    wide = rows.shape[1] % 8 == 0
    words: NDArray[Any] = rows.view(np.uint64) if wide else rows
    wanted: NDArray[Any] = codes.view(np.uint64) if wide else codes
    size = min(ROWS, len(rows))
    out = np.empty((len(codes), size), dtype=np.uint16)
    differing = np.empty(size, dtype=words.dtype)
    ones = np.empty(size, dtype=np.uint8)
    for start in range(0, len(rows), size):
        columns = np.ascontiguousarray(words[start : start + size].T)
        length = columns.shape[1]
        some, few = differing[:length], ones[:length]
        for code, total in zip(wanted, out[:, :length], strict=True):
            total[:] = 0
            for column, word in zip(columns, code, strict=True):
                np.bitwise_xor(column, word, out=some)
                np.bitwise_count(some, out=few)
                np.add(total, few, out=total)
        yield start, out[:, :length]


def _by_numba(
    rows: NDArray[np.uint64], codes: NDArray[np.uint64]
) -> Iterator[tuple[int, NDArray[np.integer[Any]]]]:
    loops, words = compiled_loops(), rows.shape[1]
    many = len(codes) >= _MANY * words
    size = min(_COLUMNS if many else max(ROWS, _NUMBERS // len(codes)), len(rows))
    out = np.empty((len(codes), size), dtype=np.uint16)
    columns, totals = np.empty((words, size), np.uint64), np.empty(size, np.uint64)
    start = 0
    while start < len(rows):
        # The first blocks are short: whoever keeps the best takes nearly all of them.
        part = rows[start : start + min(size, max(_FIRST, start))]
        some = out[:, : len(part)]
        if many:
            loops.by_words(part, codes, some, columns[:, : len(part)], totals[: len(part)])
        else:
            loops.by_rows(part, codes, some)
        yield start, some
        start += len(part)


@cache
def compiled_loops() -> Any:
    """The module `compiled`, None without numba."""
    try:
        from embarchive import compiled
    except ImportError:
        return None
    return compiled
