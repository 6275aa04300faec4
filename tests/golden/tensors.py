"""Weights as safetensors bytes, by this package and by the safetensors library."""

import base64

import numpy as np
from safetensors.numpy import save

from embarchive.model import Architecture
from embarchive.tensors import dump_weights, load_weights
from golden.model import random_weights

TINY = Architecture(1, 16, 16, 3, 1, 2, 2, 1, 16)
NUMBERS = ("float32", "float16", "int8")


def make():
    weights = narrow(random_weights(TINY, "adapter", 2))
    backbone = narrow(random_weights(TINY, "backbone", 1))
    files = [dump_weights(weights, numbers, {"a": "b"}) for numbers in NUMBERS]
    odd = {**weights, "film": np.array([65504, -6e-8, 1e-5, -0.0], np.float16)}
    return {
        "architecture": TINY.to_json(),
        "adapters": [loaded(data, "adapter") for data in (*files, save(odd))],
        "backbone": loaded(dump_weights(backbone, "int8", {}), "backbone"),
    }


def loaded(data, kind):
    """A file and what Python makes of it."""
    found = load_weights(data, TINY, kind)
    values = {name: value.ravel().tolist() for name, value in found.items()}
    return {"bytes": base64.b64encode(data).decode(), "weights": values}


def narrow(weights):
    """Weights as float32."""
    return {name: value.astype(np.float32) for name, value in weights.items()}
