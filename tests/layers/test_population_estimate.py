"""The final pass for population statistics: what it leaves alone, and what it does not compute."""

import copy

import pytest
import torch
from torch import Tensor, nn

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.layer import Layer
from asr_bn.layers.population_estimate import estimate_population_stats, run_for_statistics
from asr_bn.layers.sequence_norm import SequenceNorm


class CustomDropout(nn.Module):
    """Of a kind that no list of PyTorch's knows."""

    def forward(self, x: Tensor) -> Tensor:
        """Scale at random, in training."""
        return x * torch.rand(()) if self.training else x


class Model(nn.Module):
    """A front end, one normalized layer, and one that may be frozen."""

    def __init__(self, dropout: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.front = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
        self.dropout = dropout
        self.frozen = BatchNormLSTM(5, 5, batch_first=True, norm="sequence")
        self.lstm = BatchNormLSTM(5, 3, 2, batch_first=True, norm="sequence", dropout=0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Of ``[batch, frames, 5]``."""
        x = self.front(x.flatten(0, 1)).view_as(x)
        return self.lstm(self.frozen(self.dropout(x))[0])[0]


def batches() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(4, 20, 5, generator=generator) for _ in range(3)]


DROPOUTS = [
    nn.Dropout(0.5),
    nn.Dropout1d(0.5),
    nn.AlphaDropout(0.5),
    nn.FeatureAlphaDropout(0.5),
    CustomDropout(),
]


@pytest.mark.parametrize("dropout", DROPOUTS, ids=str)
@pytest.mark.parametrize("training", [False, True])
def test_only_statistics_change_and_no_dropout_is_on(dropout, training):
    model = Model(dropout)
    model.train()(batches()[0])
    model.train(training)
    modes = [part.training for part in model.modules()]
    before = copy.deepcopy(model.state_dict())
    estimate_population_stats(model, batches())
    first = copy.deepcopy(model.state_dict())
    estimate_population_stats(model, batches())
    assert [part.training for part in model.modules()] == modes
    for name, values in model.state_dict().items():
        assert torch.equal(values, first[name])
        assert torch.equal(values, before[name]) == ("stats" not in name)
    assert model.lstm.dropout == 0.5


def test_a_frozen_layer_keeps_its_statistics_and_uses_them():
    model = Model(nn.Identity())
    model.train()(batches()[0])
    model.frozen.eval()
    before = copy.deepcopy(model.frozen.state_dict())
    estimate_population_stats(model, batches())
    assert not model.frozen.training
    assert all(torch.equal(values, before[name]) for name, values in model.frozen.state_dict().items())
    model.eval()
    with torch.no_grad():
        x = torch.cat(
            [model.frozen(model.front(b.flatten(0, 1)).view_as(b))[0].flatten(0, 1) for b in batches()]
        )
    z = (x @ model.lstm.weight_ih_l0.detach().t()).double()
    mean, variance = model.lstm.stats_l0.mean_and_variance()
    torch.testing.assert_close(mean[0], z.mean(0), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(variance[0], z.var(0, correction=0), rtol=1e-4, atol=1e-5)


def test_nothing_but_frozen_layers_is_refused():
    model = Model(nn.Identity()).train()
    model.lstm.eval(), model.frozen.eval()
    with pytest.raises(ValueError, match="none but frozen"):
        estimate_population_stats(model, batches())


FAILING = [[], [torch.zeros(4, 20, 6)], [torch.full((4, 20, 5), torch.nan)]]


@pytest.mark.parametrize("failing", FAILING, ids=["none", "another width", "NaN"])
def test_a_pass_that_fails_leaves_the_former_statistics(failing):
    model = Model(nn.Identity())
    model.train()(batches()[0])
    before = copy.deepcopy(model.state_dict())
    with pytest.raises((ValueError, RuntimeError)):
        estimate_population_stats(model, [*batches(), *failing] if failing else [])
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert model.lstm.stats_l0.momentum == 0.1


@pytest.mark.parametrize("kind", [BatchNormLSTM, BatchNormRNN])
def test_the_top_layer_of_such_a_pass_runs_only_where_statistics_depend_on_it(monkeypatch, kind):
    layer = kind(5, 3, 2, batch_first=True, norm="sequence")
    ran: list[Layer] = []
    run = SequenceNorm.run
    monkeypatch.setattr(SequenceNorm, "run", lambda *inputs: ran.append(inputs[1]) or run(*inputs))
    assert run_for_statistics(layer, layer, batches()[0])[0].shape == (2, 4, 3)
    assert len(ran) == 1  # the layer below
    assert not layer.statistics_only


def test_estimation_ignores_dropout_and_leaves_everything_else_as_it_was():
    torch.manual_seed(0)
    layer = BatchNormLSTM(3, 2, 2, batch_first=True, norm="sequence", dropout=0.5).eval()
    batches = [torch.randn(4, 7, 3), torch.randn(2, 9, 3)]
    parameters = {name: value.clone() for name, value in layer.named_parameters()}
    results = []
    for _ in range(2):
        estimate_population_stats(layer, batches)
        results.append(layer(batches[0])[0])
    assert torch.equal(*results)
    assert (layer.dropout, layer.training, layer.stats_l0.momentum) == (0.5, False, 0.1)
    assert all(torch.equal(value, parameters[name]) for name, value in layer.named_parameters())


def test_estimation_without_batches_or_without_normalization_is_refused():
    with pytest.raises(ValueError, match="no mini-batches"):
        estimate_population_stats(BatchNormLSTM(3, 2, norm="sequence"), [])
    with pytest.raises(ValueError, match="no batch normalization"):
        estimate_population_stats(BatchNormLSTM(3, 2), [torch.zeros(2, 1, 3)])
