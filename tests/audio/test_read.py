"""`asr_bn.audio.read`: the library's door for one file."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr_bn import audio


def test_samples_are_in_int16_range_with_their_rate(tmp_path: Path) -> None:
    samples = np.array([0, 1, -32768, 32767, 12345], np.int16)
    soundfile.write(tmp_path / "speech.flac", samples, 8000)
    for path in (tmp_path / "speech.flac", str(tmp_path / "speech.flac")):
        waveform, sample_frequency = audio.read(path)
        assert waveform.dtype == np.float32 and sample_frequency == 8000
        np.testing.assert_array_equal(waveform, samples)


def test_a_channel_of_several_is_chosen(tmp_path: Path) -> None:
    samples = np.array([[1, -2], [3, -4]], np.int16)
    soundfile.write(tmp_path / "two.wav", samples, 16000)
    np.testing.assert_array_equal(audio.read(tmp_path / "two.wav", channel=1)[0], [-2, -4])
    with pytest.raises(ValueError, match="two.wav: 2 channels; choose one"):
        audio.read(tmp_path / "two.wav")


def test_what_is_no_audio_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.wav").write_bytes(b"no audio at all")
    with pytest.raises(ValueError, match="x.wav: "):
        audio.read(tmp_path / "x.wav")
    with pytest.raises(FileNotFoundError):
        audio.read(tmp_path / "absent.wav")
