"""Scoring corpora: against single calls, kaldi-native-io, and Kaldi's formulas."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.features.filterbank import fbank
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.scoring.corpus import BATCH_FRAMES, BATCH_UTTERANCES, batches_of_like_length, score_all
from asr_bn.scoring.scorer import AcousticScorer, floor_priors, to_output
from tests.helpers.kaldi_fixtures import SYNTHETIC, waveforms
from tests.helpers.serving import NUM_PDFS, write_model


@pytest.fixture(scope="module")
def scorer(tmp_path_factory):
    return AcousticScorer.load(write_model(tmp_path_factory.mktemp("m") / "model.onnx"), "cpu", num_threads=1)


@pytest.fixture
def model(tmp_path):
    return str(write_model(tmp_path / "model.onnx"))


def corpus(lengths: list[int]) -> list[tuple[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [(f"u{k}", random.normal(size=(n, 41)).astype(np.float32)) for k, n in enumerate(lengths)]


def test_every_row_is_that_of_a_call_alone_in_input_order(scorer, monkeypatch):
    monkeypatch.setattr("asr_bn.scoring.corpus.WINDOW_FRAMES", 200)
    items = corpus([50, 3, 120, 1, 77, 64, 300, 12, 9, 51, 52])
    answers = list(score_all(scorer, items, num_threads=2))
    assert [utt_id for utt_id, _ in answers] == [utt_id for utt_id, _ in items]
    for (_, feats), (_, rows) in zip(items, answers, strict=True):
        (alone,) = scorer.log_posteriors([scorer.with_deltas(feats)])
        assert np.array_equal(rows, alone)


def test_batches_hold_every_utterance_once_and_little_padding():
    lengths = np.random.default_rng(1).integers(1, 3000, 200).tolist()
    batches = batches_of_like_length(lengths)
    assert sorted(k for batch in batches for k in batch) == list(range(200))
    for batch in batches:
        chosen = [lengths[k] for k in batch]
        padded = max(chosen) * len(batch)
        assert len(batch) <= BATCH_UTTERANCES
        assert padded <= BATCH_FRAMES and padded - sum(chosen) <= 0.15 * padded or len(batch) == 1


def test_an_utterance_without_frames_is_told_and_left_out(scorer):
    skipped: list[str] = []
    answers = list(score_all(scorer, corpus([4, 0, 1]), 1, skipped.append))
    assert [utt_id for utt_id, _ in answers] == ["u0", "u2"]
    assert skipped == ["u1"]


def test_log_likelihood_is_the_scaled_log_posterior_less_the_scaled_log_prior():
    log_posteriors, log_priors = np.log(np.float32([[0.5, 0.5]])), np.log(np.float32([0.8, 0.2]))
    plain = to_output(log_posteriors, log_priors, "log_likelihood")
    np.testing.assert_allclose(plain, np.log([[0.5 / 0.8, 0.5 / 0.2]]), rtol=1e-6)
    scaled = to_output(log_posteriors, log_priors, "log_likelihood", prior_scale=0.5, acoustic_scale=0.1)
    np.testing.assert_allclose(scaled, 0.1 * np.log([[0.5 / 0.8**0.5, 0.5 / 0.2**0.5]]), rtol=1e-5)
    np.testing.assert_allclose(floor_priors(log_priors, 0.3), np.log([0.8, 0.3]), rtol=1e-6)
    with pytest.raises(ValueError, match="prior floor"):
        floor_priors(log_priors, 1.5)


def run(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["posteriors", *arguments, "--device", "cpu"], catch_exceptions=False)
    assert result.exit_code == 0
    return result.stderr


def test_audio_files_features_and_a_data_dir_give_the_same_archive(model, tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    names = {utt_id: SYNTHETIC / "audio" / f"{utt_id}.wav" for utt_id in ("f1-015", "f2-008", "m4-009")}
    (data / "wav.scp").write_text("".join(f"{utt_id} {path}\n" for utt_id, path in names.items()))
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/f.scp") as writer:
        for utt_id, (samples, _) in waveforms(data, "wav.scp").items():
            writer.write(utt_id, fbank(samples, AcousticScorer.load(tmp_path / "model.onnx").metadata.fbank))
    run(model, str(data), f"ark:{tmp_path}/1.ark")
    run(model, *map(str, names.values()), f"ark:{tmp_path}/2.ark")
    run(model, f"scp:{tmp_path}/f.scp", f"ark:{tmp_path}/3.ark")
    run(model, f"ark:cat {tmp_path}/f.ark |", f"ark:{tmp_path}/4.ark")
    archives = [(tmp_path / f"{k}.ark").read_bytes() for k in (1, 2, 3, 4)]
    assert len(archives[0]) > 10_000
    assert archives[0] == archives[1] == archives[2] == archives[3]


def test_features_that_were_made_otherwise_are_refused(model, tmp_path):
    options = AcousticScorer.load(tmp_path / "model.onnx").metadata.fbank
    with MatrixWriter(f"ark,scp:{tmp_path}/f.ark,{tmp_path}/feats.scp") as writer:
        writer.write(*corpus([5])[0])
    out = f"ark:{tmp_path}/out.ark"
    for made_with in (replace(options, dither=1.0), options):
        made_with.write_conf(tmp_path / "fbank.conf")
        run(model, str(tmp_path), out)
    replace(options, subtract_mean=True).write_conf(tmp_path / "fbank.conf")
    with pytest.raises(ValueError, match="fbank.conf: subtract-mean is True, but the model's .* have False"):
        run(model, str(tmp_path), out)
    (tmp_path / "fbank.conf").write_text("--num-mel-bins=40\n--window-type=hamming\n")
    with pytest.raises(ValueError, match="fbank.conf: window-type is hamming, but .* have povey"):
        run(model, str(tmp_path), out)


def test_kaldi_native_io_reads_what_we_wrote(model, scorer, tmp_path):
    native = pytest.importorskip("kaldi_native_io")
    names = [str(SYNTHETIC / "audio" / f"{utt_id}.wav") for utt_id in ("f1-015", "syn6")]
    run(model, *names, f"ark:{tmp_path}/ll.ark", "--output", "log_likelihood")
    ours = dict(read_matrices(f"ark:{tmp_path}/ll.ark"))
    theirs = {}
    with native.SequentialFloatMatrixReader(f"ark:{tmp_path}/ll.ark") as reader:
        for utt_id, matrix in reader:
            theirs[utt_id] = np.array(matrix)
    assert list(theirs) == list(ours) == ["f1-015", "syn6"]
    assert all(np.array_equal(theirs[utt_id], ours[utt_id]) for utt_id in ours)
    assert ours["syn6"].shape == (6, NUM_PDFS)


@pytest.mark.parametrize(
    ("columns", "message"),
    [(40, r"u0: features have shape \[5, 40\], expected .*41.*123"), (82, "u0: features")],
)
def test_features_of_another_width_are_refused(model, tmp_path, columns, message):
    with MatrixWriter(f"ark:{tmp_path}/f.ark") as writer:
        writer.write("u0", np.zeros((5, columns), dtype=np.float32))
    with pytest.raises(ValueError, match=message):
        run(model, f"ark:{tmp_path}/f.ark", f"ark:{tmp_path}/out.ark")
    assert not (tmp_path / "out.ark").exists()


def test_audio_of_another_rate_is_refused(model, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "low.wav", np.zeros(4000, dtype=np.int16), 8000)
    with pytest.raises(ValueError, match=r"low: .*8000 Hz, expected 16000 Hz"):
        run(model, str(tmp_path / "low.wav"), f"ark:{tmp_path}/out.ark")


def test_only_utterances_without_frames_is_an_error(model, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "short.wav", np.zeros(300, dtype=np.int16), 16000)
    with pytest.raises(ValueError, match="nothing to score"):
        run(model, str(tmp_path / "short.wav"), f"ark:{tmp_path}/out.ark")


def test_one_frame_is_scored(model, tmp_path):
    import soundfile

    soundfile.write(tmp_path / "one.wav", np.zeros(400, dtype=np.int16), 16000)
    run(model, str(tmp_path / "one.wav"), f"ark:{tmp_path}/out.ark", "--output", "posterior")
    ((_, rows),) = read_matrices(f"ark:{tmp_path}/out.ark")
    np.testing.assert_allclose(rows.sum(1), [1.0], rtol=1e-5)


def test_a_truncated_model_file_is_refused(model, tmp_path):
    whole = (tmp_path / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"model\.onnx: not a model that asr-bn can load"):
        run(model, str(SYNTHETIC / "audio" / "syn6.wav"), f"ark:{tmp_path}/out.ark")
