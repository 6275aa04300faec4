"""Codes of made quantisers, what they decode to, and files of them with one thing changed. All
numbers are such that float32 holds every sum."""

import base64
import json

import numpy as np

from embarchive.errors import EmbarchiveError
from embarchive.quantisers import Quantiser, dump_quantiser, load_quantiser
from golden.fidelity import apply
from golden.model import random_numbers

# Groups, words and width; numbers of the embedding where a matrix is before them.
SHAPES = ((12, 16, 1, 0), (10, 2, 1, 7), (5, 4, 1, 0), (3, 256, 4, 0), (2, 256, 3, 9), (1, 2, 1, 1))
EDITS = [
    {},
    {"about": {"kind": "code"}},
    {"about": {"version": "2"}},
    {"about": {"name": "A name"}},
    {"about": {"name": "a\n"}},
    {"about": {"name": None}},
    {"about": {"more": "1"}},
    {"drop": "scale"},
    {"drop": "mean"},
    {"drop": "codebooks"},
    {"drop": "edges"},
    {"drop": "matrix"},
    {"drop": "inverse"},
    {"add": "more"},
    {"add": "edge"},
    {"type": ["mean", "<i2"]},
    {"type": ["edges", "<u2"]},
    {"shape": ["codebooks", [5, 4]]},
    {"shape": ["codebooks", [2, 10, 1]]},
    {"shape": ["codebooks", [10, 2]]},
    {"shape": ["edges", [2, 5]]},
    {"shape": ["matrix", [7, 10]]},
    {"shape": ["inverse", [10, 7]]},
    {"shape": ["mean", [7, 1]]},
    {"set": ["scale", 0, 0]},
    {"set": ["scale", 0, -1]},
    {"set": ["scale", 0, float("inf")]},
    {"set": ["scale", 0, float("nan")]},
    {"set": ["scale", 0, 1e21]},
    {"set": ["mean", 1, float("nan")]},
    {"set": ["mean", 1, 1e21]},
    {"set": ["matrix", 3, 1.01]},
    {"set": ["inverse", 3, -1.01]},
    {"set": ["inverse", 3, float("nan")]},
    {"set": ["edges", 3, -32768]},
    {"set": ["codebooks", 3, -128]},
]


def make():
    made = [quantiser(*shape, seed) for seed, shape in enumerate(SHAPES)]
    return {
        "cases": [case(one, seed) for seed, one in enumerate(made)],
        "edits": [edited(made[1], edit) for edit in EDITS],
    }


def quantiser(groups, words, width, dim, seed):
    """A quantiser of random numbers; no code is what a fit would give."""
    total, size = groups * width, dim or groups * width
    codebooks = numbers(seed, groups * words * width) * 128
    edges = np.sort(numbers(seed + 50, groups * (words - 1)).reshape(groups, words - 1) * 32000)
    maps = [numbers(seed + n, total * size).astype(np.float32) for n in (100, 150)]
    return Quantiser(
        "made-by+hand",
        0.5,
        numbers(seed + 200, size).astype(np.float32),
        codebooks.reshape(groups, words, width).astype(np.int8),
        edges.astype(np.int16) if width == 1 else None,
        maps[0].reshape(total, size) if dim else None,
        maps[1].reshape(size, total) if dim else None,
    )


def case(one, seed):
    codes = (numbers(seed + 300, 9 * one.bytes) * 128).astype(np.int8).view(np.uint8)
    packed = codes.reshape(9, one.bytes)
    return {
        "file": base64.b64encode(dump_quantiser(one)).decode(),
        "dim": len(one.mean),
        "bytes": one.bytes,
        "packed": packed.ravel().tolist(),
        "decoded": one.decode(packed).ravel().tolist(),
        "restored": one.vectors(packed).ravel().tolist(),
    }


def edited(one, edit):
    """An edit, and what reading the edited file ends with."""
    try:
        load_quantiser(apply(dump_quantiser(one), edit), len(one.mean), one.bytes)
        error = None
    except EmbarchiveError as found:
        error = type(found).__name__
    return {"edit": json.loads(json.dumps(edit), parse_constant=str), "error": error}


def numbers(seed, n):
    return random_numbers(seed, n)
