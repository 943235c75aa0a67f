"""The time steps of the simple recurrence (paper eqs. 7 and 17) on a GPU, as Triton kernels."""

from dataclasses import dataclass

import torch

from asr_bn.layers.recurrence import triton_kernels
from asr_bn.layers.recurrence.steps import Backward, Nonlinearity, Outputs, RecurrentTensors, State, Steps
from asr_bn.layers.recurrence.triton_steps import StepLauncher, TritonStepNorm, with_last_states


@dataclass(frozen=True)
class TritonRNN(Steps):
    """Eq. 7, a launch or two for each step."""

    kind: Nonlinearity

    def run_forward(self, tensors: RecurrentTensors) -> Outputs:
        """Turn the input projections into hidden states, in place."""
        h, norm = tensors.gates, tensors.norm
        launcher = StepLauncher(len(h), h.shape[2], h.dtype, tensors.layout)
        step_norm = None if norm is None else TritonStepNorm(norm, launcher)
        h_before, w_hh = tensors.state[0].contiguous(), tensors.weights.w_hh.contiguous()
        constants = launcher.arithmetic | {"NONLINEARITY": self.kind, "HIDDEN": launcher.hidden}
        with torch.cuda.device_of(h):
            for step in range(tensors.layout.num_steps):
                if step_norm is not None:
                    step_norm.forward(h, h_before, w_hh, step, self.kind)
                else:
                    kernel = triton_kernels.rnn_forward[launcher.grid(step)]
                    kernel(h, h_before, w_hh, **launcher.own(step), **launcher.before(step), **constants)
                h_before = h
        return Outputs(h)

    def run_backward(self, tensors: RecurrentTensors, outputs: Outputs, grads: State) -> Backward:
        h, layout, norm = outputs.h, tensors.layout, tensors.norm
        grad_h = with_last_states(grads[0], grads[1], layout)
        launcher = StepLauncher(len(h), h.shape[2], h.dtype, layout)
        step_norm = None if norm is None else TritonStepNorm(norm, launcher)
        grad_z = torch.empty_like(h)
        grad_normalized = grad_z if norm is None else torch.empty_like(h)
        w_hh = tensors.weights.w_hh.contiguous()
        constants = launcher.arithmetic | {"NONLINEARITY": self.kind, "HIDDEN": launcher.hidden}
        with torch.cuda.device_of(h):
            for step in reversed(range(layout.num_steps)):
                buffers = grad_normalized, grad_z, grad_h, h, w_hh
                kernel = triton_kernels.rnn_backward[launcher.grid(step)]
                kernel(*buffers, **launcher.own(step), **launcher.later(step), **constants)
                if step_norm is not None:
                    step_norm.backward(grad_z, grad_normalized, step)
        if step_norm is not None:
            step_norm.finish(grad_normalized)
        return grad_z, (torch.bmm(grad_z[:, : layout.batch_size], w_hh),), None
