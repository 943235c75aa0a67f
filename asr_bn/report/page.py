"""``report.html``: one self-contained page."""

from pathlib import Path
from typing import Any

from asr_bn.report.rendering import embedded, write_rendered

# Table 1 of the paper (WSJ, 3546 pdfs).
PAPER_TABLE_1 = {
    "baseline": {"train_fce": 0.95, "train_fer": 0.28, "dev_fce": 1.11, "dev_fer": 0.33},
    "batch_norm": {"train_fce": 0.73, "train_fer": 0.22, "dev_fce": 1.19, "dev_fer": 0.34},
}
NAMES = {"baseline": "BiRNN", "batch_norm": "BiRNN (BN)"}


def write_page(
    path: Path, results: dict[str, Any], figure1: bytes, example: bytes, details: dict[str, Any]
) -> None:
    """Write the page.

    Args:
        results: what ``results.json`` holds.
        figure1, example: PNG images.
        details: ``utt_id``, ``config`` (text), ``command``, ``versions``, and ``boundary_accuracy`` or None.
    """
    images = {"figure1": embedded(figure1), "example": embedded(example)}
    write_rendered(
        path,
        Path(__file__).with_name("page.html"),
        results=results,
        paper=PAPER_TABLE_1,
        names=NAMES,
        images=images,
        **details,
    )
