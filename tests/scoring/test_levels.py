"""Phone posteriors: a case worked out by hand, sums written out in Python, and what has to hold for any."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.kaldi_system import KaldiSystem, require_system
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import MatrixWriter, read_matrices
from asr_bn.scoring import AcousticScorer
from asr_bn.scoring.levels import Level, ScoreColumns
from asr_bn.scoring.metadata import ModelMetadata
from asr_bn.system.arrays import Floats
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_model, write_phone_model

PHONE_LEVELS: tuple[Level, ...] = ("phone", "phone-class")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phone_model(tmp_path_factory.mktemp("model") / "model.onnx")


@pytest.fixture(scope="module")
def scorer(model: Path) -> AcousticScorer:
    return AcousticScorer.load(model, "cpu")


@pytest.fixture(scope="module")
def system() -> KaldiSystem:
    return require_system(SYNTHETIC / "ali")


def feats(num_frames: int = 300) -> Floats:
    """Long enough for two blocks of sums."""
    return np.random.default_rng(0).normal(0, 4, (num_frames, 41)).astype(np.float32)


def metadata(system: KaldiSystem | None, num_pdfs: int) -> ModelMetadata:
    return ModelMetadata(FbankOptions(), 2, num_pdfs, [1] * num_pdfs, {}, {}, {}, "", system)


def test_a_shared_pdf_is_divided_by_its_frames(system: KaldiSystem) -> None:
    """The bare sums in Python, over Kaldi's transition model and the frames of its alignments."""
    model, frames = system.transition_model(), np.array(system.tid_counts)
    random = np.random.default_rng(0)
    posteriors = random.dirichlet(np.full(72, 0.2), 5)
    columns = ScoreColumns.of(metadata(system, 72), "phone")
    phones = np.unique(model.tid_to_phone[1:])
    expected = np.zeros((5, len(phones)))
    for pdf in range(72):
        has_pdf = model.tid_to_pdf == pdf
        sharing = np.unique(model.tid_to_phone[has_pdf])
        counts = [frames[has_pdf & (model.tid_to_phone == phone)].sum() + 0.5 for phone in sharing]
        for phone, count in zip(sharing, counts, strict=True):
            expected[:, np.searchsorted(phones, phone)] += posteriors[:, pdf] * count / sum(counts)
    with np.errstate(divide="ignore"):
        found = columns.log_posteriors(np.log(posteriors).astype(np.float32))
    assert columns.names == tuple(system.phone_names[phone] for phone in phones.tolist())
    np.testing.assert_allclose(np.exp(found), expected, rtol=2e-5, atol=1e-30)  # of float32 logarithms


@pytest.mark.parametrize("level", PHONE_LEVELS)
@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0, 1000.0])
def test_a_frames_posteriors_sum_to_1_and_are_finite(
    system: KaldiSystem, level: Level, spread: float
) -> None:
    logits = np.random.default_rng(1).normal(0, spread, (600, 72))
    log_posteriors = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    found = ScoreColumns.of(metadata(system, 72), level).log_posteriors(log_posteriors.astype(np.float32))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(np.exp(found.astype(np.float64)).sum(axis=1), 1.0, rtol=0, atol=1e-6)


def test_a_class_has_the_sum_of_its_phones(scorer: AcousticScorer) -> None:
    phones, classes = (np.exp(scorer(feats(), level).astype(np.float64)) for level in PHONE_LEVELS)
    names = scorer.columns("phone-class").names or ()
    for column, name in enumerate(names):
        members = [
            k for k, phone in enumerate(scorer.columns("phone").names or ()) if phone.split("_")[0] == name
        ]
        assert members
        # Each is rounded to float32 as a logarithm.
        np.testing.assert_allclose(classes[:, column], phones[:, members].sum(axis=1), rtol=2e-5)


def test_log_priors_are_those_of_counted_phones(system: KaldiSystem) -> None:
    """Where no pdf is shared, a phone's prior is the share of its frames, half a frame for each pdf added."""
    mono = replace(require_system(SYNTHETIC / "variants/mono"), phone_names=system.phone_names)
    counts = np.bincount(
        mono.transition_model().tid_to_pdf[1:], mono.tid_counts[1:], mono.transition_model().num_pdfs
    )
    described = replace(metadata(mono, 121), pdf_counts=counts.astype(int).tolist())
    columns = ScoreColumns.of(described, "phone-class")
    table = mono.phones.folded()
    assert len(set(table.pdf_ids.tolist())) == len(table.pdf_ids)
    frames = np.bincount(table.phones, counts[table.pdf_ids] + 0.5)
    np.testing.assert_allclose(np.exp(columns.log_priors), frames / frames.sum(), rtol=1e-5)


@pytest.mark.parametrize("level", ["pdf", *PHONE_LEVELS])
@pytest.mark.parametrize("output", ["log_posterior", "posterior", "log_likelihood"])
def test_the_command_answers_as_the_scorer(
    model: Path, scorer: AcousticScorer, tmp_path: Path, level: Level, output: str
) -> None:
    with MatrixWriter(f"ark:{tmp_path}/feats.ark") as writer:
        writer.write("u", feats())
    options = ["--level", level, "--output", output, "--names", str(tmp_path / "names"), "--device", "cpu"]
    if output == "log_likelihood":
        options += ["--prior-scale", "0.5", "--acoustic-scale", "2"]
    arguments = ["posteriors", str(model), f"ark:{tmp_path}/feats.ark", f"ark:{tmp_path}/out.ark", *options]
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    ((_, found),) = read_matrices(f"ark:{tmp_path}/out.ark")
    columns, expected = scorer.columns(level), scorer(feats(), level)
    if output == "posterior":
        expected = np.exp(expected)
    elif output == "log_likelihood":
        expected = 2 * (expected - np.float32(0.5) * columns.log_priors)
    np.testing.assert_array_equal(found, expected)
    lines = [line.split() for line in (tmp_path / "names").read_text().splitlines()]
    assert lines == [[name, str(number)] for number, name in enumerate(columns.names or ())]
    assert found.shape == (300, len(lines))


def test_a_long_recording_is_summed_as_a_short_one(
    scorer: AcousticScorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = scorer(feats(), "phone")
    monkeypatch.setattr("asr_bn.scoring.scorer.most_frames", lambda _: 100)
    np.testing.assert_allclose(scorer(feats(), "phone"), short, rtol=0, atol=5e-5)  # layers one by one


def test_a_model_without_phones_says_so(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    scorer = AcousticScorer.load(model, "cpu")
    assert scorer.columns("pdf").names is None
    with pytest.raises(ValueError, match="^the model does not know its phones"):
        scorer(feats(), "phone")
    for options in (["--level", "phone"], ["--names", f"{tmp_path}/names"]):
        arguments = ["posteriors", str(model), "ark:x", "ark:y", *options, "--device", "cpu"]
        result = CliRunner().invoke(app, arguments)
        assert "does not know its phones" in str(result.exception)
