"""What every training run needs to continue as if it had not been stopped."""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

# So many steps in a row without a finite gradient end the training.
MAX_NON_FINITE = 3


class DivergedError(ValueError):
    """Loss or gradient was not finite several times in a row."""


def best_epoch(history: Iterable[dict[str, float]], key: str) -> int:
    """The epoch whose ``key`` is lowest; NaN is not.

    Raises:
        ValueError: no epoch has a number there.
    """
    numbers = [figures for figures in history if not math.isnan(figures[key])]
    if not numbers:
        raise ValueError(f"{key} is not a number after any epoch: there is no best one")
    return int(min(numbers, key=lambda figures: figures[key])["epoch"])


def check_evaluation(cross_entropy: float, out_dir: Path, epoch: int) -> None:
    """Refuse an epoch whose cross entropy on the development set is not finite: it can be no best one.

    Raises:
        DivergedError: it is not.
    """
    if not math.isfinite(cross_entropy):
        raise DivergedError(
            f"{out_dir}: after epoch {epoch} the cross entropy on the development set is {cross_entropy}; "
            "a lower learning_rate or a max_grad_norm may help"
        )


def check_same(path: Path, saved: dict[str, Any], expected: dict[str, Any]) -> None:
    """Refuse to continue a run of another configuration or of other data.

    Args:
        path: the checkpoint, for the message.
        saved, expected: values by section and key.

    Raises:
        ValueError: a value of any section differs (its name and both values are given).
    """
    for section in sorted(saved.keys() | expected.keys()):
        before, now = saved.get(section, {}), expected.get(section, {})
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                raise ValueError(
                    f"{path}: was made with {section}.{key} = {_short(before.get(key))}, this run has "
                    f"{_short(now.get(key))}; choose another output folder, or what it was made with"
                )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of the random generators that training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Put the generators back into a state that :func:`random_state` gave."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
