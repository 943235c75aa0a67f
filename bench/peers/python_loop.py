"""A batch-normalized bidirectional LSTM as toolkits write it in Python: one call a gate and time step.

Both directions go through one loop over the padded batch (the input and its reverse, one below the other).
``BatchNorm1d`` counts the padding, as in pytorch-kaldi's and SpeechBrain's recurrent layers.
"""

import torch
from torch import Tensor, nn


class PythonLoopLSTM(nn.Module):
    """Stacked layers; padded input ``[frames, batch, input_size]``."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        sizes = [input_size] + [2 * hidden_size] * (num_layers - 1)
        gates = range(4)
        self.input_to_gate = nn.ModuleList(
            nn.ModuleList(nn.Linear(size, hidden_size, bias=False) for _ in gates) for size in sizes
        )
        self.hidden_to_gate = nn.ModuleList(
            nn.ModuleList(nn.Linear(hidden_size, hidden_size, bias=False) for _ in gates) for _ in sizes
        )
        self.norms = nn.ModuleList(
            nn.ModuleList(nn.BatchNorm1d(hidden_size, momentum=0.05) for _ in gates) for _ in sizes
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return hidden states of both directions, ``[frames, batch, 2 * hidden_size]``."""
        for to_gate, recurrent, norms in zip(
            self.input_to_gate, self.hidden_to_gate, self.norms, strict=True
        ):
            both = torch.cat([x, x.flip(0)], dim=1)
            z = [
                norm(linear(both).view(-1, self.hidden_size)).view(*both.shape[:2], self.hidden_size)
                for linear, norm in zip(to_gate, norms, strict=True)
            ]
            h = c = both.new_zeros(both.shape[1], self.hidden_size)
            outputs = []
            for t in range(len(both)):
                i, f, o = (torch.sigmoid(z[k][t] + recurrent[k](h)) for k in range(3))
                c = f * c + i * torch.tanh(z[3][t] + recurrent[3](h))
                h = o * torch.tanh(c)
                outputs.append(h)
            forward, backward = torch.stack(outputs).chunk(2, dim=1)
            x = torch.cat([forward, backward.flip(0)], dim=2)
        return x
