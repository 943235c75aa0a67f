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
import torch
from numpy.typing import NDArray
from torch import nn

from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.data.kaldi_system import KaldiSystem, require_system
from asr_bn.export.acoustic import export_onnx
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.metadata import ModelMetadata
from tests.helpers.kaldi_fixtures import SYNTHETIC

NUM_PDFS = 20
ROOT = Path(__file__).parents[2]


def write_model(
    path: Path,
    num_pdfs: int = NUM_PDFS,
    hidden: int = 8,
    layers: int = 1,
    seed: int = 0,
    system: KaldiSystem | None = None,
) -> Path:
    """Export a model without a norm, of Kaldi's usual features, with random weights."""
    config = ExperimentConfig().replace("model", num_layers=layers, hidden_size=hidden, norm="none")
    fbank = FbankOptions()
    model = AcousticModel(config.model, fbank.num_features, num_pdfs)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5, generator=generator)
    counts = [10 * (pdf + 1) for pdf in range(num_pdfs)]
    path.parent.mkdir(parents=True, exist_ok=True)
    metadata = ModelMetadata(fbank, 2, num_pdfs, counts, {}, {}, {}, "", system)
    export_onnx(model.eval(), metadata, path)
    return path


def write_phone_model(path: Path, **options: int) -> Path:
    """Export a model as `write_model` that knows the phones of Kaldi's alignments of 72 pdfs."""
    return write_model(path, 72, system=require_system(SYNTHETIC / "ali"), **options)


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
