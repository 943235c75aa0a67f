"""Checkpoints: read back as written, by plain ``torch.load`` too, and refused when one byte differs."""

import dataclasses

import pytest
import torch

from asr_bn import acoustic_model
from asr_bn.features.options import FbankOptions
from asr_bn.language_model import model as language_model
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import LanguageModel
from asr_bn.training.checkpoint import (
    ACOUSTIC_MODEL,
    LANGUAGE_MODEL,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "last.pt"
    save_checkpoint(
        path,
        {"weights": torch.arange(5.0), "progress": {"epoch": 3, "history": [{"fce": 0.5}]}},
        ACOUSTIC_MODEL,
    )
    return path


def test_goes_round_and_is_an_ordinary_torch_file(path):
    for state in (load_checkpoint(path, ACOUSTIC_MODEL), torch.load(path, weights_only=True)):
        assert torch.equal(state["weights"], torch.arange(5.0))
        assert state["progress"] == {"epoch": 3, "history": [{"fce": 0.5}]}


def test_same_state_same_bytes(path):
    before = path.read_bytes()
    state = load_checkpoint(path, ACOUSTIC_MODEL)
    del state["format"]
    save_checkpoint(path, state, ACOUSTIC_MODEL)
    assert path.read_bytes() == before


def test_every_flipped_byte_is_noticed(path):
    whole = path.read_bytes()
    for position in range(0, len(whole), 37):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
        with pytest.raises(ValueError, match=r"last\.pt: (damaged|not a whole)"):
            load_checkpoint(path, ACOUSTIC_MODEL)


@pytest.mark.parametrize("kept", [0, 1, 70, 500, -1])
def test_a_file_cut_short_is_noticed(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        load_checkpoint(path, ACOUSTIC_MODEL)


def test_another_torch_file_is_named(path):
    torch.save({"a": 1}, path)
    with pytest.raises(ValueError, match="not a whole checkpoint"):
        load_checkpoint(path, ACOUSTIC_MODEL)


WRONG = {
    "no model": (lambda state: state.pop("model"), "it has no 'model'"),
    "no configuration": (lambda state: state.pop("config"), "it has no 'config'"),
    "a parameter less": (lambda state: state["model"].pop("output.bias"), 'Missing key.*"output.bias"'),
    "another width": (
        lambda state: state["model"].update({"output.bias": torch.zeros(1)}),
        r"size mismatch for output\.bias",
    ),
    "no tensors": (lambda state: state.update(model=[1]), "dict-like"),
    "a size that cannot be": (
        lambda state: state["config"]["model"].update(hidden_size=-1),
        "model.hidden_size = -1",
    ),
}


@pytest.mark.parametrize("kind", ["acoustic", "language"])
@pytest.mark.parametrize("change", WRONG)
def test_whole_checkpoints_of_other_contents_are_named_in_a_line(tmp_path, kind, change):
    path, (damage, message) = tmp_path / "best.pt", WRONG[change]
    state = acoustic_state() if kind == "acoustic" else language_state()
    load, format = (
        (acoustic_model.load_model, ACOUSTIC_MODEL)
        if kind == "acoustic"
        else (language_model.load_model, LANGUAGE_MODEL)
    )
    save_checkpoint(path, state, format)
    load(path)
    damage(state)
    save_checkpoint(path, state, format)
    with pytest.raises(
        ValueError, match=rf"best\.pt: the checkpoint does not fit this version: .*{message}"
    ) as e:
        load(path)
    assert "\n" not in str(e.value)


def acoustic_state() -> Checkpoint:
    experiment = acoustic_model.ExperimentConfig.from_dict({"model": {"num_layers": 1, "hidden_size": 2}})
    fbank = FbankOptions(num_mel_bins=3)
    model = acoustic_model.AcousticModel(experiment.model, fbank.num_features, 3)
    description = {"fbank": dataclasses.asdict(fbank), "num_pdfs": 3}
    return {"config": experiment.to_dict(), "description": description, "model": model.state_dict()}


def language_state() -> Checkpoint:
    experiment = LanguageModelExperiment.from_dict({"model": {"num_layers": 1, "hidden_size": 2}})
    model = LanguageModel(experiment.model, 3)
    return {
        "config": experiment.to_dict(),
        "description": {"words": ["a", "b", "c"]},
        "model": model.state_dict(),
    }
