"""Checkpoints: read back as written, by plain ``torch.load`` too, and refused when one byte differs."""

import pytest
import torch

from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint


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
