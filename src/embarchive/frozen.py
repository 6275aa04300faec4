"""The decoder with fixed weights: errors of tiles, and their slopes in the adapters.

What automatic differentiation would find, see `train.decode`, written out for a decoder of which
only the adapter moves: every tile has a row of adapter numbers, so one pass serves the tiles of
many regions. Three rearrangements make it faster, none changes a sum: pixels stay in the order in
which the network makes them, channels come last, and the slope through a convolution is the
convolution by its mirrored kernel, which torch's own backward pass takes four times as long for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embarchive import model
from embarchive.indices import NO_TARGET, IndexTarget
from embarchive.model import Architecture, Array

Row = tuple[Tensor, Tensor]
Pair = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Index:
    """Positions of two bands, their divisors and means, and the least a + b, recipe units."""

    bands: tuple[int, int]
    std: tuple[float, float]
    mean: tuple[float, float]
    floor: float


@dataclass(frozen=True)
class Frozen:
    """A backbone laid out for `errors`.

    dense, film: (dim, numbers out) with biases; patch, up, head and kernels: convolutions
    (kernel, the kernel of its slope), in the order of `errors`, with their biases in `bias`;
    indices: what is aimed at beside the bands, `index_weight` of each of their pixels.
    """

    arch: Architecture
    dense: Row
    film: Row
    mixes: Mapping[str, Pair]
    kernels: tuple[Pair, ...]
    bias: Mapping[str, Tensor]
    indices: tuple[Index, ...]
    index_weight: float


def freeze(arch: Architecture, backbone: model.Weights, target: IndexTarget = NO_TARGET) -> Frozen:
    """Lay out the weights of a backbone, float32."""
    w = {name: torch.tensor(value) for name, value in backbone.items()}
    k, b, half, spots = arch.channels, arch.basis, arch.stride // 2, arch.grid[0] * arch.grid[1]
    patch = w["patch"].reshape(arch.bands, 2, half, 2, half, b).permute(1, 3, 0, 2, 4, 5)
    level = w["patch_bias"].reshape(arch.bands, 2, half, 2, half).permute(1, 3, 0, 2, 4)
    names = [f"block{i}.{side}" for i in range(arch.blocks) for side in "ab"]
    return Frozen(
        arch,
        (
            w["dense"].reshape(b, spots, arch.dim).permute(2, 1, 0).reshape(arch.dim, -1),
            w["dense_bias"].reshape(b, spots).T.reshape(-1),
        ),
        (w["film"].T.contiguous(), w["film_bias"]),
        {
            "patch": _both(patch.reshape(-1, b, 1, 1)),
            "up": _both(w["up"].reshape(k, 2, 2, b).permute(1, 2, 0, 3).reshape(-1, b, 1, 1)),
            "head": _both(w["head"][:, :, None, None]),
        },
        tuple(_both(w[name]) for name in names),
        {
            "patch": level.reshape(-1),
            "up": w["up_bias"].reshape(k, 2, 2).permute(1, 2, 0).reshape(-1),
            "head": w["head_bias"],
            **{str(i): w[f"{name}_bias"] for i, name in enumerate(names)},
        },
        _indices(backbone, target) if target else (),
        # Errors of bands are sums; an index has one number where they have `bands`.
        target.weight * arch.bands / max(1, len(target.pairs)),
    )


def _indices(backbone: model.Weights, target: IndexTarget) -> tuple[Index, ...]:
    std, mean = backbone["std"].tolist(), backbone["mean"].tolist()
    floors = target.floors(backbone["mean"])
    return tuple(
        Index((a, b), (std[a], std[b]), (mean[a], mean[b]), floor)
        for (a, b), floor in zip(target.pairs, floors, strict=True)
    )


def sizes(arch: Architecture) -> dict[str, int]:
    """Numbers of an adapter's tensors, in the order of its row."""
    return {name: shape[0] for name, shape in arch.shapes("adapter").items()}


def targets(net: Frozen, backbone: model.Weights, chips: Array) -> Tensor:
    """Chips float32 (n, bands, height, width), recipe units, normalised and in the network's
    order: float32 (n, 4 spots, numbers of a quarter patch)."""
    (h, w), half = net.arch.grid, net.arch.stride // 2
    x = (chips - backbone["mean"][:, None, None]) / backbone["std"][:, None, None]
    parts = x.reshape(len(x), net.arch.bands, h, 2, half, w, 2, half)
    ordered = parts.transpose(0, 2, 5, 3, 6, 1, 4, 7).reshape(len(x), h * w * 4, -1)
    return torch.from_numpy(np.ascontiguousarray(ordered))


def inputs(net: Frozen, backbone: model.Weights, z: Array) -> Tensor:
    """Vectors float32 (n, dim) with the prior put back, which no adapter changes."""
    style = z[:, : net.arch.style]
    mean, scale = model.prior(backbone, style)
    return torch.from_numpy(np.concatenate([style, z[:, net.arch.style :] * scale + mean], axis=1))


def errors(
    net: Frozen, rows: Tensor, z: Tensor, x: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums of squared errors (n,) of tiles, and the slopes in rows of weight (n,) times them and
    times the errors of their indices, which count as `train.index_error` has them.

    rows (n, numbers of an adapter): the adapter of each tile; z: `inputs`; x: `targets`.
    """
    with torch.no_grad():
        return _errors(net, rows, z, x, weight)


def _errors(
    net: Frozen, rows: Tensor, z0: Tensor, x: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    a, n = net.arch, len(z0)
    z_scale, z_shift, film, gain, shift = torch.split(rows, list(sizes(a).values()), dim=1)
    z = torch.addcmul(z_shift, z0, z_scale)
    f = torch.addmm(net.dense[1], z, net.dense[0]).reshape(n, -1, 1, a.basis).permute(0, 3, 1, 2)
    m = (
        torch.addmm(net.film[1], z, net.film[0])
        .add_(film)
        .reshape(n, a.blocks, 2, a.channels, 1, 1)
    )
    g, kept = _blocks(net, _fine(a, _mix(net, "up", f)), m)
    image = _flat(_mix(net, "head", _coarse(a, g)))
    image = image.reshape(x.shape).add_(_flat(_mix(net, "patch", f)).reshape(x.shape))
    wide = _spread(a, gain)
    error = torch.addcmul(_spread(a, shift), image, wide).sub_(x)
    found = torch.linalg.vector_norm(error, dim=(1, 2)).square()
    # From here on backwards.
    level = _index_slopes(net, error, x)
    error *= (2 * weight)[:, None, None]
    for band, slope in level:
        _band(a, error, band).add_(slope.mul_((net.index_weight * weight)[:, None, None]))
    to_shift, to_gain = _gathered(a, error), _gathered(a, image.mul_(error))
    error *= wide
    quarters = error.reshape(n, -1, 1, a.patch // 4).permute(0, 3, 1, 2)
    to_g = _leaky_slope(_fine(a, F.conv2d(quarters, net.mixes["head"][1])), g)
    to_g, to_m = _blocks_slope(net, to_g, m, kept)
    whole = error.reshape(n, -1, 1, a.patch).permute(0, 3, 1, 2)
    up = _coarse(a, to_g).permute(0, 2, 3, 1).reshape(n, -1, 1, 4 * a.channels).permute(0, 3, 1, 2)
    to_f = F.conv2d(up, net.mixes["up"][1]).add_(F.conv2d(whole, net.mixes["patch"][1]))
    to_z = _flat(to_f).reshape(n, -1) @ net.dense[0].T + to_m @ net.film[0].T
    return found, torch.cat([to_z * z0, to_z, to_m, to_gain, to_shift], dim=1)


def _index_slopes(net: Frozen, error: Tensor, x: Tensor) -> list[tuple[int, Tensor]]:
    """Bands and the slopes (n, spots, pixels) of the absolute errors of indices in them."""
    found = []
    for index in net.indices:
        known = [
            _band(net.arch, x, band).mul(std).add_(mean)
            for band, std, mean in zip(index.bands, index.std, index.mean, strict=True)
        ]
        made = [
            torch.add(value, _band(net.arch, error, band), alpha=std)
            for value, band, std in zip(known, index.bands, index.std, strict=True)
        ]
        value, total, live = _index(made, index.floor)
        right, _, _ = _index(known, index.floor)
        sign = torch.sign(value.clamp(-1, 1) - right.clamp_(-1, 1))
        sign *= (known[0] + known[1] >= index.floor) & (value.abs() < 1)
        sign /= total
        value *= live
        found.append((index.bands[0], (1 - value).mul_(sign).mul_(index.std[0])))
        found.append((index.bands[1], (-1 - value).mul_(sign).mul_(index.std[1])))
    return found


def _index(pair: list[Tensor], floor: float) -> tuple[Tensor, Tensor, Tensor]:
    """An index before it is limited, its denominator, and where that is not the floor."""
    total = pair[0] + pair[1]
    live = total > floor
    total.clamp_(min=floor)
    return (pair[0] - pair[1]).div_(total), total, live


def _band(a: Architecture, x: Tensor, band: int) -> Tensor:
    """The pixels of a band, a view (n, spots, .) into x (n, spots, numbers of a quarter patch)."""
    size = a.patch // 4 // a.bands
    return x[:, :, band * size : (band + 1) * size]


def _blocks(net: Frozen, g: Tensor, m: Tensor) -> tuple[Tensor, list[Pair]]:
    """The residual blocks and a leaky ReLU; of each what its slope needs."""
    kept = []
    for i in range(net.arch.blocks):
        first = _leaky(_conv(net, 2 * i, g))
        second = _leaky(torch.addcmul(m[:, i, 1], first, 1 + m[:, i, 0]))
        g = _conv(net, 2 * i + 1, second).add_(g)
        kept.append((first, second))
    return _leaky(g), kept


def _blocks_slope(net: Frozen, to_g: Tensor, m: Tensor, kept: list[Pair]) -> Pair:
    """Slopes in what goes into the blocks, and in m as (n, blocks * 2 * channels)."""
    to_m = torch.empty(m.shape[:4])
    for i in reversed(range(net.arch.blocks)):
        first, second = kept[i]
        slope = _leaky_slope(_conv_slope(net, 2 * i + 1, to_g), second)
        to_m[:, i, 1] = _flat(slope).sum(1)
        to_m[:, i, 0] = (_flat(slope) * _flat(first)).sum(1)
        slope = _leaky_slope(slope.mul_(1 + m[:, i, 0]), first)
        to_g = _conv_slope(net, 2 * i, slope).add_(to_g)
    return to_g, to_m.flatten(1)


def _fine(a: Architecture, x: Tensor) -> Tensor:
    """Numbers of patches, or of their quarters, (n, ., ., 1) as a picture (n, k, 2 h, 2 w)."""
    (h, w), n = a.grid, len(x)
    parts = x.permute(0, 2, 3, 1).reshape(n, h, w, 2, 2, -1).transpose(2, 3)
    return parts.reshape(n, 2 * h, 2 * w, -1).permute(0, 3, 1, 2)


def _coarse(a: Architecture, x: Tensor) -> Tensor:
    """Inverse of `_fine`: a picture (n, k, 2 h, 2 w) as quarters of patches (n, k, 4 h w, 1)."""
    (h, w), n = a.grid, len(x)
    parts = x.permute(0, 2, 3, 1).reshape(n, h, 2, w, 2, -1).transpose(2, 3)
    return parts.reshape(n, h * w * 4, 1, -1).permute(0, 3, 1, 2)


def _flat(x: Tensor) -> Tensor:
    """(n, k, h, w) with channels last as (n, h w, k)."""
    return x.permute(0, 2, 3, 1).flatten(1, 2)


def _spread(a: Architecture, bands: Tensor) -> Tensor:
    """A number a band (n, bands) as one of each number of a quarter patch (n, 1, .)."""
    return bands.repeat_interleave(a.patch // 4 // a.bands, dim=1)[:, None]


def _gathered(a: Architecture, x: Tensor) -> Tensor:
    """The slope of `_spread`: sums over the pixels of each band, (n, bands)."""
    return x.sum(1).reshape(len(x), a.bands, -1).sum(2)


def _both(kernel: Tensor) -> Pair:
    """A kernel (out, in, s, s) and that of its slope, (in, out, s, s), channels last."""
    mirrored = kernel.transpose(0, 1).flip(2, 3)
    last = torch.channels_last
    return kernel.contiguous(memory_format=last), mirrored.contiguous(memory_format=last)


def _mix(net: Frozen, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, net.mixes[name][0], net.bias[name])


def _conv(net: Frozen, i: int, x: Tensor) -> Tensor:
    return F.conv2d(x, net.kernels[i][0], net.bias[str(i)], padding=1)


def _conv_slope(net: Frozen, i: int, slope: Tensor) -> Tensor:
    return F.conv2d(slope, net.kernels[i][1], padding=1)


def _leaky(x: Tensor) -> Tensor:
    return F.leaky_relu_(x, model.SLOPE)


def _leaky_slope(slope: Tensor, found: Tensor) -> Tensor:
    """The slope in what `_leaky` turned into `found`."""
    made: Tensor = torch.ops.aten.leaky_relu_backward(slope, found, model.SLOPE, True)
    return made
