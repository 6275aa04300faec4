"""A small network that mends a coded picture: what transform codes lose is foretold from what is
left, as learned filters behind video codecs do (Dong et al. 2015; Zhang et al. 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from embarchive.model import MAX_MULTIPLY_ADDS, Array, conv, depth_to_space, leaky, space_to_depth

BLOCKS, STRIDE = 2, 2
WIDTHS = (64, 48, 32, 24, 16, 8)
BATCH = 64


@dataclass(frozen=True)
class Shape:
    """What fixes every tensor: bands, height and width of the pictures, channels inside."""

    bands: int
    height: int
    width: int
    channels: int

    def tensors(self) -> dict[str, tuple[int, ...]]:
        """Names and shapes."""
        outer, k = self.bands * STRIDE**2, self.channels
        found: dict[str, tuple[int, ...]] = {
            "mean": (self.bands,),
            "std": (self.bands,),
            "noise": (1,),
            "in": (k, outer, 3, 3),
            "in_bias": (k,),
            "out": (outer, k, 3, 3),
            "out_bias": (outer,),
        }
        for i in range(BLOCKS):
            for side in "ab":
                found[f"block{i}.{side}"] = (k, k, 3, 3)
                found[f"block{i}.{side}_bias"] = (k,)
        return found

    def multiply_adds(self) -> int:
        """Multiply-adds of one picture."""
        outer, k = self.bands * STRIDE**2, self.channels
        return self.height * self.width // STRIDE**2 * 9 * k * (2 * outer + 2 * BLOCKS * k)


def choose_shape(bands: int, height: int, width: int) -> Shape | None:
    """The widest network within what one decode may cost; None when none is."""
    shapes = (Shape(bands, height, width, k) for k in WIDTHS)
    return next((one for one in shapes if one.multiply_adds() <= MAX_MULTIPLY_ADDS), None)


def refine(weights: Mapping[str, Array], images: Array) -> Array:
    """Mended pictures float32 (n, bands, height, width), recipe units; height and width even."""
    found = np.empty_like(images)
    for start in range(0, len(images), BATCH):
        some = images[start : start + BATCH]
        x = (some - weights["mean"][:, None, None]) / weights["std"][:, None, None]
        g = conv(space_to_depth(x, STRIDE), weights["in"], weights["in_bias"])
        for i in range(BLOCKS):
            t = conv(leaky(g), weights[f"block{i}.a"], weights[f"block{i}.a_bias"])
            g = g + conv(leaky(t), weights[f"block{i}.b"], weights[f"block{i}.b_bias"])
        g = depth_to_space(conv(leaky(g), weights["out"], weights["out_bias"]), STRIDE)
        found[start : start + BATCH] = some + g * weights["noise"]
    return found
