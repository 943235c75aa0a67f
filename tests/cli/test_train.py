"""``asr-bn train``: the dry run, what a run leaves behind, and what is refused."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.int_vector_table import read_int_vectors, write_int_vectors
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter

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


def replace_features(folder, change):
    """Write a set's features anew, each as ``change(number, feats)`` has it."""
    scp = MatrixScp(folder / "feats.scp")
    feats = {utt_id: scp[utt_id] for utt_id in scp}
    with MatrixWriter(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as writer:
        for number, (utt_id, values) in enumerate(feats.items()):
            writer.write(utt_id, change(number, values))


def one_nan(number, feats):
    return np.where((number == 3) & (np.arange(4) == 2), np.nan, feats).astype(np.float32)


def one_column_more(number, feats):
    return np.c_[feats, feats[:, :1]] if number == 3 else feats


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
@pytest.mark.parametrize("name", ["train", "dev"])
@pytest.mark.parametrize(
    ("change", "said"),
    [(one_nan, "features that are NaN"), (one_column_more, "features of 5 dimensions, fbank.conf makes 4")],
)
def test_features_that_cannot_be_used_are_named_before_training(
    arguments, tmp_path, options, name, change, said
):
    replace_features(tmp_path / name, change)
    with pytest.raises(ValueError, match=rf"^u3: .*{name}/feats\.ark:\d+: {said}"):
        run(*arguments, *options)
    assert not (tmp_path / "out" / "last.pt").exists()


@pytest.mark.parametrize("name", ["train", "dev"])
def test_utterances_without_frames_are_left_out(arguments, tmp_path, name):
    replace_features(tmp_path / name, lambda number, feats: feats[:0] if number == 3 else feats)
    archive = f"ark:{tmp_path}/{name}_ali/pdf.ark"
    pdf_ids = dict(read_int_vectors(archive))
    write_int_vectors(archive, (pdf_ids | {"u3": np.zeros(0, np.int32)}).items())
    result = run(*arguments, "--dry-run")
    assert result.exit_code == 0
    kind = {"train": "training", "dev": "development"}[name]
    assert f"{kind} set: 4 utterances, 125 frames; 1 without frames left out" in result.stderr


def test_finished_stages_notice_new_features_and_a_lost_best_checkpoint(arguments, tmp_path):
    out, sets = tmp_path / "out", arguments[2:10]
    stamp = tmp_path / "dev" / ".features.stamp.json"
    stamp.write_text("made from these samples")
    assert run(*arguments).exit_code == 0
    finish = ["finish", str(out), *sets, "--device", "cpu"]
    (out / "best.pt").unlink()
    assert "last.pt has the best epoch 2 too and is copied" in run(*finish).stderr
    assert "trained already" in run(*arguments, "--resume").stderr
    assert "are there already" in run(*finish).stderr
    replace_features(tmp_path / "dev", lambda number, feats: -feats)
    stamp.write_text("made from others")
    for command in ([*arguments, "--resume"], finish):
        with pytest.raises(ValueError, match="u0: .*its features have changed since the run began"):
            run(*command)


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
