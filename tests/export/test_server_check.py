"""The server is started and asked; the oracle is the same network in PyTorch."""

import numpy as np
import pytest

from asr_bn.audio.reader import Waveform
from asr_bn.export import server_check
from asr_bn.export.acoustic import export_onnx
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, save_checkpoint
from tests.helpers.acoustic_models import FBANK, NUM_PDFS, make_metadata, make_model


def test_the_answer_over_http_is_compared_with_both_models(tmp_path):
    model, metadata = make_model(), make_metadata()
    export_onnx(model, metadata, tmp_path / "model.onnx")
    description = {"fbank": FBANK.to_dict(), "num_pdfs": NUM_PDFS}
    state = {"config": metadata.config, "description": description, "model": model.state_dict()}
    save_checkpoint(tmp_path / "final.pt", state, ACOUSTIC_MODEL)
    noise = np.random.default_rng(0).normal(0, 1000, 4000).round().astype(np.float32)
    found = server_check.check_server(tmp_path, "u1", Waveform(noise, 16000), 1e-4)
    assert found["num_frames"] == 1 + (4000 - 400) // 160
    assert max(found["difference_to_onnx"], found["difference_to_pytorch"]) < 1e-4
    assert found["utt_id"] == "u1" and found["is_explained"]


def test_a_server_that_ends_at_its_start_is_quoted(tmp_path):
    says = r"ended at its start with exit code 1: .*missing\.onnx"
    with pytest.raises(ValueError, match=says), server_check.running_server(tmp_path / "missing.onnx"):
        pass


def test_a_server_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(server_check, "STARTUP_SECONDS", 0.0)
    with (
        pytest.raises(ValueError, match="not ready"),
        server_check.running_server(tmp_path / "m.onnx"),
    ):
        pass
