"""The layers of an exported model as sessions of their own, on the CPU, their states in and out.

An LSTM node runs a padded batch from its first frame to its last.  Layer by layer a recurrence can be stopped
and continued, which `asr_bn.scoring.long` and `asr_bn.scoring.packed` do.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper

from asr_bn.onnx_io.graph import Graph, Shape, make_model, tensor_info
from asr_bn.onnx_io.model_check import is_quantized, read_model
from asr_bn.onnx_io.session import session_options
from asr_bn.onnx_io.versions import QUANTIZATION_DOMAIN
from asr_bn.system.arrays import Floats

Direction: TypeAlias = onnxruntime.InferenceSession
"""``X`` ``[num_frames, batch, size]``, ``h`` and ``c`` ``[1, batch, hidden_size]`` to ``Y`` ``[num_frames, 1,
batch, hidden_size]``, ``h`` and ``c``; the backward one begins with the last frame."""


@dataclass(frozen=True)
class LayerSessions:
    """Sessions of the directions of every layer, and of what follows the last one, which takes ``X``
    ``[num_frames, batch, 2 * hidden_size]``.

    ``mean`` and ``std`` are of the features, where the model does not normalize them in its weights.
    """

    directions: list[tuple[Direction, Direction]]
    output: onnxruntime.InferenceSession
    hidden_size: int
    mean: Floats | None
    std: Floats | None


class ModelLayers:
    """The contents of a model file, layer by layer.

    Args:
        path: the ONNX file; half-precision weights are read as float32.

    Attributes:
        is_exact: the layers in sessions of their own give the bits of the whole model.

    Raises:
        ValueError: not a model that ``asr-bn export`` wrote.
    """

    def __init__(self, path: Path) -> None:
        nodes, self._weights, is_half = _read(path)
        self._lstms = [node for node in nodes if node.op_type in ("LSTM", "DynamicQuantizeLSTM")]
        if not self._lstms or "output.weight" not in self._weights:
            raise ValueError(f"{path}: no layers in it that can be run one by one")
        self._is_quantized = is_quantized({node.op_type for node in nodes})
        self.is_exact = not self._is_quantized and not is_half

    def sessions(self, num_threads: int) -> LayerSessions:
        """Load the layers; both directions of a layer share ``num_threads``, since they can run at a time."""
        each = max(num_threads // 2, 1)
        directions = [
            (self._direction(node, 0, each), self._direction(node, 1, each)) for node in self._lstms
        ]
        mean, std = self._weights.get("feats.mean"), self._weights.get("feats.std")
        output = self._output(num_threads)
        return LayerSessions(directions, output, _hidden_size(self._lstms[0]), mean, std)

    def _direction(self, node: onnx.NodeProto, index: int, num_threads: int) -> Direction:
        """Load one direction of an LSTM node (X, W, R, B, lengths, h, c, P, scales ...)."""
        graph = Graph()
        for name in node.input[1:]:
            if name in self._weights:
                graph.tensor(name, self._weights[name][index : index + 1])
        inputs = ["X", *node.input[1:4], "", "h", "c", *node.input[7:]]
        size = _hidden_size(node)
        width = self._weights[node.input[1]].shape[1 if self._is_quantized else 2]
        direction = "reverse" if index else "forward"
        outputs, domain = ("Y", "Yh", "Yc"), node.domain
        graph.node(node.op_type, inputs, *outputs, domain=domain, hidden_size=size, direction=direction)
        state: Shape = [1, "B", size]
        inputs_info = [tensor_info("X", ["T", "B", width]), *(tensor_info(name, state) for name in "hc")]
        outputs_info = [tensor_info("Y", ["T", 1, "B", size]), *(tensor_info(n, state) for n in outputs[1:])]
        return _session(graph, inputs_info, outputs_info, num_threads)

    def _output(self, num_threads: int) -> onnxruntime.InferenceSession:
        names = ("weight", "scale", "zero", "bias") if self._is_quantized else ("weight", "bias")
        graph = Graph()
        for name in names:
            graph.tensor(name, self._weights[f"output.{name}"])
        if self._is_quantized:
            graph.node("DynamicQuantizeMatMul", ["X", *names], "scores", domain=QUANTIZATION_DOMAIN)
        else:
            graph.node("MatMul", ["X", "weight"], "logits")
            graph.node("Add", ["logits", "bias"], "scores")
        graph.node("LogSoftmax", ["scores"], "log_posteriors", axis=-1)
        size, num_pdfs = self._weights["output.weight"].shape
        # Of three dimensions, as in the whole model: of two, ONNX Runtime joins the product and the bias in
        # one operation that rounds otherwise.
        output = tensor_info("log_posteriors", ["T", "B", num_pdfs])
        return _session(graph, [tensor_info("X", ["T", "B", size])], [output], num_threads)


def _read(path: Path) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]], bool]:
    """Read nodes, those inside a ``Loop`` too; constants, halves as float32; and if there are halves."""
    proto = read_model(path)
    nodes = list(proto.graph.node)
    for node in proto.graph.node:
        nodes += [inner for attribute in node.attribute for inner in attribute.g.node]
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    halves = {
        name: values.astype(np.float32) for name, values in weights.items() if values.dtype == np.float16
    }
    return nodes, weights | halves, bool(halves)


def _hidden_size(lstm: onnx.NodeProto) -> int:
    return int(next(attribute.i for attribute in lstm.attribute if attribute.name == "hidden_size"))


def _session(
    graph: Graph, inputs: list[onnx.ValueInfoProto], outputs: list[onnx.ValueInfoProto], num_threads: int
) -> onnxruntime.InferenceSession:
    model = make_model(graph.proto("layer", inputs, outputs), is_quantized=True)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), session_options(num_threads), providers=["CPUExecutionProvider"]
    )
