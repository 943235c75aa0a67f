"""A language model's configuration: one TOML file, checked when it is read; unknown keys are refused."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from asr_bn.toml_config import STRICT, TomlConfig


@dataclass(frozen=True, config=STRICT)
class LanguageModelConfig:
    """Look-up table, stacked recurrent layers, softmax.

    ``norm``: ``"none"``; ``"frame"`` normalizes ``W_x x`` with statistics of its own at every time step of
    the window (eqs. 18 and 19); ``"recurrent"`` normalizes inside the recurrence (eq. 17).
    ``dropout``: below, between and above the recurrent layers (Zaremba et al. 2014).
    ``init``: ``"uniform"`` draws everything but gamma from ``+-init_range``, beta as the bias whose place it
    takes; ``"glorot"`` takes a standard normal for the look-up table, Glorot's scheme for the matrices, zero
    for biases and beta.
    """

    cell: Literal["lstm", "tanh"] = "lstm"
    norm: Literal["none", "frame", "recurrent"] = "frame"
    num_layers: int = Field(default=2, ge=1)
    hidden_size: int = Field(default=200, ge=1)  # the look-up table's too
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    init: Literal["uniform", "glorot"] = "uniform"
    init_range: float = Field(default=0.1, gt=0.0)
    initial_gamma: float = Field(default=1.0, gt=0.0)
    eps: float = Field(default=1e-5, gt=0.0)  # eq. 3
    stats_momentum: float = Field(default=0.01, gt=0.0, le=1.0)  # running statistics during training


@dataclass(frozen=True, config=STRICT)
class LanguageModelTraining:
    """Stochastic gradient descent.

    ``loss``: ``"sequence_sum"`` sums the cross entropy over a window's steps and averages over the streams,
    as the paper's learning rate of 1 wants it; ``"token_mean"`` averages over all tokens of the window.
    The learning rate is divided by ``decay`` at every epoch after number ``decay_after``.
    """

    unit: Literal["word", "character"] = "word"
    epochs: int = Field(default=15, ge=1)
    batch_size: int = Field(default=32, ge=1)  # streams
    num_steps: int = Field(default=20, ge=1)  # time steps backpropagated through
    carry_state: bool = True  # from window to window
    learning_rate: float = Field(default=1.0, gt=0.0)
    momentum: float = Field(default=0.0, ge=0.0, lt=1.0)
    loss: Literal["sequence_sum", "token_mean"] = "sequence_sum"
    max_grad_norm: float | None = Field(default=None, gt=0.0)
    decay: float = Field(default=2.0, ge=1.0)
    decay_after: int = Field(default=6, ge=0)
    checkpoint_windows: int = Field(default=500, ge=1)  # steps between checkpoints inside an epoch
    seed: int = Field(default=1, ge=0)

    def learning_rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 1."""
        return self.learning_rate / self.decay ** max(0, epoch - self.decay_after)


@dataclass(frozen=True, config=STRICT)
class LanguageModelExperiment(TomlConfig):
    """``[model]`` and ``[training]`` of a TOML file."""

    model: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    training: LanguageModelTraining = Field(default_factory=LanguageModelTraining)
