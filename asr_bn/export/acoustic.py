"""Export to ONNX: the graph is written node by node, all normalization folded into ``LSTM`` nodes.

Batch normalization with population statistics and the normalization of the input are affine, so that both
disappear into the weights of the input projections: the exported network costs what the baseline costs.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.features.options import FbankOptions
from asr_bn.layers.module_modes import effective_weights
from asr_bn.onnx_io.versions import IR_VERSION, OPSET
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats
from asr_bn.system.files import write_bytes
from asr_bn.training.checkpoint import Checkpoint

# PyTorch orders the gates i, f, g, o; ONNX i, o, f, c.
_ONNX_GATES = [0, 3, 1, 2]


def export_onnx(model: AcousticModel, metadata: ModelMetadata, path: Path, half: bool = False) -> None:
    """Write ``model`` in evaluation as ``path``, checked by ``onnx.checker``.

    The graph maps ``features`` (float32 ``[batch, frames, num_features]``, not normalized) and ``lengths``
    (int32 ``[batch]``) to ``log_posteriors`` (float32 ``[batch, frames, num_pdfs]``; rows past an
    utterance's length mean nothing).  The file asks of its user at least one utterance and frame, and of a
    runtime ``LSTM`` with ``sequence_lens`` (see ``docs/exported_model.md``).

    Args:
        half: weights and layers in float16, which ONNX Runtime has for CUDA only; inputs, logits' softmax
            and output stay float32.

    Raises:
        RuntimeError: the model has no population statistics.
    """
    graph = Graph()
    add_network(graph, model, "features", half)
    proto = graph.finish(*_features_and_lengths(model.feats_mean.numel()), model.num_pdfs)
    helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    write_bytes(path, proto.SerializeToString())


def add_network(graph: "Graph", model: AcousticModel, features: str, half: bool = False) -> None:
    """The nodes from ``features`` (a name, ``[batch, frames, num_features]``) to ``log_posteriors``."""
    with effective_weights(model):
        _add_network(graph, model, features, half)


def _add_network(graph: "Graph", model: AcousticModel, features: str, half: bool) -> None:
    graph.half = half
    graph.node("Transpose", [features], "time_major", perm=[1, 0, 2])
    hidden = "time_major"
    if half:
        # The features' means are folded away with weights in float64; halves would lose them.
        graph.node(
            "Sub", ["time_major", graph.tensor("feats.mean", _array(model.feats_mean), False)], "centred"
        )
        graph.node("Div", ["centred", graph.tensor("feats.std", _array(model.feats_std), False)], "scaled")
        graph.node("Cast", ["scaled"], "halves", to=TensorProto.FLOAT16)
        hidden = "halves"
    for layer in range(model.layers.num_layers):
        hidden = _add_layer(graph, model, layer, hidden)
    graph.node("MatMul", [hidden, graph.tensor("output.weight", _array(model.output.weight).T)], "logits")
    scores = "half_scores" if half else "scores"
    graph.node("Add", ["logits", graph.tensor("output.bias", _array(model.output.bias))], scores)
    if half:
        graph.node("Cast", [scores], "scores", to=TensorProto.FLOAT)
    graph.node("LogSoftmax", ["scores"], "log_posteriors_time_major", axis=-1)
    graph.node("Transpose", ["log_posteriors_time_major"], "log_posteriors", perm=[1, 0, 2])


def metadata_of(state: Checkpoint, checkpoint_sha256: str) -> ModelMetadata:
    """The metadata of an exported model, from the checkpoint that ``asr-bn finish`` wrote."""
    description = state["description"]
    return ModelMetadata(
        fbank=FbankOptions(**description["fbank"]),
        delta_order=state["config"]["model"]["delta_order"],
        num_pdfs=description["num_pdfs"],
        pdf_counts=description["pdf_counts"],
        config=state["config"],
        figures=state["figures"],
        versions=state["version"] | {"onnx": onnx.__version__},
        checkpoint_sha256=checkpoint_sha256,
    )


class Graph:
    """Nodes and constants as they are added; ``half`` makes float constants float16."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []
        self.half = False

    def node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> None:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))

    def tensor(self, name: str, values: NDArray[Any], may_be_half: bool = True) -> str:
        """Add a constant and return its name."""
        if self.half and may_be_half and values.dtype == np.float32:
            values = values.astype(np.float16)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def finish(
        self, features: onnx.ValueInfoProto, lengths: onnx.ValueInfoProto, num_pdfs: int
    ) -> onnx.ModelProto:
        """The whole model with these inputs."""
        inputs = [features, lengths]
        shape: list[str | int | None] = ["batch", "frames", num_pdfs]
        outputs = [helper.make_tensor_value_info("log_posteriors", TensorProto.FLOAT, shape)]
        graph = helper.make_graph(self.nodes, "asr_bn", inputs, outputs, self.tensors)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="asr_bn")


def _features_and_lengths(num_features: int) -> tuple[onnx.ValueInfoProto, onnx.ValueInfoProto]:
    return (
        helper.make_tensor_value_info(
            "features",
            TensorProto.FLOAT,
            ["batch", "frames", num_features],
            doc_string="with deltas, not normalized, padded with anything; at least one utterance and frame",
        ),
        helper.make_tensor_value_info(
            "lengths", TensorProto.INT32, ["batch"], doc_string="frames of each utterance, at most all"
        ),
    )


def _add_layer(graph: Graph, model: AcousticModel, layer: int, hidden: str) -> str:
    name, lstm = f"layer{layer}", model.layers
    weight, bias = _input_weights(model, layer, fold_input=not graph.half)
    recurrent = lstm.stacked("weight_hh", layer)
    inputs = [
        hidden,
        graph.tensor(f"{name}.W", _by_onnx_gates(_array(weight))),
        graph.tensor(f"{name}.R", _by_onnx_gates(_array(recurrent))),
        graph.tensor(f"{name}.B", _with_zero_recurrent_bias(_by_onnx_gates(_array(bias)))),
        "lengths",
    ]
    if lstm.peephole:
        peephole = _array(lstm.stacked("weight_peephole", layer))
        zeros = np.zeros_like(peephole)  # ONNX's P holds the peepholes of i, o and f; eq. 15 has o's alone
        inputs += ["", "", graph.tensor(f"{name}.P", np.concatenate([zeros, peephole, zeros], axis=1))]
    graph.node("LSTM", inputs, f"{name}.Y", direction="bidirectional", hidden_size=lstm.hidden_size)
    graph.node("Transpose", [f"{name}.Y"], f"{name}.by_direction", perm=[0, 2, 1, 3])
    if layer == 0:
        graph.tensor("joined_shape", np.array([0, 0, -1], dtype=np.int64))
    graph.node("Reshape", [f"{name}.by_direction", "joined_shape"], f"{name}.hidden")
    return f"{name}.hidden"


def _input_weights(model: AcousticModel, layer: int, fold_input: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Input weights and bias with every normalization folded in, in float64."""
    weight, bias = (value.double() for value in model.layers.folded_input_weights(layer))
    if layer > 0 or not fold_input:
        return weight, bias
    # Features are far from zero: the bias goes with the weights as they are written, so that what these lose
    # in float32 is taken times the distance from the mean, not times the features.
    weight = (weight / model.feats_std.double()).float().double()
    return weight, bias - weight @ model.feats_mean.double()


def _array(values: torch.Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float32)


def _by_onnx_gates(values: Floats) -> Floats:
    gates = np.split(values, 4, axis=1)
    return np.concatenate([gates[k] for k in _ONNX_GATES], axis=1)


def _with_zero_recurrent_bias(bias: Floats) -> Floats:
    return np.concatenate([bias, np.zeros_like(bias)], axis=1)
