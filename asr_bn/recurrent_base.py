"""What ``BatchNormLSTM`` and ``BatchNormRNN`` share: parameters, states, normalization, stacking."""

import math
from typing import Literal, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from asr_bn import normalization
from asr_bn.population_stats import PopulationStats
from asr_bn.recurrence import reference
from asr_bn.recurrence.cells import Backend, Cell, Recurrent, State, StepNormInputs, has_triton, project
from asr_bn.recurrence.packed_ops import join_directions
from asr_bn.recurrence.packing import PackedLayout, pack
from asr_bn.recurrence.step_norm import StepNormOptions
from asr_bn.synchronization import is_distributed

Norm = Literal["sequence", "frame", "recurrent"] | None
NORMS = (None, "sequence", "frame", "recurrent")
BACKENDS = ("auto", "reference", "cpu", "cudnn", "triton")


class NormalizedRecurrent(nn.Module):
    """Stacked recurrent layers; see :class:`asr_bn.layers.BatchNormLSTM` for the arguments."""

    cell: Cell

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        norm: Norm = None,
        peephole: bool = False,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        initial_gamma: float = 1.0,
        sync: bool = True,
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(input_size, hidden_size, num_layers, dropout, norm, backend)
        self.cell = cell
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.norm, self.peephole = bidirectional, norm, peephole
        self.eps, self.momentum, self.initial_gamma = eps, momentum, initial_gamma
        self.sync, self.backend = sync, backend
        for layer in range(num_layers):
            for suffix in self.suffixes(layer):
                self._add_parameters(layer, suffix, device, dtype)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.bidirectional else 1

    def suffixes(self, layer: int) -> list[str]:
        """How the parameters of each direction of a layer end, as in ``nn.LSTM``."""
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def stacked(self, name: str, layer: int) -> Tensor:
        """A parameter of both directions of a layer, ``[directions, ...]``."""
        return torch.stack([getattr(self, name + suffix) for suffix in self.suffixes(layer)])

    def _add_parameters(
        self, layer: int, suffix: str, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        hidden, width = self.hidden_size, self.cell.gates * self.hidden_size
        inputs = self.input_size if layer == 0 else hidden * self.num_directions
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, hidden)}
        if self.norm is not None:
            shapes |= {"gamma": (width,), "beta": (width,)}
        elif self.bias:
            shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
        if self.peephole:
            shapes["weight_peephole"] = (hidden,)
        for name, shape in shapes.items():
            self.register_parameter(
                name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            )
        if self.norm is not None:
            self.add_module("stats" + suffix, PopulationStats(width, self.momentum).to(device))

    def reset_parameters(self) -> None:
        """Uniform in ``+-1/sqrt(hidden_size)`` as ``nn.LSTM``; ``gamma`` as asked for, ``beta`` 0."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if name.startswith("gamma"):
                nn.init.constant_(parameter, self.initial_gamma)
            elif name.startswith("beta"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    # Loops over time steps: a compiler would unroll them, for every new set of lengths.
    @torch.compiler.disable
    def run(
        self, input: PackedSequence | Tensor, hx: State | None, lengths: Tensor | None
    ) -> tuple[PackedSequence | Tensor, State]:
        """What ``forward`` of the layers does, with the states in a tuple."""
        if isinstance(input, PackedSequence):
            return self._run_packed(input, hx)
        if input.dim() == 2:
            return self._run_one(input, hx)
        frames = input.shape[1 if self.batch_first else 0]
        if input.dim() == 3 and input.shape[0 if self.batch_first else 1] == 0:
            return self._run_empty(input)
        output, state = self._run_packed(pack(input, lengths, self.batch_first), hx)
        padded, _ = pad_packed_sequence(output, self.batch_first, total_length=frames)
        return padded, state

    def _run_one(self, input: Tensor, hx: State | None) -> tuple[Tensor, State]:
        batch_dim = 0 if self.batch_first else 1
        hx = None if hx is None else tuple(values.unsqueeze(1) for values in hx)
        output, state = self.run(input.unsqueeze(batch_dim), hx, None)
        assert isinstance(output, Tensor)
        return output.squeeze(batch_dim), tuple(values.squeeze(1) for values in state)

    def _run_empty(self, input: Tensor) -> tuple[Tensor, State]:
        """A rank without a sequence: nothing to compute, but its share in the statistics of the others."""
        x = input.reshape(0, input.shape[2])
        layout = PackedLayout([], x.device)
        for layer in range(self.num_layers):
            taking_part = self._share_in_statistics(layer, x, layout) if self._synchronized else x.sum()
            for name, parameter in self.named_parameters():
                if name.endswith(tuple(self.suffixes(layer))):
                    taking_part = taking_part + parameter.sum()
            # Zero times the weights keeps every parameter, and the sums over the ranks, in the graph.
            x = input.new_zeros(0, self.num_directions * self.hidden_size) + 0.0 * taking_part
        output = x.view((*input.shape[:2], self.num_directions * self.hidden_size))
        state = input.new_zeros(self.num_layers * self.num_directions, 0, self.hidden_size)
        return output, (state,) * self.cell.num_states

    def _share_in_statistics(self, layer: int, x: Tensor, layout: PackedLayout) -> Tensor:
        """Take part in the sums over the ranks without a frame of one's own."""
        if self.norm == "recurrent":
            self._refuse_to_share()
        if self.norm == "frame":
            return self._normalized_projection(layer, x, layout).sum()
        weight, bias = self._input_weights(layer, x)
        return weight.sum() + bias.sum()

    def _run_packed(self, packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        x = packed.data
        if x.shape[1] != self.input_size:
            raise ValueError(f"the input has {x.shape[1]} features, expected input_size = {self.input_size}")
        layout = PackedLayout(packed.batch_sizes.tolist(), x.device)
        first = self._first_states(x, layout, hx, packed.sorted_indices)
        last: list[State] = []
        for layer in range(self.num_layers):
            rows = slice(layer * self.num_directions, (layer + 1) * self.num_directions)
            if layer > 0:
                x = nn.functional.dropout(x, self.dropout, self.training)
            x, state = self._run_layer(layer, x, tuple(values[rows] for values in first), layout)
            last.append(state)
        output = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        joined = tuple(torch.cat(values) for values in zip(*last, strict=True))
        if packed.unsorted_indices is not None:
            joined = tuple(values[:, packed.unsorted_indices] for values in joined)
        return output, joined

    def _first_states(
        self, x: Tensor, layout: PackedLayout, hx: State | None, sorted_indices: Tensor | None
    ) -> State:
        shape = (self.num_layers * self.num_directions, layout.batch_size, self.hidden_size)
        if hx is None:
            return (x.new_zeros(shape),) * self.cell.num_states
        for name, value in zip(("h_0", "c_0"), hx, strict=False):
            if value.shape != shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
        return hx if sorted_indices is None else tuple(values[:, sorted_indices] for values in hx)

    def _run_layer(self, layer: int, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        peephole = self.stacked("weight_peephole", layer) if self.peephole else None
        weights = Recurrent(self.stacked("weight_hh", layer), peephole)
        backend = self._chosen_backend(x)
        if self.norm == "recurrent":
            h, last = self._run_recurrent_norm(layer, x, weights, state, layout, backend)
        elif self.norm == "frame" or backend == "reference":
            z = self._projection(layer, x, layout)
            h, last, _ = self.cell.recurrence(z, weights, state, layout, backend)
        else:
            w_ih, bias = self._input_weights(layer, x)
            h, last = self.cell.layer(x, w_ih, bias, weights, state, layout, backend)
        return join_directions(h, layout), last

    def _chosen_backend(self, x: Tensor) -> str:
        if self.backend != "auto":
            return self.backend
        if not x.is_cuda:
            return "cpu"
        if not self.peephole and self.norm != "recurrent":
            return "cudnn"
        return "triton" if has_triton() else "cpu"

    def _statistics_of(self, layer: int) -> list[PopulationStats]:
        modules = [self.get_submodule("stats" + suffix) for suffix in self.suffixes(layer)]
        return [module for module in modules if isinstance(module, PopulationStats)]

    def _population(self, layer: int, num_steps: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Mean and variance of every direction, each ``[D, num_steps, G]``."""
        pairs = [stats.mean_and_variance(num_steps) for stats in self._statistics_of(layer)]
        mean, variance = (torch.stack(values).to(dtype) for values in zip(*pairs, strict=True))
        return mean, variance

    def _update(self, layer: int, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        for direction, stats in enumerate(self._statistics_of(layer)):
            stats.update(mean[direction], variance[direction], count)

    @property
    def _synchronized(self) -> bool:
        return self.sync and self.training and is_distributed()

    def _input_weights(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``[D, G, I]`` and bias ``[D, G]`` of the input projection, normalization folded in."""
        weight = self.stacked("weight_ih", layer)
        if self.norm is None:
            if self.bias:
                # The factor gives the second bias a gradient of its own: sharing one, both would change twice
                # where gradients are scaled or clipped in place.
                return weight, self.stacked("bias_ih", layer) + 1.0 * self.stacked("bias_hh", layer)
            return weight, weight.new_zeros(weight.shape[:2])
        gamma, beta = self.stacked("gamma", layer), self.stacked("beta", layer)
        with torch.autocast(x.device.type, enabled=False):  # statistics keep float32
            if self.training:
                mean, variance, count = normalization.projected_moments(x, weight, self._synchronized)
                self._update(layer, mean[:, None], variance[:, None], count)
            else:
                mean, variance = (values[:, 0] for values in self._population(layer, 1, weight.dtype))
            return normalization.fold(weight, gamma, beta, mean, variance, self.eps)

    def _projection(self, layer: int, x: Tensor, layout: PackedLayout) -> Tensor:
        """``W x + b``, or ``BN(W x)`` with the projection normalized itself, ``[D, N, G]``."""
        if self.norm is None:
            return project(x, *self._input_weights(layer, x), layout)
        return self._normalized_projection(layer, x, layout)

    def _normalized_projection(self, layer: int, x: Tensor, layout: PackedLayout) -> Tensor:
        """``BN(W x)`` of each direction, ``[D, N, G]``, normalized itself; the second reversed in time."""
        weight, gamma, beta = (self.stacked(name, layer) for name in ("weight_ih", "gamma", "beta"))
        z = normalization.at_least_float32(torch.stack([nn.functional.linear(x, w) for w in weight]))
        with torch.autocast(x.device.type, enabled=False):
            if self.norm == "sequence":
                z = self._reference_sequence_norm(layer, z, gamma, beta)
            else:
                z = self._frame_norm(layer, z, gamma, beta, layout)
        if len(z) == 1 or not len(x):
            return z
        return torch.stack([z[0], z[1].index_select(0, layout.reversed_rows)])

    def _reference_sequence_norm(self, layer: int, z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        population = None
        if not self.training:
            mean, variance = self._population(layer, 1, z.dtype)
            population = mean[:, 0], variance[:, 0]
        normalized, (mean, variance) = reference.batch_norm(z, gamma, beta, self.eps, population)
        if self.training:
            self._update(
                layer, mean.detach()[:, None], variance.detach()[:, None], z.new_full((1,), z.shape[1])
            )
        return normalized

    def _frame_norm(self, layer: int, z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout) -> Tensor:
        if not self.training:
            mean, variance = self._population(layer, layout.num_steps, z.dtype)
            by_direction = zip(z, gamma, beta, mean, variance, strict=True)
            return torch.stack([normalization.apply_frames(*v, layout, self.eps) for v in by_direction])
        outputs = []
        for direction, stats in enumerate(self._statistics_of(layer)):
            inputs = z[direction], gamma[direction], beta[direction], layout, self.eps
            if self.backend == "reference":
                result, mean, variance, count = reference.normalize_frames(*inputs)
            else:
                result, mean, variance, count = normalization.normalize_frames(*inputs, self._synchronized)
            stats.update(mean, variance, count)
            outputs.append(result)
        return torch.stack(outputs)

    def _run_recurrent_norm(
        self, layer: int, x: Tensor, weights: Recurrent, state: State, layout: PackedLayout, backend: str
    ) -> tuple[Tensor, State]:
        if self._synchronized:
            self._refuse_to_share()
        z = normalization.at_least_float32(project(x, self.stacked("weight_ih", layer), None, layout))
        population = None if self.training else self._population(layer, layout.num_steps, z.dtype)
        gamma, beta = self.stacked("gamma", layer), self.stacked("beta", layer)
        norm = StepNormInputs(gamma, beta, StepNormOptions(self.eps, population))
        h, last, statistics = self.cell.recurrence(z, weights, state, layout, backend, norm)
        if self.training and statistics is not None:
            self._update(layer, *statistics, torch.tensor(layout.batch_sizes))
        return h, last

    @staticmethod
    def _refuse_to_share() -> NoReturn:
        raise ValueError(
            "norm='recurrent' cannot share its statistics among ranks: every time step "
            "would need a sum over all ranks; use sync=False, or another norm"
        )

    @torch.no_grad()
    def folded_input_weights(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weights ``[D, G, I]`` and bias ``[D, G]`` of a layer's input projection in evaluation.

        Raises:
            RuntimeError: there are no population statistics yet.
            ValueError: the statistics are of time steps, so that no single weights can hold them.
        """
        if self.norm not in (None, "sequence"):
            raise ValueError(
                f"norm={self.norm!r} has statistics for each time step: it cannot be folded into weights"
            )
        was_training, self.training = self.training, False
        try:
            weight = self.get_parameter(f"weight_ih_l{layer}")
            return self._input_weights(layer, weight)
        finally:
            self.training = was_training

    @torch.no_grad()
    def fold_into(self, plain: nn.Module) -> None:
        """Fill the parameters of ``plain``, of the same sizes, with those of this layer in evaluation."""
        for layer in range(self.num_layers):
            weight, bias = self.folded_input_weights(layer)
            for direction, suffix in enumerate(self.suffixes(layer)):
                plain.get_parameter("weight_ih" + suffix).copy_(weight[direction])
                plain.get_parameter("bias_ih" + suffix).copy_(bias[direction])
                plain.get_parameter("bias_hh" + suffix).zero_()
                for name in ("weight_hh", "weight_peephole")[: 1 + self.peephole]:
                    plain.get_parameter(name + suffix).copy_(self.get_parameter(name + suffix))
        plain.train(self.training)

    def extra_repr(self) -> str:
        """The arguments that are not defaults, as ``nn.LSTM`` prints them."""
        text = f"{self.input_size}, {self.hidden_size}, num_layers={self.num_layers}, norm={self.norm!r}"
        flags = ("bidirectional", "peephole", "batch_first")
        return text + "".join(f", {flag}=True" for flag in flags if getattr(self, flag))


def _check_arguments(
    input_size: int, hidden_size: int, num_layers: int, dropout: float, norm: str | None, backend: str
) -> None:
    for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("num_layers", num_layers)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"dropout is {dropout}, expected a probability in [0, 1)")
    if norm not in NORMS:
        raise ValueError(f"norm is {norm!r}, expected one of {NORMS}")
    if backend not in BACKENDS:
        raise ValueError(f"backend is {backend!r}, expected one of {BACKENDS}")
