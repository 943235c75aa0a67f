"""Training of the acoustic model: stochastic gradient descent that survives being stopped at any moment."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from asr_bn import __version__
from asr_bn.acoustic_model import AcousticModel
from asr_bn.batches import Batch, Corpus, epoch_batches, load_batches, sorted_batches
from asr_bn.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from asr_bn.evaluation import FrameSums, evaluate, packed_pdf_ids
from asr_bn.experiment import ExperimentConfig
from asr_bn.files import write_text
from asr_bn.run_state import check_same, random_state, set_random_state

# So many steps in a row without a finite gradient end the training.
MAX_NON_FINITE = 3


@dataclass
class Progress:
    """Where a run stands; with the checkpoint's tensors it is all that a resumed run needs."""

    epoch: int = 1
    next_batch: int = 0
    sums: FrameSums = field(default_factory=FrameSums)
    history: list[dict[str, float]] = field(default_factory=list)
    non_finite_steps: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest development FCE so far."""
        return int(min(self.history, key=lambda figures: figures["dev_fce"])["epoch"])


class Trainer:
    """Trains one model; its state lives in ``out_dir`` as ``last.pt``, ``best.pt`` and ``metrics.jsonl``.

    Args:
        model: on the device it is to be trained on.
        config: the experiment.
        train, dev: what to train on, and to evaluate after every epoch.
        out_dir: where the checkpoints go.
        description: what the checkpoint says of features and labels, for the later steps.
        num_workers: processes that read ahead.
    """

    def __init__(
        self,
        model: AcousticModel,
        config: ExperimentConfig,
        train: Corpus,
        dev: Corpus,
        out_dir: Path,
        description: dict[str, Any],
        num_workers: int = 0,
    ) -> None:
        self.model, self.config, self.train, self.dev = model, config, train, dev
        self.out_dir, self.description, self.num_workers = out_dir, description, num_workers
        self.device = model.feats_mean.device
        self.progress = Progress()
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=config.training.learning_rate, momentum=config.training.momentum
        )

    def run(self) -> Progress:
        """Train to the last epoch and return the history."""
        epochs = self.config.training.epochs
        while self.progress.epoch <= epochs:
            self._run_epoch()
            figures = self._end_epoch()
            tqdm.write(_summary(figures, epochs), file=sys.stderr)
        return self.progress

    def _run_epoch(self) -> None:
        training, progress = self.config.training, self.progress
        batches = epoch_batches(self.train.num_frames, training.batch_size, training.seed, progress.epoch)
        done = int(sum(self.train.num_frames[index] for b in batches[: progress.next_batch] for index in b))
        remaining = load_batches(self.train, batches[progress.next_batch :], self.num_workers)
        title = f"{self.out_dir.name} epoch {progress.epoch}/{training.epochs}"
        total = int(self.train.num_frames.sum())
        self.model.train()
        with tqdm(total=total, initial=done, desc=title, unit="frame", unit_scale=True) as bar:
            for batch in remaining:
                self._step(batch)
                progress.next_batch += 1
                bar.update(int(batch.lengths.sum()))
                if progress.sums.frames:
                    bar.set_postfix(
                        FCE=f"{progress.sums.fce:.3f}", FER=f"{progress.sums.fer:.3f}", refresh=False
                    )
                if progress.next_batch % training.checkpoint_batches == 0 and progress.next_batch < len(
                    batches
                ):
                    self.save("last.pt")

    def _step(self, batch: Batch) -> None:
        training, sums = self.config.training, FrameSums()
        log_posteriors = self.model(batch.feats.to(self.device), batch.lengths).data
        cross_entropy = sums.add(log_posteriors, packed_pdf_ids(batch, self.device))
        averaged_over = len(batch.utt_ids) if training.loss == "sequence_sum" else sums.frames
        self.optimizer.zero_grad(set_to_none=True)
        (cross_entropy / averaged_over).backward()
        limit = float("inf") if training.max_grad_norm is None else training.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if not torch.isfinite(norm):
            self._count_non_finite(batch)
            return
        self.optimizer.step()
        total = self.progress.sums
        total.cross_entropy += sums.cross_entropy
        total.errors += sums.errors
        total.frames += sums.frames
        self.progress.non_finite_steps = 0

    def _count_non_finite(self, batch: Batch) -> None:
        self.progress.non_finite_steps += 1
        if self.progress.non_finite_steps >= MAX_NON_FINITE:
            raise ValueError(
                f"{self.out_dir}: loss or gradient was not finite in {MAX_NON_FINITE} steps in a row, "
                f"the last one on {', '.join(batch.utt_ids)}; a lower learning_rate may help"
            )

    def _end_epoch(self) -> dict[str, float]:
        progress, sums = self.progress, self.progress.sums
        if not sums.frames:
            raise ValueError(f"{self.out_dir}: no step of epoch {progress.epoch} had a finite gradient")
        dev = evaluate(self.model, load_batches(self.dev, self._dev_batches(), self.num_workers))
        figures = {"epoch": progress.epoch, "train_fce": sums.fce, "train_fer": sums.fer}
        figures |= {"dev_fce": dev.fce, "dev_fer": dev.fer}
        progress.history.append(figures)
        progress.epoch, progress.next_batch, progress.sums = progress.epoch + 1, 0, FrameSums()
        if progress.best_epoch == figures["epoch"]:
            self.save("best.pt")
        self.save("last.pt")
        lines = (json.dumps(entry) + "\n" for entry in progress.history)
        write_text(self.out_dir / "metrics.jsonl", "".join(lines))
        return figures

    def _dev_batches(self) -> list[list[int]]:
        return sorted_batches(self.dev.num_frames, self.config.training.batch_size)

    def save(self, name: str) -> None:
        """Write the whole state of the run to ``out_dir/name``."""
        state = {
            "config": self.config.to_dict(),
            "description": self.description,
            "version": {"asr_bn": __version__, "torch": str(torch.__version__)},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "random_state": random_state(self.device),
        }
        save_checkpoint(self.out_dir / name, state, ACOUSTIC_MODEL)

    def resume(self) -> None:
        """Continue from ``out_dir/last.pt``.

        Raises:
            ValueError: the checkpoint is damaged, or is of another configuration or corpus.
        """
        path = self.out_dir / "last.pt"
        state = load_checkpoint(path, ACOUSTIC_MODEL)
        ours = {**self.config.to_dict(), "data": self.description}
        check_same(path, {**state["config"], "data": state["description"]}, ours)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        progress = dict(state["progress"])
        self.progress = Progress(**progress | {"sums": FrameSums(**progress["sums"])})
        set_random_state(state["random_state"], self.device)


def _summary(figures: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {figures['epoch']}/{epochs}: "
        f"train FCE {figures['train_fce']:.3f} FER {figures['train_fer']:.3f}, "
        f"dev FCE {figures['dev_fce']:.3f} FER {figures['dev_fer']:.3f}"
    )
