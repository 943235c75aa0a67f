"""ONNX Runtime's reports of its use, which name the machine, are off unless the user turns them on."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.serving import ROOT, write_model

SCORE = (
    "import sys; from asr_bn.scoring.scorer import AcousticScorer; from pathlib import Path; "
    "import os; AcousticScorer.load(Path(sys.argv[1])); print(os.environ['ORT_DISABLE_TELEMETRY'])"
)


@pytest.mark.parametrize("asked", [None, "0"])
def test_it_is_off_unless_the_user_says_otherwise(tmp_path: Path, asked: str | None) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"HOME": str(tmp_path / "home"), "XDG_CACHE_HOME": str(tmp_path / "home" / "cache")}
    environment |= {"ORT_DISABLE_TELEMETRY": asked} if asked else {}
    model = write_model(tmp_path / "tiny.onnx")
    printed = subprocess.check_output(
        [sys.executable, "-c", SCORE, model], env=environment, cwd=ROOT, text=True
    )
    assert printed.strip() == (asked or "1")
    if not asked:
        assert not (tmp_path / "home").exists()
