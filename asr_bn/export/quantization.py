"""8-bit weights and activations; an answer depends on its utterance alone.

ONNX Runtime quantizes activations with one scale a call, so that an utterance's answer would depend on the
rest of its batch.  Here a ``Loop`` in the graph takes the utterances one by one, cut to their lengths: every
batch gives the same bits.  The cost is the speed that batched 8-bit products would gain.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr_bn.onnx_io.graph import Graph, make_model, tensor_info, write_model
from asr_bn.onnx_io.model_check import read_model
from asr_bn.onnx_io.versions import QUANTIZATION_DOMAIN
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats

# 7 bits: two 8-bit products overflow the 16-bit sums of processors without VNNI, whose answers would differ.
_LEVELS = 63


@dataclass(frozen=True)
class InputScale:
    """Mean and standard deviation of each feature, ``[num_features]``, which normalize the input.

    Deltas are a hundredth of the energy and would vanish in 8 bits beside it.
    """

    mean: Floats
    std: Floats


def quantize_onnx(source: Path, metadata: ModelMetadata, scale: InputScale, path: Path) -> None:
    """Quantize the float32 model ``source``, of :func:`asr_bn.export.acoustic.export_onnx`, to 8 bits.

    Inputs and output stay as they are; it runs on the CPU only.

    Raises:
        ValueError: ``source`` is not such a model.
    """
    proto = read_model(source)
    graph = _outer_graph(proto, _Body(proto, scale, source))
    write_model(make_model(graph, {METADATA_KEY: metadata.to_json()}, is_quantized=True), path)


def quantize_columns(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Quantize ``[..., I, G]`` to int8, with a scale ``[..., G]`` that keeps each column's largest value."""
    largest = np.abs(weight).max(axis=-2)
    scale = (np.where(largest > 0, largest, 1.0) / _LEVELS).astype(np.float32)
    return np.rint(weight / scale[..., None, :]).astype(np.int8), scale


class _Body:
    """The network for one utterance ``[length, num_features]``, its products in 8 bits."""

    def __init__(self, proto: onnx.ModelProto, scale: InputScale, source: Path) -> None:
        self._graph = Graph(prefix="body.")
        self._node, self._tensor = self._graph.node, self._graph.tensor
        self._weights = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        lstms = [node for node in proto.graph.node if node.op_type == "LSTM"]
        if not lstms or "output.weight" not in self._weights:
            raise ValueError(f"{source}: not a float32 model that asr-bn exported")
        self._unfold(lstms[0], scale)
        self._cut(scale)
        hidden = "utterance"
        for index, node in enumerate(lstms):
            hidden = self._lstm(node, f"layer{index}", hidden)
        self._output(hidden)

    def _unfold(self, first: onnx.NodeProto, scale: InputScale) -> None:
        """Take the normalization of the input out of the first layer's weights again."""
        weight, bias = self._weights[first.input[1]].astype(np.float64), self._weights[first.input[3]].copy()
        bias[:, : weight.shape[1]] += weight @ scale.mean.astype(np.float64)
        self._weights[first.input[1]] = (weight * scale.std).astype(np.float32)
        self._weights[first.input[3]] = bias

    def _cut(self, scale: InputScale) -> None:
        """The utterance without its padding; at least a frame, since an LSTM takes no fewer.

        ``Split`` refuses a length below 0 or over the frames, which ``Slice`` would take for another one.
        """
        zero, one = (self._tensor(f"int.{k}", [k]) for k in (0, 1))
        self._node("Gather", ["utterance_lengths", "index"], "length32", axis=0)
        self._node("Cast", ["length32"], "length64", to=TensorProto.INT64)
        self._node("Reshape", ["length64", one], "length1")
        self._node("Max", ["length1", one], "length")
        self._node("Gather", ["features", "index"], "padded", axis=0)
        self._node("Shape", ["padded"], "padded_shape")
        self._node("Slice", ["padded_shape", zero, one], "num_frames")
        self._node("Sub", ["num_frames", "length1"], "num_padding")
        self._node("Concat", ["length1", "num_padding"], "split", axis=0)
        parts = ["frames", "padding"]
        self._node("Split", ["padded", "split"], *parts, name="length_within_frames", axis=0)
        self._node("Concat", ["frames", "padding"], "checked", axis=0)
        self._node("Slice", ["checked", zero, "length", zero], "cut")
        self._node("Sub", ["cut", self._tensor("feats.mean", scale.mean.astype(np.float32))], "centred")
        self._node("Div", ["centred", self._tensor("feats.std", scale.std.astype(np.float32))], "normalized")
        self._node("Unsqueeze", ["normalized", one], "utterance")

    def _lstm(self, node: onnx.NodeProto, name: str, hidden: str) -> str:
        weight, scale = quantize_columns(self._weights[node.input[1]].transpose(0, 2, 1))
        recurrent, recurrent_scale = quantize_columns(self._weights[node.input[2]].transpose(0, 2, 1))
        bias = self._tensor(f"{name}.B", self._weights[node.input[3]])
        inputs = [hidden, self._tensor(f"{name}.W", weight), self._tensor(f"{name}.R", recurrent), bias]
        has_peephole = len(node.input) > 7
        peephole = self._tensor(f"{name}.P", self._weights[node.input[7]]) if has_peephole else ""
        inputs += ["", "", "", peephole]
        for key, values in (("W", scale), ("R", recurrent_scale)):
            inputs.append(self._tensor(f"{name}.{key}.scale", values))
            inputs.append(self._tensor(f"{name}.{key}.zero", np.zeros(values.shape, dtype=np.int8)))
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        self._node("DynamicQuantizeLSTM", inputs, f"{name}.Y", domain=QUANTIZATION_DOMAIN, **attributes)
        self._node("Transpose", [f"{name}.Y"], f"{name}.by_direction", perm=[0, 2, 1, 3])
        if name == "layer0":
            self._tensor("joined_shape", [0, 0, -1])
        return self._node("Reshape", [f"{name}.by_direction", "joined_shape"], f"{name}.hidden")

    def _output(self, hidden: str) -> None:
        weight, scale = quantize_columns(self._weights["output.weight"])
        inputs = [hidden, self._tensor("output.weight", weight), self._tensor("output.scale", scale)]
        inputs.append(self._tensor("output.zero", np.zeros(scale.shape, dtype=np.int8)))
        inputs.append(self._tensor("output.bias", self._weights["output.bias"]))
        self._node("DynamicQuantizeMatMul", inputs, "scores", domain=QUANTIZATION_DOMAIN)
        self._node("LogSoftmax", ["scores"], "log_softmax", axis=-1)
        self._node("Squeeze", ["log_softmax", "int.1"], "rows")
        self._node("Sub", ["num_frames", "length"], "num_missing")
        self._node("Concat", ["int.0", "int.0", "num_missing", "int.0"], "pads", axis=0)
        self._node("Pad", ["rows", "pads"], "row_out")
        self._node("Identity", ["go_on"], "still_go_on")

    @property
    def tensors(self) -> list[onnx.TensorProto]:
        """Constants, which belong into the graph around it."""
        return self._graph.tensors

    def proto(self) -> onnx.GraphProto:
        """Return the body of the ``Loop``."""
        index = tensor_info("index", [], TensorProto.INT64)
        go_on, still = (tensor_info(name, [], TensorProto.BOOL) for name in ("go_on", "still_go_on"))
        rows = tensor_info("row_out", ["frames", len(self._weights["output.bias"])])
        return helper.make_graph(self._graph.nodes, "utterance", [index, go_on], [still, rows])


def _outer_graph(proto: onnx.ModelProto, body: _Body) -> onnx.GraphProto:
    graph = Graph()
    graph.tensors += [*body.tensors, numpy_helper.from_array(np.array(True), "yes")]
    graph.tensor("scalar_shape", np.zeros(0, dtype=np.int64))
    graph.node("Shape", ["features"], "shape")
    graph.node("Slice", ["shape", "int.0", "int.1", "int.0"], "batch_shape")
    # Refuses another number of lengths than utterances; a 0 is a size, not what the input has there.
    reshaped = ["lengths", "batch_shape"]
    graph.node("Reshape", reshaped, "utterance_lengths", name="one_length_an_utterance", allowzero=1)
    graph.node("Reshape", ["batch_shape", "scalar_shape"], "batch_size")
    graph.node("Loop", ["batch_size", "yes"], "log_posteriors", name="utterances", body=body.proto())
    return graph.proto("asr_bn_int8", proto.graph.input, proto.graph.output)
