"""The variational autoencoder in numpy: its shape, its weights, encode and decode.

The encoder gives mu in two parts. The first `style` numbers are a linear map of a chip's band
means and log contrasts at four scales; they lead every distance. The others, the detail, are a
linear map of the chip through a basis of patches plus a convolutional correction, less what the
style numbers foretell of it and divided by the scale that they foretell (`prior`). So the
rounding of detail to int8 follows the tile: still water is not drowned in the rounding of a
city. The decoder mirrors that: a linear image, plus residual convolutions that the vector
modulates (FiLM, Perez et al. 2018).
Both start as principal components and are trained from there, see `train`.

Operations: matrix product, exponential, 3x3 convolution, leaky ReLU, space-to-depth and its
inverse; `train` has the same in torch and the ONNX export is its oracle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from embarchive.errors import BadInput

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
SLOPE = 0.1
STYLE_LIMIT = 4.0
# The foretold scale is kept within e ** -4 and e ** 4; hidden units that foretell.
LOG_SCALE_LIMIT = 4.0
PRIOR_UNITS = 32
SCALES = 4
MAX_BANDS, MAX_DIM, MAX_WIDTH = 64, 1024, 256
# What one decode may cost, so that a page can do it while its reader waits.
MAX_MULTIPLY_ADDS = 25_000_000


@dataclass(frozen=True)
class Architecture:
    """What fixes every tensor's shape.

    bands, height, width: of a chip; dim: numbers of mu; style: how many of them are
    statistics; basis: patch components; channels, blocks: of the convolutions; stride:
    pixels of a patch side.
    """

    bands: int
    height: int
    width: int
    dim: int
    style: int
    basis: int
    channels: int
    blocks: int
    stride: int

    def __post_init__(self) -> None:
        sizes = asdict(self)
        for name, value in sizes.items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                raise BadInput(f"architecture: {name}: expected a whole number, found {value!r}")
        fits = (
            1 <= self.bands <= MAX_BANDS
            and 2 <= self.dim <= MAX_DIM
            and 0 < self.style < self.dim
            and self.stride in (8, 16)
            and 1 <= self.basis <= MAX_WIDTH
            and 1 <= self.channels <= MAX_WIDTH
            and 1 <= self.blocks <= 16
            and all(16 <= side <= 128 and side % 16 == 0 for side in (self.height, self.width))
        )
        if not fits:
            raise BadInput(f"architecture: expected sizes within this package's limits: {sizes}")

    @property
    def grid(self) -> tuple[int, int]:
        """Patches down and across."""
        return self.height // self.stride, self.width // self.stride

    @property
    def patch(self) -> int:
        """Numbers of one patch."""
        return self.bands * self.stride**2

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Architecture:
        """Inverse of `to_json`; raises BadInput on other keys or sizes."""
        if set(values) != set(cls.__dataclass_fields__):
            expected = sorted(cls.__dataclass_fields__)
            raise BadInput(f"architecture: expected keys {expected}, found {sorted(values)}")
        return cls(**values)

    def shapes(self, kind: str) -> dict[str, tuple[int, ...]]:
        """Tensor names and shapes of a kind of model: encoder, backbone, adapter, shared, full."""
        if kind == "encoder":
            return _encoder_shapes(self)
        if kind in ("backbone", "shared"):
            return _decoder_shapes(self)
        if kind == "adapter":
            return _adapter_shapes(self)
        if kind == "full":
            encoder = {f"encoder.{k}": v for k, v in _encoder_shapes(self).items()}
            return {**_decoder_shapes(self), **encoder}
        raise BadInput(f"model kind: expected encoder, backbone, adapter, shared, full: {kind!r}")

    def multiply_adds(self) -> int:
        """Multiply-adds of one decode."""
        h, w = self.grid
        fine = 4 * h * w
        k, shapes = self.channels, _decoder_shapes(self)
        dense = self.basis * h * w * self.dim + shapes["film"][0] * self.dim
        coarse = h * w * self.basis * (self.patch + 4 * k)
        return dense + coarse + fine * k * (2 * self.blocks * 9 * k + self.patch // 4)


def choose_architecture(bands: int, height: int, width: int, dim: int) -> Architecture:
    """The default network for a chip: at most an 8 x 8 grid of patches.

    Large chips of twelve bands and more get fewer patch components, to stay in the budget of
    a decode; from twenty bands or so they exceed it nevertheless.
    """
    stride = 8 if max(height, width) <= 64 else 16
    style = max(1, min(8, dim // 4))
    found = Architecture(bands, height, width, dim, style, 48, 32, 2, stride)
    while found.multiply_adds() > MAX_MULTIPLY_ADDS and found.basis > 16:
        found = replace(found, basis=found.basis - 4)
    return found


def neutral_adapter(arch: Architecture) -> dict[str, Array]:
    """The adapter that changes nothing: scales of one, shifts of zero, float32."""
    ones = ("z_scale", "gain")
    shapes = arch.shapes("adapter").items()
    return {name: np.full(shape, float(name in ones), np.float32) for name, shape in shapes}


def statistics_size(bands: int) -> int:
    """How many numbers `statistics` gives."""
    return bands * (SCALES + 2)


def statistics(x: Array) -> Array:
    """Band means, log contrast between scales 1, 2, 4, 8 and log spread at 16 pixels.

    x: normalised chips (n, bands, height, width). float32 (n, bands * 6).
    """
    found, level = [x.mean(axis=(2, 3))], x
    for _ in range(SCALES):
        n, c, h, w = level.shape
        blocks = level.reshape(n, c, h // 2, 2, w // 2, 2)
        coarse = blocks.mean(axis=(3, 5))
        gap = blocks - coarse[:, :, :, None, :, None]
        found.append(np.log(np.sqrt((gap**2).mean(axis=(2, 3, 4, 5)) + 1e-4) + 0.02))
        level = coarse
    found.append(np.log(np.sqrt(level.var(axis=(2, 3)) + 1e-4) + 0.02))
    return np.concatenate(found, axis=1).astype(np.float32)


def style_numbers(encoder: Weights, x: Array) -> Array:
    """The style part of mu, float32 (n, style), of normalised chips.

    Rounded to the step of int8, so that what they foretell of the detail is what a reader
    of the stored row will find.
    """
    found = (statistics(x) - encoder["statistics_mean"]) @ encoder["statistics_map"].T
    found = np.clip(found, -STYLE_LIMIT, STYLE_LIMIT)
    step = encoder["step"]
    if step[0] > 0:
        found = np.rint(found / step) * step
    return found.astype(np.float32)


def prior_features(weights: Weights, style: Array) -> Array:
    """What the prior is linear in, (n, style + PRIOR_UNITS): the style numbers and hinges."""
    return np.concatenate(
        [style, leaky(style @ weights["units"].T + weights["units_bias"])], axis=1
    )


def prior(weights: Weights, style: Array) -> tuple[Array, Array]:
    """What style numbers (n, style) foretell of the detail: mean (n, dim - style), scale (n, 1)."""
    found = prior_features(weights, style) @ weights["prior"].T + weights["prior_bias"]
    return found[:, :-1], np.exp(np.clip(found[:, -1:], -LOG_SCALE_LIMIT, LOG_SCALE_LIMIT))


def encode_batch(arch: Architecture, weights: Weights, pixels: Array) -> Array:
    """mu, float32 (n, dim), of chips float32 (n, bands, height, width) in recipe units."""
    expected = (arch.bands, arch.height, arch.width)
    if pixels.ndim != 4 or pixels.shape[1:] != expected:
        raise BadInput(f"chips: expected (n, {expected}), found {pixels.shape}")
    w = weights
    x = (pixels - w["mean"][:, None, None]) / w["std"][:, None, None]
    style = style_numbers(w, x)
    patches = space_to_depth(x, arch.stride)
    linear = _mix(patches, w["patch"]).reshape(len(x), -1) @ w["dense"].T + w["dense_bias"]
    g = leaky(conv(space_to_depth(x, arch.stride // 2), w["conv1"], w["conv1_bias"]))
    g = leaky(conv(g, w["conv2"], w["conv2_bias"])[:, :, ::2, ::2])
    g = leaky(conv(g, w["conv3"], w["conv3_bias"]) + g)
    detail = linear + g.reshape(len(x), -1) @ w["out"].T + w["out_bias"]
    mean, scale = prior(w, style)
    return np.concatenate([style, (detail - mean) / scale], axis=1).astype(np.float32)


def decode_batch(arch: Architecture, backbone: Weights, adapter: Weights | None, z: Array) -> Array:
    """Chips float32 (n, bands, height, width) in recipe units, of vectors float32 (n, dim)."""
    if z.ndim != 2 or z.shape[1] != arch.dim:
        raise BadInput(f"vectors: expected (n, {arch.dim}), found {z.shape}")
    w, n = backbone, len(z)
    z = z.astype(np.float32)
    style, detail = z[:, : arch.style], z[:, arch.style :]
    mean, scale = prior(w, style)
    z = np.concatenate([style, detail * scale + mean], axis=1)
    film = np.zeros(1, np.float32)
    if adapter is not None:
        z = z * adapter["z_scale"] + adapter["z_shift"]
        film = adapter["film"]
    f = (z @ w["dense"].T + w["dense_bias"]).reshape(n, arch.basis, *arch.grid)
    image = depth_to_space(_mix(f, w["patch"], w["patch_bias"]), arch.stride)
    g = depth_to_space(_mix(f, w["up"], w["up_bias"]), 2)
    m = (z @ w["film"].T + w["film_bias"] + film).reshape(n, arch.blocks, 2, arch.channels, 1, 1)
    for i in range(arch.blocks):
        t = leaky(conv(g, w[f"block{i}.a"], w[f"block{i}.a_bias"]))
        t = t * (1 + m[:, i, 0]) + m[:, i, 1]
        g = g + conv(leaky(t), w[f"block{i}.b"], w[f"block{i}.b_bias"])
    detail = _mix(leaky(g), w["head"], w["head_bias"])
    image = image + depth_to_space(detail, arch.stride // 2)
    if adapter is not None:
        image = image * adapter["gain"][:, None, None] + adapter["bias"][:, None, None]
    out = image * w["std"][:, None, None] + w["mean"][:, None, None]
    return out.astype(np.float32)


def space_to_depth(x: Array, s: int) -> Array:
    """(n, c, h, w) -> (n, c s s, h / s, w / s)."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c, h // s, s, w // s, s)
    return blocks.transpose(0, 1, 3, 5, 2, 4).reshape(n, c * s * s, h // s, w // s)


def depth_to_space(x: Array, s: int) -> Array:
    """Inverse of `space_to_depth`."""
    n, c, h, w = x.shape
    blocks = x.reshape(n, c // (s * s), s, s, h, w)
    return blocks.transpose(0, 1, 4, 2, 5, 3).reshape(n, c // (s * s), h * s, w * s)


def leaky(x: Array) -> Array:
    """Leaky ReLU of slope SLOPE."""
    return np.asarray(np.maximum(x, SLOPE * x), dtype=np.float32)


def conv(x: Array, kernel: Array, bias: Array) -> Array:
    """A 3 x 3 convolution with zero padding: (n, c, h, w) with (k, c, 3, 3)."""
    n, c, h, w = x.shape
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = sliding_window_view(padded, (3, 3), axis=(2, 3))
    columns = windows.transpose(0, 1, 4, 5, 2, 3).reshape(n, c * 9, h * w)
    out = np.matmul(kernel.reshape(len(kernel), -1), columns) + bias[:, None]
    return np.asarray(out.reshape(n, len(kernel), h, w), dtype=np.float32)


def _prior_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    rows = a.dim - a.style + 1
    return {
        "units": (PRIOR_UNITS, a.style),
        "units_bias": (PRIOR_UNITS,),
        "prior": (rows, a.style + PRIOR_UNITS),
        "prior_bias": (rows,),
    }


def _encoder_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    (h, w), k, detail = a.grid, a.channels, a.dim - a.style
    return {
        "mean": (a.bands,),
        "std": (a.bands,),
        "statistics_mean": (statistics_size(a.bands),),
        "statistics_map": (a.style, statistics_size(a.bands)),
        "step": (1,),
        **_prior_shapes(a),
        "patch": (a.basis, a.patch),
        "dense": (detail, a.basis * h * w),
        "dense_bias": (detail,),
        "conv1": (k, a.patch // 4, 3, 3),
        "conv1_bias": (k,),
        "conv2": (k, k, 3, 3),
        "conv2_bias": (k,),
        "conv3": (k, k, 3, 3),
        "conv3_bias": (k,),
        "out": (detail, k * h * w),
        "out_bias": (detail,),
    }


def _decoder_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    (h, w), k = a.grid, a.channels
    shapes: dict[str, tuple[int, ...]] = {
        "mean": (a.bands,),
        "std": (a.bands,),
        **_prior_shapes(a),
        "dense": (a.basis * h * w, a.dim),
        "dense_bias": (a.basis * h * w,),
        "patch": (a.patch, a.basis),
        "patch_bias": (a.patch,),
        "up": (4 * k, a.basis),
        "up_bias": (4 * k,),
        "film": (2 * a.blocks * k, a.dim),
        "film_bias": (2 * a.blocks * k,),
        "head": (a.patch // 4, k),
        "head_bias": (a.patch // 4,),
    }
    for i in range(a.blocks):
        for side in "ab":
            shapes[f"block{i}.{side}"] = (k, k, 3, 3)
            shapes[f"block{i}.{side}_bias"] = (k,)
    return shapes


def _adapter_shapes(a: Architecture) -> dict[str, tuple[int, ...]]:
    return {
        "z_scale": (a.dim,),
        "z_shift": (a.dim,),
        "film": (2 * a.blocks * a.channels,),
        "gain": (a.bands,),
        "bias": (a.bands,),
    }


def _mix(x: Array, matrix: Array, bias: Array | None = None) -> Array:
    """A 1 x 1 convolution: (n, c, h, w) with (k, c) -> (n, k, h, w)."""
    n, c, h, w = x.shape
    out = np.matmul(matrix, x.reshape(n, c, h * w))
    if bias is not None:
        out = out + bias[:, None]
    return np.asarray(out.reshape(n, len(matrix), h, w), dtype=np.float32)
