"""Models for a plan: the archive-wide VAE, then a decoder a region, with their held-out errors.

What is measured on held-out tiles (spatial blocks with a gap, every date of a place on one
side) stands beside the two baselines that are cheap to fit: each tile's band means, and PCA
of at most 4,096 training tiles with as many numbers as the embedding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import adapters, digests, encode, export, model, quantize, regions, tensors, train
from embarchive.baselines import Pca, tile_mean_error
from embarchive.components import Fitted
from embarchive.errors import BadInput
from embarchive.gather import Names, Sample
from embarchive.indices import IndexTarget, index_bands, index_target
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
    encoder = _put_weights(store, arch, fitted.encoder, "encoder", "", recipe)
    backbone = _put_weights(store, arch, fitted.decoder, "backbone", "", recipe)
    mu = encode.embed(arch, encoder[2], chips)
    quantiser = quantize.Int8(float(encoder[2]["step"][0]))
    simhash = quantize.fit_simhash(quantiser.encode(mu), settings.bits, recipe.seed)
    plain = {} if simhash is None else simhash.to_json()
    identity = canonical_json([encoder[0], quantiser.scale, plain])
    onnx = export.backbone_onnx(arch, backbone[2])
    onnx_sha = digests.sha256(onnx)
    store.put_new(object_path("model-onnx", onnx_sha), onnx)
    low, high = np.percentile(chips[:: max(1, len(chips) // 500)], [0.05, 99.95])
    return Space(
        space_id=digests.sha256(identity)[:16],
        encoder=encoder[0],
        encoder_length=encoder[1],
        dim=dim,
        metric="l2",
        scale=quantiser.scale,
        simhash=plain,
        trained={"tiles": len(chips), "collapsed": fitted.collapsed},
        saturation={"training": quantiser.saturation(mu)},
        architecture=arch.to_json(),
        backbone=backbone[0],
        backbone_length=backbone[1],
        onnx=onnx_sha,
        onnx_length=len(onnx),
        peak=float(high - low),
    )


def fit_adapters(
    base: Base, settings: Settings, recipe: Recipe, chips: Sequence[Array]
) -> Iterator[model.Weights]:
    """Adapters of regions, in their order, for the training chips float32 (n, bands, height,
    width) of each: neutral where they are too few, or where the archive's decoders are others.
    """
    least = train.LEAST_TILES if settings.codec == "adapter" else math.inf
    data = [(stored_vectors(base, some), some) for some in chips if len(some) >= least]
    arch, target = base.architecture, index_target(settings, recipe.index_weight)
    with closing(adapters.fit_adapters(arch, base.backbone, data, recipe, target)) as found:
        for some in chips:
            yield next(found) if len(some) >= least else model.neutral_adapter(arch)


def write_region(
    store: Store,
    base: Base,
    settings: Settings,
    recipe: Recipe,
    region: str,
    data: tuple[Sample, Sample],
    fresh: model.Weights,
    pca: Pca | None,
) -> dict[str, Any]:
    """Write a region's decoder; its row of the models table as JSON values.

    data: training and test chips of the region; fresh: its adapter. A full network is fitted
    here. Where the chips are too few to train on, the neutral adapter stands for it, too;
    train_tiles says how many they were.
    """
    train_set, test_set = data
    space, arch, kind = base.space, base.architecture, settings.codec
    enough = len(train_set) >= train.LEAST_TILES
    adapter: model.Weights | None = None
    own: model.Weights | None = None
    if kind == "full" and enough:
        start = Fitted(dict(base.encoder), dict(base.backbone))
        target = index_target(settings, recipe.index_weight)
        own, made = _fit_full(store, base, recipe, region, start, (train_set.pixels, target))
    elif kind == "shared":
        made = (space.backbone or "", space.backbone_length)
    else:
        kind = "adapter"
        sha, length, adapter = _put_weights(store, arch, fresh, kind, region, recipe, space)
        made = (sha, length)
    found = _measure(base, settings, test_set, adapter, own, pca)
    row = _row(space, kind, region, made, data) | found
    return _with_card(store, row, settings, recipe, None)


@dataclass(frozen=True)
class Held:
    """A decoder that an archive has for a region: its row of the models table, and its weights
    (None: the shared network decodes)."""

    row: Mapping[str, Any]
    weights: model.Weights | None

    @property
    def adapter(self) -> model.Weights | None:
        """The weights of an adapter."""
        return self.weights if self.row["kind"] == "adapter" else None

    @property
    def own(self) -> model.Weights | None:
        """The weights of a whole network."""
        return self.weights if self.row["kind"] == "full" else None


def tile_errors(base: Base, held: Held, sample: Sample) -> NDArray[np.float64]:
    """Mean squared error (n,) of each chip by a held decoder, over its valid pixels."""
    images = _images(base, held.adapter, held.own, sample.pixels)
    return encode.errors(sample.pixels, images, sample.valid, None)[0]


def refit_region(
    store: Store,
    base: Base,
    settings: Settings,
    recipe: Recipe,
    held: Held,
    data: tuple[Sample, Sample],
) -> tuple[dict[str, Any], float]:
    """Write a new version of a region's decoder, fitted from the held one on; its row of the models
    table, and the held one's error of the same test chips.

    data: training and test chips, some of each. Raises BadInput where all share one decoder.
    """
    train_set, test_set = data
    space, arch = base.space, base.architecture
    region, kind = held.row["region"], held.row["kind"]
    if held.weights is None:
        raise BadInput(f"region {region}: expected a decoder of its own, found the shared one")
    adapter = own = None
    chips, target = train_set.pixels, index_target(settings, recipe.index_weight)
    if kind == "full":
        parts = tensors.part(held.weights, "encoder.")
        rest = {k: v for k, v in held.weights.items() if not k.startswith("encoder.")}
        own, made = _fit_full(store, base, recipe, region, Fitted(parts, rest), (chips, target))
    else:
        vectors, start = [(stored_vectors(base, chips), chips)], [held.weights]
        fitted = adapters.fit_adapters(arch, base.backbone, vectors, recipe, target, start)
        fresh = next(fitted)
        sha, length, adapter = _put_weights(store, arch, fresh, kind, region, recipe, space)
        made = (sha, length)
    before = _measure(base, settings, test_set, held.adapter, held.own, None)["mse"]
    found = _measure(base, settings, test_set, adapter, own, None)
    row = _row(space, kind, region, made, data) | found
    assert before is not None
    return _with_card(store, row, settings, recipe, held.row["model_id"]), before


def _row(
    space: Space, kind: str, region: str, made: tuple[str, int], data: tuple[Sample, Sample]
) -> dict[str, Any]:
    """What a row of the models table says but for errors and the card."""
    return {
        "model_id": made[0],
        "length": made[1],
        "kind": kind,
        "region": region,
        "space_id": space.space_id,
        "backbone": space.backbone if kind == "adapter" else None,
        "backbone_length": space.backbone_length if kind == "adapter" else None,
        "onnx_sha256": space.onnx if kind != "full" else None,
        "onnx_length": space.onnx_length if kind != "full" else None,
        "train_tiles": len(data[0]),
        "test_tiles": len(data[1]),
    }


def _with_card(
    store: Store, row: dict[str, Any], settings: Settings, recipe: Recipe, start: str | None
) -> dict[str, Any]:
    """Write the card of a row, which then names it. start: the model that it was fitted from, None
    for the shared network."""
    card = canonical_json(_card(row, settings, recipe, start))
    card_sha = digests.sha256(card)
    row["card_sha256"], row["card_length"] = card_sha, len(card)
    store.put_new(object_path("model-card", card_sha), card)
    return row


@dataclass(frozen=True)
class Base:
    """The shared networks and calibration of a space, loaded."""

    space: Space
    architecture: Architecture
    encoder: model.Weights
    backbone: model.Weights
    quantiser: quantize.Int8
    simhash: quantize.SimHash | None


def _fit_full(
    store: Store,
    base: Base,
    recipe: Recipe,
    region: str,
    start: Fitted,
    data: tuple[Array, IndexTarget],
) -> tuple[model.Weights, tuple[str, int]]:
    arch = base.architecture
    fitted = train.refit(arch, start, data[0], recipe, data[1])
    own = {f"encoder.{name}": value for name, value in fitted.encoder.items()} | fitted.decoder
    sha, length, stored = _put_weights(store, arch, own, "full", region, recipe, base.space)
    return stored, (sha, length)


def _measure(
    base: Base,
    settings: Settings,
    test: Sample,
    adapter: model.Weights | None,
    own: model.Weights | None,
    pca: Pca | None,
) -> dict[str, float | None]:
    names = ("mse", "mse_tile_mean", "mse_pca", "psnr", "psnr_peak", "index_mae")
    if not len(test):
        return dict.fromkeys(names)
    images = _images(base, adapter, own, test.pixels)
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


def _images(
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


def _put_weights(
    store: Store,
    arch: Architecture,
    weights: model.Weights,
    kind: str,
    region: str,
    recipe: Recipe,
    space: Space | None = None,
) -> tuple[str, int, model.Weights]:
    """Write weights; their hash, bytes, and the values that a reader will load. A region's name
    their space, so that equal adapters of two spaces are two models."""
    stamp = {"format": "embarchive", "version": "1", "kind": kind, "region": region}
    stamp |= {"space": space.space_id} if space else {}
    data = tensors.dump_weights(weights, recipe.weights, stamp)
    sha = digests.sha256(data)
    store.put_new(object_path("model", sha), data)
    return sha, len(data), tensors.load_weights(data, arch, kind)


def _card(
    row: dict[str, Any], settings: Settings, recipe: Recipe, start: str | None
) -> dict[str, Any]:
    keys = ("steps", "adapter_steps", "batch", "beta", "index_weight", "seed", "weights")
    return {
        "format": "embarchive",
        "version": 1,
        "kind": "model card",
        "model": row,
        "start": start,
        "bands": list(settings.bands),
        "gsd": settings.gsd,
        "units": settings.units,
        "indices": {name: list(pair) for name, pair in settings.indices.items()},
        "training": {key: getattr(recipe, key) for key in keys},
        "attribution": settings.attribution,
        "licence": settings.licence,
    }
