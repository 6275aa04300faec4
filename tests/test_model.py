"""The numpy networks against torch, and what they cost."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from networks import ARCHITECTURES, TINY, random_chips, random_vectors, random_weights

from embarchive import model, tensors
from embarchive.errors import BadInput

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
    assert len(tensors.dump_weights(random_weights(arch, "backbone"), "float16", {})) <= 1e6


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
