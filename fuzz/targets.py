"""All targets by name, collected from the files ``targets_*.py`` beside this one."""

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

Target = Callable[[bytes], None]
CORPUS = Path(__file__).parent / "corpus"


def all_targets() -> dict[str, Target]:
    """Return name and function of each target.

    Raises:
        ValueError: two targets have one name.
    """
    found: dict[str, Target] = {}
    for file in sorted(Path(__file__).parent.glob("targets_*.py")):
        targets = import_module(f"fuzz.{file.stem}").TARGETS
        if twice := found.keys() & targets.keys():
            raise ValueError(f"{file.name}: target {min(twice)!r} is defined twice")
        found |= targets
    return found


def seeds(name: str) -> list[Path]:
    """Return the files of a target's seed corpus."""
    return sorted(file for file in (CORPUS / name).iterdir() if file.is_file())
