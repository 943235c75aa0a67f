"""Small language models, a text for them, and the model once more in NumPy: the oracle of its tests."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from asr_bn.language_model.data import Texts
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.metadata import LanguageModelMetadata
from asr_bn.language_model.model import LanguageModel
from asr_bn.language_model.onnx_export import export_graph
from asr_bn.language_model.text import Unit

Array = NDArray[np.float64]
Statistics = tuple[int, Array, Array]
WORDS = ("a", "b", "c", "d", "<unk>")


def make_experiment(norm: str = "frame", cell: str = "lstm", **training: object) -> LanguageModelExperiment:
    """Two layers of 6; windows of 4 steps of 3 streams."""
    model = {"norm": norm, "cell": cell, "num_layers": 2, "hidden_size": 6, "init_range": 0.5}
    values = {"epochs": 3, "batch_size": 3, "num_steps": 4, "learning_rate": 0.5, **training}
    return LanguageModelExperiment.from_dict({"model": model, "training": values})


def make_model(num_words: int = 7, **options: object) -> LanguageModel:
    """A model whose gammas and betas are not those of the start; it has no statistics yet."""
    experiment = make_experiment().replace("model", **options)
    model = LanguageModel(experiment.model, num_words, seed=3)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "gamma" in name or "beta" in name:
            nn.init.normal_(parameter, 1.0 if "gamma" in name else 0.0, 0.3)
    return model


def write_text(path: Path, num_sentences: int, seed: int) -> Path:
    """Sentences of 1 to 9 words in which a word says much about the next one."""
    random = np.random.default_rng(seed)
    lines = []
    for _ in range(num_sentences):
        number, words = int(random.integers(len(WORDS))), []
        for _ in range(random.integers(1, 10)):
            words.append(WORDS[number])
            number = (number + (random.random() < 0.2)) % len(WORDS)
        lines.append(" ".join(words) + "\n")
    path.write_text("".join(lines))
    return path


def make_texts(folder: Path, unit: Unit = "word", num_sentences: int = 12) -> Texts:
    """Training text of ``num_sentences`` (12 are 85 tokens), and two shorter ones."""
    sizes = {"train": num_sentences, "valid": num_sentences // 2, "test": 5}
    paths = {
        name: write_text(folder / f"{name}.txt", size, seed)
        for seed, (name, size) in enumerate(sizes.items(), start=1)
    }
    return Texts.read(paths, unit)


def write_language_model(path: Path, words: Sequence[str]) -> Path:
    """Export a network that was not trained, whose tokens are ``words``."""
    model = make_model(len(words) + 1, cell="lstm", norm="none").eval()
    experiment = make_experiment("none").to_dict()
    export_graph(model, LanguageModelMetadata("window", ("</s>", *words), experiment, {}, {}, "0"), path)
    return path


@dataclass
class Outcome:
    """Logits by step, last states by layer, and statistics by layer and step: count, mean, variance."""

    logits: list[Array]
    states: list[tuple[Array, ...]]
    statistics: list[list[Statistics]]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def numpy_model(
    model: LanguageModel,
    tokens: list[NDArray[np.int64]],
    states: list[tuple[Array, ...]] | None = None,
    population: list[list[Statistics]] | None = None,
) -> Outcome:
    """The model in float64, one time step after the other, from equations 7, 12-16, 17 and 19.

    Args:
        tokens: of every time step, never more streams than at the step before.
        population: statistics by layer and step to normalize by; None takes those of the rows.
    """
    weights = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    num_layers, size = model.layers.num_layers, model.layers.hidden_size
    num_states = model.layers.cell.num_states
    states = list(states or [(np.zeros((len(tokens[0]), size)),) * num_states] * num_layers)
    logits: list[Array] = []
    statistics: list[list[Statistics]] = [[] for _ in range(num_layers)]
    for step, row in enumerate(tokens):
        x = weights["embedding.weight"][row]
        for layer in range(num_layers):
            name = f"layers.{{}}_l{layer}".format
            before = tuple(values[: len(row)] for values in states[layer])
            of_step = None if population is None else population[layer][min(step, len(population[layer]) - 1)]

            def normalized(
                z: Array,
                layer: int = layer,
                of_step: Statistics | None = of_step,
                name: Callable[[str], str] = name,
            ) -> Array:
                count, mean, variance = of_step or (len(z), z.mean(0), ((z - z.mean(0)) ** 2).mean(0))
                statistics[layer].append((count, mean, variance))
                z = (z - mean) / np.sqrt(variance + 1e-5)
                scaled: Array = weights[name("gamma")] * z + weights[name("beta")]
                return scaled

            z, recurrent = x @ weights[name("weight_ih")].T, before[0] @ weights[name("weight_hh")].T
            if model.layers.norm == "frame":
                gates = normalized(z) + recurrent
            elif model.layers.norm == "recurrent":
                gates = normalized(z + recurrent)
            else:
                gates = z + recurrent + weights[name("bias_ih")] + weights[name("bias_hh")]
            if num_states == 1:
                new: tuple[Array, ...] = (np.tanh(gates),)
            else:
                i, f, g, o = np.split(gates, 4, axis=1)
                c = sigmoid(f) * before[1] + sigmoid(i) * np.tanh(g)
                new = sigmoid(o) * np.tanh(c), c
            states[layer] = tuple(
                np.concatenate([values, old[len(row) :]])
                for values, old in zip(new, states[layer], strict=True)
            )
            x = new[0]
        logits.append(x @ weights["output.weight"].T + weights["output.bias"])
    return Outcome(logits, states, statistics)
