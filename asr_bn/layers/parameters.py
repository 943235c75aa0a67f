"""Arguments and parameters of ``BatchNormLSTM`` and ``BatchNormRNN``."""

import inspect
import math
from typing import Literal

import torch
from torch import Tensor, nn

from asr_bn.layers.arguments import check_arguments
from asr_bn.layers.frame_norm import FrameNorm
from asr_bn.layers.norm import NoNorm, Norm
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence.cells import Backend, Cell
from asr_bn.layers.recurrent_norm import RecurrentNorm
from asr_bn.layers.sequence_norm import SequenceNorm

NormName = Literal["sequence", "frame", "recurrent"]
NORMS: dict[str | None, type[Norm]] = {
    None: NoNorm,
    "sequence": SequenceNorm,
    "frame": FrameNorm,
    "recurrent": RecurrentNorm,
}


class RecurrentParameters(nn.Module):
    """The parameters of stacked layers; see :class:`asr_bn.BatchNormLSTM` for the arguments."""

    cell: Cell
    proj_size = 0  # as nn.LSTM has it

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: NormName | None = None,
        peephole: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        initial_gamma: float = 1.0,
        max_steps: int = 200,
        sync: bool = True,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        sizes = {"input_size": input_size, "hidden_size": hidden_size, "num_layers": num_layers}
        shares = {"dropout": dropout} | ({} if momentum is None else {"momentum": momentum})
        check_arguments(sizes | {"max_steps": max_steps}, shares, eps, proj_size, backend)
        if norm not in NORMS:
            raise ValueError(f"norm is {norm!r}, expected one of {tuple(NORMS)}")
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.norm, self.peephole = bidirectional, norm, peephole
        self.eps, self.momentum, self.initial_gamma = eps, momentum, initial_gamma
        self.max_steps, self.sync, self.backend = max_steps, sync, backend
        self.normalization = NORMS[norm]()
        for layer in range(num_layers):
            for suffix in self.suffixes(layer):
                self._add_parameters(layer, suffix, device, dtype)
        self.reset_parameters()

    @property
    def momentum(self) -> float | None:
        """Weight of a new mini-batch in the running statistics; setting it sets that of all statistics."""
        return self._momentum

    @momentum.setter
    def momentum(self, value: float | None) -> None:
        self._momentum = value
        for stats in self.population_stats():
            stats.momentum = value

    def population_stats(self) -> list[PopulationStats]:
        """Return the statistics of all layers and directions, none without a norm."""
        return [module for module in self.children() if isinstance(module, PopulationStats)]

    @property
    def num_directions(self) -> int:
        """2 when bidirectional, otherwise 1."""
        return 2 if self.bidirectional else 1

    def suffixes(self, layer: int) -> list[str]:
        """Return how the parameters of each direction of a layer end, as in ``nn.LSTM``."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def stacked(self, name: str, layer: int) -> Tensor:
        """Return a parameter of both directions of a layer, ``[directions, ...]``."""
        return torch.stack([getattr(self, name + suffix) for suffix in self.suffixes(layer)])

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The weights of each layer and direction, as ``nn.LSTM`` lists them."""
        return [
            [getattr(self, name + suffix) for name in self._shapes(layer)]
            for layer in range(self.num_layers)
            for suffix in self.suffixes(layer)
        ]

    def flatten_parameters(self) -> None:
        """Do nothing: there is no flat copy of the weights to renew."""

    def _shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """Return names, without the suffix, and shapes of a layer's parameters."""
        hidden, width = self.hidden_size, self.cell.num_gates * self.hidden_size
        inputs = self.input_size if layer == 0 else hidden * self.num_directions
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, hidden)}
        if self.norm is not None:
            shapes |= {"gamma": (width,), "beta": (width,)}
        elif self.bias:
            shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
        return shapes | ({"weight_peephole": (hidden,)} if self.peephole else {})

    def _add_parameters(
        self, layer: int, suffix: str, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        shapes = self._shapes(layer)
        for name, shape in shapes.items():
            values = torch.empty(shape, device=device, dtype=dtype)
            self.register_parameter(name + suffix, nn.Parameter(values))
        if num_steps := self.normalization.num_steps(self.max_steps):
            stats = PopulationStats(shapes["gamma"][0], self.momentum, num_steps, device)
            self.add_module("stats" + suffix, stats)

    def reset_parameters(self) -> None:
        """Draw from ``+-1/sqrt(hidden_size)`` as ``nn.LSTM``; ``beta`` is 0, and statistics are forgotten."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if name.removeprefix("parametrizations.").startswith("gamma"):
                nn.init.constant_(parameter, self.initial_gamma)
            elif name.removeprefix("parametrizations.").startswith("beta"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)
        for stats in self.population_stats():
            stats.reset()

    def extra_repr(self) -> str:
        """Return the sizes, the norm, and the other arguments that are not defaults."""
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, norm={self.norm!r}"
        for name, argument in list(inspect.signature(RecurrentParameters).parameters.items())[3:]:
            value = getattr(self, name, argument.default)
            if name != "norm" and value != argument.default:
                text += f", {name}={value!r}"
        return text
