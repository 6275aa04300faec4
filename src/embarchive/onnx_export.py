"""A decoder as an ONNX model, built node by node from its weights.

One model serves every region: the backbone is inside, the adapter comes as inputs;
`model.neutral_adapter` gives the inputs that leave the backbone as it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from embarchive import model
from embarchive.errors import BadInput
from embarchive.model import Architecture, Array, Weights

# Old enough for the runtimes of browsers and phones; all operators used are in it.
OPSET, IR_VERSION = 17, 8
VERSION = "1"


def backbone_onnx(arch: Architecture, backbone: Weights) -> bytes:
    """The bytes of an ONNX model that does what `model.decode_batch` does with an adapter.

    Inputs, float32: embedding (n, dim), z_scale (dim), z_shift (dim), film (2 * blocks *
    channels), gain (bands), bias (bands). Output: image float32 (n, bands, height, width) in
    recipe units. The same weights give the same bytes. Raises BadInput when a tensor of the
    backbone is missing or has another shape; tensors of other names are left out.
    """
    _check(arch, backbone)
    graph = _Graph(backbone)
    _decoder(graph, arch)
    inputs: dict[str, Sequence[str | int]] = {"embedding": ("n", arch.dim)}
    inputs |= arch.shapes("adapter")
    image = ("n", arch.bands, arch.height, arch.width)
    made = helper.make_graph(
        graph.nodes,
        "embarchive_decoder",
        [_value(name, shape) for name, shape in inputs.items()],
        [_value("image", image)],
        [numpy_helper.from_array(value, name) for name, value in sorted(graph.constants.items())],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    found = helper.make_model(made, opset_imports=opsets, producer_name="embarchive")
    found.ir_version = IR_VERSION
    helper.set_model_props(found, {"format": "embarchive", "version": VERSION})
    onnx.checker.check_model(found, full_check=True)
    return bytes(found.SerializeToString(deterministic=True))


class _Graph:
    """Nodes and constants as they come; each node's output is named after the node."""

    def __init__(self, weights: Mapping[str, Array]) -> None:
        self.weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, NDArray[np.generic]] = {}

    def add(self, kind: str, inputs: list[str], name: str = "", **attributes: Any) -> str:
        """Append a node with one output; gives the output's name."""
        name = name or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """A tensor of the backbone, reshaped when a shape is given."""
        value = np.asarray(self.weights[name], dtype=np.float32)
        self.constants[f"w.{name}"] = value if shape is None else value.reshape(shape)
        return f"w.{name}"

    def reshape(self, x: str, *shape: int) -> str:
        """Reshape; a leading 0 keeps the size of the batch, even an empty one."""
        name = f"shape_{'_'.join(map(str, shape))}"
        self.constants[name] = np.array(shape, dtype=np.int64)
        return self.add("Reshape", [x, name])

    def linear(self, x: str, name: str) -> str:
        """x @ matrix.T + bias."""
        return self.add("Gemm", [x, self.weight(name), self.weight(f"{name}_bias")], transB=1)

    def mix(self, x: str, name: str) -> str:
        """A 1 x 1 convolution."""
        kernel = self.weight(name, (*self.weights[name].shape, 1, 1))
        return self.add("Conv", [x, kernel, self.weight(f"{name}_bias")], kernel_shape=[1, 1])

    def conv(self, x: str, name: str) -> str:
        """A 3 x 3 convolution with zero padding."""
        inputs = [x, self.weight(name), self.weight(f"{name}_bias")]
        return self.add("Conv", inputs, kernel_shape=[3, 3], pads=[1, 1, 1, 1])

    def leaky(self, x: str) -> str:
        """Leaky ReLU."""
        return self.add("LeakyRelu", [x], alpha=model.SLOPE)

    def up(self, x: str, size: int) -> str:
        """Depth to space; CRD is the layout of `model.depth_to_space`: band, row, column."""
        return self.add("DepthToSpace", [x], blocksize=size, mode="CRD")

    def affine(self, x: str, scale: str, shift: str, name: str = "") -> str:
        """x * scale + shift."""
        return self.add("Add", [self.add("Mul", [x, scale]), shift], name)


def _decoder(graph: _Graph, arch: Architecture) -> None:
    """The nodes of `model.decode_batch`, line by line."""
    k, bands = arch.channels, (arch.bands, 1, 1)
    z = graph.affine(_foretold(graph, arch), "z_scale", "z_shift")
    f = graph.reshape(graph.linear(z, "dense"), 0, arch.basis, *arch.grid)
    image = graph.up(graph.mix(f, "patch"), arch.stride)
    g = graph.up(graph.mix(f, "up"), 2)
    m = graph.add("Add", [graph.linear(z, "film"), "film"])
    m = graph.reshape(m, 0, 2 * arch.blocks * k, 1, 1)
    parts = [f"film_{i}_{what}" for i in range(arch.blocks) for what in ("scale", "shift")]
    graph.constants["one"] = np.ones((), dtype=np.float32)
    _split(graph, m, dict.fromkeys(parts, k))
    for i in range(arch.blocks):
        t = graph.leaky(graph.conv(g, f"block{i}.a"))
        scale = graph.add("Add", [parts[2 * i], "one"])
        t = graph.leaky(graph.affine(t, scale, parts[2 * i + 1]))
        g = graph.add("Add", [g, graph.conv(t, f"block{i}.b")])
    detail = graph.mix(graph.leaky(g), "head")
    image = graph.add("Add", [image, graph.up(detail, arch.stride // 2)])
    image = graph.affine(image, graph.reshape("gain", *bands), graph.reshape("bias", *bands))
    graph.affine(image, graph.weight("std", bands), graph.weight("mean", bands), "image")


def _foretold(graph: _Graph, arch: Architecture) -> str:
    """The embedding with what style foretells added to its detail, see `model.prior`."""
    rest = arch.dim - arch.style
    _split(graph, "embedding", {"style": arch.style, "detail": rest})
    units = graph.leaky(graph.linear("style", "units"))
    both = graph.linear(graph.add("Concat", ["style", units], axis=1), "prior")
    _split(graph, both, {"prior_mean": rest, "log_scale": 1})
    limit = np.float32(model.LOG_SCALE_LIMIT)
    graph.constants["log_low"], graph.constants["log_high"] = np.array(-limit), np.array(limit)
    scale = graph.add("Exp", [graph.add("Clip", ["log_scale", "log_low", "log_high"])])
    detail = graph.affine("detail", scale, "prior_mean")
    return graph.add("Concat", ["style", detail], axis=1)


def _split(graph: _Graph, x: str, sizes: Mapping[str, int]) -> None:
    """Parts of the second axis, by name."""
    name = f"sizes_{len(graph.nodes)}"
    graph.constants[name] = np.array(list(sizes.values()), dtype=np.int64)
    graph.nodes.append(helper.make_node("Split", [x, name], list(sizes), name, axis=1))


def _value(name: str, shape: Sequence[str | int]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))


def _check(arch: Architecture, backbone: Weights) -> None:
    for name, shape in arch.shapes("backbone").items():
        found = backbone[name].shape if name in backbone else None
        if found != shape:
            raise BadInput(f"backbone: {name}: expected shape {shape}, found {found}")
