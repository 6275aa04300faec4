"""The page's WebAssembly is what its sources build to, and the pixels it is held to are true."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from golden import model as golden

from embarchive import model
from embarchive.model import Architecture

HOME = Path(__file__).parent.parent
NETWORKS = json.loads((HOME / "tests" / "golden" / "model.json").read_text())["random"]


def builder():
    spec = importlib.util.spec_from_file_location("build", HOME / "web" / "kernels" / "build.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("name", ["hamming", "decode"])
def test_a_kernel_is_what_the_pinned_compiler_makes_of_its_source(name):
    pytest.importorskip("ziglang")
    stored = (HOME / "web" / "viewer" / f"{name}.wasm").read_bytes()
    assert builder().compiled(name) == stored, "stale: run `python web/kernels/build.py`"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: str(network["architecture"]))
def test_golden_pixels_are_those_of_float32_and_of_onnxruntime(network):
    pytest.importorskip("onnx")
    onnxruntime = pytest.importorskip("onnxruntime")
    from embarchive import export

    arch = Architecture.from_json(network["architecture"])
    backbone = narrow(golden.random_weights(arch, "backbone", 1))
    adapter = model.neutral_adapter(arch)
    if network["adapted"]:
        adapter = narrow(golden.random_weights(arch, "adapter", 2))
    z = (3 * golden.random_numbers(3, 3 * arch.dim)).reshape(3, arch.dim).astype(np.float32)
    data = export.backbone_onnx(arch, backbone)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    for pixels in (
        model.decode_batch(arch, backbone, adapter, z),
        session.run(["image"], {"embedding": z, **adapter})[0],
    ):
        some = pixels.ravel()[:: network["step"]]
        assert np.abs(some - network["pixels"]).max() < 1e-5 * network["std"]


def narrow(weights):
    return {name: value.astype(np.float32) for name, value in weights.items()}
