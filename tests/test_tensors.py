"""Weights as bytes: back to half a step, the same every time, and nothing odd let in."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networks import ARCHITECTURES, TINY, random_weights
from safetensors.numpy import load, save

from embarchive import tensors
from embarchive.errors import BadInput, Damaged


@pytest.mark.parametrize("kind", ["encoder", "backbone", "adapter", "shared", "full"])
@pytest.mark.parametrize("numbers, step", [("float32", 0), ("float16", 2**-11), ("int8", 1 / 254)])
def test_weights_come_back_from_bytes_to_half_a_step(kind, numbers, step):
    weights = random_weights(TINY, kind)
    found = tensors.load_weights(tensors.dump_weights(weights, numbers, {"a": "b"}), TINY, kind)
    assert set(found) == set(weights)
    for name, value in weights.items():
        largest = np.abs(value.reshape(len(value), -1)).max(axis=1)
        gap = np.abs(found[name] - value).reshape(len(value), -1).max(axis=1)
        assert (gap <= (0 if value.ndim == 1 else step * 1.01) * largest + 1e-7 * step).all()


@given(st.data(), st.sampled_from(["float32", "float16", "int8"]))
@settings(max_examples=30)
def test_any_finite_adapter_and_matrix_survive(data, numbers):
    numbers32 = st.floats(-(2.0**99), 2.0**99, width=32)
    weights = random_weights(TINY, "backbone")
    for name in ("film", "mean"):
        shape = weights[name].shape
        weights[name] = data.draw(hnp.arrays(np.float32, shape, elements=numbers32))
    found = tensors.load_weights(tensors.dump_weights(weights, numbers, {}), TINY, "backbone")
    peak = np.abs(weights["film"]).max(axis=1, keepdims=True)
    assert (np.abs(found["film"] - weights["film"]) <= peak / 250 + 1e-7).all()
    assert np.array_equal(found["mean"], weights["mean"])


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_bytes_depend_on_neither_order_nor_run_and_the_library_reads_them(numbers):
    weights = random_weights(TINY, "backbone")
    metadata = {name: name for name in "gfedcba"}
    data = tensors.dump_weights(weights, numbers, metadata)
    assert data == tensors.dump_weights(
        dict(reversed(weights.items())), numbers, dict(reversed(metadata.items()))
    )
    assert weights.keys() <= load(data).keys()
    length = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + length])["__metadata__"] == metadata


def test_int8_takes_a_quarter_of_float32():
    weights = random_weights(ARCHITECTURES[1], "backbone")
    sizes = [len(tensors.dump_weights(weights, kind, {})) for kind in ("float32", "int8")]
    assert sizes[1] < 0.3 * sizes[0]


def test_odd_numbers_are_not_written():
    weights = random_weights(TINY, "adapter")
    with pytest.raises(BadInput, match="float8"):
        tensors.dump_weights(weights, "float8", {})
    weights["gain"][0] = np.nan
    with pytest.raises(BadInput, match="gain: expected finite"):
        tensors.dump_weights(weights, "int8", {})


def changed(**changes):
    """Safetensors bytes of a tiny adapter with tensors replaced, or left out when None."""
    weights = {**random_weights(TINY, "adapter"), **changes}
    return save({name: value for name, value in weights.items() if value is not None})


@pytest.mark.parametrize(
    "data, words",
    [
        (changed(gain=None), "differing in"),
        (changed(extra=np.zeros(2, np.float32)), "differing in"),
        (changed(gain=np.ones(3, np.float32)), r"gain: expected shape \(2,\)"),
        (changed(gain=np.ones((2, 1), np.float32)), "gain: expected shape"),
        (changed(gain=np.ones(2, np.float64)), "gain: expected float16 or float32"),
        (changed(gain=np.ones(2, np.int8)), "gain: expected float16 or float32"),
        (changed(gain=np.array([1, np.nan], np.float32)), "gain: expected finite"),
        (changed(gain=np.array([1, np.inf], np.float16)), "gain: expected finite"),
        (changed(**{"gain.scale": np.ones(2, np.float32)}), "gain: expected int8"),
        (changed()[:-1], "expected safetensors"),
        (changed()[:20], "expected safetensors"),
        (changed() + b"\0", "expected safetensors"),
        (b"", "expected safetensors"),
        (struct.pack("<Q", 2**63) + b"{}", "expected safetensors"),
        (bytes(tensors.MAX_WEIGHTS + 1), "expected at most"),
    ],
    ids=range(15),
)
def test_weights_other_than_the_architecture_s_are_refused(data, words):
    with pytest.raises(Damaged, match=words):
        tensors.load_weights(data, TINY, "adapter")


@pytest.mark.parametrize("scale", [np.ones(1, np.float32), np.ones(2, np.float16),
                                   np.array([1, np.nan], np.float32),
                                   np.array([1, 3e38], np.float32)])  # fmt: skip
def test_int8_with_an_odd_scale_is_refused(scale):
    data = changed(gain=np.full(2, 100, np.int8), **{"gain.scale": scale})
    with pytest.raises(Damaged, match="gain"):
        tensors.load_weights(data, TINY, "adapter")


def test_numbers_of_a_kind_that_numpy_lacks_are_refused():
    header = {"gain": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    with pytest.raises(Damaged):
        tensors.load_weights(struct.pack("<Q", len(text)) + text + bytes(4), TINY, "adapter")


@given(st.binary(max_size=200))
def test_random_bytes_are_damaged_weights(data):
    with pytest.raises(Damaged):
        tensors.load_weights(data, TINY, "adapter")
