"""A language model's configuration: one TOML file, checked when it is read; unknown keys are refused."""

import math
from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from asr_bn.system.toml_config import STRICT, Count, Number, Positive, Seed, Share, Size, TomlConfig, Weight


@dataclass(frozen=True, config=STRICT)
class LanguageModelConfig:
    """Look-up table, stacked recurrent layers, softmax.

    ``norm``: ``"none"``; ``"frame"`` normalizes ``W_x x`` with statistics of its own at every time step of
    the window (eqs. 18 and 19); ``"recurrent"`` normalizes inside the recurrence (eq. 17).
    ``dropout``: below, between and above the recurrent layers (Zaremba et al. 2014).
    ``init``: ``"uniform"`` draws everything but gamma from ``+-init_range``, beta as the bias whose place it
    takes.  ``"glorot"`` takes a standard normal for the look-up table, Glorot's scheme for the matrices, zero
    for biases and beta.
    """

    cell: Literal["lstm", "tanh"] = "lstm"
    norm: Literal["none", "frame", "recurrent"] = "frame"
    num_layers: int = Field(default=2, strict=True, ge=1, le=1000)
    hidden_size: Size = 200  # the look-up table's too
    dropout: Share = 0.0
    init: Literal["uniform", "glorot"] = "uniform"
    init_range: Positive = 0.1
    initial_gamma: Positive = 1.0
    eps: Positive = 1e-5  # eq. 3
    stats_momentum: Weight = 0.01  # running statistics during training


@dataclass(frozen=True, config=STRICT)
class LanguageModelTraining:
    """Stochastic gradient descent.

    ``loss``: ``"sequence_sum"`` sums the cross entropy over a window's steps and averages over the streams,
    as the paper's learning rate of 1 wants it.  ``"token_mean"`` averages over all tokens of the window.
    The learning rate is divided by ``decay`` at every epoch after number ``decay_after``.
    """

    unit: Literal["word", "character"] = "word"
    epochs: Count = 15
    batch_size: Size = 32  # streams
    num_steps: Size = 20  # time steps backpropagated through
    carry_state: bool = True  # from window to window
    learning_rate: Positive = 1.0
    momentum: Share = 0.0
    loss: Literal["sequence_sum", "token_mean"] = "sequence_sum"
    max_grad_norm: Positive | None = None
    decay: float = Field(default=2.0, strict=True, ge=1.0, le=1e38)
    decay_after: Number = 6
    checkpoint_windows: Count = 500  # steps between checkpoints inside an epoch
    seed: Seed = 1

    def learning_rate_of(self, epoch: int) -> float:
        """Return the learning rate of an epoch, counted from 1."""
        exponent = max(0, epoch - self.decay_after)
        if exponent * math.log2(self.decay) > 1000.0:
            return 0.0  # the divisor would be no double any more
        return self.learning_rate / self.decay**exponent


@dataclass(frozen=True, config=STRICT)
class LanguageModelExperiment(TomlConfig):
    """``[model]`` and ``[training]`` of a TOML file."""

    model: LanguageModelConfig = Field(default_factory=LanguageModelConfig)
    training: LanguageModelTraining = Field(default_factory=LanguageModelTraining)
