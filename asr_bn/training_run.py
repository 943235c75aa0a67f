"""A training run from folders to checkpoints, and what is done with its best epoch afterwards."""

import dataclasses
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from asr_bn.acoustic_model import AcousticModel
from asr_bn.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.batches import Batch, Corpus, epoch_batches, load_batches, sorted_batches
from asr_bn.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from asr_bn.evaluation import FrameSums, evaluate
from asr_bn.experiment import ExperimentConfig
from asr_bn.features.deltas import add_deltas
from asr_bn.features.fbank_options import FbankOptions
from asr_bn.files import write_json
from asr_bn.population import estimate_population_stats, forward_batch
from asr_bn.trainer import Trainer


@dataclass(frozen=True)
class DataFolders:
    """Features (``feats.scp``, ``fbank.conf``) and alignments of the training and development sets."""

    train: Path
    train_ali: Path
    dev: Path
    dev_ali: Path


@dataclass(frozen=True)
class RunData:
    """Both corpora, and what the checkpoints say of them."""

    train: Corpus
    dev: Corpus
    description: dict[str, Any]


def load_data(folders: DataFolders, config: ExperimentConfig) -> RunData:
    """Read the folders of a run; utterances over ``max_frames`` leave the training set only.

    Raises:
        ValueError: training and development sets do not belong together, or lengths differ.
    """
    fbank = _same_fbank(folders)
    classes = _same_num_pdfs(folders)
    train_pdf_ids = read_pdf_ids(folders.train_ali)
    train = Corpus.load(folders.train, train_pdf_ids, config.training.max_frames)
    dev = Corpus.load(folders.dev, read_pdf_ids(folders.dev_ali), None)
    for name, corpus in (("training", train), ("development", dev)):
        _say_what_is_there(name, corpus)
    counts = count_pdfs((train_pdf_ids[utt_id] for utt_id in train.utt_ids), classes)
    description = {
        "fbank": dataclasses.asdict(fbank),
        "num_pdfs": classes,
        "pdf_counts": counts.tolist(),
        "train_corpus": train.fingerprint(),
        "dev_corpus": dev.fingerprint(),
    }
    return RunData(train, dev, description)


def train_model(
    config: ExperimentConfig,
    data: RunData,
    out_dir: Path,
    device: torch.device,
    resume: bool,
    num_workers: int = 0,
) -> Trainer:
    """Train a model, or finish training it.

    Args:
        resume: continue from ``out_dir/last.pt`` where there is one.

    Raises:
        ValueError: ``out_dir`` holds a run already and ``resume`` is not set, or that run differs from this.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    seed = config.training.seed
    torch.manual_seed(seed)  # of dropout
    model = AcousticModel(config.model, _num_static(data.description), data.description["num_pdfs"], seed)
    started = (out_dir / "last.pt").is_file()
    if started and not resume:
        raise ValueError(
            f"{out_dir}: holds a training run already; add --resume to continue it, or choose another folder"
        )
    if not started:
        model.feats_mean, model.feats_std = feature_statistics(data.train, config.model.delta_order)
    trainer = Trainer(model.to(device), config, data.train, data.dev, out_dir, data.description, num_workers)
    if started:
        trainer.resume()
    trainer.run()
    return trainer


def feature_statistics(corpus: Corpus, delta_order: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature, deltas included, over a corpus (pooled in float64)."""
    count, total, squares = 0, np.float64(0.0), np.float64(0.0)
    for utt_id in tqdm(corpus.utt_ids, desc="feature statistics", unit="utt", delay=2):
        feats = add_deltas(corpus.feats[utt_id], delta_order).astype(np.float64)
        count += len(feats)
        total = total + feats.sum(0)
        squares = squares + np.square(feats).sum(0)
    mean: NDArray[np.float64] = np.asarray(total / count)
    variance = np.asarray(squares / count) - np.square(mean)
    # A constant column carries nothing; dividing it by its deviation would make noise of it.
    std = np.sqrt(np.where(variance > 1e-8, variance, 1.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


def finish_model(out_dir: Path, data: RunData, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on both sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.
    """
    model, state = load_model(out_dir / "best.pt")
    config = ExperimentConfig.from_dict(state["config"])
    model.to(device)
    if config.model.norm != "none":
        estimate_population_stats(model, _training_batches(config, data.train), forward_batch)
    figures: dict[str, float] = {"best_epoch": state["progress"]["history"][-1]["epoch"]}
    for name, corpus in (("train", data.train), ("dev", data.dev)):
        sums = _evaluate(model, corpus, config, f"{out_dir.name} {name}")
        figures |= {f"{name}_fce": sums.fce, f"{name}_fer": sums.fer}
    kept = {key: state[key] for key in ("config", "description", "version")}
    save_checkpoint(
        out_dir / "final.pt", kept | {"model": model.state_dict(), "figures": figures}, ACOUSTIC_MODEL
    )
    write_json(out_dir / "final.json", figures)
    return figures


def load_model(path: Path) -> tuple[AcousticModel, dict[str, Any]]:
    """The model of a checkpoint, on the CPU, and all that the checkpoint holds.

    Raises:
        ValueError: the checkpoint is damaged.
    """
    state = load_checkpoint(path, ACOUSTIC_MODEL)
    config = ExperimentConfig.from_dict(state["config"])
    description = state["description"]
    model = AcousticModel(config.model, _num_static(description), description["num_pdfs"])
    model.load_state_dict(state["model"])
    return model.eval(), state


def choose_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one; ``ValueError`` where CUDA is asked for and there is none."""
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA device here")
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name!r}, expected 'auto', 'cpu' or 'cuda'")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def _training_batches(config: ExperimentConfig, train: Corpus) -> Iterator[Batch]:
    # The batches of an epoch that was not trained on: the statistics of mini-batches of one length
    # alone (as evaluation makes them) would not be those that training saw.
    training = config.training
    batches = epoch_batches(train.num_frames, training.batch_size, training.seed, training.epochs + 1)
    yield from tqdm(
        load_batches(train, batches), "population statistics", len(batches), unit="batch", delay=2
    )


def _evaluate(model: AcousticModel, corpus: Corpus, config: ExperimentConfig, title: str) -> FrameSums:
    batches = sorted_batches(corpus.num_frames, config.training.batch_size)
    return evaluate(model, tqdm(load_batches(corpus, batches), title, len(batches), unit="batch", delay=2))


def _num_static(description: dict[str, Any]) -> int:
    return FbankOptions(**description["fbank"]).num_features


def _same_fbank(folders: DataFolders) -> FbankOptions:
    train, dev = _fbank_of(folders.train), _fbank_of(folders.dev)
    if train != dev:
        raise ValueError(f"{folders.dev}/fbank.conf: has other options than {folders.train}/fbank.conf")
    return train


def _fbank_of(folder: Path) -> FbankOptions:
    for name in ("feats.scp", "fbank.conf"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                2,
                f"no such file; 'asr-bn features {folder} OUT_DIR' makes features to train on",
                str(folder / name),
            )
    return FbankOptions.read_conf(folder / "fbank.conf")


def _same_num_pdfs(folders: DataFolders) -> int:
    train, dev = num_pdfs(folders.train_ali), num_pdfs(folders.dev_ali)
    if train != dev:
        raise ValueError(
            f"{folders.dev_ali}: its model has {dev} pdfs, that of {folders.train_ali} has {train}; "
            "both alignments must be of one model"
        )
    return train


def _say_what_is_there(name: str, corpus: Corpus) -> None:
    text = f"{name} set: {len(corpus)} utterances, {int(corpus.num_frames.sum())} frames"
    skipped = corpus.skipped
    if skipped.without_alignment:
        text += f"; {skipped.without_alignment} without alignment left out"
    if skipped.too_long:
        text += f"; {skipped.too_long} over max_frames left out"
    print(text, file=sys.stderr)


def describe(figures: dict[str, float]) -> str:
    """The final figures as one line of JSON-like text."""
    return json.dumps({key: round(value, 4) for key, value in figures.items()})
