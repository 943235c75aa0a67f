"""A training run of a language model from texts to checkpoints, and its best epoch afterwards."""

import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asr_bn.acoustic_model.out_of_memory import naming_model
from asr_bn.language_model.evaluation import evaluate
from asr_bn.language_model.experiment import LanguageModelExperiment, LanguageModelTraining
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.text import Unit, encode_sentences, read_sentences
from asr_bn.language_model.trainer import Trainer
from asr_bn.language_model.vocabulary import Vocabulary
from asr_bn.language_model.windows import TextWindows, Window
from asr_bn.layers.population import estimate_population_stats, run_for_statistics
from asr_bn.layers.recurrence.steps import State
from asr_bn.system.files import write_json
from asr_bn.training.checkpoint import LANGUAGE_MODEL, load_checkpoint, save_checkpoint
from asr_bn.training.resume import check_same

SETS = ("train", "valid", "test")


@dataclass(frozen=True)
class Texts:
    """The tokens of the three sets, and the vocabulary."""

    vocabulary: Vocabulary
    tokens: dict[str, NDArray[np.int64]]
    paths: dict[str, Path]

    @classmethod
    def read(cls, paths: dict[str, Path], unit: Unit, words: Path | None = None) -> "Texts":
        """Read ``paths`` of ``train``, ``valid`` and ``test``.

        Args:
            words: the vocabulary, one word a line; None takes the words of the training text.

        Raises:
            ValueError: an empty file, or a word that the vocabulary lacks where it has no ``<unk>``.
        """
        sentences = {name: read_sentences(paths[name], unit) for name in SETS}
        vocabulary = Vocabulary.of(sentences["train"]) if words is None else Vocabulary.read(words)
        tokens = {name: encode_sentences(sentences[name], vocabulary, paths[name]) for name in SETS}
        return cls(vocabulary, tokens, paths)

    def windows(self, name: str, training: LanguageModelTraining) -> TextWindows:
        """A set cut into streams and windows as ``training`` has it."""
        return TextWindows(self.tokens[name], training.batch_size, training.num_steps, str(self.paths[name]))

    def describe(self) -> dict[str, Any]:
        """What checkpoints say of the texts; another text or order of words is another run."""
        digests = {name: hashlib.sha256(self.tokens[name].tobytes()).hexdigest() for name in SETS}
        return {"words": list(self.vocabulary.words), "sha256_of_tokens": digests}


def train_language_model(
    experiment: LanguageModelExperiment, texts: Texts, out_dir: Path, device: torch.device
) -> Trainer:
    """Train a model, or finish training it: where ``out_dir`` holds a run it goes on from there.

    Raises:
        ValueError: the run in ``out_dir`` is of another configuration or text, or its best epoch is lost.
        DivergedError: loss or gradient stopped being finite.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    training = experiment.training
    torch.manual_seed(training.seed)  # of dropout
    with naming_model():
        model = LanguageModel(experiment.model, len(texts.vocabulary), training.seed).to(device)
    # The test text is cut too, so that one that is too short is named before training, not after it.
    train, valid, _ = (texts.windows(name, training) for name in SETS)
    trainer = Trainer(model, experiment, train, valid, out_dir, texts.describe())
    trainer.checkpoints.remove_leftovers()
    if trainer.checkpoints.exist:
        trainer.resume()
        progress = trainer.progress
        if progress.history and (restored := trainer.checkpoints.restore_best(progress.best_epoch)):
            print(restored, file=sys.stderr)
    trainer.run()
    return trainer


def finish_language_model(out_dir: Path, texts: Texts, device: torch.device) -> dict[str, float]:
    """Estimate population statistics of the best epoch, evaluate it on all sets, write ``final.pt``.

    Returns:
        Its figures, which ``final.json`` holds too.

    Raises:
        ValueError: ``best.pt`` is lost, or ``texts`` are not those of the run.
    """
    model, state = load_language_model(out_dir / "best.pt")
    check_same(out_dir / "best.pt", {"data": state["description"]}, {"data": texts.describe()})
    model.to(device)
    training = LanguageModelExperiment.from_dict(state["config"]).training
    if state["config"]["model"]["norm"] != "none":
        windows = texts.windows("train", training).windows()
        estimate_population_stats(model, windows, _StatefulForward(training.carry_state))
    figures: dict[str, float] = {"best_epoch": state["progress"]["history"][-1]["epoch"]}
    for name in SETS:
        sums = evaluate(model, texts.windows(name, training).windows(), training.carry_state)
        figures |= {f"{name}_nats": sums.nats, f"{name}_perplexity": sums.perplexity}
    kept = {key: state[key] for key in ("config", "description", "version")}
    saved = kept | {"model": model.state_dict(), "figures": figures}
    save_checkpoint(out_dir / "final.pt", saved, LANGUAGE_MODEL)
    write_json(out_dir / "final.json", figures)
    return figures


def load_language_model(path: Path) -> tuple[LanguageModel, dict[str, Any]]:
    """The model of a checkpoint, on the CPU, and all that the checkpoint holds.

    Raises:
        ValueError: the checkpoint is damaged, or not of a language model.
    """
    state = load_checkpoint(path, LANGUAGE_MODEL)
    config = LanguageModelExperiment.from_dict(state["config"]).model
    model = LanguageModel(config, len(state["description"]["words"]))
    model.load_state_dict(state["model"])
    return model, state


class _StatefulForward:
    """How windows go through the model one after the other, as far as its statistics need."""

    def __init__(self, carry_state: bool) -> None:
        self.carry_state = carry_state
        self.state: State | None = None

    def __call__(self, model: torch.nn.Module, window: Window) -> None:
        assert isinstance(model, LanguageModel)
        window = window.to(model.device)
        last = run_for_statistics(model.layers, model, window.tokens, window.batch_sizes, self.state)
        self.state = last if self.carry_state else None
