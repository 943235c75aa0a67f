"""``BatchNormLSTM`` and ``BatchNormRNN``: ``torch.nn``'s layers with batch normalization."""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from asr_bn.layers.parameters import NormName
from asr_bn.layers.recurrence.cells import LSTM, Backend, Cell
from asr_bn.layers.recurrence.packing import Lengths
from asr_bn.layers.recurrence.steps import Nonlinearity
from asr_bn.layers.stack import RecurrentStack


class BatchNormLSTM(RecurrentStack):
    """LSTM (eqs. 12-16) with batch normalization.

    Constructed, called and saved as ``torch.nn.LSTM``; with ``norm=None`` the ``state_dict`` is that of
    ``nn.LSTM``.  With a norm, layer ``k`` has ``gamma_l{k}`` and ``beta_l{k}`` in place of the two biases,
    and the population statistics ``stats_l{k}``.  Padding is never computed and never counted.

    ``norm`` is one of

    * ``None``;
    * ``"sequence"``: ``W_x x_t`` over all unpadded frames of the mini-batch (eqs. 18, 20, 21);
    * ``"frame"``: ``W_x x_t`` over the sequences, for each time step (eqs. 18, 19);
    * ``"recurrent"``: ``W_h h_{t-1} + W_x x_t`` over the sequences, for each time step (eq. 17).

    The last two have population statistics for each of the first ``max_steps`` time steps, the last of which
    pools all later ones; shorter windows use the first ones.  A step that one sequence alone reaches has no
    variance: in training it becomes ``beta``; in evaluation it takes the statistics of the last step before
    it that more sequences reached, as do all steps beyond the longest window of training.

    Statistics stay in float64 whatever the parameters are cast to, and ``reset_parameters()`` forgets them.
    Half-precision layers are normalized in float32, the ones of ``"recurrent"`` computed in it throughout.
    Averages of models copy statistics or average their sums; those of the averaged weights need a final pass:
    :func:`asr_bn.layers.population.estimate_population_stats`, not ``swa_utils.update_bn``.

    What ``nn.LSTM`` has and this has not, or has in another way:

    * ``proj_size``: no projected states; the paper has none.
    * Second derivatives: an error with ``"frame"`` and ``"recurrent"`` and under autocast, and on a GPU from
      cuDNN, which has none; ``backend="reference"`` gives them everywhere.
    * ``torch.func``: its transforms run the reference, slowly; in training with a norm they are an error, as
      they could not update the population statistics (``nn.BatchNorm1d`` has the same limit).  Nor can
      ``vmap`` run over the statistics of several models.
    * ``torch.jit.script``: compiles the ``nn.LSTM`` of the same parameters, which also takes the place of the
      layer in a model around it.  With a norm, a peephole or parametrizations: script ``fold()``.
    * ``torch.export``, ``torch.jit.trace``: of ``fold()`` only, as time steps are looped over.
    * ``device="mps"`` with a norm: no float64 there.  ``device="meta"``: parameters only, no forward pass.
    * A warning where there is one layer, so that ``dropout`` has no effect.

    Args:
        input_size: features of the input.
        hidden_size: hidden units, per direction.
        num_layers: stacked layers.
        bias: as in ``nn.LSTM``; with a norm, ``beta`` is always there.
        batch_first: padded tensors are ``[batch, frames, features]``.
        dropout: probability, on the outputs of every layer but the last (the vertical connections only).
        bidirectional: eqs. 8-10.
        proj_size: 0.
        device, dtype: of the parameters.
        norm: see above.
        peephole: the diagonal connection from ``c_t`` to the output gate (eq. 15), outside any normalization.
        eps: added to the variance (eq. 3).
        momentum: weight of a new mini-batch in the running population statistics; None pools all alike.
        initial_gamma: first value of ``gamma``.
        max_steps: time steps with population statistics of their own; older checkpoints may hold more.
        sync: statistics are of the frames of all ranks where ``torch.distributed`` has several.
        backend: ``"auto"``; ``"reference"`` (the equations, by autograd); ``"cpu"`` (a packed recurrence with
            a backward pass of its own); ``"cudnn"`` (PyTorch's kernels); ``"triton"`` (kernels for a GPU, a
            launch or two each time step).  On a GPU, ``"auto"`` takes cuDNN for what it can do, else Triton
            where that is installed, which PyTorch for CUDA on Linux brings along; otherwise ``"cpu"``.

    Raises:
        ValueError: an argument is out of its range.
    """

    cell = LSTM

    def forward(
        self,
        input: PackedSequence | Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        *,
        lengths: Lengths | None = None,
    ) -> tuple[PackedSequence | Tensor, tuple[Tensor, Tensor]]:
        """Run the layers.

        Args:
            input: a ``PackedSequence``, or a padded tensor ``[frames, batch, input_size]`` (``batch_first``:
                ``[batch, frames, input_size]``), or one sequence ``[frames, input_size]``.
            hx: first hidden states and cells, each ``[num_layers * directions, batch, hidden_size]``;
                zeros when absent.
            lengths: frames of every sequence of a padded tensor, ``[batch]``: a tensor, an array or a list of
                whole numbers; absent, all are full.

        Returns:
            The output in the form of the input, with ``directions * hidden_size`` features and zeros in the
            padding, and the last hidden states and cells.

        Raises:
            ValueError: shapes or lengths do not fit.
            RuntimeError: in evaluation, there are no population statistics yet.
        """
        output, (h_n, c_n) = self.run_layers(input, hx, lengths)
        return output, (h_n, c_n)

    @torch.no_grad()
    def fold(self) -> "BatchNormLSTM | nn.LSTM":
        """The layer in evaluation as an ordinary LSTM, the population statistics folded into its weights.

        Returns:
            An ``nn.LSTM``; with a peephole, which ``nn.LSTM`` cannot have, a ``BatchNormLSTM`` with
            ``norm=None``.

        Raises:
            RuntimeError: there are no population statistics yet.
            ValueError: the statistics are of time steps (``norm`` is ``"frame"`` or ``"recurrent"``).
        """
        plain = self.plain()
        self.fold_into(plain)
        return plain

    def plain(self, bias: bool = True) -> "BatchNormLSTM | nn.LSTM":
        """The same without normalization: an ``nn.LSTM``, unless there is a peephole; new weights."""
        sizes = (self.input_size, self.hidden_size, self.num_layers, bias, self.batch_first)
        options = (self.dropout, self.bidirectional)
        return BatchNormLSTM(*sizes, *options, peephole=True) if self.peephole else nn.LSTM(*sizes, *options)


class BatchNormRNN(RecurrentStack):
    """Simple recurrence (eq. 7) with batch normalization; as ``torch.nn.RNN``.

    Args:
        nonlinearity: ``"tanh"`` or ``"relu"``.
        options: all others as in :class:`BatchNormLSTM`, but for ``peephole``.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Nonlinearity = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        norm: NormName | None = None,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        initial_gamma: float = 1.0,
        max_steps: int = 200,
        sync: bool = True,
        backend: Backend = "auto",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity is {nonlinearity!r}, expected 'tanh' or 'relu'")
        self.nonlinearity, self.cell = nonlinearity, Cell(nonlinearity)
        super().__init__(
            input_size,
            hidden_size,
            num_layers,
            bias,
            batch_first,
            dropout,
            bidirectional,
            proj_size,
            device,
            dtype,
            norm=norm,
            eps=eps,
            momentum=momentum,
            initial_gamma=initial_gamma,
            max_steps=max_steps,
            sync=sync,
            backend=backend,
        )

    def forward(
        self, input: PackedSequence | Tensor, hx: Tensor | None = None, *, lengths: Lengths | None = None
    ) -> tuple[PackedSequence | Tensor, Tensor]:
        """As :meth:`BatchNormLSTM.forward`, with hidden states alone."""
        output, (h_n,) = self.run_layers(input, None if hx is None else (hx,), lengths)
        return output, h_n

    @torch.no_grad()
    def fold(self) -> nn.RNN:
        """As :meth:`BatchNormLSTM.fold`."""
        plain = self.plain()
        self.fold_into(plain)
        return plain

    def plain(self, bias: bool = True) -> nn.RNN:
        """As :meth:`BatchNormLSTM.plain`."""
        sizes = (self.input_size, self.hidden_size, self.num_layers, self.nonlinearity, bias)
        return nn.RNN(*sizes, self.batch_first, self.dropout, self.bidirectional)
