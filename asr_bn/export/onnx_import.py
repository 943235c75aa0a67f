"""Import of an exported model into PyTorch, to inspect it or to train it further."""

from pathlib import Path

import numpy as np
import torch
from onnx import numpy_helper

from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.onnx_io.model_check import read_model
from asr_bn.onnx_io.session import parse_metadata
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata
from asr_bn.system.arrays import Floats

# ONNX orders the gates i, o, f, c; PyTorch i, f, g, o.
_TORCH_GATES = [0, 2, 3, 1]


def import_onnx(path: Path) -> tuple[AcousticModel, ModelMetadata]:
    """Read an exported float32 model as a PyTorch module, in evaluation mode, and its metadata.

    Use it to inspect the weights or to fine-tune a network whose checkpoint is not at hand.  Normalization is
    folded into the weights, so that the module has none; its answers are those of the file.

    Raises:
        OSError: no such file.
        ValueError: cut short, or not such a file (8-bit and half-precision ones are not).
    """
    proto = read_model(path)
    properties = {entry.key: entry.value for entry in proto.metadata_props}
    metadata = parse_metadata(path, properties, METADATA_KEY, ModelMetadata.from_json)
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    lstms = [node for node in proto.graph.node if node.op_type == "LSTM"]
    if not lstms or weights.get("output.weight", np.zeros(0)).dtype != np.float32:
        raise ValueError(f"{path}: no float32 LSTM layers in it (an 8-bit or half-precision model?)")
    config = ExperimentConfig.from_dict(metadata.config).replace("model", norm="none")
    model = AcousticModel(config.model, metadata.num_static, metadata.num_pdfs)
    state = model.state_dict()
    for layer, node in enumerate(lstms):
        arrays = {
            name: weights[tensor]
            for name, tensor in zip("xWRBshcP", node.input, strict=False)
            if tensor in weights
        }
        state |= _layer_state(layer, arrays)
    state["output.weight"] = torch.tensor(weights["output.weight"].T)
    state["output.bias"] = torch.tensor(weights["output.bias"])
    model.load_state_dict(state)
    return model.eval(), metadata


def _layer_state(layer: int, arrays: dict[str, Floats]) -> dict[str, torch.Tensor]:
    state = {}
    size = arrays["R"].shape[2]
    for direction, suffix in enumerate(("", "_reverse")):
        name = f"l{layer}{suffix}"
        bias = arrays["B"][direction]
        state[f"layers.weight_ih_{name}"] = _by_torch_gates(arrays["W"][direction])
        state[f"layers.weight_hh_{name}"] = _by_torch_gates(arrays["R"][direction])
        state[f"layers.bias_ih_{name}"] = _by_torch_gates(bias[: 4 * size])
        state[f"layers.bias_hh_{name}"] = _by_torch_gates(bias[4 * size :])
        if "P" in arrays:
            state[f"layers.weight_peephole_{name}"] = torch.tensor(arrays["P"][direction][size : 2 * size])
    return state


def _by_torch_gates(values: Floats) -> torch.Tensor:
    gates = np.split(values, 4)
    return torch.tensor(np.concatenate([gates[k] for k in _TORCH_GATES]))
