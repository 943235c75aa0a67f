"""Waveforms from files, archives and pipes, in Kaldi's scale (int16 range)."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr_bn.audio_av import decode_with_av
from asr_bn.audio_sphere import MAGIC as SPHERE_MAGIC
from asr_bn.audio_sphere import decode_sphere
from asr_bn.audio_wav import decode_pcm16_wav
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.kaldi_io.rxfilename import DEFAULT_PIPES, PipePolicy, is_pipe, naming, open_input, run_pipe

MAX_OVERSHOOT_S = 0.5
"""How far a segment may run past the end of its recording and be clipped (Kaldi's ``--max-overshoot``)."""
_AV_DEMUXERS = {b"\x1a\x45\xdf\xa3": "matroska"}
_SNDFILE_MAGIC = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b".snd", b"caff")
_MP3_MAGIC = (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa")


@dataclass(frozen=True)
class Waveform:
    """Samples of one channel: float32 ``[num_samples]`` in int16 range, and their rate in Hz."""

    samples: NDArray[np.float32]
    sample_frequency: int


@dataclass(frozen=True)
class Recording:
    """All channels of a recording, ``[num_samples, num_channels]`` in int16 range, and the rate in Hz."""

    samples: NDArray[np.int16] | NDArray[np.float32]
    sample_frequency: int

    def channel(self, channel: int | None, where: str) -> NDArray[np.int16] | NDArray[np.float32]:
        """Samples of a channel (from 0); None takes the only one.

        Raises:
            ValueError: several channels and none chosen, or no such channel.
        """
        num_channels = self.samples.shape[1]
        if channel is None and num_channels > 1:
            raise ValueError(f"{where}: {num_channels} channels; choose one (--channel, from 0)")
        if not 0 <= (channel or 0) < num_channels:
            raise ValueError(f"{where}: channel {channel} of {num_channels} (they count from 0)")
        return self.samples[:, channel or 0]


class WaveformReader:
    """Reads utterances; the last recording is kept, so that its segments decode it once.

    Args:
        root: where relative names start from (default: the current folder).
        channel: of recordings with several, from 0; a channel in ``segments`` goes before it.
        sample_frequency: the rate wanted, in Hz; another one is an error, unless ``resample``.
        resample: convert other rates to ``sample_frequency`` (soxr, high quality).
        pipes: whether commands are run.
    """

    def __init__(
        self,
        root: Path | None = None,
        channel: int | None = None,
        sample_frequency: int | None = None,
        resample: bool = False,
        pipes: PipePolicy = DEFAULT_PIPES,
    ) -> None:
        self._root = root
        self._channel = channel
        self._sample_frequency = sample_frequency
        self._resample = resample
        self._pipes = pipes
        self._last: tuple[str, Recording] | None = None

    def read(self, utterance: Utterance) -> Waveform:
        """The utterance's samples.

        Raises:
            OSError: no such file.
            ValueError: the message begins with the utterance id and names the file: a failing command,
                an unreadable or empty file, a wrong rate, channel or segment, a sample that is not finite.
        """
        where = f"{utterance.utt_id}: {utterance.rxfilename}"
        recording = self._recording(utterance, where)
        channel = self._channel if utterance.channel is None else utterance.channel
        samples = recording.channel(channel, where)
        if utterance.start is not None:
            samples = _cut(samples, utterance.start, utterance.end, recording.sample_frequency, where)
        return self._at_wanted_rate(_finite(samples, where), recording.sample_frequency, where)

    def _recording(self, utterance: Utterance, where: str) -> Recording:
        if self._last is not None and self._last[0] == utterance.rxfilename:
            return self._last[1]
        self._last = None  # before the next one is decoded, so that two are never held
        recording = decode_recording(_read_bytes(utterance, self._root, self._pipes), where)
        if utterance.start is not None:
            self._last = (utterance.rxfilename, recording)
        return recording

    def _at_wanted_rate(self, samples: NDArray[np.float32], frequency: int, where: str) -> Waveform:
        wanted = self._sample_frequency
        if wanted is None or frequency == wanted:
            return Waveform(samples, frequency)
        if not self._resample:
            raise ValueError(
                f"{where}: sampled at {frequency} Hz, expected {wanted} Hz; --resample converts it"
            )
        return Waveform(resample(samples, frequency, wanted), wanted)


def read_waveform(
    source: Utterance | str,
    root: Path | None = None,
    channel: int | None = None,
    sample_frequency: int | None = None,
    resample: bool = False,
    pipes: PipePolicy = DEFAULT_PIPES,
) -> Waveform:
    """One utterance, or the file, archive offset or pipe that an rxfilename names; see `WaveformReader`."""
    if isinstance(source, str):
        source = Utterance(source, source, source, None, None, None)
    return WaveformReader(root, channel, sample_frequency, resample, pipes).read(source)


def decode_audio(data: bytes, channel: int | None = None, where: str = "audio") -> Waveform:
    """Decode a file in memory: WAV, FLAC, OGG, MP3, AIFF, NIST SPHERE, MP4, WebM.

    Raises:
        ValueError: unknown format, cut short or corrupt, empty, several channels and none chosen.
    """
    recording = decode_recording(data, where)
    return Waveform(_finite(recording.channel(channel, where), where), recording.sample_frequency)


def decode_recording(data: bytes, where: str = "audio") -> Recording:
    """All channels of a file in memory, told apart by its first bytes; see `decode_audio`."""
    if not data:
        raise ValueError(f"{where}: an empty file")
    samples, frequency = _decode(data, where)
    if len(samples) == 0:
        raise ValueError(f"{where}: no samples in it")
    return Recording(samples, frequency)


def resample(samples: NDArray[np.float32], frequency: int, wanted: int) -> NDArray[np.float32]:
    """``samples`` ``[num_samples]`` converted from ``frequency`` to ``wanted`` Hz."""
    import soxr

    converted: NDArray[np.float32] = soxr.resample(samples, frequency, wanted, quality="HQ")
    return converted


def _decode(data: bytes, where: str) -> tuple[NDArray[np.int16] | NDArray[np.float32], int]:
    if (wav := decode_pcm16_wav(data, where)) is not None:
        return wav
    if data.startswith(SPHERE_MAGIC):
        return decode_sphere(data, where)
    if data[4:8] == b"ftyp":
        return decode_with_av(data, "mov", where)
    if data[:4] in _AV_DEMUXERS:
        return decode_with_av(data, _AV_DEMUXERS[data[:4]], where)
    if data.startswith((*_SNDFILE_MAGIC, *_MP3_MAGIC)):
        return _decode_with_sndfile(data, where)
    raise ValueError(
        f"{where}: unknown audio format (it begins with {data[:8]!r}); WAV, FLAC, OGG, MP3, AIFF, SPHERE, MP4"
        " and WebM are read, others through a pipe in wav.scp"
    )


def _decode_with_sndfile(data: bytes, where: str) -> tuple[NDArray[np.int16] | NDArray[np.float32], int]:
    import soundfile

    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            expected, frequency, integer = file.frames, int(file.samplerate), file.subtype == "PCM_16"
            samples = file.read(dtype="int16" if integer else "float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise ValueError(f"{where}: cannot be decoded ({error})") from error
    if len(samples) < expected:
        raise ValueError(f"{where}: cut short: {expected} samples expected, {len(samples)} found")
    return (samples if integer else samples * np.float32(32768)), frequency


def _read_bytes(utterance: Utterance, root: Path | None, pipes: PipePolicy) -> bytes:
    with naming(utterance.utt_id):
        if is_pipe(utterance.rxfilename):
            return run_pipe(utterance.rxfilename, root, pipes)
        with open_input(utterance.rxfilename, root, pipes) as stream:
            return stream.read()


def _finite(samples: NDArray[np.int16] | NDArray[np.float32], where: str) -> NDArray[np.float32]:
    waveform = samples.astype(np.float32)
    if samples.dtype != np.int16 and not np.isfinite(waveform).all():
        bad = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise ValueError(f"{where}: sample {bad} of {len(waveform)} is {waveform[bad]}")
    return waveform


def _cut(
    samples: NDArray[np.int16] | NDArray[np.float32],
    start: float,
    end: float | None,
    frequency: int,
    where: str,
) -> NDArray[np.int16] | NDArray[np.float32]:
    """The samples of a segment, as Kaldi's ``extract-segments`` takes them."""
    num_samples = len(samples)
    first = int(start * frequency + 0.5)
    last = num_samples if end is None else int(end * frequency + 0.5)
    if first >= num_samples or last >= num_samples + int(MAX_OVERSHOOT_S * frequency):
        raise ValueError(
            f"{where}: the segment from {start:g} to {end} seconds does not lie in the recording of"
            f" {num_samples / frequency:g} seconds"
        )
    if last <= first:
        raise ValueError(f"{where}: the segment from {start:g} to {end} seconds has no samples")
    return samples[first : min(last, num_samples)]
