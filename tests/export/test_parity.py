"""The comparison of an exported model with the trained one: what it lets pass and what it finds."""

import copy
import re

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.export.acoustic import export_onnx
from asr_bn.export.parity import compare, input_sensitivity
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, save_checkpoint
from tests.helpers.acoustic_models import FBANK, NUM_PDFS, make_metadata, make_model

LENGTHS = [40, 7, 200, 1]
ALLOWED = 5e-5


@pytest.fixture
def feats(tmp_path):
    random = np.random.default_rng(3)
    with MatrixWriter(f"ark,scp:{tmp_path}/feats.ark,{tmp_path}/feats.scp") as writer:
        for k, length in enumerate(LENGTHS):
            writer.write(f"u{k}", 4 * random.normal(size=(length, FBANK.num_features)).astype(np.float32))
    return MatrixScp(tmp_path / "feats.scp")


def exported(model, path):
    export_onnx(model, make_metadata(norm="sequence"), path)
    return AcousticScorer.load(path, "cpu")


def chaotic():
    """A network whose states depend so strongly on each other that a change in the last bit grows."""
    model = make_model(norm="sequence")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "weight_hh" in name:
                parameter.mul_(12)
        model.output.weight.mul_(30)
    return model


def test_a_faithful_export_passes(feats, tmp_path):
    model = make_model(norm="sequence")
    result = compare(model, exported(model, tmp_path / "model.onnx"), feats, ALLOWED)
    assert result.max_difference < 2e-5
    assert result.unexplained == []
    assert result.batch_difference == 0.0
    assert result.num_utterances == len(LENGTHS)


def test_input_sensitivity_is_what_a_small_change_of_the_features_makes(feats):
    model, static = make_model(norm="sequence"), feats["u2"]
    exact = copy.deepcopy(model).double()

    def answer(x):
        with torch.no_grad():
            return exact(torch.from_numpy(x)[None], torch.tensor([len(x)])).data.numpy()

    ones = np.where(np.random.default_rng(5).random(static.shape) < 0.5, 1.0, -1.0)
    whole_bit = np.abs(answer(static * (1 + 2.0**-23 * ones)) - answer(static.astype(np.float64))).max()
    found = input_sensitivity(model, static)
    assert 0.2 * whole_bit < found < 2 * whole_bit
    assert found == input_sensitivity(model, static)
    assert model.output.weight.dtype == torch.float32  # it was not the model itself that became double
    assert input_sensitivity(chaotic(), static) > 100 * found


def test_what_rounding_explains_passes(feats, tmp_path):
    model = chaotic()
    result = compare(model, exported(model, tmp_path / "model.onnx"), feats, ALLOWED)
    assert result.max_difference > ALLOWED
    assert result.input_sensitivity > 0.1 * ALLOWED
    assert result.unexplained == []


def test_a_changed_weight_is_found(feats, tmp_path):
    model, path = make_model(norm="sequence"), tmp_path / "model.onnx"
    export_onnx(model, make_metadata(norm="sequence"), path)
    proto = onnx.load(path)
    (tensor,) = (tensor for tensor in proto.graph.initializer if tensor.name == "layer1.R")
    weights = numpy_helper.to_array(tensor).copy()
    weights[0, 0, 0] += 0.3
    tensor.CopyFrom(numpy_helper.from_array(weights, "layer1.R"))
    onnx.save(proto, path)
    result = compare(model, AcousticScorer.load(path, "cpu"), feats, ALLOWED)
    assert result.unexplained == ["u0", "u1", "u2"]  # u3 has one frame, and no state before it

    state = {"config": make_metadata(norm="sequence").config, "model": model.state_dict(), "figures": {}}
    description = {"fbank": FBANK.to_dict(), "num_pdfs": NUM_PDFS}
    save_checkpoint(
        tmp_path / "final.pt", state | {"description": description, "version": {}}, ACOUSTIC_MODEL
    )
    command = CliRunner().invoke(app, ["parity", str(tmp_path), "--data", str(tmp_path)])
    assert isinstance(command.exception, ValueError)
    assert re.search(
        r"model\.onnx: differs from final\.pt by more than 5\.0e-05 in log posterior on 3 of 4 utterances "
        r"\(u0\), which rounding does not explain$",
        str(command.exception),
    )
    assert not (tmp_path / ".parity.done").exists()
