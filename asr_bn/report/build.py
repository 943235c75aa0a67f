"""Builds a report from the outputs of a recipe's stages."""

import platform
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from asr_bn.data.alignments import count_pdfs, num_pdfs, read_pdf_ids
from asr_bn.report.example import score_example
from asr_bn.report.figures import draw_example, draw_figure1, save_png, to_png
from asr_bn.report.page import Details, write_page
from asr_bn.report.results import MODELS, collect_results, read_epochs
from asr_bn.scoring.scorer import AcousticScorer
from asr_bn.system.files import read_json, write_json


def build_report(
    out: Path,
    corpus: str,
    feats_dir: Path,
    ali_dir: Path,
    config: Path,
    command: str,
    boundaries: Sequence[Path],
) -> None:
    """Write ``figure1.png``, ``report.html`` and, last, ``results.json`` into ``out``.

    Raises:
        FileNotFoundError: a stage before has not been run.
    """
    results = collect_results(out, corpus, alignment_figures(ali_dir))
    metadata = AcousticScorer.load(out / "batch_norm" / "model.onnx", device="cpu").metadata
    results |= {"config": metadata.config, "versions": metadata.versions}
    curves = {name: read_epochs(out / name) for name in MODELS}
    figure1 = save_png(draw_figure1(curves, corpus), out / "figure1.png")
    example = score_example(out, feats_dir, ali_dir)
    details = Details(
        utt_id=example.utt_id,
        config=config.read_text(encoding="utf-8"),
        command=command,
        versions=metadata.versions | {"Python": platform.python_version()},
        boundary_accuracy={path.parent.name: read_json(path, dict) for path in boundaries} or None,
    )
    write_page(out / "report.html", results, figure1, to_png(draw_example(example)), details)
    write_json(out / "results.json", results)


def alignment_figures(ali_dir: Path) -> dict[str, float]:
    """Return ``num_pdfs`` and the FER of always answering the most frequent pdf of ``ali_dir``."""
    classes = num_pdfs(ali_dir)
    counts = count_pdfs(read_pdf_ids(ali_dir).values(), classes)
    return {"num_pdfs": classes, "majority_class_fer": float(1.0 - np.max(counts) / np.sum(counts))}
