"""Language models as ONNX: one graph for a whole window, one for a single time step.

Both graphs share one cell: the body of the window's ``Scan``, and the step itself.  Population statistics
differ by time step and cannot be folded into weights: their scales and shifts are tables, indexed by the step
in its window.  Steps past the longest window of training take the last row, as in PyTorch.  Without
normalization the window has ONNX's own ``LSTM`` or ``RNN`` nodes.
"""

from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import TensorProto

from asr_bn.language_model.metadata import METADATA_KEY, GraphKind, LanguageModelMetadata
from asr_bn.language_model.model import LanguageModel, load_model
from asr_bn.layers.module_modes import effective_weights
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.stack import RecurrentStack
from asr_bn.onnx_io.graph import Graph, by_onnx_gates, make_model, tensor_info, write_model
from asr_bn.system.arrays import Floats
from asr_bn.system.files import sha256_of_file
from asr_bn.training.checkpoint import Checkpoint


def export_language_model(exp_dir: Path) -> list[Path]:
    """Export ``exp_dir/final.pt`` as ``model.onnx`` (a window) and ``step.onnx`` beside it.

    Raises:
        ValueError: the checkpoint is damaged, or not of a language model.
        FileNotFoundError: there is none.
    """
    checkpoint = exp_dir / "final.pt"
    model, state = load_model(checkpoint)
    digest = sha256_of_file(checkpoint)
    graphs: dict[str, GraphKind] = {"model.onnx": "window", "step.onnx": "step"}
    for name, graph in graphs.items():
        export_graph(model, metadata_of(state, graph, digest), exp_dir / name)
    return [exp_dir / name for name in graphs]


def metadata_of(state: Checkpoint, graph: GraphKind, checkpoint_sha256: str) -> LanguageModelMetadata:
    """Make the metadata of an exported model from a ``final.pt``."""
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
    graph = Graph()
    with effective_weights(model):
        (_add_window if metadata.graph == "window" else _add_step)(graph, model)
    proto = graph.proto("asr_bn", *_inputs_and_outputs(model, metadata.graph))
    write_model(make_model(proto, {METADATA_KEY: metadata.to_json()}), path)


def _inputs_and_outputs(
    model: LanguageModel, kind: GraphKind
) -> tuple[list[onnx.ValueInfoProto], list[onnx.ValueInfoProto]]:
    if kind == "window":
        rows: list[str | int | None] = ["steps", "batch"]
        step = tensor_info("first_step", [], TensorProto.INT64)
    else:
        rows = ["batch"]
        step = tensor_info("step", rows, TensorProto.INT64)
    inputs = [tensor_info("tokens", rows, TensorProto.INT64), step]
    num_words = model.output.out_features
    outputs = [tensor_info("log_probs", [*rows, num_words])]
    shape: list[str | int | None] = [model.layers.num_layers, "batch", model.layers.hidden_size]
    for name in _states(model):
        inputs.append(tensor_info(f"{name}_0", shape))
        outputs.append(tensor_info(f"{name}_n", shape))
    return inputs, outputs


def _states(model: LanguageModel) -> list[str]:
    return ["h", "c"][: model.layers.cell.num_states]


def _add_window(graph: Graph, model: LanguageModel) -> None:
    rows = _rows_of_window(graph, model.layers)
    hidden, first = _embedding_and_states(graph, model)
    last: list[list[str]] = []
    for layer, state in enumerate(first):
        if model.layers.norm is None:
            hidden, new = _standard_layer(graph, model.layers, layer, hidden, state)
        else:
            hidden, new = _scanned_layer(graph, model.layers, layer, hidden, state, rows)
        last.append(new)
    _join_states(graph, model, last)
    _add_output(graph, model, hidden)


def _add_step(graph: Graph, model: LanguageModel) -> None:
    rows = _rows_of(graph, "step", model.layers)
    hidden, first = _embedding_and_states(graph, model)
    last: list[list[str]] = []
    for layer, state in enumerate(first):
        z, *factors = _cell_inputs(graph, model.layers, layer, hidden, rows)
        weight = _recurrent_weight(graph, model.layers, layer)
        last.append(_add_cell(graph, f"layer{layer}", state, weight, z, *factors))
        hidden = last[-1][0]
    _join_states(graph, model, last)
    _add_output(graph, model, graph.node("Squeeze", [hidden, graph.tensor("layer_axis", [0])], "hidden"))


def _rows_of(graph: Graph, steps: str, layers: RecurrentStack) -> str:
    """Find the rows of the tables of scales and shifts for these steps; "" without tables."""
    if layers.norm is None:
        return ""
    last_row = graph.tensor("last_row", _population_stats(layers, 0).num_steps - 1)
    return graph.node("Min", [steps, last_row], "table_rows")


def _rows_of_window(graph: Graph, layers: RecurrentStack) -> str:
    """As :func:`_rows_of`, ``[steps, 1]``: one for all of the batch."""
    if layers.norm is None:
        return ""
    graph.node("Shape", ["tokens"], "shape")
    graph.node("Gather", ["shape", graph.tensor("zero", 0)], "num_steps")
    graph.node("Add", ["first_step", "num_steps"], "end_step")
    graph.node("Range", ["first_step", "end_step", graph.tensor("one", 1)], "steps_of_window")
    graph.node("Unsqueeze", ["steps_of_window", graph.tensor("batch_axis", [1])], "step_column")
    return _rows_of(graph, "step_column", layers)


def _embedding_and_states(graph: Graph, model: LanguageModel) -> tuple[str, list[list[str]]]:
    """The rows of the look-up table, and each layer's first states, ``[1, batch, hidden_size]``."""
    hidden = graph.node(
        "Gather", [graph.tensor("embedding", _array(model.embedding.weight)), "tokens"], "embedded"
    )
    by_state = []
    for state in _states(model):
        names = [f"layer{layer}.{state}_0" for layer in range(model.layers.num_layers)]
        graph.node("Split", [f"{state}_0"], *names, axis=0)
        by_state.append(names)
    return hidden, [list(names) for names in zip(*by_state, strict=True)]


def _join_states(graph: Graph, model: LanguageModel, last: list[list[str]]) -> None:
    for state, names in zip(_states(model), zip(*last, strict=True), strict=True):
        graph.node("Concat", list(names), f"{state}_n", axis=0)


def _add_output(graph: Graph, model: LanguageModel, hidden: str) -> None:
    graph.node("MatMul", [hidden, graph.tensor("output.weight", _array(model.output.weight).T)], "products")
    graph.node("Add", ["products", graph.tensor("output.bias", _array(model.output.bias))], "logits")
    graph.node("LogSoftmax", ["logits"], "log_probs", axis=-1)


def _standard_layer(
    graph: Graph, layers: RecurrentStack, layer: int, hidden: str, state: list[str]
) -> tuple[str, list[str]]:
    """A layer as ONNX's own node: hidden states ``[steps, batch, hidden_size]``, and the last states."""
    name, gates = f"layer{layer}", layers.cell.num_gates
    biases = np.stack([_array(layers.stacked(bias, layer)) for bias in ("bias_ih", "bias_hh")], axis=1)
    inputs = [
        hidden,
        graph.tensor(f"{name}.W", _by_onnx_gates(_array(layers.stacked("weight_ih", layer)), gates)),
        graph.tensor(f"{name}.R", _by_onnx_gates(_array(layers.stacked("weight_hh", layer)), gates)),
        graph.tensor(f"{name}.B", _by_onnx_gates(biases[0], gates).reshape(1, -1)),
        "",  # every sequence is as long as the window
        *state,
    ]
    last = [f"{first[:-2]}_n" for first in state]
    kind = "LSTM" if gates == 4 else "RNN"
    graph.node(kind, inputs, f"{name}.Y", *last, hidden_size=layers.hidden_size)
    axis = graph.tensor(f"{name}.direction_axis", [1])
    return graph.node("Squeeze", [f"{name}.Y", axis], f"{name}.hidden"), last


def _scanned_layer(
    graph: Graph, layers: RecurrentStack, layer: int, hidden: str, state: list[str], rows: str
) -> tuple[str, list[str]]:
    """As :func:`_standard_layer`, by a ``Scan`` over the steps."""
    name, body = f"layer{layer}", Graph()
    inputs = _cell_inputs(graph, layers, layer, hidden, rows)
    weight = _recurrent_weight(graph, layers, layer)
    before, of_step = [f"{first[:-2]}_t" for first in state], [f"{values}_t" for values in inputs]
    after = _add_cell(body, name, before, weight, *of_step)
    output = body.node("Squeeze", [after[0], body.tensor(f"{name}.axis", [0])], f"{name}.output")
    last = [f"{first[:-2]}_n" for first in state]
    proto = body.proto(
        f"{name}.step",
        [tensor_info(value, None) for value in (*before, *of_step)],
        [tensor_info(value, None) for value in (*after, output)],
    )
    hidden = f"{name}.hidden"
    graph.node("Scan", [*state, *inputs], *last, hidden, body=proto, num_scan_inputs=len(inputs))
    return hidden, last


def _cell_inputs(graph: Graph, layers: RecurrentStack, layer: int, hidden: str, rows: str) -> tuple[str, ...]:
    """Compute a layer's ``W_x x`` for all steps at once, normalized if the recurrence is not.

    If the recurrence is normalized, the scales and shifts of the steps are returned too.
    """
    name = f"layer{layer}"
    weight = graph.tensor(f"{name}.W", _array(layers.stacked("weight_ih", layer)[0]).T)
    z = graph.node("MatMul", [hidden, weight], f"{name}.projection")
    if layers.norm is None:
        bias = _array(layers.stacked("bias_ih", layer) + layers.stacked("bias_hh", layer))
        return (graph.node("Add", [z, graph.tensor(f"{name}.bias", bias[0])], f"{name}.z"),)
    factors = [
        graph.node("Gather", [graph.tensor(f"{name}.{kind}s", table), rows], f"{name}.{kind}")
        for kind, table in _tables(layers, layer).items()
    ]
    return (_affine(graph, f"{name}.z", z, *factors),) if layers.norm == "frame" else (z, *factors)


def _add_cell(
    graph: Graph, name: str, state: list[str], recurrent_weight: str, z: str, *factors: str
) -> list[str]:
    """Add one time step of a layer; return the names of the new states, each ``[1, batch, hidden_size]``.

    Args:
        z: ``W_x x``, with its bias or normalization.
        factors: scale and shift, where normalization is inside the recurrence (eq. 17).
    """
    graph.node("MatMul", [state[0], recurrent_weight], f"{name}.recurrent")
    gates = graph.node("Add", [z, f"{name}.recurrent"], f"{name}.gates")
    if factors:
        gates = _affine(graph, f"{name}.normalized", gates, *factors)
    if len(state) == 1:  # eq. 7
        return [graph.node("Tanh", [gates], f"{name}.h_new")]
    return _add_lstm_gates(graph, name, gates, state[1])


def _add_lstm_gates(graph: Graph, name: str, gates: str, cell: str) -> list[str]:
    """Add eqs. 12-16 after the sums of the gates; return the names of the hidden state and the cell."""
    graph.node("Split", [gates], *(f"{name}.gate_{gate}" for gate in "ifgo"), axis=-1)
    for gate, function in zip("ifgo", ("Sigmoid", "Sigmoid", "Tanh", "Sigmoid"), strict=True):
        graph.node(function, [f"{name}.gate_{gate}"], f"{name}.{gate}")
    graph.node("Mul", [f"{name}.f", cell], f"{name}.kept")
    graph.node("Mul", [f"{name}.i", f"{name}.g"], f"{name}.added")
    c_new = graph.node("Add", [f"{name}.kept", f"{name}.added"], f"{name}.c_new")
    graph.node("Tanh", [c_new], f"{name}.tanh_c")
    return [graph.node("Mul", [f"{name}.o", f"{name}.tanh_c"], f"{name}.h_new"), c_new]


def _affine(graph: Graph, name: str, values: str, scale: str, shift: str) -> str:
    graph.node("Mul", [values, scale], f"{name}_scaled")
    return graph.node("Add", [f"{name}_scaled", shift], name)


def _recurrent_weight(graph: Graph, layers: RecurrentStack, layer: int) -> str:
    return graph.tensor(f"layer{layer}.R", _array(layers.stacked("weight_hh", layer)[0]).T)


def _population_stats(layers: RecurrentStack, layer: int) -> PopulationStats:
    stats = layers.get_submodule(f"stats_l{layer}")
    assert isinstance(stats, PopulationStats)
    return stats


def _tables(layers: RecurrentStack, layer: int) -> dict[str, Floats]:
    """Compute each step's scale and shift that equal batch normalization, ``[num_steps, features]``."""
    stats = _population_stats(layers, layer)
    mean, variance = stats.mean_and_variance(stats.num_steps)
    gamma, beta = (layers.stacked(name, layer)[0].double() for name in ("gamma", "beta"))
    scale = gamma * torch.rsqrt(variance + layers.eps)
    return {"scale": _array(scale), "shift": _array(beta - scale * mean)}


def _array(values: torch.Tensor) -> Floats:
    return values.detach().cpu().numpy().astype(np.float32)


def _by_onnx_gates(values: Floats, num_gates: int) -> Floats:
    return by_onnx_gates(values) if num_gates == 4 else values
