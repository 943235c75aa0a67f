"""The random search of appendix A: every trial trains the baseline and the batch-normalized network.

Both have the same learning rate, momentum and batch size, as in the paper's Figure 3; so a trial says whether
the normalization helped.
"""

import math
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from optuna.trial import Trial, TrialState
from tqdm import tqdm

from asr_bn.language_model.data import Texts
from asr_bn.language_model.experiment import LanguageModelExperiment
from asr_bn.language_model.run import finish_model, train_model
from asr_bn.report.results import Epochs, read_epochs
from asr_bn.system.files import read_json, write_json
from asr_bn.training.run_loop import DivergedError
from recipes.ptb.local.search_study import Draw, SearchStudy

NETWORKS = {"baseline": "none", "batch_norm": "recurrent"}  # and their norm


@dataclass(frozen=True)
class NetworkResult:
    """What became of one network of a trial.

    Attributes:
        epochs: its training curve, in training mode; those that it got through.
        final: figures of its best epoch on all sets, as ``final.json`` has them; None where loss or gradient
            stopped being finite.
        ceiling: cross entropy of a guess among all symbols alike.
        reason: why there is no ``final``.
    """

    epochs: Epochs
    final: dict[str, float] | None
    ceiling: float
    reason: str | None = None

    @property
    def valid_nats(self) -> float:
        """Validation cross entropy a symbol, infinite where training broke off."""
        return math.inf if self.final is None else self.final["valid_nats"]

    @property
    def failed(self) -> bool:
        """Broke off, or ended no better than guessing: a saturated tanh network keeps a finite loss."""
        return not self.valid_nats < self.ceiling

    def describe(self) -> str:
        """Return the validation cross entropy, or what became of it."""
        if self.final is None:
            return "diverged"
        return f"{self.valid_nats:.3f}" + (" (no better than guessing)" if self.failed else "")


@dataclass(frozen=True)
class TrialResult:
    """A finished trial: what it drew, and its networks by name."""

    number: int
    draw: Draw
    networks: dict[str, NetworkResult]

    @property
    def works(self) -> bool:
        """Both networks trained."""
        return not any(network.failed for network in self.networks.values())


@dataclass(frozen=True)
class SearchResults:
    """Where a search stands.

    Attributes:
        trials: the finished ones, by number.
        num_trials: so many there are to be.
        num_running: begun by other processes and not finished.
        num_symbols: of the vocabulary.
        config: what all trials have in common.
    """

    trials: tuple[TrialResult, ...]
    num_trials: int
    num_running: int
    num_symbols: int
    config: dict[str, Any]

    def best(self, network: str) -> TrialResult | None:
        """Return the trial with the lowest validation cross entropy of a network; None where all failed."""
        trained = [trial for trial in self.trials if not trial.networks[network].failed]
        return min(trained, key=lambda trial: trial.networks[network].valid_nats, default=None)

    def typical(self) -> TrialResult | None:
        """Return the working trial whose baseline is the median one (the better of the two in the middle)."""
        works = [trial for trial in self.trials if trial.works]
        works.sort(key=lambda trial: trial.networks["baseline"].valid_nats)
        return works[(len(works) - 1) // 2] if works else None


def run_search(
    texts: Texts,
    base: LanguageModelExperiment,
    out_dir: Path,
    num_trials: int,
    device: torch.device,
    seed: int,
) -> SearchResults:
    """Train trials until ``num_trials`` are finished, or held by other processes that run the same.

    It may be killed at any moment: the next run goes on with the trials that were begun, from their
    checkpoints.  A later run with more trials adds to the same draws.

    Args:
        texts: of characters.
        base: everything but norm, learning rate, momentum and batch size.
        out_dir: of the search; machines that share it share the search.
        num_trials: in all; the paper has 52.
        device: to train on.
        seed: of the draws; a trial's draw depends on it and on the trial's number alone.

    Raises:
        ValueError: the search in ``out_dir`` is of another configuration, text or seed.
    """
    study = _study(texts, base, out_dir, seed)
    finished = len(study.trials(num_trials, TrialState.COMPLETE))
    with tqdm(total=num_trials, initial=finished, desc="random search", unit="trial") as bar:
        while True:
            with study.claim(num_trials) as trial:
                if trial is None:
                    break
                _run_trial(study, trial, texts, base, device)
            bar.update(len(study.trials(num_trials, TrialState.COMPLETE)) - bar.n)
    return search_results(texts, base, out_dir, num_trials, seed)


def search_results(
    texts: Texts, base: LanguageModelExperiment, out_dir: Path, num_trials: int, seed: int
) -> SearchResults:
    """Return where the search in ``out_dir`` stands; arguments as of :func:`run_search`."""
    study, num_symbols = _study(texts, base, out_dir, seed), len(texts.vocabulary)
    trials = tuple(
        _read_trial(trial.number, Draw.of(trial), study.trial_dir(trial.number), num_symbols)
        for trial in study.trials(num_trials, TrialState.COMPLETE)
    )
    running = study.trials(num_trials, TrialState.RUNNING)
    return SearchResults(trials, num_trials, len(running), num_symbols, _common(base))


def _study(texts: Texts, base: LanguageModelExperiment, out_dir: Path, seed: int) -> SearchStudy:
    objectives = [f"{network} valid_nats" for network in NETWORKS]
    return SearchStudy(out_dir, _common(base) | {"data": asdict(texts.description)}, seed, objectives)


def _common(base: LanguageModelExperiment) -> dict[str, dict[str, Any]]:
    """The configuration without what trials differ in."""
    drawn = {"norm", *Draw.__dataclass_fields__}
    return {
        section: {key: value for key, value in values.items() if key not in drawn}
        for section, values in base.to_dict().items()
    }


def _run_trial(
    study: SearchStudy, trial: Trial, texts: Texts, base: LanguageModelExperiment, device: torch.device
) -> None:
    draw, folder = Draw.of(trial), study.trial_dir(trial.number)
    experiment = base.replace("training", **asdict(draw))
    for network, norm in NETWORKS.items():
        _train_network(experiment.replace("model", norm=norm), texts, folder / network, device)
    result = _read_trial(trial.number, draw, folder, len(texts.vocabulary))
    study.finish(trial, [network.valid_nats for network in result.networks.values()])
    tqdm.write(describe_trial(result), file=sys.stderr)


def _train_network(
    experiment: LanguageModelExperiment, texts: Texts, folder: Path, device: torch.device
) -> None:
    """Train from where ``folder`` stands; leave ``final.json`` there, or ``diverged.json``."""
    if (folder / "final.json").is_file() or (folder / "diverged.json").is_file():
        return
    try:
        train_model(experiment, texts, folder, device)
    except DivergedError as error:
        write_json(folder / "diverged.json", {"reason": str(error)})
    else:
        finish_model(folder, texts, device)


def _read_trial(number: int, draw: Draw, folder: Path, num_symbols: int) -> TrialResult:
    networks = {network: _read_network(folder / network, num_symbols) for network in NETWORKS}
    return TrialResult(number, draw, networks)


def _read_network(folder: Path, num_symbols: int) -> NetworkResult:
    # None are there where the first epoch diverged.
    epochs = read_epochs(folder) if (folder / "metrics.jsonl").is_file() else []
    ceiling = math.log(num_symbols)
    if (folder / "diverged.json").is_file():
        return NetworkResult(epochs, None, ceiling, read_json(folder / "diverged.json", dict)["reason"])
    return NetworkResult(epochs, read_json(folder / "final.json", dict), ceiling)


def describe_trial(result: TrialResult) -> str:
    """Return one line."""
    draw = result.draw
    figures = ", ".join(f"{name} {network.describe()}" for name, network in result.networks.items())
    return (
        f"trial {result.number}: learning rate {draw.learning_rate:.3g}, momentum {draw.momentum:g}, "
        f"batch size {draw.batch_size}; valid nats a symbol: {figures}"
    )
