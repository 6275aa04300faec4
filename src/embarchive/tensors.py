"""Weights as safetensors bytes: written the same every time, believed only when they fit."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load

from embarchive.errors import BadInput, Damaged
from embarchive.model import Architecture, Array, Weights

MAX_WEIGHTS = 64 << 20
_NAMES = {
    "<f8": "F64", "<f4": "F32", "<f2": "F16", "<i4": "I32", "<i2": "I16", "<u2": "U16", "|i1": "I8",
}  # fmt: skip
Kind = TypeVar("Kind")


def load_weights(data: bytes, arch: Architecture, kind: str) -> dict[str, Array]:
    """Weights of one model from safetensors bytes, as float32.

    float16, float32, or int8 with a float32 `<name>.scale` a row. Raises Damaged when names,
    shapes, dtypes or values are not those of the architecture.
    """
    if len(data) > MAX_WEIGHTS:
        raise Damaged(f"{kind} weights: expected at most {MAX_WEIGHTS} bytes, found {len(data)}")
    try:
        found = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{kind} weights: expected safetensors, found {str(error)[:80]}") from None
    return tensors_of(found, arch.shapes(kind), kind)


def tensors_of(
    found: Mapping[str, NDArray[Any]], expected: Mapping[str, tuple[int, ...]], kind: str
) -> dict[str, Array]:
    """Tensors of the expected names and shapes, as float32; see `load_weights`. Raises Damaged."""
    scales = {f"{name}.scale" for name in expected if f"{name}.scale" in found}
    if set(found) != set(expected) | scales:
        odd = sorted(set(found) ^ (set(expected) | scales))[:4]
        raise Damaged(f"{kind} weights: expected the architecture's tensors, differing in {odd}")
    return {name: _tensor(found, name, shape, kind) for name, shape in expected.items()}


def dump_weights(weights: Weights, numbers: str, metadata: Mapping[str, str]) -> bytes:
    """Safetensors bytes that `load_weights` reads; the same input gives the same bytes.

    numbers: float32, float16 or int8 (symmetric, a scale a row). Tensors of one axis stay
    float32: they are small, and hold means in recipe units. Raises BadInput on numbers that
    are not finite.
    """
    return pack(
        [item for name in weights for item in stored_as(name, weights[name], numbers)], metadata
    )


def pack(stored: Sequence[tuple[str, NDArray[Any]]], metadata: Mapping[str, str]) -> bytes:
    """Safetensors bytes of named little-endian arrays; the same input gives the same bytes."""
    # The widest first, so that every tensor lies at a multiple of its item size.
    stored = sorted(stored, key=lambda item: (-item[1].itemsize, item[0]))
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    start = 0
    for name, value in stored:
        span = [start, start + value.nbytes]
        shape = list(value.shape)
        header[name] = {"dtype": _NAMES[value.dtype.str], "shape": shape, "data_offsets": span}
        start += value.nbytes
    # By hand: the safetensors library writes metadata in another order each time.
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return b"".join([len(text).to_bytes(8, "little"), text, *(v.tobytes() for _, v in stored)])


def part(weights: Mapping[str, Kind], prefix: str) -> dict[str, Kind]:
    """The tensors whose names start with a prefix, without it."""
    return {k[len(prefix) :]: v for k, v in weights.items() if k.startswith(prefix)}


def _tensor(found: Mapping[str, Any], name: str, shape: tuple[int, ...], kind: str) -> Array:
    value = found[name]
    if value.shape != shape:
        raise Damaged(f"{kind} weights: {name}: expected shape {shape}, found {value.shape}")
    scale = found.get(f"{name}.scale")
    if scale is not None:
        if value.dtype != np.int8 or scale.dtype != np.float32 or scale.shape != shape[:1]:
            raise Damaged(f"{kind} weights: {name}: expected int8 and a float32 scale a row")
        with np.errstate(over="ignore", invalid="ignore"):
            value = value.astype(np.float32) * scale.reshape(-1, *[1] * (len(shape) - 1))
    elif value.dtype not in (np.float16, np.float32):
        raise Damaged(f"{kind} weights: {name}: expected float16 or float32, found {value.dtype}")
    if not np.isfinite(value).all():
        raise Damaged(f"{kind} weights: {name}: expected finite numbers, found others")
    return np.asarray(value, dtype=np.float32)


def stored_as(name: str, value: Array, numbers: str) -> list[tuple[str, NDArray[Any]]]:
    """A tensor in its stored type (float32, float16 or int8), with its scales when it has them."""
    if numbers not in ("float32", "float16", "int8"):
        raise BadInput(f"weights: expected float32, float16 or int8, found {numbers!r}")
    value = np.asarray(value, dtype="<f4")
    if not np.isfinite(value).all():
        raise BadInput(f"weights: {name}: expected finite numbers, found others")
    # Numbers beyond float16 stay float32 rather than becoming infinite.
    wide = bool(np.abs(value).max(initial=0) > np.finfo(np.float16).max)
    if value.ndim < 2 or numbers == "float32" or (wide and numbers == "float16"):
        return [(name, value)]
    if numbers == "float16":
        return [(name, value.astype("<f2"))]
    rows = value.reshape(len(value), -1)
    peak = np.abs(rows).max(axis=1)
    scale = np.where(peak > 1e-30, peak / 127, 1).astype("<f4")
    coded = np.clip(np.rint(rows / scale[:, None]), -127, 127).astype(np.int8)
    return [(name, coded.reshape(value.shape)), (f"{name}.scale", scale)]
