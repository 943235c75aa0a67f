"""The time steps of the LSTM (paper eqs. 12-17) on a GPU, as Triton kernels.

For what cuDNN's LSTM does not have: the peephole, and normalization inside the recurrence.
"""

import torch

from asr_bn.layers.recurrence import triton_kernels
from asr_bn.layers.recurrence.steps import Backward, Outputs, RecurrentTensors, State, Steps
from asr_bn.layers.recurrence.triton_steps import StepLauncher, TritonStepNorm, with_last_states


class TritonLSTM(Steps):
    """Eqs. 12-16, a launch or two for each step."""

    kind = "lstm"

    def run_forward(self, tensors: RecurrentTensors) -> Outputs:
        """Return ``h`` and ``c``, each ``[D, N, H]``."""
        gates, norm = tensors.gates, tensors.norm
        directions, rows, hidden = *gates.shape[:2], gates.shape[2] // 4
        h, c = (gates.new_empty(directions, rows, hidden) for _ in range(2))
        launcher = StepLauncher(directions, hidden, gates.dtype, tensors.layout)
        step_norm = None if norm is None else TritonStepNorm(norm, launcher)
        h_before, c_before = (values.contiguous() for values in tensors.state)
        w_hh = tensors.weights.w_hh.contiguous()
        with torch.cuda.device_of(gates):
            for step in range(tensors.layout.num_steps):
                if step_norm is not None:
                    step_norm.forward(gates, h_before, w_hh, step)
                buffers = gates, h, c, h_before, c_before, w_hh, tensors.weights.peephole
                where = launcher.own(step) | launcher.before(step)
                kernel = triton_kernels.lstm_forward[launcher.grid(step)]
                kernel(*buffers, PRODUCT=norm is None, HIDDEN=hidden, **where, **launcher.arithmetic)
                h_before, c_before = h, c
        return Outputs(h, c)

    def run_backward(self, tensors: RecurrentTensors, outputs: Outputs, grads: State) -> Backward:
        c = outputs.c
        assert c is not None  # run_forward gave it
        gates, layout, norm, peephole = tensors.gates, tensors.layout, tensors.norm, tensors.weights.peephole
        grad_h = with_last_states(grads[0], grads[1], layout)
        grad_c = grads[2].clone(memory_format=torch.contiguous_format)
        launcher = StepLauncher(len(c), c.shape[2], gates.dtype, layout)
        step_norm = None if norm is None else TritonStepNorm(norm, launcher)
        grad_gates = torch.empty_like(gates)
        # With normalization, the kernel of the cell does not yet leave the gradient of the product.
        grad_normalized = grad_gates if norm is None else torch.empty_like(gates)
        c_0, w_hh = tensors.state[1].contiguous(), tensors.weights.w_hh.contiguous()
        with torch.cuda.device_of(gates):
            for step in reversed(range(layout.num_steps)):
                cells = gates, c, c if step else c_0
                buffers = grad_normalized, grad_gates, grad_h, grad_c, *cells, w_hh, peephole
                where = launcher.own(step) | launcher.before(step) | launcher.later(step)
                sizes = {"batch": layout.batch_size, "HIDDEN": launcher.hidden}
                kernel = triton_kernels.lstm_backward[launcher.grid(step)]
                kernel(*buffers, **sizes, **where, **launcher.arithmetic)
                if step_norm is not None:
                    step_norm.backward(grad_gates, grad_normalized, step)
        if step_norm is not None:
            step_norm.finish(grad_normalized)
        grad_peephole = None if peephole is None else (grad_normalized[..., -launcher.hidden :] * c).sum(1)
        grad_h_0 = torch.bmm(grad_gates[:, : layout.batch_size], w_hh)
        return grad_gates, (grad_h_0, grad_c), grad_peephole
