"""Run by ``test_triton.py`` under TRITON_INTERPRET=1: the kernels on the CPU against the reference.

Prints, as JSON, the largest relative difference of each case: of the outputs, the last states, the gradients
of the input, the first states and all parameters, and of the statistics.
"""

import json
from typing import Any

import torch
from torch import Tensor, nn

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.recurrence import triton_steps

CASES: dict[str, dict[str, Any]] = {
    "LSTM": {"norm": "sequence"},
    "peephole": {"peephole": True},
    "frame, peephole": {"norm": "frame", "peephole": True},
    "recurrent": {"norm": "recurrent"},
    "recurrent, peephole": {"norm": "recurrent", "peephole": True},
    "RNN tanh": {"nonlinearity": "tanh"},
    "RNN tanh, recurrent": {"nonlinearity": "tanh", "norm": "recurrent"},
    "RNN relu, recurrent": {"nonlinearity": "relu", "norm": "recurrent"},
}
# Interpreting takes its time: the equations are checked in float64, float32 only adds rounding.
DTYPES = {"one direction": torch.float32, "both directions": torch.float64}
# Batch sizes that shrink to one, and several blocks of sequences, of units and of terms, the last not full.
LENGTHS = [2, 3, 1, 2, 3]
SMALL_TILE = {"ROWS": 4, "UNITS": 4, "DEPTH": 16}


def make(case: str, bidirectional: bool, dtype: torch.dtype, backend: str) -> BatchNormLSTM | BatchNormRNN:
    """A layer with parameters that depend on the case alone."""
    torch.manual_seed(3)
    kind = BatchNormRNN if case.startswith("RNN") else BatchNormLSTM
    options: dict[str, Any] = {
        "bidirectional": bidirectional,
        "eps": 1e-2,
        "batch_first": True,
        "backend": backend,
    }
    layer = kind(3, 6, dtype=dtype, **options, **CASES[case])
    for name, parameter in layer.named_parameters():
        if name.startswith(("gamma", "beta")):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def results(layer: BatchNormLSTM | BatchNormRNN, dtype: torch.dtype) -> list[Tensor]:
    """Everything that is compared: of training, then of evaluation."""
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(len(LENGTHS), max(LENGTHS), 3, generator=generator, dtype=torch.float64)
    shape = (layer.num_directions, len(LENGTHS), 6)
    first = [
        torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(layer.cell.num_states)
    ]
    x, *first = (values.to(dtype).requires_grad_() for values in (x, *first))
    hx = tuple(first) if len(first) == 2 else first[0]
    lengths = torch.tensor(LENGTHS)
    output, state = layer(x, hx, lengths=lengths)
    states = list(state) if isinstance(state, tuple) else [state]
    loss = (output * torch.linspace(-1.0, 1.0, output.numel(), dtype=dtype).view_as(output)).sum()
    loss = loss + sum(values.pow(3).sum() for values in states)
    gradients = torch.autograd.grad(loss, [x, *first, *layer.parameters()])
    evaluation, _ = layer.eval()(x, lengths=lengths)
    return [output, *states, *gradients, evaluation, *layer.buffers()]


def difference(case: str, bidirectional: bool, dtype: torch.dtype) -> float:
    """Largest relative difference."""
    pair = (results(make(case, bidirectional, dtype, backend), dtype) for backend in ("triton", "reference"))
    differences = [(a - b).abs().max() / b.abs().max().clamp_min(1e-30) for a, b in zip(*pair, strict=True)]
    return max(float(value.detach()) for value in differences)


def main() -> None:
    """Run the cases."""
    triton_steps.TILE.update(SMALL_TILE)
    found = {
        f"{case}, {directions}": difference(case, directions == "both directions", dtype)
        for case in CASES
        for directions, dtype in DTYPES.items()
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
