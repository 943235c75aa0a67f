"""Initial weights of language models: their ranges, and the same with and without a norm."""

from dataclasses import replace

import torch

from asr_bn.language_model.model import LanguageModel
from tests.helpers.language_models import make_experiment, make_model


def test_the_initial_weights_are_drawn_from_the_range_and_the_same_with_and_without_a_norm():
    models = [make_model(norm=norm, init_range=0.04) for norm in ("none", "frame")]
    plain, normalized = (dict(model.named_parameters()) for model in models)
    weights = [name for name, values in plain.items() if values.dim() == 2]
    assert len(weights) == 2 + 2 * models[0].layers.num_layers
    for name in weights:
        assert 0.03 < plain[name].abs().max() <= 0.04
        assert torch.equal(plain[name], normalized[name])


def test_beta_is_drawn_as_the_bias_that_it_stands_for():
    config = make_experiment("frame").replace("model", init_range=0.04).model
    for init, at_least in (("uniform", 0.03), ("glorot", 0.0)):
        model = LanguageModel(replace(config, init=init), 7)
        for layer in range(model.layers.num_layers):
            largest = model.layers.get_parameter(f"beta_l{layer}").abs().max()
            assert at_least <= largest <= (0.04 if init == "uniform" else 0.0)
            assert (model.layers.get_parameter(f"gamma_l{layer}") == 1).all()


def test_one_bias_of_each_gate_is_trained():
    """Of nn.LSTM's two the second is 0 and stays so; the other one is drawn."""
    model = make_model(norm="none", init_range=0.04)
    trained = {name for name, values in model.named_parameters() if values.requires_grad}
    for layer in range(model.layers.num_layers):
        assert f"layers.bias_ih_l{layer}" in trained and f"layers.bias_hh_l{layer}" not in trained
        assert model.layers.get_parameter(f"bias_ih_l{layer}").abs().max() > 0
        assert not model.layers.get_parameter(f"bias_hh_l{layer}").any()
