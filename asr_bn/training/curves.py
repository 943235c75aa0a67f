"""Table and figure of one training run while it is going on."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from asr_bn.system.files import write_bytes
from asr_bn.training.progress import Figures

History = Sequence[Figures]

# Heading, key and format of each column.
_COLUMNS = (
    ("epoch", "epoch", "{:.0f}"),
    ("train FCE", "train_fce", "{:.4f}"),
    ("train FER", "train_fer", "{:.4f}"),
    ("dev FCE", "dev_fce", "{:.4f}"),
    ("dev FER", "dev_fer", "{:.4f}"),
    ("learning rate", "learning_rate", "{:g}"),
    ("skipped steps", "skipped_steps", "{:.0f}"),
)


def format_table(history: History) -> str:
    """Return one line for each epoch, with a star at the lowest development FCE."""
    columns = [column for column in _COLUMNS if any(column[1] in entry for entry in history)]
    best = min(history, key=lambda entry: entry["dev_fce"])
    lines = ["  ".join(heading for heading, _, _ in columns)]
    for entry in history:
        cells = (
            (form.format(entry[key]) if key in entry else "").rjust(len(heading))
            for heading, key, form in columns
        )
        lines.append("  ".join(cells) + (" *" if entry is best else ""))
    return "".join(line.rstrip() + "\n" for line in lines)


def draw_curves(history: History, title: str, path: Path) -> None:
    """Draw FCE and FER of both sets over the epochs, side by side, into a PNG file."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6))
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.14, top=0.9, wspace=0.22)
    epochs = [entry["epoch"] for entry in history]
    names = {"fce": "frame-wise cross entropy (nats)", "fer": "frame error rate"}
    for axes, (name, label) in zip(figure.subplots(1, 2), names.items(), strict=True):
        for prefix, style, kind in (("train", ":", "training"), ("dev", "-", "development")):
            values = [entry[f"{prefix}_{name}"] for entry in history]
            axes.plot(epochs, values, style, marker=".", label=kind)
        axes.set(xlabel="epoch", ylabel=label, title=title)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
        axes.legend()
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    write_bytes(path, buffer.getvalue())
