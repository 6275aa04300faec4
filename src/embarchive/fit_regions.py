"""Decoders of regions, fitted, measured on held-out tiles, and chosen where the recipe says so."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive import adapters, choice, digests, encode, model, oneband, tensors, train
from embarchive.baselines import Pca
from embarchive.choice import Candidate, Choice
from embarchive.components import Fitted
from embarchive.errors import BadInput
from embarchive.fitting import Base, Packed, decoded, measure, pack, put, stored_vectors
from embarchive.gather import Sample
from embarchive.indices import index_target
from embarchive.manifest import Space, object_path
from embarchive.model import Array
from embarchive.recipe import Recipe, Settings
from embarchive.storage import Store
from embarchive.strictjson import canonical_json


@dataclass(frozen=True)
class Area:
    """A region's chips to train on and to test on; tiles: rows that it will have."""

    region: str
    train: Sample
    test: Sample
    tiles: int


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


def fit_adapters(
    base: Base, settings: Settings, recipe: Recipe, chips: Sequence[Array]
) -> Iterator[model.Weights]:
    """Adapters of regions, in their order, for the training chips float32 (n, bands, height,
    width) of each: neutral where they are too few, or where the archive's decoders are others.
    """
    least = train.LEAST_TILES if settings.codec in ("adapter", "auto") else math.inf
    data = [(stored_vectors(base, some), some) for some in chips if len(some) >= least]
    arch, target = base.architecture, index_target(settings, recipe.index_weight)
    with closing(adapters.fit_adapters(arch, base.own, data, recipe, target)) as found:
        for some in chips:
            yield next(found) if len(some) >= least else model.neutral_adapter(arch)


@dataclass(frozen=True)
class Work:
    """What fitting a region's decoder needs beside the region."""

    store: Store
    base: Base
    settings: Settings
    recipe: Recipe

    def pack(self, weights: model.Weights, kind: str, region: str) -> Packed:
        """Weights of a region, not written yet. An adapter is as `fit_adapters` gives it."""
        if kind == "adapter":
            weights = oneband.folded(weights, self.base.backbone, self.base.own)
        return pack(self.base.architecture, weights, kind, self.recipe, region, self.base.space)

    def measure(self, test: Sample, made: Packed | None, pca: Pca | None) -> Errors:
        """The errors of held-out tiles by what was made, None for the shared network."""
        adapter = made.weights if made and made.kind == "adapter" else None
        own = made.weights if made and made.kind == "full" else None
        return measure(self.base, self.settings, test, adapter, own, pca)

    def full(self, region: str, start: Fitted, chips: Array) -> Packed:
        """A whole network trained on from `start` with a region's chips."""
        target = index_target(self.settings, self.recipe.index_weight)
        found = train.refit(self.base.architecture, start, chips, self.recipe, target)
        return self.pack(_whole(found), "full", region)


Errors = dict[str, float | None]


def write_region(work: Work, area: Area, fresh: model.Weights, pca: Pca | None) -> dict[str, Any]:
    """Write a region's decoder; its row of the models table as JSON values.

    fresh: its adapter. A full network is fitted here. Where the chips are too few to train on,
    the neutral adapter stands for it, too; train_tiles says how many they were. With codec `auto`
    the decoder is chosen, see `choice`, and the card says why.
    """
    kind = work.settings.codec
    if kind == "auto":
        made, found, why = _choose(work, area, fresh, pca)
    else:
        made = _made(work, area, fresh)
        found, why = work.measure(area.test, made, pca), None
    if made is not None:
        put(work.store, made)
    row = _row(work.base.space, made, area) | found
    return _with_card(work, row, None, why)


def _made(work: Work, area: Area, fresh: model.Weights) -> Packed | None:
    """The decoder that the archive's codec asks for; None for the shared network."""
    kind = work.settings.codec
    if kind == "shared":
        return None
    if kind == "full" and len(area.train) >= train.LEAST_TILES:
        return work.full(area.region, shared_start(work.base), area.train.pixels)
    return work.pack(fresh, "adapter", area.region)


def _choose(
    work: Work, area: Area, fresh: model.Weights, pca: Pca | None
) -> tuple[Packed | None, Errors, Choice]:
    """The decoder of least cost, None for the shared network; its errors, and why."""
    made: dict[str, Packed | None] = {"shared": None}
    found = {"shared": work.measure(area.test, None, pca)}
    tried = [Candidate("shared", found["shared"]["mse"], 0)]
    if len(area.train) >= train.LEAST_TILES and len(area.test) >= choice.LEAST_TEST:
        start = shared_start(work.base)
        coded = area.tiles * work.base.space.dim
        size = len(work.pack(_whole(start), "full", area.region).data) + coded
        made["adapter"] = work.pack(fresh, "adapter", area.region)
        if not choice.hopeless(size, area.tiles):
            made["full"] = work.full(area.region, start, area.train.pixels)
        for kind in ("adapter", "full"):
            one = made.get(kind)
            if one is None:
                tried.append(Candidate(kind, None, size))
                continue
            found[kind] = work.measure(area.test, one, pca)
            extra = coded if kind == "full" else 0
            tried.append(Candidate(kind, found[kind]["mse"], len(one.data) + extra))
    why = choice.choose(tried, area.tiles, len(area.test))
    return made[why.chosen], found[why.chosen], why


def tile_errors(base: Base, held: Held, sample: Sample) -> NDArray[np.float64]:
    """Mean squared error (n,) of each chip by a held decoder, over its valid pixels."""
    images = decoded(base, held.adapter, held.own, sample.pixels)
    return encode.errors(sample.pixels, images, sample.valid, None)[0]


def refit_region(work: Work, held: Held, area: Area) -> tuple[dict[str, Any], float]:
    """Write a new version of a region's decoder, fitted from the held one on; its row of the models
    table, and the held one's error of the same test chips.

    area: training and test chips, some of each. Where decoders are chosen a region that had the
    shared one gets an adapter. Raises BadInput where all share one decoder.
    """
    settings, base, region = work.settings, work.base, held.row["region"]
    if held.weights is None and settings.codec != "auto":
        raise BadInput(f"region {region}: expected a decoder of its own, found the shared one")
    chips = area.train.pixels
    if held.own is not None:
        parts = tensors.part(held.own, "encoder.")
        rest = {k: v for k, v in held.own.items() if not k.startswith("encoder.")}
        made = work.full(region, Fitted(parts, rest), chips)
    else:
        arch, target = base.architecture, index_target(settings, work.recipe.index_weight)
        first = held.adapter or model.neutral_adapter(arch)
        start = [oneband.folded(first, base.own, base.backbone)]
        data = [(stored_vectors(base, chips), chips)]
        fitted = adapters.fit_adapters(arch, base.own, data, work.recipe, target, start)
        made = work.pack(next(fitted), "adapter", region)
    before = measure(base, settings, area.test, held.adapter, held.own, None)["mse"]
    found = work.measure(area.test, made, None)
    put(work.store, made)
    row = _row(base.space, made, area) | found
    assert before is not None
    return _with_card(work, row, held.row["model_id"], None), before


def shared_start(base: Base) -> Fitted:
    """The shared networks, where a region's whole network begins."""
    return Fitted(dict(base.encoder), dict(base.own))


def _whole(fitted: Fitted) -> dict[str, Array]:
    """A network as the weights of a model of kind full."""
    return {f"encoder.{name}": value for name, value in fitted.encoder.items()} | fitted.decoder


def _row(space: Space, made: Packed | None, area: Area) -> dict[str, Any]:
    """What a row of the models table says but for errors and the card."""
    kind = made.kind if made else "shared"
    return {
        "model_id": made.sha256 if made else space.backbone,
        "length": len(made.data) if made else space.backbone_length,
        "kind": kind,
        "region": area.region,
        "space_id": space.space_id,
        "backbone": space.backbone if kind == "adapter" else None,
        "backbone_length": space.backbone_length if kind == "adapter" else None,
        "onnx_sha256": space.onnx if kind != "full" else None,
        "onnx_length": space.onnx_length if kind != "full" else None,
        "train_tiles": len(area.train),
        "test_tiles": len(area.test),
    }


def _with_card(
    work: Work, row: dict[str, Any], start: str | None, why: Choice | None
) -> dict[str, Any]:
    """Write the card of a row, which then names it. start: the model that it was fitted from, None
    for the shared network; why: how it was chosen, None where it was not."""
    card = _card(row, work.settings, work.recipe, start)
    data = canonical_json(card if why is None else card | {"choice": why.to_json()})
    sha = digests.sha256(data)
    row["card_sha256"], row["card_length"] = sha, len(data)
    work.store.put_new(object_path("model-card", sha), data)
    return row


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
