"""Loops that numba compiles when they are first called, for the processor at hand.

The machine counts the bits of a word, or of several, in one instruction, for which numpy makes a
pass through memory; a single code is then compared as fast as memory gives the rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Floats = NDArray[np.floating[Any]]


def _count_ones(typing: Any, word: Any) -> Any:
    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.ctpop(values[0])

    return types.uint64(types.uint64), generate


# How many bits of a word are 1, in the machine's own instruction.
_ones: Any = intrinsic(_count_ones)


@njit(nogil=True)
def by_rows(rows: Words, codes: Words, out: NDArray[np.uint16]) -> None:
    """Differing bits of rows (n, k) and codes (c, k) into out (c, n): for few codes."""
    for row in range(rows.shape[0]):
        for code in range(codes.shape[0]):
            total = np.uint64(0)
            for word in range(rows.shape[1]):
                total += _ones(rows[row, word] ^ codes[code, word])
            out[code, row] = total


@njit(nogil=True)
def by_words(
    rows: Words, codes: Words, out: NDArray[np.uint16], columns: Words, totals: Words
) -> None:
    """The same by a column a word, which pays for many codes; columns (k, n), totals (n,): room."""
    count, words = rows.shape
    for row in range(count):
        for word in range(words):
            columns[word, row] = rows[row, word]
    for code in range(codes.shape[0]):
        totals[:] = 0
        for word in range(words):
            wanted, column = codes[code, word], columns[word]
            for row in range(count):
                totals[row] += _ones(column[row] ^ wanted)
        numbers = out[code]
        for row in range(count):
            numbers[row] = totals[row]


# All of them whole numbers that the type holds, so that no order of sums changes one.
@njit(nogil=True, fastmath=True)
def nearest_words(points: Floats, words: Floats, squares: Floats, out: NDArray[np.uint8]) -> None:
    """The word (w, k) of least `squares[k] - 2 points . word` for each point (n, w), of equals the
    first, into out (n,)."""
    width, count = words.shape
    gaps = np.empty(count, points.dtype)
    for row in range(points.shape[0]):
        gaps[:] = squares
        for axis in range(width):
            twice = 2 * points[row, axis]
            for word in range(count):
                gaps[word] -= twice * words[axis, word]
        least = gaps[0]
        for word in range(count):
            least = min(least, gaps[word])
        best = 0
        while gaps[best] != least:
            best += 1
        out[row] = best
