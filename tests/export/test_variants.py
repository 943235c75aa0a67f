"""8-bit models, models that take samples, and models read back: against the float32 model and PyTorch."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from asr_bn.export.acoustic import export_onnx
from asr_bn.export.frontend import export_with_frontend, spectrum_matrix
from asr_bn.export.onnx_import import import_onnx
from asr_bn.export.quantization import InputScale, quantize_columns, quantize_onnx
from asr_bn.features.deltas import add_deltas
from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.packed import batch_scorer
from asr_bn.scoring.scorer import AcousticScorer
from tests.helpers.acoustic_models import FBANK, LENGTHS, NUM_PDFS, make_metadata, make_model, utterances
from tests.helpers.kaldi_fixtures import SYNTHETIC, waveforms


@pytest.fixture(
    params=[{"norm": "sequence"}, {"norm": "sequence", "peephole": True}], ids=["plain", "peephole"]
)
def exported(request, tmp_path):
    model = make_model(**request.param)
    export_onnx(model, make_metadata(**request.param), tmp_path / "model.onnx")
    return model, tmp_path / "model.onnx"


@pytest.fixture
def int8(exported, tmp_path):
    model, path = exported
    scale = InputScale(model.feats_mean.numpy(), model.feats_std.numpy())
    quantize_onnx(path, make_metadata(), scale, tmp_path / "int8.onnx")
    return AcousticScorer.load(tmp_path / "int8.onnx", "cpu")


def test_int8_answers_depend_on_nothing_but_the_utterance(int8):
    inputs = [int8.with_deltas(feats) for feats in utterances()]
    loud = [1000 * feats for feats in inputs[:1]]  # a neighbour that would widen a shared range
    batch = int8.log_posteriors(inputs + loud)
    for feats, row in zip(inputs, batch, strict=False):
        (alone,) = int8.log_posteriors([feats])
        assert np.array_equal(row, alone)


def test_int8_is_near_float32(exported, int8):
    plain = AcousticScorer.load(exported[1], "cpu")
    inputs = [int8.with_deltas(feats) for feats in utterances()]
    for expected, answer in zip(plain.log_posteriors(inputs), int8.log_posteriors(inputs), strict=True):
        # Weights have 7 bits: a hundredth of the largest in a column.
        assert np.abs(expected - answer).max() < 0.2
        np.testing.assert_allclose(np.exp(answer).sum(1), 1.0, rtol=1e-5)


@pytest.mark.parametrize("lengths", [[7, 7, 7], [12, 6, 6], [6, 6, -1], [-6, -6, -6], [6, 6], [6] * 4, []])
def test_int8_refuses_the_lengths_that_float32_refuses(exported, int8, lengths):
    inputs = {"features": np.zeros((3, 6, 21), np.float32), "lengths": np.array(lengths, np.int32)}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # both log what they refuse
    for path in (exported[1], int8.path):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        with pytest.raises(Exception, match="lengths|sequence_lens|one_length_an_utterance|split"):
            session.run(None, inputs)


@pytest.mark.parametrize("lengths", [[6, 6, 6], [0, 1, 6], [0, 0, 0]])
def test_int8_takes_the_lengths_that_float32_takes(exported, int8, lengths):
    features = np.random.default_rng(0).normal(size=(3, 6, 21)).astype(np.float32)
    inputs = {"features": features, "lengths": np.array(lengths, np.int32)}
    plain, small = (
        onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, inputs)[0]
        for path in (exported[1], int8.path)
    )
    assert plain.shape == small.shape == (3, 6, NUM_PDFS)
    for row, length in enumerate(lengths):
        assert np.abs(plain[row, :length] - small[row, :length]).max(initial=0.0) < 0.2


def test_a_batch_of_none_has_no_answers(exported, int8):
    """ONNX Runtime's own LSTM would end the process."""
    plain = AcousticScorer.load(exported[1], "cpu")
    assert plain.log_posteriors([]) == batch_scorer(plain).log_posteriors([]) == int8.log_posteriors([]) == []
    inputs = {"features": np.zeros((0, 6, 21), np.float32), "lengths": np.zeros(0, np.int32)}
    assert len(int8.session.run(None, inputs)[0]) == 0


def test_columns_keep_their_largest_value_and_round_the_others():
    values, scale = quantize_columns(np.array([[1.0, 0.0], [-0.4, 0.0]], dtype=np.float32))
    assert values.tolist() == [[63, 0], [-25, 0]]
    np.testing.assert_allclose(scale, [1 / 63, 1 / 63], rtol=1e-6)


def test_a_model_read_back_answers_what_the_trained_one_does(exported):
    model, path = exported
    again, metadata = import_onnx(path)
    assert metadata.num_pdfs == model.num_pdfs
    static, lengths = torch.zeros(4, max(LENGTHS), FBANK.num_features), torch.tensor(LENGTHS)
    for row, feats in enumerate(utterances()):
        static[row, : len(feats)] = torch.from_numpy(feats)
    with torch.no_grad():
        np.testing.assert_allclose(
            again(static, lengths).data, model(static, lengths).data, rtol=0, atol=2e-5
        )


def test_what_cannot_be_read_back_is_refused(exported, int8, tmp_path):
    with pytest.raises(ValueError, match=r"int8\.onnx: no float32 LSTM layers"):
        import_onnx(tmp_path / "int8.onnx")
    data = exported[1].read_bytes()
    exported[1].write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"model\.onnx: not a model that asr-bn can load \(cut short\)"):
        import_onnx(exported[1])


def test_half_precision_keeps_float_inputs_and_outputs(exported, tmp_path):
    """ONNX Runtime's CPU has no float16 LSTM and casts around it: half-precision weights, float32 sums."""
    export_onnx(exported[0], make_metadata(), tmp_path / "half.onnx", half=True)
    half, plain = (AcousticScorer.load(path, "cpu") for path in (tmp_path / "half.onnx", exported[1]))
    inputs = [half.with_deltas(feats) for feats in utterances()]
    for expected, answer in zip(plain.log_posteriors(inputs), half.log_posteriors(inputs), strict=True):
        assert 0 < np.abs(expected - answer).max() < 5e-3
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"), full_check=True)
    graph = onnx.load(tmp_path / "half.onnx").graph
    kinds = {tensor.data_type for tensor in graph.initializer if tensor.name.startswith(("layer", "output"))}
    assert kinds == {onnx.TensorProto.FLOAT16}
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT
    assert graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def signals() -> list[np.ndarray]:
    return [samples for samples, _ in waveforms(SYNTHETIC, "oracles/feats/wav.scp").values()]


@pytest.mark.parametrize("subtract_mean", [False, True])
def test_samples_give_the_posteriors_of_their_features(tmp_path, subtract_mean):
    options = dataclasses.replace(FBANK, subtract_mean=subtract_mean)
    model = make_model(norm="sequence")
    metadata = dataclasses.replace(make_metadata(norm="sequence"), fbank=options)
    export_onnx(model, metadata, tmp_path / "model.onnx")
    export_with_frontend(model, metadata, tmp_path / "samples.onnx")
    proto = onnx.load(tmp_path / "samples.onnx")
    proto.graph.output.append(onnx.helper.make_tensor_value_info("feats", onnx.TensorProto.FLOAT, None))
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    waves = signals()
    padded = np.full((len(waves), max(map(len, waves))), 77.0, dtype=np.float32)
    for row, samples in enumerate(waves):
        padded[row, : len(samples)] = samples
    inputs = {"samples": padded, "sample_lengths": np.array([len(w) for w in waves], dtype=np.int32)}
    scores, lengths, feats = session.run(["log_posteriors", "lengths", "feats"], inputs)
    plain, compared = AcousticScorer.load(tmp_path / "model.onnx", "cpu"), 0
    for row, samples in enumerate(waves):
        static = fbank(samples, options)
        assert lengths[row] == len(static)
        # Real speech; bins 20 nats under a frame's peak are float32's noise (the chirp of "syn").
        log_mel = fbank(samples, FBANK)
        quiet = log_mel < log_mel.max(axis=1, keepdims=True) - 15
        expected, found = add_deltas(static), feats[row, : len(static)]
        if not quiet.any():
            compared += 1
            assert np.abs(found - expected).max() < 1e-3
            (answer,) = plain.log_posteriors([expected])
            assert np.abs(answer - scores[row, : len(static)]).max() < 1e-3
    assert compared >= 3


def test_samples_of_less_than_a_window_have_no_frame(tmp_path):
    """As Kaldi counts; division towards zero would make one of 241 to 399 samples at 16 kHz."""
    export_with_frontend(make_model(norm="none"), make_metadata(norm="none"), tmp_path / "samples.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "samples.onnx", providers=["CPUExecutionProvider"])
    counts = np.array([1000, 400, 399, 300, 240, 100], dtype=np.int32)
    inputs = {"samples": np.ones((len(counts), 1000), np.float32), "sample_lengths": counts}
    expected = [FBANK.num_frames(int(count)) for count in counts]
    assert session.run(["lengths"], inputs)[0].tolist() == expected == [4, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(
    "lengths", [[1001, 400, 400], [9999, 400, 400], [1000, 400, -1], [400, 400], [400] * 4, []]
)
def test_sample_lengths_are_refused_as_lengths_are(tmp_path, lengths):
    export_with_frontend(make_model(norm="none"), make_metadata(norm="none"), tmp_path / "samples.onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    path = tmp_path / "samples.onnx"
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    inputs = {"samples": np.ones((3, 1000), np.float32), "sample_lengths": np.array(lengths, np.int32)}
    with pytest.raises(Exception, match="sequence_lens|one_length_an_utterance|length_within_samples"):
        session.run(None, inputs)


def test_options_the_graph_does_not_have_are_refused(tmp_path):
    metadata = dataclasses.replace(make_metadata(), fbank=FbankOptions(num_mel_bins=6, snip_edges=False))
    with pytest.raises(ValueError, match="snip_edges=False: --with-frontend has only True"):
        export_with_frontend(make_model(norm="none"), metadata, tmp_path / "samples.onnx")


def test_the_spectrum_matrix_holds_every_linear_step():
    options = FbankOptions()
    frame = np.random.default_rng(0).normal(size=options.window_size) * 1000
    centred = frame - frame.mean()
    emphasized = centred - 0.97 * np.concatenate([centred[:1], centred[:-1]])
    phase = 2 * np.pi * np.arange(options.window_size) / (options.window_size - 1)
    expected = np.fft.rfft(emphasized * (0.5 - 0.5 * np.cos(phase)) ** 0.85, 512)[:256]
    found = np.tensordot(frame, spectrum_matrix(options), axes=1)
    # Kaldi's twiddle factors, whose errors are in the matrix, are off by up to 1e-6.
    assert np.abs(found[0] + 1j * found[1] - expected).max() < 3e-6 * np.abs(expected).max()


def test_the_command_measures_the_loss_of_int8_and_writes_it_down(tmp_path):
    """A checkpoint as ``asr-bn finish`` leaves it; the measured rates are those of counting by hand."""
    import dataclasses
    import json

    from typer.testing import CliRunner

    from asr_bn.cli.main import app
    from asr_bn.kaldi_io.int_vector_table import write_int_vectors
    from asr_bn.kaldi_io.matrix_table import MatrixWriter
    from asr_bn.training.checkpoint import ACOUSTIC_MODEL, save_checkpoint

    model, metadata = make_model(norm="sequence"), make_metadata(norm="sequence")
    exp_dir, data, ali = tmp_path / "run/batch_norm", tmp_path / "run/feats/dev", tmp_path / "run/pdf/dev"
    for folder in (exp_dir, data, ali):
        folder.mkdir(parents=True)
    description = {
        "fbank": dataclasses.asdict(FBANK),
        "num_pdfs": metadata.num_pdfs,
        "pdf_counts": metadata.pdf_counts,
    }
    state = {
        "config": metadata.config,
        "description": description,
        "version": {},
        "figures": {"dev_fer": 0.5},
    }
    save_checkpoint(exp_dir / "final.pt", state | {"model": model.state_dict()}, ACOUSTIC_MODEL)
    arguments = ["export", str(exp_dir), str(exp_dir / "int8.onnx"), "--int8"]
    with pytest.raises(ValueError, match="--int8 measures its loss on development data"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    feats = {f"u{k}": values for k, values in enumerate(utterances())}
    pdf_ids = {utt_id: np.arange(len(values), dtype=np.int32) % 11 for utt_id, values in feats.items()}
    with MatrixWriter(f"ark,scp:{data}/feats.ark,{data}/feats.scp") as writer:
        for utt_id, values in feats.items():
            writer.write(utt_id, values)
    write_int_vectors(f"ark:{ali}/pdf.ark", pdf_ids.items())
    (ali / "num_pdfs").write_text("11\n")
    assert CliRunner().invoke(app, arguments, catch_exceptions=False).exit_code == 0
    figures = json.loads((exp_dir / "int8.json").read_text())
    scorer = AcousticScorer.load(exp_dir / "int8.onnx", "cpu")
    assert scorer.metadata.figures == {"dev_fer": 0.5} | figures
    wrong = sum(
        int((scorer.log_posteriors([scorer.with_deltas(feats[u])])[0].argmax(1) != pdf_ids[u]).sum())
        for u in feats
    )
    assert figures["dev_fer_int8"] == wrong / sum(LENGTHS)
    assert figures["int8_fer_loss"] == figures["dev_fer_int8"] - figures["dev_fer_float32"]
