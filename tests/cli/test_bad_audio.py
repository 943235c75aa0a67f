"""Bad audio: each file ends in a sentence that names utterance and file, and in no output."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr_bn.cli.errors import describe
from asr_bn.cli.main import app
from tests.helpers.bad_inputs import WAV, Cases, audio, case_of, check_case, encoded, scp

CASES: Cases = {}
case = case_of(CASES)


@case(r"u: DIR/a\.wav: an empty file")
def empty_audio(folder: Path) -> list[str]:
    return audio(folder, b"")


@case(r"u: DIR/a\.wav: no samples in it")
def audio_without_samples(folder: Path) -> list[str]:
    return audio(folder, WAV[:40] + bytes(4))


@case(r"u: DIR/a\.wav: a sample frequency of 4294967295 Hz, expected 1000 to 192000")
def a_rate_that_no_recording_has(folder: Path) -> list[str]:
    return audio(folder, WAV[:24] + b"\xff" * 4 + WAV[28:])


@case(r"DIR/data: none of 1 utterances has a frame \(0 segments left out\)")
def nothing_but_an_utterance_shorter_than_a_frame(folder: Path) -> list[str]:
    return audio(folder, encoded(np.full(399, 0.1), format="WAV"))


@case(r"u: DIR/a\.wav: cut short: 5600 bytes of samples expected, 1000 found")
def wav_cut_short(folder: Path) -> list[str]:
    return audio(folder, WAV[:1044])


@case(r"u: DIR/a\.wav: cut short: a WAV file without data")
def wav_header_only(folder: Path) -> list[str]:
    return audio(folder, WAV[:36])


@case(r"u: DIR/a\.wav: corrupt WAV: 0 channels at 16000 Hz")
def wav_without_channels(folder: Path) -> list[str]:
    return audio(folder, WAV[:22] + b"\0\0" + WAV[24:])


@case(r"u: DIR/a\.flac: (cannot be decoded|cut short).*")
def flac_cut_short(folder: Path) -> list[str]:
    noise = np.random.default_rng(0).integers(-9000, 9000, 50_000).astype(np.int16)
    return audio(folder, encoded(noise, format="FLAC")[:40_000], "a.flac")


@case(r"u: DIR/a\.wav: unknown audio format \(it begins with b'<!DOCTYP'\).*")
def a_web_page_instead_of_audio(folder: Path) -> list[str]:
    return audio(folder, b"<!DOCTYPE html><html>")


@case(r"u: DIR/a\.wav: sample 3 of 500 is nan")
def nan_samples(folder: Path) -> list[str]:
    samples = np.zeros(500, dtype=np.float32)
    samples[3] = np.nan
    return audio(folder, encoded(samples, format="WAV", subtype="FLOAT"))


@case(r"u: DIR/a\.wav: 2 channels; choose one \(--channel, from 0\)")
def stereo_without_a_channel(folder: Path) -> list[str]:
    return audio(folder, encoded(np.zeros((500, 2)) + 0.1, format="WAV"))


@case(r"v: DIR/b\.wav: sampled at 8000 Hz, expected 16000 Hz; --resample converts it")
def two_sample_rates(folder: Path) -> list[str]:
    (folder / "a.wav").write_bytes(WAV)
    (folder / "b.wav").write_bytes(encoded(np.zeros(500) + 0.1, 8000, format="WAV"))
    return scp(folder, f"u {folder}/a.wav\nv {folder}/b.wav\n")


@case(r"u: DIR/a\.wv1: corrupt SPHERE header: no end_head")
def sphere_without_an_end(folder: Path) -> list[str]:
    return audio(folder, b"NIST_1A\n   1024\nsample_rate -i 16000\n".ljust(1024), "a.wv1")


@case(r"u: DIR/a\.wv1: cut short or corrupt: a SPHERE header of 1024 bytes")
def sphere_cut_in_its_header(folder: Path) -> list[str]:
    return audio(folder, b"NIST_1A\n   1024\nsample_rate -i 16000\n", "a.wv1")


@case(r"u: DIR/a\.wv1: (cut short|cannot be decoded|no samples).*")
def sphere_shorten_that_is_garbage(folder: Path) -> list[str]:
    header = (
        b"NIST_1A\n   1024\nsample_rate -i 16000\nchannel_count -i 1\nsample_n_bytes -i 2\n"
        b"sample_count -i 99\nsample_byte_format -s2 01\n"
        b"sample_coding -s26 pcm,embedded-shorten-v2.00\nend_head\n"
    )
    return audio(folder, header.ljust(1024) + bytes(range(256)) * 4, "a.wv1")


@pytest.mark.parametrize("name", CASES)
def test_one_clear_sentence_and_no_output(name: str, tmp_path: Path) -> None:
    check_case(*CASES[name], tmp_path)


def test_a_lack_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def decode(data: bytes, where: str) -> None:
        raise MemoryError("Unable to allocate 1.00 TiB")

    monkeypatch.setattr("asr_bn.audio.reader.decode", decode)
    result = CliRunner().invoke(app, audio(tmp_path, WAV))
    assert describe(result.exception) == f"u: {tmp_path}/a.wav: it needs more memory than there is"
    assert (
        describe(MemoryError("Unable to allocate 1.00 TiB")) == "out of memory: Unable to allocate 1.00 TiB"
    )
    assert describe(MemoryError()) == "out of memory"
