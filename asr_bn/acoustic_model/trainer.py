"""Training of the acoustic model: what a step, an epoch and a checkpoint are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Self

import torch
from torch import Tensor
from tqdm import tqdm

from asr_bn.acoustic_model.data import RunData, evaluation_batches, training_batches
from asr_bn.acoustic_model.evaluation import (
    FrameSums,
    cross_entropy_and_errors,
    describe_size,
    evaluate,
    packed_pdf_ids,
)
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.acoustic_model.optimization import make_optimization
from asr_bn.acoustic_model.rank_share import wrap_distributed
from asr_bn.data.batches import Batch, Corpus, load_batches
from asr_bn.system.files import write_text
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, Checkpoint
from asr_bn.training.optimization import Outcome
from asr_bn.training.progress import Figures, Sums
from asr_bn.training.progress import Progress as RunProgress
from asr_bn.training.ranks import Ranks
from asr_bn.training.run_loop import Epoch, RunLoop


@dataclass(frozen=True)
class Progress(RunProgress):
    """Where a run stands.

    Attributes:
        non_finite_utt_ids: the utterances of the last non-finite steps in a row.
        skipped_steps: of the epoch, that were not taken.
        steps: of the run, taken or not.
    """

    batch: ClassVar[str] = "batch"
    criterion: ClassVar[str] = "dev_fce"

    kind_of_sums: ClassVar[type[Sums]] = FrameSums
    sums: Sums = FrameSums()
    non_finite_utt_ids: tuple[str, ...] = ()
    skipped_steps: int = 0
    steps: int = 0

    def after_epoch(self, figures: Figures) -> Self:
        """Return the progress at the start of the next epoch."""
        return replace(super().after_epoch(figures), skipped_steps=0)


@dataclass(frozen=True)
class MiniBatch:
    """A mini-batch: the indices of its utterances, and this rank's share of them, read."""

    share: Batch
    indices: list[int]


class Trainer(RunLoop[AcousticModel, ExperimentConfig, MiniBatch]):
    """Trains an acoustic model.

    Args:
        model, config, out_dir, ranks: as in :class:`RunLoop`.
        data: to train on, and to evaluate after every epoch.
        num_workers: processes that read ahead.
    """

    kind, held_out, unit, continued_by = ACOUSTIC_MODEL, "dev", "frame", "--resume"
    progress: Progress

    def __init__(
        self,
        model: AcousticModel,
        config: ExperimentConfig,
        data: RunData,
        out_dir: Path,
        num_workers: int = 0,
        ranks: Ranks = Ranks(),
    ) -> None:
        training = config.training
        optimization = make_optimization(model, training, model.feats_mean.device)
        length = training.epochs, training.checkpoint_batches
        super().__init__(model, config, data.description.to_dict(), out_dir, optimization, *length, ranks)
        self.train, self.dev, self.num_workers = data.train, data.dev, num_workers
        self.progress = Progress()
        self.share = wrap_distributed(model, ranks)

    def _begin_epoch(self) -> Epoch[MiniBatch]:
        batches = training_batches(self.train, self.config.training, self.progress.epoch)
        past, remaining = batches[: self.progress.next_batch], batches[self.progress.next_batch :]
        size, done = int(self.train.num_frames.sum()), sum(map(self._frames, past))
        return Epoch(self._load(remaining), len(batches), size, done)

    def _load(self, batches: Sequence[list[int]]) -> Iterator[MiniBatch]:
        shares = [list(self.ranks.share(indices)) for indices in batches]
        loaded = load_batches(self.train, shares, self.num_workers, pin_memory=self.device.type == "cuda")
        return map(MiniBatch, loaded, batches)

    def _frames(self, indices: list[int]) -> int:
        return int(self.train.num_frames[indices].sum())

    def _size(self, batch: MiniBatch) -> int:
        return self._frames(batch.indices)

    def _memory(self, batch: MiniBatch) -> str:
        return describe_size(batch.share)

    def _gradients(self, batch: MiniBatch) -> tuple[FrameSums, Tensor]:
        frames = self._frames(batch.indices)
        cross_entropy, errors = self._forward(batch.share)
        averaged_over = len(batch.indices) if self.config.training.loss == "sequence_sum" else frames
        # Over ranks gradients are averaged, of which the sum is wanted.
        norm = self.optimization.backward(cross_entropy / (averaged_over / self.ranks.size))
        return FrameSums(*self._totals(cross_entropy, errors), frames), norm

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the summed cross entropy and the number of errors of this rank's utterances."""
        with self.optimization.autocast():
            log_posteriors = self.share(batch.feats.to(self.device, non_blocking=True), batch.lengths)
        return cross_entropy_and_errors(log_posteriors, packed_pdf_ids(batch, self.device))

    def _totals(self, cross_entropy: Tensor, errors: Tensor) -> tuple[float, int]:
        """Sum both over ranks.  Synchronizes with the GPU, after the backward pass is queued."""
        values = self.ranks.sum(torch.stack([cross_entropy.detach().double(), errors.double()])).tolist()
        return values[0], int(values[1])

    def _count(self, sums: Sums) -> None:
        super()._count(sums)
        self.progress = replace(self.progress, steps=self.progress.steps + 1, non_finite_utt_ids=())
        if self.log is not None:
            nats = sums.cross_entropy / sums.count
            self.log.step(self.progress.steps, nats, self.optimization.learning_rate)

    def _count_skipped(self, outcome: Outcome, batch: MiniBatch) -> None:
        progress = self.progress
        utt_ids = self._utt_ids(batch) if outcome == "not finite" else ()
        self.progress = replace(
            progress,
            steps=progress.steps + 1,
            skipped_steps=progress.skipped_steps + 1,
            non_finite_utt_ids=progress.non_finite_utt_ids + utt_ids,
        )
        super()._count_skipped(outcome, batch)

    def _utt_ids(self, batch: MiniBatch) -> tuple[str, ...]:
        return tuple(self.train.utt_ids[index] for index in batch.indices)

    def _place(self, batch: MiniBatch) -> str:
        path = self.out_dir / "non_finite_utt_ids"
        if self.ranks.is_first:
            write_text(path, "".join(f"{utt_id}\n" for utt_id in self.progress.non_finite_utt_ids))
        return f"on {', '.join(self._utt_ids(batch))}; all their utterances are in {path}"

    def _evaluate(self) -> FrameSums:
        shares = self.ranks.share(evaluation_batches(self.dev, self.config.training))
        loaded = load_batches(self.dev, shares, self.num_workers)
        title, silent = f"{self.out_dir.name} dev", not self.ranks.is_first
        shown = tqdm(loaded, title, len(shares), leave=False, unit="batch", delay=2, disable=silent)
        own = evaluate(self.model, shown)
        values = torch.tensor([own.cross_entropy, own.errors, own.frames], dtype=torch.float64)
        total = self.ranks.sum(values).tolist()
        return FrameSums(total[0], int(total[1]), int(total[2]))

    def _figures(self) -> Figures:
        skipped_steps, learning_rate = self.progress.skipped_steps, self.optimization.learning_rate
        return super()._figures() | {"learning_rate": learning_rate, "skipped_steps": skipped_steps}

    def describe(self, figures: Figures) -> str:
        """Return FCE and FER as text."""
        return ", ".join(
            f"{name} FCE {figures[f'{name}_fce']:.3f} FER {figures[f'{name}_fer']:.3f}"
            for name in ("train", "dev")
            if f"{name}_fce" in figures
        )

    def _own_state(self, random_states: list[dict[str, Tensor]]) -> Checkpoint:
        sets = {"train": self.train.checksums, "dev": self.dev.checksums}  # as far as they have been read
        return {
            "checksums": {name: torch.from_numpy(v) for name, v in sets.items() if v is not None},
            "random_states_of_other_ranks": random_states[1:],
        }

    def _restore_own_state(self, state: Checkpoint) -> None:
        expect_features(state, self.train, self.dev)


def expect_features(state: Checkpoint, train: Corpus, dev: Corpus) -> None:
    """Let both sets refuse other features than those that the run of a checkpoint was made with."""
    for name, corpus in (("train", train), ("dev", dev)):
        if name in state["checksums"]:
            corpus.checksums = state["checksums"][name].numpy()
