"""The checkpoints of a run's folder: the last one, the one before it, and the best one."""

from pathlib import Path
from typing import Any

from asr_bn.system.files import write_bytes
from asr_bn.training.checkpoint import load_checkpoint, load_first_whole, save_checkpoint

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
# Where the next last.pt is written before the present one becomes previous.pt.
_NEXT = "next.pt"
_WRITTEN = (LAST, BEST, _NEXT, "metrics.jsonl", "metrics.txt", "figure.png")


class RunCheckpoints:
    """Writes and finds them; at every moment at least one whole one is there once the first is written.

    Args:
        folder: the run's.
        kind: what they are the state of, see :mod:`asr_bn.training.checkpoint`.
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

    def holder_of_best(self, epoch: int) -> Path:
        """The checkpoint of the run's best epoch: ``best.pt``, or where that is lost one that was its copy.

        Args:
            epoch: the best one so far, by the run's history.

        Raises:
            ValueError: no whole checkpoint holds that epoch's end.
        """
        lost = f"{self.folder / BEST}: is of an earlier epoch"
        for name in (BEST, LAST, PREVIOUS):
            try:
                ended = _ended_epoch(load_checkpoint(self.folder / name, self.kind))
            except (ValueError, FileNotFoundError) as error:
                if name == BEST:
                    missing = isinstance(error, FileNotFoundError)
                    lost = f"{self.folder / BEST}: is missing" if missing else str(error)
                continue
            # best.pt may be ahead of a run that goes on from the checkpoint before a damaged one.
            if ended == epoch or (name == BEST and ended > epoch):
                return self.folder / name
        raise ValueError(
            f"{lost}; epoch {epoch} is the best so far and no other checkpoint has it: put best.pt back, or "
            "train anew in another folder"
        )

    def restore_best(self, epoch: int) -> str | None:
        """Make a lost ``best.pt`` anew; a sentence that says so, or None where it is whole.

        Raises:
            ValueError: as :meth:`holder_of_best`.
        """
        holder = self.holder_of_best(epoch)
        if holder.name == BEST:
            return None
        write_bytes(self.folder / BEST, holder.read_bytes())
        return f"{self.folder / BEST}: is lost; {holder.name} has the best epoch {epoch} too and is copied"

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


def _ended_epoch(state: dict[str, Any]) -> int:
    """The epoch at whose end a checkpoint was written; 0 where that was inside an epoch."""
    progress = state["progress"]
    inside = progress.get("next_batch") or progress.get("next_window")
    return 0 if inside or not progress["history"] else int(progress["history"][-1]["epoch"])
