"""Language models as ONNX: one graph for a whole window, one for a single time step.

The graphs are written node by node.  The cell is written once: it is the body of the window's ``Scan`` and
the whole of the step.  Population statistics are of time steps, so that they cannot be folded into weights:
their scales and shifts are tables, looked up by the number of the step in its window; steps past the longest
window of training take the last row, as in PyTorch.  Without normalization the window has ONNX's own
``LSTM`` or ``RNN`` nodes.
"""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr_bn.language_model.metadata import METADATA_KEY, Graph, LanguageModelMetadata
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.training_run import load_language_model
from asr_bn.layers.module_modes import effective_weights
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.stack import RecurrentStack
from asr_bn.onnx_io.versions import IR_VERSION, OPSET
from asr_bn.system.arrays import Floats
from asr_bn.system.files import sha256_of_file, write_bytes

# PyTorch orders the gates i, f, g, o; ONNX i, o, f, c.
_ONNX_GATES = [0, 3, 1, 2]

Shape = list[str | int | None]


def export_language_model(exp_dir: Path) -> list[Path]:
    """Export ``exp_dir/final.pt`` as ``model.onnx`` (a window) and ``step.onnx`` beside it.

    Raises:
        ValueError: the checkpoint is damaged, or not of a language model.
        FileNotFoundError: there is none.
    """
    checkpoint = exp_dir / "final.pt"
    model, state = load_language_model(checkpoint)
    digest = sha256_of_file(checkpoint)
    graphs: dict[str, Graph] = {"model.onnx": "window", "step.onnx": "step"}
    for name, graph in graphs.items():
        export_graph(model, metadata_of(state, graph, digest), exp_dir / name)
    return [exp_dir / name for name in graphs]


def metadata_of(state: dict[str, Any], graph: Graph, checkpoint_sha256: str) -> LanguageModelMetadata:
    """The metadata of an exported model, from a ``final.pt``."""
    return LanguageModelMetadata(
        graph=graph,
        words=tuple(state["description"]["words"]),
        config=state["config"],
        figures=state["figures"],
        versions=state["version"] | {"onnx": onnx.__version__},
        checkpoint_sha256=checkpoint_sha256,
    )


def export_graph(model: LanguageModel, metadata: LanguageModelMetadata, path: Path) -> None:
    """Write a model in evaluation as ``path``, checked by ``onnx.checker``.

    Both graphs take and give the states of the layers, ``h_0`` and ``h_n`` (and ``c_0`` and ``c_n`` of an
    LSTM), float32 ``[num_layers, batch, hidden_size]``; a text starts from zeros.

    * ``"window"``: ``tokens`` int64 ``[steps, batch]`` and ``first_step`` int64 ``[]``, the number within
      its window of the first of them, to ``log_probs`` float32 ``[steps, batch, num_words]``.
    * ``"step"``: ``tokens`` and ``step`` int64 ``[batch]``, the number of each token within its window, to
      ``log_probs`` float32 ``[batch, num_words]``.

    Raises:
        RuntimeError: the model has no population statistics.
    """
    nodes = _Nodes()
    with effective_weights(model):
        (_add_window if metadata.graph == "window" else _add_step)(nodes, model)
    opset = [helper.make_opsetid("", OPSET)]
    graph = helper.make_graph(
        nodes.nodes, "asr_bn", *_inputs_and_outputs(model, metadata.graph), nodes.tensors
    )
    proto = helper.make_model(graph, opset_imports=opset, ir_version=IR_VERSION, producer_name="asr_bn")
    helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    onnx.checker.check_model(proto, full_check=True)
    write_bytes(path, proto.SerializeToString())


class _Nodes:
    """The nodes and constants of a graph as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.tensors: list[onnx.TensorProto] = []

    def add(self, kind: str, inputs: list[str], *outputs: str, **attributes: Any) -> str:
        """Add a node and return the name of its first output."""
        self.nodes.append(helper.make_node(kind, inputs, list(outputs), name=outputs[0], **attributes))
        return outputs[0]

    def constant(self, name: str, values: NDArray[Any] | list[int] | int) -> str:
        """Add a constant, integers as int64, and return its name."""
        array = np.asarray(values)
        self.tensors.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name


def _inputs_and_outputs(
    model: LanguageModel, graph: Graph
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    if graph == "window":
        rows: Shape = ["steps", "batch"]
        step = helper.make_tensor_value_info("first_step", TensorProto.INT64, [])
    else:
        rows = ["batch"]
        step = helper.make_tensor_value_info("step", TensorProto.INT64, rows)
    inputs = [helper.make_tensor_value_info("tokens", TensorProto.INT64, rows), step]
    num_words = model.output.out_features
    outputs = [helper.make_tensor_value_info("log_probs", TensorProto.FLOAT, [*rows, num_words])]
    shape: Shape = [model.layers.num_layers, "batch", model.layers.hidden_size]
    for name in _states(model):
        inputs.append(helper.make_tensor_value_info(f"{name}_0", TensorProto.FLOAT, shape))
        outputs.append(helper.make_tensor_value_info(f"{name}_n", TensorProto.FLOAT, shape))
    return inputs, outputs


def _states(model: LanguageModel) -> list[str]:
    return ["h", "c"][: model.layers.cell.num_states]


def _add_window(nodes: _Nodes, model: LanguageModel) -> None:
    rows = _rows_of_window(nodes, model.layers)
    hidden, first = _embedding_and_states(nodes, model)
    last: list[list[str]] = []
    for layer, state in enumerate(first):
        if model.layers.norm is None:
            hidden, new = _standard_layer(nodes, model.layers, layer, hidden, state)
        else:
            hidden, new = _scanned_layer(nodes, model.layers, layer, hidden, state, rows)
        last.append(new)
    _join_states(nodes, model, last)
    _add_output(nodes, model, hidden)


def _add_step(nodes: _Nodes, model: LanguageModel) -> None:
    rows = _rows_of(nodes, "step", model.layers)
    hidden, first = _embedding_and_states(nodes, model)
    last: list[list[str]] = []
    for layer, state in enumerate(first):
        z, *factors = _cell_inputs(nodes, model.layers, layer, hidden, rows)
        weight = _recurrent_weight(nodes, model.layers, layer)
        last.append(_add_cell(nodes, f"layer{layer}", state, weight, z, *factors))
        hidden = last[-1][0]
    _join_states(nodes, model, last)
    _add_output(nodes, model, nodes.add("Squeeze", [hidden, nodes.constant("layer_axis", [0])], "hidden"))


def _rows_of(nodes: _Nodes, steps: str, layers: RecurrentStack) -> str:
    """Rows of the tables of scales and shifts for these steps; "" where there are no tables."""
    if layers.norm is None:
        return ""
    last_row = nodes.constant("last_row", _population_stats(layers, 0).num_steps - 1)
    return nodes.add("Min", [steps, last_row], "table_rows")


def _rows_of_window(nodes: _Nodes, layers: RecurrentStack) -> str:
    """As :func:`_rows_of`, ``[steps, 1]``: one for all of the batch."""
    if layers.norm is None:
        return ""
    nodes.add("Shape", ["tokens"], "shape")
    nodes.add("Gather", ["shape", nodes.constant("zero", 0)], "num_steps")
    nodes.add("Add", ["first_step", "num_steps"], "end_step")
    nodes.add("Range", ["first_step", "end_step", nodes.constant("one", 1)], "steps_of_window")
    nodes.add("Unsqueeze", ["steps_of_window", nodes.constant("batch_axis", [1])], "step_column")
    return _rows_of(nodes, "step_column", layers)


def _embedding_and_states(nodes: _Nodes, model: LanguageModel) -> tuple[str, list[list[str]]]:
    """The rows of the look-up table, and each layer's first states, ``[1, batch, hidden_size]``."""
    hidden = nodes.add(
        "Gather", [nodes.constant("embedding", _array(model.embedding.weight)), "tokens"], "embedded"
    )
    by_state = []
    for state in _states(model):
        names = [f"layer{layer}.{state}_0" for layer in range(model.layers.num_layers)]
        nodes.add("Split", [f"{state}_0"], *names, axis=0)
        by_state.append(names)
    return hidden, [list(names) for names in zip(*by_state, strict=True)]


def _join_states(nodes: _Nodes, model: LanguageModel, last: list[list[str]]) -> None:
    for state, names in zip(_states(model), zip(*last, strict=True), strict=True):
        nodes.add("Concat", list(names), f"{state}_n", axis=0)


def _add_output(nodes: _Nodes, model: LanguageModel, hidden: str) -> None:
    nodes.add("MatMul", [hidden, nodes.constant("output.weight", _array(model.output.weight).T)], "products")
    nodes.add("Add", ["products", nodes.constant("output.bias", _array(model.output.bias))], "logits")
    nodes.add("LogSoftmax", ["logits"], "log_probs", axis=-1)


def _standard_layer(
    nodes: _Nodes, layers: RecurrentStack, layer: int, hidden: str, state: list[str]
) -> tuple[str, list[str]]:
    """A layer as ONNX's own node: hidden states ``[steps, batch, hidden_size]``, and the last states."""
    name, gates = f"layer{layer}", layers.cell.num_gates
    biases = np.stack([_array(layers.stacked(bias, layer)) for bias in ("bias_ih", "bias_hh")], axis=1)
    inputs = [
        hidden,
        nodes.constant(f"{name}.W", _by_onnx_gates(_array(layers.stacked("weight_ih", layer)), gates)),
        nodes.constant(f"{name}.R", _by_onnx_gates(_array(layers.stacked("weight_hh", layer)), gates)),
        nodes.constant(f"{name}.B", _by_onnx_gates(biases[0], gates).reshape(1, -1)),
        "",  # every sequence is as long as the window
        *state,
    ]
    last = [f"{first[:-2]}_n" for first in state]
    kind = "LSTM" if gates == 4 else "RNN"
    nodes.add(kind, inputs, f"{name}.Y", *last, hidden_size=layers.hidden_size)
    axis = nodes.constant(f"{name}.direction_axis", [1])
    return nodes.add("Squeeze", [f"{name}.Y", axis], f"{name}.hidden"), last


def _scanned_layer(
    nodes: _Nodes, layers: RecurrentStack, layer: int, hidden: str, state: list[str], rows: str
) -> tuple[str, list[str]]:
    """As :func:`_standard_layer`, by a ``Scan`` over the steps."""
    name, body = f"layer{layer}", _Nodes()
    inputs = _cell_inputs(nodes, layers, layer, hidden, rows)
    weight = _recurrent_weight(nodes, layers, layer)
    before, of_step = [f"{first[:-2]}_t" for first in state], [f"{values}_t" for values in inputs]
    after = _add_cell(body, name, before, weight, *of_step)
    output = body.add("Squeeze", [after[0], body.constant(f"{name}.axis", [0])], f"{name}.output")
    last = [f"{first[:-2]}_n" for first in state]
    graph = helper.make_graph(
        body.nodes,
        f"{name}.step",
        [_float(value) for value in (*before, *of_step)],
        [_float(value) for value in (*after, output)],
        body.tensors,
    )
    hidden = f"{name}.hidden"
    nodes.add("Scan", [*state, *inputs], *last, hidden, body=graph, num_scan_inputs=len(inputs))
    return hidden, last


def _float(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _cell_inputs(
    nodes: _Nodes, layers: RecurrentStack, layer: int, hidden: str, rows: str
) -> tuple[str, ...]:
    """What a layer computes for all steps at once: ``W_x x``, as far as possible normalized.

    With normalization inside the recurrence the scales and shifts of the steps come with it.
    """
    name = f"layer{layer}"
    weight = nodes.constant(f"{name}.W", _array(layers.stacked("weight_ih", layer)[0]).T)
    z = nodes.add("MatMul", [hidden, weight], f"{name}.projection")
    if layers.norm is None:
        bias = _array(layers.stacked("bias_ih", layer) + layers.stacked("bias_hh", layer))
        return (nodes.add("Add", [z, nodes.constant(f"{name}.bias", bias[0])], f"{name}.z"),)
    factors = [
        nodes.add("Gather", [nodes.constant(f"{name}.{kind}s", table), rows], f"{name}.{kind}")
        for kind, table in _tables(layers, layer).items()
    ]
    return (_affine(nodes, f"{name}.z", z, *factors),) if layers.norm == "frame" else (z, *factors)


def _add_cell(
    nodes: _Nodes, name: str, state: list[str], recurrent_weight: str, z: str, *factors: str
) -> list[str]:
    """One time step of a layer: names of the new states, each ``[1, batch, hidden_size]``.

    Args:
        z: ``W_x x``, with its bias or normalization.
        factors: scale and shift, where normalization is inside the recurrence (eq. 17).
    """
    nodes.add("MatMul", [state[0], recurrent_weight], f"{name}.recurrent")
    gates = nodes.add("Add", [z, f"{name}.recurrent"], f"{name}.gates")
    if factors:
        gates = _affine(nodes, f"{name}.normalized", gates, *factors)
    if len(state) == 1:  # eq. 7
        return [nodes.add("Tanh", [gates], f"{name}.h_new")]
    return _add_lstm_gates(nodes, name, gates, state[1])


def _add_lstm_gates(nodes: _Nodes, name: str, gates: str, cell: str) -> list[str]:
    """Eqs. 12-16 from the sums of the gates on: names of the hidden state and the cell."""
    nodes.add("Split", [gates], *(f"{name}.gate_{gate}" for gate in "ifgo"), axis=-1)
    for gate, function in zip("ifgo", ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid"), strict=True):
        nodes.add(function, [f"{name}.gate_{gate}"], f"{name}.{gate}")
    nodes.add("Mul", [f"{name}.f", cell], f"{name}.kept")
    nodes.add("Mul", [f"{name}.i", f"{name}.g"], f"{name}.added")
    c_new = nodes.add("Add", [f"{name}.kept", f"{name}.added"], f"{name}.c_new")
    nodes.add("Tanh", [c_new], f"{name}.tanh_c")
    return [nodes.add("Mul", [f"{name}.o", f"{name}.tanh_c"], f"{name}.h_new"), c_new]


def _affine(nodes: _Nodes, name: str, values: str, scale: str, shift: str) -> str:
    nodes.add("Mul", [values, scale], f"{name}_scaled")
    return nodes.add("Add", [f"{name}_scaled", shift], name)


def _recurrent_weight(nodes: _Nodes, layers: RecurrentStack, layer: int) -> str:
    return nodes.constant(f"layer{layer}.R", _array(layers.stacked("weight_hh", layer)[0]).T)


def _population_stats(layers: RecurrentStack, layer: int) -> PopulationStats:
    stats = layers.get_submodule(f"stats_l{layer}")
    assert isinstance(stats, PopulationStats)
    return stats


def _tables(layers: RecurrentStack, layer: int) -> dict[str, Floats]:
    """Scale and shift of every step that equal batch normalization, each ``[num_steps, features]``."""
    stats = _population_stats(layers, layer)
    mean, variance = stats.mean_and_variance(stats.num_steps)
    gamma, beta = (layers.stacked(name, layer)[0].double() for name in ("gamma", "beta"))
    scale = gamma * torch.rsqrt(variance + layers.eps)
    return {"scale": _array(scale), "shift": _array(beta - scale * mean)}


def _array(values: torch.Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float32)


def _by_onnx_gates(values: Floats, num_gates: int) -> Floats:
    """Reorder the second axis, ``num_gates * hidden_size``, of an LSTM's weights or biases."""
    gates = np.split(values, num_gates, axis=1)
    return np.concatenate([gates[k] for k in _ONNX_GATES], axis=1) if num_gates == 4 else values
