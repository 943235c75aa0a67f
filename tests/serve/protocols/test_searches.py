"""Words and phones over HTTP: the oracle is the command line on the same utterances."""

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.main import app
from asr_bn.kaldi_io.script_file import read_table
from serve.client import Client, ServerError
from tests.helpers.graphs import lexicon_dir
from tests.helpers.searching import TEXTS, data_dir, graph_dir, speech
from tests.helpers.serving import npy, running_server, wav, write_model, write_phone_model

pytest.importorskip("kaldifst", reason="makes a graph")
UTT_ID = "f1-015"
ALIGN, TRANSCRIBE = "/v1/alignments", "/v1/transcripts"
SETTINGS = {
    "ASR_BN_MAX_TEXT_WORDS": "40",
    "ASR_BN_MAX_TEXT_BYTES": "600",
    "ASR_BN_MAX_ALIGNMENT_CELLS": "90000",
    # With which a network that was not trained hears words.
    "ASR_BN_ACOUSTIC_SCALE": "3",
    "ASR_BN_WORD_PENALTY": "-9",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models that know their phones, one that does not, a lexicon and a graph."""
    folder = tmp_path_factory.mktemp("searches")
    write_phone_model(folder / "models/phones/1/model.onnx")
    write_phone_model(folder / "models/phones/2/model.onnx", seed=1)
    write_model(folder / "models/plain/1/model.onnx")
    graph_dir(folder)
    return folder


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    places = ["--lang", str(folder / "dict"), "--graph", str(folder / "graph")]
    with running_server(folder / "models", *places, **SETTINGS) as (url, _):
        yield url


@pytest.fixture(scope="module")
def plain_url(folder: Path) -> Iterator[str]:
    """A server without lexicon and graph."""
    with running_server(folder / "models/phones/1/model.onnx") as (url, _):
        yield url


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    with Client(url) as client:
        yield client


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output


def test_alignments_are_those_of_the_command_line(client: Client, folder: Path, tmp_path: Path) -> None:
    model, data = folder / "models/phones/2/model.onnx", data_dir(tmp_path / "data", with_text=True)
    run("align", model, folder / "dict", data, tmp_path / "out")
    expected = json.loads((tmp_path / "out/align.json").read_text())["utterances"]
    poor = read_table(tmp_path / "out/poor.txt") if (tmp_path / "out/poor.txt").stat().st_size else {}
    for utt_id, text in TEXTS.items():
        found = client.alignment(speech(utt_id), text, utt_id=utt_id).model_dump()
        doubt = found.pop("doubt")
        assert doubt == (poor[utt_id].split(" ", 1)[1] if utt_id in poor else None)
        head = {name: found.pop(name) for name in ("utt_id", "model", "version", "frame_shift_ms")}
        assert head == {"utt_id": utt_id, "model": "phones", "version": "2", "frame_shift_ms": 10.0}
        assert found == expected[utt_id]


def test_transcripts_are_those_of_the_command_line(client: Client, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("kaldi_decoder")
    model, data = folder / "models/phones/2/model.onnx", data_dir(tmp_path / "data", with_text=False)
    weights = ["--acoustic-scale", 3, "--word-penalty=-9"]
    run("decode", model, folder / "graph", data, tmp_path / "out", *weights)
    words = read_table(tmp_path / "out/hyp.txt", value_needed=False)
    costs = read_table(tmp_path / "out/costs.txt")
    ctm = [line.split() for line in (tmp_path / "out/hyp.ctm").read_text().splitlines()]
    for utt_id in TEXTS:
        found = client.transcript(speech(utt_id), utt_id=utt_id)
        assert found.text == words[utt_id] and found.text
        assert f"{found.graph_cost:.7g} {found.acoustic_cost:.7g}" == costs[utt_id]
        spans = [line[2:] for line in ctm if line[0] == utt_id]
        for word, (start, duration, name, confidence) in zip(found.words, spans, strict=True):
            assert word.start is not None and word.end is not None
            assert (word.word, f"{word.start:.3f}", f"{word.end - word.start:.3f}") == (name, start, duration)
            assert f"{word.confidence:.4f}" == confidence
        check_phones(found.phones, [(word.start, word.end) for word in found.words])


def check_phones(phones: list, spans: list[tuple[float | None, float | None]]) -> None:
    """Phones follow each other without gaps, and those of a word span it."""
    assert phones[0].start == 0
    assert [phone.end for phone in phones[:-1]] == [phone.start for phone in phones[1:]]
    for place, span in enumerate(spans):
        own = [phone for phone in phones if phone.word == place]
        assert (own[0].start, own[-1].end) == span
    assert all(phone.phone == "SIL" for phone in phones if phone.word is None)


def test_a_phones_confidence_is_its_mean_posterior(client: Client) -> None:
    names = client.names("phone-class")
    posteriors = client.posteriors(speech(UTT_ID), "posterior", level="phone-class")
    for phone in client.transcript(speech(UTT_ID)).phones:
        own = posteriors[round(100 * phone.start) : round(100 * phone.end)]
        # Sums of float32 over pdfs, here and there in another order.
        expected = own[:, names.index(phone.phone)].mean()
        assert phone.confidence == pytest.approx(expected, abs=6e-5)  # it is rounded to 1e-4


def test_features_and_a_form_and_the_query_are_answered_alike(client: Client, url: str) -> None:
    feats, text = client.features(speech(UTT_ID)), TEXTS[UTT_ID]
    query = httpx.post(url + ALIGN, params={"text": text}, content=speech(UTT_ID)).json()
    form = httpx.post(url + ALIGN, data={"text": text}, files={"file": ("utterance.wav", speech(UTT_ID))})
    matrix = httpx.post(
        url + ALIGN,
        params={"text": text},
        content=npy(feats),
        headers={"content-type": "application/x-npy"},
    )
    assert query == form.json() == matrix.json()
    assert "search;dur=" in form.headers["server-timing"]


@pytest.mark.parametrize(("path", "option"), [(ALIGN, "--lang"), (TRANSCRIBE, "--graph")])
def test_a_server_without_lexicon_or_graph_says_how_to_start_it(
    plain_url: str, path: str, option: str
) -> None:
    answer = httpx.post(plain_url + path, content=speech(UTT_ID))
    assert answer.status_code == 501
    assert f"asr-bn serve MODEL {option}" in answer.json()["detail"]


SPEECH = {"content": speech(UTT_ID)}
FORM = {"files": {"file": ("u.wav", speech(UTT_ID))}}
REFUSED = {
    "no text": ({**SPEECH}, 422, "text: missing, expected as the form's part 'text' or in the query"),
    "blank": ({**SPEECH, "params": {"text": " \t"}}, 422, "text: no words in it"),
    "blank in a form": ({**FORM, "data": {"text": " "}}, 422, "text: no words in it"),
    "twice": ({**FORM, "data": {"text": "my"}, "params": {"text": "my"}}, 422, "expected once"),
    "not UTF-8": ({**FORM, "data": {"text": b"\xff"}}, 400, "text: not UTF-8 at byte 0"),
    "unknown words": (
        {**SPEECH, "params": {"text": "bring zebra my lion"}},
        422,
        "text: 'zebra', 'lion': no pronunciation in this server's lexicon",
    ),
    "seven unknown": (
        {**SPEECH, "params": {"text": "a1 b1 c1 d1 e1 f1 g1"}},
        422,
        "'e1' and 2 others: no pron",
    ),
    "too long": (
        {**SPEECH, "params": {"text": "bring my chair " * 10}},
        422,
        "frames at least, and its audio",
    ),
    "words": ({**SPEECH, "params": {"text": "my " * 41}}, 413, "text: 41 words, this server takes up to 40"),
    "bytes": (
        {**FORM, "data": {"text": "m" * 601}},
        413,
        "text: 601 characters, this server takes",
    ),
    "cells": (
        {"content": wav(np.zeros(480000, np.int16)), "params": {"text": "bring my chair " * 10}},
        413,
        "states of the text's phones, this server aligns up to 90000 of their product",
    ),
    "parameter": ({**SPEECH, "params": {"txt": "my"}}, 422, "unknown query parameter 'txt', expected text, "),
    "field": (
        {**FORM, "data": {"text": "my", "top": "1"}},
        400,
        "named 'top', expected only 'file' or 'text'",
    ),
    "no file": ({"files": {"text": (None, "my")}}, 400, "0 parts are named 'file'"),
    "no body": ({"params": {"text": "my"}}, 400, "the body is empty"),
    "no audio": ({"content": b"my", "params": {"text": "my"}}, 415, "not in an audio format"),
    "form": ({**SPEECH, "params": {"text": "my"}, "headers": {"accept": "text/plain"}}, 406, "offered: app"),
    "model": ({**SPEECH, "params": {"text": "my", "model": "plain"}}, 422, "model is of another system"),
    "no model": ({**SPEECH, "params": {"text": "my", "model": "none"}}, 404, "model 'none' is not loaded"),
}


@pytest.mark.parametrize(("request_", "status", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_aligned_is_told_in_a_sentence(
    url: str, request_: dict[str, object], status: int, said: str
) -> None:
    answer = httpx.post(url + ALIGN, **request_)  # type: ignore[arg-type]
    assert (answer.status_code, said in answer.json()["detail"]) == (status, True), answer.text
    assert "/" not in answer.json()["detail"].replace("application/json", "").replace("text/plain", "")


def test_transcripts_take_no_text(url: str) -> None:
    answers = [
        httpx.post(url + TRANSCRIBE, params={"text": "my"}, content=speech(UTT_ID)),
        httpx.post(url + TRANSCRIBE, data={"text": "my"}, files={"file": ("u.wav", speech(UTT_ID))}),
    ]
    assert [answer.status_code for answer in answers] == [422, 400]
    assert "expected only 'file'" in answers[1].json()["detail"]


def test_what_fits_badly_is_answered_with_a_doubt(client: Client) -> None:
    """As poor.txt of the command line; a network that was not trained doubts everything."""
    aligned = client.alignment(speech(UTT_ID), "the")
    assert aligned.doubt is not None and aligned.words[0].word == "the"
    silence = client.transcript(wav(np.zeros(4000, np.int16)))
    assert silence.doubt is None or "found" in silence.doubt or "graph" in silence.doubt


def test_the_lexicons_word_stands_for_unknown_ones(folder: Path, tmp_path: Path) -> None:
    (lexicon_dir(tmp_path / "dict") / "oov.txt").write_text("my\n")
    model = folder / "models/phones/2/model.onnx"
    with running_server(model, "--lang", str(tmp_path / "dict")) as (url, _), Client(url) as client:
        found = client.alignment(speech(UTT_ID), "bring zebra chair")
        assert [word.word for word in found.words] == ["bring", "zebra", "chair"]
        assert [phone.phone for phone in found.phones if phone.word == 1] == ["M", "AY"]
        with pytest.raises(ServerError, match="HTTP 501: this server was started without a graph"):
            client.transcript(speech(UTT_ID))


def test_a_deadline_is_kept_and_the_next_answer_is_right(client: Client, url: str) -> None:
    expected = client.transcript(speech(UTT_ID))
    late = httpx.post(url + TRANSCRIBE, content=speech("f2-008"), headers={"x-timeout-ms": "1"})
    assert late.status_code == 504
    assert client.transcript(speech(UTT_ID)) == expected


def test_a_long_text_goes_into_a_form_and_a_query_alike(url: str) -> None:
    text = " ".join(["my"] * 40)
    in_query = httpx.post(f"{url}{ALIGN}?text={urllib.parse.quote(text)}", content=speech(UTT_ID))
    in_form = httpx.post(url + ALIGN, data={"text": text}, files={"file": speech(UTT_ID)})
    assert in_query.json()["detail"] == in_form.json()["detail"]
