"""The transform of the fidelity code: cosines in space, principal components over channels.

Forward in floating point, by whoever writes. Back in whole numbers, so that every machine finds the
same picture: the matrices are rounded to integers, and sums of integers below 2 ** 53 are exact in
float64 in whatever order they are taken.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
# Whole numbers a quantiser step; a unit of the matrices in space and over channels.
STEP_UNITS = 64
_SPACE_BITS, _CHANNEL_BITS = 16, 14
# What is dropped after columns and after rows; four bits below a unit stay.
_SHIFTS, _LEFT = (12, 16), 4


@lru_cache(maxsize=16)
def cosines(size: int) -> Floats:
    """The orthonormal DCT-II matrix (size, size), a row a frequency (Ahmed et al. 1974)."""
    place = (np.arange(size) + 0.5) * np.pi / size
    found = np.cos(place * np.arange(size)[:, None]) * np.sqrt(2 / size)
    found[0] /= np.sqrt(2)
    return np.asarray(found)


@lru_cache(maxsize=16)
def whole_cosines(size: int) -> Floats:
    """`cosines` in units of 2 ** -16, rounded."""
    return np.asarray(np.rint(cosines(size) * 2**_SPACE_BITS))


def principal(images: NDArray[np.float32]) -> tuple[Floats, NDArray[np.int64]]:
    """Mean (channels,) of images (n, channels, h, w), and their principal directions in units of
    2 ** -14, rounded: int64 (channels, channels), a row a component, the strongest first."""
    mean = images.mean(axis=(0, 2, 3), dtype=np.float64)
    flat = (images - mean[:, None, None]).transpose(1, 0, 2, 3).reshape(len(mean), -1)
    _, vectors = np.linalg.eigh(flat @ flat.T / flat.shape[1])
    return mean, np.rint(vectors[:, ::-1].T * 2**_CHANNEL_BITS).astype(np.int64)


def forward(images: NDArray[np.float32], mean: Floats, basis: NDArray[np.int64]) -> Floats:
    """Coefficients (n, components, h, w) of images (n, channels, h, w)."""
    n, channels, h, w = images.shape
    flat = (images - mean[:, None, None]).reshape(n, channels, h * w)
    parts = ((basis / 2**_CHANNEL_BITS) @ flat).reshape(n, len(basis), h, w)
    return np.asarray(cosines(h) @ parts @ cosines(w).T)


def inverse(units: Floats, step: float, mean: Floats, basis: NDArray[np.int64]) -> Floats:
    """Images float64 (n, channels, h, w) of coefficients (n, components, h, w) that are whole
    numbers of step / 64. The same to the last bit everywhere."""
    n, components, h, w = units.shape
    found = _halved(np.matmul(whole_cosines(h).T, units), _SHIFTS[0])
    found = _halved(np.matmul(found, whole_cosines(w)), _SHIFTS[1])
    flat = np.matmul(basis.T.astype(np.float64), found.reshape(n, components, h * w))
    unit = step / (STEP_UNITS * 2 ** (_CHANNEL_BITS + _LEFT))
    return np.asarray((flat * unit).reshape(n, -1, h, w) + mean[:, None, None])


def _halved(values: Floats, times: int) -> Floats:
    """Whole numbers over 2 ** times, rounded half up."""
    return np.asarray(np.floor(values / 2**times + 0.5))
