"""What the server's tests share: a small exported model, audio, a running server."""

import io
import os
import socket
import subprocess
import sys
import time
import urllib.request
import wave
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from asr_bn.features.options import FbankOptions
from asr_bn.scoring.metadata import METADATA_KEY, ModelMetadata

NUM_PDFS = 20
ROOT = Path(__file__).parents[2]


def write_model(
    path: Path, num_pdfs: int = NUM_PDFS, hidden: int = 8, layers: int = 1, seed: int = 0
) -> Path:
    """A bidirectional LSTM with random weights, as the exporter writes them."""
    rng = np.random.default_rng(seed)
    tensors, nodes = [], []

    def tensor(name: str, values: NDArray[np.generic]) -> str:
        tensors.append(numpy_helper.from_array(values, name))
        return name

    def weights(name: str, *shape: int) -> str:
        return tensor(name, (rng.standard_normal(shape) / np.sqrt(shape[-1])).astype(np.float32))

    tensor("joined", np.array([0, 0, -1], dtype=np.int64))
    nodes.append(helper.make_node("Transpose", ["features"], ["x0"], perm=[1, 0, 2]))
    for layer in range(layers):
        size = 123 if layer == 0 else 2 * hidden
        inputs = [f"x{layer}", weights(f"layer{layer}.W", 2, 4 * hidden, size)]
        inputs.append(weights(f"layer{layer}.R", 2, 4 * hidden, hidden))
        inputs += [weights(f"layer{layer}.B", 2, 8 * hidden), "lengths"]
        nodes.append(
            helper.make_node("LSTM", inputs, [f"y{layer}"], hidden_size=hidden, direction="bidirectional")
        )
        nodes.append(helper.make_node("Transpose", [f"y{layer}"], [f"t{layer}"], perm=[0, 2, 1, 3]))
        nodes.append(helper.make_node("Reshape", [f"t{layer}", "joined"], [f"x{layer + 1}"]))
    output = weights("output.weight", 2 * hidden, num_pdfs)
    nodes.append(helper.make_node("MatMul", [f"x{layers}", output], ["logits"]))
    nodes.append(helper.make_node("Add", ["logits", weights("output.bias", num_pdfs)], ["scores"]))
    nodes.append(helper.make_node("LogSoftmax", ["scores"], ["logs"], axis=-1))
    nodes.append(helper.make_node("Transpose", ["logs"], ["log_posteriors"], perm=[1, 0, 2]))
    graph = helper.make_graph(
        nodes,
        "test",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["batch", "frames", 123]),
            helper.make_tensor_value_info("lengths", TensorProto.INT32, ["batch"]),
        ],
        [helper.make_tensor_value_info("log_posteriors", TensorProto.FLOAT, ["batch", "frames", num_pdfs])],
        tensors,
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    metadata = ModelMetadata(
        fbank=FbankOptions(),
        delta_order=2,
        num_pdfs=num_pdfs,
        pdf_counts=[10 * (pdf + 1) for pdf in range(num_pdfs)],
        config={},
        figures={},
        versions={},
        checkpoint_sha256="",
    )
    helper.set_model_props(proto, {METADATA_KEY: metadata.to_json()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(proto, path)
    return path


def npy(array: NDArray[np.generic]) -> bytes:
    """``array`` in NumPy's format."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def chirp(seconds: float = 0.5, sample_frequency: int = 16000) -> NDArray[np.int16]:
    """A tone that rises, with a little noise."""
    t = np.arange(int(seconds * sample_frequency)) / sample_frequency
    noise = np.random.default_rng(3).standard_normal(len(t))
    return (8000 * np.sin(2 * np.pi * (300 * t + 400 * t**2)) + 100 * noise).astype(np.int16)


def wav(samples: NDArray[np.int16], sample_frequency: int = 16000) -> bytes:
    """A WAV file of ``[num_samples]`` or ``[num_samples, num_channels]``."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1] if samples.ndim == 2 else 1)
        file.setsampwidth(2)
        file.setframerate(sample_frequency)
        file.writeframes(samples.tobytes())
    return stream.getvalue()


@contextmanager
def running_server(
    model: Path, *options: str, **environment: str
) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """``asr-bn serve`` as a process: its address and handle; killed at the end if it still runs."""
    command = [sys.executable, "-m", "asr_bn.cli.main", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {"ASR_BN_ACCESS_LOG": "false"} | environment,
    )
    assert process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline()
        assert "ready at" in line, f"{line}{process.stderr.read()}"
        yield line.split()[-1], process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def wait_until(url: str, seconds: float = 10.0) -> None:
    """Until ``url`` answers 200."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            with urllib.request.urlopen(url, timeout=1):
                return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(url)


def connect(url: str) -> socket.socket:
    """A plain connection to a server."""
    connection = socket.create_connection(("127.0.0.1", int(url.rsplit(":", 1)[1])))
    connection.settimeout(10)
    return connection


def until_closed(connection: socket.socket) -> bytes:
    """All that the server says before it closes."""
    said = b""
    while data := connection.recv(65536):
        said += data
    return said
