"""The curl lines of docs/server.md, run as they stand against a server that has the files they name."""

import io
import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import soundfile

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from tests.helpers.searching import write_searchable
from tests.helpers.serving import ROOT, chirp, npy, running_server, wav

LINES = [line for line in (ROOT / "docs/server.md").read_text().splitlines() if line.startswith("curl ")]
pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    pytest.importorskip("kaldifst", reason="makes a graph")
    model, *options = write_searchable(tmp_path_factory.mktemp("readme") / "model.onnx")
    with running_server(Path(model), *options) as (url, _):
        yield url


@pytest.mark.parametrize("line", LINES, ids=range(len(LINES)))
def test_a_line_is_answered_with_what_it_asks_for(url, tmp_path, line):
    flac = io.BytesIO()
    soundfile.write(flac, chirp(), 16000, format="FLAC")
    static = fbank(chirp().astype(np.float32), FbankOptions())
    files = {"speech.wav": wav(chirp()), "speech.flac": flac.getvalue(), "feats.npy": npy(static)}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    command = line.replace("localhost:8000", url.removeprefix("http://")).replace("curl ", "curl -sS -f ", 1)
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    written = [path for path in tmp_path.iterdir() if path.name not in files]
    body = written[0].read_bytes() if written else done.stdout
    if "/v1/names" in line:
        assert json.loads(body)["names"][:2] == ["SIL", "SIL_B"]
        return
    if "/v1/alignments" in line or "/v1/transcripts" in line:
        found = json.loads(body)
        assert "transcripts" in line or [word["word"] for word in found["words"]] == ["bring", "my", "chair"]
        assert found["phones"]
        return
    assert matrix_in(body).shape[0] == len(static)


def matrix_in(body: bytes) -> np.ndarray:
    """Scores or features, whatever form they have."""
    if body.startswith(b"\x93NUMPY"):
        return np.load(io.BytesIO(body))
    if body.startswith(b"{"):
        return np.array(json.loads(body)["values"])
    ((_, matrix),) = kaldiio.load_ark(io.BytesIO(body))
    assert matrix.shape[1] == 72  # pdfs of `write_phone_model`
    return matrix
