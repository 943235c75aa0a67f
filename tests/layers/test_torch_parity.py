"""The layers within PyTorch: compiled models, mixed precision, copies, and batches without a sequence."""

import copy
import io
import pickle

import pytest
import torch
from torch import Tensor, nn

from asr_bn import BatchNormLSTM, BatchNormRNN

LENGTHS = torch.tensor([5, 7, 1, 4])
VARIANTS = {
    "LSTM": lambda: BatchNormLSTM(6, 5, 2, batch_first=True, bidirectional=True),
    "LSTM, sequence": lambda: BatchNormLSTM(6, 5, 2, batch_first=True, bidirectional=True, norm="sequence"),
    "LSTM, frame, peephole": lambda: BatchNormLSTM(
        6, 5, batch_first=True, norm="frame", peephole=True, eps=0.1
    ),
    "LSTM, recurrent": lambda: BatchNormLSTM(6, 5, batch_first=True, norm="recurrent", eps=0.1),
    "RNN, sequence": lambda: BatchNormRNN(6, 5, batch_first=True, norm="sequence"),
    "RNN, recurrent": lambda: BatchNormRNN(6, 5, batch_first=True, norm="recurrent", eps=0.1),
}


class Model(nn.Module):
    """A layer between others."""

    def __init__(self, name: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.input = nn.Linear(3, 6)
        self.layer = VARIANTS[name]()
        self.output = nn.Linear(5 * self.layer.num_directions, 4)

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Scores, zero in the padding."""
        hidden, _ = self.layer(torch.relu(self.input(x)), lengths=lengths)
        return self.output(hidden) * (hidden != 0).any(2, keepdim=True)


def features() -> Tensor:
    return torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(1))


def outputs_and_gradients(model: nn.Module, forward: nn.Module | None = None) -> list[Tensor]:
    """Of training, then the statistics and the output of evaluation."""
    x = features().requires_grad_()
    forward = model if forward is None else forward
    model.train()
    output = forward(x, LENGTHS)
    gradients = torch.autograd.grad(output.float().pow(2).sum(), [x, *model.parameters()])
    statistics = [buffer.clone() for buffer in model.buffers()]
    model.eval()
    return [output.detach(), *gradients, *statistics, forward(x, LENGTHS).detach()]


# Dynamo means to hide this warning of its own; pytest makes it an error before it can.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")
@pytest.mark.parametrize(
    ("name", "compiler"), [(name, "aot_eager") for name in VARIANTS] + [("LSTM, sequence", "eager")]
)
def test_a_compiled_model_gives_the_same(name, compiler):
    torch._dynamo.reset()
    expected = outputs_and_gradients(Model(name))
    model = Model(name)
    actual = outputs_and_gradients(model, torch.compile(model, backend=compiler))
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", VARIANTS)
def test_bfloat16_autocast_stays_close_and_keeps_its_statistics(name):
    """What bfloat16 is off by in the products, 2^-8, and no more; nothing of the layer's own is rounded."""
    expected = outputs_and_gradients(Model(name))
    model = Model(name)
    with torch.autocast("cpu", torch.bfloat16):
        actual = outputs_and_gradients(model)
    for a, b in zip(actual, expected, strict=True):
        assert (a - b).abs().max() <= 0.05 * b.abs().max().clamp_min(1e-3)
        assert a.isfinite().all()
    assert all(buffer.dtype == torch.float64 for buffer in model.buffers())
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())


def test_statistics_under_autocast_are_those_of_float32():
    """The mean of the layer's input is far from 0: moments in bfloat16 would be off by percents."""
    x = 100.0 + features()
    layers = [BatchNormLSTM(3, 5, batch_first=True, norm="sequence") for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    layers[0](x)
    with torch.autocast("cpu", torch.bfloat16):
        layers[1](x)
    torch.testing.assert_close(layers[1].state_dict(), layers[0].state_dict(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_scaled_gradients_take_the_same_step(name):
    models = [Model(name) for _ in range(2)]
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    for model, scaled in zip(models, (False, True), strict=True):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        loss = model(features(), LENGTHS).pow(2).sum()
        if scaled:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            loss.backward()
            optimizer.step()
    for a, b in zip(*(model.parameters() for model in models), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_copies_are_equal_and_independent(name):
    model = Model(name)
    model(features(), LENGTHS)
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    loaded = Model(name)
    loaded.load_state_dict(torch.load(io.BytesIO(stream.getvalue()), weights_only=True))
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), loaded]
    called = torch.func.functional_call(
        Model(name).eval(), model.state_dict(), (features(), LENGTHS), strict=True
    )
    expected = model.eval()(features(), LENGTHS)
    assert torch.equal(called, expected)
    for other in copies:
        assert torch.equal(other.eval()(features(), LENGTHS), expected)
        other.train()(features(), LENGTHS)
    assert torch.equal(model(features(), LENGTHS), expected)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_batch_without_a_sequence_changes_no_statistics(name):
    layer = VARIANTS[name]()
    layer(torch.randn(4, 7, 6))
    before = copy.deepcopy(layer.state_dict())
    output, _ = layer(torch.zeros(0, 7, 6))
    output.sum().backward()
    assert output.shape == (0, 7, 5 * layer.num_directions)
    assert all(torch.equal(value, before[key]) for key, value in layer.state_dict().items())
    assert all(not parameter.grad.any() for parameter in layer.parameters())
