"""Where a training run stands: all that a resumed run needs beside the tensors of its checkpoint."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, astuple, dataclass, replace
from typing import ClassVar, Self

from asr_bn.training.checkpoint import Values

Figures = dict[str, float]  # of an epoch, by name


@dataclass(frozen=True)
class Sums(ABC):
    """Sums over frames or tokens, from which averages are taken last."""

    cross_entropy: float = 0.0

    def __add__(self, other: Self) -> Self:
        return type(self)(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    @property
    @abstractmethod
    def count(self) -> int:
        """Frames or tokens."""

    @abstractmethod
    def figures(self, name: str) -> Figures:
        """Return the averages, their names prefixed with ``name`` (of the set) and ``_``."""


@dataclass(frozen=True)
class Progress(ABC):
    """Where a run stands.

    Attributes:
        sums: over the steps of the epoch that were taken.
        epoch: under way, from 1.
        next_batch: the batches of the epoch before this one are done.
        history: figures of the finished epochs.
        non_finite_steps: up to now, in a row.
    """

    batch: ClassVar[str]  # what a step is taken on; checkpoints hold ``next_batch`` as ``next_<batch>``
    kind_of_sums: ClassVar[type[Sums]]
    criterion: ClassVar[str]  # the figure that is lowest at the best epoch

    sums: Sums
    epoch: int = 1
    next_batch: int = 0
    history: tuple[Figures, ...] = ()
    non_finite_steps: int = 0

    @property
    def best_epoch(self) -> int:
        """The epoch whose criterion is lowest."""
        return best_epoch(self.history, self.criterion)

    def after_epoch(self, figures: Figures) -> Self:
        """Return the progress at the start of the next epoch."""
        history = (*self.history, figures)
        return replace(self, epoch=self.epoch + 1, next_batch=0, sums=type(self.sums)(), history=history)

    def to_dict(self) -> dict[str, object]:
        """Return plain values for a checkpoint."""
        values = {
            name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()
        }
        return {f"next_{self.batch}": values.pop("next_batch"), **values}

    @classmethod
    def from_dict(cls, saved: Mapping[str, object]) -> Self:
        """Return the progress of a checkpoint."""
        values: Values = {name: tuple(v) if isinstance(v, list) else v for name, v in saved.items()}
        values["next_batch"] = values.pop(f"next_{cls.batch}")
        return cls(**values | {"sums": cls.kind_of_sums(**values["sums"])})


def best_epoch(history: Iterable[Figures], key: str) -> int:
    """Return the epoch whose ``key`` is lowest; NaN never is.

    Raises:
        ValueError: no epoch has a number there.
    """
    numbers = [figures for figures in history if not math.isnan(figures[key])]
    if not numbers:
        raise ValueError(f"{key} is not a number after any epoch: there is no best one")
    return int(min(numbers, key=lambda figures: figures[key])["epoch"])
