"""Time and memory that a training run will need, measured before it starts; nothing is written."""

import resource
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from asr_bn.acoustic_model.data import RunData, training_batches
from asr_bn.acoustic_model.experiment import ExperimentConfig
from asr_bn.acoustic_model.run import new_model, read_all_features
from asr_bn.acoustic_model.trainer import MiniBatch, Trainer
from asr_bn.data.batches import load_batches

# Parameters and what the optimizer keeps of each: momentum, or Adam's two averages.
_TENSORS = {"sgd": 2, "adam": 3}
_CHECKPOINTS = 4  # last, previous and best, and the next one while it is written


@dataclass(frozen=True)
class _Step:
    seconds: float
    frames: int
    padded: int
    utterances: int


def dry_run(config: ExperimentConfig, data: RunData, out_dir: Path, device: torch.device) -> Iterator[str]:
    """Yield the lines of a report, each as soon as it is known.

    Raises:
        ValueError: features of an utterance cannot be used, a step does not fit in memory, its loss is not
            finite, or ``out_dir`` holds a run that cannot be continued or has too little room.
    """
    yield _describe_batches(config, data)
    model = new_model(config, data.description).to(device)
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    yield f"model: {num_parameters} parameters, {data.description.num_pdfs} pdfs; device {device}"
    yield _describe_folder(out_dir, 4 * num_parameters * _TENSORS[config.training.optimizer])
    trainer = Trainer(model, config, data, out_dir)
    started = trainer.checkpoints.exist
    if started:
        yield _describe_resume(trainer)
    statistics = read_all_features(trainer)
    yield f"features: all {len(data.train)} training and {len(data.dev)} development utterances can be used"
    if not started:
        model.feats_mean, model.feats_std = statistics
    yield from _describe_steps(trainer)


def _describe_batches(config: ExperimentConfig, data: RunData) -> str:
    training, num_frames = config.training, data.train.num_frames
    batches = training_batches(data.train, training, epoch=1)
    padded = sum(len(batch) * int(num_frames[batch].max()) for batch in batches)
    share = 1.0 - int(num_frames.sum()) / padded
    return (
        f"epoch: {len(batches)} steps, {int(num_frames.sum())} frames, {100 * share:.1f} % padding; "
        f"{training.epochs} epochs"
    )


def _describe_folder(out_dir: Path, bytes_each: int) -> str:
    existing = next(folder for folder in (out_dir, *out_dir.absolute().parents) if folder.is_dir())
    free = shutil.disk_usage(existing).free
    text = f"{_CHECKPOINTS} checkpoints of {bytes_each / 1e6:.0f} MB, {free / 1e6:.0f} MB free"
    if free < _CHECKPOINTS * bytes_each:
        raise ValueError(f"{out_dir}: too little room on the disk: {text}")
    return f"{out_dir}: {text}"


def _describe_resume(trainer: Trainer) -> str:
    trainer.resume()
    progress = trainer.progress
    if progress.history:
        trainer.checkpoints.holder_of_best(progress.best_epoch)
    return (
        f"{trainer.out_dir}: holds this run up to batch {progress.next_batch} of epoch {progress.epoch}; "
        "--resume continues it"
    )


def _describe_steps(trainer: Trainer) -> Iterator[str]:
    training, corpus = trainer.config.training, trainer.train
    batches = training_batches(corpus, training, epoch=1)
    batches.sort(key=lambda batch: len(batch) * int(corpus.num_frames[batch].max()))
    largest, middle = batches[-1], batches[len(batches) // 2]
    loaded = map(MiniBatch, load_batches(corpus, [largest, middle]), (largest, middle))
    batches_by_name = dict(zip(("largest", "middle"), loaded, strict=True))
    # The first step warms up: kernels are chosen and memory is taken.
    _take(trainer, batches_by_name["largest"])
    steps = {name: _take(trainer, batch) for name, batch in batches_by_name.items()}
    for name, step in steps.items():
        yield (
            f"{name} mini-batch: {step.utterances} utterances, {step.padded} padded frames, a step takes "
            f"{step.seconds:.2f} s ({step.frames / step.seconds:.0f} frames/s)"
        )
    yield f"peak memory of a step: {_peak_memory(trainer.device)}"
    rate = steps["middle"].frames / steps["middle"].seconds
    hours = int(corpus.num_frames.sum()) / rate / 3600.0
    yield f"an epoch takes about {hours:.2f} h, {training.epochs} take {hours * training.epochs:.1f} h"


def _peak_memory(device: torch.device) -> str:
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return f"{torch.cuda.max_memory_reserved(device) / 1e6:.0f} MB of the GPU's {total / 1e6:.0f} MB"
    unit = 1 if sys.platform == "darwin" else 1024
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6:.0f} MB (the whole process)"


def _take(trainer: Trainer, batch: MiniBatch) -> _Step:
    share = batch.share
    trainer.model.train()
    start = time.perf_counter()
    trainer.step(batch)
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    if trainer.progress.non_finite_steps:
        raise ValueError(f"{', '.join(share.utt_ids)}: the loss or gradient of the first step is not finite")
    return _Step(seconds, int(share.lengths.sum()), share.feats[..., 0].numel(), len(batch.indices))
