"""The archive-wide VAE of a plan, and what a decoder leaves of held-out tiles.

What is measured on held-out tiles (spatial blocks with a gap, every date of a place on one
side) stands beside the two baselines that are cheap to fit: each tile's band means, and PCA
of at most 4,096 training tiles with as many numbers as the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import (
    digests,
    encode,
    model,
    oneband,
    onnx_export,
    quantize,
    regions,
    tensors,
    train,
)
from embarchive.baselines import Pca, tile_mean_error
from embarchive.gather import Names, Sample
from embarchive.indices import index_bands, index_target
from embarchive.manifest import Space, object_path
from embarchive.model import Architecture, Array
from embarchive.recipe import Recipe, Settings
from embarchive.storage import Store
from embarchive.strictjson import canonical_json

# Rows of held-out tiles that a region is measured on.
MOST_TEST = 1024
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Split:
    """Training and test cells of an archive's first build."""

    train: frozenset[str]
    test: frozenset[str]

    def masks(self, geohash: Names) -> tuple[Mask, Mask]:
        """Which rows (n,) to train on and which to test on."""
        names = geohash.tolist()
        train_mask = np.array([name in self.train for name in names], dtype=bool)
        return train_mask, np.array([name in self.test for name in names], dtype=bool)


def split_cells(cells: Names, settings: Settings, seed: int) -> Split:
    """Cells to train on and to test on."""
    names = np.unique(cells)
    owner = regions.region_of(names, settings)
    keep, test = regions.held_out(names, settings.precision, seed=seed, regions=owner)
    return Split(frozenset(names[keep].tolist()), frozenset(names[test].tolist()))


def step_seconds(settings: Settings, batch: int) -> float:
    """What a training step of the shared networks is expected to take."""
    return 0.004 + 8e-7 * settings.height * settings.width * len(settings.bands) * batch / 24


def fit_space(
    store: Store,
    settings: Settings,
    recipe: Recipe,
    sample: Sample,
    split: Split,
    step: Callable[[int, int], None],
) -> Space:
    """Train the shared VAE, write it and its calibration; the space they make."""
    keep, _ = split.masks(sample.geohash)
    chips = sample.pixels[keep]
    height, width, dim = settings.height, settings.width, settings.dim
    arch = model.choose_architecture(len(settings.bands), height, width, dim)
    target = index_target(settings, recipe.index_weight)
    fitted = train.fit(arch, chips, recipe, step, target)
    encoder = pack(arch, fitted.encoder, "encoder", recipe)
    backbone = pack(arch, fitted.decoder, "backbone", recipe)
    put(store, encoder)
    put(store, backbone)
    mu = encode.embed(arch, encoder.weights, chips)
    quantiser = quantize.Int8(float(encoder.weights["step"][0]))
    simhash = quantize.fit_simhash(quantiser.encode(mu), settings.bits, recipe.seed)
    plain = {} if simhash is None else simhash.to_json()
    identity = canonical_json([encoder.sha256, quantiser.scale, plain])
    onnx = onnx_export.backbone_onnx(arch, backbone.weights)
    onnx_sha = digests.sha256(onnx)
    store.put_new(object_path("model-onnx", onnx_sha), onnx)
    low, high = np.percentile(chips[:: max(1, len(chips) // 500)], [0.05, 99.95])
    return Space(
        space_id=digests.sha256(identity)[:16],
        encoder=encoder.sha256,
        encoder_length=len(encoder.data),
        dim=dim,
        metric="l2",
        scale=quantiser.scale,
        simhash=plain,
        trained={"tiles": len(chips), "collapsed": fitted.collapsed},
        saturation={"training": quantiser.saturation(mu)},
        architecture=arch.to_json(),
        backbone=backbone.sha256,
        backbone_length=len(backbone.data),
        onnx=onnx_sha,
        onnx_length=len(onnx),
        peak=float(high - low),
    )


@dataclass(frozen=True)
class Base:
    """The shared networks and calibration of a space, loaded."""

    space: Space
    architecture: Architecture
    encoder: model.Weights
    backbone: model.Weights
    quantiser: quantize.Int8
    simhash: quantize.SimHash | None

    @property
    def own(self) -> model.Weights:
        """The backbone with the mean and std of the encoder, which differ for a single band: what
        decoders are fitted with."""
        return {**self.backbone, **{name: self.encoder[name] for name in ("mean", "std")}}

    def for_band(self, band: Mapping[str, Any] | None) -> Base:
        """The networks for a single band of these numbers; as they are for None."""
        if band is None:
            return self
        space = replace(self.space, peak=self.space.peak * band["std"])
        return replace(self, space=space, encoder=oneband.encoder_of(self.encoder, band))


def measure(
    base: Base,
    settings: Settings,
    test: Sample,
    adapter: model.Weights | None,
    own: model.Weights | None,
    pca: Pca | None,
) -> dict[str, float | None]:
    """The errors of held-out tiles as the models table has them; adapter, own: what decodes them,
    None for the shared network."""
    names = ("mse", "mse_tile_mean", "mse_pca", "psnr", "psnr_peak", "index_mae")
    if not len(test):
        return dict.fromkeys(names)
    images = decoded(base, adapter, own, test.pixels)
    every = np.ones_like(test.valid)
    mse = float(encode.errors(test.pixels, images, every, None)[0].mean())
    index, peak = index_bands(settings), base.space.peak
    mae = encode.errors(test.pixels, images, test.valid, index[0])[1] if index else None
    return {
        "mse": mse,
        "mse_tile_mean": tile_mean_error(test.pixels),
        "mse_pca": pca.error(test.pixels) if pca else None,
        "psnr": 10 * math.log10(peak**2 / max(mse, 1e-30)) if peak > 0 else None,
        "psnr_peak": peak,
        "index_mae": None if mae is None else float(mae.mean()),
    }


def decoded(
    base: Base, adapter: model.Weights | None, own: model.Weights | None, pixels: Array
) -> Array:
    """Chips as a reader of their stored rows would see them."""
    if own is not None:
        return encode.own_code(base.architecture, own, pixels)[1]
    z = stored_vectors(base, pixels)
    return encode.decode_chips(base.architecture, base.backbone, adapter, z)


def clipped_share(base: Base, pixels: Array) -> float:
    """Share of the numbers of chips that int8 cuts off."""
    mu = encode.embed(base.architecture, base.encoder, pixels)
    return base.quantiser.saturation(mu)


def stored_vectors(base: Base, pixels: Array) -> Array:
    """The vectors that a reader of stored rows would decode."""
    mu = encode.embed(base.architecture, base.encoder, pixels)
    return base.quantiser.decode(base.quantiser.encode(mu))


@dataclass(frozen=True)
class Packed:
    """Weights as an object of the archive: kind of model, hash, bytes, and the values that a reader
    will load."""

    kind: str
    sha256: str
    data: bytes
    weights: model.Weights


def pack(
    arch: Architecture,
    weights: model.Weights,
    kind: str,
    recipe: Recipe,
    region: str = "",
    space: Space | None = None,
) -> Packed:
    """Weights as bytes, not written yet. A region's name their space, so that equal adapters of two
    spaces are two models."""
    stamp = {"format": "embarchive", "version": "1", "kind": kind, "region": region}
    stamp |= {"space": space.space_id} if space else {}
    data = tensors.dump_weights(weights, recipe.weights, stamp)
    return Packed(kind, digests.sha256(data), data, tensors.load_weights(data, arch, kind))


def put(store: Store, made: Packed) -> None:
    """Write packed weights."""
    store.put_new(object_path("model", made.sha256), made.data)
