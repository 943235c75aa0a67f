"""A corpus that is learnt in seconds, and runs on it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from asr_bn.acoustic_model.data import DataDescription, RunData
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.run import train_model
from asr_bn.acoustic_model.trainer import Trainer
from asr_bn.data.batches import Corpus
from asr_bn.features.options import FbankOptions
from asr_bn.kaldi_io.matrix_table import MatrixScp, MatrixWriter
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint

NUM_PDFS = 4
DESCRIPTION = DataDescription(
    FbankOptions(num_mel_bins=3, use_energy=False), NUM_PDFS, [1] * NUM_PDFS, train_corpus="t", dev_corpus="d"
)


def make_corpus(folder: Path, seed: int, utterances: int = 10) -> Corpus:
    """Features that show their pdf: each pdf has a mean of its own."""
    random = np.random.default_rng(seed)
    means = np.random.default_rng(99).normal(size=(NUM_PDFS, 3)) * 2
    alignments = {}
    with MatrixWriter(f"ark,scp:{folder}/{seed}.ark,{folder}/{seed}.scp") as writer:
        for number in range(utterances):
            pdf_ids = np.repeat(random.integers(0, NUM_PDFS, 6), 4)[: random.integers(8, 24)].astype(np.int32)
            feats = means[pdf_ids] + random.normal(size=(len(pdf_ids), 3))
            writer.write(f"u{number:02d}", feats.astype(np.float32))
            alignments[f"u{number:02d}"] = pdf_ids
    return Corpus(MatrixScp(folder / f"{seed}.scp"), alignments)


def make_data(folder: Path, utterances: int = 10) -> RunData:
    return RunData(make_corpus(folder, 1, utterances), make_corpus(folder, 2, 4), DESCRIPTION)


def config(dropout: float = 0.0, **training: object) -> ExperimentConfig:
    values = {"epochs": 3, "batch_size": 3, "learning_rate": 1e-2, "checkpoint_batches": 1, **training}
    return ExperimentConfig.from_dict(
        {
            "model": {"num_layers": 2, "hidden_size": 6, "norm": "sequence", "dropout": dropout},
            "training": values,
        }
    )


def train(
    data: RunData, folder: Path, resume: bool = False, num_workers: int = 0, **training: Any
) -> Trainer:
    return train_model(config(**training), data, folder, torch.device("cpu"), resume, num_workers)


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than training does here."""
    monkeypatch.setattr("asr_bn.training.log.draw_curves", lambda *_: None)


def assert_same_runs(actual: Path, expected: Path) -> None:
    """Both checkpoints and the curve, to the last bit."""
    for name in ("last.pt", "best.pt"):
        assert_same(*(load_checkpoint(folder / name, ACOUSTIC_MODEL) for folder in (actual, expected)))
    assert (actual / "metrics.jsonl").read_text() == (expected / "metrics.jsonl").read_text()


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to the last bit, down through dictionaries and lists."""
    assert type(actual) is type(expected)
    if isinstance(actual, dict):
        assert actual.keys() == expected.keys()
        for key in actual:
            assert_same(actual[key], expected[key])
    elif isinstance(actual, list | tuple):
        assert len(actual) == len(expected)
        for pair in zip(actual, expected, strict=True):
            assert_same(*pair)
    elif isinstance(actual, torch.Tensor):
        assert torch.equal(actual, expected)
    else:
        assert actual == expected
