"""All formats through one reader: parts of files, streams, rates, and words of libraries."""

import re
import struct
from pathlib import Path

import numpy as np
import pytest

from asr_bn.audio.formats import audio_format
from asr_bn.audio.reader import decode_audio, decode_recording, read_waveform
from asr_bn.audio.samples import decoder_errors
from asr_bn.audio.sndfile import decode_with_sndfile
from asr_bn.audio.source import AudioSource
from tests.helpers.audio_files import SPEECH, chunk, encoded, fmt, muxed, riff, sphere

PCM = SPEECH.tobytes()
LOSSLESS = {
    "aiff": encoded("AIFF", "PCM_16"),
    "aiff stream": muxed("aiff", "pcm_s16be", piped=True),
    "au": encoded("AU", "PCM_16"),
    "au stream": muxed("au", "pcm_s16be", piped=True),
    "caf": encoded("CAF", "PCM_16"),
    "caf stream": muxed("caf", "pcm_s16be", piped=True),
    "alac in mp4": muxed("ipod", "alac"),
    "flac in matroska": muxed("matroska", "flac"),
    "flac in a matroska stream": muxed("matroska", "flac", piped=True),
    "sphere": sphere(PCM, sample_count=len(SPEECH)),
    "sphere stream": sphere(PCM, sample_count=0),
}
LOSSY = {
    "aac": muxed("adts", "aac"),
    "aac in mp4": muxed("ipod", "aac"),
    "opus in webm": muxed("webm", "libopus", np.repeat(SPEECH, 3), 48000),
}


@pytest.mark.parametrize("name", LOSSLESS)
def test_lossless_formats(name: str) -> None:
    samples = decode_audio(LOSSLESS[name]).samples
    np.testing.assert_array_equal(samples, SPEECH)


@pytest.mark.parametrize("name", LOSSY)
def test_lossy_formats_lose_nothing_at_the_end(name: str) -> None:
    waveform = decode_audio(LOSSY[name])
    seconds = len(waveform.samples) / waveform.sample_frequency
    assert 0 <= seconds - len(SPEECH) / 16000 < 0.15  # a frame of AAC is 64 ms long, and so is its delay


@pytest.mark.parametrize("name", [name for name in LOSSLESS | LOSSY if "stream" not in name])
def test_half_a_file_is_named(name: str) -> None:
    data = (LOSSLESS | LOSSY)[name]
    with pytest.raises(ValueError, match=r"^audio: (cut short|cannot be decoded|corrupt)"):
        decode_audio(data[: len(data) // 2])


def test_a_stream_of_matroska_that_is_cut_in_a_block() -> None:
    with pytest.raises(ValueError, match=r"^audio: cut short: \d+ bytes expected, \d+ found$"):
        decode_audio(LOSSLESS["flac in a matroska stream"][:-3])


@pytest.mark.parametrize("name", ["aiff", "au", "caf", "alac in mp4", "sphere"])
def test_joined_files_are_named(name: str) -> None:
    with pytest.raises(ValueError, match="another file is joined to it|samples follow$"):
        decode_audio(LOSSLESS[name] * 2)


ENTRIES = {
    "float wav": encoded("WAV", "FLOAT"),
    "w64": encoded("W64", "PCM_16"),
    "flac": encoded("FLAC", "PCM_16"),
    "vorbis": encoded("OGG", "VORBIS"),
    "mp3": encoded("MP3", "MPEG_LAYER_III"),
    "mp3 stream": muxed("mp3", "libmp3lame", write_xing="0"),
    **{name: LOSSLESS[name] for name in ("aiff", "au", "caf", "alac in mp4", "sphere")},
}


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_of_an_archive_ends_where_it_ends(name: str, tmp_path: Path) -> None:
    data = ENTRIES[name]
    (tmp_path / "a.ark").write_bytes(b"utt1 " + data + b"utt2 " + data)
    expected = decode_audio(data).samples
    for offset in (5, 10 + len(data)):
        waveform = read_waveform(f"a.ark:{offset}", AudioSource(root=tmp_path))
        np.testing.assert_array_equal(waveform.samples, expected)


@pytest.mark.parametrize(("layout", "num_channels"), [("stereo", 2), ("6.1", 7)])
def test_channels_in_planes(layout: str, num_channels: int) -> None:
    data = muxed("matroska", "aac", layout=layout)
    assert decode_recording(data).samples.shape[1] == num_channels


def test_more_channels_than_pyav_can_count() -> None:
    """Their planes were read until some null behind them came, which ended the process."""
    with pytest.raises(ValueError, match="^audio: 8 channels in planes, expected at most 7; take one"):
        decode_recording(muxed("matroska", "aac", layout="7.1"))


def test_amr() -> None:
    """Fifty frames of 20 ms; there is no encoder in the wheels, and any bits are speech of some kind."""
    frames = b"".join(b"\x3c" + bytes([n] * 31) for n in range(50))
    waveform = decode_audio(b"#!AMR\n" + frames)
    assert (len(waveform.samples), waveform.sample_frequency) == (8000, 8000)


@pytest.mark.parametrize("rate", [1, 999, 192_001, 2**32 - 1])
def test_rates_that_no_recording_has(rate: int) -> None:
    expected = f"a: a sample frequency of {rate} Hz, expected 1000 to 192000"
    for data in (riff(fmt(rate=rate % 2**31), chunk(b"data", PCM)), sphere(PCM, sample_rate=rate)):
        if data[24:28] == struct.pack("<I", rate % 2**31) != struct.pack("<I", rate):
            data = data[:24] + struct.pack("<I", rate) + data[28:]
        with pytest.raises(ValueError, match=f"^{expected}$"):
            decode_audio(data, where="a")


@pytest.mark.parametrize("rate", [1000, 8000, 192_000])
def test_rates_that_recordings_have(rate: int) -> None:
    assert decode_audio(riff(fmt(rate=rate), chunk(b"data", PCM))).sample_frequency == rate


@pytest.mark.parametrize(
    "value", ["0", "-1", "1e4", "²", "1" + "0" * 18, "1" + "0" * 300, "1" + "0" * 900, ""]
)
@pytest.mark.parametrize("field", ["sample_rate", "channel_count", "sample_n_bytes"])
def test_numbers_in_a_sphere_header(field: str, value: str) -> None:
    data = sphere(PCM).replace(re.search(rf"{field} -i \d+".encode(), sphere(PCM))[0], b"%s")
    header = data[:1024].replace(b"%s", f"{field} -s{len(value)} {value}".encode("latin-1"))
    with pytest.raises(ValueError, match=r"^audio: [^\n]{,160}$"):
        decode_audio(header[:1024].ljust(1024) + data[1024:])


@pytest.mark.parametrize("coding", ["\b" * 500, "pcm," + "x" * 500])
def test_long_words_in_a_sphere_header_are_cut(coding: str) -> None:
    with pytest.raises(ValueError, match=r"^audio: SPHERE coding .{,300}$"):
        decode_audio(sphere(PCM, sample_coding=coding))


@pytest.mark.parametrize(
    "data",
    [
        b"OggS" + bytes(60),
        b"FORM\0\0\0\0AIFFfile",
        b"fLaC" + b"\xff" * 60,
        b"\x1a\x45\xdf\xa3" + b"x" * 60,
        b"\0\0\0\x0cftypM4A " + bytes(60),
        b"caff\0\1\0\0desc" + bytes(60),
        b".snd" + b"\0\0\0\x18" + bytes(60),
        b"#!AMR\n" + bytes(3),
        b"\xff\xf1" + b"\xff" * 60,
        riff(fmt(0x161, 16), chunk(b"data", PCM)),
        riff(fmt(3, 64), chunk(b"data", b"")),
    ],
)
def test_the_words_of_libraries(data: bytes) -> None:
    with pytest.raises(ValueError, match="^u: a.x: ") as caught:
        decode_audio(data, where="u: a.x")
    assert not re.search(r"0x[0-9a-f]{4}|<|Errno|object at|\n", str(caught.value))


def test_an_au_header_that_promises_less_than_there_is() -> None:
    data = encoded("AU", "PCM_16")
    start = int.from_bytes(data[4:8], "big")
    with pytest.raises(
        ValueError, match=f"bytes behind its samples, from byte {start + 1000} on, are no part"
    ):
        decode_audio(data[:8] + (1000).to_bytes(4, "big") + data[12:])
    whole = decode_audio(data).samples
    np.testing.assert_array_equal(decode_audio(data + bytes(5000)).samples, whole)  # a disk's last block


@pytest.mark.parametrize(
    ("name", "form", "added", "following"),
    [
        ("CAF", ">q", 4, b"info" + struct.pack(">q", 2000) + bytes(range(1, 251)) * 8),
        ("W64", "<Q", 24, b"list" + bytes(range(12)) + struct.pack("<Q", 2024) + bytes(range(1, 251)) * 8),
    ],
)
def test_a_size_of_64_bits_that_promises_less_than_there_is(name, form, added, following) -> None:
    data = encoded(name, "PCM_16")
    whole = decode_audio(data).samples
    size = struct.pack(form, 2 * len(whole) + added)
    at = data.index(size, 40)  # of the chunk: CAF counts four bytes before the samples, W64 the header
    with pytest.raises(ValueError, match="bytes behind its samples, from byte \\d+ on, are no part of it"):
        decode_audio(data[:at] + struct.pack(form, 1000 + added) + data[at + 8 :])
    padded = data + bytes(-len(data) % 8 if name == "W64" else 0)
    np.testing.assert_array_equal(decode_audio(padded + following).samples, whole)  # a chunk behind it


def test_a_number_of_samples_that_the_bytes_cannot_hold() -> None:
    data = bytearray(encoded("FLAC", "PCM_16"))
    for total in (0, (1 << 36) - 1):  # libsndfile takes 0 for 2**63 - 1
        data[21:26] = (data[21] >> 4 << 36 | total).to_bytes(5, "big")
        with pytest.raises(ValueError, match=r"^a: corrupt: \d+ samples promised by 19003 bytes$"):
            decode_with_sndfile(bytes(data), "a")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"RF64\xff\xff\xff\xffWAVE", "wav"),
        (b"\xff\xe3\x18\xc4", "mpeg"),
        (b"\xff\xf1\x50\x80", "aac"),
        (b"#!AMR-WB\n", "amr"),
        (b"ID3\4\0\0\0\0\0\3abcfLaC", "flac"),
        (b"ID3\4\0\0\0\0\7\0", "mpeg"),
        (b"RIFF\0\0\0\0AVI ", None),
        (b"\xff\xff\xff\xff", None),
        (b"#EXTM3U\n", None),
        (b"", None),
    ],
)
def test_first_bytes(data: bytes, name: str | None) -> None:
    assert audio_format(data) == name


@pytest.mark.parametrize("size", [b"  1_024", b"  +1024", b"1024 x "])
def test_the_size_of_a_sphere_header_is_digits(size: bytes) -> None:
    data = sphere(bytes(8000), sample_count=4000)
    assert data[8:15] == b"   1024"
    with pytest.raises(ValueError, match="no size in it"):
        decode_audio(data[:8] + size + data[15:])


def test_numbers_of_a_library_s_errors_are_not_its_words() -> None:
    with pytest.raises(ValueError) as caught, decoder_errors("a"):
        raise OSError(-1308614848, "Error number -1308614848 occurred")
    assert str(caught.value) == "a: cannot be decoded (an unknown error of the decoder)"
