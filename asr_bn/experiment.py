"""An experiment's configuration: one TOML file, checked when it is read; unknown keys are refused."""

import dataclasses
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
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


@dataclass(frozen=True, config=_STRICT)
class ExperimentConfig:
    """``[model]`` and ``[training]`` of a TOML file."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)

    @classmethod
    def read(cls, path: Path) -> "ExperimentConfig":
        """Read a TOML file.

        Raises:
            ValueError: not TOML, an unknown key, or a value out of its range (file, key and value named).
        """
        try:
            return cls.from_dict(tomllib.loads(path.read_text(encoding="utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "ExperimentConfig":
        """Check ``values`` and fill in defaults; ``ValueError`` names the first key that does not fit."""
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ValueError(f"{key} = {first['input']!r}: {first['msg']}") from None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they go into checkpoints and models."""
        return dataclasses.asdict(self)

    def replace(self, section: Literal["model", "training"], **values: Any) -> "ExperimentConfig":
        """A copy with some values of a section replaced, checked anew."""
        merged = self.to_dict()
        merged[section].update(values)
        return self.from_dict(merged)
