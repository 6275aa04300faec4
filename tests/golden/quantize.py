"""Hamming distances, squared distances and SimHash bits of numbers both languages can make."""

import numpy as np

from embarchive.quantize import SimHash, hamming, squared_l2
from golden.model import random_numbers

WIDTHS = (1, 2, 8, 15, 16, 24, 128, 144, 600)


def make():
    return {
        "hamming": [{"width": width, "distances": distances(width)} for width in WIDTHS],
        "squared": [{"dim": dim, "distances": squares(dim)} for dim in (1, 64, 1024)],
        "simhash": [simhash(8, 5), simhash(128, 64)],
    }


def distances(width):
    """Of 37 codes to the one after them."""
    codes = (random_numbers(width, 38 * width) * 128).astype(np.int8).view(np.uint8)
    codes = codes.reshape(38, width)
    return hamming(codes[:37], codes[37]).tolist()


def squares(dim):
    """Of 5 rows to the one after them."""
    q = int8s(dim, 6, dim)
    return squared_l2(q[:5], q[5]).tolist()


def simhash(bits, dim):
    """Bits of 9 rows; offsets are what the planes see of one of them."""
    planes, q = int8s(1, bits, dim), int8s(2, 9, dim)
    made = SimHash(planes, (planes.astype(np.int32) @ q[4].astype(np.int32)).astype(np.int32))
    return {"values": made.to_json(), "codes": made.encode(q).tolist()}


def int8s(seed, n, dim):
    return (random_numbers(seed, n * dim) * 128).astype(np.int8).reshape(n, dim)
