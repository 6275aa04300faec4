"""Digests of bytes whose i-th is (i i + i) / 2 modulo 251."""

import numpy as np

from embarchive import digests

LENGTHS = (0, 1, 16_383, 16_384, 16_385, 50_000)


def make():
    found = []
    for length in LENGTHS:
        i = np.arange(length, dtype=np.int64)
        data = ((i * i + i) // 2 % 251).astype(np.uint8).tobytes()
        found.append(
            {
                "length": length,
                "sha256": digests.sha256(data),
                "outboard": digests.block_digests(data).hex(),
            }
        )
    return found
