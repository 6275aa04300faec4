"""Quantisers: embeddings as packed codes of a few bytes that decode to int8 vectors.

A quantiser is an optional linear map, then groups of dimensions with a codebook of int8 words
each. What codes decode to has one scale, so that the integer distances of `quantize` rank it.
Encoding is exact: whole numbers in float64, the same for any chunking and on any machine.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from embarchive.bitcount import LARGE, compiled_loops
from embarchive.errors import BadInput, Damaged
from embarchive.quantize import LIMIT, Int8, squared_l2
from embarchive.tensors import MAX_WEIGHTS, pack

VERSION = "1"
MAX_DIM = 4096
# Words of a codebook: codes of 1, 2, 4 or 8 bits.
SIZES = (2, 4, 16, 256)
MOST_SCALE = 1e20
# Numbers go in as 256ths of an int8 step, the map as 2^-16: with 4096 of them, each of at most
# 2^24 and 2^16, a sum is below 2^53.
FINE, _MAP, _MOST = 256, 2.0**16, 2.0**24
_CHUNK = 8192
_KINDS = {
    "scale": np.float64, "mean": np.float32, "codebooks": np.int8, "edges": np.int16,
    "matrix": np.float32, "inverse": np.float32,
}  # fmt: skip

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Quantiser:
    """Codes of vectors float (n, D) that decode to int8 (n, D'), D' = groups x width.

    scale: one step of the decoded int8, embedding units; mean: float32 (D,), taken away first;
    codebooks: int8 (groups, words, width); edges: int16 (groups, words - 1) in 256ths of a step,
    ascending, for width 1: the code is how many of them lie below the number; None for wider
    words, of which the nearest is taken; matrix: float32 (D', D), None for the identity; inverse:
    float32 (D, D'), its inverse, transpose or pseudo-inverse. Raises BadInput.
    """

    name: str
    scale: float
    mean: NDArray[np.float32]
    codebooks: NDArray[np.int8]
    edges: NDArray[np.int16] | None = None
    matrix: NDArray[np.float32] | None = None
    inverse: NDArray[np.float32] | None = None

    distance = staticmethod(squared_l2)

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z0-9+-]{1,64}", self.name):
            raise BadInput(f"quantiser: expected a name as pca16+pq8, found {self.name[:80]!r}")
        if not (math.isfinite(self.scale) and 1 / MOST_SCALE < self.scale < MOST_SCALE):
            raise BadInput(f"quantiser: expected a scale above 0, found {self.scale}")
        _check_shapes(self)
        _check_values(self)

    @property
    def dim(self) -> int:
        """How many int8 numbers a code decodes to."""
        return int(self.codebooks.shape[0] * self.codebooks.shape[2])

    @property
    def bits(self) -> int:
        """Bits of the code of a group."""
        return int(self.codebooks.shape[1]).bit_length() - 1

    @property
    def bytes(self) -> int:
        """Bytes of a row."""
        return -(-len(self.codebooks) * self.bits // 8)

    def encode(self, mu: Floats) -> NDArray[np.uint8]:
        """Codes uint8 (n, bytes) of float (n, D): of groups in order, the highest bits first.

        Raises BadInput when a number is not finite, or they are not D a row.
        """
        values = self._checked(mu)
        out = np.empty((len(values), self.bytes), dtype=np.uint8)
        for start in range(0, len(values), _CHUNK):
            some = slice(start, start + _CHUNK)
            out[some] = _packed(self._codes(self._fine(values[some])), self.bits)
        return out

    def decode(self, packed: NDArray[np.uint8]) -> NDArray[np.int8]:
        """int8 (n, D') of codes uint8 (n, bytes). Raises BadInput for another shape."""
        if packed.ndim != 2 or packed.shape[1] != self.bytes or packed.dtype != np.uint8:
            expected = f"uint8 (n, {self.bytes})"
            raise BadInput(f"quantiser: expected {expected}, found {packed.dtype} {packed.shape}")
        width = self.tables.shape[2]
        flat, first = self.tables.reshape(-1, width), 256 * np.arange(self.bytes)
        out = np.empty((len(packed), self.dim), dtype=np.int8)
        for start in range(0, len(packed), _CHUNK):
            some = packed[start : start + _CHUNK]
            found = np.take(flat, some + first, axis=0).reshape(len(some), -1)
            out[start : start + _CHUNK] = found[:, : self.dim]
        return out

    def vectors(self, packed: NDArray[np.uint8]) -> NDArray[np.float32]:
        """float32 (n, D) near what was encoded."""
        return self.restore(self.decode(packed))

    def restore(self, q: NDArray[np.int8]) -> NDArray[np.float32]:
        """float32 (n, D) of decoded int8 (n, D'). Raises BadInput for another length."""
        if q.ndim != 2 or q.shape[1] != self.dim:
            raise BadInput(f"quantiser: expected vectors (n, {self.dim}), found {q.shape}")
        z = Int8(self.scale).decode(q)
        return np.asarray(z if self.inverse is None else z @ self.inverse.T) + self.mean

    def query(self, mu: Floats) -> NDArray[np.int8]:
        """int8 (m, D') of float exemplars (m, D): mapped and rounded to the scale, but not through
        the codebooks, so that they lose less than what they are compared with."""
        return np.clip(self.steps(mu), -LIMIT, LIMIT).astype(np.int8)

    def steps(self, mu: Floats) -> NDArray[np.int64]:
        """As `query`, int64 (m, D'), however large the numbers are."""
        return np.rint(self._fine(self._checked(mu)) / FINE).astype(np.int64)

    @cached_property
    def tables(self) -> NDArray[np.int8]:
        """int8 (bytes, 256, k): the k numbers that each value of each byte decodes to; of the last
        byte perhaps more than there are."""
        groups, words, width = self.codebooks.shape
        share = 8 // self.bits
        whole = np.zeros((self.bytes * share, words, width), dtype=np.int8)
        whole[:groups] = self.codebooks
        shifts = self.bits * np.arange(share)[::-1]
        codes = np.arange(256)[:, None] >> shifts & (words - 1)
        found = whole.reshape(self.bytes, share, words, width)[:, np.arange(share), codes]
        return np.ascontiguousarray(found).reshape(self.bytes, 256, share * width)

    def _checked(self, mu: Floats) -> NDArray[np.float64]:
        values = np.asarray(mu, dtype=np.float64)
        if values.ndim != 2 or values.shape[1] != len(self.mean):
            expected = f"vectors (n, {len(self.mean)})"
            raise BadInput(f"quantiser: expected {expected}, found {values.shape}")
        if not np.isfinite(values).all():
            count = int(np.count_nonzero(~np.isfinite(values)))
            raise BadInput(f"quantiser: expected finite numbers, found {count} that are not")
        return values

    def _fine(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mapped numbers (n, D') in 256ths of a step, exact."""
        fine = np.rint((values - self.mean) * (FINE / self.scale))
        fine = np.clip(fine, -_MOST, _MOST)
        if self.matrix is None:
            return fine
        whole = np.rint(self.matrix.astype(np.float64) * _MAP)
        return fine @ whole.T / _MAP

    def _codes(self, fine: NDArray[np.float64]) -> NDArray[np.uint8]:
        """The code of each group, uint8 (n, groups)."""
        groups, _, width = self.codebooks.shape
        codes = np.empty((len(fine), groups), dtype=np.uint8)
        if self.edges is not None:
            for group, edges in enumerate(self.edges.astype(np.float64)):
                codes[:, group] = np.searchsorted(edges, fine[:, group], side="left")
            return codes
        # 16ths of a step, and no further out than matters: all of it whole numbers.
        near = np.clip(np.rint(fine / 16), -(2**20), 2**20).reshape(len(fine), groups, width)
        loops = compiled_loops() if near.size >= LARGE >> 8 else None
        # Sums below 2^24 are exact in float32, of which a processor takes twice as many at once.
        most = 16 * width * LIMIT**2 + 2 * width * LIMIT * float(np.abs(near).max(initial=0))
        kind: Any = np.float32 if most < 2**24 else np.float64
        near = near.astype(kind)
        for group, words in enumerate(self.codebooks.astype(kind)):
            squares, columns = 16 * np.sum(words**2, axis=1), np.ascontiguousarray(words.T)
            if loops is not None:
                points = np.ascontiguousarray(near[:, group])
                found = np.empty(len(points), np.uint8)
                loops.nearest_words(points, columns, squares, found)
                codes[:, group] = found
            else:
                codes[:, group] = np.argmin(squares - 2 * (near[:, group] @ columns), axis=1)
        return codes


def dump_quantiser(quantiser: Quantiser) -> bytes:
    """Safetensors bytes that `load_quantiser` reads; the same quantiser gives the same bytes."""
    stored = [("scale", np.array([quantiser.scale], "<f8"))]
    for name, kind in _KINDS.items():
        value = None if name == "scale" else getattr(quantiser, name)
        if value is not None:
            little = np.dtype(kind).newbyteorder("<")
            stored.append((name, np.ascontiguousarray(value.astype(little))))
    about = {"format": "embarchive", "version": VERSION, "kind": "quantiser"}
    return pack(stored, about | {"name": quantiser.name})


def load_quantiser(data: bytes, dim: int, length: int) -> Quantiser:
    """The quantiser of vectors of `dim` numbers whose codes take `length` bytes. Raises Damaged
    when it is not one."""
    if len(data) > MAX_WEIGHTS:
        raise Damaged(f"quantiser: expected at most {MAX_WEIGHTS} bytes, found {len(data)}")
    try:
        found = load(data)
        size = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + size])["__metadata__"]
        kind, version, name = about["kind"], about["version"], about["name"]
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error)[:80]
        raise Damaged(f"quantiser: expected safetensors of a quantiser, found {said}") from None
    if (kind, version) != ("quantiser", VERSION):
        said = f"expected a quantiser of version {VERSION}, found {kind} {version}"
        raise Damaged(f"quantiser: {said}"[:160])
    for key, value in found.items():
        if key not in _KINDS or value.dtype != _KINDS[key]:
            known = ", ".join(_KINDS)
            raise Damaged(f"quantiser: expected {known}, found {value.dtype} {key[:40]}")
    if not {"scale", "mean", "codebooks"} <= set(found) or found["scale"].shape != (1,):
        raise Damaged(f"quantiser: expected scale, mean and codebooks, found {sorted(found)}")
    scale = float(found.pop("scale")[0])
    try:
        quantiser = Quantiser(name, scale, **found)
    except BadInput as error:
        raise Damaged(str(error)) from None
    if (len(quantiser.mean), quantiser.bytes) != (dim, length):
        raise Damaged(
            f"quantiser: expected {dim} numbers in {length} bytes, found {len(quantiser.mean)} in "
            f"{quantiser.bytes}"
        )
    return quantiser


def _check_shapes(one: Quantiser) -> None:
    groups, words, width = (*one.codebooks.shape, 0, 0, 0)[:3]
    total, dim = groups * width, one.mean.size
    wanted = {
        "codebooks": (groups, words, width), "mean": (dim,), "edges": (groups, words - 1),
        "matrix": (total, dim), "inverse": (dim, total),
    }  # fmt: skip
    if words not in SIZES or not 0 < total <= MAX_DIM or not 0 < dim <= MAX_DIM:
        raise BadInput(
            f"quantiser: expected codebooks of {', '.join(map(str, SIZES))} words and at most "
            f"{MAX_DIM} numbers, found {one.codebooks.shape} for {dim}"
        )
    for name, shape in wanted.items():
        value = getattr(one, name)
        if value is not None and (value.shape != shape or value.dtype != _KINDS[name]):
            expected = f"{np.dtype(_KINDS[name])} {shape}"
            found = f"{value.dtype} {value.shape}"
            raise BadInput(f"quantiser: {name}: expected {expected}, found {found}")
    mapped = one.matrix is not None
    if mapped != (one.inverse is not None) or (not mapped and total != dim):
        raise BadInput("quantiser: expected a matrix and its inverse, or as many numbers as before")
    if (one.edges is None) == (width == 1):
        raise BadInput("quantiser: expected edges for words of one number, and for no others")


def _check_values(one: Quantiser) -> None:
    checks = {
        "mean": bool((np.abs(one.mean) < MOST_SCALE).all()),
        "edges": one.edges is None or bool((np.diff(one.edges.astype(np.int64)) >= 0).all()),
    }
    for name in ("matrix", "inverse"):
        value = getattr(one, name)
        # Rows of length 1: no number is above 1, and rounding is below a thousandth.
        checks[name] = value is None or bool((np.abs(value) <= 1.001).all())
    for name, good in checks.items():
        if not good:
            raise BadInput(f"quantiser: {name}: expected numbers within the limits, found others")


def _packed(codes: NDArray[np.uint8], bits: int) -> NDArray[np.uint8]:
    """Bytes of codes, the highest bits first, the last byte filled up with zeros."""
    share = 8 // bits
    whole = np.zeros((len(codes), -(-codes.shape[1] // share) * share), dtype=np.uint8)
    whole[:, : codes.shape[1]] = codes
    shifts = (bits * np.arange(share)[::-1]).astype(np.uint8)
    parts = whole.reshape(len(codes), -1, share) << shifts
    return cast("NDArray[np.uint8]", np.bitwise_or.reduce(parts, axis=2))
