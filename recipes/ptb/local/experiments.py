"""A configuration with and without batch normalization: trained, finished, exported."""

import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from asr_bn.language_model.data import Texts
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.onnx_export import export_language_model
from asr_bn.language_model.run import finish_model, train_model
from asr_bn.system.files import locked_folder
from asr_bn.system.stamps import fingerprint, is_done, mark_done
from recipes.ptb.local.texts import Text

REPORT_PATIENCE_S = 60.0  # for another process of the search that writes its report
MODELS = ("baseline", "batch_norm")
OUTPUTS = ("final.pt", "final.json", "model.onnx", "step.onnx")

# What `norm` each cell has in the paper.
_NORM: dict[str, Literal["frame", "recurrent"]] = {"lstm": "frame", "tanh": "recurrent"}


def run_experiments(
    folder: Path,
    experiment: LanguageModelExperiment,
    text: Text,
    device: torch.device,
    norms: Sequence[str] = (),
) -> None:
    """Train ``folder/baseline`` and ``folder/batch_norm`` one after the other, or go on where they were.

    Args:
        folder: of the configuration.
        experiment: its ``norm`` is that of ``batch_norm``; ``"none"``: the one that the paper gives its cell.
        text: what to train on.
        device: where.
        norms: train only the models with these; none given: both.

    Raises:
        ValueError: the runs there are of another configuration or text, or there is no such normalization.
        DivergedError: loss or gradient stopped being finite.
    """
    texts = text.read(experiment.training.unit)
    norm = _NORM[experiment.model.cell] if experiment.model.norm == "none" else experiment.model.norm
    for its_norm in norms or ("none", norm):
        model = MODELS[its_norm != "none"]
        _run_one(folder / model, experiment.replace("model", norm=its_norm), texts, device)


def _run_one(folder: Path, experiment: LanguageModelExperiment, texts: Texts, device: torch.device) -> None:
    train_model(experiment, texts, folder, device)
    made_from = fingerprint({}, [folder / "best.pt"])
    stamp = folder / ".finish.done"
    if is_done(stamp, made_from, [folder / name for name in OUTPUTS]):
        print(f"{folder}: trained and exported already", file=sys.stderr)
        return
    figures = finish_model(folder, texts, device)
    sets = ", ".join(f"{figures[f'{name}_perplexity']:.1f} {name}" for name in ("train", "valid", "test"))
    epoch = f"epoch {figures['best_epoch']:.0f} with population statistics"
    print(f"{folder}: {epoch}: perplexity {sets}", file=sys.stderr)
    export_language_model(folder)
    mark_done(stamp, made_from)


def run_random_search(
    folder: Path, base: LanguageModelExperiment, text: Text, num_trials: int, device: torch.device, seed: int
) -> None:
    """Run the appendix's random search and report on it (see :mod:`recipes.ptb.local.search`).

    Raises:
        ValueError: Optuna is not installed.
    """
    if importlib.util.find_spec("optuna") is None:
        raise ValueError("--search needs Optuna: pip install 'asr-bn[search]'")
    from recipes.ptb.local.search import run_search, search_results
    from recipes.ptb.local.search_report import format_results, write_search_report

    texts = text.read("character")
    run_search(texts, base, folder, num_trials, device, seed)
    # One process at a time reads and writes: so the last one reports the trials of all.
    with locked_folder(folder, REPORT_PATIENCE_S):
        results = search_results(texts, base, folder, num_trials, seed)
        write_search_report(results, folder)
    print(format_results(results), file=sys.stderr)
