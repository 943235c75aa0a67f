"""Training of a language model: truncated backpropagation that survives being stopped at any moment."""

import json
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from asr_bn import __version__
from asr_bn.language_model.evaluation import TokenSums, evaluate
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.windows import TextWindows, Window
from asr_bn.layers.population import StatisticsCopy
from asr_bn.layers.recurrence.steps import State
from asr_bn.system.files import write_text
from asr_bn.training.checkpoint import LANGUAGE_MODEL
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
    """Where a run stands; with the checkpoint's tensors it is all that a resumed run needs."""

    epoch: int = 1
    next_window: int = 0
    sums: TokenSums = field(default_factory=TokenSums)
    history: list[dict[str, float]] = field(default_factory=list)
    non_finite_steps: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch of the lowest validation cross entropy so far."""
        return best_epoch(self.history, "valid_nats")


class Trainer:
    """Trains one model; its state lives in ``out_dir`` (see ``RunCheckpoints``) beside ``metrics.jsonl``.

    Args:
        model: on the device it is to be trained on.
        experiment: the configuration.
        train, valid: what to train on, and to evaluate after every epoch.
        out_dir: where the checkpoints go.
        description: what the checkpoint says of the texts, for the later steps.
    """

    def __init__(
        self,
        model: LanguageModel,
        experiment: LanguageModelExperiment,
        train: TextWindows,
        valid: TextWindows,
        out_dir: Path,
        description: dict[str, Any],
    ) -> None:
        self.model, self.experiment, self.train, self.valid = model, experiment, train, valid
        self.out_dir, self.description, self.device = out_dir, description, model.device
        self.progress = Progress()
        self.checkpoints = RunCheckpoints(out_dir, LANGUAGE_MODEL)
        self.state: State | None = None
        training = experiment.training
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=training.learning_rate, momentum=training.momentum
        )

    def run(self) -> Progress:
        """Train to the last epoch and return the history.

        Raises:
            DivergedError: loss or gradient was not finite several times in a row.
        """
        epochs = self.experiment.training.epochs
        if self.progress.history:
            self._write_metrics()  # a kill may have come between the checkpoint and them
        while self.progress.epoch <= epochs:
            self._run_epoch()
            tqdm.write(_summary(self._end_epoch(), epochs, self.out_dir.name), file=sys.stderr)
        return self.progress

    def _run_epoch(self) -> None:
        training, progress = self.experiment.training, self.progress
        for group in self.optimizer.param_groups:
            group["lr"] = training.learning_rate_of(progress.epoch)
        self.model.train()
        title = f"{self.out_dir.name} epoch {progress.epoch}/{training.epochs}"
        done = progress.next_window * training.num_steps * training.batch_size
        with tqdm(
            total=self.train.num_tokens, initial=done, desc=title, unit="token", unit_scale=True
        ) as bar:
            for window in self.train.windows(progress.next_window):
                self._step(window.to(self.device))
                progress.next_window += 1
                if progress.sums.tokens:
                    bar.set_postfix(perplexity=f"{progress.sums.perplexity:.1f}", refresh=False)
                bar.update(len(window.tokens))
                if progress.next_window % training.checkpoint_windows == 0:
                    self.checkpoints.save_last(self._run_state())

    def _step(self, window: Window) -> None:
        training, sums, statistics = self.experiment.training, TokenSums(), StatisticsCopy(self.model)
        first = self.state if training.carry_state else None
        logits, state = self.model(window.tokens, window.batch_sizes, first)
        cross_entropy = sums.add(logits, window.targets)
        averaged_over = window.batch_sizes[0].item() if training.loss == "sequence_sum" else sums.tokens
        self.optimizer.zero_grad(set_to_none=True)
        (cross_entropy / averaged_over).backward()
        limit = float("inf") if training.max_grad_norm is None else training.max_grad_norm
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), limit)
        if not torch.isfinite(norm):
            statistics.restore()
            self._count_non_finite()
            return
        self.optimizer.step()
        self.state = tuple(values.detach() for values in state)
        self.progress.sums.cross_entropy += sums.cross_entropy
        self.progress.sums.tokens += sums.tokens
        self.progress.non_finite_steps = 0

    def _count_non_finite(self) -> None:
        progress = self.progress
        progress.non_finite_steps += 1
        self.state = None  # it may be what was not finite
        if progress.non_finite_steps >= MAX_NON_FINITE:
            raise DivergedError(
                f"{self.out_dir}: loss or gradient was not finite in {MAX_NON_FINITE} steps in a row, the "
                f"last one at window {progress.next_window + 1} of epoch {progress.epoch}; a lower "
                f"learning_rate may help"
            )

    def _end_epoch(self) -> dict[str, float]:
        progress, sums = self.progress, self.progress.sums
        if not sums.tokens:
            raise DivergedError(f"{self.out_dir}: no step of epoch {progress.epoch} had a finite gradient")
        valid = evaluate(self.model, self.valid.windows(), self.experiment.training.carry_state)
        check_evaluation(valid.nats, self.out_dir, progress.epoch)
        figures = {"epoch": progress.epoch, "train_nats": sums.nats, "train_perplexity": sums.perplexity}
        figures |= {"valid_nats": valid.nats, "valid_perplexity": valid.perplexity}
        progress.history.append(figures)
        progress.epoch, progress.next_window, progress.sums = progress.epoch + 1, 0, TokenSums()
        self.state = None
        if progress.best_epoch == figures["epoch"]:
            self.checkpoints.save_best(self._run_state())
        self.checkpoints.save_last(self._run_state())
        self._write_metrics()
        return figures

    def _write_metrics(self) -> None:
        lines = (json.dumps(entry) + "\n" for entry in self.progress.history)
        write_text(self.out_dir / "metrics.jsonl", "".join(lines))

    def _run_state(self) -> dict[str, Any]:
        return {
            "config": self.experiment.to_dict(),
            "description": self.description,
            "version": {"asr_bn": __version__, "torch": str(torch.__version__)},
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "progress": asdict(self.progress),
            "recurrent_state": self.state,
            "random_state": random_state(self.device),
        }

    def resume(self) -> None:
        """Continue from the latest whole checkpoint of ``out_dir``; a damaged one is told and passed over.

        Raises:
            ValueError: all are damaged, or they are of another configuration or text.
        """
        path, saved, damages = self.checkpoints.load()
        for damage in damages:
            tqdm.write(f"{damage}; continuing from {path} instead", file=sys.stderr)
        ours = {**self.experiment.to_dict(), "data": self.description}
        check_same(path, {**saved["config"], "data": saved["description"]}, ours)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        progress = dict(saved["progress"])
        self.progress = Progress(**progress | {"sums": TokenSums(**progress["sums"])})
        state = saved["recurrent_state"]
        self.state = None if state is None else tuple(values.to(self.device) for values in state)
        set_random_state(saved["random_state"], self.device)


def _summary(figures: dict[str, float], epochs: int, name: str) -> str:
    return (
        f"{name} epoch {figures['epoch']}/{epochs}: perplexity "
        f"{figures['train_perplexity']:.1f} train, {figures['valid_perplexity']:.1f} valid"
    )
