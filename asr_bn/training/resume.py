"""What `RunLoop.resume` (``run_loop.py``) checks and restores; ``run_folder.py`` finds the checkpoint."""

from pathlib import Path

import torch

Sections = dict[str, dict[str, object]]  # values by section and key


def refuse_other_run(path: Path, saved: Sections, expected: Sections) -> None:
    """Refuse to continue a run of another configuration or of other data.

    Args:
        path: the checkpoint, for the message.

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


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Return the state of the random generators that training on ``device`` draws from."""
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def set_random_state(state: dict[str, torch.Tensor], device: torch.device) -> None:
    """Set the generators to a state that :func:`random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
