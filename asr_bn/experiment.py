"""An experiment's configuration: one TOML file, checked when it is read; unknown keys are refused."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from asr_bn.toml_config import STRICT, TomlConfig


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The acoustic model: stacked bidirectional LSTM layers below a softmax (paper, section 5.1)."""

    norm: Literal["none", "sequence"] = "sequence"
    num_layers: int = Field(default=5, ge=1)
    hidden_size: int = Field(default=250, ge=1)  # per direction
    peephole: bool = False  # eq. 15; not available in cuDNN's LSTM
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    delta_order: int = Field(default=2, ge=0)  # 2: deltas and delta-deltas
    eps: float = Field(default=1e-5, gt=0.0)  # eq. 3
    stats_momentum: float = Field(default=0.05, gt=0.0, le=1.0)  # running statistics during training


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Stochastic gradient descent on framewise cross entropy.

    ``loss``: ``"sequence_sum"`` sums over frames and averages over utterances, the convention that goes
    with the paper's learning rate; ``"frame_mean"`` averages over all frames of the mini-batch.
    """

    epochs: int = Field(default=30, ge=1)
    batch_size: int = Field(default=24, ge=1)  # utterances
    learning_rate: float = Field(default=1e-4, gt=0.0)
    momentum: float = Field(default=0.9, ge=0.0, lt=1.0)
    loss: Literal["sequence_sum", "frame_mean"] = "sequence_sum"
    max_frames: int | None = Field(default=1300, ge=1)  # longer utterances are not trained on
    max_grad_norm: float | None = Field(default=None, gt=0.0)
    checkpoint_batches: int = Field(default=500, ge=1)  # steps between checkpoints inside an epoch
    seed: int = Field(default=1, ge=0)


@dataclass(frozen=True, config=STRICT)
class ExperimentConfig(TomlConfig):
    """``[model]`` and ``[training]`` of a TOML file."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
