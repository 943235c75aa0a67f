"""Phones over HTTP: the oracle is the library called on the same features."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import kaldiio
import numpy as np
import pytest

from asr_bn.scoring import AcousticScorer
from asr_bn.scoring.levels import Level
from asr_bn.system.arrays import Floats
from serve.client import Client, ServerError
from tests.helpers.serving import NUM_PDFS, npy, running_server, write_model, write_phone_model

LEVELS: tuple[Level, ...] = ("phone", "phone-class")
NPY = {"content-type": "application/x-npy"}
INFER = "/v2/models/phones/infer"
OUTPUTS = {"phone": "phone_log_posteriors", "phone-class": "phone_class_log_posteriors"}
LENGTHS = [31, 50, 7]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows its phones, and one that does not."""
    folder = tmp_path_factory.mktemp("models")
    write_phone_model(folder / "phones/1/model.onnx")
    write_model(folder / "plain/1/model.onnx")
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running_server(folder) as (url, _):
        yield url


@pytest.fixture(scope="module")
def scorer(folder: Path) -> AcousticScorer:
    return AcousticScorer.load(folder / "phones/1/model.onnx", "cpu")


@pytest.fixture(scope="module")
def feats() -> Floats:
    return np.random.default_rng(5).standard_normal((3, 50, 123)).astype(np.float32)


def ask(url: str, feats: Floats, accept: str = "application/json", **parameters: Any) -> httpx.Response:
    headers = NPY | {"accept": accept}
    return httpx.post(f"{url}/v1/posteriors", params=parameters, content=npy(feats), headers=headers)


@pytest.mark.parametrize("level", LEVELS)
def test_json_has_the_phones_by_name(url: str, scorer: AcousticScorer, feats: Floats, level: Level) -> None:
    answer, expected = ask(url, feats[0], level=level, utt_id="u1").json(), scorer(feats[0], level)
    names = scorer.columns(level).names or ()
    np.testing.assert_array_equal(np.array(answer.pop("values"), np.float32), expected)
    assert answer == {
        "utt_id": "u1",
        "model": "phones",
        "version": "1",
        "output": "log_posterior",
        "num_frames": 50,
        "num_phones": len(names),
        "frame_shift_ms": 10.0,
        "level": level,
        "names": list(names),
    }


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("top_k", [1, 3, 1000])
def test_the_best_phones_are_named(
    url: str, scorer: AcousticScorer, feats: Floats, level: Level, top_k: int
) -> None:
    expected, names = np.exp(scorer(feats[0], level)), scorer.columns(level).names or ()
    order = np.argsort(-expected, axis=1, kind="stable")[:, :top_k]
    answer = ask(url, feats[0], level=level, output="posterior", top_k=top_k).json()
    assert answer["phones"] == [[names[column] for column in row] for row in order]
    assert "pdf_ids" not in answer
    best = np.take_along_axis(expected, order, axis=1)
    np.testing.assert_array_equal(np.array(answer["values"], np.float32), best)
    data = ask(url, feats[0], "application/x-npy", level=level, output="posterior", top_k=top_k).content
    records = np.load(io.BytesIO(data))
    np.testing.assert_array_equal(records["phone"], order)
    np.testing.assert_array_equal(records["value"], best)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("output", ["log_posterior", "posterior", "log_likelihood"])
def test_every_form_has_the_same_values(
    url: str, scorer: AcousticScorer, feats: Floats, level: Level, output: str
) -> None:
    expected = scorer(feats[0], level)
    if output == "posterior":
        expected = np.exp(expected)
    elif output == "log_likelihood":
        expected = expected - scorer.columns(level).log_priors
    with Client(url) as client:
        np.testing.assert_array_equal(client.posteriors(feats[0], output, level=level), expected)
    archive = ask(url, feats[0], "application/x-kaldi-ark", level=level, output=output, utt_id="u").content
    ((utt_id, matrix),) = kaldiio.load_ark(io.BytesIO(archive))
    assert utt_id == "u"
    np.testing.assert_array_equal(matrix, expected)


def test_pdfs_are_answered_as_before(url: str, scorer: AcousticScorer, feats: Floats) -> None:
    answers = [ask(url, feats[0], top_k=2, **given).json() for given in ({}, {"level": "pdf"})]
    assert answers[0] == answers[1]
    assert answers[0].keys().isdisjoint({"level", "names", "phones", "num_phones"})
    assert answers[0]["num_pdfs"] == 72
    assert np.array_equal(np.array(answers[0]["pdf_ids"])[:, 0], scorer(feats[0]).argmax(axis=1))


def test_names_of_each_level(url: str, scorer: AcousticScorer) -> None:
    with Client(url) as client:
        for level in ("pdf", *LEVELS):
            assert tuple(client.names(level)) == scorer.columns(level).names
        assert client.names()[:2] == ["SIL", "SIL_B"]
        with pytest.raises(ServerError, match="HTTP 422: model 'plain' does not know its phones"):
            client.names("pdf", model="plain")


def test_a_model_without_phones_says_so_before_it_reads_a_body(url: str, feats: Floats) -> None:
    for parameters in ({"level": "phone"}, {"level": "phone-class", "top_k": 1}):
        answer = ask(url, feats[0], model="plain", **parameters)
        assert answer.status_code == 422
        assert answer.json()["detail"].endswith("model 'plain' does not know its phones")
    answer = ask(url, feats[0], level="state")
    assert answer.status_code == 422
    assert "level" in answer.json()["detail"]


def tensors(feats: Floats, **more: Any) -> dict[str, Any]:
    inputs = [
        {"name": "features", "datatype": "FP32", "shape": list(feats.shape), "data": feats.ravel().tolist()},
        {"name": "lengths", "datatype": "INT32", "shape": [3], "data": LENGTHS},
    ]
    return {"inputs": inputs, **more}


def check(values: Floats, scorer: AcousticScorer, feats: Floats, level: Level) -> None:
    for row, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(values[row, :length], scorer(feats[row, :length], level))
        assert not values[row, length:].any()


def test_outputs_of_open_inference_are_all_unless_some_are_named(
    url: str, scorer: AcousticScorer, feats: Floats
) -> None:
    described = httpx.get(f"{url}/v2/models/phones").json()["outputs"]
    names = ["log_posteriors", *OUTPUTS.values()]
    assert [output["name"] for output in described] == names
    for asked in (None, [], names[::-1], [OUTPUTS["phone"]]):
        wanted = {} if asked is None else {"outputs": [{"name": name} for name in asked]}
        answer = httpx.post(url + INFER, json=tensors(feats, **wanted)).json()
        assert [output["name"] for output in answer["outputs"]] == (asked or names)
        for output in answer["outputs"]:
            level: Level = next((key for key, name in OUTPUTS.items() if name == output["name"]), "pdf")  # type: ignore[assignment]
            shape = next(item["shape"] for item in described if item["name"] == output["name"])
            assert output["shape"] == [3, 50, shape[-1]]
            values = np.array(output["data"], np.float32).reshape(output["shape"])
            check(values, scorer, feats, level)
    assert [output["name"] for output in httpx.get(f"{url}/v2/models/plain").json()["outputs"]] == names[:1]


@pytest.mark.filterwarnings("ignore")  # gevent warns where it is imported after ssl
def test_tritonclient_reads_the_outputs_of_phones(url: str, scorer: AcousticScorer, feats: Floats) -> None:
    triton = pytest.importorskip("tritonclient.http", reason="needs tritonclient[http]")
    inputs = [triton.InferInput("features", [3, 50, 123], "FP32"), triton.InferInput("lengths", [3], "INT32")]
    inputs[0].set_data_from_numpy(feats)
    inputs[1].set_data_from_numpy(np.array(LENGTHS, np.int32))
    with triton.InferenceServerClient(url.removeprefix("http://")) as client:
        for binary in (True, False):
            outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in OUTPUTS.values()]
            answer = client.infer("phones", inputs, outputs=outputs)
            for level in LEVELS:
                check(answer.as_numpy(OUTPUTS[level]), scorer, feats, level)
            assert answer.as_numpy("log_posteriors") is None
        check(client.infer("phones", inputs).as_numpy("log_posteriors"), scorer, feats, "pdf")


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [
        ([{"name": "phones"}], "unexpected inference output 'phones'"),
        (
            [{"name": "log_posteriors"}, {"name": OUTPUTS["phone"], "parameters": {"binary_data": True}}],
            "binary data for all of them or for none",
        ),
    ],
)
def test_outputs_that_cannot_be_answered_are_refused(
    url: str, feats: Floats, outputs: list[dict[str, Any]], reason: str
) -> None:
    answer = httpx.post(url + INFER, json=tensors(feats, outputs=outputs))
    assert answer.status_code == 400
    assert reason in answer.json()["error"]
    answer = httpx.post(
        f"{url}/v2/models/plain/infer", json=tensors(feats, outputs=[{"name": OUTPUTS["phone"]}])
    )
    assert answer.status_code == 400
    assert answer.json()["error"].endswith("the model gives 'log_posteriors'")
    plain = httpx.post(f"{url}/v2/models/plain/infer", json=tensors(feats)).json()["outputs"]
    assert [output["shape"] for output in plain] == [[3, 50, NUM_PDFS]]
