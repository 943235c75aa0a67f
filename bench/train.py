"""A whole training step: frames a second, where the time goes, and the same step on peers' layers.

    python -m bench.train                                 # WSJ-like batches, paper.toml's network, CPU
    python -m bench.train --corpus OUT                    # of bench.make_wsj_like
    python -m bench.train --recipe exp/mini --config recipes/wsj/conf/mini.toml
    python -m bench.train --device cuda --precision tf32 --no-peers

Ours is the loop of ``asr-bn train`` with everything in it (reading, deltas, counting errors, progress bar)
over some steps after a warm-up.  The share of forward, backward and optimizer is measured in a pass of its
own.  Peers get a mini-batch that is read, has its deltas and is normalized already, cut to
``--peer-frames`` frames.  They take turns with our step on the same mini-batch; medians of real frames a
second.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from asr_bn import __version__
from asr_bn.acoustic_model.data import DataFolders, RunData, load_data
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.run import new_model
from asr_bn.acoustic_model.trainer import MiniBatch, Trainer
from asr_bn.data.batches import Batch, collate
from asr_bn.training.device import default_num_workers
from bench.peers.acoustic_models import peers, training_step

Step = Callable[[], object]


class FewSteps(Trainer):
    """Epochs of some steps only."""

    num_steps: int | None = None

    def _train_batches(self, epoch: int) -> list[list[int]]:
        return super()._train_batches(epoch)[: self.num_steps]

    def epoch(self, num_steps: int) -> tuple[float, int]:
        """Return seconds and frames of an epoch of ``num_steps``."""
        self.num_steps = num_steps
        self.progress = replace(self.progress, next_batch=0)
        batches = self._train_batches(self.progress.epoch)
        start = time.perf_counter()
        self._run_epoch()
        synchronize(self.device)
        self.progress = replace(self.progress, epoch=self.progress.epoch + 1)
        return time.perf_counter() - start, sum(map(self._frames, batches))


def synchronize(device: torch.device) -> None:
    """Wait for the GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def make_trainer(data: RunData, config: ExperimentConfig, device: torch.device, workers: int) -> FewSteps:
    """Return a trainer whose model is normalized by a few utterances' statistics."""
    model = new_model(config, data.description)
    feats = torch.cat([torch.from_numpy(data.train[index][1]) for index in range(min(20, len(data.train)))])
    deltas = model.deltas(feats[None], torch.tensor([len(feats)]))[0]
    model.feats_mean, model.feats_std = deltas.mean(0), deltas.std(0)
    out = Path("bench-train")  # nothing is written there
    return FewSteps(model.to(device), config, data, out, workers)


def shares(trainer: FewSteps, num_steps: int) -> dict[str, float]:
    """Return shares of the time of an epoch; the GPU is waited for after each part."""
    spent: dict[str, float] = {}

    def timed(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments)
            synchronize(trainer.device)
            spent[name] = spent.get(name, 0.0) + time.perf_counter() - start
            return result

        return run

    trainer._forward = timed("forward", trainer._forward)  # type: ignore[method-assign]
    trainer.optimization.backward = timed("backward", trainer.optimization.backward)  # type: ignore[method-assign]
    trainer.optimization.step = timed("optimizer", trainer.optimization.step)  # type: ignore[method-assign]
    seconds, _ = trainer.epoch(num_steps)
    return {name: value / seconds for name, value in spent.items()}


def compare(trainer: FewSteps, frames: int, rounds: int) -> None:
    """Compare our step and the peers' on one mini-batch."""
    batches = sorted(trainer._train_batches(1), key=lambda batch: int(trainer.train.num_frames[batch].max()))
    indices = batches[len(batches) // 2]
    cut = [trainer.train[index] for index in indices]
    batch = collate([(utt_id, feats[:frames], pdf_ids[:frames]) for utt_id, feats, pdf_ids in cut])
    steps: dict[str, Step] = {"asr_bn": lambda: trainer.step(MiniBatch(batch, indices))}
    feats, mask, pdf_ids = prepared(trainer, batch)
    for name, make in peers(trainer.config.model, feats, trainer.model.num_pdfs).items():
        steps[name] = training_step(make().to(trainer.device), feats, mask, pdf_ids)
    times: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            synchronize(trainer.device)
            times[name].append(time.perf_counter() - start)
    own = statistics.median(times["asr_bn"][1:])
    num_frames = int(batch.lengths.sum())
    print(f"\n{len(indices)} utterances, {num_frames} real frames of {mask.numel()} padded")
    print(f"{'':42} {'frames/s':>9} {'time / ours':>12}")
    for name, values in times.items():
        seconds = statistics.median(values[1:])
        print(f"{name:42} {num_frames / seconds:9.0f} {seconds / own:12.2f}", flush=True)


@torch.no_grad()
def prepared(trainer: FewSteps, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return normalized features with deltas, the mask of the real frames, and pdf-ids, on the device."""
    model, device = trainer.model, trainer.device
    feats = (model.deltas(batch.feats.to(device), batch.lengths) - model.feats_mean) / model.feats_std
    mask = torch.arange(feats.shape[1])[None] < batch.lengths[:, None]
    return feats, mask.to(device), batch.pdf_ids.to(device)


def folders_of(options: argparse.Namespace, scratch: Path) -> DataFolders:
    """Return the folders of ``make_wsj_like``'s corpus, of a recipe's output, or of a small new corpus."""
    if options.recipe is not None:
        return DataFolders(
            *(options.recipe / kind / s for s in ("train", "dev") for kind in ("feats", "pdf"))
        )
    folder = options.corpus
    if folder is None:
        folder = scratch
        sizes = ["--utterances", "960", "--dev-utterances", "24"]
        subprocess.run([sys.executable, "-m", "bench.make_wsj_like", str(folder), *sizes], check=True)
    return DataFolders(*(folder / name for name in ("train", "train_ali", "dev", "dev_ali")))


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config", type=Path, default=Path("recipes/wsj/conf/paper.toml"))
    parser.add_argument("--corpus", type=Path, help="made by bench.make_wsj_like")
    parser.add_argument("--recipe", type=Path, help="output folder of recipes/wsj/run.sh")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--precision")
    parser.add_argument("--norm", nargs="*", default=["sequence", "none"])
    parser.add_argument("--no-peers", action="store_true")
    parser.add_argument("--peer-frames", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    config = ExperimentConfig.read(options.config)
    if options.precision:
        config = config.replace("training", precision=options.precision)
    workers = default_num_workers(device) if options.workers is None else options.workers
    name = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {options.threads} threads"
    print(f"asr_bn {__version__}, torch {torch.__version__}, {name}, {workers} workers, {config}")
    with tempfile.TemporaryDirectory() as scratch:
        data = load_data(folders_of(options, Path(scratch)), config)
        for norm in options.norm:
            trainer = make_trainer(data, config.replace("model", norm=norm), device, workers)
            trainer.epoch(2)
            seconds, frames = trainer.epoch(options.steps)
            told = shares(trainer, options.steps)
            parts = ", ".join(f"{name} {100 * share:.1f}" for name, share in told.items())
            total = 100 * sum(told.values())
            print(
                f"norm={norm}: {frames / seconds:.0f} frames/s; % of the time: {parts}; together {total:.1f}"
            )
        if not options.no_peers:
            trainer = make_trainer(data, config, device, 0)
            compare(trainer, options.peer_frames, options.rounds)


if __name__ == "__main__":
    main()
