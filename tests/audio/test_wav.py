"""WAV and its kin: what their sizes mean, as Kaldi's wave-reader.cc, and what is cut short or joined."""

import io
import struct

import numpy as np
import pytest
import soundfile

from asr_bn.audio.reader import decode_audio, decode_recording
from tests.helpers.audio_files import SPEECH, chunk, encoded, fmt, id3v2, muxed, riff

PCM = SPEECH.tobytes()
OTHER_CODINGS = [
    "PCM_U8",
    "PCM_24",
    "PCM_32",
    "FLOAT",
    "DOUBLE",
    "ULAW",
    "ALAW",
    "IMA_ADPCM",
    "MS_ADPCM",
    "GSM610",
]


def _coded(subtype: str) -> bytes:
    return encoded("WAV", subtype, rate=8000 if subtype == "GSM610" else 16000)


def _as_stream(data: bytes, size: int, outer: int) -> bytes:
    """``data`` as if its writer could not go back to its sizes, and nothing stood behind the samples."""
    position = data.index(b"data") + 4
    (real,) = struct.unpack_from("<I", data, position)
    stream = bytearray(data[: position + 4 + real])
    struct.pack_into("<I", stream, 4, outer)
    struct.pack_into("<I", stream, position, size)
    return bytes(stream)


@pytest.mark.parametrize(
    ("outer", "size"),
    [
        (0, 0),
        (0xFFFFFFFF, 0xFFFFFFFF),  # FFmpeg
        (0x7FFFF024, 0x7FFFF000),  # SoX
        (0x7FFFFF24, 0x7FFFFF00),  # arecord without a duration
        (0x80000024, 0x80000000),  # arecord
        (0x7FFFFFFF, 0x7FFFFFFF - 36),
        (0xFFFFFFFF, 0xFFFFFFD3),
        (0, 0x7FFFFFDB),
        (0, 12),  # Kaldi reads on whatever the chunk says
        (len(PCM) + 36, len(PCM) + 44),  # a recorder that counts its header
        (len(PCM) + 80, len(PCM) + 44),
        (36, len(PCM)),
    ],
)
def test_sizes_of_streams(outer: int, size: int) -> None:
    data = riff(fmt(), chunk(b"data", PCM, size), size=outer)
    np.testing.assert_array_equal(decode_audio(data).samples, SPEECH)


@pytest.mark.parametrize("subtype", OTHER_CODINGS)
@pytest.mark.parametrize("size", [0, 0xFFFFFFFF])
def test_streams_in_other_codings(subtype: str, size: int) -> None:
    data = _coded(subtype)
    expected = decode_audio(data)
    actual = decode_audio(_as_stream(data, size, size))
    assert actual.sample_frequency == expected.sample_frequency
    np.testing.assert_array_equal(actual.samples, expected.samples)


@pytest.mark.parametrize("subtype", ["PCM_16", *OTHER_CODINGS])
def test_half_a_file_is_cut_short(subtype: str) -> None:
    data = _coded(subtype)
    with pytest.raises(ValueError, match=r"^audio: cut short: \d+ bytes of samples expected, \d+ found$"):
        decode_audio(data[: len(data) // 2])


@pytest.mark.parametrize(("subtype", "block"), [("GSM610", 320), ("G721_32", 120), ("NMS_ADPCM_16", 160)])
def test_codings_that_cannot_be_sought_in(subtype: str, block: int) -> None:
    data = encoded("WAV", subtype, rate=8000)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        expected = file.read(len(SPEECH), dtype="float32") * 32768
    samples = decode_audio(data).samples
    np.testing.assert_array_equal(samples[: len(expected)], expected)
    assert len(SPEECH) <= len(samples) < len(SPEECH) + block


def test_gsm_ends_where_its_fact_chunk_says() -> None:
    data = encoded("WAV", "GSM610", rate=8000)
    position = data.index(b"fact") + 8
    shorter = data[:position] + struct.pack("<I", 14000) + data[position + 4 :]
    assert len(decode_audio(shorter).samples) == 14000


@pytest.mark.parametrize("name", [b"LIST", b"abcd"])
def test_chunks_of_odd_sizes(name: bytes) -> None:
    for pad in (b"\0", b"") if name == b"LIST" else (b"\0",):
        data = riff(fmt(), chunk(name, b"INFOx") + pad, chunk(b"data", PCM), chunk(b"LIST", b"INFO"))
        np.testing.assert_array_equal(decode_audio(data).samples, SPEECH)
    without_pad = riff(chunk(name, b"INFOx"), fmt(), chunk(b"data", PCM))
    np.testing.assert_array_equal(decode_audio(without_pad).samples, SPEECH)


@pytest.mark.parametrize("tag", [id3v2(10), id3v2(100_000), id3v2(10) + id3v2(300)])
def test_a_tag_in_front(tag: bytes) -> None:
    np.testing.assert_array_equal(decode_audio(tag + riff(fmt(), chunk(b"data", PCM))).samples, SPEECH)


def test_two_chunks_of_samples_and_two_files() -> None:
    two = riff(fmt(), chunk(b"data", PCM[:8000]), chunk(b"LIST", b"INFO"), chunk(b"data", PCM[8000:]))
    with pytest.raises(ValueError, match=r"two chunks of samples, the second at byte 8056; expected one$"):
        decode_audio(two)
    for subtype in ("PCM_16", "FLOAT"):
        data = encoded("WAV", subtype)
        with pytest.raises(ValueError, match=f"another file is joined to it at byte {len(data)}$"):
            decode_audio(data + data)


def test_what_stands_behind_the_samples_is_no_second_file() -> None:
    data = riff(fmt(), chunk(b"data", PCM))
    chunks = chunk(b"odd ", bytes(3)) + b"\0" + chunk(b"LIST", b"INFO")
    tags = (chunk(b"id3 ", id3v2(9)), id3v2(9), b"TAG" + bytes(125))
    for rest in (b"utt2 " + data, bytes(5000), b"\xffdata", chunks, chunks[:-2], *tags):
        np.testing.assert_array_equal(decode_audio(data + rest).samples, SPEECH)


@pytest.mark.parametrize("outer", [len(PCM) + 36, 1036, len(PCM) + 44])
def test_a_size_that_is_too_small(outer: int) -> None:
    """As in the header of a recorder that was killed between two of its updates."""
    data = riff(fmt(), chunk(b"data", PCM, 1000), size=outer)
    with pytest.raises(
        ValueError, match=rf"corrupt: {len(PCM) - 1000} bytes behind its samples, from byte 1044 on"
    ):
        decode_audio(data)


def _rf64(outer: int, inner: int) -> bytes:
    sizes = chunk(b"ds64", struct.pack("<QQQI", outer, inner, 0, 0))
    return riff(sizes, fmt(), chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF, magic=b"RF64")


SWAPPED = chunk(b"data", SPEECH.astype(">i2").tobytes(), order=">")
KIN = {
    "RIFX": riff(fmt(order=">"), SWAPPED, magic=b"RIFX", order=">"),
    "RF64 stream": _rf64(0, 0),
    "RF64": _rf64(len(PCM) + 72, len(PCM)),
    "BW64": _rf64(len(PCM) + 72, len(PCM)).replace(b"RF64", b"BW64"),
    "W64": encoded("W64", "PCM_16"),
    "W64 stream": muxed("w64", "pcm_s16le", piped=True),
    "FFmpeg's RF64 stream": muxed("wav", "pcm_s16le", piped=True, rf64="always"),
    "FFmpeg's stream": muxed("wav", "pcm_s16le", piped=True),
}


@pytest.mark.parametrize("name", KIN)
def test_kin(name: str) -> None:
    np.testing.assert_array_equal(decode_audio(KIN[name]).samples, SPEECH)


@pytest.mark.parametrize("contents", [bytes(4), bytes(23)])
def test_64_bit_sizes_that_are_cut(contents: bytes) -> None:
    data = riff(fmt(0x31), chunk(b"ds64", contents) + b"\0" * (len(contents) % 2), chunk(b"data", PCM, 0))
    with pytest.raises(ValueError, match="^audio: cannot be decoded"):
        decode_audio(data)


def test_kin_cut_short() -> None:
    for data in (_rf64(len(PCM) + 72, len(PCM)), encoded("W64", "PCM_16"), encoded("W64", "FLOAT")):
        with pytest.raises(ValueError, match="cut short"):
            decode_audio(data[: len(data) // 2])
    sizes = bytearray(encoded("W64", "PCM_16"))
    position = sizes.index(b"data") + 16
    sizes[position : position + 8] = struct.pack("<Q", 23)
    with pytest.raises(ValueError, match="corrupt W64: a data chunk of 23 bytes"):
        decode_audio(bytes(sizes))


def test_float_samples_in_the_int16_range() -> None:
    floats = chunk(b"data", SPEECH.astype("<f4").tobytes())
    with pytest.raises(ValueError, match=r"float samples up to \d+, expected -1 to 1"):
        decode_audio(riff(fmt(3, 32), floats))
    loud = (SPEECH / 8192).astype("<f4")  # louder than full scale is no fault
    np.testing.assert_array_equal(
        decode_audio(riff(fmt(3, 32), chunk(b"data", loud.tobytes()))).samples, loud * 32768
    )


def test_mp3_in_a_wav_file() -> None:
    body = muxed("mp3", "libmp3lame", write_xing="0", id3v2_version="0")
    data = riff(fmt(0x55, 0), chunk(b"data", body))
    np.testing.assert_array_equal(decode_audio(data).samples, decode_audio(body).samples)
    assert len(SPEECH) <= len(decode_audio(data).samples)


def test_more_channels_than_samples() -> None:
    header = chunk(b"fmt ", struct.pack("<HHIIHH", 1, 65535, 16000, 0, 0, 16))
    with pytest.raises(ValueError, match="no samples in it"):
        decode_recording(riff(header, chunk(b"data", PCM)))
