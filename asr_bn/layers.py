"""``BatchNormLSTM``: ``torch.nn.LSTM`` with batch normalization of its input-to-hidden transitions."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr_bn import normalization
from asr_bn.normalization import PopulationStats
from asr_bn.recurrence import cudnn, lstm_cpu, reference
from asr_bn.recurrence.packing import PackedLayout

Norm = Literal["sequence"] | None
Backend = Literal["auto", "reference", "cpu", "cudnn"]
State = tuple[Tensor, Tensor]
LayerFunction = Callable[..., tuple[Tensor, Tensor, Tensor]]

_LAYER_FUNCTIONS: dict[str, LayerFunction] = {
    "reference": reference.lstm_layer,
    "cpu": lstm_cpu.lstm_layer,
    "cudnn": cudnn.lstm_layer,
}


class BatchNormLSTM(nn.Module):
    """LSTM (eqs. 12-16) with sequence-wise batch normalization of ``W_x x_t`` (eqs. 18, 20, 21).

    Constructed, called and saved as ``torch.nn.LSTM``; with ``norm=None`` the ``state_dict`` is that of
    ``nn.LSTM``.  With a norm, layer ``k`` has ``gamma_l{k}`` and ``beta_l{k}`` in place of the two biases,
    and the population statistics ``stats_l{k}``.  Padding is never computed and never counted.

    Args:
        input_size: features of the input.
        hidden_size: hidden units, per direction.
        num_layers: stacked layers.
        bias: as in ``nn.LSTM``; with a norm, ``beta`` is always there.
        batch_first: padded tensors are ``[batch, frames, features]``.
        dropout: probability, on the outputs of every layer but the last (the vertical connections).
        bidirectional: eqs. 8-10.
        norm: None, or ``"sequence"``: statistics over all unpadded frames of the mini-batch.
        peephole: the diagonal connection from ``c_t`` to the output gate (eq. 15).
        eps: added to the variance (eq. 3).
        momentum: weight of a new mini-batch in the running population statistics; None pools all alike.
        initial_gamma: first value of ``gamma``.
        backend: ``"auto"``, ``"reference"``, ``"cpu"`` or ``"cudnn"``.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
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
        backend: Backend = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_arguments(input_size, hidden_size, num_layers, dropout, norm, backend)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, dropout
        self.bidirectional, self.norm, self.peephole = bidirectional, norm, peephole
        self.eps, self.momentum, self.initial_gamma, self.backend = eps, momentum, initial_gamma, backend
        for layer in range(num_layers):
            for suffix in self._suffixes(layer):
                self._add_parameters(layer, suffix, device, dtype)
        self.reset_parameters()

    @property
    def num_directions(self) -> int:
        """1, or 2 when bidirectional."""
        return 2 if self.bidirectional else 1

    def _suffixes(self, layer: int) -> list[str]:
        return [f"_l{layer}", f"_l{layer}_reverse"][: self.num_directions]

    def _add_parameters(
        self, layer: int, suffix: str, device: torch.device | str | None, dtype: torch.dtype | None
    ) -> None:
        hidden, width = self.hidden_size, 4 * self.hidden_size
        inputs = self.input_size if layer == 0 else hidden * self.num_directions
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (width, inputs), "weight_hh": (width, hidden)}
        if self.norm is not None:
            shapes |= {"gamma": (width,), "beta": (width,)}
        elif self.bias:
            shapes |= {"bias_ih": (width,), "bias_hh": (width,)}
        if self.peephole:
            shapes["weight_peephole"] = (hidden,)
        for name, shape in shapes.items():
            self.register_parameter(name + suffix, nn.Parameter(torch.empty(shape, device=device, dtype=dtype)))
        if self.norm is not None:
            self.add_module("stats" + suffix, PopulationStats(width, self.momentum).to(device))

    def reset_parameters(self) -> None:
        """Uniform in ``+-1/sqrt(hidden_size)`` as ``nn.LSTM``; ``gamma`` to its first value, ``beta`` to 0."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters():
            if name.startswith("gamma"):
                nn.init.constant_(parameter, self.initial_gamma)
            elif name.startswith("beta"):
                nn.init.zeros_(parameter)
            else:
                nn.init.uniform_(parameter, -bound, bound)

    def population_stats(self) -> list[PopulationStats]:
        """The statistics of every layer and direction (none without a norm)."""
        return [module for module in self.modules() if isinstance(module, PopulationStats)]

    def forward(
        self, input: PackedSequence | Tensor, hx: State | None = None, *, lengths: Tensor | None = None
    ) -> tuple[PackedSequence | Tensor, State]:
        """Run the layers.

        Args:
            input: a ``PackedSequence``, or a padded tensor ``[frames, batch, input_size]`` (``batch_first``:
                ``[batch, frames, input_size]``), or one sequence ``[frames, input_size]``.
            hx: first hidden states and cells, each ``[num_layers * directions, batch, hidden_size]``;
                zeros when absent.
            lengths: frames of every sequence of a padded tensor; absent, all are full.

        Returns:
            The output in the form of the input, with ``directions * hidden_size`` features and zeros in the
            padding, and the last hidden states and cells.

        Raises:
            ValueError: shapes or lengths do not fit.
            RuntimeError: in evaluation, there are no population statistics yet.
        """
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() == 2:
            return self._forward_one(input, hx)
        packed = _pack(input, lengths, self.batch_first)
        output, state = self._forward_packed(packed, hx)
        frames = input.shape[1 if self.batch_first else 0]
        padded, _ = pad_packed_sequence(output, self.batch_first, total_length=frames)
        return padded, state

    def _forward_one(self, input: Tensor, hx: State | None) -> tuple[Tensor, State]:
        batch_dim = 0 if self.batch_first else 1
        hx = None if hx is None else (hx[0].unsqueeze(1), hx[1].unsqueeze(1))
        output, (h_n, c_n) = self(input.unsqueeze(batch_dim), hx)
        return output.squeeze(batch_dim), (h_n.squeeze(1), c_n.squeeze(1))

    def _forward_packed(self, packed: PackedSequence, hx: State | None) -> tuple[PackedSequence, State]:
        x = packed.data
        if x.shape[1] != self.input_size:
            raise ValueError(f"the input has {x.shape[1]} features, expected input_size = {self.input_size}")
        layout = PackedLayout(packed.batch_sizes.tolist(), x.device)
        h_0, c_0 = self._first_states(x, layout, hx, packed.sorted_indices)
        last_h, last_c = [], []
        for layer in range(self.num_layers):
            rows = slice(layer * self.num_directions, (layer + 1) * self.num_directions)
            if layer > 0:
                x = nn.functional.dropout(x, self.dropout, self.training)
            x, h_n, c_n = self._run_layer(layer, x, h_0[rows], c_0[rows], layout)
            last_h.append(h_n)
            last_c.append(c_n)
        output = PackedSequence(x, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)
        state = torch.cat(last_h), torch.cat(last_c)
        if packed.unsorted_indices is not None:
            state = state[0][:, packed.unsorted_indices], state[1][:, packed.unsorted_indices]
        return output, state

    def _first_states(
        self, x: Tensor, layout: PackedLayout, hx: State | None, sorted_indices: Tensor | None
    ) -> State:
        shape = (self.num_layers * self.num_directions, layout.batch_size, self.hidden_size)
        if hx is None:
            zeros = x.new_zeros(shape)
            return zeros, zeros
        for name, value in zip(("h_0", "c_0"), hx, strict=True):
            if value.shape != shape:
                raise ValueError(f"{name} has shape {tuple(value.shape)}, expected {shape}")
        return hx if sorted_indices is None else (hx[0][:, sorted_indices], hx[1][:, sorted_indices])

    def _run_layer(
        self, layer: int, x: Tensor, h_0: Tensor, c_0: Tensor, layout: PackedLayout
    ) -> tuple[Tensor, Tensor, Tensor]:
        w_ih, bias = self._input_weights(layer, x)
        peephole = self._stacked("weight_peephole", layer) if self.peephole else None
        run = _LAYER_FUNCTIONS[self._chosen_backend(x)]
        h, h_n, c_n = run(x, w_ih, bias, self._stacked("weight_hh", layer), peephole, h_0, c_0, layout)
        if self.bidirectional:
            return torch.cat([h[0], h[1].index_select(0, layout.reversed_rows)], dim=1), h_n, c_n
        return h[0], h_n, c_n

    def _chosen_backend(self, x: Tensor) -> str:
        if self.backend != "auto":
            return self.backend
        if x.is_cuda:
            return "reference" if self.peephole else "cudnn"
        return "cpu"

    def _stacked(self, name: str, layer: int) -> Tensor:
        return torch.stack([self.get_parameter(name + suffix) for suffix in self._suffixes(layer)])

    def _input_weights(self, layer: int, x: Tensor) -> tuple[Tensor, Tensor]:
        """Weights ``[D, 4H, I]`` and bias ``[D, 4H]`` of the input projection, normalization folded in."""
        weight = self._stacked("weight_ih", layer)
        if self.norm is not None:
            mean, variance = self._statistics(layer, weight, x)
            gamma, beta = self._stacked("gamma", layer), self._stacked("beta", layer)
            return normalization.fold(weight, gamma, beta, mean, variance, self.eps)
        if self.bias:
            return weight, self._stacked("bias_ih", layer) + self._stacked("bias_hh", layer)
        return weight, weight.new_zeros(weight.shape[:2])

    def _statistics(self, layer: int, weight: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        population = [self.get_submodule("stats" + suffix) for suffix in self._suffixes(layer)]
        if not self.training:
            pairs = [stats.mean_and_variance() for stats in population]  # type: ignore[operator]
            mean, variance = (torch.stack(values).to(weight.dtype) for values in zip(*pairs, strict=True))
            return mean, variance
        mean, variance = normalization.projected_moments(weight, *normalization.moments(x))
        for direction, stats in enumerate(population):
            stats.update(mean[direction], variance[direction], len(x))  # type: ignore[operator]
        return mean, variance

    @torch.no_grad()
    def fold(self) -> "BatchNormLSTM | nn.LSTM":
        """The layer in evaluation as an ordinary LSTM, the population statistics folded into its weights.

        Returns:
            An ``nn.LSTM``; with a peephole, which ``nn.LSTM`` cannot have, a ``BatchNormLSTM`` with
            ``norm=None``.

        Raises:
            RuntimeError: there are no population statistics yet.
        """
        sizes = (self.input_size, self.hidden_size, self.num_layers, True, self.batch_first)
        options = (self.dropout, self.bidirectional)
        plain = BatchNormLSTM(*sizes, *options, peephole=True) if self.peephole else nn.LSTM(*sizes, *options)
        plain.to(self.weight_hh_l0.device, self.weight_hh_l0.dtype)
        for layer in range(self.num_layers):
            weight, bias = self.folded_input_weights(layer)
            for direction, suffix in enumerate(self._suffixes(layer)):
                plain.get_parameter("weight_ih" + suffix).copy_(weight[direction])
                plain.get_parameter("bias_ih" + suffix).copy_(bias[direction])
                plain.get_parameter("bias_hh" + suffix).zero_()
                for name in ("weight_hh", "weight_peephole")[: 1 + self.peephole]:
                    plain.get_parameter(name + suffix).copy_(self.get_parameter(name + suffix))
        return plain.train(self.training)

    @torch.no_grad()
    def folded_input_weights(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weights ``[D, 4H, I]`` and bias ``[D, 4H]`` of a layer's input projection in evaluation.

        Raises:
            RuntimeError: there are no population statistics yet.
        """
        was_training = self.training
        self.training = False
        try:
            return self._input_weights(layer, self.get_parameter(f"weight_ih_l{layer}"))
        finally:
            self.training = was_training

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
    if norm not in (None, "sequence"):
        raise ValueError(f"norm is {norm!r}, expected None or 'sequence'")
    if backend not in ("auto", *_LAYER_FUNCTIONS):
        raise ValueError(f"backend is {backend!r}, expected 'auto', 'reference', 'cpu' or 'cudnn'")


def _pack(input: Tensor, lengths: Tensor | None, batch_first: bool) -> PackedSequence:
    if input.dim() != 3:
        raise ValueError(f"the input has {input.dim()} dimensions, expected 2 or 3")
    frames, batch = input.shape[1 if batch_first else 0], input.shape[0 if batch_first else 1]
    if lengths is None:
        lengths = torch.full((batch,), frames)
    if len(lengths) != batch or int(lengths.min()) < 1 or int(lengths.max()) > frames:
        raise ValueError(f"lengths are {lengths.tolist()}, expected {batch} numbers from 1 to {frames}")
    return pack_padded_sequence(input, lengths.cpu(), batch_first, enforce_sorted=False)
