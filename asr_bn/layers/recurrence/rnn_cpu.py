"""The time steps of the simple recurrence (paper eqs. 7 and 17) for the CPU, in PyTorch's operations."""

from dataclasses import dataclass
from functools import partial

import torch

from asr_bn.layers.recurrence.packed_ops import HiddenGradient, StepBuffer
from asr_bn.layers.recurrence.steps import Backward, Nonlinearity, Outputs, RecurrentTensors, State, Steps


@dataclass(frozen=True)
class CpuRNN(Steps):
    """Eq. 7, step by step."""

    kind: Nonlinearity

    def run_forward(self, tensors: RecurrentTensors) -> Outputs:
        """Turn the input projections into hidden states, in place."""
        h, layout, norm = tensors.gates, tensors.layout, tensors.norm
        recurrent = tensors.weights.w_hh.transpose(1, 2)
        activation = torch.tanh if self.kind == "tanh" else partial(torch.clamp_min, min=0.0)
        scratch = StepBuffer(h, layout.batch_size, h.shape[2])
        (h_before,) = tensors.state
        for step, h_t in enumerate(h.split(layout.batch_sizes, dim=1)):
            size = h_t.shape[1]
            sums = torch.baddbmm(h_t, h_before[:, :size], recurrent, out=scratch.of(size))
            if norm is not None:
                norm.forward(sums, step)
            h_before = activation(sums, out=h_t)
        return Outputs(h)

    def run_backward(self, tensors: RecurrentTensors, outputs: Outputs, grads: State) -> Backward:
        h, layout, norm = outputs.h, tensors.layout, tensors.norm
        grad_h = HiddenGradient(grads[0], grads[1], tensors.weights.w_hh, layout)
        # Becomes the gradient step by step.
        grad_z = h.square().neg_().add_(1.0) if self.kind == "tanh" else (h > 0).to(h.dtype)
        grad_steps = grad_z.split(layout.batch_sizes, dim=1)
        for step in range(layout.num_steps - 1, -1, -1):
            grad_t = grad_steps[step].mul_(grad_h.value)
            if norm is not None:
                norm.backward(grad_t, step)
            grad_h.pass_back(grad_t)
        return grad_z, (grad_h.value,), None
