"""MP3 and its elder layers: all frames are read; FFmpeg and the encoder's own count are the oracles."""

import io
import struct

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from asr_bn.audio.mpeg import FrameHeader, decode_mpeg
from asr_bn.audio.reader import decode_audio
from asr_bn.system.arrays import Floats
from tests.helpers.audio_files import SPEECH, encoded, id3v2, muxed

MP3 = encoded("MP3", "MPEG_LAYER_III")
STREAM = muxed("mp3", "libmp3lame", write_xing="0", id3v2_version="0")


def _by_ffmpeg(data: bytes) -> Floats:
    with av.open(io.BytesIO(data), format="mp3") as container:
        frames = [frame.to_ndarray()[0] for frame in container.decode(audio=0)]
    samples = np.concatenate(frames)
    return samples.astype(np.float32) * np.float32(1 if samples.dtype == np.int16 else 32768)


def _without_header(samples: NDArray[np.int16], rate: int) -> bytes:
    """An MP3 of varying bit rate without its first frame, which counts the others."""
    stream = io.BytesIO()
    with soundfile.SoundFile(
        stream, "w", rate, 1, format="MP3", subtype="MPEG_LAYER_III", bitrate_mode="VARIABLE"
    ) as file:
        file.write(samples)
    data = stream.getvalue()
    return data[FrameHeader.parse(data, 0).size :]


def test_an_encoders_header_tells_the_length() -> None:
    assert len(decode_audio(MP3).samples) == len(SPEECH)


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("loud_first", [True, False])
def test_without_a_header_all_frames_are_read(rate: int, loud_first: bool) -> None:
    """An estimate from the first frames is too low in one order, and too high in the other."""
    noise = (np.random.default_rng(0).normal(size=16000) * 6000).astype(np.int16)
    parts = [noise, SPEECH, np.zeros(32000, np.int16)]
    data = _without_header(np.concatenate(parts if loud_first else parts[::-1]), rate)
    waveform, expected = decode_audio(data), _by_ffmpeg(data)
    assert waveform.sample_frequency == rate
    assert len(waveform.samples) == len(expected)
    assert np.abs(waveform.samples - expected).max() < 1  # two decoders round unlike


@pytest.mark.parametrize("rate", [8000, 11025, 12000, 16000])
def test_first_bytes_of_low_rates(rate: int) -> None:
    data = encoded("MP3", "MPEG_LAYER_III", rate=rate)
    assert len(decode_audio(data).samples) == len(SPEECH)


def _xing_of(data: bytes) -> int:
    return max(data.find(b"Xing"), data.find(b"Info"))


TAGS = {
    "ID3v1": b"TAG" + bytes(125),
    "APE without a header": b"A" * 8 + b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 0) + bytes(8),
    "APE": b"APETAGEX" + struct.pack("<IIII", 2000, 40, 1, 1 << 31 | 1 << 29) + bytes(8 + 40),
}


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("data", [MP3, STREAM], ids=["counted", "stream"])
def test_tags_around(tag: str, data: bytes) -> None:
    expected = decode_audio(data).samples
    for tagged in (data + TAGS[tag], id3v2(100_000) + data + TAGS[tag]):
        np.testing.assert_array_equal(decode_audio(tagged).samples, expected)


def test_joined_files_are_read_whole() -> None:
    counted, stream = decode_audio(MP3).samples, decode_audio(STREAM).samples
    np.testing.assert_array_equal(decode_audio(MP3 + MP3).samples, np.concatenate([counted, counted]))
    tagged = id3v2(50) + MP3 + TAGS["ID3v1"] + id3v2(50) + STREAM
    np.testing.assert_array_equal(decode_audio(tagged).samples, np.concatenate([counted, stream]))
    with pytest.raises(ValueError, match="stream 2 in it has 8000 Hz"):
        decode_audio(MP3 + encoded("MP3", "MPEG_LAYER_III", rate=8000))


def test_a_cut_file_with_a_count() -> None:
    with pytest.raises(ValueError, match=r"^audio: cut short: 28 frames expected, \d+ found$"):
        decode_audio(MP3[: len(MP3) // 2])


def test_a_stream_may_be_cut_anywhere() -> None:
    whole = len(decode_audio(STREAM).samples)
    assert whole - 2 * 576 <= len(decode_audio(STREAM[:-10]).samples) < whole


def test_something_else_between_frames() -> None:
    second = FrameHeader.parse(STREAM, 0).size
    for junk in (b"<" * 700, b"<" * 100_000):
        with pytest.raises(ValueError, match=f"^audio: corrupt: the bytes from {second} on are no MPEG"):
            decode_audio(STREAM[:second] + junk + STREAM[second:])


def test_a_count_that_is_wrong() -> None:
    position = _xing_of(MP3) + 8
    fewer = MP3[:position] + struct.pack(">I", 3) + MP3[position + 4 :]
    assert len(decode_audio(fewer).samples) >= len(SPEECH)


@pytest.mark.parametrize("rate", [16000, 44100])
def test_layer_two(rate: int) -> None:
    data = muxed("mp2", "mp2", rate=rate)
    waveform = decode_audio(data)
    expected = _by_ffmpeg(data)
    assert len(waveform.samples) == len(expected) >= len(SPEECH)
    assert np.abs(waveform.samples - expected).max() < 1.5  # FFmpeg's are whole numbers


@pytest.mark.parametrize("rest", [b"ID3", b"ID3\4\0\0\0\0", b"TAG", b"APETAGEX"])
def test_a_tag_that_is_cut(rest: bytes) -> None:
    np.testing.assert_array_equal(decode_audio(STREAM + rest).samples, decode_audio(STREAM).samples)


def test_no_frames() -> None:
    for data in (id3v2(500), id3v2(20) + b"nothing of the kind" * 50, b"\xff\xfb\x90\xc0"):
        with pytest.raises(ValueError, match="^a: no MPEG audio frames in it$"):
            decode_mpeg(data, "a")
