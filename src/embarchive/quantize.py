"""Embeddings as int8 numbers and SimHash bits, and the one definition of their distances.

All of it is integer arithmetic on the stored int8, so that Python, SQL and the page agree to
the last bit. Products run through float32 matrix multiplication where every partial sum is an
integer below 2**24, which is exact.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from embarchive import bitcount
from embarchive.errors import BadInput, Damaged

LIMIT = 127
HEADROOM = 1.05
# Offsets lie at these quantiles of what the planes see in the training sample.
SPREAD = (0.3, 0.7)
# SimHash bits of a row, and numbers of a vector, that an archive may have; the bytes of planes that
# a generation has room for.
MAX_BITS, MAX_PLANES = 4096, 2 << 20
# 1023 * 128 * 128 < 2**24: sums of products of int8 are exact in float32 up to here.
_EXACT_DIM = 1023
_CHUNK = 65_536

Int8s = NDArray[np.int8]


@dataclass(frozen=True)
class Int8:
    """Symmetric int8 with zero point 0: value = q * scale, q in -127..127."""

    scale: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale > 0):
            raise BadInput(f"int8: expected a scale above 0, found {self.scale}")

    def encode(self, mu: NDArray[np.floating[Any]]) -> Int8s:
        """int8 (n, D) of float (n, D): round half to even, clip to +-127.

        Raises BadInput when a number is not finite.
        """
        return np.clip(self._rounded(mu), -LIMIT, LIMIT).astype(np.int8)

    def decode(self, q: Int8s) -> NDArray[np.float32]:
        """float32 (n, D) of int8 (n, D)."""
        return np.asarray(q).astype(np.float32) * np.float32(self.scale)

    def saturation(self, mu: NDArray[np.floating[Any]]) -> float:
        """The share of numbers that `encode` clips, 0..1."""
        rounded = self._rounded(mu)
        return float(np.mean(np.abs(rounded) > LIMIT)) if rounded.size else 0.0

    def _rounded(self, mu: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
        values = np.asarray(mu, dtype=np.float64)
        if not np.isfinite(values).all():
            count = int(np.count_nonzero(~np.isfinite(values)))
            raise BadInput(f"int8: expected finite numbers, found {count} that are not")
        return cast("NDArray[np.float64]", np.rint(values / self.scale))


def fit_int8(mu: NDArray[np.floating[Any]]) -> Int8:
    """Calibrate on training embeddings float (n, D): 5 % above their largest magnitude is 127.

    The scale is a float32 number, the same in every language. Raises BadInput without data.
    """
    values = np.asarray(mu, dtype=np.float64)
    if not values.size or not np.isfinite(values).all():
        raise BadInput(f"int8: expected finite embeddings to calibrate on, found {values.shape}")
    # Embeddings that are all zero fit any scale.
    step = HEADROOM * float(np.abs(values).max()) / LIMIT
    return Int8(float(np.float32(step)) or 1.0)


@dataclass(frozen=True)
class SimHash:
    """Bits of an int8 vector: bit b is 1 where planes[b] . q > offsets[b].

    planes: int8 (B, D); offsets: int32 (B,); B a multiple of 8. Raises BadInput.
    """

    planes: Int8s
    offsets: NDArray[np.int32]

    def __post_init__(self) -> None:
        bits = len(self.offsets)
        if self.planes.ndim != 2 or len(self.planes) != bits or not bits or bits % 8:
            raise BadInput(
                f"simhash: expected planes (B, D) and offsets (B,) with B a multiple of 8, found "
                f"{self.planes.shape} and {self.offsets.shape}"
            )
        if self.planes.dtype != np.int8 or self.offsets.dtype != np.int32:
            found = f"{self.planes.dtype} and {self.offsets.dtype}"
            raise BadInput(f"simhash: expected int8 planes and int32 offsets, found {found}")

    @property
    def bits(self) -> int:
        """How many bits a vector gets."""
        return len(self.offsets)

    def encode(self, q: Int8s) -> NDArray[np.uint8]:
        """uint8 (n, B / 8) of int8 (n, D); bit b is in byte b // 8, highest first."""
        if q.ndim != 2 or q.shape[1] != self.planes.shape[1] or q.dtype != np.int8:
            expected = f"int8 (n, {self.planes.shape[1]})"
            raise BadInput(f"simhash: expected {expected}, found {q.dtype} {q.shape}")
        out = np.empty((len(q), self.bits // 8), dtype=np.uint8)
        for start in range(0, len(q), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[part] = np.packbits(_products(q[part], self.planes) > self.offsets, axis=1)
        return out

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values: bits, dim, planes as base64 of int8 row by row, offsets."""
        return {
            "bits": self.bits,
            "dim": int(self.planes.shape[1]),
            "planes": base64.b64encode(np.ascontiguousarray(self.planes).tobytes()).decode(),
            "offsets": self.offsets.tolist(),
        }

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> SimHash:
        """Inverse of `to_json`; raises Damaged unless every value is what it must be."""
        if not isinstance(values, dict) or set(values) != {"bits", "dim", "planes", "offsets"}:
            found = sorted(values) if isinstance(values, dict) else type(values).__name__
            raise Damaged(f"simhash: expected keys bits, dim, offsets, planes, found {found}")
        bits, dim, offsets = values["bits"], values["dim"], values["offsets"]
        if not _is_int(bits, 8, MAX_BITS) or bits % 8 or not _is_int(dim, 1, MAX_BITS):
            raise Damaged(f"simhash: expected bits in eights and a dim, found {bits!r}, {dim!r}")
        if not isinstance(offsets, list) or len(offsets) != bits:
            raise Damaged(f"simhash: expected {bits} offsets")
        if not all(_is_int(offset, -(2**31), 2**31 - 1) for offset in offsets):
            raise Damaged("simhash: expected offsets that are 32-bit integers")
        try:
            raw = base64.b64decode(values["planes"], validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise Damaged("simhash: expected planes in base64") from None
        if len(raw) != bits * dim:
            raise Damaged(f"simhash: expected {bits * dim} bytes of planes, found {len(raw)}")
        planes = np.frombuffer(raw, dtype=np.int8).reshape(bits, dim)
        return cls(planes, np.array(offsets, dtype=np.int32))


def fit_simhash(q: Int8s, bits: int, seed: int) -> SimHash | None:
    """Planes for a training sample int8 (n, D); None for 0 bits.

    Directions come in orthogonal sets of D; offsets are spread over the middle quantiles of
    the sample, so that bits are balanced and length counts as well as direction. Recall of the
    exact L2 top 10 in a shortlist of 200, 128 bits, 20,000 x 64, mean of 3 seeds, against
    independent planes through the mean: Gaussian mixtures .963 (.944), .995 (.986), .955
    (.926); a curved sheet .995 (.993); one round Gaussian .543 (.424).
    Raises BadInput.
    """
    if bits == 0:
        return None
    if q.ndim != 2 or not q.size or q.dtype != np.int8 or bits < 0 or bits % 8:
        raise BadInput(
            f"simhash: expected int8 vectors (n, D) and bits in eights, found {q.dtype} {q.shape} "
            f"and {bits}"
        )
    rng = np.random.default_rng(seed)
    dim = q.shape[1]
    sets = [np.linalg.qr(rng.normal(size=(dim, dim)))[0] for _ in range(-(-bits // dim))]
    directions = np.concatenate(sets)[:bits]
    planes = np.rint(directions / np.abs(directions).max(axis=1, keepdims=True) * LIMIT)
    planes = planes.astype(np.int8)
    low, high = SPREAD
    shares = low + (high - low) * (rng.permutation(bits) + 0.5) / bits
    seen = np.sort(_products(q, planes), axis=0)
    # The lower neighbour of each quantile: an exact integer, and `>` splits beside it.
    rows = np.floor(shares * (len(q) - 1)).astype(np.intp)
    return SimHash(planes, seen[rows, np.arange(bits)].astype(np.int32))


def check_bits(bits: int, dim: int, asked: str) -> int:
    """The bits themselves where vectors of `dim` numbers (of several spaces: all together) can have
    as many. asked: by what, for errors. Raises BadInput."""
    most = min(MAX_BITS, MAX_PLANES // dim) // 8 * 8
    if not 0 <= bits <= most or bits % 8:
        raise BadInput(f"{asked}: bits: expected a multiple of 8, at most {most}, found {bits}")
    return bits


def hamming(bits: NDArray[np.uint8], query: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Differing bits between rows uint8 (n, W) and one code uint8 (W,): uint16 (n,)."""
    if bits.ndim != 2 or query.shape != bits.shape[1:]:
        raise BadInput(f"hamming: expected codes of one length, found {bits.shape}, {query.shape}")
    return cast("NDArray[np.uint16]", bitcount.counts(bits, query[None])[0])


def dot(q: Int8s, p: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Exact dot products of int8 rows (n, D) with one integer vector (D,): int64 (n,)."""
    if _fits(q, p):
        found = q.astype(np.float32) @ p.astype(np.float32)
        return cast("NDArray[np.int64]", found.astype(np.int64))
    return q.astype(np.int64) @ p.astype(np.int64)


def squared_l2(q: Int8s, p: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Exact squared distances of int8 rows (n, D) to one integer vector (D,): int64 (n,)."""
    if p.shape != q.shape[1:]:
        raise BadInput(f"distance: expected vectors of one length, found {q.shape} and {p.shape}")
    return cast("NDArray[np.int64]", squared_l2_many(q, p[None])[0])


def squared_l2_many(q: Int8s, p: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Exact squared distances of int8 rows (n, D) to integer vectors (e, D): int64 (e, n)."""
    if p.ndim != 2 or p.shape[1:] != q.shape[1:]:
        raise BadInput(f"distance: expected vectors of one length, found {q.shape} and {p.shape}")
    out = np.empty((len(p), len(q)), dtype=np.int64)
    own = np.sum(p.astype(np.int64) ** 2, axis=1)[:, None]
    kind: Any = np.float32 if _fits(q, p) else np.float64 if _fits_wide(q, p) else np.int64
    columns = np.ascontiguousarray(p.astype(kind).T)
    size = max(1024, _CHUNK // max(1, len(p)))
    for start in range(0, len(q), size):
        wide: NDArray[Any] = q[start : start + size].astype(kind)
        squares = np.einsum("nd,nd->n", wide, wide).astype(np.int64)
        out[:, start : start + size] = squares - 2 * (wide @ columns).T.astype(np.int64) + own
    return out


def _products(q: Int8s, planes: Int8s) -> NDArray[Any]:
    """planes . q as exact numbers (n, B)."""
    kind = np.float32 if q.shape[1] <= _EXACT_DIM else np.float64
    left: NDArray[Any] = q.astype(kind)
    right: NDArray[Any] = planes.astype(kind)
    return cast("NDArray[Any]", left @ right.T)


def _fits(q: Int8s, p: NDArray[np.integer[Any]]) -> bool:
    small = not p.size or (int(p.min()) >= -128 and int(p.max()) <= 127)
    return small and q.shape[1] <= _EXACT_DIM and q.dtype == np.int8


def _fits_wide(q: Int8s, p: NDArray[np.integer[Any]]) -> bool:
    """Whether sums of products are whole numbers below 2**53, exact in float64."""
    small = not p.size or (int(p.min()) >= -(2**15) and int(p.max()) < 2**15)
    return small and q.shape[1] <= 2**20 and q.dtype == np.int8


def _is_int(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
