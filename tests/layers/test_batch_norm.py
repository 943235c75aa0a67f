"""BatchNormLSTM against PyTorch's LSTM, an eager reference, and equations 18, 20 and 21 in NumPy."""

import copy
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from asr_bn import BatchNormLSTM, BatchNormRNN
from asr_bn.layers.population_estimate import estimate_population_stats
from asr_bn.layers.recurrence import lstm_cpu, reference
from asr_bn.layers.recurrence.lstm_cpu import CpuLSTM
from asr_bn.layers.recurrence.packed_function import run_layer, run_recurrence
from asr_bn.layers.recurrence.packing import PackedLayout
from asr_bn.layers.recurrence.steps import RecurrentWeights

LENGTHS = [3, 9, 1, 9, 6, 9, 8, 9]
# The statistics of a time step are of few sequences here: a larger eps keeps them from magnifying rounding.
EPS = 1e-2
NORMS = (None, "sequence", "frame", "recurrent")
LSTMS = [
    {"norm": norm, "bidirectional": bidirectional, "peephole": peephole}
    for norm, bidirectional, peephole in itertools.product(NORMS, (False, True), (False, True))
]
RNNS = [
    {"cell": "RNN", "norm": norm, "bidirectional": bidirectional, "nonlinearity": nonlinearity}
    for norm, bidirectional, nonlinearity in itertools.product(NORMS, (False, True), ("tanh", "relu"))
]
OPTIONS = LSTMS + RNNS
FOLDABLE = [options for options in OPTIONS if options["norm"] in (None, "sequence")]
# float64: rounding in sums of some hundred terms.  float32: the same, at 2^29 times the unit roundoff.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def ragged(dtype: torch.dtype = torch.float64, features: int = 6) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(len(LENGTHS), max(LENGTHS), features, generator=generator, dtype=torch.float64)
    return x.to(dtype), torch.tensor(LENGTHS)


def make(backend: str = "auto", dtype: torch.dtype = torch.float64, cell: str = "LSTM", **options: object):
    torch.manual_seed(3)
    kind = BatchNormLSTM if cell == "LSTM" else BatchNormRNN
    layer = kind(6, 5, 2, batch_first=True, backend=backend, dtype=dtype, eps=EPS, **options)
    for name, parameter in layer.named_parameters():
        if name.startswith(("gamma", "beta")):
            nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def run(layer: nn.Module, x: Tensor, lengths: Tensor | None = None) -> list[Tensor]:
    output, state = layer(x, lengths=lengths)
    return [output, *(state if isinstance(state, tuple) else (state,))]


def outputs_and_gradients(layer: nn.Module, x: Tensor, lengths: Tensor) -> list[Tensor]:
    x = x.clone().requires_grad_()
    output, *state = run(layer, x, lengths)
    weights = torch.linspace(-1.0, 1.0, output.numel(), dtype=x.dtype).view_as(output)
    loss = (output * weights).sum() + sum(values.pow(3).sum() for values in state)
    statistics = [buffer for name, buffer in layer.named_buffers() if "stats" in name]
    return [output, *state, *torch.autograd.grad(loss, [x, *layer.parameters()]), *statistics]


def relative_difference(actual: Tensor, expected: Tensor) -> float:
    difference = (actual - expected).detach().abs().max()
    return float(difference / expected.detach().abs().max().clamp_min(1e-30))


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_cpu_recurrence_equals_the_reference_in_outputs_and_gradients(options, dtype):
    x, lengths = ragged(dtype)
    actual = outputs_and_gradients(make("cpu", dtype, **options), x, lengths)
    expected = outputs_and_gradients(make("reference", dtype, **options), x, lengths)
    for a, b in zip(actual, expected, strict=True):
        assert relative_difference(a, b) <= TOLERANCE[dtype]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_without_a_norm_it_is_nn_lstm(bidirectional):
    plain = nn.LSTM(6, 5, 2, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    layer = BatchNormLSTM(6, 5, 2, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    layer.load_state_dict(plain.state_dict())
    x, lengths = ragged()
    state = tuple(torch.randn(2 * (1 + bidirectional), len(x), 5, dtype=torch.float64) for _ in range(2))
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, expected_state = plain(packed, state)
    actual, actual_state = layer(packed, state)
    assert relative_difference(actual.data, expected.data) <= 1e-12
    for a, b in zip(actual_state, expected_state, strict=True):
        assert relative_difference(a, b) <= 1e-12


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
def test_without_a_norm_it_is_nn_rnn(nonlinearity):
    options = {
        "nonlinearity": nonlinearity,
        "batch_first": True,
        "bidirectional": True,
        "dtype": torch.float64,
    }
    plain, layer = nn.RNN(6, 5, 2, **options), BatchNormRNN(6, 5, 2, **options)
    layer.load_state_dict(plain.state_dict())
    x, lengths = ragged()
    state = torch.randn(4, len(x), 5, dtype=torch.float64)
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    (expected, expected_state), (actual, actual_state) = plain(packed, state), layer(packed, state)
    assert relative_difference(actual.data, expected.data) <= 1e-12
    assert relative_difference(actual_state, expected_state) <= 1e-12


@pytest.mark.parametrize("peephole", [False, True])
def test_gradients_by_finite_differences(peephole):
    torch.manual_seed(0)
    layout = PackedLayout([3, 2, 2, 1])
    x = torch.randn(layout.num_rows, 3, dtype=torch.float64, requires_grad=True)
    shapes = [(2, 8, 3), (2, 8), (2, 8, 2), (2, 2), (2, 3, 2), (2, 3, 2)]
    w_ih, bias, w_hh, diagonal, h_0, c_0 = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes
    )

    def outputs(x, w_ih, bias, w_hh, diagonal, *state):
        h, last = run_layer(CpuLSTM(), x, w_ih, bias, RecurrentWeights(w_hh, diagonal), state, layout)
        return h, *last

    arguments = (x, w_ih, bias, w_hh, diagonal if peephole else None, h_0, c_0)
    assert torch.autograd.gradcheck(outputs, arguments)


def test_gradients_over_many_blocks(monkeypatch):
    """A block per step and one block for all give the same gradients."""
    x, lengths = ragged()
    results = []
    for rows in (1, 4, 1000):
        monkeypatch.setattr(lstm_cpu, "BLOCK_ROWS", rows)
        results.append(outputs_and_gradients(make("cpu", norm="sequence", bidirectional=True), x, lengths))
    for other in results[1:]:
        for a, b in zip(results[0], other, strict=True):
            assert relative_difference(a, b) <= 1e-12


def test_recurrence_on_a_given_projection_equals_the_reference():
    torch.manual_seed(0)
    layout = PackedLayout([3, 2, 2, 1])
    z, w_hh, diagonal, h_0, c_0 = (
        torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for shape in [(2, 8, 8), (2, 8, 2), (2, 2), (2, 3, 2), (2, 3, 2)]
    )
    results = []
    for function in (partial(run_recurrence, CpuLSTM()), partial(reference.recurrence, "lstm")):
        h, (h_n, c_n), _ = function(z, RecurrentWeights(w_hh, diagonal), (h_0, c_0), layout)
        loss = h.square().sum() + h_n.pow(3).sum() + c_n.sum()
        results.append([h, h_n, c_n, *torch.autograd.grad(loss, [z, w_hh, diagonal, h_0, c_0])])
    for a, b in zip(*results, strict=True):
        assert relative_difference(a, b) <= 1e-12


@pytest.mark.parametrize(
    "options", [o for o in OPTIONS if not o.get("peephole") and o["norm"] != "recurrent"], ids=str
)
def test_pytorch_kernels_backend_equals_the_reference(options):
    """What runs on cuDNN on a GPU, run here on PyTorch's CPU kernels."""
    x, lengths = ragged()
    actual = outputs_and_gradients(make("cudnn", **options), x, lengths)
    expected = outputs_and_gradients(make("reference", **options), x, lengths)
    for a, b in zip(actual, expected, strict=True):
        assert relative_difference(a, b) <= 1e-9


@pytest.mark.parametrize("options", [{"peephole": True}, {"norm": "recurrent"}], ids=str)
def test_cudnn_backend_refuses_what_it_cannot_do(options):
    with pytest.raises(ValueError, match="no peephole and no normalization"):
        make("cudnn", **options)(*ragged()[:1])


def test_sequence_wise_normalization_as_the_equations_say():
    """Eqs. 18, 20, 21 in NumPy over the unpadded frames, then the recurrence step by step."""
    x, lengths = ragged()
    layer = BatchNormLSTM(6, 5, batch_first=True, norm="sequence", dtype=torch.float64, eps=1e-3)
    nn.init.uniform_(layer.gamma_l0, 0.5, 1.5)
    nn.init.uniform_(layer.beta_l0, -0.5, 0.5)
    parameters = {name: value.detach().numpy() for name, value in layer.named_parameters()}
    weight = parameters["weight_ih_l0"]
    z = [utterance[:length].numpy() @ weight.T for utterance, length in zip(x, lengths, strict=True)]
    frames = np.concatenate(z)
    mean, variance = frames.mean(0), frames.var(0)
    output, _ = layer(x, lengths=lengths)
    for b, length in enumerate(LENGTHS):
        h, c = np.zeros(5), np.zeros(5)
        for t in range(length):
            normalized = (z[b][t] - mean) / np.sqrt(variance + 1e-3)
            gates = (
                parameters["gamma_l0"] * normalized + parameters["beta_l0"] + parameters["weight_hh_l0"] @ h
            )
            i, f, g, o = np.split(gates, 4)
            c = c / (1 + np.exp(-f)) + np.tanh(g) / (1 + np.exp(-i))
            h = np.tanh(c) / (1 + np.exp(-o))
            np.testing.assert_allclose(output[b, t].detach().numpy(), h, rtol=0, atol=1e-12)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_padding_changes_nothing_bit_for_bit(options):
    x, lengths = ragged(torch.float32)
    garbage = x.clone()
    for row, length in enumerate(LENGTHS):
        garbage[row, length:] = float("nan")
    for a, b in zip(
        outputs_and_gradients(make(dtype=torch.float32, **options), x, lengths),
        outputs_and_gradients(make(dtype=torch.float32, **options), garbage, lengths),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_in_evaluation_a_batch_equals_its_utterances_alone(options):
    x, lengths = ragged()
    layer = make(**options)
    layer(x, lengths=lengths)
    layer.eval()
    together, *states = run(layer, x, lengths)
    for row, length in enumerate(LENGTHS):
        alone, *own_states = run(layer, x[row, :length])
        assert relative_difference(together[row, :length], alone) <= 1e-12
        for states_of_all, own in zip(states, own_states, strict=True):
            assert relative_difference(states_of_all[:, row], own) <= 1e-12
        assert not together[row, length:].any()


@pytest.mark.parametrize("norm", NORMS)
def test_permuting_the_batch_permutes_the_output(norm):
    x, lengths = ragged()
    order = torch.tensor([4, 2, 0, 7, 3, 6, 1, 5])
    expected, _ = make(norm=norm, bidirectional=True)(x, lengths=lengths)
    actual, _ = make(norm=norm, bidirectional=True)(x[order], lengths=lengths[order])
    assert relative_difference(actual, expected[order]) <= 1e-12


@pytest.mark.parametrize("options", [o for o in OPTIONS if o["norm"]], ids=str)
def test_population_statistics_of_one_batch_give_the_training_output(options):
    x, lengths = ragged()
    layer = make(**options)
    training, _ = layer(x, lengths=lengths)
    estimate_population_stats(layer, [x], lambda model, batch: model(batch, lengths=lengths))
    layer.eval()
    evaluation, _ = layer(x, lengths=lengths)
    assert relative_difference(evaluation, training) <= 1e-9


@pytest.mark.parametrize("options", FOLDABLE, ids=str)
def test_fold_gives_the_plain_layer_of_evaluation(options):
    x, lengths = ragged()
    layer = make(**options)
    layer(x, lengths=lengths)
    layer.eval()
    expected, _ = layer(x, lengths=lengths)
    folded = layer.fold()
    if not options.get("peephole"):
        assert type(folded) is (nn.RNN if "cell" in options else nn.LSTM)
    packed, _ = folded(pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False))
    actual, _ = pad_packed_sequence(packed, batch_first=True)
    assert relative_difference(actual, expected) <= 1e-12


@pytest.mark.parametrize("norm", ["frame", "recurrent"])
def test_statistics_of_time_steps_cannot_be_folded(norm):
    layer = make(norm=norm)
    layer(*ragged()[:1])
    with pytest.raises(ValueError, match="statistics for each time step"):
        layer.fold()


@pytest.mark.parametrize("norm", ["sequence", "frame", "recurrent"])
def test_evaluating_without_statistics_is_refused(norm):
    layer = make(norm=norm).eval()
    with pytest.raises(RuntimeError, match="no population statistics"):
        layer(torch.zeros(1, 2, 6, dtype=torch.float64))


def test_copies_functional_calls_and_gradients_of_what_is_used():
    x, lengths = ragged()
    layer = make(norm="sequence", bidirectional=True)
    clone = copy.deepcopy(layer)
    expected, _ = layer(x, lengths=lengths)
    actual, _ = torch.func.functional_call(clone, dict(layer.named_parameters()), (x,), {"lengths": lengths})
    assert torch.equal(actual, expected)


def test_dropout_is_on_the_vertical_connections_only():
    """With dropout the first layer's states stay what they are; the second layer's change."""
    x, lengths = ragged()
    dropped, plain = make(dropout=0.5), make()
    _, (h_dropped, _) = dropped(x, lengths=lengths)
    _, (h_plain, _) = plain(x, lengths=lengths)
    assert torch.equal(h_dropped[0], h_plain[0])
    assert not torch.equal(h_dropped[1], h_plain[1])


def test_packed_sequences_go_in_and_come_out():
    x, lengths = ragged()
    packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    layer = make(norm="sequence")
    output, _ = layer(packed)
    assert isinstance(output, PackedSequence)
    padded, _ = pad_packed_sequence(output, batch_first=True)
    expected, _ = make(norm="sequence")(x, lengths=lengths)
    assert torch.equal(padded, expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"hidden_size": "3"}, "hidden_size is '3', expected a whole number, at least 1"),
        ({"hidden_size": 3, "num_layers": 1.5}, "num_layers is 1.5"),
        ({"hidden_size": 3, "dropout": 1.5}, "dropout is 1.5"),
        ({"hidden_size": 3, "dropout": True}, "dropout is True, expected a number from 0 to 1"),
        ({"hidden_size": 3, "momentum": -0.1}, "momentum is -0.1"),
        ({"hidden_size": 3, "momentum": float("nan")}, "momentum is nan"),
        ({"hidden_size": 3, "eps": -1e-5}, "eps is -1e-05, expected a number, at least 0"),
        ({"hidden_size": 3, "eps": float("nan")}, "eps is nan"),
        ({"hidden_size": 3, "proj_size": 2}, "proj_size is 2"),
        ({"hidden_size": 3, "max_steps": 0}, "max_steps is 0"),
        ({"hidden_size": 3, "norm": "layer"}, "norm is 'layer'"),
        ({"hidden_size": 3, "backend": "tpu"}, "backend is 'tpu'"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        BatchNormLSTM(4, **arguments)


def test_bad_inputs_are_named():
    layer = make()
    with pytest.raises(ValueError, match="has 5 features, expected input_size = 6"):
        layer(torch.zeros(1, 2, 5, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"lengths are \[3\], expected 1 numbers from 1 to 2"):
        layer(torch.zeros(1, 2, 6, dtype=torch.float64), lengths=torch.tensor([3]))
    with pytest.raises(ValueError, match="h_0 has shape"):
        state = torch.zeros(1, 1, 5, dtype=torch.float64)
        layer(torch.zeros(1, 2, 6, dtype=torch.float64), (state, state))
