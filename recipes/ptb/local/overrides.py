"""``--set training.epochs=3``: values of a configuration from the command line."""

import tomllib
from collections.abc import Sequence
from pathlib import Path

from asr_bn.language_model.experiment import LanguageModelExperiment


def read_experiment(path: Path, overrides: Sequence[str], seed: int) -> LanguageModelExperiment:
    """Read the experiment of a TOML file, with some values replaced.

    Raises:
        ValueError: an override is not ``section.key=value`` with a value as TOML has it, or does not fit.
    """
    experiment = LanguageModelExperiment.read(path).replace("training", seed=seed)
    for override in overrides:
        name, _, text = override.partition("=")
        section, _, key = name.partition(".")
        if section not in ("model", "training") or not key or not text:
            raise ValueError(f"--set {override}: expected model.KEY=VALUE or training.KEY=VALUE")
        try:
            experiment = experiment.replace(section, **{key: _value(text)})
        except ValueError as error:
            raise ValueError(f"--set {override}: {error}") from error
    return experiment


def _value(text: str) -> object:
    """As TOML reads it; a bare word is a string."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
