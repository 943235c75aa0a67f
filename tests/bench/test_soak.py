"""What ``bench/serve_load.py soak`` does for hours, for seconds: every honest answer is right."""

import argparse
from pathlib import Path

from bench.serve_soak import soak
from tests.helpers.serving import write_model


def test_honest_answers_are_right_beside_hostile_clients(tmp_path: Path):
    model = write_model(tmp_path / "tiny.onnx", num_pdfs=100, hidden=32)
    found = soak(
        argparse.Namespace(model=model, minutes=0.12, rate=40.0, seed=1, log=tmp_path / "server.log")
    )
    assert found["passed"], found
    assert found["honest"]["right"] > 10
    assert set(found["honest"]) <= {"right", "asked to come later (429)"}
    assert sum(found["hostile"].values()) > 10
    assert set(found["memory_mb"]) == {"10 %", "50 %", "100 %"}
