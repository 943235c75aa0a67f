"""A scorer called with a file or features: the answers of ``asr-bn posteriors``."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.features.deltas import add_deltas
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.scoring import AcousticScorer
from asr_bn.system.arrays import Floats
from tests.helpers.serving import NUM_PDFS, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model.onnx")


def write_wav(path: Path, num_samples: int = 16000, rate: int = 16000, num_channels: int = 1) -> Path:
    samples = np.random.default_rng(0).normal(0, 3000, (num_samples, num_channels)).astype(np.int16)
    soundfile.write(path, samples, rate)
    return path


def posteriors(model: Path, source: object, folder: Path) -> Floats:
    """What ``asr-bn posteriors`` writes for one utterance."""
    arguments = ["posteriors", str(model), str(source), f"ark:{folder}/post.ark"]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    ((_, scores),) = read_matrices(f"ark:{folder}/post.ark")
    return np.asarray(scores)


def test_a_file_is_answered_as_by_the_command(model: Path, tmp_path: Path) -> None:
    wav = write_wav(tmp_path / "speech.wav")
    found = AcousticScorer.load(str(model))(str(wav))
    assert found.dtype == np.float32
    assert found.shape == (98, NUM_PDFS)
    np.testing.assert_array_equal(found, posteriors(model, wav, tmp_path))
    np.testing.assert_array_equal(found, AcousticScorer.load(model)(wav))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_are_answered_as_by_the_command(model: Path, tmp_path: Path, dtype: type) -> None:
    static = np.random.default_rng(0).normal(size=(30, 41)).astype(np.float32)
    with MatrixWriter(f"ark:{tmp_path}/feats.ark") as writer:
        writer.write("u1", static)
    scorer = AcousticScorer.load(model)
    expected = posteriors(model, f"ark:{tmp_path}/feats.ark", tmp_path)
    np.testing.assert_array_equal(scorer(static.astype(dtype)), expected)
    np.testing.assert_array_equal(scorer(add_deltas(static)), expected)


def test_a_long_recording_is_answered_as_a_short_one(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wav, scorer = write_wav(tmp_path / "speech.wav"), AcousticScorer.load(model)
    expected = scorer(wav)
    monkeypatch.setattr("asr_bn.scoring.long.LONG_FRAMES", 20)
    monkeypatch.setattr("asr_bn.scoring.long.PIECE_FRAMES", 15)
    np.testing.assert_array_equal(scorer(wav), expected)


def test_what_cannot_be_scored_is_named(model: Path, tmp_path: Path) -> None:
    scorer = AcousticScorer.load(model)
    with pytest.raises(FileNotFoundError, match=r"no such audio file: '.*none\.wav'"):
        scorer(tmp_path / "none.wav")
    for options, message in [
        ({"rate": 8000}, r"speech\.wav: sampled at 8000 Hz, expected 16000 Hz"),
        ({"num_channels": 2}, r"speech\.wav: 2 channels; choose one"),
        ({"num_samples": 100}, r"speech\.wav: features have no frames, expected at least one"),
    ]:
        with pytest.raises(ValueError, match=message):
            scorer(write_wav(tmp_path / "speech.wav", **options))
    for shape in ((5, 40), (41,), (2, 5, 41), (0, 41)):
        with pytest.raises(ValueError, match=r"^features: features have"):
            scorer(np.zeros(shape, np.float32))
    (tmp_path / "text.wav").write_text("no audio")
    with pytest.raises(ValueError, match=r"text\.wav"):
        scorer(tmp_path / "text.wav")
