"""A layer comes back from its file as it was; what is not one is refused; streams go where the
cell is."""

import json

import numpy as np
import pytest
from fields import make_tiles
from safetensors.numpy import load

from embarchive import fidelity, fit_fidelity, refine
from embarchive.errors import Damaged
from embarchive.layer import Layer, dump_layer, load_layer

CHIP = (3, 32, 32)
TRAIN = make_tiles(80)


def make_layer(basis="pixels", filtered=True):
    rng = np.random.default_rng(0)
    shape = refine.choose_shape(3, 24, 20)
    weights = {
        name: (rng.normal(0, 0.02, size) + (name == "std") * 10).astype(np.float32)
        for name, size in shape.tensors().items()
    }
    return Layer(fit_fidelity.fit(TRAIN, 4.0), basis, 0, weights if filtered else None)


def chips(n, seed=1):
    return make_tiles(n, height=32, width=32, seed=seed)


def changed(data, about=None, **tensors):
    """The file with other metadata or tensors, as a hostile writer would make it."""
    from embarchive.tensors import pack

    found = {**load(data), **tensors}
    size = int.from_bytes(data[:8], "little")
    old = json.loads(data[8 : 8 + size])["__metadata__"]
    return pack([(k, v) for k, v in found.items() if v is not None], {**old, **(about or {})})


@pytest.mark.parametrize("filtered", [True, False])
def test_there_and_back(filtered):
    made = make_layer(filtered=filtered)
    data = dump_layer(made, "float32")
    found = load_layer(data, *CHIP)
    tiles = chips(7)
    streams = made.write(tiles, tiles)
    assert streams == found.write(tiles, tiles)
    assert np.array_equal(made.apply(tiles, streams), found.apply(tiles, streams))
    assert dump_layer(found, "float32") == data and (found.filter is not None) == filtered


def test_the_block_is_coded_and_the_rest_is_of_the_embedding():
    made, tiles = make_layer(filtered=False), chips(5)
    decoded = np.full_like(tiles, 100)
    found = made.apply(decoded, made.write(tiles, decoded))
    rows, columns = made.block(32, 32)
    assert (rows, columns) == (slice(4, 28), slice(6, 26))
    inside = np.zeros((32, 32), bool)
    inside[rows, columns] = True
    assert (found[..., ~inside] == 100).all()
    assert ((found - tiles)[..., inside] ** 2).mean() < 0.1 * (
        (100 - tiles)[..., inside] ** 2
    ).mean()


def test_on_the_embedding_what_it_lacks_is_coded():
    tiles = chips(30)
    block = (..., slice(4, 28), slice(6, 26))
    near = tiles + np.random.default_rng(0).normal(0, 9, (30, 3, 1, 1)).astype(np.float32)
    rest = fit_fidelity.fit((tiles - near)[block], 4.0)
    made = Layer(rest, "embedding")
    streams = made.write(tiles, near)
    plain = make_layer(filtered=False).write(tiles, near)
    assert sum(map(len, streams)) < 0.5 * sum(map(len, plain))
    found = made.apply(near, streams)
    assert ((found - tiles)[block] ** 2).mean() <= ((near - tiles)[block] ** 2).mean()


@pytest.mark.parametrize(
    "about, tensors",
    [
        ({"kind": "adapter"}, {}),
        ({"version": "2"}, {}),
        ({"basis": "air"}, {}),
        ({"height": "34"}, {}),
        ({"height": "23"}, {}),
        ({"width": "x"}, {}),
        ({"most": "-1"}, {}),
        ({}, {"order": None}),
        ({}, {"more": np.zeros(3, np.int32)}),
        ({}, {"order": np.zeros(900, np.int32)}),
        ({}, {"steps": np.array([np.nan])}),
        ({}, {"steps": np.array([0.0])}),
        ({}, {"mean": np.array([1.0, np.inf, 1.0])}),
        ({}, {"tables": np.zeros((53, 70), np.uint16)}),
        ({}, {"tables": np.zeros((53, 70), np.int32)}),
        ({}, {"ends": np.array([0, 5], np.int32)}),
        ({}, {"filter.std": np.zeros(3, np.float32)}),
        ({}, {"filter.in_bias": np.zeros(31, np.float32)}),
        ({}, {"filter.in": np.full((32, 12, 3, 3), np.inf, np.float32)}),
    ],
)
def test_what_is_no_layer_is_refused(about, tensors):
    data = dump_layer(make_layer(), "float32")
    with pytest.raises(Damaged, match="code"):
        load_layer(changed(data, about, **tensors), *CHIP)


def test_a_layer_of_other_chips_is_refused():
    data = dump_layer(make_layer(), "float16")
    for size in ((4, 32, 32), (3, 16, 32)):
        with pytest.raises(Damaged, match="expected"):
            load_layer(data, *size)
    with pytest.raises(Damaged, match="safetensors"):
        load_layer(data[:-9], *CHIP)


def test_a_most_length_is_kept():
    code = fit_fidelity.fit(TRAIN, 1.0, several=True)
    made = load_layer(dump_layer(Layer(code, "pixels", 20), "float16"), *CHIP)
    tiles = chips(20)
    assert max(map(len, made.write(tiles, tiles))) <= 20
    assert np.array_equal(fidelity.decode(code, [b"\1"]), fidelity.decode(made.code, [b"\1"]))
