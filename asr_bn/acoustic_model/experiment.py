"""An experiment's configuration: one TOML file, checked when it is read; unknown keys are refused."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from asr_bn.system.toml_config import STRICT, Count, Number, Positive, Seed, Share, Size, TomlConfig, Weight


@dataclass(frozen=True, config=STRICT)
class ModelConfig:
    """The acoustic model: stacked bidirectional LSTM layers below a softmax (paper, section 5.1)."""

    norm: Literal["none", "sequence"] = "sequence"
    num_layers: int = Field(default=5, strict=True, ge=1, le=1000)
    hidden_size: Size = 250  # per direction
    peephole: bool = False  # eq. 15; not available in cuDNN's LSTM
    dropout: Share = 0.0
    delta_order: int = Field(default=2, strict=True, ge=0, le=9)  # 2: deltas and delta-deltas
    eps: Positive = 1e-5  # eq. 3
    stats_momentum: Weight = 0.05  # running statistics during training


@dataclass(frozen=True, config=STRICT)
class TrainingConfig:
    """Stochastic gradient descent on framewise cross entropy.

    ``loss``: ``"sequence_sum"`` sums over frames and averages over utterances, the convention that goes
    with the paper's learning rate; ``"frame_mean"`` averages over all frames of the mini-batch.

    ``batch_frames``: a mini-batch is as many utterances of like length as fit in so many padded frames;
    where it is set, ``batch_size`` has no meaning.

    ``precision``: ``"tf32"`` rounds the factors of float32 products to 10 bits on a GPU.  ``"bfloat16"`` and
    ``"float16"`` are autocast (float16 with a scaled loss).  Statistics are float32 in all of them.

    ``schedule`` of the learning rate, by the development set's cross entropy after every epoch.  With
    ``"newbob"`` it is multiplied by ``schedule_factor`` from the first epoch on that improves by less than
    the share ``schedule_threshold``.  With ``"plateau"`` it is so each time that ``schedule_patience`` epochs
    and one more have gone by without such an improvement on the best one.
    """

    epochs: Count = 30
    batch_size: Size = 24  # utterances
    learning_rate: Positive = 1e-4
    momentum: Share = 0.9
    loss: Literal["sequence_sum", "frame_mean"] = "sequence_sum"
    max_frames: Count | None = 1300  # longer utterances are not trained on
    max_grad_norm: Positive | None = None
    checkpoint_batches: Count = 500  # steps between checkpoints inside an epoch
    seed: Seed = 1
    batch_frames: Count | None = None  # padded
    optimizer: Literal["sgd", "adam"] = "sgd"  # momentum is sgd's
    schedule: Literal["constant", "newbob", "plateau"] = "constant"
    schedule_factor: float = Field(default=0.5, strict=True, gt=0.0, lt=1.0)
    schedule_threshold: Share = 0.01
    schedule_patience: Number = 0  # epochs, of "plateau"
    precision: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"


@dataclass(frozen=True, config=STRICT)
class ExperimentConfig(TomlConfig):
    """``[model]`` and ``[training]`` of a TOML file."""

    model: ModelConfig = Field(default_factory=ModelConfig)
    training: TrainingConfig = Field(default_factory=TrainingConfig)
