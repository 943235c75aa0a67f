"""What feeds training, alone: index, first batch, frames a second, memory.

    python -m bench.make_wsj_like OUT && python -m bench.data OUT
    python -m bench.data OUT --workers 0 1 2 --cuda       # copies to the GPU through pinned memory too

Each number of workers has a process of its own, which reads the corpus's index as ``asr-bn train`` does.
It then reads an epoch's batches, or as many as fit into ``--seconds``.  Memory is the largest sum, over this
process and its workers, of what each holds alone and its part of what they share (PSS).
"""

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import torch

from asr_bn.acoustic_model.data import DataFolders, load_data
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.data.batches import epoch_batches, load_batches


class PeakMemory(threading.Thread):
    """Watches this process and its children."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.stopped = 0, threading.Event()

    def run(self) -> None:
        """Note the peak of the memory until stopped."""
        process = psutil.Process()
        while not self.stopped.wait(0.5):
            total = 0
            for one in (process, *process.children(recursive=True)):
                try:
                    total += one.memory_full_info().pss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def measure(
    folder: Path, workers: int, seconds: float, cuda: bool, batch_frames: int | None
) -> dict[str, float]:
    """Measure the seconds to the index and the first batch, then the rate."""
    memory = PeakMemory()
    memory.start()
    start = time.perf_counter()
    config = ExperimentConfig()
    if batch_frames:
        config = config.replace("training", batch_frames=batch_frames)
    folders = DataFolders(*(folder / name for name in ("train", "train_ali", "dev", "dev_ali")))
    corpus = load_data(folders, config, quiet=True).train
    index = time.perf_counter() - start
    training = config.training
    batches = epoch_batches(corpus.num_frames, training.batch_size, training.seed, 1, training.batch_frames)
    loaded = load_batches(corpus, batches, workers, pin_memory=cuda)
    frames, padded, begun = 0, 0, 0.0
    for number, batch in enumerate(loaded):
        feats = batch.feats.to("cuda", non_blocking=True) if cuda else batch.feats
        now = time.perf_counter()
        if number == 0:
            begun, first = now, now - start
            continue
        frames += int(batch.lengths.sum())
        padded += feats.shape[0] * feats.shape[1]
        if now - begun > seconds:
            break
    elapsed = time.perf_counter() - begun
    memory.stopped.set()
    memory.join()
    return {
        "index_s": index,
        "first_batch_s": first,
        "frames_per_s": frames / elapsed,
        "padding": 1 - frames / padded,
        "memory_mb": memory.peak / 1e6,
        "utterances": len(corpus),
    }


def main() -> None:
    """Print a line for each number of workers."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--batch-frames", type=int)
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.measure:
        arguments = (options.seconds, options.cuda, options.batch_frames)
        print(json.dumps(measure(options.folder, options.workers[0], *arguments)))
        return
    headings = ("workers", "index s", "first batch s", "frames/s", "padding %", "memory MB")
    print("".join(f"{heading:>14}" for heading in headings))
    for workers in options.workers:
        command = [
            sys.executable,
            "-m",
            "bench.data",
            str(options.folder),
            "--workers",
            str(workers),
            "--measure",
        ]
        command += ["--seconds", str(options.seconds)] + ["--cuda"] * options.cuda
        if options.batch_frames:
            command += ["--batch-frames", str(options.batch_frames)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        figures = json.loads(output.splitlines()[-1])
        print(
            f"{workers:14}{figures['index_s']:14.1f}{figures['first_batch_s']:14.1f}"
            f"{figures['frames_per_s']:14.0f}{100 * figures['padding']:14.1f}{figures['memory_mb']:14.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
