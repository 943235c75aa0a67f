"""What a run shows of itself beside ``metrics.jsonl``: a table, a figure, TensorBoard's event files."""

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from asr_bn.system.files import write_text
from asr_bn.training.curves import History, draw_curves, format_table

if TYPE_CHECKING:
    from torch.utils.tensorboard.writer import SummaryWriter


class TrainingLog:
    """Files in ``out_dir`` that are written anew after every epoch.

    Args:
        out_dir: gets ``metrics.txt`` and ``figure.png``.
        tensorboard: whether it also gets a folder ``tensorboard`` with event files.
        first_step: the run continues with this step; later ones in the event files are void.

    Raises:
        ValueError: TensorBoard is asked for but not installed.
    """

    def __init__(self, out_dir: Path, tensorboard: bool = False, first_step: int = 0) -> None:
        self.out_dir = out_dir
        self._writer = _open_writer(out_dir / "tensorboard", first_step) if tensorboard else None

    def step(self, step: int, fce: float, learning_rate: float) -> None:
        """Write a training step to the event files."""
        if self._writer is not None:
            self._writer.add_scalar("step/train_fce", fce, step)
            self._writer.add_scalar("step/learning_rate", learning_rate, step)

    def epochs(self, history: History) -> None:
        """Write the epochs so far, at least one."""
        write_text(self.out_dir / "metrics.txt", format_table(history))
        draw_curves(history, self.out_dir.name, self.out_dir / "figure.png")
        if self._writer is not None:
            for name, value in history[-1].items():
                if name != "epoch":
                    self._writer.add_scalar(f"epoch/{name}", value, int(history[-1]["epoch"]))
            self._writer.flush()

    def close(self) -> None:
        """Finish the event files."""
        if self._writer is not None:
            self._writer.close()


def check_tensorboard() -> None:
    """Raise a ``ValueError`` where the package is missing."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError("--tensorboard needs the package tensorboard: pip install 'asr-bn[tensorboard]'")


def _open_writer(folder: Path, first_step: int) -> "SummaryWriter":
    check_tensorboard()
    from torch.utils.tensorboard.writer import SummaryWriter

    return SummaryWriter(str(folder), purge_step=first_step)
