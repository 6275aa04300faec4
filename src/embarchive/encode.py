"""Chips into rows: embedding, bits, code and the error of their own decode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray

from embarchive import model, oneband, tensors, train
from embarchive.codes import Codes, Shared, stored
from embarchive.model import Architecture, Array, Weights
from embarchive.quantize import Int8, SimHash
from embarchive.rows import make_rows
from embarchive.tiles import Chips

BATCH = 64
Names = NDArray[np.str_]


@dataclass(frozen=True)
class RegionModel:
    """What encodes and decodes the rows of a region.

    adapter: for kind adapter; own: for kind full, whose vectors are in `code`.
    """

    model_id: str
    adapter: Weights | None = None
    own: Weights | None = None


@dataclass(frozen=True)
class Encoder:
    """A space ready to encode: network, calibration and the models of regions; no backbone in a
    space without decoders."""

    architecture: Architecture
    encoder: Weights
    backbone: Weights
    quantiser: Int8
    simhash: SimHash | None
    models: Mapping[str, RegionModel]
    index: tuple[int, int] | None
    codes: Codes | None = None

    def for_band(self, band: Mapping[str, Any]) -> Encoder:
        """The encoder of a single band of these numbers, see `oneband`."""
        return replace(self, encoder=oneband.encoder_of(self.encoder, band))

    def rows(
        self,
        chips: Chips,
        owner: Names,
        when: datetime | None,
        source: str,
        together: Mapping[str, Shared] | None = None,
    ) -> tuple[pa.Table, int]:
        """Rows of chips whose regions are `owner` (n,), and how many values were clipped; together:
        what tiles share with the other dates of their place, by cell."""
        mu = embed(self.architecture, self.encoder, chips.pixels)
        q = self.quantiser.encode(mu)
        clipped = int((np.abs(mu) > self.quantiser.scale * 127.5).sum())
        found: dict[str, Any] = {"model_id": [""] * len(chips)}
        if self.backbone:
            found = self._decoded_columns(chips, owner, when, q, together or {})
        columns = {
            "source": [source] * len(chips),
            "input_digest": list(chips.digest),
            "valid_fraction": chips.valid_fraction,
            **found,
        }
        bits = None if self.simhash is None else self.simhash.encode(q)
        return make_rows(chips.geohash, [when] * len(chips), q, bits, columns), clipped

    def _decoded_columns(
        self,
        chips: Chips,
        owner: Names,
        when: datetime | None,
        q: NDArray[np.int8],
        together: Mapping[str, Shared],
    ) -> dict[str, Any]:
        """What rows have by their decoders: model_id, code, mse and index_mae."""
        mse, index_mae = np.zeros(len(chips)), np.full(len(chips), np.nan)
        ids = np.empty(len(chips), dtype=object)
        codes: list[bytes | None] = [None] * len(chips)
        for region in np.unique(owner):
            chosen = np.flatnonzero(owner == region)
            found = self.models[str(region)]
            ids[chosen] = found.model_id
            pixels, valid = chips.pixels[chosen], chips.valid[chosen]
            texts, images = self._decoded(found, pixels, q[chosen])
            if self.codes is not None:
                shared = [together.get(name) for name in chips.geohash[chosen].tolist()]
                streams = self.codes.write(pixels, images, shared)
                days = [None if when is None else when.isoformat()] * len(chosen)
                block = (..., *self.codes.block(*pixels.shape[2:]))
                images = self.codes.apply(images, streams, days)[block]
                pixels, valid = pixels[block], valid[block]
                pairs = zip(texts, stored(streams, shared), strict=True)
                texts = [text + stream for text, stream in pairs]
            if self.codes is not None or found.own is not None:
                for row, text in zip(chosen, texts, strict=True):
                    codes[row] = text
            mse[chosen], index_mae[chosen] = errors(pixels, images, valid, self.index)
        return {"model_id": ids, "mse": mse, "index_mae": index_mae, "code": codes}

    def decoded(self, pixels: Array, owner: Names) -> Array:
        """What the embeddings of chips float32 (n, bands, height, width), whose regions are
        `owner` (n,), decode to, likewise."""
        q = self.quantiser.encode(embed(self.architecture, self.encoder, pixels))
        images = np.empty_like(pixels)
        for region in np.unique(owner):
            some = owner == region
            images[some] = self._decoded(self.models[str(region)], pixels[some], q[some])[1]
        return images

    def _decoded(
        self, found: RegionModel, pixels: Array, q: NDArray[np.int8]
    ) -> tuple[list[bytes], Array]:
        """The vectors of a region's own network, empty without one, and what is decoded."""
        if found.own is None:
            z = self.quantiser.decode(q)
            images = decode_chips(self.architecture, self.backbone, found.adapter, z)
            return [b""] * len(q), images
        code, images = own_code(self.architecture, found.own, pixels)
        return [text.tobytes() for text in code], images


def embed(arch: Architecture, weights: Weights, pixels: Array) -> Array:
    """mu float32 (n, dim); the torch twin of `model.encode_batch`, in fixed batches."""
    fixed = {name: torch.tensor(value) for name, value in weights.items()}
    found = []
    for start in range(0, len(pixels), BATCH):
        x = (pixels[start : start + BATCH] - weights["mean"][:, None, None]) / weights["std"][
            :, None, None
        ]
        style = model.style_numbers(weights, x)
        with torch.no_grad():
            mu = train.encode(arch, fixed, torch.tensor(x), torch.tensor(style))
        found.append(mu.numpy())
    return np.concatenate(found) if found else np.zeros((0, arch.dim), np.float32)


def decode_chips(arch: Architecture, backbone: Weights, adapter: Weights | None, z: Array) -> Array:
    """Chips in recipe units; the torch twin of `model.decode_batch`, in fixed batches."""
    fixed = {name: torch.tensor(value) for name, value in backbone.items()}
    own = None if adapter is None else {k: torch.tensor(v) for k, v in adapter.items()}
    std, mean = backbone["std"][:, None, None], backbone["mean"][:, None, None]
    found = []
    for start in range(0, len(z), BATCH):
        with torch.no_grad():
            image = train.decode(arch, fixed, own, torch.tensor(z[start : start + BATCH]))
        found.append(image.numpy() * std + mean)
    shape = (0, arch.bands, arch.height, arch.width)
    return np.concatenate(found) if found else np.zeros(shape, np.float32)


def own_code(arch: Architecture, own: Weights, pixels: Array) -> tuple[NDArray[np.int8], Array]:
    """The int8 vectors (n, dim) of a region's own VAE, and what it decodes them to."""
    quantiser = Int8(float(own["encoder.step"][0]))
    code = quantiser.encode(embed(arch, tensors.part(own, "encoder."), pixels))
    return code, decode_chips(arch, own, None, quantiser.decode(code))


def errors(
    pixels: Array,
    images: Array,
    valid: NDArray[np.bool_],
    index: tuple[int, int] | None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per chip: mean squared error over valid pixels, and mean absolute error of the index
    (a - b) / (a + b) of two bands, NaN without one. float64 (n,) each."""
    count = np.maximum(valid.sum(axis=(1, 2), dtype=np.float64), 1)
    mse, mae = np.zeros(len(pixels)), np.full(len(pixels), np.nan)
    # A chip at a time: in float64 all of them at once would be most of a job's memory.
    for i, (chip, image, known) in enumerate(zip(pixels, images, valid, strict=True)):
        gap = (image - chip).astype(np.float64) ** 2
        mse[i] = gap[:, known].sum() / (count[i] * len(chip))
        if index is not None:
            pair = (
                normalised_difference(image[None], index),
                normalised_difference(chip[None], index),
            )
            mae[i] = np.abs(pair[0] - pair[1])[0][known].sum() / count[i]
    return mse, mae


def normalised_difference(pixels: Array, index: tuple[int, int]) -> NDArray[np.float64]:
    """(a - b) / (a + b) of two bands, within -1..1; 0 where both are 0. (n, height, width)."""
    a, b = (pixels[:, band].astype(np.float64) for band in index)
    total = a + b
    return np.clip((a - b) / np.where(np.abs(total) < 1e-6, np.inf, total), -1, 1)
