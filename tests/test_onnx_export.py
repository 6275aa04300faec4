"""The ONNX model in onnxruntime against the numpy decoder."""

import numpy as np
import pytest
from networks import ARCHITECTURES, TINY, random_vectors, random_weights

from embarchive import model
from embarchive.errors import BadInput

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
from embarchive import onnx_export  # noqa: E402


def run(data, z, adapter):
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(["image"], {"embedding": z, **adapter})[0]


@pytest.mark.parametrize("n", [0, 1, 3])
@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_onnxruntime_decodes_as_numpy_does(arch, n):
    backbone, z = random_weights(arch, "backbone"), random_vectors(arch, n)
    adapter = random_weights(arch, "adapter", 2)
    found = run(onnx_export.backbone_onnx(arch, backbone), z, adapter)
    expected = model.decode_batch(arch, backbone, adapter, z)
    assert found.dtype == np.float32 and found.shape == expected.shape
    if n:
        assert np.abs(found - expected).max() < 1e-3 * expected.std()


@pytest.mark.parametrize("arch", ARCHITECTURES, ids=str)
def test_the_neutral_adapter_is_none(arch):
    backbone, z = random_weights(arch, "backbone"), random_vectors(arch, 2)
    neutral = model.neutral_adapter(arch)
    assert {name: value.shape for name, value in neutral.items()} == arch.shapes("adapter")
    expected = model.decode_batch(arch, backbone, None, z)
    assert np.array_equal(model.decode_batch(arch, backbone, neutral, z), expected)
    found = run(onnx_export.backbone_onnx(arch, backbone), z, neutral)
    assert np.abs(found - expected).max() < 1e-3 * expected.std()


def test_the_same_weights_in_any_order_give_the_same_bytes():
    backbone = random_weights(TINY, "backbone")
    data = onnx_export.backbone_onnx(TINY, backbone)
    assert onnx_export.backbone_onnx(TINY, dict(reversed(backbone.items()))) == data
    assert onnx_export.backbone_onnx(TINY, random_weights(TINY, "backbone", 9)) != data


def test_the_model_says_what_it_is_and_older_runtimes_can_read_it():
    found = onnx.load_from_string(onnx_export.backbone_onnx(TINY, random_weights(TINY, "backbone")))
    assert {p.key: p.value for p in found.metadata_props} == {
        "format": "embarchive",
        "version": "1",
    }
    assert found.opset_import[0].version <= 21 and found.ir_version <= 10
    assert {opset.domain for opset in found.opset_import} == {""}
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*found.graph.input, *found.graph.output)
    }
    adapter = {name: list(shape) for name, shape in TINY.shapes("adapter").items()}
    assert shapes == {"embedding": ["n", 7], **adapter, "image": ["n", 2, 16, 32]}


def test_a_full_model_exports_its_decoder_alone():
    full = random_weights(TINY, "full")
    names = TINY.shapes("backbone")
    plain = onnx_export.backbone_onnx(TINY, {name: full[name] for name in names})
    assert onnx_export.backbone_onnx(TINY, full) == plain


def test_weights_of_another_network_are_refused():
    backbone = random_weights(TINY, "backbone")
    with pytest.raises(BadInput, match=r"film: expected shape \(12, 7\), found \(12, 8\)"):
        onnx_export.backbone_onnx(TINY, {**backbone, "film": np.zeros((12, 8), np.float32)})
    del backbone["up"]
    with pytest.raises(BadInput, match="up: expected shape"):
        onnx_export.backbone_onnx(TINY, backbone)
