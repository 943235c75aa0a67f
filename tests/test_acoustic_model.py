"""The acoustic model: deltas against the NumPy ones, initialization, and the loss by hand."""

import math

import numpy as np
import pytest
import torch

from asr_bn.acoustic_model import AcousticModel, Deltas
from asr_bn.experiment import ModelConfig
from asr_bn.features.deltas import add_deltas


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
        if parameter.dim() == 1:
            assert not parameter.any(), name
            continue
        for gate in parameter.chunk(4 if "layers" in name else 1):
            bound = math.sqrt(6.0 / sum(gate.shape))
            assert 0.5 * bound < gate.abs().max() <= bound, name


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
