"""The random search's Optuna study: what every trial draws, and which process works on which trial.

The study is an SQLite file in the output folder.  Processes, on one machine or on several that share the
folder, take trials from it.  A trial is held by a file lock, which the system lets go when its process dies.
So a trial whose process was killed is free at once, and is taken up again under its own number.  SQLite
relies on the same locks.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState

from asr_bn.training.resume import refuse_other_run

DATABASE = "search.db"
STUDY_NAME = "char"  # for `optuna-dashboard sqlite:///OUT/search.db`
MOMENTA = (0.5, 0.8, 0.9, 0.95, 0.995)
BATCH_SIZES = (32, 64, 128)
BUSY_SECONDS = 60.0  # to wait for another process that writes to the database


@dataclass(frozen=True)
class Draw:
    """What a trial trains with (appendix A)."""

    learning_rate: float
    momentum: float
    batch_size: int

    @classmethod
    def of(cls, trial: Trial | FrozenTrial) -> "Draw":
        """Draw, or read what was drawn before.

        The paper says only that the learning rate lies in [0.0001, 1].  Its best networks and its Figure 3
        have 0.42, 0.000371 and 0.00078: a draw uniform in the logarithm is under 0.001 once in four times,
        one uniform in the rate itself once in a thousand.  So it is the logarithm.
        """
        return cls(
            trial.suggest_float("learning_rate", 1e-4, 1.0, log=True),
            float(trial.suggest_categorical("momentum", MOMENTA)),
            int(trial.suggest_categorical("batch_size", BATCH_SIZES)),
        )


class NumberedSampler(RandomSampler):
    """Random draws that depend on a seed and the trial's number alone, whichever process makes them when."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Draw as ``RandomSampler`` with a seed of this trial and parameter."""
        entropy = np.random.SeedSequence([self.seed, trial.number, *param_name.encode()])
        sampler = RandomSampler(int(entropy.generate_state(1)[0]))
        return sampler.sample_independent(study, trial, param_name, param_distribution)


class SearchStudy:
    """The study of an output folder, made where there is none.

    Args:
        out_dir: where the database is, and a folder for every trial.
        identity: what the trials have in common, by section and key; another one is another search.
        seed: of the draws.
        objectives: what every trial measures, to be minimized.

    Raises:
        ValueError: the folder's search is another one.
    """

    def __init__(
        self, out_dir: Path, identity: dict[str, dict[str, Any]], seed: int, objectives: Sequence[str]
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        out_dir.mkdir(parents=True, exist_ok=True)
        self.out_dir = out_dir
        self._lock = FileLock(out_dir / "search.lock")
        identity = identity | {"search": {"seed": seed, "objectives": list(objectives)}}
        with self._lock:
            connect = {"connect_args": {"timeout": BUSY_SECONDS}}
            self.study = optuna.create_study(
                storage=RDBStorage(f"sqlite:///{out_dir / DATABASE}", engine_kwargs=connect),
                sampler=NumberedSampler(seed),
                study_name=STUDY_NAME,
                directions=["minimize"] * len(objectives),
                load_if_exists=True,
            )
            if "identity" not in self.study.user_attrs:
                self.study.set_user_attr("identity", identity)
            refuse_other_run(out_dir / DATABASE, self.study.user_attrs["identity"], identity)

    def trial_dir(self, number: int) -> Path:
        """Return where a trial's networks are."""
        return self.out_dir / f"trial_{number:03d}"

    def trials(self, num_trials: int, *states: TrialState) -> list[FrozenTrial]:
        """Return those of the first ``num_trials`` trials that are in one of the states, by number."""
        return [trial for trial in self.study.get_trials(states=states) if trial.number < num_trials]

    @contextmanager
    def claim(self, num_trials: int) -> Iterator[Trial | None]:
        """Hold a trial that is not finished and that no living process holds: one begun before, or a new one.

        Yields:
            The trial, to be given to :meth:`finish`; None when all ``num_trials`` are finished or held.
        """
        with self._lock:
            trial, held = self._take(num_trials)
        try:
            yield trial
        finally:
            if held is not None:
                held.release()

    def _take(self, num_trials: int) -> tuple[Trial, FileLock] | tuple[None, None]:
        for begun in self.trials(num_trials, TrialState.RUNNING, TrialState.WAITING):
            held = self._trial_lock(begun.number)
            try:
                held.acquire(blocking=False)
            except Timeout:
                continue
            # Optuna's own way of going on with a trial is to fail it and queue another; then a process killed
            # in between would lose a draw, and the number of trials would grow with every interruption.
            trial = Trial(self.study, begun._trial_id)
            Draw.of(trial)
            return trial, held
        if len(self.study.get_trials(deepcopy=False)) >= num_trials:
            return None, None
        trial = self.study.ask()
        held = self._trial_lock(trial.number)
        held.acquire(blocking=False)
        Draw.of(trial)
        return trial, held

    def _trial_lock(self, number: int) -> FileLock:
        self.trial_dir(number).mkdir(exist_ok=True)
        return FileLock(self.trial_dir(number) / "trial.lock")

    def finish(self, trial: Trial, values: Sequence[float]) -> None:
        """Record what a held trial measured; infinity where it diverged."""
        with self._lock:  # so that nobody takes it between looking at its state and trying its lock
            self.study.tell(trial, list(values))
