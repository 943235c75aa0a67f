"""``asr-bn features`` against its peers: the same files, the same job, read audio, compute, write an archive.

    pip install 'asr-bn[bench]'
    python -m bench.features --hours 1 --rounds 5

The corpus is made for the run: 16-bit WAV of 16 kHz, utterances of 4 to 16 seconds of coloured noise.  Every
contender is a process of its own with one thread (asr-bn with ``--nj 2``: two processes), they take turns,
and the median is told.  The clock starts when the imports are done and stops when the archive is on disk; it
includes what asr-bn takes to start its processes.  Features have 40 bins and the energy.  The seconds of the
processor are those of all of a contender's processes: on a busy machine they compare better than the clock.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from asr_bn.system.arrays import Floats
from asr_bn.system.memory import keep_freed_memory

RATE = 16000
CONTENDERS = ("asr-bn", "asr-bn --nj 2", "kaldi-native-fbank", "torchaudio", "lhotse")


def make_corpus(folder: Path, hours: float) -> float:
    """Write a data folder with ``hours`` of audio; return the seconds it really has."""
    from scipy.io import wavfile

    random = np.random.default_rng(2015)
    lines: list[str] = []
    seconds = 0.0
    while seconds < hours * 3600:
        num_samples = int(random.integers(4 * RATE, 16 * RATE))
        noise = np.cumsum(random.standard_normal(num_samples))
        noise -= np.linspace(noise[0], noise[-1], num_samples)
        path = folder / f"{len(lines):05d}.wav"
        wavfile.write(path, RATE, (9000 * noise / np.abs(noise).max()).astype(np.int16))
        lines.append(f"u{len(lines):05d} {path}\n")
        seconds += num_samples / RATE
    (folder / "wav.scp").write_text("".join(lines))
    return seconds


def run(contender: str, data: Path, out: Path) -> tuple[float, float]:
    """Return seconds of the job by the clock and of the processor, told by the process that did it."""
    command = [
        sys.executable,
        "-m",
        "bench.features",
        "--contender",
        contender,
        "--data",
        str(data),
        "--out",
        str(out),
    ]
    environment = os.environ | dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["seconds"], told["processor_seconds"]


def work(contender: str, data: Path, out: Path) -> None:
    """Do the job as ``contender`` and print its seconds."""
    keep_freed_memory()  # as asr-bn features does; all contenders gain by it
    job = _ours(contender, data, out) if contender.startswith("asr-bn") else _theirs(contender, data, out)
    start, start_processor = time.perf_counter(), _processor_seconds()
    job()
    seconds, processor_seconds = time.perf_counter() - start, _processor_seconds() - start_processor
    print(json.dumps({"seconds": seconds, "processor_seconds": processor_seconds}))


def _processor_seconds() -> float:
    """Of this process and of those it waited for."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _ours(contender: str, data: Path, out: Path) -> Callable[[], None]:
    import scipy.fft  # noqa: F401  # imported before the clock starts, as the peers' libraries are
    import tqdm  # noqa: F401

    from asr_bn.extraction.extract import extract_features
    from asr_bn.extraction.request import ExtractionRequest

    num_jobs = 2 if contender.endswith("2") else 1

    def job() -> None:
        extract_features(ExtractionRequest(data, out), num_jobs)

    return job


def _theirs(contender: str, data: Path, out: Path) -> Callable[[], None]:
    import kaldi_native_io

    compute = {"kaldi-native-fbank": _native, "torchaudio": _torchaudio, "lhotse": _lhotse}[contender]()

    def job() -> None:
        out.mkdir()
        with kaldi_native_io.FloatMatrixWriter(f"ark,scp:{out}/feats.ark,{out}/feats.scp") as writer:
            for utt_id, samples in _waveforms(data):
                writer.write(utt_id, compute(samples))

    return job


def _waveforms(data: Path) -> Iterator[tuple[str, Floats]]:
    import soundfile

    for line in (data / "wav.scp").read_text().splitlines():
        utt_id, path = line.split(maxsplit=1)
        yield utt_id, soundfile.read(path, dtype="float32")[0]


def _native() -> Callable[[Floats], Floats]:
    import kaldi_native_fbank

    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.samp_freq, options.frame_opts.dither = RATE, 0.0
    options.mel_opts.num_bins, options.use_energy = 40, True

    def compute(samples: Floats) -> Floats:
        computer = kaldi_native_fbank.OnlineFbank(options)
        computer.accept_waveform(RATE, samples * 32768)
        computer.input_finished()
        return np.stack([computer.get_frame(i) for i in range(computer.num_frames_ready)])

    return compute


def _torchaudio() -> Callable[[Floats], Floats]:
    import torch
    from torchaudio.compliance.kaldi import fbank

    torch.set_num_threads(1)

    def compute(samples: Floats) -> Floats:
        waveform = torch.from_numpy(samples)[None] * 32768
        feats: Floats = fbank(waveform, num_mel_bins=40, use_energy=True, sample_frequency=RATE).numpy()
        return feats

    return compute


def _lhotse() -> Callable[[Floats], Floats]:
    import torch
    from lhotse.features.kaldi.extractors import Fbank, FbankConfig  # type: ignore[import-not-found]

    torch.set_num_threads(1)
    extractor = Fbank(FbankConfig(sampling_rate=RATE, num_filters=40, use_energy=True, snip_edges=True))

    def compute(samples: Floats) -> Floats:
        feats: Floats = extractor.extract(samples, RATE)
        return feats

    return compute


def main() -> None:
    """Measure every contender that is installed and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--hours", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--contenders", nargs="+", default=list(CONTENDERS), choices=CONTENDERS)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        work(arguments.contender, arguments.data, arguments.out)
        return
    with tempfile.TemporaryDirectory(prefix="bench-features-") as name:
        _measure(Path(name), arguments.hours, arguments.rounds, arguments.contenders)


def _measure(folder: Path, hours: float, rounds: int, contenders: list[str]) -> None:
    data = folder / "data"
    data.mkdir()
    seconds = make_corpus(data, hours)
    times: dict[str, list[tuple[float, float]]] = {contender: [] for contender in contenders}
    for number in range(rounds):
        for contender in contenders:
            with tempfile.TemporaryDirectory(dir=folder) as out:
                times[contender].append(run(contender, data, Path(out) / "out"))
            print(f"round {number + 1}: {contender}: {times[contender][-1][0]:.2f} s", file=sys.stderr)
    print("| | audio s per s | per processor s | median s | fastest s |\n|---|---|---|---|---|")
    for name, runs in times.items():
        clock = [by_clock for by_clock, _ in runs]
        median, spent = statistics.median(clock), statistics.median(processor for _, processor in runs)
        print(
            f"| {name} | {seconds / median:.0f} | {seconds / spent:.0f} | {median:.2f} | {min(clock):.2f} |"
        )


if __name__ == "__main__":
    main()
