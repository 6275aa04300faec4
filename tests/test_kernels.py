"""The page's WebAssembly is what its sources build to, and the pixels it is held to are true."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from golden import model as golden

import embarchive
from embarchive import model
from embarchive.model import Architecture
from embarchive.serve import demo_root

HOME = Path(__file__).parent.parent
GOLDEN = json.loads((HOME / "tests" / "golden" / "model.json").read_text())
NETWORKS = GOLDEN["random"]


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
    from embarchive import onnx_export

    arch = Architecture.from_json(network["architecture"])
    backbone = narrow(golden.random_weights(arch, "backbone", 1))
    adapter = model.neutral_adapter(arch)
    if network["adapted"]:
        adapter = narrow(golden.random_weights(arch, "adapter", 2))
    z = (3 * golden.random_numbers(3, 3 * arch.dim)).reshape(3, arch.dim).astype(np.float32)
    assert_golden(model.decode_batch(arch, backbone, adapter, z), network, 1e-5)
    assert_golden(run_onnx(onnx_export.backbone_onnx(arch, backbone), z, adapter), network, 1e-5)


@pytest.mark.parametrize("region", GOLDEN["demo"]["models"], ids=lambda region: region["model_id"])
def test_golden_pixels_of_the_demo_are_those_of_its_onnx_file(region):
    archive = embarchive.open_archive(demo_root())
    decoder = archive.weights.decoder(region["model_id"])
    z = np.array(region["embedding"], np.float32) * np.float32(decoder.scale)
    data = (demo_root() / "models" / f"{archive.space().onnx}.onnx").read_bytes()
    assert_golden(run_onnx(data, z, decoder.adapter), region, 1e-4)


def run_onnx(data, z, adapter):
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return session.run(["image"], {"embedding": z, **adapter})[0]


def assert_golden(pixels, expected, share):
    some = pixels.ravel()[:: expected["step"]]
    assert np.abs(some - expected["pixels"]).max() < share * expected["std"]


def narrow(weights):
    return {name: value.astype(np.float32) for name, value in weights.items()}
