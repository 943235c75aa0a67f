"""Audio against sph2pipe's and libsndfile's decoding, and Kaldi's rules for segments and archives."""

import io
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_bn.audio.reader import SkippedSegment, WaveformReader, decode_audio, decode_recording, read_waveform
from asr_bn.audio.source import AudioSource
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.kaldi_io.rxfilename import PipePolicy
from tests.helpers.audio_files import sphere
from tests.helpers.kaldi_fixtures import FSDD, SPHERE, SYNTHETIC, needs_fsdd, needs_sphere

WAV = SYNTHETIC / "audio/syn16.wav"
SAMPLES = soundfile.read(WAV, dtype="int16")[0]


def _encode(samples: np.ndarray, rate: int, **kwargs: str) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, **kwargs)
    return buffer.getvalue()


@needs_sphere
@pytest.mark.parametrize(
    "name", ["123_1pcbe_shn", "123_1pcle_shn", "123_2pcbe_shn", "123_2pcle_shn", "123_2alaw"]
)
def test_sphere_is_bit_for_bit_what_sph2pipe_gives(name: str) -> None:
    recording = decode_recording((SPHERE / f"{name}.sph").read_bytes())
    expected, rate = soundfile.read(SPHERE / f"{name}.wav", dtype="int16", always_2d=True)
    assert recording.sample_frequency == rate
    np.testing.assert_array_equal(recording.samples, expected)


@needs_sphere
@pytest.mark.parametrize("name", ["123_1ulaw_shn", "123_2ulaw_shn"])
def test_shorten_compressed_mu_law_says_how_to_use_a_pipe(name: str) -> None:
    with pytest.raises(ValueError, match=r"ulaw,embedded-shorten.*'sph2pipe -f wav FILE \|' in wav.scp"):
        read_waveform(str(SPHERE / f"{name}.sph"))


@pytest.mark.parametrize("order", ["01", "10"])
def test_plain_sphere(order: str) -> None:
    body = SAMPLES.astype("<i2" if order == "01" else ">i2").tobytes()
    data = sphere(body, sample_byte_format=order, sample_count=len(SAMPLES), sample_coding="pcm")
    np.testing.assert_array_equal(decode_audio(data).samples, SAMPLES)


def mu_law(code: int) -> int:
    """The sample of a mu-law code (ITU-T G.711), on the scale of 16 bits."""
    code = ~code & 0xFF
    magnitude = (2 * (code & 15) + 33 << (code >> 4 & 7)) - 33
    return 4 * (-magnitude if code & 0x80 else magnitude)


def a_law(code: int) -> int:
    """The sample of an A-law code (ITU-T G.711), on the scale of 16 bits."""
    code ^= 0x55
    exponent, mantissa = code >> 4 & 7, code & 15
    magnitude = 2 * mantissa + (33 if exponent else 1) << max(exponent - 1, 0)
    return 8 * (magnitude if code & 0x80 else -magnitude)


@pytest.mark.parametrize("name", ["ulaw", "mu-law", "alaw", "a-law"])
def test_companded_sphere_is_g711(name: str) -> None:
    subtype, expand = ("ALAW", a_law) if name.startswith("a") else ("ULAW", mu_law)
    codes = np.arange(256, dtype=np.uint8)
    expected, _ = soundfile.read(
        io.BytesIO(codes.tobytes()), dtype="int16", samplerate=8000, channels=1, subtype=subtype, format="RAW"
    )
    np.testing.assert_array_equal(expected, [expand(code) for code in range(256)])
    data = sphere(codes.tobytes(), sample_n_bytes=1, sample_coding=name, sample_byte_format="1")
    np.testing.assert_array_equal(decode_audio(data).samples, expected)


@pytest.mark.parametrize(
    ("format", "subtype", "tolerance"),
    [
        ("FLAC", "PCM_16", 0),
        ("WAV", "PCM_16", 0),
        ("WAVEX", "PCM_16", 0),
        ("AIFF", "PCM_16", 0),
        ("WAV", "PCM_24", 0),
        ("WAV", "FLOAT", 0),
        ("RF64", "PCM_16", 0),
        ("OGG", "VORBIS", 400),
        ("MP3", "MPEG_LAYER_III", 900),
    ],
)
def test_formats_keep_the_scale_of_int16(format: str, subtype: str, tolerance: int) -> None:
    tone = (8000 * np.sin(np.arange(16000) * 0.05)).astype(np.int16)
    source = tone / 32768 if subtype == "FLOAT" else tone
    waveform = decode_audio(_encode(source, 16000, format=format, subtype=subtype))
    assert waveform.samples.dtype == np.float32
    assert waveform.sample_frequency == 16000
    inner = slice(2000, 14000)  # lossy codecs ring at the ends
    assert np.abs(waveform.samples[: len(tone)][inner] - tone[inner]).max() <= tolerance


@needs_fsdd
def test_flac_and_wav_of_a_corpus() -> None:
    for path in [*sorted((FSDD / "flac/train").iterdir())[:10], *sorted((FSDD / "wav/dev").iterdir())[:10]]:
        expected, rate = soundfile.read(path, dtype="int16")
        waveform = read_waveform(str(path))
        assert waveform.sample_frequency == rate
        np.testing.assert_array_equal(waveform.samples, expected)


def test_a_wav_from_a_pipe_with_the_sizes_of_a_stream(tmp_path: Path) -> None:
    data = bytearray(WAV.read_bytes())
    data[4:8] = data[40:44] = struct.pack("<I", 0xFFFFFFFF)
    (tmp_path / "stream").write_bytes(data)
    np.testing.assert_array_equal(read_waveform("cat stream |", AudioSource(root=tmp_path)).samples, SAMPLES)


def test_archive_offsets(tmp_path: Path) -> None:
    wav = WAV.read_bytes()
    first = b"utt1 " + wav + b"utt2 "
    (tmp_path / "wav.ark").write_bytes(first + (SYNTHETIC / "audio/syn6.wav").read_bytes())
    np.testing.assert_array_equal(read_waveform("wav.ark:5", AudioSource(root=tmp_path)).samples, SAMPLES)
    assert len(read_waveform(f"wav.ark:{len(first)}", AudioSource(root=tmp_path)).samples) == 1200
    with pytest.raises(ValueError, match="offset lies past the end"):
        read_waveform("wav.ark:999999", AudioSource(root=tmp_path))


def test_names_with_spaces_and_colons(tmp_path: Path) -> None:
    for name in ("with space.wav", "take:12", "back\\slash"):
        (tmp_path / name).write_bytes(WAV.read_bytes())
        np.testing.assert_array_equal(read_waveform(name, AudioSource(root=tmp_path)).samples, SAMPLES)


def _segment(
    start: float | None, end: float | None, channel: int | None = None, name: str = str(WAV)
) -> Utterance:
    return Utterance("u", "r", name, start, end, None, channel)


@pytest.mark.parametrize(
    ("start", "end", "first", "last"),
    [
        (0.0, 0.11, 0, 1760),
        (0.01003, 0.12004, 160, 1921),  # int(t * rate + 0.5): 160.98 and 1921.14
        (0.05, None, 800, 2800),
        (0.05, 0.5, 800, 2800),  # runs past the end by less than half a second: clipped
        (0.05, 0.675, 800, 2800),  # by half a second
    ],
)
def test_segments_as_extract_segments_takes_them(
    start: float, end: float | None, first: int, last: int
) -> None:
    np.testing.assert_array_equal(read_waveform(_segment(start, end)).samples, SAMPLES[first:last])


@pytest.mark.parametrize(
    ("start", "end", "why"),
    [
        (0.2, None, "does not lie in"),
        (0.0, 0.6751, "does not lie in"),
        (0.1, None, "has less than 0.1"),
        (0.05, 0.1499, "has less than 0.1"),
        (0.0, 0.1, "has less than 0.1"),  # Kaldi's 0.1 is a float of 32 bits, and larger
    ],
)
def test_segments_that_extract_segments_leaves_out(start: float, end: float | None, why: str) -> None:
    with pytest.raises(SkippedSegment, match=rf"^u: .*syn16\.wav: the segment from .* {why}"):
        read_waveform(_segment(start, end))


def test_a_recording_is_decoded_once_for_its_segments(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(WAV.read_bytes())
    reader = WaveformReader()
    reader.read(_segment(0.0, 0.11, name=str(path)))
    path.unlink()
    np.testing.assert_array_equal(
        reader.read(_segment(0.05, 0.16, name=str(path))).samples, SAMPLES[800:2560]
    )


def test_channels(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([SAMPLES, SAMPLES[::-1]], axis=1), 16000)
    for channel, expected in ((0, SAMPLES), (1, SAMPLES[::-1])):
        np.testing.assert_array_equal(
            read_waveform(str(path), AudioSource(channel=channel)).samples, expected
        )
    np.testing.assert_array_equal(
        read_waveform(_segment(0.0, None, channel=1, name=str(path)), AudioSource(channel=0)).samples,
        SAMPLES[::-1],
    )
    with pytest.raises(ValueError, match="2 channels; choose one"):
        read_waveform(str(path))
    with pytest.raises(ValueError, match="channel 2 of 2"):
        read_waveform(str(path), AudioSource(channel=2))
    with pytest.raises(SkippedSegment, match=r"^u: .*stereo\.wav: channel 2 of 2"):  # as extract-segments
        read_waveform(_segment(0.0, None, channel=2, name=str(path)))


def test_rates_and_resampling() -> None:
    with pytest.raises(ValueError, match="sampled at 16000 Hz, expected 8000 Hz"):
        read_waveform(str(WAV), sample_frequency=8000)
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype(np.int16)
    reader = WaveformReader(AudioSource(resample=True), sample_frequency=8000)
    path = io.BytesIO(_encode(tone, 16000, format="WAV"))
    converted = decode_audio(path.getvalue())
    resampled = reader._at_wanted_rate(converted.samples, 16000, "u")
    expected = 8000 * np.sin(2 * np.pi * 440 * np.arange(8000) / 8000)
    assert resampled.sample_frequency == 8000
    assert np.abs(resampled.samples[500:-500] - expected[500:-500]).max() < 5


def test_pipes() -> None:
    np.testing.assert_array_equal(read_waveform(f"cat {WAV} |").samples, SAMPLES)
    np.testing.assert_array_equal(read_waveform(f"cat {WAV} | cat |").samples, SAMPLES)
    for policy, command, sentence in (
        (PipePolicy(allowed=False), f"cat {WAV} |", "pipes are refused"),
        (PipePolicy(), "echo no such tape >&2; exit 3 |", "exit code 3: no such tape"),
        (PipePolicy(), "true |", "wrote nothing"),
        (PipePolicy(timeout_s=0.2), "sleep 60 |", "still running after 0.2 seconds"),
    ):
        with pytest.raises(ValueError, match=sentence):
            read_waveform(command, AudioSource(pipes=policy))
