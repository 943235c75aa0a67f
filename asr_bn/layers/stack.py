"""Stacked layers: the forms of their input, their states, one layer after the other, and folding."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asr_bn.layers.arguments import check_input, check_packed, check_padded, check_state
from asr_bn.layers.layer import Layer
from asr_bn.layers.module_modes import effective_weights
from asr_bn.layers.parameters import RecurrentParameters
from asr_bn.layers.population_stats import PopulationStats
from asr_bn.layers.recurrence.cells import has_triton
from asr_bn.layers.recurrence.packed_ops import join_directions
from asr_bn.layers.recurrence.packing import Lengths, PackedLayout, known_lengths, pack, unpack
from asr_bn.layers.recurrence.second_order import transforms_active
from asr_bn.layers.recurrence.steps import State
from asr_bn.layers.recurrence.synchronization import is_distributed

NO_EXPORT = "the layers loop over time steps: export what fold() gives, the nn.LSTM or nn.RNN of evaluation"


class StatisticsTaken(Exception):
    """Ends the forward pass of a layer with ``statistics_only``; not an error.

    Attributes:
        state: the last states; those of a layer that did not run are its first ones.
    """

    def __init__(self, state: State) -> None:
        super().__init__()
        self.state = state


class RecurrentStack(RecurrentParameters):
    """Stacked recurrent layers; see :class:`asr_bn.BatchNormLSTM` for the arguments."""

    statistics_only = False  # raise StatisticsTaken once all statistics have been taken

    # A compiler would unroll the loops over time steps, for every new set of lengths.
    @torch.compiler.disable(reason=NO_EXPORT)
    def run_layers(
        self, input: PackedSequence | Tensor, hx: State | None, lengths: Lengths | None
    ) -> tuple[PackedSequence | Tensor, State]:
        """Do what ``forward`` does, with the states in a tuple."""
        self._check_surroundings()
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("a PackedSequence has its own lengths: give lengths of padded tensors only")
            check_packed(input)
            self._check(input.data, hx, (int(input.batch_sizes[0]),))
            return self._run_packed(input, hx)
        check_padded(input)
        if input.dim() == 3:
            return self._run_padded(input, hx, lengths)
        self._check(input, hx, ())
        batch_dim = 0 if self.batch_first else 1
        first = None if hx is None else tuple(values.unsqueeze(1) for values in hx)
        output, last = self._run_padded(input.unsqueeze(batch_dim), first, lengths)
        return output.squeeze(batch_dim), tuple(values.squeeze(1) for values in last)

    def _check_surroundings(self) -> None:
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[no-untyped-call,attr-defined]
            raise RuntimeError(NO_EXPORT)
        if self.norm is not None and self.training and transforms_active():
            raise RuntimeError(
                "torch.func's transforms and forward-mode derivatives cannot update population statistics: "
                "call eval(), or use norm=None"
            )

    def _check(self, x: Tensor, hx: State | None, batch: tuple[int, ...]) -> None:
        # The replicas of nn.DataParallel have no parameters: theirs are plain attributes.
        weight = next(self.parameters(), None)
        check_input(x, self.input_size, (self.stacked("weight_hh", 0) if weight is None else weight).dtype)
        if hx is not None:
            shape = (self.num_layers * self.num_directions, *batch, self.hidden_size)
            check_state(hx, ("h_0", "c_0")[: self.cell.num_states], shape, x)

    def _run_padded(self, input: Tensor, hx: State | None, lengths: Lengths | None) -> tuple[Tensor, State]:
        frames, batch = input.shape[1::-1] if self.batch_first else input.shape[:2]
        self._check(input, hx, (batch,))
        known = known_lengths(lengths, batch, frames)
        if batch == 0:
            return self._run_empty(input)
        output, state = self._run_packed(pack(input, known, self.batch_first), hx)
        return unpack(output, input, known, self.batch_first), state

    def _run_empty(self, input: Tensor) -> tuple[Tensor, State]:
        """Take part in the statistics of the other ranks: this one has no sequence, nothing to compute."""
        x = input.reshape(0, input.shape[2])
        layout, all_weights = PackedLayout([], x.device), self.all_weights
        for index in range(self.num_layers):
            layer = self._layer(index, x)
            taking_part = x.sum()  # keeps the layers below in the graph
            if layer.sync:
                taking_part = taking_part + self.normalization.take_statistics(layer, x, layout)
            for weights in all_weights[self._directions(index)]:
                taking_part = taking_part + sum(values.sum() for values in weights)
            # Zero times the weights keeps every parameter, and the sums over the ranks, in the graph.
            x = input.new_zeros(0, self.num_directions * self.hidden_size) + 0.0 * taking_part
        output = x.view((*input.shape[:2], self.num_directions * self.hidden_size))
        state = input.new_zeros(self.num_layers * self.num_directions, 0, self.hidden_size)
        return output, (state,) * self.cell.num_states

    def _run_packed(self, packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        x = packed.data
        layout = PackedLayout(packed.batch_sizes.tolist(), x.device)
        first = self._first_states(x, layout, hx, packed.sorted_indices)
        last: list[State] = []
        for index in range(self.num_layers):
            layer, state = self._layer(index, x), tuple(values[self._directions(index)] for values in first)
            if index > 0:
                x = nn.functional.dropout(x, self.dropout, self.training)
            if self.statistics_only and index == self.num_layers - 1 and not self.normalization.in_recurrence:
                self.normalization.take_statistics(layer, x, layout)
            else:
                h, state = self.normalization.run(layer, x, state, layout)
                x = join_directions(h, layout)
            last.append(state)
        output = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        joined = tuple(torch.cat(values) for values in zip(*last, strict=True))
        if packed.unsorted_indices is not None:
            joined = tuple(values[:, packed.unsorted_indices] for values in joined)
        if self.statistics_only:
            raise StatisticsTaken(joined)
        return output, joined

    def _directions(self, index: int) -> slice:
        """Return where a layer's directions are among those of all layers."""
        return slice(index * self.num_directions, (index + 1) * self.num_directions)

    def _first_states(
        self, x: Tensor, layout: PackedLayout, hx: State | None, sorted_indices: Tensor | None
    ) -> State:
        if hx is None:
            shape = (self.num_layers * self.num_directions, layout.batch_size, self.hidden_size)
            return (x.new_zeros(shape),) * self.cell.num_states
        return hx if sorted_indices is None else tuple(values[:, sorted_indices] for values in hx)

    def _layer(self, index: int, x: Tensor) -> Layer:
        modules = [getattr(self, "stats" + suffix, None) for suffix in self.suffixes(index)]
        return Layer(
            partial(self.stacked, layer=index),
            [module for module in modules if isinstance(module, PopulationStats)],
            self.cell,
            self._chosen_backend(x),
            self.peephole,
            self.bias,
            self.eps,
            self.training,
            self.sync and self.training and is_distributed(),
        )

    def _chosen_backend(self, x: Tensor) -> str:
        if transforms_active():  # they see through PyTorch's own operations only
            return "reference"
        if self.backend != "auto":
            return self.backend
        if not x.is_cuda:
            return "cpu"
        if not self.peephole and not self.normalization.in_recurrence:
            return "cudnn"
        return "triton" if has_triton() else "cpu"

    @torch.no_grad()
    def folded_input_weights(self, layer: int) -> tuple[Tensor, Tensor]:
        """Return weights and bias of a layer's input projection in evaluation, as :meth:`Norm.fold` does."""
        with effective_weights(self):
            return self.normalization.fold(self._layer(layer, next(self.parameters())))

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
        """Make a layer of the same sizes without normalization, PyTorch's own unless there is a peephole."""
        raise NotImplementedError

    def __prepare_scriptable__(self) -> nn.Module:
        """Return what ``torch.jit.script`` compiles in its place: PyTorch's layer, of the same parameters."""
        plain = self.plain(self.bias)
        own, theirs = dict(self.named_parameters()), dict(plain.named_parameters())
        if isinstance(plain, RecurrentStack) or own.keys() != theirs.keys():
            raise ValueError(
                "torch.jit.script compiles only layers without norm, peephole and parametrizations; "
                "of others, script what fold() gives"
            )
        for name, values in own.items():
            setattr(plain, name, values)
        return plain.train(self.training)
