"""``report.html``: one self-contained page."""

from dataclasses import dataclass
from pathlib import Path

from asr_bn.report.rendering import embedded, write_rendered
from asr_bn.report.results import Results

# Table 1 of the paper (WSJ, 3546 pdfs).
PAPER_TABLE_1 = {
    "baseline": {"train_fce": 0.95, "train_fer": 0.28, "dev_fce": 1.11, "dev_fer": 0.33},
    "batch_norm": {"train_fce": 0.73, "train_fer": 0.22, "dev_fce": 1.19, "dev_fer": 0.34},
}
NAMES = {"baseline": "BiRNN", "batch_norm": "BiRNN (BN)"}


@dataclass(frozen=True)
class Details:
    """How the results came about."""

    utt_id: str  # of the example
    config: str  # text of the TOML file
    command: str  # that reproduces the run
    versions: dict[str, str]
    boundary_accuracy: dict[str, object] | None  # by alignment folder


def write_page(path: Path, results: Results, figure1: bytes, example: bytes, details: Details) -> None:
    """Write the page.

    Args:
        results: what ``results.json`` holds.
        figure1, example: PNG images.
        details: what else the page tells.
    """
    images = {"figure1": embedded(figure1), "example": embedded(example)}
    told = {"results": results, "paper": PAPER_TABLE_1, "names": NAMES, "images": images}
    write_rendered(path, Path(__file__).with_name("page.html"), **told, **vars(details))
