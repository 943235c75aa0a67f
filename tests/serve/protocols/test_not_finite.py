"""What overflows is refused: features from audio, deltas from features, scores from features."""

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from fastapi.testclient import TestClient
from onnx import numpy_helper

from serve.app import create_app
from serve.settings import load_settings
from tests.helpers.serving import chirp, npy, wav, write_model

NPY = {"content-type": "application/x-npy"}


def write_steep_model(path: Path) -> Path:
    """A model whose scores overflow: one of the first two does, whatever the last layer says."""
    proto = onnx.load(write_model(path))
    for tensor in proto.graph.initializer:
        if tensor.name in ("output.weight", "output.bias"):
            values = numpy_helper.to_array(tensor).copy()
            values[..., 0], values[..., 1] = 3e38, 3e38 if values.ndim == 1 else -3e38
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    onnx.save(proto, path)
    return path


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "a_tiny/1/model.onnx")
    write_steep_model(folder / "steep/1/model.onnx")
    settings = load_settings(model=folder, access_log=False, audio_processes=1)
    with TestClient(create_app(settings), raise_server_exceptions=False) as client:
        yield client


def float_wav(scale: float) -> bytes:
    stream = io.BytesIO()
    soundfile.write(stream, chirp() / 32768 * scale, 16000, format="WAV", subtype="FLOAT")
    return stream.getvalue()


@pytest.mark.parametrize("scale", [1e14, 1e16, 1e25, 3e33, 1e38])
@pytest.mark.parametrize("path", ["features", "posteriors"])
def test_audio_whose_features_overflow_is_refused(client, path, scale):
    answer = client.post(f"/v1/{path}", content=float_wav(scale))
    assert answer.status_code == 422, answer.text


@pytest.mark.parametrize("scale", [1e-30, 1.0, 10.0])
def test_audio_of_unusual_level_is_answered(client, scale):
    answer = client.post("/v1/features", content=float_wav(scale))
    assert answer.status_code == 200
    assert np.isfinite(np.load(io.BytesIO(answer.content))).all()


def test_scores_that_are_not_numbers_are_no_answer(client):
    loud = np.full((9, 123), 5, np.float32)
    answer = client.post("/v1/posteriors?model=steep", content=npy(loud), headers=NPY)
    assert (answer.status_code, "not finite" in answer.text) == (422, True)
    assert client.post("/v1/posteriors?model=a_tiny", content=npy(loud), headers=NPY).status_code == 200
    call = {
        "inputs": [
            {"name": "features", "datatype": "FP32", "shape": [1, 9, 123], "data": loud.ravel().tolist()},
            {"name": "lengths", "datatype": "INT32", "shape": [1], "data": [9]},
        ]
    }
    answer = client.post("/v2/models/steep/infer", json=call)
    assert (answer.status_code, "not finite" in answer.text) == (400, True)


def test_ordinary_audio_is_answered_as_before(client):
    assert client.post("/v1/posteriors?top_k=1", content=wav(chirp())).status_code == 200
