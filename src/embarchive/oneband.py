"""Archives of single bands: every band of a scene is a tile of its own, encoded by one network that
all bands share.

Such an archive has one band, ANY. Which one a row is of stands in its source, `SCENE:BAND`. The
networks see each band standardised by its own mean and spread: an encoder whose `mean` and `std`
are the band's, and adapters whose gain and bias give its values back.
Why so: docs/decisions/008-single-bands.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from embarchive.bandnames import same_key
from embarchive.errors import BadInput
from embarchive.recipe import Settings

Array = NDArray[np.float32]
Weights = Mapping[str, Array]
ANY = "any"
# What an archive of single bands says of its units: those of a band are its scenes'.
UNITS = "per band"


def single(settings: Settings) -> bool:
    """Whether every tile of an archive is of one band."""
    return settings.bands == (ANY,)


def source_of(scene: str, band: str) -> str:
    """The source of a band's tiles. Raises BadInput for a band with a colon."""
    if ":" in band:
        raise BadInput(f"scene {scene}: expected bands without a colon, found {band}")
    return f"{scene}:{band}"


def band_of(source: str) -> str:
    """The band that a source names."""
    return source.rpartition(":")[2]


def area_of(regions: NDArray[np.str_], band: str) -> NDArray[np.str_]:
    """What a band's decoders in regions (n,) are called."""
    return np.array([f"{name} {band}" for name in regions.tolist()], dtype=np.str_)


def known_name(band: str, known: Sequence[str]) -> str:
    """A band as the archive spells it: B2 is B02 where that is there."""
    return next((name for name in known if same_key(name) == same_key(band)), band)


def scaling(chips: Array) -> dict[str, float]:
    """Mean and spread of a band's training chips float32 (n, 1, height, width), recipe units."""
    return {
        "mean": float(chips.mean(dtype=np.float64)),
        "std": max(float(chips.std(dtype=np.float64)), 1e-9),
    }


def standardised(chips: Array, band: Mapping[str, Any]) -> Array:
    """Chips as the shared networks are trained on them."""
    return ((chips - np.float32(band["mean"])) / np.float32(band["std"])).astype(np.float32)


def encoder_of(encoder: Weights, band: Mapping[str, Any]) -> dict[str, Array]:
    """The shared encoder for a band's own values."""
    mean, std = np.float64(encoder["mean"]), np.float64(encoder["std"])
    return {
        **encoder,
        "mean": (mean * band["std"] + band["mean"]).astype(np.float32),
        "std": (std * band["std"]).astype(np.float32),
    }


def folded(adapter: Weights, shared: Weights, own: Weights) -> dict[str, Array]:
    """An adapter of a network with the mean and std of `own`, for one with those of `shared`: both
    give the same values. Without a difference the adapter as it is."""
    if all(np.array_equal(shared[name], own[name]) for name in ("mean", "std")):
        return dict(adapter)
    gain, bias = np.float64(adapter["gain"]), np.float64(adapter["bias"])
    mean, std = np.float64(shared["mean"]), np.float64(shared["std"])
    new_gain = gain * own["std"] / std
    new_bias = (bias * own["std"] + own["mean"] - mean) / std
    found = {"gain": new_gain.astype(np.float32), "bias": new_bias.astype(np.float32)}
    return {**adapter, **found}
