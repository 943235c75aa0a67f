"""``results.json``: the figures of both networks, and how much faster the normalized one learns."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path

from asr_bn.system.files import read_json

MODELS = ("baseline", "batch_norm")

Epochs = list[dict[str, float]]
Results = dict[str, object]  # as JSON has them


def collect_results(out: Path, corpus: str, alignment: dict[str, float]) -> Results:
    """Gather what the stages of a recipe left in ``out``.

    Args:
        out: the recipe's output folder, with ``baseline`` and ``batch_norm`` and perhaps ``seeds``.
        corpus: its name.
        alignment: figures of the development alignment, as ``majority_class_fer``.

    Raises:
        FileNotFoundError: a stage before has not been run.
    """
    models = {name: _model_results(out / name) for name in MODELS}
    runs = [
        out,
        *sorted((path for path in out.glob("seeds/*") if path.is_dir()), key=lambda path: int(path.name)),
    ]
    finished = [run for run in runs if all((run / name / ".train.done").is_file() for name in MODELS)]
    return {
        "corpus": corpus,
        "models": models,
        **alignment,
        "convergence": summarize(
            [(read_epochs(run / "baseline"), read_epochs(run / "batch_norm")) for run in finished]
        ),
        "wer": _word_error_rates(out, "decode_dev"),
        "wer_rescored": _word_error_rates(out, "decode_dev_rescored"),
        "realign": _realign_rounds(runs),
        "parity": {name: read_json(out / name / "parity.json", dict) for name in MODELS},
    }


def _model_results(folder: Path) -> Results:
    epochs = read_epochs(folder)
    return {
        "epochs": epochs,
        "best_of_each_set": best_of_each_set(epochs),
        **read_json(folder / "final.json", dict),
    }


def best_of_each_set(epochs: Epochs) -> dict[str, float]:
    """Return the lowest figure of each set, at whatever epoch, as the paper's tables seem to have them.

    Those of the training set are of the epoch as it ran: weights moved, statistics were of mini-batches.
    """
    keys = [key for entry in epochs[:1] for key in entry if key.startswith(("train_", "dev_", "valid_"))]
    return {key: min(entry[key] for entry in epochs) for key in keys}


def _realign_rounds(runs: Sequence[Path]) -> list[Results]:
    """What each round of training anew from own alignments has brought, by round, then by seed."""
    rounds = [read_json(path, dict) for run in runs for path in run.glob("realign/*/realign.json")]
    return sorted(rounds, key=lambda found: (found["round"], found["seed"]))


def _word_error_rates(out: Path, decoded: str) -> dict[str, float] | None:
    """WER of each model as a share, where the recipe has decoded and the references have words."""
    files = {name: out / name / decoded / "decode.json" for name in MODELS}
    if not all(path.is_file() for path in files.values()):
        return None
    rates = {name: read_json(path, dict).get("wer") for name, path in files.items()}
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return known if len(known) == len(rates) else None


def read_epochs(folder: Path) -> Epochs:
    """Read the curve of a training run, one entry for each epoch."""
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def summarize(runs: Sequence[tuple[Epochs, Epochs]]) -> Results:
    """Compare baseline and batch-normalized training curves, one pair a seed.

    ``ratio``: the epochs that the normalized network needs to reach the baseline's best training FCE, over
    the epochs that the baseline needed; below 1 it is the faster one.  None where it never gets there.
    ``ahead_from_second_epoch``: its training FCE is the lower one at every epoch from the second on.
    """
    ratios = [convergence_ratio(*run) for run in runs]
    reached = [ratio for ratio in ratios if ratio is not None]
    return {
        "ratio": ratios[0],
        "ratio_per_seed": ratios,
        "ratio_mean": statistics.fmean(reached) if reached else None,
        "ratio_std": statistics.stdev(reached) if len(reached) > 1 else None,
        "ahead_from_second_epoch": [_is_ahead(*run) for run in runs],
    }


def convergence_ratio(baseline: Epochs, batch_norm: Epochs) -> float | None:
    """Return the ratio of :func:`summarize`; between two epochs the curve is taken as straight."""
    best = min(baseline, key=lambda entry: entry["train_fce"])
    before: dict[str, float] | None = None
    for entry in batch_norm:
        if entry["train_fce"] <= best["train_fce"]:
            epoch = entry["epoch"]
            if before is not None:
                drop = before["train_fce"] - entry["train_fce"]
                epoch = before["epoch"] + (before["train_fce"] - best["train_fce"]) / drop
            return epoch / best["epoch"]
        before = entry
    return None


def _is_ahead(baseline: Epochs, batch_norm: Epochs) -> bool:
    pairs = list(zip(baseline, batch_norm, strict=True))[1:]
    return all(normalized["train_fce"] < plain["train_fce"] for plain, normalized in pairs)
