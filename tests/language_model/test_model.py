"""The language model against the same in NumPy and against ``torch.nn.LSTM``; its evaluation."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from asr_bn.language_model.evaluation import TokenSums, evaluate
from asr_bn.language_model.experiment import LanguageModelConfig
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.run import StatefulForward
from asr_bn.language_model.windows import TextWindows, Window
from asr_bn.layers.population_estimate import estimate_population_stats, run_for_statistics
from tests.helpers.language_models import make_model, numpy_model
from tests.helpers.statistics import count_calls, statistics

KINDS = [("lstm", "none"), ("lstm", "frame"), ("lstm", "recurrent"), ("tanh", "frame"), ("tanh", "recurrent")]


def draw(num_steps: int, num_streams: int, seed: int = 0, num_words: int = 7) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, num_words, (num_steps, num_streams))


def run(model, tokens: list[np.ndarray], state=None):
    """Logits by step, and the states."""
    sizes = torch.tensor([len(row) for row in tokens])
    logits, state = model(torch.from_numpy(np.concatenate(tokens)), sizes, state)
    return [rows.detach().numpy() for rows in logits.split(sizes.tolist())], state


def assert_close(actual, expected, tolerance=2e-5):
    for ours, theirs in zip(actual, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance)


def population_of(model) -> list[list[tuple[int, np.ndarray, np.ndarray]]]:
    """The model's own statistics, as the NumPy model takes them."""
    by_layer = []
    for layer in range(model.layers.num_layers):
        stats = model.get_submodule(f"layers.stats_l{layer}")
        mean, variance = (values.numpy() for values in stats.mean_and_variance(stats.num_steps))
        count = stats.count[: stats.num_steps].tolist()
        by_layer.append(list(zip(count, mean, variance, strict=True)))
    return by_layer


@pytest.mark.parametrize(("cell", "norm"), KINDS)
def test_training_with_carried_state_is_the_computation_in_numpy(cell, norm):
    """Logits, states and statistics of every time step; the second window is short and its end ragged."""
    model = make_model(cell=cell, norm=norm, stats_momentum=1.0)  # the statistics of the last window
    first = list(draw(4, 5))
    second = [*draw(2, 5, seed=1), draw(1, 3, seed=2)[0]]
    _, state = run(model, first)
    logits, last = run(model, second, state)
    before = numpy_model(model, first)
    expected = numpy_model(model, second, before.states)
    assert_close(logits, expected.logits, 2e-4 if norm == "recurrent" else 2e-5)
    for kind, values in enumerate(last):
        assert_close(values.detach().numpy(), [s[kind] for s in expected.states], 2e-4)
    if norm == "none":
        return
    for ours, theirs in zip(population_of(model), expected.statistics, strict=True):
        for (count, *values), (expected_count, *expected_values) in zip(ours, theirs, strict=False):
            assert count == expected_count
            assert_close(values, expected_values)
    # Time steps that the short window did not have keep what the one before it gave.
    _, mean, variance = population_of(model)[0][3]
    assert_close((mean, variance), before.statistics[0][3][1:])


@pytest.mark.parametrize(("cell", "norm"), KINDS[1:])
@pytest.mark.parametrize("num_steps", [2, 4, 7])
def test_windows_shorter_and_longer_than_trained(cell, norm, num_steps):
    """Shorter ones take the statistics of the first steps; steps past the last take those of the last."""
    model = make_model(cell=cell, norm=norm)
    for seed in range(3):
        run(model, list(draw(4, 5, seed)))
    model.eval()
    tokens = list(draw(num_steps, 5, seed=9))
    logits, _ = run(model, tokens)
    expected = numpy_model(model, tokens, population=population_of(model)).logits
    assert_close(logits, expected, 2e-4 if norm == "recurrent" else 2e-5)


@pytest.mark.parametrize(("cell", "norm"), KINDS)
def test_evaluation_of_a_stream_does_not_depend_on_the_others(cell, norm):
    model = make_model(cell=cell, norm=norm)
    run(model, list(draw(4, 5)))
    model.eval()
    tokens, others = draw(4, 5, seed=1), draw(4, 5, seed=2)
    others[:, 1] = tokens[:, 1]
    ours, theirs = (run(model, list(rows))[0] for rows in (tokens, others))
    alone, _ = run(model, list(tokens[:, 1:2]))
    for step in range(4):
        assert np.array_equal(ours[step][1], theirs[step][1])
        np.testing.assert_allclose(alone[step][0], ours[step][1], rtol=0, atol=1e-5)
        assert not np.allclose(ours[step][0], theirs[step][0])  # the test would see it


@pytest.mark.parametrize("carry_state", [True, False])
@pytest.mark.parametrize(("cell", "norm"), KINDS)
def test_streams_evaluated_alone_add_up_to_streams_together(cell, norm, carry_state):
    model = make_model(cell=cell, norm=norm)
    run(model, list(draw(4, 5)))
    # 17 time steps: the last window is one step long, and the third stream has ended before it.
    windows = list(TextWindows(draw(1, 50)[0], 3, 4, "x").windows())
    together = evaluate(model, windows, carry_state)
    alone = [evaluate(model, stream_alone(windows, stream), carry_state) for stream in range(3)]
    assert together.tokens == sum(sums.tokens for sums in alone) == 50
    assert sum(sums.cross_entropy for sums in alone) == pytest.approx(together.cross_entropy, rel=1e-6)


def stream_alone(windows: list[Window], stream: int) -> list[Window]:
    """The windows of one stream."""
    alone = []
    for window in windows:
        sizes = window.batch_sizes.tolist()
        offsets = np.cumsum([0, *sizes[:-1]])
        rows = torch.tensor(
            [offset + stream for offset, size in zip(offsets, sizes, strict=True) if stream < size]
        )
        if len(rows):
            alone.append(Window(window.tokens[rows], window.targets[rows], torch.ones_like(rows)))
    return alone


def test_carried_state_makes_windows_of_a_text_one_text():
    """Without normalization, and only then, the length of the windows does not matter."""
    model, text = make_model(norm="none"), draw(1, 50)[0]
    sums = [
        evaluate(model, TextWindows(text, 3, steps, "x").windows(), True).cross_entropy
        for steps in (1, 4, 99)
    ]
    assert sums == pytest.approx([sums[0]] * 3, rel=1e-6)
    cut = evaluate(model, TextWindows(text, 3, 4, "x").windows(), False).cross_entropy
    assert cut != pytest.approx(sums[0], rel=1e-5)


def test_a_uniform_model_has_the_vocabulary_for_its_perplexity():
    model = make_model(num_words=7, norm="none")
    nn.init.zeros_(model.output.weight)
    nn.init.zeros_(model.output.bias)
    sums = evaluate(model, TextWindows(draw(1, 50)[0], 3, 4, "x").windows(), True)
    assert (sums.tokens, sums.perplexity) == (50, pytest.approx(7.0, rel=1e-6))


def test_cross_entropy_by_hand():
    """Probabilities 1/2, 1/4, 1/4; the targets have 1/2 and 1/4."""
    logits = torch.log(torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25]]))
    sums = TokenSums.of(logits, torch.tensor([0, 2]))
    assert (sums.tokens, sums.nats) == (2, pytest.approx(1.5 * np.log(2)))
    assert sums.perplexity == pytest.approx(2**1.5)


def test_evaluation_leaves_the_model_as_it_was():
    model = make_model(norm="frame")
    run(model, list(draw(4, 5)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    windows = TextWindows(draw(1, 50)[0], 3, 4, "x")
    assert evaluate(model, windows.windows(), True).nats == evaluate(model, windows.windows(), True).nats
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


class PlainLanguageModel(nn.Module):
    """The same of PyTorch's own modules, a layer at a time, dropout below, between and above them."""

    def __init__(self, model, dropout: float) -> None:
        super().__init__()
        size = model.layers.hidden_size
        self.embedding = nn.Embedding.from_pretrained(model.embedding.weight.detach().clone(), freeze=False)
        self.layers = nn.ModuleList(nn.LSTM(size, size) for _ in range(model.layers.num_layers))
        self.output = nn.Linear(size, model.output.out_features)
        self.output.load_state_dict(model.output.state_dict())
        self.dropout = nn.Dropout(dropout)
        for layer, lstm in enumerate(self.layers):
            lstm.load_state_dict(
                {
                    f"{name[:-1]}0": value
                    for name, value in model.layers.state_dict().items()
                    if name[-1] == str(layer)
                }
            )

    def forward(self, tokens, states):
        hidden, last = self.embedding(tokens), []
        for lstm, state in zip(self.layers, states, strict=True):
            hidden, state = lstm(self.dropout(hidden), state)
            last.append(state)
        return self.output(self.dropout(hidden)), last


def test_loss_and_gradients_are_those_of_torch_nn_lstm():
    """Over two windows with carried state."""
    model = make_model(norm="none")
    oracle = PlainLanguageModel(model, 0.0)
    states, state = [None, None], None
    for seed in (1, 2):
        tokens, targets = (torch.from_numpy(draw(4, 5, seed + k)) for k in (0, 10))
        logits, state = model(tokens.flatten(), torch.full((4,), 5), state)
        expected, states = oracle(tokens, states)
        state = tuple(values.detach() for values in state)
        states = [tuple(values.detach() for values in pair) for pair in states]
        loss = nn.functional.cross_entropy(logits, targets.flatten(), reduction="sum")
        assert TokenSums.of(logits, targets.flatten()).cross_entropy == loss.item()
        expected_loss = nn.functional.cross_entropy(
            expected.flatten(0, 1), targets.flatten(), reduction="sum"
        )
        assert loss.item() == pytest.approx(expected_loss.item(), rel=1e-6)
        model.zero_grad()
        oracle.zero_grad()
        loss.backward()
        expected_loss.backward()
        gradients = dict(oracle.named_parameters())
        for name, parameter in model.named_parameters():
            if name.startswith("layers."):
                name = f"layers.{name[-1]}.{name.removeprefix('layers.')[:-1]}0"
            if parameter.requires_grad:  # all but the second bias
                torch.testing.assert_close(parameter.grad, gradients[name].grad, rtol=1e-4, atol=1e-5)


def test_dropout_is_below_between_and_above_the_layers_and_only_in_training():
    model = make_model(norm="none", dropout=0.4)
    oracle = PlainLanguageModel(model, 0.4)
    tokens = draw(4, 5)
    torch.manual_seed(5)
    logits, _ = run(model, list(tokens))
    torch.manual_seed(5)
    expected, _ = oracle(torch.from_numpy(tokens), [None, None])
    assert_close(logits, expected.detach().numpy())
    evaluated, _ = run(model.eval(), list(tokens))
    expected, _ = oracle.eval()(torch.from_numpy(tokens), [None, None])
    assert_close(evaluated, expected.detach().numpy())
    assert not np.allclose(evaluated[0], logits[0])


@pytest.mark.parametrize("carry_state", [True, False])
@pytest.mark.parametrize(("cell", "norm"), KINDS[1:])
def test_estimated_statistics_are_those_pooled_in_numpy(cell, norm, carry_state):
    """Over all windows of a text, the ragged last one too, without dropout; running ones are forgotten."""
    model = make_model(cell=cell, norm=norm, dropout=0.5)
    run(model, list(draw(9, 5)))
    windows = list(TextWindows(draw(1, 50)[0], 3, 4, "x").windows())
    estimate_population_stats(model, windows, StatefulForward(carry_state))
    pooled = [{}, {}]
    states = None
    for window in windows:
        tokens = [rows.numpy() for rows in window.tokens.split(window.batch_sizes.tolist())]
        outcome = numpy_model(model, tokens, states)
        states = outcome.states if carry_state else None
        for sums, of_layer in zip(pooled, outcome.statistics, strict=True):
            for step, (count, mean, variance) in enumerate(of_layer):
                new = np.stack([np.full_like(mean, count), count * mean, count * (variance + mean**2)])
                sums[step] = sums.get(step, 0) + new
    for ours, theirs in zip(population_of(model), pooled, strict=True):
        assert len(ours) == len(theirs) == 4  # not 9
        for step, (count, mean, variance) in enumerate(ours):
            expected_count, total, squares = theirs[step]
            assert count == expected_count[0]
            np.testing.assert_allclose(mean, total / count, rtol=0, atol=1e-4)
            np.testing.assert_allclose(variance, squares / count - (total / count) ** 2, rtol=1e-3, atol=1e-4)


def test_evaluation_without_statistics_is_refused():
    with pytest.raises(RuntimeError, match="no population statistics yet"):
        run(make_model(norm="frame").eval(), list(draw(4, 5)))


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
@pytest.mark.parametrize("cell", ["lstm", "tanh"])
def test_a_language_models_pass_carries_its_states_without_the_output_layer(cell, norm):
    model = LanguageModel(LanguageModelConfig(cell=cell, hidden_size=6, num_layers=2, norm=norm), 11)
    windows = [torch.randint(11, (12,), generator=torch.Generator().manual_seed(k)) for k in range(3)]
    sizes = torch.tensor([3, 3, 3, 3])

    class Forward:
        def __init__(self, short: bool) -> None:
            self.short, self.state = short, None

        def __call__(self, model: LanguageModel, tokens: Tensor) -> None:
            if self.short:
                self.state = run_for_statistics(model.layers, model, tokens, sizes, self.state)
            else:
                _, self.state = model(tokens, sizes, self.state)

    estimate_population_stats(model, windows, Forward(short=False))
    expected, calls = statistics(model), count_calls(model.output)
    estimate_population_stats(model, windows, Forward(short=True))
    assert not calls
    assert all(torch.equal(values, expected[name]) for name, values in statistics(model).items())
