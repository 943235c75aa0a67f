"""``BatchNormLSTM`` against its peers: forward and backward of the paper's stack on ragged utterances.

    pip install 'asr-bn[bench]'
    python -m bench.layer                   # CPU
    python -m bench.layer --slow-scale 1    # slow peers at the full lengths: a quarter of an hour more
    python -m bench.layer --device cuda     # the same on a GPU

Five bidirectional layers of 250 on 123 features, 24 utterances of 200 to 1300 frames.  For the peers that are
many times slower they have 50 to 325 frames unless asked otherwise.  This flatters PyTorch's packed backward,
which on a CPU is quadratic in the length.  The contenders take turns; medians of *real* (unpadded) frames a
second.  Peak memory is that of a process of its own on a CPU, that of PyTorch's allocator during one step on
a GPU.

On a GPU everything is measured in float32, with TF32 products and under bfloat16 autocast, next to cuDNN's
``nn.LSTM`` at the same precision; the first step of each contender, in which Triton compiles, is not counted.
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from asr_bn import BatchNormLSTM, __version__
from asr_bn.system.memory import keep_freed_memory
from bench.peers.python_loop import PythonLoopLSTM

INPUT, HIDDEN, LAYERS = 123, 250, 5
OURS = "asr_bn, sequence-wise BN"
SLOW = ("nn.LSTM, PackedSequence, no BN", "BN-LSTM as a Python loop", "SpeechBrain")
MEASURED_MEMORY = ("nn.LSTM, dense padded, no BN", "asr_bn, no BN", OURS)
PRECISIONS = ("float32", "TF32", "bf16")
CUDNN, DENSE = "nn.LSTM, PackedSequence, no BN", "nn.LSTM, dense padded, no BN"
# What is measured at every precision on a GPU; the number is what it may take of cuDNN's time (issue 5).
ON_GPU: dict[str, tuple[dict[str, Any], float]] = {
    "asr_bn, no BN": ({}, 1.0),
    OURS: ({"norm": "sequence"}, 1.15),
    "asr_bn, sequence-wise BN, peephole": ({"norm": "sequence", "peephole": True}, 2.0),
    "asr_bn, frame-wise BN": ({"norm": "frame"}, 2.0),
    "asr_bn, BN inside the recurrence": ({"norm": "recurrent"}, 2.0),
}
Step = Callable[[], None]


@dataclass(frozen=True)
class Batch:
    """Utterances, padded (``[frames, batch, INPUT]``) and packed."""

    padded: Tensor
    lengths: Tensor
    packed: PackedSequence

    @property
    def num_frames(self) -> int:
        """Real frames."""
        return int(self.lengths.sum())


def make_batch(lengths: Tensor, device: torch.device) -> Batch:
    """Return random features."""
    padded = torch.randn(int(lengths.max()), len(lengths), INPUT)
    packed = pack_padded_sequence(padded, lengths, enforce_sorted=False).to(device)
    return Batch(padded.to(device), lengths, packed)


def ragged_lengths(scale: float = 1.0) -> Tensor:
    """Return 24 lengths from 200 to 1300 times ``scale``, the same every time."""
    lengths = torch.randint(200, 1301, (24,), generator=torch.Generator().manual_seed(0))
    return (lengths * scale).long()


def step(model: nn.Module, inputs: Any, precision: str = "float32") -> Step:
    """Do one forward and backward pass."""

    def run() -> None:
        model.zero_grad(set_to_none=True)
        device = inputs.data.device.type
        with products(precision):
            with torch.autocast(device, torch.bfloat16) if precision == "bf16" else nullcontext():
                output = model(inputs)
            output = output[0] if isinstance(output, tuple) else output
            rows = output.data if isinstance(output, PackedSequence) else output
            rows.float().sum().backward()

    return run


@contextmanager
def products(precision: str) -> Iterator[None]:
    """Set float32 matrix products as ``precision`` says; cuDNN would take TF32 unless told otherwise."""
    places = (torch.backends.cuda.matmul, torch.backends.cudnn.rnn)
    before = [place.fp32_precision for place in places]
    for place in places:
        place.fp32_precision = "tf32" if precision == "TF32" else "ieee"
    try:
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.fp32_precision = value


def ours(device: torch.device, **options: Any) -> nn.Module:
    """Return the paper's stack."""
    return BatchNormLSTM(INPUT, HIDDEN, LAYERS, bidirectional=True, **options).to(device)


def plain(device: torch.device) -> nn.Module:
    """Return PyTorch's."""
    return nn.LSTM(INPUT, HIDDEN, LAYERS, bidirectional=True).to(device)


def contenders(batch: Batch, device: torch.device) -> dict[str, Callable[[], Step]]:
    """Return everything that is compared; a model is made when it is called for."""

    def own(**options: Any) -> Callable[[], Step]:
        return lambda: step(ours(device, **options), batch.packed)

    made: dict[str, Callable[[], Step]] = {
        DENSE: lambda: step(plain(device), batch.padded),
        CUDNN: lambda: step(plain(device), batch.packed),
        "asr_bn, no BN": own(),
        "asr_bn, sequence-wise BN": own(norm="sequence"),
        "asr_bn, sequence-wise BN, peephole": own(norm="sequence", peephole=True),
        "asr_bn, frame-wise BN": own(norm="frame"),
        "BN-LSTM as a Python loop": lambda: step(
            PythonLoopLSTM(INPUT, HIDDEN, LAYERS).to(device), batch.padded
        ),
    }
    if importlib.util.find_spec("speechbrain") is None:
        print("speechbrain is not installed: its LiGRU with BN is left out", file=sys.stderr)
    else:
        made["SpeechBrain LiGRU with BN (two gates)"] = lambda: _speechbrain(batch, device)
    return made


def _speechbrain(batch: Batch, device: torch.device) -> Step:
    from speechbrain.nnet.RNN import LiGRU

    x = batch.padded.transpose(0, 1)
    peer = LiGRU(HIDDEN, x.shape, num_layers=LAYERS, normalization="batchnorm", bidirectional=True)
    return step(peer.to(device), x)


def _sequence(device: torch.device) -> nn.Module:
    return ours(device, norm="sequence")


def seconds(run: Step, device: torch.device) -> float:
    """Return the wall time of one step."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def median_seconds(steps: dict[str, Step], device: torch.device, rounds: int) -> dict[str, float]:
    """Return each contender's median, in turns, after a round for warming up."""
    for run in steps.values():
        seconds(run, device)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds):
        for name, run in steps.items():
            times[name].append(seconds(run, device))
    return {name: statistics.median(values) for name, values in times.items()}


def matmul_rate(device: torch.device, size: int = 2048) -> float:
    """Return the floating-point operations a second of a large float32 product."""
    a, b = torch.randn(2, size, size, device=device)
    product = lambda: torch.mm(a, b)  # noqa: E731
    return 2 * size**3 / min(seconds(product, device) for _ in range(10))


def flops_of_frame() -> float:
    """Count multiplications and additions of forward and backward, a frame."""
    inputs = [INPUT] + [2 * HIDDEN] * (LAYERS - 1)
    return 3 * 2 * sum(2 * 4 * HIDDEN * (size + HIDDEN) for size in inputs)


def peak_memory(name: str, device: torch.device) -> float:
    """Return peak megabytes of a process that runs the contender alone, over what it had before."""
    command = [sys.executable, "-m", "bench.layer", "--device", device.type, "--memory-of", name]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(json.loads(output.splitlines()[-1]))


def print_memory_of(name: str, device: torch.device) -> None:
    """Print the peak memory of a contender: what :func:`peak_memory` runs."""
    batch = make_batch(ragged_lengths(), device)
    run = contenders(batch, device)[name]()
    # The peak that getrusage tells is at least that of the process that started this one.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_kilobytes()
    run()
    print(json.dumps((_peak_kilobytes() - before) / 1e3))


def _peak_kilobytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def main() -> None:
    """Run and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--slow-scale", type=float, default=0.25, help="lengths for the slow peers, of 200 to 1300"
    )
    parser.add_argument("--memory-of", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_freed_memory()  # as asr-bn train does; all contenders gain by it
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    if options.memory_of:
        print_memory_of(options.memory_of, device)
        return
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"asr_bn {__version__}, torch {torch.__version__}, {name}")
    if device.type == "cuda":
        print_on_gpu(device, options.rounds, ragged_lengths())
    else:
        print_comparison(device, options.rounds, 1.0, slow=False)
    print_comparison(device, options.rounds, options.slow_scale, slow=True)
    print_lengths(device)


def print_comparison(device: torch.device, rounds: int, scale: float, slow: bool) -> None:
    """Print real frames a second, time over the normalized layer's, and peak memory of peers."""
    batch = make_batch(ragged_lengths(scale), device)
    made = contenders(batch, device)
    chosen = [name for name in made if name == OURS or slow == name.startswith(SLOW)]
    steps = {name: made[name]() for name in chosen}
    times = median_seconds(steps, device, rounds)
    own = times[OURS]
    print(f"\n{batch.num_frames} real frames of {batch.padded.shape[0] * batch.padded.shape[1]} padded")
    print(f"{'':42} {'frames/s':>9} {'time / ours':>12} {'peak MB':>8}")
    for name, value in times.items():
        memory = "" if slow or name not in MEASURED_MEMORY else f"{peak_memory(name, device):8.0f}"
        print(f"{name:42} {batch.num_frames / value:9.0f} {value / own:12.2f} {memory}", flush=True)
    share = flops_of_frame() * batch.num_frames / own / matmul_rate(device)
    print(f"share of the machine's float32 matrix-product rate, sequence-wise BN: {100 * share:.0f} %")


def on_gpu(batch: Batch, device: torch.device, precision: str) -> dict[str, Step]:
    """Return cuDNN's LSTM, and ours of all kinds, at one precision."""
    made = {
        DENSE: step(plain(device), batch.padded, precision),
        CUDNN: step(plain(device), batch.packed, precision),
    }
    for name, (options, _) in ON_GPU.items():
        made[name] = step(ours(device, **options), batch.packed, precision)
    return made


def peak_allocated(run: Step) -> float:
    """Return peak megabytes that one step allocates on the GPU, over what there was before."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e6


def print_on_gpu(
    device: torch.device, rounds: int, lengths: Tensor, memory: Callable[[Step], float] = peak_allocated
) -> None:
    """Print real frames a second, time over cuDNN's on the same packed batch, and peak memory."""
    batch = make_batch(lengths, device)
    print(f"\n{batch.num_frames} real frames of {batch.padded.shape[0] * batch.padded.shape[1]} padded")
    for precision in PRECISIONS:
        print(f"\n{precision:42} {'frames/s':>9} {'time / cuDNN':>13} {'at most':>8} {'peak MB':>8}")
        steps = on_gpu(batch, device, precision)
        times = median_seconds(steps, device, rounds)
        for name, value in times.items():
            allowed = f"{ON_GPU[name][1]:8.2f}" if name in ON_GPU else " " * 8
            ratio, peak = value / times[CUDNN], memory(steps[name])
            print(
                f"{name:42} {batch.num_frames / value:9.0f} {ratio:13.2f} {allowed} {peak:8.0f}", flush=True
            )


def print_lengths(device: torch.device) -> None:
    """Print the normalized layer's time a frame over the length of the utterances."""
    print("\nsequence-wise BN, 24 utterances of equal length: microseconds a frame")
    model = _sequence(device)
    steps, frames = {}, {}
    for length in (200, 800, 3000):
        batch = make_batch(torch.full((24,), length), device)
        steps[str(length)], frames[str(length)] = step(model, batch.packed), batch.num_frames
    for length, value in median_seconds(steps, device, 2).items():
        print(f"{length:>6} frames {1e6 * value / frames[length]:8.1f}", flush=True)


if __name__ == "__main__":
    main()
