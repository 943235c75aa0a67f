"""What several verbs need of their options."""

import os
from typing import Literal, cast


def num_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def device_of(name: str) -> Literal["auto", "cpu", "cuda"]:
    """``name`` as a device.

    Raises:
        ValueError: it is none.
    """
    if name not in ("auto", "cpu", "cuda"):
        raise ValueError(f"--device is {name!r}, expected auto, cpu or cuda")
    return cast(Literal["auto", "cpu", "cuda"], name)
