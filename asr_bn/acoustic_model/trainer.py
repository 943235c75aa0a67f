"""Training of the acoustic model: stochastic gradient descent that survives being stopped at any moment."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from asr_bn import __version__
from asr_bn.acoustic_model.evaluation import FrameSums, cross_entropy_and_errors, evaluate, packed_pdf_ids
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.acoustic_model.optimization import Optimization, Outcome
from asr_bn.acoustic_model.out_of_memory import naming_batch
from asr_bn.acoustic_model.rank_share import distributed
from asr_bn.data.batches import Batch, Corpus, epoch_batches, load_batches, sorted_batches
from asr_bn.layers.population import StatisticsCopy
from asr_bn.system.files import write_text
from asr_bn.training.checkpoint import ACOUSTIC_MODEL
from asr_bn.training.log import TrainingLog
from asr_bn.training.ranks import Ranks
from asr_bn.training.resume import (
    MAX_NON_FINITE,
    DivergedError,
    best_epoch,
    check_evaluation,
    check_same,
    random_state,
    set_random_state,
)
from asr_bn.training.run_folder import RunCheckpoints


@dataclass
class Progress:
    """Where a run stands; with the checkpoint's tensors it is all that a resumed run needs.

    Attributes:
        epoch: under way, from 1.
        next_batch: its batches before this one are done.
        sums: over the frames of the epoch's steps that were taken.
        history: figures of the epochs before.
        non_finite_steps: up to now, in a row.
        non_finite_utt_ids: the utterances of these.
        skipped_steps: of the epoch, that were not taken.
        steps: of the run, taken or not.
    """

    epoch: int = 1
    next_batch: int = 0
    sums: FrameSums = field(default_factory=FrameSums)
    history: list[dict[str, float]] = field(default_factory=list)
    non_finite_steps: int = 0
    non_finite_utt_ids: list[str] = field(default_factory=list)
    skipped_steps: int = 0
    steps: int = 0

    @classmethod
    def of(cls, state: dict[str, Any]) -> "Progress":
        """That of a checkpoint."""
        progress = dict(state["progress"])
        return cls(**progress | {"sums": FrameSums(**progress["sums"])})

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest development FCE so far."""
        return best_epoch(self.history, "dev_fce")


class Trainer:
    """Trains one model; its state lives in ``out_dir`` (see ``RunCheckpoints`` and ``TrainingLog``).

    Args:
        model: on the device it is to be trained on.
        config: the experiment.
        train, dev: what to train on, and to evaluate after every epoch.
        out_dir: where the checkpoints go.
        description: what the checkpoint says of features and labels, for the later steps.
        num_workers: processes that read ahead.
        ranks: the processes that share each mini-batch.
        log: what is shown of the run; None shows nothing but the progress bar.
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
        ranks: Ranks = Ranks(),
        log: TrainingLog | None = None,
    ) -> None:
        self.model, self.config, self.train, self.dev = model, config, train, dev
        self.out_dir, self.description, self.num_workers = out_dir, description, num_workers
        self.ranks, self.log = ranks, log
        self.device = model.feats_mean.device
        self.progress = Progress()
        self.checkpoints = RunCheckpoints(out_dir, ACOUSTIC_MODEL)
        self.share = distributed(model, ranks)
        self.optimization = Optimization(model, config.training, self.device)
        self._last_saved = "no checkpoint has been written yet"

    def run(self) -> Progress:
        """Train to the last epoch and return the history.

        Raises:
            ValueError: features cannot be read any more, memory or the disk is full (the sentence says which
                checkpoint to continue from), or training diverges.
        """
        epochs, start, steps = self.config.training.epochs, time.perf_counter(), self.progress.steps
        self._show()
        while self.progress.epoch <= epochs:
            with self._naming_checkpoint():
                self._run_epoch()
                figures = self._end_epoch()
            self._say(_summary(figures, epochs))
        if self.progress.steps > steps:
            self._say(self._final_summary(time.perf_counter() - start, self.progress.steps - steps))
        return self.progress

    def _run_epoch(self) -> None:
        training, progress = self.config.training, self.progress
        batches = self._train_batches(progress.epoch)
        remaining = batches[progress.next_batch :]
        done = sum(self._frames(indices) for indices in batches[: progress.next_batch])
        title = f"{self.out_dir.name} epoch {progress.epoch}/{training.epochs}"
        self.model.train()
        with tqdm(
            total=int(self.train.num_frames.sum()),
            initial=done,
            desc=title,
            unit="frame",
            unit_scale=True,
            disable=not self.ranks.is_first,
        ) as bar:
            for indices, batch in zip(remaining, self._load(self.train, remaining), strict=True):
                self.step(batch, indices)
                progress.next_batch += 1
                bar.update(self._frames(indices))
                if progress.sums.frames:
                    bar.set_postfix(
                        FCE=f"{progress.sums.fce:.3f}", FER=f"{progress.sums.fer:.3f}", refresh=False
                    )
                if progress.next_batch % training.checkpoint_batches == 0 and progress.next_batch < len(
                    batches
                ):
                    self._save()

    def step(self, batch: Batch, indices: list[int]) -> None:
        """One step on the mini-batch ``indices``, of which ``batch`` is this rank's share."""
        statistics, frames = StatisticsCopy(self.model), self._frames(indices)
        with naming_batch(batch):
            cross_entropy, errors = self._forward(batch)
            averaged_over = len(indices) if self.config.training.loss == "sequence_sum" else frames
            # Over ranks gradients are averaged, of which the sum is wanted.
            norm = self.optimization.backward(cross_entropy / (averaged_over / self.ranks.size))
            sums = FrameSums(*self._totals(cross_entropy, errors), frames)
            outcome = self.optimization.step(sums.cross_entropy, norm.item())
        self.progress.steps += 1
        if outcome == "taken":
            self._count(sums)
        else:
            statistics.restore()
            self._count_skipped(outcome, indices)

    def _forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Summed cross entropy and number of errors of this rank's utterances."""
        with self.optimization.autocast():
            log_posteriors = self.share(batch.feats.to(self.device, non_blocking=True), batch.lengths)
        return cross_entropy_and_errors(log_posteriors, packed_pdf_ids(batch, self.device))

    def _totals(self, cross_entropy: Tensor, errors: Tensor) -> tuple[float, int]:
        """Both over all ranks; the GPU is waited for here, when all but the parameters' move is queued."""
        values = self.ranks.sum(torch.stack([cross_entropy.detach().double(), errors.double()])).tolist()
        return values[0], int(values[1])

    def _count(self, sums: FrameSums) -> None:
        progress = self.progress
        progress.sums.cross_entropy += sums.cross_entropy
        progress.sums.errors += sums.errors
        progress.sums.frames += sums.frames
        progress.non_finite_steps, progress.non_finite_utt_ids = 0, []
        if self.log is not None:
            self.log.step(progress.steps, sums.fce, self.optimization.learning_rate)

    def _count_skipped(self, outcome: Outcome, indices: list[int]) -> None:
        progress = self.progress
        progress.skipped_steps += 1
        if outcome == "scale lowered":
            return
        progress.non_finite_steps += 1
        progress.non_finite_utt_ids += [self.train.utt_ids[index] for index in indices]
        if progress.non_finite_steps < MAX_NON_FINITE:
            return
        path = self.out_dir / "non_finite_utt_ids"
        if self.ranks.is_first:
            write_text(path, "".join(f"{utt_id}\n" for utt_id in progress.non_finite_utt_ids))
        raise DivergedError(
            f"{self.out_dir}: loss or gradient was not finite in {MAX_NON_FINITE} steps in a row, the last "
            f"one on {', '.join(progress.non_finite_utt_ids[-len(indices) :])}; all their utterances are in "
            f"{path}; a lower learning_rate or a max_grad_norm may help"
        )

    def _end_epoch(self) -> dict[str, float]:
        progress, sums = self.progress, self.progress.sums
        if not sums.frames:
            raise DivergedError(f"{self.out_dir}: no step of epoch {progress.epoch} had a finite gradient")
        dev = self._evaluate()
        check_evaluation(dev.fce, self.out_dir, progress.epoch)
        figures = {"epoch": progress.epoch, "train_fce": sums.fce, "train_fer": sums.fer}
        figures |= {"dev_fce": dev.fce, "dev_fer": dev.fer}
        figures |= {
            "learning_rate": self.optimization.learning_rate,
            "skipped_steps": progress.skipped_steps,
        }
        progress.history.append(figures)
        progress.epoch, progress.next_batch = progress.epoch + 1, 0
        progress.sums, progress.skipped_steps = FrameSums(), 0
        self.optimization.end_epoch(dev.fce)
        if progress.best_epoch == figures["epoch"]:
            self._save(best=True)
        self._save()
        self._show()
        return figures

    def _evaluate(self) -> FrameSums:
        training = self.config.training
        batches = sorted_batches(self.dev.num_frames, training.batch_size, training.batch_frames)
        shares = self.ranks.share(batches)
        loaded = load_batches(self.dev, shares, self.num_workers)
        title, silent = f"{self.out_dir.name} dev", not self.ranks.is_first
        own = evaluate(
            self.model, tqdm(loaded, title, len(shares), leave=False, unit="batch", delay=2, disable=silent)
        )
        values = torch.tensor([own.cross_entropy, own.errors, own.frames], dtype=torch.float64)
        total = self.ranks.sum(values).tolist()
        return FrameSums(total[0], int(total[1]), int(total[2]))

    def _train_batches(self, epoch: int) -> list[list[int]]:
        training = self.config.training
        return epoch_batches(
            self.train.num_frames, training.batch_size, training.seed, epoch, training.batch_frames
        )

    def _load(self, corpus: Corpus, batches: Sequence[list[int]]) -> Iterator[Batch]:
        shares = [list(self.ranks.share(indices)) for indices in batches]
        return load_batches(corpus, shares, self.num_workers, pin_memory=self.device.type == "cuda")

    def _frames(self, indices: list[int]) -> int:
        return int(self.train.num_frames[indices].sum())

    def _show(self) -> None:
        if self.log is not None and self.ranks.is_first:
            self.log.epochs(self.progress.history)

    def _say(self, text: str) -> None:
        if self.ranks.is_first:
            tqdm.write(text, file=sys.stderr)

    def _final_summary(self, seconds: float, steps: int) -> str:
        best = self.progress.history[self.progress.best_epoch - 1]
        return (
            f"{self.out_dir}: {len(self.progress.history)} epochs are trained ({steps} steps in "
            f"{_duration(seconds)} this time); the best is epoch {best['epoch']:.0f}: "
            f"train FCE {best['train_fce']:.3f} FER {best['train_fer']:.3f}, "
            f"dev FCE {best['dev_fce']:.3f} FER {best['dev_fer']:.3f}"
        )

    @contextmanager
    def _naming_checkpoint(self) -> Iterator[None]:
        """Say with an error what is left of the run."""
        try:
            yield
        except DivergedError:
            raise
        except (ValueError, OSError) as error:
            raise ValueError(f"{error}; {self._last_saved}") from error

    def _save(self, best: bool = False) -> None:
        """Write the whole state of the run to ``last.pt``, or to ``best.pt``; every rank has to call it."""
        random_states = self.ranks.gather(random_state(self.device))
        if self.ranks.is_first:
            state = {
                "config": self.config.to_dict(),
                "description": self.description,
                "version": {"asr_bn": __version__, "torch": str(torch.__version__)},
                "checksums": {name: torch.from_numpy(values) for name, values in self._checksums().items()},
                "model": self.model.state_dict(),
                **self.optimization.state_dict(),
                "progress": asdict(self.progress),
                "random_state": random_states[0],
                "random_states_of_other_ranks": random_states[1:],
            }
            save = self.checkpoints.save_best if best else self.checkpoints.save_last
            save(state)
        if not best:
            self._last_saved = self._standing("last.pt")

    def _checksums(self) -> dict[str, NDArray[np.int64]]:
        """Of the features of both sets, as far as the run has read them."""
        sets = {"train": self.train.checksums, "dev": self.dev.checksums}
        return {name: values for name, values in sets.items() if values is not None}

    def _standing(self, name: str) -> str:
        progress = self.progress
        return (
            f"{self.out_dir / name} has the run up to batch {progress.next_batch} of epoch {progress.epoch}: "
            "--resume continues from there"
        )

    def resume(self) -> None:
        """Continue from the latest whole checkpoint of ``out_dir``; a damaged one is told and passed over.

        Raises:
            ValueError: all are damaged, or they are of another configuration or corpus.
        """
        path, state, damages = self.checkpoints.load()
        ours = {**self.config.to_dict(), "data": self.description}
        check_same(path, {**state["config"], "data": state["description"]}, ours)
        expect_features(state, self.train, self.dev)
        self.model.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)
        self.progress = Progress.of(state)
        random_states = [state["random_state"], *state.get("random_states_of_other_ranks", [])]
        if self.ranks.rank < len(random_states):
            set_random_state(random_states[self.ranks.rank], self.device)
        self._last_saved = self._standing(path.name)
        for damage in damages:
            self._say(f"{damage}; continuing from {path} (epoch {self.progress.epoch}) instead")


def expect_features(state: dict[str, Any], train: Corpus, dev: Corpus) -> None:
    """Hold both sets to the features that the run of a checkpoint was made with, where it tells."""
    for name, corpus in (("train", train), ("dev", dev)):
        if name in state.get("checksums", {}):
            corpus.checksums = state["checksums"][name].numpy()


def _summary(figures: dict[str, float], epochs: int) -> str:
    return (
        f"epoch {figures['epoch']}/{epochs}: "
        f"train FCE {figures['train_fce']:.3f} FER {figures['train_fer']:.3f}, "
        f"dev FCE {figures['dev_fce']:.3f} FER {figures['dev_fer']:.3f}"
    )


def _duration(seconds: float) -> str:
    hours, rest = divmod(round(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
