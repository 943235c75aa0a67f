"""The checkpoints of a run's folder: the last one, the one before it, and the best one."""

from pathlib import Path
from typing import Any

from asr_bn.checkpoint import load_first_whole, save_checkpoint

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
# Where the next last.pt is written before the present one becomes previous.pt.
_NEXT = "next.pt"
_WRITTEN = (LAST, BEST, _NEXT, "metrics.jsonl", "metrics.txt", "figure.png")


class RunCheckpoints:
    """Writes and finds them; at every moment at least one whole one is there once the first is written.

    Args:
        folder: the run's.
        kind: what they are the state of, see :mod:`asr_bn.checkpoint`.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind

    @property
    def exist(self) -> bool:
        """Whether the folder holds a run."""
        return any((self.folder / name).is_file() for name in (LAST, PREVIOUS, BEST))

    def save_best(self, state: dict[str, Any]) -> None:
        """Replace ``best.pt``.

        Raises:
            ValueError: the disk is full, or the folder cannot be written to.
        """
        self._save(BEST, state)

    def save_last(self, state: dict[str, Any]) -> None:
        """Replace ``last.pt``, and ``previous.pt`` by what was ``last.pt``.

        Raises:
            ValueError: as :meth:`save_best`; the two are as they were then.
        """
        self._save(_NEXT, state)
        if (self.folder / LAST).is_file():
            (self.folder / LAST).replace(self.folder / PREVIOUS)
        (self.folder / _NEXT).replace(self.folder / LAST)

    def load(self) -> tuple[Path, dict[str, Any], list[str]]:
        """The latest whole one: its path, its state, and a sentence for each damaged one passed over.

        Raises:
            ValueError: all are damaged.
            FileNotFoundError: there are none.
        """
        return load_first_whole([self.folder / name for name in (LAST, PREVIOUS, BEST)], self.kind)

    def remove_leftovers(self) -> None:
        """Remove what a run that was killed while it wrote has left half-written."""
        for name in _WRITTEN:
            for path in self.folder.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)

    def _save(self, name: str, state: dict[str, Any]) -> None:
        try:
            save_checkpoint(self.folder / name, state, self.kind)
        except OSError as error:
            raise ValueError(
                f"{self.folder}: a checkpoint cannot be written: {error.strerror or error}"
            ) from error
