"""Single bands: names, numbers, and one network for values of any size."""

from dataclasses import replace

import numpy as np
import pytest
from fakes import SETTINGS
from networks import random_weights

from embarchive import model, oneband
from embarchive.errors import BadInput

ARCH = model.Architecture(1, 16, 16, 8, 2, 4, 4, 1, 8)
KELVIN = {"mean": 290.0, "std": 4.0}


def test_sources_say_their_band():
    assert oneband.source_of("S2A: x", "B08") == "S2A: x:B08"
    assert oneband.band_of("S2A: x:B08") == "B08"
    with pytest.raises(BadInput, match="bands without a colon, found B:8"):
        oneband.source_of("S2A", "B:8")
    assert oneband.area_of(np.array(["u2", "u3"]), "B08").tolist() == ["u2 B08", "u3 B08"]
    assert oneband.known_name("b8", ["B02", "B08"]) == "B08"
    assert oneband.known_name("B11", ["B02", "B08"]) == "B11"


def test_an_archive_of_one_band_by_another_name_is_not_one_of_single_bands():
    assert oneband.single(replace(SETTINGS, bands=("any",)))
    assert not oneband.single(replace(SETTINGS, bands=("B02",)))


def test_standardised_chips_have_no_mean_and_a_spread_of_one():
    chips = np.random.default_rng(0).normal(290, 4, (20, 1, 16, 16)).astype(np.float32)
    numbers = oneband.scaling(chips)
    found = oneband.standardised(chips, numbers)
    assert abs(float(found.mean())) < 1e-4
    assert float(found.std()) == pytest.approx(1, abs=1e-4)
    flat = oneband.scaling(np.full((2, 1, 16, 16), 5, np.float32))
    assert np.isfinite(oneband.standardised(chips, flat)).all()


def test_a_band_is_encoded_as_its_standardised_chips_are():
    encoder = random_weights(ARCH, "encoder", 1)
    x = np.random.default_rng(0).normal(0, 1, (3, 1, 16, 16)).astype(np.float32)
    kelvin = (x * KELVIN["std"] + KELVIN["mean"]).astype(np.float32)
    own = oneband.encoder_of(encoder, KELVIN)
    expected = model.encode_batch(ARCH, encoder, x)
    assert np.allclose(model.encode_batch(ARCH, own, kelvin), expected, atol=1e-3)
    assert not np.allclose(model.encode_batch(ARCH, encoder, kelvin), expected, atol=0.1)


def test_a_folded_adapter_gives_the_bands_values_and_folds_back():
    backbone = random_weights(ARCH, "backbone", 2)
    own = {**backbone, **_numbers(oneband.encoder_of(backbone, KELVIN))}
    adapter = random_weights(ARCH, "adapter", 3)
    z = np.random.default_rng(0).normal(0, 1, (3, 8)).astype(np.float32)
    folded = oneband.folded(adapter, backbone, own)
    expected = model.decode_batch(ARCH, own, adapter, z)
    assert np.allclose(model.decode_batch(ARCH, backbone, folded, z), expected, rtol=1e-4)
    again = oneband.folded(folded, own, backbone)
    assert all(np.allclose(again[name], adapter[name], rtol=1e-3, atol=1e-3) for name in adapter)
    assert oneband.folded(adapter, backbone, backbone) == adapter


def _numbers(weights):
    return {name: weights[name] for name in ("mean", "std")}
