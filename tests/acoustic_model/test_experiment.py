"""Configurations: those of the recipes say what the paper says; mistakes are named."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from asr_bn.acoustic_model.data import DataDescription
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.run import new_model
from asr_bn.data.batches import epoch_batches
from asr_bn.features.options import FbankOptions
from asr_bn.language_model.experiment import LanguageModelExperiment, LanguageModelTraining

CONF = Path(__file__).parents[2] / "recipes" / "wsj" / "conf"


def test_the_paper_configuration_is_that_of_section_5_1():
    config = ExperimentConfig.read(CONF / "paper.toml")
    assert (config.model.num_layers, config.model.hidden_size, config.model.norm) == (5, 250, "sequence")
    training = config.training
    assert (training.batch_size, training.learning_rate, training.momentum) == (24, 1e-4, 0.9)
    assert (training.max_frames, training.loss) == (1300, "sequence_sum")


def test_the_peephole_configuration_differs_in_the_peephole_alone():
    paper, peephole = (ExperimentConfig.read(CONF / f"{name}.toml") for name in ("paper", "paper_peephole"))
    assert peephole == paper.replace("model", peephole=True)


def test_every_configuration_reads():
    for path in CONF.glob("*.toml"):
        ExperimentConfig.read(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model]\nhiden_size = 3", r"model\.hiden_size = 3"),
        ("[model]\nnum_layers = 0", r"model\.num_layers = 0: Input should be greater than or equal to 1"),
        ("[training]\nloss = 'mean'", r"training\.loss = 'mean'"),
        ("[trainig]\n", "trainig"),
        ("[model", r"bad\.toml"),
        ("\ufeff[model]\n", r"bad\.toml: begins with a byte order mark"),
        ("a = " + "[" * 100_000, r"bad\.toml: brackets in brackets too deep to read"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ExperimentConfig.read(path)


NUMBERS = [
    (kind, section, field.name)
    for kind in (ExperimentConfig, LanguageModelExperiment)
    for section, options in vars(kind()).items()
    for field in dataclasses.fields(options)
    if isinstance(getattr(options, field.name), int | float | None) and field.type is not bool
]


@pytest.mark.parametrize(("kind", "section", "name"), NUMBERS)
def test_every_number_has_its_bounds(tmp_path, kind, section, name):
    """One over all bounds, one under them, and what else TOML has, of which pydantic could make numbers."""
    assert len(NUMBERS) == 35
    path = tmp_path / "bad.toml"
    said = "(Input should be|.*exceeded maximum)"
    for value in (str(10**40), "1e39", "-1", "inf", "-inf", "nan", "true", "false", '"1"', "[1]"):
        path.write_text(f"[{section}]\n{name} = {value}\n")
        with pytest.raises(ValueError, match=rf"bad\.toml: {section}\.{name} = .*: {said}"):
            kind.read(path)


def test_the_largest_seed_can_be_trained_with():
    config = ExperimentConfig.from_dict(
        {"model": {"num_layers": 1, "hidden_size": 2}, "training": {"seed": 2**63 - 1}}
    )
    new_model(config, DataDescription(FbankOptions(), 3, [1, 1, 1], "t", "d"))
    assert len(epoch_batches(np.array([3, 4, 5]), 2, config.training.seed, 1)) == 2
    with pytest.raises(ValueError, match=r"training\.seed"):
        config.replace("training", seed=2**63)


def test_a_learning_rate_that_is_halved_for_ever_ends_at_zero():
    training = LanguageModelTraining(decay=2.0, decay_after=0)
    assert training.learning_rate_of(1000) == 2.0**-1000
    assert training.learning_rate_of(5000) == 0.0


def test_dictionaries_go_round():
    config = ExperimentConfig.read(CONF / "small.toml")
    assert ExperimentConfig.from_dict(config.to_dict()) == config
