"""Bodies that mean harm: the server answers each with a 4xx (or a 200, where the damage does not show), keeps
its memory, and opens nothing that a client names."""

import io
import random
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import soundfile

from tests.helpers.serving import running_server, write_model
from tests.helpers.sound_bodies import SOUND

MAX_SECONDS = 20


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, int]]:
    model = write_model(tmp_path_factory.mktemp("hostile") / "tiny.onnx")
    environment = {
        "ASR_BN_MAX_AUDIO_SECONDS": str(MAX_SECONDS),
        "ASR_BN_MAX_BODY_BYTES": "4000000",
        "ASR_BN_DECODE_TIMEOUT_S": "100",  # far more than any machine needs
    }
    with running_server(model, **environment) as (url, process):
        yield url, process.pid
        assert process.poll() is None
        assert httpx.get(f"{url}/healthz").status_code == 200


def memory(pid: int) -> int:
    process = psutil.Process(pid)
    return sum(one.memory_info().rss for one in (process, *process.children(recursive=True)))


def post(url: str, body: bytes, **headers: str) -> httpx.Response:
    return httpx.post(f"{url}/v1/posteriors?top_k=1", content=body, headers=headers, timeout=30)


@pytest.mark.parametrize("kind", SOUND)
def test_the_undamaged_file_is_answered(server, kind):
    assert post(server[0], SOUND[kind]).status_code == 200


def damage(data: bytes, rng: random.Random) -> bytes:
    """Cut short, overwritten, a slice repeated or removed, or a size field blown up."""
    body = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        at = rng.randrange(max(1, len(body)))
        choice = rng.randrange(5)
        if choice == 0:
            del body[at:]
        elif choice == 1:
            body[at : at + 4] = rng.choice(
                [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\x80\0\0\0"]
            )
        elif choice == 2:
            body[at : at + rng.randint(1, 64)] = rng.randbytes(rng.randint(1, 64))
        elif choice == 3:
            del body[at : at + rng.randint(1, 200)]
        else:
            head = rng.randrange(min(128, len(body) or 1))
            body[head : head + 1] = bytes([rng.randrange(256)])
    return bytes(body)


@pytest.mark.parametrize("kind", SOUND)
def test_damaged_files_never_make_a_server_error(server, kind):
    url, pid = server
    rng = random.Random(kind)
    before = memory(pid)
    for _ in range(30):
        body = damage(SOUND[kind], rng)
        started = time.monotonic()
        answer = post(url, body)
        assert answer.status_code in (200, 400, 413, 415, 422), (answer.text, body[:64])
        assert time.monotonic() - started < 10
        if answer.status_code != 200:
            assert not re.search(r"(?<!\w)/\w", answer.json()["detail"])  # a path; "WAV/RF64" is none
            assert "Traceback" not in answer.text
    assert memory(pid) < before + 300_000_000


def long_flac(seconds: int) -> bytes:
    stream = io.BytesIO()
    with soundfile.SoundFile(stream, "w", 16000, 1, format="FLAC", subtype="PCM_16") as file:
        for _ in range(seconds // 10):
            file.write(np.zeros(160_000, np.int16))
    return stream.getvalue()


def test_an_hour_of_silence_in_a_small_file_is_refused(server):
    body = long_flac(3600)
    assert len(body) < 1_000_000
    before = memory(server[1])
    assert post(server[0], body).status_code == 413
    assert memory(server[1]) < before + 300_000_000


def test_rates_are_bounded_before_anything_is_resampled(server):
    for rate in (
        b"1" + b"0" * 18,
        b"1" + b"0" * 300,
        b"4294967295",
        b"192001",
        b"999",
        "²".encode("latin-1"),
    ):
        answer = post(server[0], SOUND["sphere"].replace(b"sample_rate -i 16000", b"sample_rate -i " + rate))
        assert answer.status_code == 422, rate
        assert "expected" in answer.json()["detail"]


def test_headers_that_lie_about_sizes(server):
    wave_file = bytearray(SOUND["wav"])
    wave_file[4:8] = wave_file[40:44] = struct.pack("<I", 0x6FFFFFF0)
    npy_file = SOUND["npy"].replace(b"(9, 41)", b"(9999999999, 41)".ljust(7))
    claims = SOUND["sphere"].replace(b"sample_count -i 6400", b"sample_count -i 999999999")
    for body in (bytes(wave_file), npy_file, claims):
        assert post(server[0], body).status_code in (400, 413, 422)


def test_decompression_bombs_are_refused(server):
    zeros = zlib.compressobj(9)
    bomb = b"".join([zeros.compress(b"\0" * 1_000_000) for _ in range(500)]) + zeros.flush()
    before = memory(server[1])
    assert post(server[0], bomb, **{"content-encoding": "deflate"}).status_code == 413
    answer = httpx.post(
        f"{server[0]}/v2/models/tiny/infer", content=bomb, headers={"content-encoding": "deflate"}
    )
    assert answer.status_code == 413
    assert memory(server[1]) < before + 100_000_000


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile '{path}'\n",
        "#EXTM3U\n#EXTINF:1,\nfile://{path}\n",
        "{path}",
        "cat {path} |",
        "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file://{path}'>]><x>&e;</x>",
    ],
)
def test_nothing_that_a_client_names_is_opened(server, tmp_path, text):
    """The named file is audio: had it been opened, the answer would be 200."""
    named = Path(tmp_path / "secret.wav")
    named.write_bytes(SOUND["wav"])
    body = text.format(path=named).encode()
    assert post(server[0], body).status_code == 415
    files = {"file": (str(named), body, "audio/wav")}
    assert httpx.post(f"{server[0]}/v1/posteriors", files=files).status_code == 415


@pytest.mark.parametrize(
    "body",
    [
        b"--b\r\n" * 200_000,
        b"--b\r\ncontent-disposition: form-data; name=file\r\n\r\nx\r\n" * 100 + b"--b--\r\n",
        b"--b\r\n" + b"x: y\r\n" * 1000 + b"\r\nx\r\n--b--\r\n",
        b"--b\r\n" + b"x" * 100_000 + b": y\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\ncontent-disposition: form-data; name=other\r\n\r\nx\r\n--b--\r\n",
        b"--b\r\ncontent-disposition: form-data; name=file\r\n\r\nx",
        b"",
    ],
)
def test_abused_forms_are_refused(server, body):
    answer = post(server[0], body, **{"content-type": "multipart/form-data; boundary=b"})
    assert answer.status_code in (400, 415), answer.text


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/posteriors", {"accept": "x" * 20_000}),
        ("/v1/posteriors?model=" + "x" * 20_000, {}),
        ("/v1/posteriors?" + "x" * 20_000, {}),
        ("/v1/posteriors?output=" + "x" * 20_000, {}),
        ("/v1/posteriors?top_k=" + "9" * 20_000, {}),
        ("/v1/posteriors", {"content-encoding": "x" * 20_000}),
        ("/v2/models/tiny/infer", {"inference-header-content-length": "9" * 20_000}),
    ],
)
def test_errors_do_not_send_back_all_that_was_sent(server, path, headers):
    answer = httpx.post(server[0] + path, content=b"{}", headers=headers)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 1000


def test_errors_of_audio_do_not_either(server):
    body = SOUND["sphere"].replace(b"sample_rate -i 16000", b"sample_rate -i " + b"9" * 900)
    answer = post(server[0], body)
    assert 400 <= answer.status_code < 500
    assert len(answer.content) < 1000
