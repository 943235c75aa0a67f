"""Long recordings, exactly and in bounded memory: layer by layer, a piece of each direction at a time.

A bidirectional network needs the whole recording, but not at once: the forward recurrence of a layer runs
from piece to piece with its state carried over, the backward one from the end, and only the layer's hidden
states are kept, in a temporary file.  The answers are those of one call.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

from asr_bn.onnx_versions import IR_VERSION, OPSET

# Frames of a piece.
PIECE_FRAMES = 2000
Array = NDArray[np.float32]


class LayerwiseScorer:
    """The layers of an exported float32 model as sessions of their own.

    Args:
        path: the ONNX file.
        num_threads: within a call.

    Raises:
        ValueError: not a float32 model that ``asr-bn export`` wrote.
    """

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        proto = onnx.load(path)
        weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
        lstms = [node for node in proto.graph.node if node.op_type == "LSTM"]
        if not lstms or weights.get("output.weight", np.zeros(0)).dtype != np.float32:
            raise ValueError(f"{path}: recordings this long need a float32 model (no --int8, no --float16)")
        self._layers = [[_direction(node, weights, d, num_threads) for d in (0, 1)] for node in lstms]
        self._hidden_size = int(weights[lstms[0].input[2]].shape[2])
        self._output = _output(weights, num_threads)

    def log_posteriors(self, feats: Array) -> Iterator[Array]:
        """Log posteriors of ``feats`` ``[num_frames, num_features]``, in pieces of rows."""
        pieces = [slice(k, k + PIECE_FRAMES) for k in range(0, len(feats), PIECE_FRAMES)]
        hidden = feats
        total = 2 * len(self._layers) * len(pieces)
        with tqdm(total=total, desc="long recording", unit="piece", delay=2) as progress:
            for directions in self._layers:
                output = _room(len(feats), 2 * self._hidden_size)
                for direction, session in enumerate(directions):
                    columns = slice(direction * self._hidden_size, (direction + 1) * self._hidden_size)
                    self._run(session, hidden, output[:, columns], pieces, direction == 1, progress)
                hidden = output
        for piece in pieces:
            yield self._output.run(None, {"X": np.ascontiguousarray(hidden[piece])})[0]

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        hidden: Array,
        output: Array,
        pieces: list[slice],
        backward: bool,
        progress: Any,
    ) -> None:
        state = np.zeros((1, 1, self._hidden_size), dtype=np.float32)
        h, c = state, state
        for piece in reversed(pieces) if backward else pieces:
            order = slice(None, None, -1) if backward else slice(None)
            values = np.ascontiguousarray(hidden[piece][order, None])
            y, h, c = session.run(None, {"X": values, "h": h, "c": c})
            output[piece] = y[order, 0, 0]
            progress.update()


def _room(num_rows: int, num_columns: int) -> Array:
    """An array in a temporary file that vanishes with it."""
    with tempfile.TemporaryFile() as file:
        return np.memmap(file, dtype=np.float32, mode="w+", shape=(num_rows, num_columns))


def _direction(
    node: onnx.NodeProto, weights: dict[str, Array], direction: int, num_threads: int
) -> onnxruntime.InferenceSession:
    names = dict(zip(("X", "W", "R", "B", "lengths", "h", "c", "P"), node.input, strict=False))
    kept = {
        key: weights[names[key]][direction : direction + 1] for key in "WRBP" if names.get(key) in weights
    }
    size = kept["R"].shape[2]
    inputs = ["X", "W", "R", "B", "", "h", "c", *(["P"] if "P" in kept else [])]
    lstm = helper.make_node("LSTM", inputs, ["Y", "Yh", "Yc"], hidden_size=size, direction="forward")
    inputs_info = [
        _info("X", ["T", 1, kept["W"].shape[2]]),
        _info("h", [1, 1, size]),
        _info("c", [1, 1, size]),
    ]
    outputs_info = [_info("Y", ["T", 1, 1, size]), _info("Yh", [1, 1, size]), _info("Yc", [1, 1, size])]
    return _session([lstm], inputs_info, outputs_info, kept, num_threads)


def _output(weights: dict[str, Array], num_threads: int) -> onnxruntime.InferenceSession:
    kept = {"weight": weights["output.weight"], "bias": weights["output.bias"]}
    nodes = [
        helper.make_node("MatMul", ["X", "weight"], ["logits"]),
        helper.make_node("Add", ["logits", "bias"], ["scores"]),
        helper.make_node("LogSoftmax", ["scores"], ["log_posteriors"], axis=-1),
    ]
    size, num_pdfs = kept["weight"].shape
    return _session(
        nodes, [_info("X", ["T", size])], [_info("log_posteriors", ["T", num_pdfs])], kept, num_threads
    )


def _info(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _session(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    tensors: dict[str, Array],
    num_threads: int,
) -> onnxruntime.InferenceSession:
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in tensors.items()
    ]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="asr_bn")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
