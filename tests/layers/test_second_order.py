"""Second derivatives: right where there are any, an error everywhere else; never a term left out."""

import itertools
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.recurrence.lstm_cpu import CpuLSTM
from asr_bn.layers.recurrence.packed_function import run_layer
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.rnn_cpu import CpuRNN
from asr_bn.layers.recurrence.steps import RecurrentWeights, Steps
from asr_bn.layers.sequence_norm import projected_moments

LAYOUT = PackedLayout([3, 2, 1])
KINDS = [BatchNormLSTM, partial(BatchNormLSTM, peephole=True), BatchNormRNN]
CASES = list(itertools.product(KINDS, (False, True), (False, True)))
REFUSED = "no second derivatives"


def random(*shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]


def make(kind, norm: str | None, backend: str = "auto", bidirectional: bool = False) -> nn.Module:
    torch.manual_seed(0)
    options = {"batch_first": True, "dtype": torch.float64, "eps": 0.1}
    layer = kind(5, 3, 2, norm=norm, backend=backend, bidirectional=bidirectional, **options)
    layer(random((4, 6, 5))[0])
    return layer


def penalty(layer: nn.Module) -> list[Tensor]:
    """The gradient of a gradient penalty by all parameters and by the input."""
    front = nn.Linear(5, 5).double()
    with torch.no_grad():
        front.weight.copy_(torch.linspace(-1.0, 1.0, 25).view(5, 5))
        front.bias.zero_()
    (x,) = random((4, 6, 5))
    output, _ = layer(front(x), lengths=[6, 4, 1, 3])
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    loss = (gradient.norm(2, dim=(1, 2)) - 1.0).square().mean()
    inputs = [x, *front.parameters(), *layer.parameters()]
    grads = torch.autograd.grad(loss, inputs, allow_unused=True)
    return [
        torch.zeros_like(value) if grad is None else grad for value, grad in zip(inputs, grads, strict=True)
    ]


@pytest.mark.parametrize("norm", [None, "sequence"])
@pytest.mark.parametrize(("kind", "bidirectional", "training"), CASES, ids=str)
def test_a_gradient_penalty_equals_the_references(kind, bidirectional, training, norm):
    results = [
        penalty(make(kind, norm, backend, bidirectional).train(training)) for backend in ("auto", "reference")
    ]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


def test_a_gradient_penalty_equals_that_of_nn_lstm():
    layer, plain = make(BatchNormLSTM, None), nn.LSTM(5, 3, 2, batch_first=True).double()
    plain.load_state_dict(layer.state_dict())
    x = random((4, 6, 5))[0]
    results = []
    for module in (layer, plain):
        (gradient,) = torch.autograd.grad(module(x)[0].sum(), x, create_graph=True)
        results.append(
            torch.autograd.grad(gradient.square().sum(), [x, *module.parameters()], allow_unused=True)
        )
    for ours, theirs in zip(*results, strict=True):
        # The last bias has a derivative of zero, or none.
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
@pytest.mark.parametrize(("kind", "bidirectional", "training"), CASES, ids=str)
def test_where_there_are_none_it_is_an_error(kind, bidirectional, training, norm):
    with pytest.raises(RuntimeError, match=REFUSED):
        penalty(make(kind, norm, bidirectional=bidirectional).train(training))


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
def test_so_it_is_where_nothing_but_the_input_has_a_gradient(norm):
    layer = make(BatchNormLSTM, norm).requires_grad_(False)
    (x,) = random((4, 6, 5))
    (gradient,) = torch.autograd.grad(layer(x)[0].sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=REFUSED):
        torch.autograd.grad(gradient.square().sum(), x)


@pytest.mark.parametrize("norm", [None, "sequence", "frame", "recurrent"])
def test_derivatives_by_the_incoming_gradient_are_right_or_refused(norm):
    """A product with the Jacobian, by differentiating twice; by hand, from every row of the Jacobian."""
    layer = make(BatchNormLSTM, norm).requires_grad_(False)
    (x,) = random((4, 6, 5))
    output = layer(x)[0].sum((0, 1))
    rows = torch.stack([torch.autograd.grad(value, x, retain_graph=True)[0] for value in output])
    direction = torch.zeros_like(output, requires_grad=True)
    (gradient,) = torch.autograd.grad(output, x, direction, create_graph=True)
    if norm in ("frame", "recurrent"):
        with pytest.raises(RuntimeError, match=REFUSED):
            torch.autograd.grad(gradient.sum(), direction)
        return
    (product,) = torch.autograd.grad(gradient, direction, torch.ones_like(x))
    torch.testing.assert_close(product, rows.flatten(1).sum(1), rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", [None, "sequence", "frame", "recurrent"])
def test_a_graph_that_is_not_used_changes_no_gradient(norm):
    results = []
    for create_graph in (False, True):
        layer = make(BatchNormLSTM, norm)
        (x,) = random((4, 6, 5))
        inputs = [x, *layer.parameters()]
        results.append(torch.autograd.grad(layer(x)[0].sum(), inputs, create_graph=create_graph))
    for plain, with_graph in zip(*results, strict=True):
        torch.testing.assert_close(with_graph, plain, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("norm", [None, "frame"])
def test_under_autocast_they_are_refused(norm):
    layer = make(BatchNormLSTM, norm).float()
    x = random((4, 6, 5))[0].float().detach().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        output, _ = layer(x.relu())
    (gradient,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match=REFUSED):
        gradient.square().sum().backward()


def outputs_of(steps: Steps, *inputs: Tensor) -> tuple[Tensor, ...]:
    x, w_ih, bias, w_hh, peephole, *state = inputs
    h, last = run_layer(steps, x, w_ih, bias, RecurrentWeights(w_hh, peephole), tuple(state), LAYOUT)
    return h, *last


def test_by_finite_differences():
    lstm = random((6, 2), (2, 8, 2), (2, 8), (2, 8, 2), (2, 2), (2, 3, 2), (2, 3, 2))
    assert torch.autograd.gradgradcheck(partial(outputs_of, CpuLSTM()), lstm)
    *rnn, h_0 = random((6, 2), (2, 3, 2), (2, 3), (2, 3, 3), (2, 3, 3))
    assert torch.autograd.gradgradcheck(partial(outputs_of, CpuRNN("tanh")), (*rnn, None, h_0))
    assert torch.autograd.gradgradcheck(
        lambda *inputs: projected_moments(*inputs)[:2], random((6, 3), (4, 3))
    )
