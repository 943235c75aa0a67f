"""What can go wrong in the middle of a run: one sentence, the last checkpoint whole, a resume that works."""

import os
import resource
from contextlib import ExitStack
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest
import torch

from asr_bn.acoustic_model.evaluation import FrameSums
from asr_bn.acoustic_model.feature_statistics import feature_statistics
from asr_bn.acoustic_model.run import finish_model
from asr_bn.acoustic_model.trainer import Trainer
from asr_bn.kaldi_io.matrix_table import MatrixWriter
from asr_bn.system.files import locked_folder
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint
from asr_bn.training.progress import best_epoch
from asr_bn.training.run_loop import DivergedError
from tests.helpers.training import assert_same_runs, make_data, no_figure
from tests.helpers.training import train as train_epochs

pytestmark = [
    pytest.mark.usefixtures(no_figure.__name__),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork.*:DeprecationWarning"),
]


def train(data, out, epochs=2, **options):
    return train_epochs(data, out, epochs=epochs, **options)


@pytest.fixture
def data(tmp_path):
    return make_data(tmp_path, 20)


@pytest.fixture
def at_step(monkeypatch):
    """Call something before the given step."""
    original, taken = Trainer._forward, 0

    def arrange(number, action):
        def forward(self, batch):
            nonlocal taken
            taken += 1
            if taken == number:
                action(batch)
            return original(self, batch)

        monkeypatch.setattr(Trainer, "_forward", forward)

    return arrange


def fails(data, out, *parts, **options):
    """The run stops with one sentence in which ``parts`` occur."""
    with pytest.raises(ValueError) as caught:
        train(data, out, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "Traceback" not in message
    for part in parts:
        assert part in message
    return message


def resumes(data, tmp_path, **options):
    """What is left can be continued to where an undisturbed run ends."""
    train(data, tmp_path / "out", resume=True, **options)
    train(data, tmp_path / "whole", **options)
    assert_same_runs(tmp_path / "out", tmp_path / "whole")


@pytest.mark.parametrize("num_workers", [0, 1])
def test_features_lost_in_the_middle_of_an_epoch(data, tmp_path, at_step, num_workers):
    archive = tmp_path / "1.ark"
    at_step(3, lambda _: archive.rename(tmp_path / "away"))
    message = fails(
        data,
        tmp_path / "out",
        f"{archive}",
        "No such file or directory",
        "last.pt has the run up to batch ",
        " of epoch 1: --resume continues from there",
        num_workers=num_workers,
    )
    assert message[:3] in data.train.utt_ids
    (tmp_path / "away").rename(archive)
    resumes(data, tmp_path, num_workers=num_workers)


def test_an_archive_cut_short_in_the_middle_of_an_epoch(data, tmp_path, at_step):
    archive = tmp_path / "1.ark"
    whole = archive.read_bytes()
    at_step(3, lambda _: archive.write_bytes(whole[:200]))
    fails(data, tmp_path / "out", f"{archive}:", "the offset lies past the end")
    archive.write_bytes(whole)
    resumes(data, tmp_path)


def test_features_of_another_length_than_when_training_began(data, tmp_path):
    (tmp_path / "other").mkdir()
    other = make_data(tmp_path / "other", 20).train
    data.train.feats = other.feats
    other.feats._rxfilenames |= dict.fromkeys(other.feats, other.feats.rxfilename("u03"))
    fails(data, tmp_path / "out", "feature frames", "aligned pdf-ids")


def test_a_reading_process_that_dies(data, tmp_path, monkeypatch):
    monkeypatch.setattr("asr_bn.data.batches.collate", lambda _: os._exit(9))
    with pytest.raises(ValueError, match="a process that reads batches ahead died .*--num-workers"):
        train(data, tmp_path / "out", num_workers=1)


@pytest.mark.parametrize(
    "exhaust",
    [
        lambda _: torch.empty(1 << 60),  # PyTorch's own error on a CPU
        lambda _: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory. Tried 9 GiB.\nMore")),
        lambda _: bytearray(1 << 62),
    ],
    ids=["CPU", "CUDA", "Python"],
)
def test_out_of_memory(data, tmp_path, at_step, exhaust):
    at_step(4, exhaust)
    fails(
        data,
        tmp_path / "out",
        "out of memory on a mini-batch of 3 utterances padded to ",
        "lower [training] batch_size",
        f"{tmp_path}/out/last.pt has the run up to batch 3 of epoch 1",
    )
    resumes(data, tmp_path)


def test_a_model_that_does_not_fit(data, tmp_path, monkeypatch):
    monkeypatch.setattr("asr_bn.acoustic_model.run.AcousticModel", lambda *_: torch.empty(1 << 60))
    with pytest.raises(ValueError, match=r"out of memory on the model: lower \[model\] hidden_size"):
        train(data, tmp_path / "out")


def test_the_disk_is_full(data, tmp_path, at_step):
    """A file-size limit, which stops a write half-way as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    at_step(4, lambda _: resource.setrlimit(resource.RLIMIT_FSIZE, (6000, hard)))
    try:
        fails(
            data,
            tmp_path / "out",
            "out: a checkpoint cannot be written: File too large",
            "last.pt has the run up to batch 3 of epoch 1: --resume",
        )
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list((tmp_path / "out").glob(".*.tmp"))
    for name in ("last.pt", "previous.pt"):
        load_checkpoint(tmp_path / "out" / name, ACOUSTIC_MODEL)
    resumes(data, tmp_path)


def test_a_step_that_is_not_finite_leaves_no_trace_but_its_count(data, tmp_path, at_step):
    at_step(3, lambda batch: batch.feats.fill_(float("nan")))
    trainer = train(data, tmp_path / "out", epochs=1)
    assert trainer.progress.history[0]["skipped_steps"] == 1
    for name, value in trainer.model.state_dict().items():
        assert torch.isfinite(value).all(), name


def test_features_that_are_not_finite_are_named(data, monkeypatch):
    corpus = data.train
    read = corpus.feats.__class__.__getitem__
    monkeypatch.setattr(
        corpus.feats.__class__, "__getitem__", lambda s, u: read(s, u) * (float("nan") if u == "u07" else 1)
    )
    with pytest.raises(ValueError, match=r"u07: .*1\.ark:\d+: features that are NaN or infinite"):
        feature_statistics(corpus, 2)


@pytest.mark.parametrize("dev", [False, True])
def test_features_that_are_not_finite_are_named_before_the_first_step(data, tmp_path, monkeypatch, dev):
    corpus = data.dev if dev else data.train
    change_features(corpus, 3, lambda feats: feats * float("inf"))
    monkeypatch.setattr(Trainer, "step", lambda *_: pytest.fail("a step was taken"))
    fails(data, tmp_path / "out", "u03: ", f"{2 if dev else 1}.ark:", "features that are NaN or infinite")


def change_features(corpus, number, change):
    """Write the archive anew, one utterance changed, under the same names and offsets."""
    feats = {utt_id: corpus.feats[utt_id] for utt_id in corpus.feats}
    path = corpus.feats.path
    with MatrixWriter(f"ark,scp:{path.with_suffix('.ark')},{path}") as writer:
        for index, (utt_id, values) in enumerate(feats.items()):
            writer.write(utt_id, change(values) if index == number else values)


@pytest.mark.parametrize("dev", [False, True])
def test_features_that_changed_between_a_run_and_its_continuation_are_named(data, tmp_path, at_step, dev):
    at_step(8, lambda _: (_ for _ in ()).throw(ValueError("stopped")))
    fails(data, tmp_path / "out", "stopped")
    corpus = data.dev if dev else data.train
    before = corpus.feats.path.with_suffix(".ark").read_bytes()
    change_features(corpus, 3, lambda feats: np.nextafter(feats, 9e9))
    data.train.checksums = data.dev.checksums = None  # as another process finds them
    fails(data, tmp_path / "out", "u03: ", "its features have changed", resume=True)
    corpus.feats.path.with_suffix(".ark").write_bytes(before)
    resumes(data, tmp_path)


def test_features_that_change_in_the_middle_of_a_run_are_named(data, tmp_path, at_step):
    at_step(8, lambda _: change_features(data.train, 5, lambda feats: 2 * feats))
    fails(data, tmp_path / "out", "u05: ", "its features have changed", "last.pt has the run up to batch")


def test_finishing_takes_the_data_of_the_run_alone(data, tmp_path):
    train(data, tmp_path / "out", epochs=1)
    change_features(data.dev, 0, lambda feats: 2 * feats)
    with pytest.raises(ValueError, match="u00: .*its features have changed"):
        finish_model(tmp_path / "out", data, torch.device("cpu"))
    other = replace(data, description=replace(data.description, dev_corpus="another"))
    with pytest.raises(ValueError, match=r"best\.pt: was made with data\.dev_corpus"):
        finish_model(tmp_path / "out", other, torch.device("cpu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_epoch_whose_evaluation_is_not_finite_is_no_best_one(data, tmp_path, monkeypatch, value):
    evaluated = iter([FrameSums(3.0, 1, 4), FrameSums(value, 1, 4)])
    monkeypatch.setattr("asr_bn.acoustic_model.trainer.evaluate", lambda *_: next(evaluated))
    with pytest.raises(DivergedError, match=rf"after epoch 2 the cross entropy .* is {value}; a lower"):
        train(data, tmp_path / "out", epochs=3)
    best = load_checkpoint(tmp_path / "out" / "best.pt", ACOUSTIC_MODEL)
    assert [entry["dev_fce"] for entry in best["progress"]["history"]] == [0.75]


def test_nan_is_not_the_lowest():
    history = [{"epoch": k, "fce": fce} for k, fce in enumerate([float("nan"), 2.0, 1.0, float("nan")], 1)]
    assert best_epoch(history, "fce") == 3
    with pytest.raises(ValueError, match="fce is not a number after any epoch"):
        best_epoch(history[:1], "fce")


def damage_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize("damage", [damage_byte, cut, lambda path: path.unlink()])
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_used(data, tmp_path, capsys, at_step, damage):
    at_step(10, lambda _: (_ for _ in ()).throw(ValueError("stopped")))
    fails(data, tmp_path / "out", "stopped; ", "last.pt has the run up to batch 2 of epoch 2")
    damage(tmp_path / "out" / "last.pt")
    resumes(data, tmp_path)
    if damage.__name__ in ("cut", "damage_byte"):
        assert "previous.pt (epoch 2) instead" in capsys.readouterr().err


@pytest.mark.parametrize("damage", [damage_byte, cut, lambda path: path.unlink()])
def test_a_lost_best_checkpoint_is_made_anew_from_its_copy(data, tmp_path, capsys, damage):
    trainer = train(data, tmp_path / "out", epochs=1)
    assert trainer.progress.best_epoch == 1
    best = (tmp_path / "out" / "best.pt").read_bytes()
    damage(tmp_path / "out" / "best.pt")
    train(data, tmp_path / "out", epochs=1, resume=True)
    assert (tmp_path / "out" / "best.pt").read_bytes() == best
    assert "best.pt: is lost; last.pt has the best epoch 1 too" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_byte, "damaged checkpoint"),
        (cut, "not a whole checkpoint"),
        (lambda path: path.unlink(), "is missing"),
    ],
)
def test_a_lost_best_checkpoint_that_has_no_copy_is_named(data, tmp_path, at_step, damage, said):
    """Also where the run goes on from within a later epoch, whose parameters are others."""
    at_step(10, lambda _: (_ for _ in ()).throw(ValueError("stopped")))
    fails(data, tmp_path / "out", "last.pt has the run up to batch 2 of epoch 2")
    best = (tmp_path / "out" / "best.pt").read_bytes()
    damage(tmp_path / "out" / "best.pt")
    fails(data, tmp_path / "out", "best.pt: ", said, "epoch 1 is the best so far", resume=True)
    (tmp_path / "out" / "best.pt").write_bytes(best)
    resumes(data, tmp_path)


def test_a_run_whose_checkpoints_are_all_damaged_is_refused(data, tmp_path):
    train(data, tmp_path / "out", epochs=1)
    for path in (tmp_path / "out").glob("*.pt"):
        damage_byte(path)
    with pytest.raises(ValueError, match=r"last\.pt: damaged.*there is no other whole checkpoint"):
        train(data, tmp_path / "out", epochs=1, resume=True)


def test_a_run_that_was_killed_before_its_metrics_were_written_has_them_in_the_end(data, tmp_path):
    train(data, tmp_path / "out", epochs=2)
    expected = (tmp_path / "out" / "metrics.jsonl").read_text()
    (tmp_path / "out" / "metrics.jsonl").write_text(expected.splitlines()[0] + "\n")
    (tmp_path / "out" / ".last.pt.abc.tmp").write_bytes(b"half")
    train(data, tmp_path / "out", epochs=2, resume=True)
    assert (tmp_path / "out" / "metrics.jsonl").read_text() == expected
    assert not list((tmp_path / "out").glob(".*.tmp"))


def test_a_folder_in_use_is_waited_for_and_then_refused(data, tmp_path, monkeypatch):
    """As after a kill, when the processes that read ahead live on for some seconds."""
    with ExitStack() as stack:
        stack.enter_context(locked_folder(tmp_path / "out"))
        monkeypatch.setattr("asr_bn.acoustic_model.run.LOCK_PATIENCE_S", 0.3)
        fails(data, tmp_path / "out", "another run is going on there", epochs=1)
        monkeypatch.setattr("asr_bn.acoustic_model.run.LOCK_PATIENCE_S", 60.0)
        Timer(0.5, stack.pop_all().close).start()
        train(data, tmp_path / "out", epochs=1)
