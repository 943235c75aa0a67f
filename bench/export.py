"""Exported models against each other and against PyTorch: what normalization, ONNX and 8 bits cost or gain.

    python -m bench.export [--rounds 15] [--frames 500] [--threads 1 2] [--out FILE.json]

The network of the paper's speech experiment (5 bidirectional layers of 250, 3546 pdfs), random weights, and
one utterance of random features; "pytorch nn.LSTM" is the plain network in PyTorch's own kernel.  The
contenders take turns and the median is told, of the clock and of the processor's seconds (on a busy machine
these compare better).  What is asked for: batch normalization over baseline 1.00 +- 0.03, PyTorch over ONNX
Runtime at least 1.5, float32 over int8 at least 2.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.export.acoustic import export_onnx
from asr_bn.export.quantization import InputScale, quantize_onnx
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.files import write_json

NUM_PDFS = 3546
FBANK = FbankOptions()
Job = Callable[[], object]


def make_model(norm: str) -> tuple[AcousticModel, ModelMetadata]:
    """Return the paper's network with statistics of random features, and metadata for its file."""
    config = ExperimentConfig().replace("model", norm=norm, num_layers=5, hidden_size=250)
    model = AcousticModel(config.model, FBANK.num_features, NUM_PDFS)
    with torch.no_grad():
        model(torch.randn(4, 200, FBANK.num_features), torch.full((4,), 200))
    metadata = ModelMetadata(FBANK, 2, NUM_PDFS, [1] * NUM_PDFS, config.to_dict(), {}, {}, "")
    return model.eval(), metadata


def contenders(folder: Path, num_frames: int, num_threads: int) -> dict[str, Job]:
    """Return what each one does in a turn."""
    static = np.random.default_rng(0).normal(size=(num_frames, FBANK.num_features)).astype(np.float32)
    jobs: dict[str, Job] = {}
    for name, norm in (("baseline", "none"), ("batch_norm", "sequence")):
        model, metadata = make_model(norm)
        path = folder / f"{name}.onnx"
        export_onnx(model, metadata, path)
        jobs[f"onnx {name}"] = _onnx_job(path, static, num_threads)
        jobs[f"pytorch {name}"] = _torch_job(model, static)
        int8 = folder / f"{name}.int8.onnx"
        scale = InputScale(model.feats_mean.numpy(), model.feats_std.numpy())
        quantize_onnx(path, metadata, scale, int8)
        jobs[f"int8 {name}"] = _onnx_job(int8, static, num_threads)
    jobs["pytorch nn.LSTM"] = _plain_torch_job(num_frames)
    return jobs


def _onnx_job(path: Path, static: np.ndarray, num_threads: int) -> Job:
    scorer = AcousticScorer.load(path, "cpu", num_threads)
    feats = scorer.with_deltas(static)
    return lambda: scorer.log_posteriors([feats])


def _torch_job(model: AcousticModel, static: np.ndarray) -> Job:
    batch, lengths = torch.from_numpy(static)[None], torch.tensor([len(static)])

    def job() -> object:
        with torch.no_grad():
            return model(batch, lengths)

    return job


def _plain_torch_job(num_frames: int) -> Job:
    layers = torch.nn.LSTM(3 * FBANK.num_features, 250, 5, bidirectional=True, batch_first=True).eval()
    output = torch.nn.Linear(500, NUM_PDFS)
    feats = torch.randn(1, num_frames, 3 * FBANK.num_features)

    def job() -> object:
        with torch.no_grad():
            return torch.log_softmax(output(layers(feats)[0]), dim=2)

    return job


def measure(jobs: dict[str, Job], rounds: int) -> dict[str, dict[str, float]]:
    """Return median milliseconds of every job by the clock and of the processor, taking turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for round_number in range(rounds):
        order = list(jobs) if round_number % 2 == 0 else list(reversed(jobs))
        for name in order:
            clock, processor = time.perf_counter(), time.process_time()
            jobs[name]()
            times[name].append((time.perf_counter() - clock, time.process_time() - processor))
    return {
        name: {
            "clock_ms": 1000 * statistics.median(clock for clock, _ in values),
            "processor_ms": 1000 * statistics.median(processor for _, processor in values),
        }
        for name, values in times.items()
    }


def ratios(results: dict[str, dict[str, float]], measure_name: str) -> dict[str, float]:
    """Return the comparisons that are asked for."""
    ms = {name: values[measure_name] for name, values in results.items()}
    return {
        "onnx batch_norm / onnx baseline": ms["onnx batch_norm"] / ms["onnx baseline"],
        "pytorch / onnx (batch_norm)": ms["pytorch batch_norm"] / ms["onnx batch_norm"],
        "pytorch nn.LSTM / onnx (batch_norm)": ms["pytorch nn.LSTM"] / ms["onnx batch_norm"],
        "onnx float32 / int8 (batch_norm)": ms["onnx batch_norm"] / ms["int8 batch_norm"],
    }


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.export", description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--threads", type=int, nargs="+", default=sorted({1, os.cpu_count() or 1}))
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    reports = []
    for threads in options.threads:
        torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            results = measure(contenders(Path(folder), options.frames, threads), options.rounds)
        report = {"frames": options.frames, "threads": threads, "times": results}
        report["ratios"] = {kind: ratios(results, kind) for kind in ("clock_ms", "processor_ms")}
        print(json.dumps(report, indent=2), flush=True)
        reports.append(report)
    if options.out is not None:
        write_json(options.out, reports)
    return 0


if __name__ == "__main__":
    sys.exit(main())
