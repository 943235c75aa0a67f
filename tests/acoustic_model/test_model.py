"""The acoustic model: deltas against the NumPy ones, initialization, and the loss by hand."""

import math

import numpy as np
import pytest
import torch

from asr_bn.acoustic_model.evaluation import run_for_population_stats
from asr_bn.acoustic_model.experiment import ModelConfig, TrainingConfig
from asr_bn.acoustic_model.model import AcousticModel, Deltas
from asr_bn.acoustic_model.optimization import make_optimization
from asr_bn.data.batches import Batch
from asr_bn.features.deltas import add_deltas
from asr_bn.layers.population_estimate import estimate_population_stats
from tests.helpers.statistics import count_calls, statistics


@pytest.mark.parametrize("order", [0, 1, 2])
def test_deltas_of_a_ragged_batch_are_kaldis(order):
    """``add_deltas`` is checked against Kaldi's own output in test_deltas.py."""
    random = np.random.default_rng(0)
    lengths = [7, 1, 12, 2]
    utterances = [random.normal(size=(length, 3)).astype(np.float32) for length in lengths]
    padded = torch.full((4, 12, 3), float("nan"))
    for row, utterance in enumerate(utterances):
        padded[row, : len(utterance)] = torch.from_numpy(utterance)
    actual = Deltas(order)(padded, torch.tensor(lengths))
    for row, utterance in enumerate(utterances):
        expected = add_deltas(utterance, order)
        np.testing.assert_allclose(actual[row, : len(utterance)].numpy(), expected, rtol=0, atol=1e-6)


def small_model(**options: object) -> AcousticModel:
    torch.manual_seed(0)
    return AcousticModel(ModelConfig(num_layers=2, hidden_size=4, **options), num_static=3, num_pdfs=5)


def test_initialization_is_glorot_by_gate_with_zero_biases():
    model = small_model(norm="none", peephole=True)
    for name, parameter in model.named_parameters():
        if "peephole" in name:  # the diagonal of a matrix of 4 by 4
            assert 0.3 * math.sqrt(6 / 8) < parameter.abs().max() <= math.sqrt(6 / 8), name
            continue
        if parameter.dim() == 1:
            assert not parameter.any(), name
            continue
        for gate in parameter.chunk(4 if "layers" in name else 1):
            bound = math.sqrt(6.0 / sum(gate.shape))
            assert 0.5 * bound < gate.abs().max() <= bound, name


def test_a_peephole_leaves_the_other_weights_as_they_are():
    plain, with_peephole = (small_model(norm="none", peephole=peephole) for peephole in (False, True))
    for name, parameter in plain.named_parameters():
        assert torch.equal(parameter, with_peephole.get_parameter(name)), name


@pytest.mark.parametrize("clip", [None, 0.01])
def test_a_step_moves_the_bias_by_the_learning_rate_times_its_gradient(clip):
    """As it moves ``beta``; the second bias of ``nn.LSTM`` would add the same again and count in clipping."""
    model = small_model(norm="none")
    optimization = make_optimization(
        model, TrainingConfig(learning_rate=0.1, momentum=0.0, max_grad_norm=clip), torch.device("cpu")
    )
    norm = optimization.backward(model(torch.randn(2, 6, 3), torch.tensor([6, 4])).data[:, 0].sum())
    layers = model.layers
    biases = [name for name, _ in layers.named_parameters() if name.startswith("bias_ih")]
    trained = [p.grad for p in model.parameters() if p.grad is not None]
    assert len(trained) == len(list(small_model(norm="sequence").parameters())) - len(biases)  # no gamma
    clipped = torch.cat([gradient.flatten() for gradient in trained]).norm()
    assert clipped == pytest.approx(norm.item() if clip is None else clip, rel=1e-3)
    optimization.step(1.0, norm.item())
    for name in biases:
        moved = layers.get_parameter(name) + layers.get_parameter(name.replace("_ih_", "_hh_"))
        torch.testing.assert_close(moved, -0.1 * layers.get_parameter(name).grad)


def test_a_checkpoint_with_two_trained_biases_keeps_their_sum():
    """As older versions trained them."""
    old, one = small_model(norm="none"), small_model(norm="none")
    state = old.state_dict()
    for name in [name for name in state if "bias_ih" in name]:
        state[name] = torch.randn(state[name].shape)
        state[name.replace("_ih_", "_hh_")] = torch.randn(state[name].shape)
    old.load_state_dict(state)
    for name in [name for name in state if "bias_hh" in name]:
        state[name.replace("_hh_", "_ih_")] = state[name] + state[name.replace("_hh_", "_ih_")]
        state[name] = torch.zeros_like(state[name])
    one.load_state_dict(state)
    inputs = torch.randn(2, 6, 3), torch.tensor([6, 4])
    torch.testing.assert_close(old(*inputs).data, one(*inputs).data, rtol=0, atol=1e-6)


def test_both_networks_of_a_seed_start_from_the_same_weights():
    baseline, normalized = small_model(norm="none"), small_model(norm="sequence")
    shared = baseline.state_dict().keys() & normalized.state_dict().keys()
    assert {"layers.weight_ih_l1_reverse", "layers.weight_hh_l0", "output.weight"} <= shared
    for name in shared:
        assert torch.equal(baseline.state_dict()[name], normalized.state_dict()[name]), name


def test_input_normalization_is_applied_after_the_deltas():
    model = small_model(norm="none").eval()
    static, lengths = torch.randn(1, 6, 3), torch.tensor([6])
    model.feats_mean, model.feats_std = torch.linspace(-1, 1, 9), torch.linspace(0.5, 2, 9)
    actual = model(static, lengths).data
    feats = (torch.from_numpy(add_deltas(static[0].numpy())) - model.feats_mean) / model.feats_std
    hidden, _ = model.layers(feats[:, None])
    expected = model.output(hidden[:, 0]).log_softmax(1)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


def test_rows_are_log_probabilities():
    rows = small_model(norm="sequence")(torch.randn(2, 6, 3), torch.tensor([6, 4])).data
    assert rows.shape == (10, 5)
    torch.testing.assert_close(rows.exp().sum(1), torch.ones(10))


def test_the_acoustic_models_pass_ends_before_its_output_layer():
    torch.manual_seed(0)
    model = AcousticModel(ModelConfig(num_layers=2, hidden_size=6, dropout=0.5), 4, 7)
    lengths = torch.tensor([9, 5])
    pdf_ids = torch.zeros(2, 9, dtype=torch.long)
    batch = Batch(["a", "b"], torch.randn(2, 9, 4), pdf_ids, lengths)
    estimate_population_stats(model, [batch], lambda model, batch: model(batch.feats, batch.lengths))
    expected, calls = statistics(model), count_calls(model.output)
    estimate_population_stats(model, [batch], run_for_population_stats)
    assert not calls
    assert all(torch.equal(values, expected[name]) for name, values in statistics(model).items())
    assert model(batch.feats, lengths).data.shape == (14, 7)
