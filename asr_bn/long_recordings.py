"""Long recordings in bounded memory: layer by layer, a piece of each direction at a time.

A bidirectional network needs the whole recording, but not at once: the forward recurrence of a layer runs
from piece to piece with its state carried over, the backward one from the end, and only the layer's hidden
states are kept, in temporary files.  In float32 the answers are those of one call, bit for bit.  An 8-bit
model scales its activations by the largest of a call, here of a piece: `deviation` measures what that moves.
"""

import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tqdm import tqdm

from asr_bn.onnx_versions import IR_VERSION, OPSET, QUANTIZATION_DOMAIN, QUANTIZATION_OPSET

# Frames of a piece.
PIECE_FRAMES = 2000
_LSTMS = ("LSTM", "DynamicQuantizeLSTM")
Array = NDArray[np.float32]


@dataclass(frozen=True)
class Deviation:
    """How far pieces are from one call, over ``num_frames`` frames.

    ``largest`` and ``mean`` are differences in log posterior; ``share_of_frames`` have another best pdf.
    """

    largest: float
    mean: float
    share_of_frames: float
    num_frames: int

    def __str__(self) -> str:
        return (
            f"log posteriors by {self.mean:.1e} on average, {self.largest:.1e} at most, and the best pdf of "
            f"{100 * self.share_of_frames:.2f} % of {self.num_frames} frames"
        )


class LayerwiseScorer:
    """The layers of an exported model as sessions of their own, on the CPU.

    Args:
        path: the ONNX file; one with half-precision weights is computed in float32.
        num_threads: from two on, both directions run at a time.

    Attributes:
        is_exact: the answers are those of one call, bit for bit.

    Raises:
        ValueError: not a model that ``asr-bn export`` wrote.
    """

    def __init__(self, path: Path, num_threads: int = 1) -> None:
        nodes, weights, is_half = _read(path)
        lstms = [node for node in nodes if node.op_type in _LSTMS]
        if not lstms or "output.weight" not in weights:
            raise ValueError(f"{path}: no layers in it that can be run piece by piece")
        self.is_exact = not _is_quantized(lstms[0]) and not is_half
        self._num_at_once = min(num_threads, 2)
        within = max(num_threads // 2, 1)
        self._mean, self._std = weights.get("feats.mean"), weights.get("feats.std")
        self._layers = [[_direction(node, weights, d, within) for d in (0, 1)] for node in lstms]
        self._hidden_size = _hidden_size(lstms[0])
        self._output = _output(weights, _is_quantized(lstms[0]), num_threads)

    def log_posteriors(self, feats: Array, quiet: bool = False) -> Iterator[Array]:
        """Log posteriors of ``feats`` ``[num_frames, num_features]``, in pieces of rows.

        Raises:
            OSError: no room for the hidden states in the folder for temporary files.
        """
        pieces = [slice(k, min(k + PIECE_FRAMES, len(feats))) for k in range(0, len(feats), PIECE_FRAMES)]
        hidden: _Features | _HiddenStates = _Features(feats, self._mean, self._std)
        total = 2 * len(self._layers) * len(pieces)
        with (
            tqdm(total=total, desc="long recording", unit="piece", delay=2, disable=quiet) as progress,
            ThreadPoolExecutor(self._num_at_once) as pool,
        ):
            for sessions in self._layers:
                output = _HiddenStates(self._hidden_size)
                running = [
                    pool.submit(self._run, session, hidden, output, pieces, direction, progress)
                    for direction, session in enumerate(sessions)
                ]
                for direction in running:
                    direction.result()
                hidden.close()
                hidden = output
        for piece in pieces:
            yield self._output.run(None, {"X": hidden.read(piece)})[0]
        hidden.close()

    def deviation(self, feats: Array, expected: Array) -> Deviation:
        """Compare with ``expected`` ``[num_frames, num_pdfs]``, what one call answers to ``feats``."""
        largest, total, differing, start = 0.0, 0.0, 0, 0
        for rows in self.log_posteriors(feats, quiet=True):
            theirs = expected[start : start + len(rows)]
            difference = np.abs(rows - theirs)
            largest, total = max(largest, float(difference.max())), total + float(difference.sum())
            differing += int((rows.argmax(1) != theirs.argmax(1)).sum())
            start += len(rows)
        return Deviation(largest, total / expected.size, differing / start, start)

    def _run(
        self,
        session: onnxruntime.InferenceSession,
        hidden: "_Features | _HiddenStates",
        output: "_HiddenStates",
        pieces: list[slice],
        direction: int,
        progress: Any,
    ) -> None:
        h = c = np.zeros((1, 1, self._hidden_size), dtype=np.float32)
        order = slice(None, None, -1) if direction else slice(None)
        for piece in pieces[order]:
            values = np.ascontiguousarray(hidden.read(piece)[order, None])
            y, h, c = session.run(None, {"X": values, "h": h, "c": c})
            output.write(direction, piece, y[order, 0, 0])
            progress.update()


class _Features:
    """The input of the first layer, normalized where the model does not do that in its weights."""

    def __init__(self, feats: Array, mean: Array | None, std: Array | None) -> None:
        self._feats, self._mean, self._std = feats, mean, std

    def read(self, piece: slice) -> Array:
        feats = self._feats[piece]
        return feats if self._mean is None or self._std is None else (feats - self._mean) / self._std

    def close(self) -> None:
        pass


class _HiddenStates:
    """What a layer gives the next one, ``[num_frames, 2 * hidden_size]``: a temporary file each direction."""

    def __init__(self, hidden_size: int) -> None:
        self._files = [tempfile.TemporaryFile() for _ in (0, 1)]  # noqa: SIM115 - closed by close()
        self._row_bytes = 4 * hidden_size
        self._lock = threading.Lock()

    def write(self, direction: int, piece: slice, rows: Array) -> None:
        try:
            with self._lock:
                self._files[direction].seek(piece.start * self._row_bytes)
                self._files[direction].write(np.ascontiguousarray(rows).tobytes())
        except OSError as error:
            raise OSError(error.errno, error.strerror, tempfile.gettempdir()) from error

    def read(self, piece: slice) -> Array:
        num_rows = piece.stop - piece.start
        halves = []
        with self._lock:
            for file in self._files:
                file.seek(piece.start * self._row_bytes)
                halves.append(np.frombuffer(file.read(num_rows * self._row_bytes), dtype=np.float32))
        return np.concatenate([half.reshape(num_rows, -1) for half in halves], axis=1)

    def close(self) -> None:
        for file in self._files:
            file.close()


def _read(path: Path) -> tuple[list[onnx.NodeProto], dict[str, NDArray[Any]], bool]:
    """Nodes, those inside a ``Loop`` too; constants, halves as float32; and whether there are halves."""
    proto = onnx.load(path)
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


def _is_quantized(lstm: onnx.NodeProto) -> bool:
    return lstm.op_type != "LSTM"


def _direction(
    node: onnx.NodeProto, weights: dict[str, NDArray[Any]], direction: int, num_threads: int
) -> onnxruntime.InferenceSession:
    """One direction of an LSTM node (X, W, R, B, lengths, h, c, P, scales ...), its state in and out."""
    kept = {name: weights[name][direction : direction + 1] for name in node.input[1:] if name in weights}
    inputs = ["X", *node.input[1:4], "", "h", "c", *node.input[7:]]
    size = _hidden_size(node)
    width = weights[node.input[1]].shape[1 if _is_quantized(node) else 2]
    lstm = helper.make_node(
        node.op_type, inputs, ["Y", "Yh", "Yc"], domain=node.domain, hidden_size=size, direction="forward"
    )
    inputs_info = [_info("X", ["T", 1, width]), _info("h", [1, 1, size]), _info("c", [1, 1, size])]
    outputs_info = [_info("Y", ["T", 1, 1, size]), _info("Yh", [1, 1, size]), _info("Yc", [1, 1, size])]
    return _session([lstm], inputs_info, outputs_info, kept, num_threads)


def _output(
    weights: dict[str, NDArray[Any]], quantized: bool, num_threads: int
) -> onnxruntime.InferenceSession:
    names = ("weight", "scale", "zero", "bias") if quantized else ("weight", "bias")
    kept = {name: weights[f"output.{name}"] for name in names}
    if quantized:
        product = helper.make_node(
            "DynamicQuantizeMatMul", ["X", *names], ["scores"], domain=QUANTIZATION_DOMAIN
        )
        nodes = [product]
    else:
        nodes = [
            helper.make_node("MatMul", ["X", "weight"], ["logits"]),
            helper.make_node("Add", ["logits", "bias"], ["scores"]),
        ]
    nodes.append(helper.make_node("LogSoftmax", ["scores"], ["log_posteriors"], axis=-1))
    size, num_pdfs = kept["weight"].shape
    outputs_info = [_info("log_posteriors", ["T", num_pdfs])]
    return _session(nodes, [_info("X", ["T", size])], outputs_info, kept, num_threads)


def _info(name: str, shape: list[Any]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _session(
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    tensors: dict[str, NDArray[Any]],
    num_threads: int,
) -> onnxruntime.InferenceSession:
    constants = [
        numpy_helper.from_array(np.ascontiguousarray(values), name) for name, values in tensors.items()
    ]
    graph = helper.make_graph(nodes, "layer", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(QUANTIZATION_DOMAIN, QUANTIZATION_OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="asr_bn")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
