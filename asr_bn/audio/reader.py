"""Waveforms from files, archives and pipes, in Kaldi's scale (int16 range)."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr_bn.audio.decoding import check_format, decode
from asr_bn.audio.samples import Samples
from asr_bn.audio.source import AudioSource
from asr_bn.kaldi_io.data_dir import Utterance
from asr_bn.kaldi_io.rxfilename import read_source
from asr_bn.kaldi_io.utterance_id import prefix_errors
from asr_bn.system.arrays import Floats

MAX_OVERSHOOT_S = 0.5
"""How far a segment may run past the end of its recording and be clipped (Kaldi's ``--max-overshoot``)."""
MIN_SEGMENT_S = float(np.float32(0.1))
"""Shorter segments are left out (Kaldi's ``--min-segment-length``, a float of 32 bits)."""


class SkippedSegment(ValueError):
    """A segment that Kaldi's ``extract-segments`` leaves out; the message says why."""


@dataclass(frozen=True)
class Waveform:
    """Samples of one channel: float32 ``[num_samples]`` in int16 range, and their rate in Hz."""

    samples: Floats
    sample_frequency: int


@dataclass(frozen=True)
class Recording:
    """All channels of a recording, ``[num_samples, num_channels]`` in int16 range, and the rate in Hz."""

    samples: Samples
    sample_frequency: int

    def channel(self, channel: int | None, where: str) -> Samples:
        """Return the samples of a channel (from 0); None takes the only one.

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
        source: how recordings are read.
        sample_frequency: the rate wanted, in Hz; another one is an error, unless ``source.resample`` converts
            it (soxr, high quality).
    """

    def __init__(self, source: AudioSource = AudioSource(), sample_frequency: int | None = None) -> None:
        self._source = source
        self._sample_frequency = sample_frequency
        self._last: tuple[str, Recording] | None = None

    def read(self, utterance: Utterance) -> Waveform:
        """Read the utterance's samples.

        Raises:
            OSError: no such file.
            ValueError: the message begins with the utterance id and names the file: a failing command,
                an unreadable or empty file, a wrong rate or channel, a sample that is not finite, more than
                memory holds.
            SkippedSegment: a segment that Kaldi leaves out.
        """
        where = f"{utterance.utt_id}: {utterance.rxfilename}"
        try:
            return self._read(utterance, where)
        except MemoryError as error:
            raise ValueError(f"{where}: it needs more memory than there is") from error

    def _read(self, utterance: Utterance, where: str) -> Waveform:
        recording = self._recording(utterance, where)
        channel = self._source.channel if utterance.channel is None else utterance.channel
        if utterance.channel is not None and utterance.channel >= recording.samples.shape[1]:
            raise SkippedSegment(f"{where}: channel {channel} of {recording.samples.shape[1]}")
        samples = recording.channel(channel, where)
        if utterance.start is not None:
            samples = _cut(samples, utterance.start, utterance.end, recording.sample_frequency, where)
        return self._at_wanted_rate(_finite(samples, where), recording.sample_frequency, where)

    def _recording(self, utterance: Utterance, where: str) -> Recording:
        if self._last is not None and self._last[0] == utterance.rxfilename:
            return self._last[1]
        self._last = None  # before the next one is decoded, so that two are never held
        name, source = utterance.rxfilename, self._source
        with prefix_errors(utterance.utt_id, name):
            data = read_source(name, source.root, source.pipes, lambda head: check_format(head, where))
        recording = decode_recording(data, where)
        if utterance.start is not None:
            self._last = (name, recording)
        return recording

    def _at_wanted_rate(self, samples: Floats, frequency: int, where: str) -> Waveform:
        wanted = self._sample_frequency
        if wanted is None or frequency == wanted:
            return Waveform(samples, frequency)
        if not self._source.resample:
            raise ValueError(
                f"{where}: sampled at {frequency} Hz, expected {wanted} Hz; --resample converts it"
            )
        return Waveform(resample(samples, frequency, wanted), wanted)


def read(path: str | Path, channel: int | None = None) -> tuple[Floats, int]:
    """Read an audio file.

    Args:
        path: any format of `asr_bn.audio.formats`.
        channel: of a file with several, from 0.

    Returns:
        Samples ``[num_samples]`` in int16 range, and their rate in Hz.

    Raises:
        OSError: no such file.
        ValueError: a file that cannot be decoded; several channels and none chosen.
    """
    waveform = decode_audio(Path(path).read_bytes(), channel, str(path))
    return waveform.samples, waveform.sample_frequency


def read_waveform(
    recording: Utterance | str, source: AudioSource = AudioSource(), sample_frequency: int | None = None
) -> Waveform:
    """Read an utterance, or the file, archive offset or pipe of an rxfilename; see `WaveformReader`."""
    if isinstance(recording, str):
        recording = Utterance(recording, recording, recording, None, None, None)
    return WaveformReader(source, sample_frequency).read(recording)


def decode_audio(data: bytes, channel: int | None = None, where: str = "audio") -> Waveform:
    """Decode a file in memory; see `asr_bn.audio.formats`.

    Raises:
        ValueError: see `asr_bn.audio.decoding.decode`; several channels and none chosen; a sample that is
            not finite.
    """
    recording = decode_recording(data, where)
    return Waveform(_finite(recording.channel(channel, where), where), recording.sample_frequency)


def decode_recording(data: bytes, where: str = "audio") -> Recording:
    """Decode all channels of a file in memory, whose first bytes tell its format; see `decode_audio`."""
    return Recording(*decode(data, where))


def resample(samples: Floats, frequency: int, wanted: int) -> Floats:
    """Convert ``samples`` ``[num_samples]`` from ``frequency`` to ``wanted`` Hz."""
    import soxr

    converted: Floats = soxr.resample(samples, frequency, wanted, quality="HQ")
    return converted


def _finite(samples: Samples, where: str) -> Floats:
    waveform = samples.astype(np.float32)
    if samples.dtype != np.int16 and not np.isfinite(waveform).all():
        bad = int(np.flatnonzero(~np.isfinite(waveform))[0])
        raise ValueError(f"{where}: sample {bad} of {len(waveform)} is {waveform[bad]}")
    return waveform


def _cut(samples: Samples, start: float, end: float | None, frequency: int, where: str) -> Samples:
    """Cut out the samples of a segment, as Kaldi's ``featbin/extract-segments.cc`` does.

    Raises:
        SkippedSegment: it begins or ends too far behind the recording, or is too short.
    """
    # Kaldi's seconds are floats of 32 bits, its times in ``segments`` doubles.
    seconds = np.float32(len(samples)) / np.float32(frequency)
    length, last = float(seconds), float(seconds + np.float32(MAX_OVERSHOOT_S))
    segment = f"{where}: the segment from {start:g} to {'the end' if end is None else f'{end:g} seconds'}"
    if start > length or (end is not None and end > last):
        raise SkippedSegment(f"{segment} does not lie in the recording of {length:g} seconds")
    end = length if end is None else min(end, length)
    if end - start < MIN_SEGMENT_S:
        raise SkippedSegment(f"{segment} has less than {MIN_SEGMENT_S:.10g} seconds")
    return samples[int(start * frequency + 0.5) : min(int(end * frequency + 0.5), len(samples))]
