"""A coarse quantiser: the lists of an inverted file, and how rows are coded within them.

A row belongs to one of the lists, mostly that of its nearest centroid, and is coded as what it
differs by from it (Jegou et al., doi 10.1109/TPAMI.2010.57), in whole steps: small numbers that
pack well, and steps of 1 lose nothing.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from embarchive.errors import BadInput, Damaged
from embarchive.quantisers import MAX_DIM
from embarchive.quantize import squared_l2_many
from embarchive.tensors import MAX_WEIGHTS, pack

VERSION = "2"
MOST_LISTS, MOST_STEP = 1 << 15, 127
# Groups of lists whose own lists are looked through for the one nearest to a row.
NEAR_GROUPS = 6
_CHUNK = 1 << 16
_KINDS = {"centroids": np.int8, "starts": np.int32}

Int8s = NDArray[np.int8]


@dataclass(frozen=True)
class Coarse:
    """centroids: int8 (K, D), in an order in which those near each other are neighbours; starts:
    int32 (G,), the first of each group of them, which only writers need; step: of what rows differ
    by from their centroid, in int8 steps. Raises BadInput."""

    centroids: Int8s
    starts: NDArray[np.int32]
    step: int

    def __post_init__(self) -> None:
        count = len(self.centroids) if self.centroids.ndim == 2 else 0
        if not 0 < count <= MOST_LISTS or not 0 < self.centroids.shape[1] <= MAX_DIM:
            raise BadInput(
                f"overview: expected 1 to {MOST_LISTS} centroids, found {self.centroids.shape}"
            )
        rising = self.starts.ndim == 1 and len(self.starts) and self.starts[0] == 0
        if not rising or not (np.diff(np.r_[self.starts, count]) > 0).all():
            raise BadInput("overview: expected groups of centroids from the first on, found others")
        if not 1 <= self.step <= MOST_STEP:
            raise BadInput(f"overview: expected a step of 1 to {MOST_STEP}, found {self.step}")

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return int(self.centroids.shape[1])

    @property
    def exact(self) -> bool:
        """Whether codes decode to just what was encoded."""
        return self.step == 1

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

    def encode(self, q: Int8s, lists: NDArray[np.integer[Any]]) -> Int8s:
        """Codes int8 (n, D) of rows int8 (n, D) in their lists (n,): the nearest steps from the
        centroid that decode within int8, half to even."""
        own = self.centroids[lists].astype(np.int16)
        gaps = q.astype(np.int16) - own
        if not self.exact:
            gaps = np.rint(gaps / self.step).astype(np.int16)
            gaps = np.clip(gaps, -((128 + own) // self.step), (127 - own) // self.step)
        return cast(Int8s, gaps.astype(np.int8))

    def decode(self, codes: Int8s, one: int) -> Int8s:
        """Rows int8 (D, n) of codes int8 (D, n) of a list, both by columns. Codes of step 1 are
        what rows differ by less 256 where that is beyond int8, and sums leave it out again."""
        return cast(Int8s, codes * np.int8(self.step) + self.centroids[one][:, None])

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
    stored = [
        ("centroids", np.ascontiguousarray(coarse.centroids)),
        ("starts", coarse.starts.astype("<i4")),
    ]
    about = {"format": "embarchive", "version": VERSION, "kind": "coarse"}
    return pack(stored, about | {"step": str(coarse.step)})


def load_coarse(data: bytes, dim: int) -> Coarse:
    """The coarse quantiser of rows of `dim` numbers. Raises Damaged when it is not one."""
    if len(data) > MAX_WEIGHTS:
        raise Damaged(f"overview: expected at most {MAX_WEIGHTS} bytes, found {len(data)}")
    try:
        found = load(data)
        size = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + size])["__metadata__"]
        kind, version, step = about["kind"], about["version"], about.get("step", "")
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = str(error)[:80]
        raise Damaged(f"overview: expected safetensors of centroids, found {said}") from None
    if (kind, version) != ("coarse", VERSION) or not re.fullmatch("[0-9]{1,3}", step):
        said = f"found {kind} {version} of step {step}"
        raise Damaged(f"overview: expected centroids of version {VERSION}, {said}"[:160])
    if {name: value.dtype for name, value in found.items()} != _KINDS:
        raise Damaged(f"overview: expected {', '.join(_KINDS)}, found {sorted(found)}"[:160])
    try:
        coarse = Coarse(found["centroids"], found["starts"], int(step))
    except BadInput as error:
        raise Damaged(str(error)) from None
    if coarse.dim != dim:
        raise Damaged(f"overview: expected centroids of {dim} numbers, found {coarse.dim}")
    return coarse
