"""What a random search shows at its end: ``search.json``, ``figure3.png`` and ``search.html``."""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from asr_bn import __version__
from asr_bn.report.figures import LABELS, draw_curves, save_png
from asr_bn.report.rendering import embedded, write_rendered
from asr_bn.report.results import best_of_each_set
from asr_bn.system.files import write_json
from recipes.ptb.local.search import NETWORKS, NetworkResult, SearchResults, TrialResult, describe_trial

# Table 3 of the paper: cross entropy in nats a symbol, and what the best networks drew.
PAPER_TABLE_3: dict[str, dict[str, float]] = {
    "baseline": {"train": 1.05, "valid": 1.10, "learning_rate": 0.42, "momentum": 0.95, "batch_size": 32},
    "batch_norm": {
        "train": 1.07,
        "valid": 1.11,
        "learning_rate": 3.71e-4,
        "momentum": 0.995,
        "batch_size": 128,
    },
}


def write_search_report(results: SearchResults, out_dir: Path) -> None:
    """Write ``figure3.png`` (where a trial worked), ``search.html`` and, last, ``search.json``."""
    typical = results.typical()
    figure3 = None if typical is None else save_png(draw_figure3(typical), out_dir / "figure3.png")
    summary, figure = summarize(results), None if figure3 is None else embedded(figure3)
    told: dict[str, object] = {"results": results, "summary": summary, "typical": typical, "figure3": figure}
    told |= {"paper": PAPER_TABLE_3, "labels": LABELS, "ceiling": math.log(results.num_symbols)}
    write_rendered(out_dir / "search.html", Path(__file__).with_name("search.html"), **told)
    write_json(out_dir / "search.json", summary)


def summarize(results: SearchResults) -> dict[str, Any]:
    """Return all that ``search.json`` holds; a network that diverged has None for its figures."""
    works = [trial for trial in results.trials if trial.works]
    return {
        "num_trials": results.num_trials,
        "num_finished": len(results.trials),
        "num_running": results.num_running,
        "num_symbols": results.num_symbols,
        "num_worked": len(works),
        "batch_norm_worse": sum(_difference(trial) > 0 for trial in works),
        "only_failed": {name: sum(_only(trial, name) for trial in results.trials) for name in NETWORKS},
        "both_failed": sum(
            all(network.failed for network in trial.networks.values()) for trial in results.trials
        ),
        "table3": {name: _best_row(results, name) for name in NETWORKS},
        "paper_table3": PAPER_TABLE_3,
        "trials": [_trial_row(trial) for trial in results.trials],
        "config": results.config,
        "asr_bn": __version__,
    }


def _difference(trial: TrialResult) -> float:
    """Validation cross entropy of the batch-normalized network less that of the baseline."""
    return trial.networks["batch_norm"].valid_nats - trial.networks["baseline"].valid_nats


def _only(trial: TrialResult, name: str) -> bool:
    """That network failed and the other one did not."""
    return [other for other, network in trial.networks.items() if network.failed] == [name]


def _best_row(results: SearchResults, name: str) -> dict[str, Any] | None:
    trial = results.best(name)
    if trial is None:
        return None
    network = trial.networks[name]
    lowest = best_of_each_set(network.epochs)
    return {"trial": trial.number, **asdict(trial.draw), **_figures(network), "best_of_each_set": lowest}


def _trial_row(trial: TrialResult) -> dict[str, Any]:
    networks = {
        name: {**_figures(network), "failed": network.failed, "reason": network.reason}
        for name, network in trial.networks.items()
    }
    return {"trial": trial.number, **asdict(trial.draw), **networks}


def _figures(network: NetworkResult) -> dict[str, float | None]:
    final = network.final or {}
    sets = {f"{name}_nats": final.get(f"{name}_nats") for name in ("train", "valid", "test")}
    return {"best_epoch": final.get("best_epoch"), **sets}


def draw_figure3(trial: TrialResult) -> Figure:
    """Draw the cross entropy of both networks of a trial over the epochs, as the paper's Figure 3."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    # Points, so that a search of one epoch shows something.
    curves = {name: network.epochs for name, network in trial.networks.items()}
    draw_curves(axes, curves, "nats", "valid", ".")
    draw = trial.draw
    axes.set(
        ylabel="cross entropy (nats a symbol)",
        title=f"Trial {trial.number}: learning rate {draw.learning_rate:.3g}, momentum {draw.momentum:g}, "
        f"batch size {draw.batch_size}",
    )
    axes.legend()
    return figure


def format_results(results: SearchResults) -> str:
    """Format Table 3 and what became of the trials, for the terminal."""
    lines = ["Table 3, cross entropy in nats a symbol   train  valid   paper: train  valid"]
    for name in NETWORKS:
        trial, paper = results.best(name), PAPER_TABLE_3[name]
        final = None if trial is None else trial.networks[name].final
        ours = "    -      -" if final is None else f"{final['train_nats']:5.3f}  {final['valid_nats']:5.3f}"
        theirs = f"{paper['train']:5.2f}  {paper['valid']:5.2f}"
        lines.append(f"  best {LABELS[name]:34} {ours}          {theirs}")
        if trial is not None:
            lines.append(f"    {describe_trial(trial)}")
    finished, running = len(results.trials), results.num_running
    lines.append(f"{finished} of {results.num_trials} trials finished, {running} running elsewhere")
    return "\n".join(lines)
