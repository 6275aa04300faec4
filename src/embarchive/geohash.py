"""Geohash text to the column and row of a cell, and back.

A geohash of length p holds 5 p bits, longitude first and then in turn: (5 p + 1) // 2 of the
column, counted from the west, and 5 p // 2 of the row, counted from the south.
"""

from __future__ import annotations

import re
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from embarchive.errors import BadInput

ALPHABET = "0123456789bcdefghjkmnpqrstuvwxyz"
LONGEST = 12
_LETTERS = np.frombuffer(ALPHABET.encode(), dtype=np.uint8).astype(np.uint32)
_DIGITS = np.full(128, -1, dtype=np.int8)
_DIGITS[_LETTERS] = np.arange(32)
# Steps of spreading the low 32 bits of a word to its even places, and of collecting them.
_SPREAD = tuple(
    (np.uint64(shift), np.uint64(mask))
    for shift, mask in (
        (16, 0x0000FFFF0000FFFF),
        (8, 0x00FF00FF00FF00FF),
        (4, 0x0F0F0F0F0F0F0F0F),
        (2, 0x3333333333333333),
        (1, 0x5555555555555555),
    )
)

Names = NDArray[np.str_]
Indices = NDArray[np.int64]
Codes = NDArray[np.uint64]


def check_geohash(text: str) -> str:
    """The text itself when it is a geohash of 1 to 12 characters. Raises BadInput."""
    if not isinstance(text, str) or not re.fullmatch(f"[{ALPHABET}]{{1,12}}", text):
        raise BadInput(f"geohash: expected 1 to 12 characters of {ALPHABET}, found {text!r}")
    return text


def halvings(precision: int) -> tuple[int, int]:
    """How often longitude and latitude are halved. Raises BadInput outside 1..12."""
    if isinstance(precision, bool) or not 1 <= precision <= 12:
        raise BadInput(f"precision: expected 1 to 12, found {precision}")
    return (5 * precision + 1) // 2, 5 * precision // 2


def from_indices(column: Indices, row: Indices, precision: int) -> Names:
    """Geohashes 'U{precision}' of cells by column and row."""
    return spell(interleave(column, row, precision), precision)


def interleave(column: Indices, row: Indices, precision: int) -> Codes:
    """Cells by column and row as numbers of 5 bits a letter, in the order of their geohashes."""
    odd = (5 * precision) % 2
    return (_spread(column) << np.uint64(1 - odd)) | (_spread(row) << np.uint64(odd))


def spell(code: Codes, precision: int) -> Names:
    """Geohashes 'U{precision}' of the numbers that `interleave` gives."""
    shifts = np.arange(5 * (precision - 1), -1, -5, dtype=np.uint64)
    letters = _LETTERS[((code[..., None] >> shifts) & np.uint64(31)).astype(np.intp)]
    return cast(Names, np.ascontiguousarray(letters).view(f"U{precision}")[..., 0])


def as_names(geohashes: ArrayLike) -> Names:
    """One-dimensional contiguous text, not yet checked. Raises BadInput when it is none."""
    names = np.asarray(geohashes)
    if names.size and names.dtype.kind not in "UO":
        raise BadInput(f"geohash: expected text, found {names.dtype}")
    return np.ascontiguousarray(names.astype(np.str_).ravel())


def to_indices(names: Names) -> tuple[Indices, Indices, Indices]:
    """Column and row at the depth of the longest name, and each name's length, int64 (n,).

    Raises BadInput at the first text that is not a geohash.
    """
    longest = max(1, names.dtype.itemsize // 4)
    letters = names.view(np.uint32).reshape(len(names), longest)
    digits = _DIGITS[np.minimum(letters, 127).astype(np.uint8)]
    length = np.full(len(names), longest)
    if longest > LONGEST or digits.min(initial=0) < 0:
        length, digits = _shorter(names, letters, digits)
    code = np.zeros(len(names), dtype=np.uint64)
    for digit in digits[:, :LONGEST].T:
        code = (code << np.uint64(5)) | digit.astype(np.uint64)
    odd = (5 * min(longest, LONGEST)) % 2
    column = _collect(code >> np.uint64(1 - odd)).astype(np.int64)
    return column, _collect(code >> np.uint64(odd)).astype(np.int64), length


def _shorter(
    names: Names, letters: NDArray[np.uint32], digits: NDArray[np.int8]
) -> tuple[Indices, NDArray[np.int8]]:
    """Lengths of names that are not all of the longest, and their digits with 0 behind the last."""
    length = np.count_nonzero(letters, axis=1)
    inside = np.arange(letters.shape[1]) < length[:, None]
    bad = ((digits < 0) | (letters > 127)) & inside | (inside != (letters > 0))
    wrong = bad.any(axis=1) | (length < 1) | (length > LONGEST)
    if wrong.any():
        check_geohash(str(names[int(wrong.argmax())]))
    return length, np.where(inside, digits, np.int8(0))


def _spread(numbers: Indices) -> NDArray[np.uint64]:
    word = numbers.astype(np.uint64)
    for shift, mask in _SPREAD:
        word = (word | (word << shift)) & mask
    return word


def _collect(word: NDArray[np.uint64]) -> NDArray[np.uint64]:
    word = word & _SPREAD[-1][1]
    masks = [*(mask for _, mask in _SPREAD[-2::-1]), np.uint64(0xFFFFFFFF)]
    for (shift, _), mask in zip(_SPREAD[::-1], masks, strict=True):
        word = (word | (word >> shift)) & mask
    return word
