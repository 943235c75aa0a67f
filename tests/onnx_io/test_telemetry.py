"""ONNX Runtime's reports of its use, which name the machine, are off unless the user turns them on."""

import os
import subprocess
import sys
from pathlib import Path

from tests.helpers.serving import ROOT, write_model

SCORE = (
    "import sys; from asr_bn.scoring.scorer import AcousticScorer; from pathlib import Path; "
    "import os; AcousticScorer.load(Path(sys.argv[1])); print(os.environ['ORT_DISABLE_TELEMETRY'])"
)


def run(program: str, *arguments: str | Path, **changes: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.check_output(command, env=environment | changes, cwd=ROOT, text=True).strip()


def test_a_model_is_used_and_nothing_is_kept_of_it(tmp_path: Path) -> None:
    home = tmp_path / "home"
    model = write_model(tmp_path / "tiny.onnx")
    assert run(SCORE, model, HOME=str(home), XDG_CACHE_HOME=str(home / "cache")) == "1"
    assert not home.exists()


def test_what_the_user_asks_for_stays() -> None:
    """Without ONNX Runtime, so that no test reports anything."""
    shown = "import asr_bn, os; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run(shown, ORT_DISABLE_TELEMETRY="0") == "0"
