"""The time steps of the LSTM (paper eqs. 12-17) for the CPU, in PyTorch's operations.

``tanh(x)`` is computed as ``2 sigmoid(2 x) - 1``: PyTorch's CPU sigmoid is several times as fast as its
tanh.  Doubling the ``g`` rows is exact in binary floating point.
"""

import torch
from torch import Tensor

from asr_bn.layers.recurrence.packed_ops import HiddenGradient, StepBuffer, shifted
from asr_bn.layers.recurrence.steps import Backward, Outputs, RecurrentTensors, State, Steps

# Rows whose local derivatives are computed at a time: few enough for the cache, many enough that calls cost
# little.
BLOCK_ROWS = 192


class CpuLSTM(Steps):
    """Eqs. 12-16, step by step."""

    kind = "lstm"

    def scale_weight(self, weight: Tensor) -> Tensor:
        """Double the ``g`` rows of a copy of ``[D, 4H, ...]``, for tanh by way of the sigmoid."""
        hidden = weight.shape[1] // 4
        doubled = weight.clone(memory_format=torch.contiguous_format)
        doubled[:, 2 * hidden : 3 * hidden].mul_(2.0)
        return doubled

    def scale_gates(self, gates: Tensor) -> None:
        """Double the ``g`` columns; normalized gates are doubled after the normalization instead."""
        hidden = gates.shape[-1] // 4
        gates[..., 2 * hidden : 3 * hidden].mul_(2.0)

    def run_forward(self, tensors: RecurrentTensors) -> Outputs:
        """Return ``h``, ``c`` and ``tanh(c)``, each ``[D, N, H]``."""
        gates, layout, norm = tensors.gates, tensors.layout, tensors.norm
        recurrent, peephole = tensors.weights.w_hh.transpose(1, 2), tensors.weights.peephole
        directions, rows, hidden = *gates.shape[:2], gates.shape[2] // 4
        h, c, tanh_c = (gates.new_empty(directions, rows, hidden) for _ in range(3))
        by_gate = gates.split(hidden, dim=2)
        buffers = (gates, *by_gate, h, c, tanh_c)
        sizes = layout.batch_sizes
        steps = zip(sizes, *(buffer.split(sizes, dim=1) for buffer in buffers), strict=True)
        scratch = StepBuffer(gates, layout.batch_size, 4 * hidden)
        h_before, c_before = tensors.state
        size_before = layout.batch_size
        for step, (size, gates_t, i, f, g, o, h_t, c_t, tanh_c_t) in enumerate(steps):
            if size < size_before:
                h_before, c_before, size_before = h_before[:, :size], c_before[:, :size], size
            sums = torch.baddbmm(gates_t, h_before, recurrent, out=scratch.of(size))
            if norm is not None:
                norm.forward(sums, step)
                sums[..., 2 * hidden : 3 * hidden].mul_(2.0)
            torch.sigmoid(sums, out=gates_t)
            torch.mul(f, c_before, out=c_t)
            c_t.addcmul_(i, g, value=2.0).sub_(i)  # i * tanh, with tanh = 2 g - 1
            if peephole is not None:
                torch.addcmul(sums[..., 3 * hidden :], peephole[:, None], c_t, out=o).sigmoid_()
            torch.add(c_t, c_t, out=tanh_c_t)
            tanh_c_t.sigmoid_().mul_(2.0).sub_(1.0)
            torch.mul(o, tanh_c_t, out=h_t)
            h_before, c_before = h_t, c_t
        return Outputs(h, c, tanh_c)

    def run_backward(self, tensors: RecurrentTensors, outputs: Outputs, grads: State) -> Backward:
        _, c, tanh_c = outputs
        assert c is not None and tanh_c is not None  # run_forward gave them
        gates, layout = tensors.gates, tensors.layout
        steps = _BackwardSteps(tensors, c, grads)
        for block in reversed(layout.blocks(BLOCK_ROWS)):
            first = layout.offsets[block.start]
            rows = slice(first, layout.offsets[block[-1]] + layout.batch_sizes[block[-1]])
            c_before = shifted(c, tensors.state[1], rows, layout)
            grad_gates = steps.grad_gates[:, rows]
            through_c = _fill_local_derivatives(grad_gates, gates[:, rows], tanh_c[:, rows], c_before)
            through_c_steps = through_c.split(layout.batch_sizes[block.start : block.stop], dim=1)
            for step in reversed(block):
                steps.run(step, through_c_steps[step - block.start])
        return steps.grad_gates, (steps.grad_h.value, steps.grad_c), steps.grad_peephole


class _BackwardSteps:
    """The part of the backward pass that must go one time step after the other."""

    def __init__(self, tensors: RecurrentTensors, c: Tensor, grads: State) -> None:
        gates, peephole = tensors.gates, tensors.weights.peephole
        hidden, sizes = c.shape[2], tensors.layout.batch_sizes
        grad_of_outputs, grad_h_n, grad_c_n = grads
        self.grad_h = HiddenGradient(grad_of_outputs, grad_h_n, tensors.weights.w_hh, tensors.layout)
        self.layout, self.norm = tensors.layout, tensors.norm
        self.peephole = None if peephole is None else peephole[:, None]
        self.grad_gates = torch.empty_like(gates)
        self.grad_c = grad_c_n.clone(memory_format=torch.contiguous_format)
        self.grad_peephole = None if peephole is None else torch.zeros_like(peephole)
        self._grad_steps = self.grad_gates.split(sizes, dim=1)
        by_gate = self.grad_gates.view(len(gates), -1, 4, hidden)
        self._grad_ifg = by_gate[:, :, :3].split(sizes, dim=1)
        self._grad_o = by_gate[:, :, 3].split(sizes, dim=1)
        self._forget = gates[..., hidden : 2 * hidden].split(sizes, dim=1)
        self._c = c.split(sizes, dim=1)

    def run(self, step: int, through_c: Tensor) -> None:
        """Turn the local derivatives of ``step`` into gradients and pass them to the step before."""
        grad_h, grad_c = self.grad_h.value, self.grad_c[:, : self.layout.batch_sizes[step]]
        grad_o = self._grad_o[step].mul_(grad_h)
        grad_c.addcmul_(through_c, grad_h)
        if self.peephole is not None and self.grad_peephole is not None:
            grad_c.addcmul_(grad_o, self.peephole)
            self.grad_peephole += (grad_o * self._c[step]).sum(1)
        self._grad_ifg[step].mul_(grad_c.unsqueeze(2))
        grad_c.mul_(self._forget[step])
        grad_gates = self._grad_steps[step]
        if self.norm is not None:
            self.norm.backward(grad_gates, step)
        self.grad_h.pass_back(grad_gates)


def _fill_local_derivatives(grad_gates: Tensor, gates: Tensor, tanh_c: Tensor, c_before: Tensor) -> Tensor:
    """Fill ``grad_gates`` with d(c or h)/d(gate before activation); return ``dh/dc``, each gate as it is."""
    hidden = tanh_c.shape[-1]
    torch.addcmul(gates, gates, gates, value=-1.0, out=grad_gates)  # sigmoid' = s - s^2
    i, _, g, o = gates.split(hidden, dim=2)
    to_i, to_f, to_g, to_o = grad_gates.split(hidden, dim=2)
    to_i.mul_(g.mul(2.0).sub_(1.0))
    to_f.mul_(c_before)
    to_g.mul_(i).mul_(4.0)  # 1 - tanh^2 = 4 (s - s^2)
    to_o.mul_(tanh_c)
    return torch.addcmul(o, o, tanh_c.square(), value=-1.0)
