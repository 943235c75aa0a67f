"""What ``BatchNormLSTM`` and ``BatchNormRNN`` share: inputs, states, normalization, stacking, folding."""

from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asr_bn.layers import normalization
from asr_bn.layers.arguments import check_input, check_state
from asr_bn.layers.module_modes import effective_weights
from asr_bn.layers.parameters import RecurrentParameters
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence import reference
from asr_bn.layers.recurrence.autocast import at_least_float32
from asr_bn.layers.recurrence.cells import Recurrent, State, StepNormInputs, has_triton
from asr_bn.layers.recurrence.packed_ops import join_directions
from asr_bn.layers.recurrence.packing import PackedLayout, known_lengths, pack, unpack
from asr_bn.layers.recurrence.second_order import transforms_active
from asr_bn.layers.recurrence.step_norm import StepNormOptions
from asr_bn.layers.recurrence.synchronization import is_distributed

NO_EXPORT = "time steps are looped over: export what fold() gives, the nn.LSTM or nn.RNN of evaluation"


class StatisticsTaken(Exception):
    """Ends the forward pass of a layer with ``statistics_only``; not an error.

    Attributes:
        state: the last states; those of a layer that did not run are its first ones.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state


class NormalizedRecurrent(RecurrentParameters):
    """Stacked recurrent layers; see :class:`asr_bn.layers.batch_norm.BatchNormLSTM` for the arguments."""

    statistics_only = False  # raise StatisticsTaken once all statistics have been taken

    # Loops over time steps: a compiler would unroll them, for every new set of lengths.
    @torch.compiler.disable(reason=NO_EXPORT)
    def run(
        self, input: PackedSequence | Tensor, hx: State | None, lengths: Any
    ) -> tuple[PackedSequence | Tensor, State]:
        """What ``forward`` of the layers does, with the states in a tuple."""
        self._check_surroundings()
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence has its lengths itself: lengths are of padded tensors")
            self._check(input.data, hx, (int(input.batch_sizes[0]),))
            return self._run_packed(input, hx)
        if input.dim() not in (2, 3):
            raise ValueError(f"the input has {input.dim()} dimensions, expected 2 or 3")
        if input.dim() == 2:
            self._check(input, hx, ())
            return self._run_one(input, hx, lengths)
        frames, batch = input.shape[1::-1] if self.batch_first else input.shape[:2]
        self._check(input, hx, (batch,))
        lengths = known_lengths(lengths, batch, frames)
        if batch == 0:
            return self._run_empty(input)
        output, state = self._run_packed(pack(input, lengths, self.batch_first), hx)
        return unpack(output, input, lengths, self.batch_first), state

    def _check_surroundings(self) -> None:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[no-untyped-call,attr-defined]
            raise RuntimeError(NO_EXPORT)
        if self.norm is not None and self.training and transforms_active():
            raise RuntimeError(
                "torch.func's transforms cannot update population statistics: call eval(), or use norm=None"
            )

    def _check(self, x: Tensor, hx: State | None, batch: tuple[int, ...]) -> None:
        check_input(x, self.input_size, next(self.parameters()).dtype)
        if hx is not None:
            shape = (self.num_layers * self.num_directions, *batch, self.hidden_size)
            check_state(hx, ("h_0", "c_0")[: self.cell.num_states], shape)

    def _run_one(self, input: Tensor, hx: State | None, lengths: Any) -> tuple[Tensor, State]:
        batch_dim = 0 if self.batch_first else 1
        hx = None if hx is None else tuple(values.unsqueeze(1) for values in hx)
        output, state = self.run(input.unsqueeze(batch_dim), hx, lengths)
        assert isinstance(output, Tensor)
        return output.squeeze(batch_dim), tuple(values.squeeze(1) for values in state)

    def _run_empty(self, input: Tensor) -> tuple[Tensor, State]:
        """A rank without a sequence: nothing to compute, but its share in the statistics of the others."""
        x = input.reshape(0, input.shape[2])
        layout, all_weights = PackedLayout([], x.device), self.all_weights
        for layer in range(self.num_layers):
            taking_part = self._take_statistics(layer, x, layout) if self._synchronized else x.sum()
            directions = slice(layer * self.num_directions, (layer + 1) * self.num_directions)
            for weights in all_weights[directions]:
                taking_part = taking_part + sum(values.sum() for values in weights)
            # Zero times the weights keeps every parameter, and the sums over the ranks, in the graph.
            x = input.new_zeros(0, self.num_directions * self.hidden_size) + 0.0 * taking_part
        output = x.view((*input.shape[:2], self.num_directions * self.hidden_size))
        state = input.new_zeros(self.num_layers * self.num_directions, 0, self.hidden_size)
        return output, (state,) * self.cell.num_states

    def _take_statistics(self, layer: int, x: Tensor, layout: PackedLayout) -> Tensor:
        """Take a layer's statistics, with the other ranks, and no more; return what keeps them in a graph."""
        if self.norm == "recurrent":
            self._refuse_to_share()
        if self.norm == "frame" or self._chosen_backend(x) == "reference":
            return self._projection(layer, x, layout).sum()
        weight, bias = self._input_weights(layer, x)
        return weight.sum() + bias.sum()

    def _run_packed(self, packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        x = packed.data
        layout = PackedLayout(packed.batch_sizes.tolist(), x.device)
        first = self._first_states(x, layout, hx, packed.sorted_indices)
        last: list[State] = []
        for layer in range(self.num_layers):
            rows = slice(layer * self.num_directions, (layer + 1) * self.num_directions)
            state = tuple(values[rows] for values in first)
            if layer > 0:
                x = nn.functional.dropout(x, self.dropout, self.training)
            if self.statistics_only and layer == self.num_layers - 1 and self.norm != "recurrent":
                self._take_statistics(layer, x, layout)  # they do not depend on this layer's own states
            else:
                x, state = self._run_layer(layer, x, state, layout)
            last.append(state)
        output = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        joined = tuple(torch.cat(values) for values in zip(*last, strict=True))
        if packed.unsorted_indices is not None:
            joined = tuple(values[:, packed.unsorted_indices] for values in joined)
        if self.statistics_only:
            raise StatisticsTaken(joined)
        return output, joined

    def _first_states(
        self, x: Tensor, layout: PackedLayout, hx: State | None, sorted_indices: Tensor | None
    ) -> State:
        if hx is None:
            shape = (self.num_layers * self.num_directions, layout.batch_size, self.hidden_size)
            return (x.new_zeros(shape),) * self.cell.num_states
        return hx if sorted_indices is None else tuple(values[:, sorted_indices] for values in hx)

    def _run_layer(self, layer: int, x: Tensor, state: State, layout: PackedLayout) -> tuple[Tensor, State]:
        peephole = self.stacked("weight_peephole", layer) if self.peephole else None
        weights = Recurrent(self.stacked("weight_hh", layer), peephole)
        backend = self._chosen_backend(x)
        if self.norm == "recurrent":
            h, last = self._run_recurrent_norm(layer, x, weights, state, layout, backend)
        elif self.norm == "frame" or backend == "reference":
            z = self._projection(layer, x, layout).to(weights.w_hh.dtype)
            h, last, _ = self.cell.recurrence(z, weights, state, layout, backend)
        else:
            w_ih, bias = (values.to(weights.w_hh.dtype) for values in self._input_weights(layer, x))
            h, last = self.cell.layer(x, w_ih, bias, weights, state, layout, backend)
        return join_directions(h, layout), last

    def _chosen_backend(self, x: Tensor) -> str:
        if transforms_active():  # they see through PyTorch's own operations only
            return "reference"
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
        """Weights ``[D, G, I]`` and bias ``[D, G]`` of the input projection, normalization folded in.

        Half-precision weights are normalized in float32, and left so.
        """
        weight = self.stacked("weight_ih", layer)
        if self.norm is None:
            if self.bias:
                # The factor gives the second bias a gradient of its own: sharing one, both would change twice
                # where gradients are scaled or clipped in place.
                return weight, self.stacked("bias_ih", layer) + 1.0 * self.stacked("bias_hh", layer)
            return weight, weight.new_zeros(weight.shape[:2])
        gamma, beta = self.stacked("gamma", layer), self.stacked("beta", layer)
        weight = at_least_float32(weight)
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
            return reference.project(x, *self._input_weights(layer, x), layout)
        return self._normalized_projection(layer, x, layout)

    def _normalized_projection(self, layer: int, x: Tensor, layout: PackedLayout) -> Tensor:
        """``BN(W x)`` of each direction, ``[D, N, G]``, normalized itself; the second reversed in time."""
        gamma, beta = (at_least_float32(self.stacked(name, layer)) for name in ("gamma", "beta"))
        weight = self.stacked("weight_ih", layer)
        z = at_least_float32(torch.stack([nn.functional.linear(x, w) for w in weight]))
        with torch.autocast(x.device.type, enabled=False):
            if self.norm == "sequence":
                z = self._reference_sequence_norm(layer, z, gamma, beta)
            else:
                z = self._frame_norm(layer, z, gamma, beta, layout)
        if len(z) == 1 or not len(x):
            return z
        return torch.stack([z[0], z[1].index_select(0, layout.reversed_rows)])

    def _reference_sequence_norm(self, layer: int, z: Tensor, gamma: Tensor, beta: Tensor) -> Tensor:
        if self.training:
            mean, variance, count = reference.row_moments(z, self._synchronized)
            self._update(layer, mean.detach()[:, None], variance.detach()[:, None], count)
        else:
            mean, variance = (values[:, 0] for values in self._population(layer, 1, z.dtype))
        return reference.batch_norm(z, gamma, beta, self.eps, (mean, variance))[0]

    def _frame_norm(self, layer: int, z: Tensor, gamma: Tensor, beta: Tensor, layout: PackedLayout) -> Tensor:
        if not self.training:
            mean, variance = self._population(layer, layout.num_steps, z.dtype)
            by_direction = zip(z, gamma, beta, mean, variance, strict=True)
            return torch.stack([normalization.apply_frames(*v, layout, self.eps) for v in by_direction])
        outputs = []
        for direction, stats in enumerate(self._statistics_of(layer)):
            inputs = z[direction], gamma[direction], beta[direction], layout, self.eps, self._synchronized
            by_reference = self._chosen_backend(z) == "reference"
            normalize = (reference if by_reference else normalization).normalize_frames
            result, mean, variance, count = normalize(*inputs)
            stats.update(mean, variance, count)
            outputs.append(result)
        return torch.stack(outputs)

    def _run_recurrent_norm(
        self, layer: int, x: Tensor, weights: Recurrent, state: State, layout: PackedLayout, backend: str
    ) -> tuple[Tensor, State]:
        if self._synchronized:
            self._refuse_to_share()
        weight = at_least_float32(self.stacked("weight_ih", layer))
        z = at_least_float32(reference.project(at_least_float32(x), weight, None, layout))
        population = None if self.training else self._population(layer, layout.num_steps, z.dtype)
        gamma, beta = (at_least_float32(self.stacked(name, layer)) for name in ("gamma", "beta"))
        norm = StepNormInputs(gamma, beta, StepNormOptions(self.eps, population))
        dtype = weights.w_hh.dtype
        peephole = None if weights.peephole is None else at_least_float32(weights.peephole)
        weights = Recurrent(at_least_float32(weights.w_hh), peephole)
        first = tuple(at_least_float32(values) for values in state)
        h, last, statistics = self.cell.recurrence(z, weights, first, layout, backend, norm)
        if self.training and statistics is not None:
            self._update(layer, *statistics, torch.tensor(layout.batch_sizes))
        return h.to(dtype), tuple(values.to(dtype) for values in last)

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
        with effective_weights(self):
            return self._input_weights(layer, self.stacked("weight_ih", layer))

    @torch.no_grad()
    def fold_into(self, plain: nn.Module) -> None:
        """Fill the parameters of ``plain``, of the same sizes, with those of this layer in evaluation."""
        with effective_weights(self):
            like = next(self.parameters())
            plain.to(like.device, like.dtype)
            for layer in range(self.num_layers):
                weight, bias = self.folded_input_weights(layer)
                for direction, suffix in enumerate(self.suffixes(layer)):
                    plain.get_parameter("weight_ih" + suffix).copy_(weight[direction])
                    plain.get_parameter("bias_ih" + suffix).copy_(bias[direction])
                    plain.get_parameter("bias_hh" + suffix).zero_()
                    for name in ("weight_hh", "weight_peephole")[: 1 + self.peephole]:
                        plain.get_parameter(name + suffix).copy_(getattr(self, name + suffix))
        plain.train(self.training)

    def plain(self, bias: bool = True) -> nn.Module:
        """A layer of the same sizes without normalization, PyTorch's own unless there is a peephole."""
        raise NotImplementedError

    def __prepare_scriptable__(self) -> nn.Module:
        """What ``torch.jit.script`` compiles in place of the layer: PyTorch's, of the same parameters."""
        plain = self.plain(self.bias)
        own, theirs = dict(self.named_parameters()), dict(plain.named_parameters())
        if isinstance(plain, NormalizedRecurrent) or own.keys() != theirs.keys():
            raise ValueError(
                "torch.jit.script compiles layers without norm, peephole and parametrizations: of others, "
                "script what fold() gives"
            )
        for name, values in own.items():
            setattr(plain, name, values)
        return plain.train(self.training)
