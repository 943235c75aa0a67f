"""Export to ONNX, with all normalization folded into the weights of ``LSTM`` nodes.

Batch normalization with population statistics and input normalization are affine, so that both fold into the
input projections: the exported network costs no more than the baseline.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.data.kaldi_system import KaldiSystem
from asr_bn.features.options import FbankOptions
from asr_bn.layers.module_modes import effective_weights
from asr_bn.onnx_io.graph import Graph, by_onnx_gates, make_model, tensor_info, write_model
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats
from asr_bn.training.checkpoint import Checkpoint


def export_onnx(model: AcousticModel, metadata: ModelMetadata, path: Path, half: bool = False) -> None:
    """Write ``model`` in evaluation as ``path``, checked by ``onnx.checker``.

    The graph maps ``features`` (float32 ``[batch, frames, num_features]``, not normalized) and ``lengths``
    (int32 ``[batch]``) to ``log_posteriors`` (float32 ``[batch, frames, num_pdfs]``; rows past an
    utterance's length mean nothing).  A call needs at least one utterance and frame; the runtime needs
    ``LSTM`` with ``sequence_lens`` (see ``docs/exported_model.md``).

    Args:
        half: write weights and layers in float16, which ONNX Runtime computes on CUDA only; inputs, softmax
            and output stay float32.

    Raises:
        RuntimeError: the model has no population statistics.
    """
    graph = Graph(half)
    add_network(graph, model, "features")
    doc = "with deltas, not normalized, padded with anything; at least one utterance and frame"
    features = tensor_info("features", ["batch", "frames", model.feats_mean.numel()], doc=doc)
    doc = "frames of each utterance, at most all"
    lengths = tensor_info("lengths", ["batch"], TensorProto.INT32, doc)
    proto = graph.proto("asr_bn", [features, lengths], [log_posteriors_info(model.num_pdfs)])
    write_model(make_model(proto, {METADATA_KEY: metadata.to_json()}), path)


def log_posteriors_info(num_pdfs: int) -> onnx.ValueInfoProto:
    """Describe the output ``log_posteriors``."""
    return tensor_info("log_posteriors", ["batch", "frames", num_pdfs])


def add_network(graph: Graph, model: AcousticModel, features: str) -> None:
    """Add the nodes from ``features`` (a name, ``[batch, frames, num_features]``) to ``log_posteriors``."""
    with effective_weights(model):
        _add_network(graph, model, features)


def _add_network(graph: Graph, model: AcousticModel, features: str) -> None:
    half = graph.half
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


def metadata_of(
    state: Checkpoint, checkpoint_sha256: str, system: KaldiSystem | None = None
) -> ModelMetadata:
    """Make the metadata of an exported model from the checkpoint that ``asr-bn finish`` wrote.

    Args:
        system: takes the place of the checkpoint's.

    Raises:
        ValueError: ``system`` has another number of pdfs than the model.
    """
    description, saved = state["description"], state.get("system")
    if system is None and saved is not None:
        system = KaldiSystem.from_dict(saved)
    if system is not None and (found := system.phones.num_pdfs) != description["num_pdfs"]:
        raise ValueError(f"the Kaldi system has {found} pdfs, the model has {description['num_pdfs']}")
    return ModelMetadata(
        fbank=FbankOptions(**description["fbank"]),
        delta_order=state["config"]["model"]["delta_order"],
        num_pdfs=description["num_pdfs"],
        pdf_counts=description["pdf_counts"],
        config=state["config"],
        figures=state["figures"],
        versions=state["version"] | {"onnx": onnx.__version__},
        checkpoint_sha256=checkpoint_sha256,
        system=system,
    )


def _add_layer(graph: Graph, model: AcousticModel, layer: int, hidden: str) -> str:
    name, lstm = f"layer{layer}", model.layers
    weight, bias = _input_weights(model, layer, fold_input=not graph.half)
    recurrent, biases = lstm.stacked("weight_hh", layer), by_onnx_gates(_array(bias))  # of the input alone
    inputs = [
        hidden,
        graph.tensor(f"{name}.W", by_onnx_gates(_array(weight))),
        graph.tensor(f"{name}.R", by_onnx_gates(_array(recurrent))),
        graph.tensor(f"{name}.B", np.concatenate([biases, np.zeros_like(biases)], axis=1)),
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
