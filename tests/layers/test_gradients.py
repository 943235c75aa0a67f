"""Gradients by finite differences: every recurrence with a backward pass of its own, and the whole layers."""

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.recurrence.lstm_cpu import CpuLSTM
from asr_bn.layers.recurrence.packed_function import run_layer, run_recurrence
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_cpu import CpuRNN
from asr_bn.layers.recurrence.step_norm import StepNormSpec
from asr_bn.layers.recurrence.steps import RecurrentWeights

LAYOUT = PackedLayout([3, 2, 2, 1])
EPS = 0.1


def random(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def step_norm(gamma: Tensor, beta: Tensor, population: bool) -> StepNormSpec:
    """Statistics of the batch, or given ones."""
    if not population:
        return StepNormSpec(gamma, beta, EPS)
    shape = (2, 4, gamma.shape[1])
    mean, variance = (values.detach() for values in random(shape, shape))
    return StepNormSpec(gamma, beta, EPS, (mean, variance.square()))


@pytest.mark.parametrize("population", [False, True])
def test_lstm_with_normalization_inside_the_recurrence(population):
    tensors = random((2, 8, 8), (2, 8, 2), (2, 2), (2, 3, 2), (2, 3, 2), (2, 8), (2, 8))

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        z, w_hh, peephole, h_0, c_0, *of_norm = inputs
        weights, norm = RecurrentWeights(w_hh, peephole), step_norm(*of_norm, population)
        h, last, _ = run_recurrence(CpuLSTM(), z, weights, (h_0, c_0), LAYOUT, norm)
        return h, *last

    assert torch.autograd.gradcheck(outputs, tensors)


@pytest.mark.parametrize("population", [False, True])
def test_rnn_with_normalization_inside_the_recurrence(population):
    tensors = random((2, 8, 3), (2, 3, 3), (2, 3, 3), (2, 3), (2, 3))

    def outputs(*inputs: Tensor) -> tuple[Tensor, ...]:
        z, w_hh, h_0, *of_norm = inputs
        weights, norm = RecurrentWeights(w_hh), step_norm(*of_norm, population)
        h, last, _ = run_recurrence(CpuRNN("tanh"), z, weights, (h_0,), LAYOUT, norm)
        return h, *last

    assert torch.autograd.gradcheck(outputs, tensors)


def test_rnn_layer():
    tensors = random((8, 2), (2, 3, 2), (2, 3), (2, 3, 3), (2, 3, 3))

    def outputs(x: Tensor, w_ih: Tensor, bias: Tensor, w_hh: Tensor, h_0: Tensor) -> tuple[Tensor, ...]:
        h, last = run_layer(CpuRNN("tanh"), x, w_ih, bias, RecurrentWeights(w_hh), (h_0,), LAYOUT)
        return h, *last

    assert torch.autograd.gradcheck(outputs, tensors)


@pytest.mark.parametrize("norm", [None, "sequence", "frame", "recurrent"])
@pytest.mark.parametrize(
    "kind", [BatchNormLSTM, partial(BatchNormLSTM, peephole=True), BatchNormRNN], ids=str
)
def test_whole_layers(kind, norm):
    """The input and every parameter, the statistics of the batch among what depends on them."""
    torch.manual_seed(0)
    layer = kind(2, 2, batch_first=True, bidirectional=True, norm=norm, eps=EPS, dtype=torch.float64)
    names = [name for name, _ in layer.named_parameters()]
    parameters = [nn.init.normal_(parameter) for parameter in layer.parameters()]

    def output(x: Tensor, *values: Tensor) -> Tensor:
        arguments = {"lengths": torch.tensor([2, 3, 1])}
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(layer, named, (x,), arguments)[0]

    assert torch.autograd.gradcheck(output, (*random((3, 3, 2)), *parameters))
