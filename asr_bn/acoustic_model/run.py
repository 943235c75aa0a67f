"""A training run from data to checkpoints, and the final model from its best epoch."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from tqdm import tqdm

from asr_bn.acoustic_model.data import DataDescription, RunData, evaluation_batches, training_batches
from asr_bn.acoustic_model.evaluation import FrameSums, evaluate, run_for_population_stats
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.feature_statistics import feature_statistics
from asr_bn.acoustic_model.model import AcousticModel, load_model
from asr_bn.acoustic_model.trainer import Progress, Trainer, expect_features
from asr_bn.data.batches import Batch, Corpus, load_batches
from asr_bn.data.phones import PhoneTable
from asr_bn.layers.population_estimate import estimate_population_stats
from asr_bn.system.files import locked_folder
from asr_bn.training.checkpoint import ACOUSTIC_MODEL, load_checkpoint
from asr_bn.training.device import default_num_workers
from asr_bn.training.log import TrainingLog, check_tensorboard
from asr_bn.training.optimization import set_precision
from asr_bn.training.out_of_memory import MODEL, explain_out_of_memory
from asr_bn.training.ranks import Ranks
from asr_bn.training.resume import refuse_other_run
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
    """Train a model, or continue to train it.

    Args:
        resume: continue from the last whole checkpoint in ``out_dir`` where there is one.
        num_workers: processes that read ahead.
        ranks: the processes that share each mini-batch; every one of them calls this.
        tensorboard: whether to write event files too.

    Raises:
        ValueError: ``out_dir`` holds a run and ``resume`` is not set, that run is another one, or training
            cannot go on (see :meth:`RunLoop.run`).
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
        trainer = Trainer(model, config, data, out_dir, num_workers, ranks)
        if started:
            trainer.resume()
            if ranks.is_first:
                checkpoints.restore_best(trainer.progress)
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
    """Check the features of both sets; return mean and standard deviation of the training set's.

    Raises:
        ValueError: features of an utterance cannot be used, or have changed since the run began.
    """
    order, num_workers, ranks = trainer.config.model.delta_order, trainer.num_workers, trainer.ranks
    mean, std = feature_statistics(trainer.train, order, num_workers, ranks)
    feature_statistics(trainer.dev, order, num_workers, ranks)
    return mean.to(trainer.device), std.to(trainer.device)


def new_model(
    config: ExperimentConfig, description: DataDescription, ranks: Ranks = Ranks()
) -> AcousticModel:
    """Make a model before training; set the random state and the precision of products that go with it."""
    seed = config.training.seed
    torch.manual_seed(seed + ranks.rank)  # of dropout
    set_precision(config.training.precision)
    with explain_out_of_memory(MODEL):
        return AcousticModel(config.model, description.fbank.num_features, description.num_pdfs, seed)


def best_config(exp_dir: Path) -> ExperimentConfig:
    """Read the configuration in ``best.pt``, which is restored first where it is lost.

    Raises:
        ValueError: no checkpoint holds the best epoch.
    """
    checkpoints = RunCheckpoints(exp_dir, ACOUSTIC_MODEL)
    _, last, _ = checkpoints.load()
    checkpoints.restore_best(Progress.from_dict(last["progress"]))
    return ExperimentConfig.from_dict(load_checkpoint(exp_dir / "best.pt", ACOUSTIC_MODEL)["config"])


def finish_model(out_dir: Path, data: RunData, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on both sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.

    Raises:
        ValueError: ``best.pt`` is lost, or ``data`` are not those of the run.
    """
    num_workers = default_num_workers(device)
    model, state = load_model(out_dir / "best.pt")
    refuse_other_run(
        out_dir / "best.pt", {"data": state["description"]}, {"data": data.description.to_dict()}
    )
    expect_features(state, data.train, data.dev)
    config = ExperimentConfig.from_dict(state["config"])
    model.to(device)
    if config.model.norm != "none":
        batches = _training_batches(config, data.train, num_workers)
        estimate_population_stats(model, batches, run_for_population_stats)
    figures: dict[str, float] = {"best_epoch": state["progress"]["history"][-1]["epoch"]}
    phones = None if data.system is None else data.system.phones
    for name, corpus in (("train", data.train), ("dev", data.dev)):
        sums = _evaluate(model, corpus, config, f"{out_dir.name} {name}", num_workers, phones)
        figures |= sums.figures(name)
    system = None if data.system is None else data.system.to_dict()
    RunCheckpoints(out_dir, ACOUSTIC_MODEL).save_final(model, figures, state, system)
    return figures


def _training_batches(config: ExperimentConfig, train: Corpus, num_workers: int) -> Iterator[Batch]:
    # The batches of an epoch that was not trained on: the statistics of mini-batches of one length
    # alone (as evaluation makes them) would not be those that training saw.
    batches = training_batches(train, config.training, config.training.epochs + 1)
    loaded = load_batches(train, batches, num_workers)
    yield from tqdm(loaded, "population statistics", len(batches), unit="batch", delay=2)


def _evaluate(
    model: AcousticModel,
    corpus: Corpus,
    config: ExperimentConfig,
    title: str,
    num_workers: int,
    phones: PhoneTable | None,
) -> FrameSums:
    batches = evaluation_batches(corpus, config.training)
    loaded = load_batches(corpus, batches, num_workers)
    return evaluate(model, tqdm(loaded, title, len(batches), unit="batch", delay=2), phones)
