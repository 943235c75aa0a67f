"""The exported model against the PyTorch model, alone and in ragged batches."""

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch.nn.utils import prune

from asr_bn.export.acoustic import export_onnx
from asr_bn.scoring.scorer import AcousticScorer, to_output
from tests.helpers.acoustic_models import FBANK, NUM_PDFS, make_metadata, make_model, utterances


@pytest.fixture(
    params=[{"norm": "none"}, {"norm": "sequence"}, {"norm": "sequence", "peephole": True}], ids=str
)
def exported(request, tmp_path):
    model = make_model(**request.param)
    path = tmp_path / "model.onnx"
    export_onnx(model, make_metadata(**request.param), path)
    return model, path


def assert_same_answers(model, path):
    scorer = AcousticScorer.load(path, device="cpu")
    static = utterances()
    answers = scorer.log_posteriors([scorer.with_deltas(feats) for feats in static])
    for feats, answer in zip(static, answers, strict=True):
        with torch.no_grad():
            expected = model(torch.from_numpy(feats)[None], torch.tensor([len(feats)])).data
        np.testing.assert_allclose(answer, expected.numpy(), rtol=0, atol=2e-5)


def test_onnx_runtime_answers_what_pytorch_answers(exported):
    assert_same_answers(*exported)


def test_a_pruned_model_is_exported_as_it_computes(tmp_path):
    """Right after a step of training, too, when what pruning left in the modules is out of date."""
    model, path = make_model(norm="sequence"), tmp_path / "model.onnx"
    for module, name in (
        (model.layers, "weight_ih_l0"),
        (model.layers, "weight_hh_l1"),
        (model.output, "weight"),
    ):
        prune.l1_unstructured(module, name, 0.5)
        with torch.no_grad():
            module.get_parameter(f"{name}_orig").neg_()
    export_onnx(model, make_metadata(norm="sequence"), path)
    assert_same_answers(model, path)


def test_features_at_their_mean_give_the_bias_within_its_own_rounding(exported):
    """Log energies are far from zero: what float32 takes from the folded weights must not count so often."""
    model, path = exported
    written = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    _, bias = model.layers.folded_input_weights(0)
    gates = np.split(bias.detach().double().numpy(), 4, axis=1)
    expected = np.concatenate([gates[k] for k in (0, 3, 1, 2)], axis=1)
    folded_bias = written["layer0.B"][:, : expected.shape[1]]
    at_mean = written["layer0.W"].astype(np.float64) @ model.feats_mean.double().numpy() + folded_bias
    assert (np.abs(at_mean - expected) <= 0.5 * np.spacing(np.abs(folded_bias)) + 1e-12).all()


def test_a_batch_gives_the_rows_of_single_calls_bit_for_bit(exported):
    scorer = AcousticScorer.load(exported[1], device="cpu")
    inputs = [scorer.with_deltas(feats) for feats in utterances()]
    for feats, row in zip(inputs, scorer.log_posteriors(inputs), strict=True):
        (alone,) = scorer.log_posteriors([feats])
        assert np.array_equal(row, alone)


def test_the_graph_holds_standard_lstm_nodes_and_no_normalization(exported):
    model, path = exported
    nodes = [node.op_type for node in onnx.load(path).graph.node]
    assert nodes.count("LSTM") == 2
    assert set(nodes) == {"LSTM", "Transpose", "Reshape", "MatMul", "Add", "LogSoftmax"}


def test_contract_of_inputs_and_outputs(exported):
    session = onnxruntime.InferenceSession(exported[1], providers=["CPUExecutionProvider"])
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [
        ("features", "tensor(float)", ["batch", "frames", 21]),
        ("lengths", "tensor(int32)", ["batch"]),
    ]
    assert [(o.name, o.type, o.shape) for o in session.get_outputs()] == [
        ("log_posteriors", "tensor(float)", ["batch", "frames", NUM_PDFS])
    ]


def test_metadata_go_round(exported):
    metadata = AcousticScorer.load(exported[1], device="cpu").metadata
    assert metadata.fbank == FBANK
    assert (metadata.num_pdfs, metadata.num_features, metadata.delta_order) == (NUM_PDFS, 21, 2)
    assert metadata.pdf_counts == list(range(NUM_PDFS))


def test_conversion_to_posteriors_and_log_likelihoods():
    log_posteriors = np.log(np.array([[0.25, 0.75]], dtype=np.float32))
    log_priors = np.log(np.array([0.5, 0.5], dtype=np.float32))
    np.testing.assert_allclose(to_output(log_posteriors, log_priors, "posterior"), [[0.25, 0.75]], rtol=1e-6)
    expected = np.log([[0.5, 1.5]])
    np.testing.assert_allclose(to_output(log_posteriors, log_priors, "log_likelihood"), expected, rtol=1e-6)
    assert to_output(log_posteriors, log_priors, "log_posterior") is log_posteriors


def test_files_that_are_not_our_models_are_named(tmp_path, exported):
    missing, garbage, foreign = (tmp_path / name for name in ("missing.onnx", "garbage.onnx", "foreign.onnx"))
    with pytest.raises(FileNotFoundError):
        AcousticScorer.load(missing)
    garbage.write_bytes(exported[1].read_bytes()[:500])
    with pytest.raises(ValueError, match=r"garbage\.onnx: not a model that asr-bn can load"):
        AcousticScorer.load(garbage)
    proto = onnx.load(exported[1])
    del proto.metadata_props[:]
    onnx.save(proto, foreign)
    with pytest.raises(ValueError, match=r"foreign\.onnx: not a model that asr-bn exported"):
        AcousticScorer.load(foreign)


@pytest.mark.parametrize(
    ("feats", "message"),
    [
        (np.zeros((3, 8), np.float32), r"shape \[3, 8\], expected \[num_frames, 7\] or \[num_frames, 21\]"),
        (np.zeros((0, 7), np.float32), "no frames"),
        (np.full((3, 7), np.nan, np.float32), "not finite"),
    ],
)
def test_bad_features_are_named(exported, feats, message):
    with pytest.raises(ValueError, match=message):
        AcousticScorer.load(exported[1], device="cpu").with_deltas(feats)
