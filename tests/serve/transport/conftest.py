"""A server to speak to over plain sockets."""

from collections.abc import Iterator

import pytest

from tests.helpers.serving import running_server, write_model


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    model = write_model(tmp_path_factory.mktemp("http") / "tiny.onnx", num_pdfs=400)
    with running_server(model, ASR_BN_BODY_TIMEOUT_S="2", ASR_BN_SEND_TIMEOUT_S="1") as (url, process):
        yield url, process.pid


@pytest.fixture(scope="module")
def server(running: tuple[str, int]) -> str:
    return running[0]
