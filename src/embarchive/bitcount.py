"""Differing bits between many rows and many codes, block by block so that a block stays in cache.

numkong, where it is installed, counts wide codes and many codes at once faster; numpy gives the
same numbers.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive.errors import BadInput

Bits = NDArray[np.uint8]
ROWS = 8192
# From these bytes a code, or this many codes, numkong is the faster of the two.
WIDE, MANY = 64, 16
# Numbers of a block that numkong counts: 4 bytes each, and they stay in cache.
_NUMBERS = 1 << 17


def blocks(bits: Bits, codes: Bits) -> Iterator[tuple[int, NDArray[np.integer[Any]]]]:
    """Hamming numbers of rows uint8 (n, W) to codes uint8 (c, W), in blocks of rows: the first row
    of each, and unsigned integers (c, rows), valid until the next block. Raises BadInput."""
    rows, wanted = np.ascontiguousarray(bits), np.ascontiguousarray(codes)
    if rows.ndim != 2 or wanted.ndim != 2 or rows.shape[1] != wanted.shape[1]:
        raise BadInput(f"hamming: expected codes of one length, found {rows.shape}, {wanted.shape}")
    if not wanted.size or not rows.size:
        return iter(())
    width, count = rows.shape[1], len(wanted)
    if (width >= WIDE or count >= MANY) and _numkong() is not None:
        return _by_numkong(rows, wanted)
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


def _by_numkong(rows: Bits, codes: Bits) -> Iterator[tuple[int, NDArray[np.integer[Any]]]]:
    kernel = _numkong()
    assert kernel is not None
    packed = kernel.hammings_pack(codes, dtype="uint1")
    size = max(256, min(ROWS, _NUMBERS // len(codes)))
    out = None
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        if out is None or len(part) != out.shape[0]:
            out = kernel.empty((len(part), len(codes)), dtype="uint32")
        kernel.hammings_packed(part, packed, out=out)
        yield start, cast("NDArray[np.integer[Any]]", np.asarray(out).T)


@cache
def _numkong() -> Any:
    try:
        import numkong
    except ImportError:
        return None
    return numkong
