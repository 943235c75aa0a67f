"""Learning curves of several networks, for the report and for the search."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from asr_bn.report.figures import COLOURS, LABELS
from asr_bn.report.results import Epochs


def draw_curves(axes: Axes, curves: Mapping[str, Epochs], unit: str, marker: str = "") -> None:
    """Draw training (dotted) and validation figures of each network; what is not finite is left out."""
    for model, epochs in curves.items():
        numbers = [entry["epoch"] for entry in epochs]
        for part, style, kind in (("train", ":", "training"), ("valid", "-", "validation")):
            values = [entry[f"{part}_{unit}"] for entry in epochs]
            shown = [value if math.isfinite(value) else math.nan for value in values]
            label = f"{LABELS[model]}, {kind}"
            axes.plot(numbers, shown, style, marker=marker, color=COLOURS[model], label=label)
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
