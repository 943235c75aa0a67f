"""A training run from folders to checkpoints, and what is done with its best epoch afterwards."""

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from asr_bn.acoustic_model import AcousticModel
from asr_bn.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.batches import Batch, Corpus, epoch_batches, load_batches, sorted_batches
from asr_bn.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from asr_bn.evaluation import FrameSums, evaluate
from asr_bn.experiment import ExperimentConfig
from asr_bn.features.deltas import add_deltas
from asr_bn.features.fbank_options import FbankOptions
from asr_bn.files import locked_folder, write_json
from asr_bn.optimization import set_precision
from asr_bn.population import estimate_population_stats, forward_batch
from asr_bn.ranks import Ranks
from asr_bn.read_ahead import read_ahead
from asr_bn.run_checkpoints import RunCheckpoints
from asr_bn.trainer import Trainer
from asr_bn.training_log import TrainingLog, check_tensorboard

# The processes that read ahead for a run that was killed notice it, and let go of its folder, after 5 s.
LOCK_PATIENCE_S = 10.0


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


def load_data(folders: DataFolders, config: ExperimentConfig, quiet: bool = False) -> RunData:
    """Read the folders of a run; utterances over ``max_frames`` leave the training set only.

    Both sets are described on standard error unless ``quiet``.

    Raises:
        ValueError: training and development sets do not belong together, or lengths differ.
    """
    fbank = _same_fbank(folders)
    classes = _same_num_pdfs(folders)
    train_pdf_ids = read_pdf_ids(folders.train_ali)
    train = Corpus.load(folders.train, train_pdf_ids, config.training.max_frames)
    dev = Corpus.load(folders.dev, read_pdf_ids(folders.dev_ali), None)
    for name, corpus in (("training", train), ("development", dev)):
        if not quiet:
            print(_what_is_there(name, corpus), file=sys.stderr)
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
    ranks: Ranks = Ranks(),
    tensorboard: bool = False,
) -> Trainer:
    """Train a model, or finish training it.

    Args:
        resume: continue from the last whole checkpoint in ``out_dir`` where there is one.
        num_workers: processes that read ahead.
        ranks: the processes that share each mini-batch; every one of them calls this.
        tensorboard: write event files too.

    Raises:
        ValueError: ``out_dir`` holds a run already and ``resume`` is not set, that run differs from this,
            or training cannot go on (see ``Trainer.run``).
    """
    checkpoints = RunCheckpoints(out_dir, ACOUSTIC_MODEL)
    started = checkpoints.exist
    if started and not resume:
        raise ValueError(
            f"{out_dir}: holds a training run already; add --resume to continue it, or choose another folder"
        )
    if tensorboard:
        check_tensorboard()
    with _own_folder(out_dir, checkpoints, ranks):
        model = new_model(config, data.description, ranks)
        if not started:
            model.feats_mean, model.feats_std = feature_statistics(
                data.train, config.model.delta_order, num_workers, ranks
            )
        trainer = Trainer(
            model.to(device), config, data.train, data.dev, out_dir, data.description, num_workers, ranks
        )
        if started:
            trainer.resume()
        if ranks.is_first:
            trainer.log = TrainingLog(out_dir, tensorboard, trainer.progress.steps + 1)
        trainer.run()
        if trainer.log is not None:
            trainer.log.close()
    return trainer


def new_model(config: ExperimentConfig, description: dict[str, Any], ranks: Ranks = Ranks()) -> AcousticModel:
    """A model before training, with the random state and the precision of products that go with it."""
    seed = config.training.seed
    torch.manual_seed(seed + ranks.rank)  # of dropout
    set_precision(config.training.precision)
    return AcousticModel(config.model, _num_static(description), description["num_pdfs"], seed)


@contextmanager
def _own_folder(out_dir: Path, checkpoints: RunCheckpoints, ranks: Ranks) -> Iterator[None]:
    """Keep other runs out of ``out_dir`` (the first rank does, for all)."""
    if not ranks.is_first:
        yield
        return
    with ExitStack() as stack:
        deadline = time.monotonic() + LOCK_PATIENCE_S
        while True:
            try:
                stack.enter_context(locked_folder(out_dir))
                break
            except ValueError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        checkpoints.remove_leftovers()
        yield


def default_num_workers(device: torch.device, ranks: Ranks = Ranks()) -> int:
    """Processes that read ahead: none beside a CPU that computes, up to four for each GPU."""
    if device.type == "cpu":
        return 0
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(4, cores // ranks.local_size - 1))


def feature_statistics(
    corpus: Corpus, delta_order: int, num_workers: int = 0, ranks: Ranks = Ranks()
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and standard deviation of each feature, deltas included, over a corpus (pooled in float64).

    Raises:
        ValueError: an utterance cannot be read.
    """
    if len(corpus) < ranks.size:
        raise ValueError(f"{len(corpus)} training utterances for {ranks.size} processes")
    count, total, squares = 0, np.zeros(()), np.zeros(())
    indices = ranks.share(range(len(corpus)))
    blocks = [indices[first : first + 32] for first in range(0, len(indices), 32)]
    with tqdm(
        desc="feature statistics", total=len(indices), unit="utt", delay=2, disable=not ranks.is_first
    ) as bar:
        for block in read_ahead(_Moments(corpus, delta_order), blocks, num_workers):
            for utt_count, utt_total, utt_squares in block:
                count += utt_count
                total = total + utt_total
                squares = squares + utt_squares
            bar.update(len(block))
    sums = ranks.sum(torch.from_numpy(np.concatenate([[count], total, squares]))).numpy()
    num_features = len(sums) // 2
    mean = sums[1 : num_features + 1] / sums[0]
    variance = sums[num_features + 1 :] / sums[0] - np.square(mean)
    # A constant column carries nothing; dividing it by its deviation would make noise of it.
    std = np.sqrt(np.where(variance > 1e-8, variance, 1.0))
    return torch.from_numpy(mean).float(), torch.from_numpy(std).float()


_Sums = tuple[int, NDArray[np.float64], NDArray[np.float64]]


class _Moments(Dataset[list[_Sums]]):
    """For each of several utterances: its frames, and the sums of its features and of their squares."""

    def __init__(self, corpus: Corpus, delta_order: int) -> None:
        self.corpus, self.delta_order = corpus, delta_order

    def __getitem__(self, indices: Sequence[int]) -> list[_Sums]:
        return [self._of(*self.corpus[index]) for index in indices]

    def _of(self, utt_id: str, feats: NDArray[np.float32], pdf_ids: NDArray[np.int32]) -> _Sums:
        with_deltas = add_deltas(feats, self.delta_order).astype(np.float64)
        total = with_deltas.sum(0)
        if not np.isfinite(total).all():
            raise ValueError(
                f"{utt_id}: {self.corpus.feats.rxfilename(utt_id)}: features that are NaN or infinite"
            )
        return len(pdf_ids), total, np.square(with_deltas).sum(0)


def finish_model(out_dir: Path, data: RunData, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on both sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.
    """
    num_workers = default_num_workers(device)
    model, state = load_model(out_dir / "best.pt")
    config = ExperimentConfig.from_dict(state["config"])
    model.to(device)
    if config.model.norm != "none":
        batches = _training_batches(config, data.train, num_workers)
        estimate_population_stats(model, batches, forward_batch)
    figures: dict[str, float] = {"best_epoch": state["progress"]["history"][-1]["epoch"]}
    for name, corpus in (("train", data.train), ("dev", data.dev)):
        sums = _evaluate(model, corpus, config, f"{out_dir.name} {name}", num_workers)
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


def choose_device(name: str, ranks: Ranks = Ranks()) -> torch.device:
    """``auto`` is CUDA where there is one, each rank its own.

    Raises:
        ValueError: CUDA is asked for and there is none, or there are more ranks here than GPUs.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise ValueError("device 'cuda' was asked for, but PyTorch finds no CUDA device here")
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"device is {name!r}, expected 'auto', 'cpu' or 'cuda'")
    if not available or name == "cpu":
        return torch.device("cpu")
    if ranks.size == 1:
        return torch.device("cuda")
    if ranks.local_size > torch.cuda.device_count():
        raise ValueError(
            f"{ranks.local_size} processes were started here, but there are {torch.cuda.device_count()} GPUs"
        )
    return torch.device("cuda", ranks.local_rank)


def _training_batches(config: ExperimentConfig, train: Corpus, num_workers: int) -> Iterator[Batch]:
    # The batches of an epoch that was not trained on: the statistics of mini-batches of one length
    # alone (as evaluation makes them) would not be those that training saw.
    training = config.training
    epoch = training.epochs + 1
    batches = epoch_batches(
        train.num_frames, training.batch_size, training.seed, epoch, training.batch_frames
    )
    loaded = load_batches(train, batches, num_workers)
    yield from tqdm(loaded, "population statistics", len(batches), unit="batch", delay=2)


def _evaluate(
    model: AcousticModel, corpus: Corpus, config: ExperimentConfig, title: str, num_workers: int
) -> FrameSums:
    training = config.training
    batches = sorted_batches(corpus.num_frames, training.batch_size, training.batch_frames)
    loaded = load_batches(corpus, batches, num_workers)
    return evaluate(model, tqdm(loaded, title, len(batches), unit="batch", delay=2))


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


def _what_is_there(name: str, corpus: Corpus) -> str:
    text = f"{name} set: {len(corpus)} utterances, {int(corpus.num_frames.sum())} frames"
    skipped = corpus.skipped
    if skipped.without_alignment:
        text += f"; {skipped.without_alignment} without alignment left out"
    if skipped.too_long:
        text += f"; {skipped.too_long} over max_frames left out"
    return text


def describe(figures: dict[str, float]) -> str:
    """The final figures as one line of JSON-like text."""
    return json.dumps({key: round(value, 4) for key, value in figures.items()})
