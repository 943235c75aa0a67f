"""A training run from folders to checkpoints, and what is done with its best epoch afterwards."""

import json
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from asr_bn.acoustic_model.data import RunData
from asr_bn.acoustic_model.evaluation import FrameSums, evaluate, run_for_population_stats
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.feature_statistics import feature_statistics
from asr_bn.acoustic_model.model import AcousticModel
from asr_bn.acoustic_model.optimization import set_precision
from asr_bn.acoustic_model.out_of_memory import naming_model
from asr_bn.acoustic_model.trainer import Progress, Trainer, expect_features
from asr_bn.data.batches import Batch, Corpus, epoch_batches, load_batches, sorted_batches
from asr_bn.features.options import FbankOptions
from asr_bn.layers.population import estimate_population_stats
from asr_bn.system.files import locked_folder, write_json
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint, save_checkpoint
from asr_bn.training.device import default_num_workers
from asr_bn.training.log import TrainingLog, check_tensorboard
from asr_bn.training.ranks import Ranks
from asr_bn.training.resume import check_same
from asr_bn.training.run_folder import RunCheckpoints

# The processes that read ahead for a run that was killed notice it, and let go of its folder, after 5 s.
LOCK_PATIENCE_S = 10.0


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
    if len(data.train) < ranks.size:
        raise ValueError(f"{len(data.train)} training utterances for {ranks.size} processes")
    if tensorboard:
        check_tensorboard()
    with locked_folder(out_dir, LOCK_PATIENCE_S) if ranks.is_first else nullcontext():
        if ranks.is_first:
            checkpoints.remove_leftovers()
        model = new_model(config, data.description, ranks).to(device)
        trainer = Trainer(model, config, data.train, data.dev, out_dir, data.description, num_workers, ranks)
        if started:
            trainer.resume()
            if ranks.is_first:
                restore_best(trainer.checkpoints, trainer.progress)
        statistics = read_all_features(trainer)
        if not started:
            model.feats_mean, model.feats_std = statistics
        if ranks.is_first:
            trainer.log = TrainingLog(out_dir, tensorboard, trainer.progress.steps + 1)
        trainer.run()
        if trainer.log is not None:
            trainer.log.close()
    return trainer


def read_all_features(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    """Check the features of both sets, before the first step; mean and deviation of the training set's.

    Raises:
        ValueError: features of an utterance cannot be used, or have changed since the run began.
    """
    order, num_workers, ranks = trainer.config.model.delta_order, trainer.num_workers, trainer.ranks
    mean, std = feature_statistics(trainer.train, order, num_workers, ranks)
    feature_statistics(trainer.dev, order, num_workers, ranks)
    return mean.to(trainer.device), std.to(trainer.device)


def restore_best(checkpoints: RunCheckpoints, progress: Progress) -> None:
    """Make a lost ``best.pt`` anew from a checkpoint that has the same epoch, and say so.

    Raises:
        ValueError: there is none.
    """
    if progress.history and (restored := checkpoints.restore_best(progress.best_epoch)):
        print(restored, file=sys.stderr)


def new_model(config: ExperimentConfig, description: dict[str, Any], ranks: Ranks = Ranks()) -> AcousticModel:
    """A model before training, with the random state and the precision of products that go with it."""
    seed = config.training.seed
    torch.manual_seed(seed + ranks.rank)  # of dropout
    set_precision(config.training.precision)
    with naming_model():
        return AcousticModel(config.model, _num_static(description), description["num_pdfs"], seed)


def finish_model(out_dir: Path, data: RunData, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on both sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.

    Raises:
        ValueError: ``best.pt`` is lost, or ``data`` are not those of the run.
    """
    num_workers = default_num_workers(device)
    model, state = load_model(out_dir / "best.pt")
    check_same(out_dir / "best.pt", {"data": state["description"]}, {"data": data.description})
    expect_features(state, data.train, data.dev)
    config = ExperimentConfig.from_dict(state["config"])
    model.to(device)
    if config.model.norm != "none":
        batches = _training_batches(config, data.train, num_workers)
        estimate_population_stats(model, batches, run_for_population_stats)
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


def describe(figures: dict[str, float]) -> str:
    """The final figures as one line of JSON-like text."""
    return json.dumps({key: round(value, 4) for key, value in figures.items()})
