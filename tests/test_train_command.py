"""``asr-bn train``: the dry run, what a run leaves behind, and what is refused."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.features.fbank_options import FbankOptions
from asr_bn.kaldi_io.int_vector_table import write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixWriter

LENGTHS = [20, 30, 40, 25, 35]
CONFIG = """[model]
num_layers = 1
hidden_size = 4
[training]
epochs = 2
batch_size = 2
learning_rate = 0.01
"""


@pytest.fixture
def arguments(tmp_path):
    """A training set of five utterances, a development set of the same."""
    for name in ("train", "dev"):
        feats, ali = tmp_path / name, tmp_path / f"{name}_ali"
        feats.mkdir()
        ali.mkdir()
        random = np.random.default_rng(0)
        with MatrixWriter(f"ark,scp:{feats}/feats.ark,{feats}/feats.scp") as writer:
            for number, length in enumerate(LENGTHS):
                writer.write(f"u{number}", random.normal(size=(length, 4)).astype(np.float32))
        FbankOptions(num_mel_bins=3).write_conf(feats / "fbank.conf")
        pdf_ids = ((f"u{n}", random.integers(0, 3, length)) for n, length in enumerate(LENGTHS))
        write_int_vectors(f"ark:{ali}/pdf.ark", pdf_ids)
        (ali / "num_pdfs").write_text("3\n")
    (tmp_path / "config.toml").write_text(CONFIG)
    sets = ["--data", "train", "--ali", "train_ali", "--dev-data", "dev", "--dev-ali", "dev_ali"]
    folders = [word if word.startswith("--") else str(tmp_path / word) for word in sets]
    return [
        "train",
        str(tmp_path / "config.toml"),
        *folders,
        "--out",
        str(tmp_path / "out"),
        "--device",
        "cpu",
    ]


def run(*arguments):
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


def test_a_dry_run_says_what_a_run_needs_and_writes_nothing(arguments, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = run(*arguments, "--dry-run")
    assert result.exit_code == 0
    assert sorted(tmp_path.rglob("*")) == before
    # Five utterances in batches of two by length, 20+25, 30+35 and 40, padded to 50 + 70 + 40 = 160.
    assert "epoch: 3 steps, 150 frames, 6.2 % padding; 2 epochs" in result.stdout
    # Two directions of 16 gates by 12 features and 4 hidden units with gamma and beta; 8 by 3 and 3 outputs.
    assert f"model: {2 * 16 * (12 + 4 + 2) + 8 * 3 + 3} parameters, 3 pdfs" in result.stdout
    assert "largest mini-batch: 2 utterances, 70 padded frames" in result.stdout
    assert "peak memory" in result.stdout
    assert "an epoch takes about" in result.stdout


def test_a_run_leaves_its_files_and_a_dry_run_tells_of_it(arguments, tmp_path):
    assert run(*arguments).exit_code == 0
    out = tmp_path / "out"
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    epochs = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    heading, *lines = (out / "metrics.txt").read_text().splitlines()
    assert heading.split()[:3] == ["epoch", "train", "FCE"]
    assert [float(line.split()[1]) for line in lines] == [round(e["train_fce"], 4) for e in epochs]
    assert sum(line.endswith("*") for line in lines) == 1
    result = run(*arguments, "--dry-run")
    assert "holds this run up to batch 0 of epoch 3; --resume continues it" in result.stdout
    config = tmp_path / "config.toml"
    config.write_text(CONFIG.replace("0.01", "0.02"))
    with pytest.raises(ValueError, match="was made with training.learning_rate = 0.01, this run has 0.02"):
        run(*arguments, "--dry-run")


def test_tensorboard_that_is_not_installed(arguments, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"--tensorboard needs .*pip install 'asr-bn\[tensorboard\]'"):
        run(*arguments, "--tensorboard")
    assert not (tmp_path / "out").exists()


def test_event_files_hold_the_curve(arguments, tmp_path):
    pytest.importorskip("tensorboard", reason="tensorboard is not installed (an extra)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert run(*arguments, "--tensorboard").exit_code == 0
    events = EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    epochs = [json.loads(line) for line in (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()]
    written = {event.step: event.value for event in events.Scalars("epoch/dev_fce")}
    assert written == pytest.approx({entry["epoch"]: entry["dev_fce"] for entry in epochs}, rel=1e-6)
    assert [event.step for event in events.Scalars("step/train_fce")] == list(range(1, 7))


def test_a_dry_run_refuses_a_disk_without_room(arguments, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(ValueError, match="too little room on the disk: 4 checkpoints"):
        run(*arguments, "--dry-run")
