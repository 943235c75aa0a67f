"""The checkpoints of a run's folder: the last one, the one before it, the best one, and the final model."""

import sys
from pathlib import Path

from torch import nn

from asr_bn.system.files import write_bytes, write_json
from asr_bn.training.checkpoint import Checkpoint, Values, load_checkpoint, save_checkpoint
from asr_bn.training.progress import Figures, Progress

LAST, PREVIOUS, BEST = "last.pt", "previous.pt", "best.pt"
# Where the next last.pt is written before the present one becomes previous.pt.
_NEXT = "next.pt"
_WRITTEN = (LAST, BEST, _NEXT, "metrics.jsonl", "metrics.txt", "figure.png")


class RunCheckpoints:
    """Writes and finds checkpoints; once the first is written, at least one whole one exists at any moment.

    Args:
        folder: the run's.
        kind: of its checkpoints, see :mod:`asr_bn.training.checkpoint`.
    """

    def __init__(self, folder: Path, kind: str) -> None:
        self.folder, self.kind = folder, kind

    @property
    def exist(self) -> bool:
        """Whether the folder holds a run."""
        return any((self.folder / name).is_file() for name in (LAST, PREVIOUS, BEST))

    def save_best(self, state: Checkpoint) -> None:
        """Replace ``best.pt``.

        Raises:
            ValueError: the disk is full, or the folder cannot be written to.
        """
        self._save(BEST, state)

    def save_last(self, state: Checkpoint) -> None:
        """Replace ``last.pt``, and ``previous.pt`` by what was ``last.pt``.

        Raises:
            ValueError: as :meth:`save_best`; both are unchanged then.
        """
        self._save(_NEXT, state)
        if (self.folder / LAST).is_file():
            (self.folder / LAST).replace(self.folder / PREVIOUS)
        (self.folder / _NEXT).replace(self.folder / LAST)

    def save_final(
        self, model: nn.Module, figures: Figures, best: Checkpoint, system: Values | None = None
    ) -> None:
        """Write ``final.pt`` and ``final.json``: ``model`` and its figures, the rest as in ``best``.

        Args:
            system: the Kaldi system of an acoustic model's alignments, as plain values.
        """
        state: Checkpoint = {
            "config": best["config"],
            "description": best["description"],
            "version": best["version"],
            "model": model.state_dict(),
            "figures": figures,
            "system": system,
        }
        save_checkpoint(self.folder / "final.pt", state, self.kind)
        write_json(self.folder / "final.json", figures)

    def load(self) -> tuple[Path, Checkpoint, list[str]]:
        """Read the latest whole checkpoint: its path, its state, and the error of each damaged one before it.

        Raises:
            ValueError: all are damaged; the message is that of the latest one.
            FileNotFoundError: there are none.
        """
        damages: list[str] = []
        for name in (LAST, PREVIOUS, BEST):
            try:
                return self.folder / name, load_checkpoint(self.folder / name, self.kind), damages
            except FileNotFoundError:
                continue
            except ValueError as error:
                damages.append(str(error))
        if not damages:
            raise FileNotFoundError(2, "no such file", str(self.folder / LAST))
        raise ValueError(
            f"{damages[0]}; there is no other whole checkpoint beside it, so the run must start anew"
        )

    def holder_of_best(self, epoch: int) -> Path:
        """Return the checkpoint with the end of the best epoch: ``best.pt``, or a copy where it is lost.

        Args:
            epoch: the best one so far, by the run's history.

        Raises:
            ValueError: no whole checkpoint holds the end of that epoch.
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

    def restore_best(self, progress: Progress) -> None:
        """Replace a lost ``best.pt`` by a checkpoint that holds the same epoch, and print that.

        Raises:
            ValueError: as :meth:`holder_of_best`.
        """
        if not progress.history:
            return
        epoch = progress.best_epoch
        holder = self.holder_of_best(epoch)
        if holder.name != BEST:
            write_bytes(self.folder / BEST, holder.read_bytes())
            said = f"is lost; {holder.name} has the best epoch {epoch} too and is copied"
            print(f"{self.folder / BEST}: {said}", file=sys.stderr)

    def remove_leftovers(self) -> None:
        """Remove what a run that was killed while writing left half-written."""
        for name in _WRITTEN:
            for path in self.folder.glob(f".{name}.*.tmp"):
                path.unlink(missing_ok=True)

    def _save(self, name: str, state: Checkpoint) -> None:
        try:
            save_checkpoint(self.folder / name, state, self.kind)
        except OSError as error:
            raise ValueError(
                f"{self.folder}: a checkpoint cannot be written: {error.strerror or error}"
            ) from error


def _ended_epoch(state: Checkpoint) -> int:
    """Return the epoch at whose end a checkpoint was written; 0 where that was inside an epoch."""
    progress = state["progress"]
    inside = progress.get("next_batch") or progress.get("next_window")
    return 0 if inside or not progress["history"] else int(progress["history"][-1]["epoch"])
