"""The loop of every training run: epochs, batches, saving and resuming, steps that are not finite."""

import json
import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from asr_bn import __version__
from asr_bn.layers.population_estimate import StatisticsCopy
from asr_bn.system.files import write_text
from asr_bn.system.toml_config import TomlConfig
from asr_bn.training.checkpoint import Checkpoint
from asr_bn.training.log import TrainingLog
from asr_bn.training.optimization import Optimization, Outcome
from asr_bn.training.out_of_memory import explain_out_of_memory
from asr_bn.training.progress import Figures, Progress, Sums
from asr_bn.training.ranks import Ranks
from asr_bn.training.resume import random_state, refuse_other_run, set_random_state
from asr_bn.training.run_folder import RunCheckpoints

MAX_NON_FINITE = 3  # so many steps in a row without a finite gradient end the training
_ADVICE = "a lower learning_rate or a max_grad_norm may help"

Model = TypeVar("Model", bound=nn.Module)
Config = TypeVar("Config", bound=TomlConfig)
Batch = TypeVar("Batch")


class DivergedError(ValueError):
    """Loss, gradient or evaluation was not finite."""


@dataclass(frozen=True)
class Epoch(Generic[Batch]):
    """The remaining batches of an epoch."""

    batches: Iterator[Batch]
    num_batches: int  # of the whole epoch
    size: int  # frames or tokens of the whole epoch
    done: int  # those of the batches before


class RunLoop(ABC, Generic[Model, Config, Batch]):
    """Trains one model; its state lives in ``out_dir`` (see ``RunCheckpoints``) beside ``metrics.jsonl``.

    Args:
        model: on the device it is to be trained on.
        config: the experiment.
        description: of the data, for checkpoints; other data are another run.
        out_dir: where checkpoints and metrics go.
        optimization: of the model's parameters.
        epochs: after which the run ends.
        save_every: steps between checkpoints inside an epoch.
        ranks: the processes that share each batch.
    """

    kind: ClassVar[str]  # of the checkpoints
    held_out: ClassVar[str]  # the set that every epoch is evaluated on
    unit: ClassVar[str]  # what the progress bar counts
    continued_by: ClassVar[str]  # what a user does to resume
    progress: Progress

    def __init__(
        self,
        model: Model,
        config: Config,
        description: dict[str, object],
        out_dir: Path,
        optimization: Optimization,
        epochs: int,
        save_every: int,
        ranks: Ranks = Ranks(),
    ) -> None:
        self.model, self.config, self.description, self.out_dir = model, config, description, out_dir
        self.optimization, self.epochs, self.save_every = optimization, epochs, save_every
        self.ranks = ranks
        self.log: TrainingLog | None = None
        self.device = next(model.parameters()).device
        self.checkpoints = RunCheckpoints(out_dir, self.kind)
        self._steps = 0
        self._last_saved = "no checkpoint has been written yet"

    @abstractmethod
    def _begin_epoch(self) -> Epoch[Batch]:
        """Return what is left of the epoch under way."""

    @abstractmethod
    def _gradients(self, batch: Batch) -> tuple[Sums, Tensor]:
        """Compute the gradients of a batch; return its sums, and the gradients' norm before clipping."""

    @abstractmethod
    def _evaluate(self) -> Sums:
        """Evaluate the model on the held-out set."""

    @abstractmethod
    def _size(self, batch: Batch) -> int:
        """Return the frames or tokens of a batch."""

    @abstractmethod
    def _memory(self, batch: Batch) -> str:
        """Describe a batch that does not fit in memory, and what to lower."""

    @abstractmethod
    def _place(self, batch: Batch) -> str:
        """Tell where a step was not finite."""

    @abstractmethod
    def describe(self, figures: Figures) -> str:
        """Return figures of one or both sets as text."""

    @abstractmethod
    def _own_state(self, random_states: list[dict[str, Tensor]]) -> Checkpoint:
        """Return what else a resumed run needs; ``random_states`` are those of all ranks."""

    @abstractmethod
    def _restore_own_state(self, state: Checkpoint) -> None:
        """Continue from what :meth:`_own_state` returned."""

    def run(self) -> None:
        """Train to the last epoch.

        Raises:
            DivergedError: loss or gradient is not finite several times in a row, or an evaluation is not.
            ValueError: data cannot be read any more, or memory or the disk is full; the message names the
                checkpoint to continue from.
        """
        start = time.perf_counter()
        self._show()  # a kill may have come between a checkpoint and the metrics
        while self.progress.epoch <= self.epochs:
            with self._naming_checkpoint():
                self._run_epoch()
                figures = self._end_epoch()
            self._say(f"epoch {figures['epoch']}/{self.epochs}: {self.describe(figures)}")
        if self._steps:
            self._say(self._final_summary(time.perf_counter() - start))

    def _run_epoch(self) -> None:
        epoch = self._begin_epoch()
        self.model.train()
        with tqdm(
            total=epoch.size,
            initial=epoch.done,
            desc=f"{self.out_dir.name} epoch {self.progress.epoch}/{self.epochs}",
            unit=self.unit,
            unit_scale=True,
            disable=not self.ranks.is_first,
        ) as bar:
            for batch in epoch.batches:
                self.step(batch)
                self.progress = replace(self.progress, next_batch=self.progress.next_batch + 1)
                bar.update(self._size(batch))
                if self.progress.sums.count:
                    bar.set_postfix_str(self.describe(self.progress.sums.figures("train")), refresh=False)
                done = self.progress.next_batch
                if done % self.save_every == 0 and done < epoch.num_batches:
                    self._save()

    def step(self, batch: Batch) -> None:
        """Take a step, or undo it where loss or gradient is not finite."""
        statistics = StatisticsCopy(self.model)
        with explain_out_of_memory(self._memory(batch)):
            sums, norm = self._gradients(batch)
            outcome = self.optimization.step(sums.cross_entropy, norm.item())
        self._steps += 1
        if outcome == "taken":
            self._count(sums)
        else:
            statistics.restore()
            self._count_skipped(outcome, batch)

    def _count(self, sums: Sums) -> None:
        self.progress = replace(self.progress, sums=self.progress.sums + sums, non_finite_steps=0)

    def _count_skipped(self, outcome: Outcome, batch: Batch) -> None:
        if outcome == "scale lowered":
            return
        self.progress = replace(self.progress, non_finite_steps=self.progress.non_finite_steps + 1)
        if self.progress.non_finite_steps >= MAX_NON_FINITE:
            raise DivergedError(
                f"{self.out_dir}: loss or gradient was not finite in {MAX_NON_FINITE} steps in a row, "
                f"the last one {self._place(batch)}; {_ADVICE}"
            )

    def _end_epoch(self) -> Figures:
        figures = self._figures()
        self.progress = self.progress.after_epoch(figures)
        self.optimization.end_epoch(figures[self.progress.criterion])
        if self.progress.best_epoch == figures["epoch"]:
            self._save(best=True)
        self._save()
        self._show()
        return figures

    def _figures(self) -> Figures:
        epoch, sums = self.progress.epoch, self.progress.sums
        if not sums.count:
            raise DivergedError(f"{self.out_dir}: no step of epoch {epoch} had a finite gradient")
        figures = {"epoch": epoch, **sums.figures("train"), **self._evaluate().figures(self.held_out)}
        cross_entropy = figures[self.progress.criterion]
        if not math.isfinite(cross_entropy):  # such an epoch can be no best one
            raise DivergedError(
                f"{self.out_dir}: after epoch {epoch} the cross entropy on the development set is "
                f"{cross_entropy}; {_ADVICE}"
            )
        return figures

    def _show(self) -> None:
        history = self.progress.history
        if not history or not self.ranks.is_first:
            return
        write_text(self.out_dir / "metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in history))
        if self.log is not None:
            self.log.epochs(history)

    def _say(self, text: str) -> None:
        if self.ranks.is_first:
            tqdm.write(text, file=sys.stderr)

    def _final_summary(self, seconds: float) -> str:
        history, best = self.progress.history, self.progress.best_epoch
        minutes, rest = divmod(round(seconds), 60)
        return (
            f"{self.out_dir}: {len(history)} epochs are trained ({self._steps} steps in "
            f"{minutes // 60}:{minutes % 60:02d}:{rest:02d} this time); the best is epoch {best}: "
            f"{self.describe(history[best - 1])}"
        )

    @contextmanager
    def _naming_checkpoint(self) -> Iterator[None]:
        """Add to an error from which checkpoint the run can be continued."""
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
            save = self.checkpoints.save_best if best else self.checkpoints.save_last
            save(self._state(random_states))
        if not best:
            self._last_saved = self._standing("last.pt")

    def _state(self, random_states: list[dict[str, Tensor]]) -> Checkpoint:
        state: Checkpoint = {
            "config": self.config.to_dict(),
            "description": self.description,
            "version": {"asr_bn": __version__, "torch": str(torch.__version__)},
            "model": self.model.state_dict(),
            "progress": self.progress.to_dict(),
            "random_state": random_states[0],
        }
        return state | self.optimization.state_dict() | self._own_state(random_states)

    def _standing(self, name: str) -> str:
        progress = self.progress
        return (
            f"{self.out_dir / name} has the run up to {progress.batch} {progress.next_batch} of epoch "
            f"{progress.epoch}: {self.continued_by} continues from there"
        )

    def resume(self) -> None:
        """Continue from the latest whole checkpoint of ``out_dir``; report damaged ones that are passed over.

        Raises:
            ValueError: all are damaged, or they are of another configuration or of other data.
        """
        path, state, damages = self.checkpoints.load()
        config = type(self.config).from_dict(state["config"])  # options that it lacks had their defaults
        saved = {**config.to_dict(), "data": state["description"]}
        refuse_other_run(path, saved, {**self.config.to_dict(), "data": self.description})
        self.model.load_state_dict(state["model"])
        self.optimization.load_state_dict(state)
        self.progress = type(self.progress).from_dict(state["progress"])
        self._restore_own_state(state)
        random_states = [state["random_state"], *state.get("random_states_of_other_ranks", [])]
        if self.ranks.rank < len(random_states):
            set_random_state(random_states[self.ranks.rank], self.device)
        self._last_saved = self._standing(path.name)
        for damage in damages:
            self._say(f"{damage}; continuing from {path} (epoch {self.progress.epoch}) instead")
