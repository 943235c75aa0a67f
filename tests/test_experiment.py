"""Configurations: those of the recipes say what the paper says; mistakes are named."""

from pathlib import Path

import pytest

from asr_bn.experiment import ExperimentConfig

CONF = Path(__file__).parents[1] / "recipes" / "wsj" / "conf"


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
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        ExperimentConfig.read(path)


def test_dictionaries_go_round():
    config = ExperimentConfig.read(CONF / "small.toml")
    assert ExperimentConfig.from_dict(config.to_dict()) == config
