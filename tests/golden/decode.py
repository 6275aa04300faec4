"""Bands by name, stretches and pictures of images that both languages can make."""

import numpy as np

from embarchive import decode
from embarchive.indices import default_indices
from golden.model import random_numbers

NAMES = [
    ["B02", "B03", "B04", "B08"],
    ["blue", "GREEN", "Red", "nir"],
    ["B1", "B2", "B3", "B4", "B5", "B7"],
    ["B1", "B2", "B3"],
    ["SR_B2", "SR_B3", "SR_B4", "SR_B5"],
    ["SR_B1", "SR_B2", "SR_B3"],
    ["r", "g", "b", "n"],
    ["B8", "B4", "B3", "B2"],
    ["x", "y", "z"],
    ["x", "y"],
    ["pan"],
]
SHAPE = (3, 4, 6, 5)


def make():
    images = random_numbers(7, int(np.prod(SHAPE))).astype(np.float32)
    images[::11] = np.nan
    images = images.reshape(SHAPE)
    limits = decode.stretch_limits(images, (2, 1, 3))
    return {
        "names": [bands(names) for names in NAMES],
        "shape": SHAPE,
        "bands": [2, 1, 3],
        "limits": [[round(float(value), 6) for value in pair] for pair in limits],
        "pictures": [decode.picture(image, (2, 1, 3), limits).ravel().tolist() for image in images],
    }


def bands(names):
    """Positions of red, green and blue, and of the bands of NDVI."""
    index = default_indices(names).get("ndvi")
    near_and_red = None if index is None else [names.index(name) for name in index]
    return {"names": names, "visible": list(decode.visible_bands(names)), "ndvi": near_and_red}
