"""Start the server, post an utterance to it over HTTP, and compare its answer with the models."""

import io
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import httpx
import numpy as np
import soundfile

from asr_bn.audio.reader import Waveform
from asr_bn.features.filterbank import fbank
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.arrays import Floats

STARTUP_SECONDS = 60.0
_READY = "asr-bn: ready at "


class ServerCheck(TypedDict):
    """Largest differences in log posterior between the server's answer and both models'."""

    utt_id: str
    num_frames: int
    difference_to_onnx: float
    difference_to_pytorch: float
    is_explained: bool  # the difference to PyTorch, see `asr_bn.export.parity.is_explained`


@contextmanager
def running_server(model: Path) -> Iterator[str]:
    """Run ``asr-bn serve`` on a free port of this machine; yield its URL once it is ready.

    Raises:
        ValueError: it ended, or was not ready in time (what it last printed is in the message).
    """
    command = [sys.executable, "-P", "-m", "asr_bn.cli.main", "serve", str(model)]
    with subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as server:
        try:
            yield _announced_url(server)
        finally:
            server.terminate()
            server.communicate(timeout=30)


def ask(url: str, waveform: Waveform) -> Floats:
    """Post ``waveform`` as a WAV file and return the log posteriors, ``[num_frames, num_pdfs]``."""
    headers = {"Content-Type": "audio/wav", "Accept": "application/x-npy"}
    answer = httpx.post(f"{url}/v1/posteriors", content=wav_bytes(waveform), headers=headers, timeout=60)
    if answer.status_code != 200:
        raise ValueError(f"{url}: HTTP {answer.status_code}, expected 200: {answer.text}")
    result: Floats = np.load(io.BytesIO(answer.content), allow_pickle=False)
    return result


def check_server(exp_dir: Path, utt_id: str, waveform: Waveform, allowed: float) -> ServerCheck:
    """Post an utterance to a server of its own and compare the answer with both models'.

    Args:
        exp_dir: folder with ``final.pt`` and ``model.onnx``.
        utt_id: name of the utterance.
        waveform: its samples.
        allowed: as in `asr_bn.export.parity.compare`.

    Raises:
        ValueError: the server does not start or does not answer with scores of every frame.
    """
    from asr_bn.acoustic_model.model import load_model
    from asr_bn.export.parity import is_explained, trained_log_posteriors

    with running_server(exp_dir / "model.onnx") as url:
        answer = ask(url, waveform)
    scorer = AcousticScorer.load(exp_dir / "model.onnx", device="cpu")
    feats = fbank(waveform.samples, scorer.metadata.fbank)
    (exported,) = scorer.log_posteriors([scorer.with_deltas(feats)])
    model, _ = load_model(exp_dir / "final.pt")
    trained = trained_log_posteriors(model, feats)
    if answer.shape != trained.shape:
        raise ValueError(f"{utt_id}: the server answered {answer.shape}, expected {trained.shape}")
    to_pytorch = float(np.abs(answer - trained).max())
    return {
        "utt_id": utt_id,
        "num_frames": len(answer),
        "difference_to_onnx": float(np.abs(answer - exported).max()),
        "difference_to_pytorch": to_pytorch,
        "is_explained": is_explained(to_pytorch, allowed, model, feats),
    }


def wav_bytes(waveform: Waveform) -> bytes:
    """Encode ``waveform`` as a 16-bit WAV file."""
    buffer = io.BytesIO()
    samples = np.round(waveform.samples).astype(np.int16)
    soundfile.write(buffer, samples, int(waveform.sample_frequency), format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def _announced_url(server: "subprocess.Popen[str]") -> str:
    """Wait for the line that tells where the server listens."""
    assert server.stdout is not None
    too_late = threading.Timer(STARTUP_SECONDS, server.kill)
    too_late.start()
    said = ""
    for line in server.stdout:
        if line.startswith(_READY):
            too_late.cancel()
            return line.removeprefix(_READY).strip()
        said += line
    if not too_late.is_alive():
        raise ValueError(f"the server was not ready within {STARTUP_SECONDS:.0f} seconds")
    too_late.cancel()
    raise ValueError(f"the server ended at its start with exit code {server.wait()}: {said.strip()[-500:]}")
