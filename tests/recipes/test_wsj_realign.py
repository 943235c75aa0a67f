"""A round of training from a network's own alignments, on three utterances with Kaldi's alignments."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.data.kaldi_system import require_system
from asr_bn.kaldi_io.script_file import read_table
from asr_bn.scoring.scorer import AcousticScorer
from recipes.wsj.local import realign
from recipes.wsj.local.copy_model import copy_model
from recipes.wsj.local.realign import frame_error_rate, leave_out, main, share_of_changes
from tests.helpers.graphs import lexicon_dir
from tests.helpers.kaldi_fixtures import SYNTHETIC
from tests.helpers.serving import write_phone_model

TEXT = {"f1-015": "bring my chair", "f2-008": "bring the chair", "m4-009": "move your zebra"}
CONFIG = """
[model]
norm = "sequence"
num_layers = 1
hidden_size = 4
[training]
epochs = 1
batch_size = 2
learning_rate = 0.001
seed = 1
"""


def verb(*words: object) -> None:
    """Stand for a process: half a minute of them would be starts of Python."""
    if words[0] == "align":
        words += ("--min-confidence", 0)  # after an epoch of two steps nothing fits well
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.stderr


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the stages before have left: features, pdf-ids and a network of seed 3."""
    monkeypatch.setattr(realign, "_verb", verb)
    monkeypatch.setattr("asr_bn.training.log.draw_curves", lambda *_: None)
    lexicon_dir(tmp_path / "dict")
    (tmp_path / "tiny.toml").write_text(CONFIG)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text("".join(f"{utt_id} {SYNTHETIC}/audio/{utt_id}.wav\n" for utt_id in TEXT))
    (data / "text").write_text("".join(f"{utt_id} {words}\n" for utt_id, words in TEXT.items()))
    sets: list[object] = []
    for name, prefix in (("train", "--"), ("dev", "--dev-")):
        feats, pdf = tmp_path / "feats" / name, tmp_path / "pdf" / name
        verb("features", data, feats, "--nj", 1)
        verb("alignments", SYNTHETIC / "ali", f"ark:{pdf}/pdf.ark")
        copy_model(SYNTHETIC / "ali", pdf)
        sets += [f"{prefix}data", feats, f"{prefix}ali", pdf]
    network = tmp_path / "batch_norm"
    verb("train", tmp_path / "tiny.toml", *sets, "--out", network, "--seed", 3, "--device", "cpu")
    return tmp_path


def run(out: Path, number: int) -> int:
    words = ["--feats", out / "feats", "--ali", out / "pdf", "--config", out / "tiny.toml"]
    words += ["--lang", out / "dict", "--times", out / "data", out / "data"]
    options = ["--seed", "3", "--device", "cpu", "--nj", "1"]
    return main([str(out), str(number), *map(str, words), *options])


def test_two_rounds_keep_the_system_and_leave_out_what_does_not_fit(
    out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(out, 1) == 0 and run(out, 2) == 0
    first = require_system(SYNTHETIC / "ali")
    for number in (1, 2):
        folder = out / "realign" / str(number)
        system = require_system(folder / "ali_train")
        assert system.transition_model_bytes == first.transition_model_bytes
        assert system.tree_bytes == first.tree_bytes
        assert (folder / "ali_train/failed.txt").read_text().startswith("m4-009 'zebra'")
        assert list(read_table(folder / "train/feats.scp")) == ["f1-015", "f2-008"]
        trained = AcousticScorer.load(folder / "batch_norm/model.onnx", "cpu").metadata.system
        assert trained is not None and trained.tid_counts == system.tid_counts
    figures = [json.loads((out / f"realign/{number}/realign.json").read_text()) for number in (1, 2)]
    assert figures[1]["dev_fer_before_old_alignments"] == figures[0]["dev_fer_after"]
    assert figures[0]["failed"] == {"train": 1, "dev": 1} and figures[0]["wer_before"] is None
    known = {path: path.stat().st_mtime_ns for path in (out / "realign").rglob("*.on*")}
    capsys.readouterr()
    assert run(out, 1) == 0 and run(out, 2) == 0
    assert known == {path: path.stat().st_mtime_ns for path in known}


def test_utterances_that_are_named_are_left_out(tmp_path: Path) -> None:
    feats, ali = tmp_path / "feats", tmp_path / "ali"
    feats.mkdir()
    ali.mkdir()
    (feats / "fbank.conf").write_text("--num-mel-bins=23\n")
    (feats / "feats.scp").write_text("a x.ark:2\nb x.ark:90\nc x.ark:180\n")
    (ali / "failed.txt").write_text("b 'zebra' has no pronunciation\n")
    (ali / "poor.txt").write_text("")
    leave_out(feats, tmp_path / "out", ali)
    assert (tmp_path / "out/feats.scp").read_text() == "a x.ark:2\nc x.ark:180\n"
    (ali / "poor.txt").write_text("a 0.1 its text fits badly\nc 0.2 its text fits badly\n")
    with pytest.raises(ValueError, match="none of its 3 utterances fits its text"):
        leave_out(feats, tmp_path / "out", ali)


def test_changes_and_errors_of_frames_are_counted(tmp_path: Path) -> None:
    """A network that is right by construction: against its own choices it has no error."""
    model, feats = tmp_path / "model.onnx", tmp_path / "feats"
    write_phone_model(model)
    data = tmp_path / "data"
    data.mkdir()
    (data / "wav.scp").write_text(f"f1-015 {SYNTHETIC}/audio/f1-015.wav\n")
    verb("features", data, feats, "--nj", 1)
    chosen = AcousticScorer.load(model, "cpu")(SYNTHETIC / "audio/f1-015.wav").argmax(axis=1)
    for name, pdf_ids in {
        "own": chosen,
        "other": np.where(np.arange(len(chosen)) < 5, chosen, chosen ^ 1),
    }.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "pdf.ark").write_text(f"f1-015 {' '.join(map(str, pdf_ids))}\n")
    assert frame_error_rate(model, feats, tmp_path / "own") == 0
    expected = 1 - 5 / len(chosen)
    assert frame_error_rate(model, feats, tmp_path / "other") == pytest.approx(expected)
    assert share_of_changes(tmp_path / "own", tmp_path / "other") == pytest.approx(expected)
