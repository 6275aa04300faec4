"""The fidelity layer of a space: which pixels a code is of, on top of what, and its file.

A code covers the block in the middle of a chip that holds the cell; around it a chip shows the
embedding's decode. It codes the pixels themselves, or what the embedding's decode lacks of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from embarchive import fidelity, refine
from embarchive.contexts import CLASSES, MOST_EXPECTED
from embarchive.errors import Damaged
from embarchive.fidelity import CENTRES, SYMBOLS, Code
from embarchive.model import MAX_MULTIPLY_ADDS, Array
from embarchive.rangecoder import TOTAL
from embarchive.tensors import MAX_WEIGHTS, pack, part, stored_as, tensors_of

VERSION = "1"
BASES = ("pixels", "embedding")
MOST_SIDE, MOST_CHANNELS, MOST_STEPS, MOST_POSITIONS = 128, 1024, 64, 1 << 20
_WHOLE = {
    "basis": np.int16, "order": np.int32, "expected": np.int32, "tables": np.uint16,
    "end_tables": np.uint16, "step_table": np.uint16, "ends": np.int32, "centres": np.int8,
}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """basis: "pixels" or "embedding", what the code is of; most: bytes of a stream at most, 0 for
    no limit; filter: weights of `refine`, None without; dates: ISO dates whose bands are the
    channels of the code, one date after another; empty for those of one tile."""

    code: Code
    basis: str
    most: int = 0
    filter: Mapping[str, Array] | None = None
    dates: tuple[str, ...] = ()

    def block(self, height: int, width: int) -> tuple[slice, slice]:
        """Rows and columns of a chip that the code is of."""
        top, left = (height - self.code.height) // 2, (width - self.code.width) // 2
        return slice(top, top + self.code.height), slice(left, left + self.code.width)

    def write(self, chips: Array, decoded: Array) -> list[bytes]:
        """Streams of chips float32 (n, bands, height, width) whose embeddings decode to
        `decoded`."""
        block = (..., *self.block(*chips.shape[2:]))
        rest = rest_of(self.basis, chips[block], decoded[block])
        return fidelity.encode(self.code, rest, self.most or None)

    def apply(self, decoded: Array, streams: Sequence[bytes]) -> Array:
        """Chips with what the streams say in their block, of what the embeddings decode to."""
        block = (..., *self.block(*decoded.shape[2:]))
        found = decoded.copy()
        found[block] = self.shown(fidelity.decode(self.code, streams), decoded[block])
        return found

    def shown(self, coded: Array, decoded: Array) -> Array:
        """Blocks of tiles float32 (n, bands, height, width), of what the code says of them and what
        their embeddings decode to."""
        whole = coded + decoded if self.basis == "embedding" else coded
        return whole if self.filter is None else refine.refine(self.filter, whole)


def rest_of(basis: str, pixels: Array, decoded: Array) -> Array:
    """What a code of a basis is of: pixels, or what the embedding's decode lacks of them."""
    return pixels - decoded if basis == "embedding" else pixels


def dump_layer(layer: Layer, numbers: str) -> bytes:
    """Safetensors bytes that `load_layer` reads; numbers: type of the filter, see
    `tensors.stored_as`."""
    code = layer.code
    stored: list[tuple[str, NDArray[Any]]] = [
        (name, np.ascontiguousarray(getattr(code, name).astype(kind)))
        for name, kind in _WHOLE.items()
    ]
    stored += [(name, getattr(code, name).astype("<f8")) for name in ("mean", "steps")]
    for name, value in (layer.filter or {}).items():
        stored += stored_as(f"filter.{name}", value, numbers)
    about = {
        "format": "embarchive", "version": VERSION, "kind": "code", "basis": layer.basis,
        "most": str(layer.most), "dates": " ".join(layer.dates), "height": str(code.height),
        "width": str(code.width),
    }  # fmt: skip
    return pack(stored, about)


def load_layer(data: bytes, bands: int, height: int, width: int) -> Layer:
    """The layer of an archive whose chips have these sizes. Raises Damaged when it is not one."""
    if len(data) > MAX_WEIGHTS:
        raise Damaged(f"code: expected at most {MAX_WEIGHTS} bytes, found {len(data)}")
    try:
        found = load(data)
        size = int.from_bytes(data[:8], "little")
        about = json.loads(data[8 : 8 + size])["__metadata__"]
        sizes = {name: int(about[name]) for name in ("height", "width", "most")}
        kind, version, basis = about["kind"], about["version"], about["basis"]
        dates = tuple(about["dates"].split())
    except (SafetensorError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"code: expected safetensors of a code, found {str(error)[:80]}") from None
    if (kind, version) != ("code", VERSION):
        raise Damaged(f"code: expected a code of version {VERSION}, found {kind} {version}"[:160])
    if basis not in BASES:
        raise Damaged(f"code: basis: expected one of {', '.join(BASES)}, found {basis}"[:160])
    filtered = part(found, "filter.")
    code = _code({k: v for k, v in found.items() if not k.startswith("filter.")}, sizes)
    wanted = bands * max(1, len(dates))
    if code.basis.shape[1] != wanted or code.height > height or code.width > width:
        raise Damaged(
            f"code: expected {wanted} bands in at most {height} x {width} pixels, found "
            f"{code.basis.shape[1]} in {code.height} x {code.width}"
        )
    if not 0 <= sizes["most"] <= 1 << 20:
        raise Damaged(f"code: most: expected 0 to {1 << 20} bytes, found {sizes['most']}")
    weights = _filter(filtered, code, bands) if filtered else None
    return Layer(code, basis, sizes["most"], weights, dates)


def _code(found: dict[str, NDArray[Any]], sizes: Mapping[str, int]) -> Code:
    kinds = {**_WHOLE, "mean": np.float64, "steps": np.float64}
    if set(found) != set(kinds):
        raise Damaged(
            f"code: expected {sorted(kinds)}, differing in {sorted(set(found) ^ set(kinds))[:4]}"
        )
    for name, kind in kinds.items():
        if found[name].dtype != kind:
            raise Damaged(f"code: {name}: expected {np.dtype(kind)}, found {found[name].dtype}")
    rungs, positions, ends = (found[name].size for name in ("steps", "order", "ends"))
    components, channels = (*found["basis"].shape, 0, 0)[:2]
    wanted = {
        "basis": (components, channels), "mean": (channels,), "steps": (rungs,),
        "order": (positions,), "expected": (rungs, positions), "tables": (CLASSES, SYMBOLS + 1),
        "end_tables": (rungs, ends + 1), "step_table": (1, rungs + 1), "ends": (ends,),
        "centres": (CLASSES, CENTRES),
    }  # fmt: skip
    for name, shape in wanted.items():
        if found[name].shape != shape:
            raise Damaged(f"code: {name}: expected shape {shape}, found {found[name].shape}")
    whole = {name: found[name].astype(np.int64) for name in _WHOLE}
    mean, steps = found["mean"], found["steps"]
    code = Code(height=sizes["height"], width=sizes["width"], mean=mean, steps=steps, **whole)
    _check_values(code)
    return code


def _check_values(code: Code) -> None:
    """Raises Damaged for numbers that would break a reader, or cost it more than it would like."""
    tables = (code.tables, code.end_tables, code.step_table)
    flat = int(np.prod(code.shape))
    checks = {
        "height": 2 <= code.height <= MOST_SIDE and code.height % 2 == 0,
        "width": 2 <= code.width <= MOST_SIDE and code.width % 2 == 0,
        "basis": 0 < len(code.basis) <= code.basis.shape[1] <= MOST_CHANNELS,
        "steps": 0 < len(code.steps) <= MOST_STEPS
        and bool(np.isfinite(code.steps).all() and (code.steps > 0).all()),
        "mean": bool(np.isfinite(code.mean).all()),
        "order": 0 < len(code.order) <= min(flat, MOST_POSITIONS)
        and bool(((code.order >= 0) & (code.order < flat)).all())
        and len(np.unique(code.order)) == len(code.order),
        "expected": bool(((code.expected >= 1) & (code.expected <= MOST_EXPECTED)).all()),
        "ends": bool((np.diff(code.ends) > 0).all())
        and 0 <= int(code.ends[0]) <= int(code.ends[-1]) == len(code.order),
        "tables": all(
            bool((one[:, 0] == 0).all() and (one[:, -1] == TOTAL).all()) and np.diff(one).min() > 0
            for one in tables
        ),
    }
    for name, good in checks.items():
        if not good:
            raise Damaged(f"code: {name}: expected numbers within the limits, found others")


def _filter(found: Mapping[str, NDArray[Any]], code: Code, bands: int) -> dict[str, Array]:
    """The tensors of the filter, float32, checked against the one shape that they can have."""
    channels = len(np.atleast_1d(found.get("in_bias", np.zeros(0))))
    shape = refine.Shape(bands, code.height, code.width, channels)
    if channels not in refine.WIDTHS or shape.multiply_adds() > MAX_MULTIPLY_ADDS:
        raise Damaged(f"code: filter: expected a width of {refine.WIDTHS}, found {channels}")
    weights = tensors_of(dict(found), shape.tensors(), "code filter")
    if not (weights["std"] > 0).all():
        raise Damaged("code: filter: expected standard deviations above 0, found others")
    return weights
