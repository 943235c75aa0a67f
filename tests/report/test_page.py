"""The page of a report: rounds of realignment and rescored words, as ``results.json`` has them."""

import json
import re
from pathlib import Path

import pytest

from asr_bn.report.page import Details, write_page
from asr_bn.report.results import MODELS, Results, collect_results

FIGURES = {f"{name}_{kind}": 0.25 for name in ("train", "dev") for kind in ("fce", "fer")}
EPOCH = {"epoch": 1, **FIGURES}
ROUND = {"changed_frames": 0.08, "dev_fer_before_old_alignments": 0.17, "dev_fer_before": 0.12}
ROUND |= {"dev_fer_after": 0.11, "wer_before": 0.031, "wer_after": None, "within_20_ms": 0.821}
LEFT_OUT = {"failed": {"train": 1, "dev": 0}, "poor": {"train": 3, "dev": 1}}


def write_json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value) + "\n")


@pytest.fixture
def results(tmp_path: Path) -> Results:
    """Of two networks, their words with and without rescoring, and rounds that are not in order."""
    for name in MODELS:
        write_json(tmp_path / name / "metrics.jsonl", EPOCH)
        (tmp_path / name / ".train.done").touch()
        write_json(tmp_path / name / "final.json", {"best_epoch": 1, **FIGURES})
        write_json(tmp_path / name / "parity.json", {"max_difference": 1e-5})
        for decoded, wer in (("decode_dev", 0.03), ("decode_dev_rescored", 0.01)):
            write_json(tmp_path / name / decoded / "decode.json", {"wer": wer})
    for run, seed in ((tmp_path, 1), (tmp_path / "seeds/12", 12), (tmp_path / "seeds/2", 2)):
        for number in (10, 2):
            values = {"round": number, "seed": seed, **ROUND, **LEFT_OUT}
            write_json(run / f"realign/{number}/realign.json", values)
    return collect_results(tmp_path, "mini", {"num_pdfs": 4, "majority_class_fer": 0.7})


def test_rounds_and_rescored_words_are_told(results: Results, tmp_path: Path) -> None:
    details = Details(utt_id="a", config="", command="run", versions={}, boundary_accuracy=None)
    write_page(tmp_path / "report.html", results, b"", b"", details)
    text = (tmp_path / "report.html").read_text()
    rows = [re.findall("<t[hd]>(.*?)</t[hd]>", line) for line in text.splitlines() if "0.170" in line]
    cells = ["4", "0.080", "0.170", "0.120", "0.110", "3.10 %", "", "82.10 %"]
    rounds = [(number, seed) for number in (2, 10) for seed in (1, 2, 12)]
    assert rows == [[f"{number}, {seed}", *cells] for number, seed in rounds]
    words = " ".join(text.split())
    assert "WER 3.00 % (BiRNN), 3.00 % (BiRNN (BN))." in words
    assert "With the lattices rescored: 1.00 % (BiRNN), 1.00 % (BiRNN (BN))." in words
