"""Training of a language model by truncated backpropagation: what a step, an epoch and a checkpoint are."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from asr_bn.language_model.data import Texts
from asr_bn.language_model.evaluation import TokenSums, evaluate
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.windows import Window
from asr_bn.layers.recurrence.steps import State
from asr_bn.training.checkpoint import LANGUAGE_MODEL, Checkpoint
from asr_bn.training.optimization import Optimization, Outcome
from asr_bn.training.progress import Figures, Sums
from asr_bn.training.progress import Progress as RunProgress
from asr_bn.training.run_loop import Epoch, RunLoop


@dataclass(frozen=True)
class Progress(RunProgress):
    """Where a run stands."""

    batch: ClassVar[str] = "window"
    criterion: ClassVar[str] = "valid_nats"

    kind_of_sums: ClassVar[type[Sums]] = TokenSums
    sums: Sums = TokenSums()


class Trainer(RunLoop[LanguageModel, LanguageModelExperiment, Window]):
    """Trains a language model.

    Args:
        model, config, out_dir: as in :class:`RunLoop`.
        texts: to train on, and to evaluate after every epoch.

    Attributes:
        state: of the layers, in which the next window of the epoch starts; None starts from zeros.
    """

    kind, held_out, unit, continued_by = LANGUAGE_MODEL, "valid", "token", "the same command"

    def __init__(
        self, model: LanguageModel, config: LanguageModelExperiment, texts: Texts, out_dir: Path
    ) -> None:
        training = config.training
        optimizer = torch.optim.SGD(model.parameters(), lr=training.learning_rate, momentum=training.momentum)
        optimization = Optimization(optimizer, model.device, training.max_grad_norm)
        length = training.epochs, training.checkpoint_windows
        super().__init__(model, config, asdict(texts.description), out_dir, optimization, *length)
        self.train, self.valid = texts.windows("train", training), texts.windows("valid", training)
        self.progress = Progress()
        self.state: State | None = None

    def _begin_epoch(self) -> Epoch[Window]:
        training, next_window = self.config.training, self.progress.next_batch
        self.optimization.learning_rate = training.learning_rate_of(self.progress.epoch)
        done = next_window * training.num_steps * training.batch_size
        return Epoch(self.train.windows(next_window), len(self.train), self.train.num_tokens, done)

    def _size(self, batch: Window) -> int:
        return len(batch.tokens)

    def _memory(self, batch: Window) -> str:
        return (
            f"a window of {len(batch.batch_sizes)} steps of {int(batch.batch_sizes[0])} streams: "
            "lower [training] batch_size or num_steps"
        )

    def _gradients(self, batch: Window) -> tuple[TokenSums, Tensor]:
        training, window = self.config.training, batch.to(self.device)
        first = self.state if training.carry_state else None
        logits, state = self.model(window.tokens, window.batch_sizes, first)
        cross_entropy = torch.nn.functional.cross_entropy(logits, window.targets, reduction="sum")
        sums = TokenSums(cross_entropy.item(), len(window.targets))
        averaged_over = window.batch_sizes[0].item() if training.loss == "sequence_sum" else sums.tokens
        self.state = tuple(values.detach() for values in state)
        return sums, self.optimization.backward(cross_entropy / averaged_over)

    def _count_skipped(self, outcome: Outcome, batch: Window) -> None:
        self.state = None  # it may be what was not finite
        super()._count_skipped(outcome, batch)

    def _place(self, batch: Window) -> str:
        return f"at window {self.progress.next_batch + 1} of epoch {self.progress.epoch}"

    def _evaluate(self) -> TokenSums:
        self.state = None  # the next epoch starts from zeros
        return evaluate(self.model, self.valid.windows(), self.config.training.carry_state)

    def describe(self, figures: Figures) -> str:
        """Return perplexities as text."""
        named = {name: figures.get(f"{name}_perplexity") for name in ("train", "valid")}
        return "perplexity " + ", ".join(f"{value:.1f} {name}" for name, value in named.items() if value)

    def _own_state(self, random_states: list[dict[str, Tensor]]) -> Checkpoint:
        return {"recurrent_state": self.state}

    def _restore_own_state(self, state: Checkpoint) -> None:
        first = state["recurrent_state"]
        self.state = None if first is None else tuple(values.to(self.device) for values in first)
