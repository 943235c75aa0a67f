"""The figures of a report, drawn by matplotlib and librosa."""

import math
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path

import librosa.display
import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from asr_bn.report.example import Example
from asr_bn.report.results import Epochs
from asr_bn.system.arrays import Floats
from asr_bn.system.files import write_bytes

matplotlib.use("Agg")

# The paper's colours (Figure 1): baseline blue, batch normalized red.
COLOURS = {"baseline": "tab:blue", "batch_norm": "tab:red"}
LABELS = {"baseline": "baseline", "batch_norm": "batch normalized"}
HELD_OUT = {"dev": "development", "valid": "validation"}


def draw_figure1(curves: Mapping[str, Epochs], corpus: str) -> Figure:
    """Draw the framewise cross entropy of both networks over the epochs, as the paper's Figure 1."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, curves, "fce", "dev")
    axes.set(ylabel="frame-wise cross entropy (nats)", title=f"Frame-wise cross entropy on {corpus}")
    axes.legend()
    return figure


def draw_curves(axes: Axes, curves: Mapping[str, Epochs], unit: str, held_out: str, marker: str = "") -> None:
    """Draw training (dotted) and held-out figures of each network; what is not finite is left out."""
    for name, epochs in curves.items():
        numbers = [entry["epoch"] for entry in epochs]
        for part, style, kind in (("train", ":", "training"), (held_out, "-", HELD_OUT[held_out])):
            values = [entry[f"{part}_{unit}"] for entry in epochs]
            shown = [value if math.isfinite(value) else math.nan for value in values]
            label = f"{LABELS[name]}, {kind}"
            axes.plot(numbers, shown, style, marker=marker, color=COLOURS[name], label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)


def draw_example(example: Example) -> Figure:
    """Draw spectrogram, alignment and posteriors of an utterance over a common time axis."""
    height = 0.16 * len(example.phones)
    figure = Figure(figsize=(10, 3.4 + 3 * height), layout="constrained")
    rows = figure.subplots(4, 1, sharex=True, height_ratios=[3, 3 * height, 3 * height, 3 * height])
    _draw_spectrogram(rows[0], example)
    aligned = np.eye(len(example.phones), dtype=np.float32)[example.aligned]
    panels = {"alignment": aligned, **{LABELS[k]: v for k, v in example.posteriors.items()}}
    for axes, (title, values) in zip(rows[1:], panels.items(), strict=True):
        _draw_phones(axes, example, values, title if title == "alignment" else f"posteriors, {title}")
    rows[-1].set_xlabel("time (s)")
    return figure


def _draw_spectrogram(axes: Axes, example: Example) -> None:
    # librosa counts time in hops of samples: with 1000 samples a second a hop is a frame shift in ms.
    specshow: Callable[..., object] = librosa.display.specshow  # typed for whole hops
    time = {"x_axis": "time", "sr": 1000, "hop_length": example.frame_shift_ms}
    specshow(example.feats[:, 1:].T, ax=axes, cmap="magma", **time)
    axes.set(title=f"log mel filterbanks of {example.utt_id}", xlabel="", ylabel="mel bin")


def _draw_phones(axes: Axes, example: Example, values: Floats, title: str) -> None:
    seconds = len(example.feats) * example.frame_shift_ms / 1000.0
    count = len(example.phones)
    extent = (0.0, seconds, count - 0.5, -0.5)
    axes.imshow(
        values.T, aspect="auto", extent=extent, cmap="Blues", vmin=0.0, vmax=1.0, interpolation="nearest"
    )
    axes.set_yticks(range(count), example.phones, fontsize=7)
    axes.set_title(title)


def save_png(figure: Figure, path: Path) -> bytes:
    """Write ``figure`` to ``path`` and return the bytes."""
    data = to_png(figure)
    write_bytes(path, data)
    return data


def to_png(figure: Figure) -> bytes:
    """Return the figure as PNG bytes."""
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
