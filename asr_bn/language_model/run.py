"""A training run from texts to checkpoints, and the final model from its best epoch."""

from dataclasses import asdict
from pathlib import Path

import torch

from asr_bn.language_model.data import SETS, Texts
from asr_bn.language_model.evaluation import evaluate
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.model import LanguageModel, load_model
from asr_bn.language_model.trainer import Trainer
from asr_bn.language_model.windows import Window
from asr_bn.layers.population_estimate import estimate_population_stats, run_for_statistics
from asr_bn.layers.recurrence.steps import State
from asr_bn.training.checkpoint import LANGUAGE_MODEL
from asr_bn.training.out_of_memory import MODEL, explain_out_of_memory
from asr_bn.training.resume import refuse_other_run
from asr_bn.training.run_folder import RunCheckpoints


def train_model(
    config: LanguageModelExperiment, texts: Texts, out_dir: Path, device: torch.device
) -> Trainer:
    """Train a model, or continue to train it where ``out_dir`` holds a run.

    Raises:
        ValueError: the run in ``out_dir`` is of another configuration or text, or its best epoch is lost.
        DivergedError: loss or gradient stopped being finite.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    training = config.training
    texts.windows("test", training)  # one that is too short is named before training, not after it
    torch.manual_seed(training.seed)  # of dropout
    with explain_out_of_memory(MODEL):
        model = LanguageModel(config.model, len(texts.vocabulary), training.seed).to(device)
    trainer = Trainer(model, config, texts, out_dir)
    trainer.checkpoints.remove_leftovers()
    if trainer.checkpoints.exist:
        trainer.resume()
        trainer.checkpoints.restore_best(trainer.progress)
    trainer.run()
    return trainer


def finish_model(out_dir: Path, texts: Texts, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on all sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.

    Raises:
        ValueError: ``best.pt`` is lost, or ``texts`` are not those of the run.
    """
    model, state = load_model(out_dir / "best.pt")
    refuse_other_run(out_dir / "best.pt", {"data": state["description"]}, {"data": asdict(texts.description)})
    model.to(device)
    training = LanguageModelExperiment.from_dict(state["config"]).training
    if state["config"]["model"]["norm"] != "none":
        windows = texts.windows("train", training).windows()
        estimate_population_stats(model, windows, StatefulForward(training.carry_state))
    figures: dict[str, float] = {"best_epoch": state["progress"]["history"][-1]["epoch"]}
    for name in SETS:
        windows = texts.windows(name, training).windows()
        figures |= evaluate(model, windows, training.carry_state).figures(name)
    RunCheckpoints(out_dir, LANGUAGE_MODEL).save_final(model, figures, state)
    return figures


class StatefulForward:
    """Runs windows through the model one after the other, as far as its statistics need."""

    def __init__(self, carry_state: bool) -> None:
        self.carry_state = carry_state
        self.state: State | None = None

    def __call__(self, model: torch.nn.Module, window: Window) -> None:
        assert isinstance(model, LanguageModel)
        window = window.to(model.device)
        last = run_for_statistics(model.layers, model, window.tokens, window.batch_sizes, self.state)
        self.state = last if self.carry_state else None
