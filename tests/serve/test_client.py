"""The Python client against a running server; values are those of the library."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from asr_bn.features.filterbank import fbank
from asr_bn.features.options import FbankOptions
from asr_bn.scoring.scorer import AcousticScorer
from serve.client import Client, ServerError
from tests.helpers.serving import chirp, running_server, wav, write_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("client") / "tiny.onnx")


@pytest.fixture(scope="module")
def client(model: Path) -> Iterator[Client]:
    with running_server(model) as (url, _), Client(url) as client:
        yield client


def test_every_kind_of_source_gives_the_library_s_values(client, model, tmp_path):
    scorer = AcousticScorer.load(model, "cpu")
    static = fbank(chirp().astype(np.float32), FbankOptions())
    (expected,) = scorer.log_posteriors([scorer.with_deltas(static)])
    (tmp_path / "chirp.wav").write_bytes(wav(chirp()))
    for source in (tmp_path / "chirp.wav", str(tmp_path / "chirp.wav"), wav(chirp()), static):
        np.testing.assert_array_equal(client.posteriors(source), expected)
    np.testing.assert_array_equal(client.posteriors(static, "posterior"), np.exp(expected))
    np.testing.assert_array_equal(client.features(wav(chirp())), static)
    best = client.posteriors(static, top_k=1)
    np.testing.assert_array_equal(best["pdf_id"][:, 0], expected.argmax(axis=1))


def test_refusals_and_unreadable_files_are_errors(client, tmp_path):
    with pytest.raises(ServerError, match="HTTP 415: the body is not in an audio format") as refused:
        client.posteriors(b"not audio")
    assert refused.value.status == 415
    with pytest.raises(FileNotFoundError):
        client.posteriors(tmp_path / "missing.wav")
