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

    The last two have population statistics for each of the first ``max_steps`` time steps; the last of these
    pools all later steps.  A step that only one sequence reaches has no variance: in training it becomes
    ``beta``.  In evaluation it takes the statistics of the last step before it that more sequences reached,
    as do all steps beyond the longest window of training.

    Statistics stay in float64 under every cast; ``reset_parameters()`` forgets them.  Half-precision layers
    are normalized in float32; with ``"recurrent"`` the whole recurrence runs in it.  After averaging models,
    estimate the statistics anew by :func:`asr_bn.estimate_population_stats`, not ``swa_utils.update_bn``.

    Differences from ``nn.LSTM``:

    * ``proj_size`` must be 0: the paper has no projected states.
    * Second derivatives are an error with ``"frame"``, with ``"recurrent"``, under autocast, and with cuDNN,
      which has none; ``backend="reference"`` gives them everywhere.
    * The transforms of ``torch.func`` and forward-mode derivatives run the reference, slowly.  In training
      with a norm they are an error: they cannot update population statistics.  ``vmap`` cannot run over
      ``lengths``, nor over the statistics of several models.  PyTorch itself cannot pack what has a
      forward-mode derivative.
    * ``torch.jit.script`` compiles the ``nn.LSTM`` of the same parameters, also within a model around it.
      With a norm, a peephole or parametrizations: script ``fold()``.
    * ``torch.export`` and ``torch.jit.trace`` take ``fold()`` only: the layers loop over time steps.
    * ``torch.fx`` takes the layer as a leaf of the graph only, as ``Tracer.is_leaf_module`` can name it.
      It is no ``nn.RNNBase``: what looks for that class, such as ``quantize_dynamic``, takes ``fold()``.
    * The data of a ``PackedSequence`` that it returns cannot be changed in place before a backward pass,
      which needs them.  Input and first states must be of one precision, unless autocast is on.
    * In a forward pass that ``torch.utils.checkpoint`` repeats statistics are not counted twice.  As with
      ``nn.BatchNorm1d``, those of the replicas of ``nn.DataParallel`` are lost, but for the first one's.
    * ``device="mps"`` with a norm does not work: it has no float64.  ``device="meta"`` has no forward pass.
    * There is no warning where ``dropout`` has no effect because there is one layer.

    Args:
        input_size: features of the input.
        hidden_size: hidden units, per direction.
        num_layers: stacked layers.
        bias: as in ``nn.LSTM``; with a norm, ``beta`` is always there.
        batch_first: padded tensors are ``[batch, frames, features]``.
        dropout: probability, on the outputs of every layer but the last.
        bidirectional: eqs. 8-10.
        proj_size: 0.
        device, dtype: of the parameters.
        norm: see above.
        peephole: the diagonal connection from ``c_t`` to the output gate (eq. 15), outside any normalization.
        eps: added to the variance (eq. 3).
        momentum: weight of a new mini-batch in the running population statistics; 0 leaves them as they are,
            None pools all alike.
        initial_gamma: first value of ``gamma``.
        max_steps: time steps with population statistics of their own; older checkpoints may hold more.
        sync: statistics are of the frames of all ranks where ``torch.distributed`` has several.
        backend: ``"reference"`` (the equations, by autograd), ``"cpu"`` (a packed recurrence with its own
            backward pass), ``"cudnn"`` (PyTorch's kernels), ``"triton"`` (GPU kernels, a launch or two each
            time step), or ``"auto"``: on a GPU cuDNN for what it can do, else Triton where it is installed;
            otherwise ``"cpu"``.

    Raises:
        ValueError: an argument is out of its range.
    """

    cell = LSTM

    def forward(
        self,
        input: PackedSequence | Tensor,
        hx: tuple[Tensor, Tensor] | None = None,
        lengths: Lengths | None = None,
    ) -> tuple[PackedSequence | Tensor, tuple[Tensor, Tensor]]:
        """Run the layers.

        Args:
            input: a ``PackedSequence``, or a padded tensor ``[frames, batch, input_size]`` (``batch_first``:
                ``[batch, frames, input_size]``), or one sequence ``[frames, input_size]``.
            hx: first hidden states and cells, each ``[num_layers * directions, batch, hidden_size]``;
                None for zeros.
            lengths: frames of every sequence of a padded tensor, ``[batch]``, whole numbers; None: all full.

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
        """Make an ordinary LSTM of the layer in evaluation: population statistics folded into its weights.

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
        """Make the same without normalization, with new weights: an ``nn.LSTM`` if there is no peephole."""
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
        sizes = (input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size)
        super().__init__(
            *sizes,
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
        self, input: PackedSequence | Tensor, hx: Tensor | None = None, lengths: Lengths | None = None
    ) -> tuple[PackedSequence | Tensor, Tensor]:
        """Run the layers; as :meth:`BatchNormLSTM.forward`, with hidden states alone."""
        output, (h_n,) = self.run_layers(input, None if hx is None else (hx,), lengths)
        return output, h_n

    @torch.no_grad()
    def fold(self) -> nn.RNN:
        """Make an ``nn.RNN`` of the layer; as :meth:`BatchNormLSTM.fold`."""
        plain = self.plain()
        self.fold_into(plain)
        return plain

    def plain(self, bias: bool = True) -> nn.RNN:
        """Make the same without normalization, with new weights: an ``nn.RNN``."""
        sizes = (self.input_size, self.hidden_size, self.num_layers, self.nonlinearity, bias)
        return nn.RNN(*sizes, self.batch_first, self.dropout, self.bidirectional)
