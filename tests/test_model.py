"""The numpy networks against torch, their weights as bytes, and what they cost."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networks import ARCHITECTURES, TINY, random_chips, random_vectors, random_weights
from safetensors.numpy import load, save

from embarchive import model
from embarchive.errors import BadInput, Damaged

IMAGES = hnp.arrays(np.float32, (2, 3, 16, 32), elements=st.floats(-9, 9, width=32))


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_encode_is_what_torch_computes(arch):
    torch, train = pytest.importorskip("torch"), pytest.importorskip("embarchive.train")
    weights, chips = random_weights(arch, "encoder"), random_chips(arch, 3)
    found = model.encode_batch(arch, weights, chips)
    x = (chips - weights["mean"][:, None, None]) / weights["std"][:, None, None]
    tensors = {name: torch.tensor(value) for name, value in weights.items()}
    style = torch.tensor(found[:, : arch.style])
    expected = train.encode(arch, tensors, torch.tensor(x), style).numpy()
    assert found.dtype == np.float32 and found.shape == (3, arch.dim)
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


@pytest.mark.parametrize("adapted", [False, True])
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_decode_is_what_torch_computes(arch, adapted):
    torch, train = pytest.importorskip("torch"), pytest.importorskip("embarchive.train")
    weights, z = random_weights(arch, "backbone"), random_vectors(arch, 3)
    adapter = random_weights(arch, "adapter", 2) if adapted else None
    found = model.decode_batch(arch, weights, adapter, z)
    fixed = {name: torch.tensor(value) for name, value in weights.items()}
    own = {name: torch.tensor(value) for name, value in adapter.items()} if adapter else None
    expected = train.decode(arch, fixed, own, torch.tensor(z)).numpy()
    expected = expected * weights["std"][:, None, None] + weights["mean"][:, None, None]
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


def test_chips_and_vectors_of_other_shapes_are_refused():
    with pytest.raises(BadInput, match=r"expected \(n, 7\), found \(2, 8\)"):
        model.decode_batch(TINY, random_weights(TINY, "backbone"), None, np.zeros((2, 8)))
    with pytest.raises(BadInput, match="chips"):
        model.encode_batch(TINY, random_weights(TINY, "encoder"), np.zeros((2, 2, 32, 16)))


def test_no_vectors_give_no_chips():
    found = model.decode_batch(TINY, random_weights(TINY, "backbone"), None, np.zeros((0, 7)))
    assert found.shape == (0, 2, 16, 32)


@given(IMAGES, st.sampled_from([1, 2, 4, 8, 16]))
def test_depth_to_space_undoes_space_to_depth(x, s):
    assert np.array_equal(model.depth_to_space(model.space_to_depth(x, s), s), x)


def test_statistics_of_a_flat_chip_are_its_level_and_no_contrast():
    found = model.statistics(np.full((1, 2, 16, 16), 0.5, np.float32))
    assert found.shape == (1, model.statistics_size(2))
    assert np.allclose(found[0, :2], 0.5) and np.allclose(found[0, 2:], np.log(0.03))


@pytest.mark.parametrize("side", [64, 128])
@pytest.mark.parametrize("bands", [1, 3, 4, 12, 13])
def test_default_networks_stay_in_the_budget_of_a_page(bands, side):
    arch = model.choose_architecture(bands, side, side, 64)
    assert arch.multiply_adds() <= 25e6
    assert len(model.dump_weights(random_weights(arch, "backbone"), "float16", {})) <= 1e6


def test_multiply_adds_are_those_of_the_operations(monkeypatch):
    arch, counted = ARCHITECTURES[0], []
    matmul = np.matmul

    def counting(a, b):
        out = matmul(a, b)
        counted.append(out.size * a.shape[-1])
        return out

    monkeypatch.setattr(model.np, "matmul", counting)
    shapes = arch.shapes("backbone")
    model.decode_batch(arch, random_weights(arch, "backbone"), None, random_vectors(arch, 1))
    linear = sum(np.prod(shapes[name]) for name in ("dense", "film"))
    assert arch.multiply_adds() == sum(counted) + linear


def test_an_architecture_survives_json():
    for arch in ARCHITECTURES:
        assert model.Architecture.from_json(json.loads(json.dumps(arch.to_json()))) == arch


@pytest.mark.parametrize(
    "change", [{"bands": 0}, {"dim": 3}, {"stride": 4}, {"height": 24}, {"width": 256},
               {"blocks": -1}, {"basis": 10**9}, {"bands": True}, {"dim": 64.0}, {"odd": 1}],
)  # fmt: skip
def test_an_architecture_of_odd_sizes_is_refused(change):
    with pytest.raises(BadInput, match="architecture"):
        model.Architecture.from_json({**TINY.to_json(), **change})


@pytest.mark.parametrize("kind", ["encoder", "backbone", "adapter", "shared", "full"])
@pytest.mark.parametrize("numbers, step", [("float32", 0), ("float16", 2**-11), ("int8", 1 / 254)])
def test_weights_come_back_from_bytes_to_half_a_step(kind, numbers, step):
    weights = random_weights(TINY, kind)
    found = model.load_weights(model.dump_weights(weights, numbers, {"a": "b"}), TINY, kind)
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
    found = model.load_weights(model.dump_weights(weights, numbers, {}), TINY, "backbone")
    peak = np.abs(weights["film"]).max(axis=1, keepdims=True)
    assert (np.abs(found["film"] - weights["film"]) <= peak / 250 + 1e-7).all()
    assert np.array_equal(found["mean"], weights["mean"])


@pytest.mark.parametrize("numbers", ["float32", "float16", "int8"])
def test_bytes_depend_on_neither_order_nor_run_and_the_library_reads_them(numbers):
    weights = random_weights(TINY, "backbone")
    metadata = {name: name for name in "gfedcba"}
    data = model.dump_weights(weights, numbers, metadata)
    assert data == model.dump_weights(
        dict(reversed(weights.items())), numbers, dict(reversed(metadata.items()))
    )
    assert weights.keys() <= load(data).keys()
    length = int.from_bytes(data[:8], "little")
    assert json.loads(data[8 : 8 + length])["__metadata__"] == metadata


def test_int8_takes_a_quarter_of_float32():
    weights = random_weights(ARCHITECTURES[1], "backbone")
    sizes = [len(model.dump_weights(weights, kind, {})) for kind in ("float32", "int8")]
    assert sizes[1] < 0.3 * sizes[0]


def test_odd_numbers_are_not_written():
    weights = random_weights(TINY, "adapter")
    with pytest.raises(BadInput, match="float8"):
        model.dump_weights(weights, "float8", {})
    weights["gain"][0] = np.nan
    with pytest.raises(BadInput, match="gain: expected finite"):
        model.dump_weights(weights, "int8", {})


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
        (bytes(model.MAX_WEIGHTS + 1), "expected at most"),
    ],
    ids=range(15),
)
def test_weights_other_than_the_architecture_s_are_refused(data, words):
    with pytest.raises(Damaged, match=words):
        model.load_weights(data, TINY, "adapter")


@pytest.mark.parametrize("scale", [np.ones(1, np.float32), np.ones(2, np.float16),
                                   np.array([1, np.nan], np.float32),
                                   np.array([1, 3e38], np.float32)])  # fmt: skip
def test_int8_with_an_odd_scale_is_refused(scale):
    data = changed(gain=np.full(2, 100, np.int8), **{"gain.scale": scale})
    with pytest.raises(Damaged, match="gain"):
        model.load_weights(data, TINY, "adapter")


def test_numbers_of_a_kind_that_numpy_lacks_are_refused():
    header = {"gain": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    text = json.dumps(header).encode()
    with pytest.raises(Damaged):
        model.load_weights(struct.pack("<Q", len(text)) + text + bytes(4), TINY, "adapter")


@given(st.binary(max_size=200))
def test_random_bytes_are_damaged_weights(data):
    with pytest.raises(Damaged):
        model.load_weights(data, TINY, "adapter")
