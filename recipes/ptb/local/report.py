"""``results.json``, ``figure2.png`` and ``report.html`` of the language models."""

import platform
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from asr_bn import __version__
from asr_bn.report.figures import LABELS, draw_curves, save_png
from asr_bn.report.rendering import embedded, write_rendered
from asr_bn.report.results import best_of_each_set, read_epochs
from asr_bn.system.files import read_json, write_json
from recipes.ptb.local.experiments import MODELS
from recipes.ptb.local.texts import Text

# Table 2: training and validation perplexity; Table 3: cross entropy in nats.
PAPER = {
    "small": {"baseline": (78.5, 119.2), "batch_norm": (62.5, 120.9)},
    "medium": {"baseline": (49.1, 89.0), "batch_norm": (41.0, 90.6)},
    "large": {"baseline": (49.3, 81.8), "batch_norm": (35.0, 97.4)},
    "char": {"baseline": (1.05, 1.10), "batch_norm": (1.07, 1.11)},
}
# What the keys of figures say
WORDS = {"ppl": "perplexity", "nats": "cross entropy (nats a character)"}
Models = dict[str, dict[str, Any]]


def write_report(out: Path, names: list[str], text: Text, command: str) -> None:
    """Gather what is in ``out`` and write the report; models of earlier calls are in it too.

    Args:
        out: output folder, with a folder for each configuration.
        names: the configurations of this call.
        text: what they were trained on.
        command: how to make it again.
    """
    found = [path.parent.parent.name for model in MODELS for path in out.glob(f"*/{model}/.finish.done")]
    configs: dict[str, Models] = {}
    for name in [*names, *sorted(found)]:
        if models := _models(out / name):
            configs[name] = models
    versions = {"asr_bn": __version__, "torch": str(torch.__version__), "Python": platform.python_version()}
    about = {"text": {"name": text.name, "kind": text.kind, "floor": text.floor}, "versions": versions}
    if configs:
        figure = save_png(draw_figure2(configs, text.floor), out / "figure2.png")
        told: dict[str, object] = {"paper": PAPER, "labels": LABELS, "words": WORDS, "unit_of": unit_of}
        told |= {**about, "configs": configs, "figure": embedded(figure), "command": command}
        write_rendered(out / "report.html", Path(__file__).with_name("report.html"), **told)
    write_json(out / "results.json", {**configs, **about})


def _models(folder: Path) -> Models:
    """Final figures and every epoch's of a configuration's finished models; perplexities as ``ppl``."""
    finished = [model for model in MODELS if (folder / model / ".finish.done").is_file()]
    return {model: _model(folder / model) for model in finished}


def _model(folder: Path) -> dict[str, Any]:
    epochs = [_short(figures) for figures in read_epochs(folder)]
    final = _short(read_json(folder / "final.json", dict))
    return {"epochs": epochs, "best_of_each_set": best_of_each_set(epochs), **final}


def _short(figures: dict[str, Any]) -> dict[str, Any]:
    return {key.replace("_perplexity", "_ppl"): value for key, value in figures.items()}


def draw_figure2(configs: dict[str, Models], floor: float | None) -> Figure:
    """Draw training (dotted) and validation perplexity over the epochs, a panel for each configuration."""
    figure = Figure(figsize=(7, 4.2 * len(configs)), layout="constrained")
    panels = figure.subplots(len(configs), 1, squeeze=False)[:, 0]
    for axes, (name, models) in zip(panels, configs.items(), strict=True):
        _draw_panel(axes, name, models, floor)
    return figure


def _draw_panel(axes: Axes, name: str, models: Models, floor: float | None) -> None:
    unit = unit_of(name)
    draw_curves(axes, {model: results["epochs"] for model, results in models.items()}, unit, "valid")
    if floor is not None and unit == "ppl":
        axes.axhline(floor, color="0.4", linewidth=1, label="entropy rate of the source")
        axes.set_ylim(0.8 * floor, 3 * floor)
    elif unit == "ppl":
        # The first epoch would hide all that follows.
        later = [entry["valid_ppl"] for results in models.values() for entry in results["epochs"][1:2]]
        axes.set_ylim(top=1.3 * max(later) if later else None)
    axes.set(ylabel=WORDS[unit], title=f"LSTM language model, {name}" if unit == "ppl" else name)
    axes.legend()


def unit_of(name: str) -> str:
    """Return what a configuration is measured in: the key of its figures."""
    return "nats" if name.startswith("char") else "ppl"
