"""A coarse quantiser: the lists of an inverted file, and how rows are coded within them.

A row belongs to one of the lists, mostly that of its nearest centroid, and is coded as what it
differs by from it (Jegou et al., doi 10.1109/TPAMI.2010.57). All distances are of whole numbers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from embarchive.errors import BadInput, Damaged
from embarchive.quantisers import MAX_DIM, Quantiser, dump_quantiser, load_quantiser
from embarchive.quantize import squared_l2_many
from embarchive.tensors import MAX_WEIGHTS, pack

VERSION = "1"
MOST_LISTS = 1 << 15
# Groups of lists whose own lists are looked through for the one nearest to a row.
NEAR_GROUPS = 6
_CHUNK = 1 << 16
_KINDS = {"centroids": np.int8, "starts": np.int32, "quantiser": np.int8}

Int8s = NDArray[np.int8]


@dataclass(frozen=True)
class Coarse:
    """centroids: int8 (K, D), in an order in which those near each other are neighbours; starts:
    int32 (G,), the first of each group of them, which only writers need; quantiser: of rows less
    their centroid, in int8 steps. Raises BadInput."""

    centroids: Int8s
    starts: NDArray[np.int32]
    quantiser: Quantiser

    def __post_init__(self) -> None:
        count = len(self.centroids) if self.centroids.ndim == 2 else 0
        if not 0 < count <= MOST_LISTS or not 0 < self.centroids.shape[1] <= MAX_DIM:
            raise BadInput(
                f"overview: expected 1 to {MOST_LISTS} centroids, found {self.centroids.shape}"
            )
        rising = self.starts.ndim == 1 and len(self.starts) and self.starts[0] == 0
        if not rising or not (np.diff(np.r_[self.starts, count]) > 0).all():
            raise BadInput("overview: expected groups of centroids from the first on, found others")
        if len(self.quantiser.mean) != self.centroids.shape[1]:
            expected = f"a quantiser of {self.centroids.shape[1]} numbers"
            raise BadInput(f"overview: expected {expected}, found {len(self.quantiser.mean)}")

    def distances(self, q: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        """Squared distances of integer vectors (m, D) to the centroids: int64 (m, K)."""
        return squared_l2_many(self.centroids, q)

    def assign(self, q: Int8s) -> NDArray[np.int32]:
        """The list of each row int8 (n, D): of the nearest centroid in the six nearest groups,
        of equals the first; int32 (n,)."""
        out = np.empty(len(q), np.int32)
        for start in range(0, len(q), _CHUNK):
            out[start : start + _CHUNK] = self._nearest(q[start : start + _CHUNK])
        return out

    def encode(self, q: Int8s, lists: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
        """Codes uint8 (n, bytes) of rows int8 (n, D) in their lists (n,)."""
        return self.quantiser.encode(q.astype(np.float32) - self.centroids[lists])

    def asked(self, q: NDArray[np.integer[Any]], one: int) -> NDArray[np.int64]:
        """Exemplars (m, D) as what codes of a list are compared with: int64 (m, D')."""
        return self.quantiser.steps(q.astype(np.float64) - self.centroids[one])

    @cached_property
    def _means(self) -> NDArray[np.float32]:
        sums = np.add.reduceat(self.centroids.astype(np.float32), self.starts, axis=0)
        return cast(
            "NDArray[np.float32]", sums / np.diff(np.r_[self.starts, len(self.centroids)])[:, None]
        )

    def _nearest(self, q: Int8s) -> NDArray[np.int32]:
        rows = q.astype(np.float32)
        groups = near_groups(rows, self._means, NEAR_GROUPS)
        owner = np.repeat(np.arange(len(rows)), groups.shape[1])
        order = np.argsort(groups.ravel(), kind="stable")
        ends = np.searchsorted(groups.ravel()[order], np.arange(len(self.starts) + 1))
        best = np.full(len(rows), np.inf, np.float32)
        found = np.zeros(len(rows), np.int32)
        for group, first in enumerate(self.starts.tolist()):
            some = owner[order[ends[group] : ends[group + 1]]]
            last = self.starts[group + 1] if group + 1 < len(self.starts) else len(self.centroids)
            centroids = self.centroids[first:last].astype(np.float32)
            # Whole numbers below 2^24 up to 500 numbers a row; beyond, the nearest but for a hair.
            gaps = np.sum(centroids**2, axis=1) - 2 * (rows[some] @ centroids.T)
            at = np.argmin(gaps, axis=1) if len(some) else np.zeros(0, np.intp)
            least = gaps[np.arange(len(some)), at]
            better = (least < best[some]) | ((least == best[some]) & (first + at < found[some]))
            best[some[better]] = least[better]
            found[some[better]] = (first + at)[better]
        return found


def near_groups(
    rows: NDArray[np.float32], means: NDArray[np.float32], count: int
) -> NDArray[np.intp]:
    """The nearest of means (G, D) to rows (n, D), (n, count or G) of them in no order."""
    if len(means) <= count:
        return np.broadcast_to(np.arange(len(means)), (len(rows), len(means)))
    gaps = np.sum(means**2, axis=1) - 2 * (rows @ means.T)
    return np.argpartition(gaps, count - 1, axis=1)[:, :count]


def dump_coarse(coarse: Coarse) -> bytes:
    """Safetensors bytes that `load_coarse` reads; the same coarse quantiser gives the same ones."""
    inner = np.frombuffer(dump_quantiser(coarse.quantiser), np.int8)
    stored = [
        ("centroids", np.ascontiguousarray(coarse.centroids)),
        ("starts", coarse.starts.astype("<i4")),
        ("quantiser", inner),
    ]
    about = {"format": "embarchive", "version": VERSION, "kind": "coarse"}
    return pack(stored, about | {"bytes": str(coarse.quantiser.bytes)})


def load_coarse(data: bytes, dim: int) -> Coarse:
    """The coarse quantiser of rows of `dim` numbers. Raises Damaged when it is not one."""
    if len(data) > MAX_WEIGHTS:
        raise Damaged(f"overview: expected at most {MAX_WEIGHTS} bytes, found {len(data)}")
    try:
        found = load(data)
        size = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + size])["__metadata__"]
        kind, version, length = about["kind"], about["version"], int(about["bytes"])
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error)[:80]
        raise Damaged(f"overview: expected safetensors of centroids, found {said}") from None
    if (kind, version) != ("coarse", VERSION):
        said = f"expected centroids of version {VERSION}, found {kind} {version}"
        raise Damaged(f"overview: {said}"[:160])
    if {name: value.dtype for name, value in found.items()} != _KINDS:
        raise Damaged(f"overview: expected {', '.join(_KINDS)}, found {sorted(found)}"[:160])
    quantiser = load_quantiser(found["quantiser"].tobytes(), dim, length)
    try:
        return Coarse(found["centroids"], found["starts"], quantiser)
    except BadInput as error:
        raise Damaged(str(error)) from None
