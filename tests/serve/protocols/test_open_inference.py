"""Open Inference Protocol v2, spoken by the real ``tritonclient[http]``, every call by both of its clients;
values are ONNX Runtime's alone."""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray

from asr_bn.system.arrays import Floats
from tests.helpers.serving import NUM_PDFS, npy, running_server, write_model

# gevent, which the synchronous client uses, warns where it is imported after ssl
pytestmark = pytest.mark.filterwarnings("ignore")
triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")

LENGTHS = np.array([31, 50, 7], np.int32)
NPY = {"content-type": "application/x-npy"}
TOKEN = "let-me-in"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "wsj" / "1" / "model.onnx", seed=1)
    write_model(folder / "wsj" / "2" / "model.onnx", seed=2)
    write_model(folder / "digits" / "1" / "model.onnx", num_pdfs=11, seed=3)
    return folder


@pytest.fixture(scope="module")
def url(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    token = tmp_path_factory.mktemp("secrets") / "token"
    token.write_text(f"# admin\n{TOKEN}\n")
    environment = {"ASR_BN_ADMIN_TOKEN_FILE": str(token), "ASR_BN_MAX_BODY_BYTES": "3000000"}
    with running_server(repository, **environment) as (url, _):
        yield url


class Awaited:
    """The asyncio client, each call awaited."""

    def __init__(self, address: str) -> None:
        import tritonclient.http.aio as aio

        async def make() -> Any:
            return aio.InferenceServerClient(address)

        self._runner = asyncio.Runner()
        self._client = self._runner.run(make())

    def __getattr__(self, name: str) -> Any:
        return lambda *given, **named: self._runner.run(getattr(self._client, name)(*given, **named))

    def end(self) -> None:
        self._runner.run(self._client.close())
        self._runner.close()


@pytest.fixture(params=["sync", "asyncio"])
def client(url: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    address = url.removeprefix("http://")
    if request.param == "sync":
        with triton.InferenceServerClient(address) as client:
            yield client
    else:
        awaited = Awaited(address)
        yield awaited
        awaited.end()


@pytest.fixture(scope="module")
def feats() -> Floats:
    """A ragged batch; what lies past an utterance's length is garbage that no answer may depend on."""
    return np.random.default_rng(5).standard_normal((3, 50, 123)).astype(np.float32)


def inputs(module: Any, feats: Floats, lengths: NDArray[np.int32], binary: bool = True) -> list[Any]:
    made = [
        module.InferInput("features", list(feats.shape), "FP32"),
        module.InferInput("lengths", list(lengths.shape), "INT32"),
    ]
    made[0].set_data_from_numpy(feats, binary_data=binary)
    made[1].set_data_from_numpy(lengths, binary_data=binary)
    return made


def check(answer: Any, model: Path, feats: Floats) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    scores = answer.as_numpy("log_posteriors")
    assert scores.shape == (3, 50, NUM_PDFS)
    for row, length in enumerate(LENGTHS):
        alone = session.run(
            None, {"features": feats[row : row + 1, :length], "lengths": LENGTHS[row : row + 1]}
        )
        assert np.array_equal(scores[row, :length], alone[0][0])
        assert not scores[row, length:].any()


def test_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("wsj")
    assert client.is_model_ready("wsj", "1")
    assert not client.is_model_ready("nothing")
    assert not client.is_model_ready("wsj", "3")
    assert client.get_server_metadata()["name"] == "asr-bn"
    metadata = client.get_model_metadata("wsj")
    assert metadata["versions"] == ["1", "2"]
    assert metadata["inputs"][0] == {"name": "features", "datatype": "FP32", "shape": [-1, -1, 123]}
    assert metadata["outputs"] == [
        {"name": "log_posteriors", "datatype": "FP32", "shape": [-1, -1, NUM_PDFS]}
    ]
    assert client.get_model_config("digits")["output"][0]["dims"] == [-1, -1, 11]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_infer_in_json_and_binary(client, repository, feats, binary_in, binary_out):
    outputs = None
    if binary_out is not None:
        outputs = [triton.InferRequestedOutput("log_posteriors", binary_data=binary_out)]
    given = inputs(triton, feats, LENGTHS, binary_in)
    answer = client.infer("wsj", given, outputs=outputs, request_id="r 7")
    assert answer.get_response()["id"] == "r 7"
    assert answer.get_response()["model_version"] == "2"
    check(answer, repository / "wsj" / "2" / "model.onnx", feats)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compression_both_ways(client, repository, feats, algorithm):
    answer = client.infer(
        "wsj",
        inputs(triton, feats, LENGTHS),
        model_version="1",
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
    )
    check(answer, repository / "wsj" / "1" / "model.onnx", feats)


def test_requests_side_by_side(url, repository, feats):
    import tritonclient.http.aio as aio

    async def ask() -> list[Any]:
        async with aio.InferenceServerClient(url.removeprefix("http://")) as client:
            assert await client.is_server_ready()
            given = inputs(aio, feats, LENGTHS)
            return await asyncio.gather(*(client.infer("wsj", given, timeout=10_000_000) for _ in range(8)))

    for answer in asyncio.run(ask()):
        check(answer, repository / "wsj" / "2" / "model.onnx", feats)


def test_statistics_count_utterances(client, feats):
    def count() -> int:
        return int(client.get_inference_statistics("wsj", "1")["model_stats"][0]["inference_count"])

    before = count()
    client.infer("wsj", inputs(triton, feats, LENGTHS), model_version="1")
    assert count() == before + 3


@pytest.mark.parametrize(
    ("lengths", "says"),
    [
        (np.array([31, 51, 7], np.int32), "lengths[1] is 51, expected 1 to 50"),
        (np.array([0, 50, 7], np.int32), "lengths[0] is 0"),
        (np.array([-5, 50, 7], np.int32), "lengths[0] is -5"),
        (np.array([31, 50], np.int32), "3 utterances in features, 2 in lengths"),
    ],
)
def test_bad_lengths(client, feats, lengths, says):
    with pytest.raises(Exception, match=re.escape(says)):
        client.infer("wsj", inputs(triton, feats, lengths))


def test_nan_features_are_refused_but_not_in_the_padding(client, repository, feats):
    padding = feats.copy()
    padding[2, 7:] = np.nan
    check(
        client.infer("wsj", inputs(triton, padding, LENGTHS)), repository / "wsj" / "2" / "model.onnx", feats
    )
    padding[2, 6] = np.nan
    with pytest.raises(Exception, match=r"features\[2\] hold a value that is not finite"):
        client.infer("wsj", inputs(triton, padding, LENGTHS))


def test_unknown_models_and_unsupported_calls_are_errors(client, feats):
    given = inputs(triton, feats, LENGTHS)
    for call, says in (
        (lambda: client.infer("nothing", given), "'nothing' is not loaded"),
        (lambda: client.infer("wsj", given, model_version="9"), "no version '9'"),
        (lambda: client.infer("wsj", given, outputs=[triton.InferRequestedOutput("words")]), "'words'"),
        (lambda: client.get_system_shared_memory_status(), "Not Found"),
        (lambda: client.register_system_shared_memory("region", "/key", 8), "Not Found"),
        (lambda: client.unregister_system_shared_memory(), "Not Found"),
        (lambda: client.get_cuda_shared_memory_status(), "Not Found"),
        (lambda: client.unregister_cuda_shared_memory(), "Not Found"),
        (lambda: client.get_trace_settings(), "Not Found"),
        (lambda: client.update_trace_settings(settings={}), "Not Found"),
        (lambda: client.get_log_settings(), "Not Found"),
        (lambda: client.update_log_settings({}), "Not Found"),
    ):
        with pytest.raises(Exception, match=says):
            call()


def test_a_deadline_of_a_microsecond_is_not_met(client, feats):
    with pytest.raises(Exception, match="deadline passed"):
        client.infer("wsj", inputs(triton, feats, LENGTHS), timeout=1)


def test_models_load_and_unload_only_with_the_token(client, url):
    def post(path, body, headers=None):
        return httpx.post(url + path, json=body, headers=headers)

    with pytest.raises(Exception, match="admin token"):
        client.unload_model("digits")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert client.is_model_ready("digits")
    client.unload_model("digits", headers=headers)
    assert not client.is_model_ready("digits")
    states = {
        (model["name"], model["version"]): model["state"] for model in client.get_model_repository_index()
    }
    assert states == {("wsj", "1"): "READY", ("wsj", "2"): "READY", ("digits", "1"): "UNAVAILABLE"}
    index = post("/v2/repository/index", {"ready": True}).json()
    assert {(model["name"], model["version"]) for model in index} == {("wsj", "1"), ("wsj", "2")}
    assert post("/v2/repository/index", {"ready": 1}).status_code == 400
    assert post("/v2/repository/index", ["x" * 70_000]).status_code == 413
    refused = post("/v2/repository/models/digits/load", {"parameters": {"config": "{}"}}, headers)
    assert refused.status_code == 400 and "not supported" in refused.text
    assert not client.is_model_ready("digits")
    # The folder's first model, which is asked where none is named, stays the first.
    answer = httpx.post(f"{url}/v1/posteriors", content=npy(np.zeros((5, 123))), headers=NPY)
    assert answer.status_code == 404 and "'digits' is not loaded" in answer.text
    client.load_model("digits", headers=headers)
    assert client.is_model_ready("digits")
    with pytest.raises(Exception, match="404"):
        client.load_model("../x", headers=headers)


@pytest.mark.parametrize(
    ("call", "body", "says"),
    [
        ("index", {"redy": True}, "unknown field 'redy', expected ready"),
        ("models/digits/load", {"config": "{}"}, "unknown field 'config', expected parameters"),
        ("models/digits/load", {"parameters": 0}, "parameters: expected a JSON object"),
        (
            "models/digits/load",
            {"parameters": {"file:1/model.onnx": ""}},
            "'file:1/model.onnx' is not supported",
        ),
        ("models/digits/unload", [], "the request: expected a JSON object"),
        ("models/digits/unload", {"unload_dependents": True}, "unknown field 'unload_dependents'"),
        ("models/digits/unload", {"parameters": None}, "parameters: expected a JSON object"),
        (
            "models/digits/unload",
            {"parameters": {"dependents": True}},
            "unknown field 'dependents', expected unload_dependents",
        ),
        ("models/digits/unload", {"parameters": {"unload_dependents": 1}}, "is 1, expected true or false"),
        ("models/digits/unload", ["x" * 70_000], "larger than"),
    ],
)
def test_what_a_repository_call_does_not_know_is_refused_by_name(client, url, call, body, says):
    """The fields are those of Triton's ``extension_model_repository.md``."""
    headers = {"Authorization": f"Bearer {TOKEN}"}
    answer = httpx.post(f"{url}/v2/repository/{call}", json=body, headers=headers)
    assert answer.status_code in (400, 413)
    assert says in answer.json()["error"]
    assert client.is_model_ready("digits")


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"parameters": {}}', b'{"parameters": {"unload_dependents": true}}']
)
def test_a_model_without_dependents_is_unloaded_with_them(client, url, body):
    headers = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.post(f"{url}/v2/repository/models/digits/unload", content=body, headers=headers).json() == {}
    assert not client.is_model_ready("digits")
    client.load_model("digits", headers=headers)
    assert client.is_model_ready("digits")
