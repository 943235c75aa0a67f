"""Decoding a file in memory: the decoder that its format needs, and the checks common to all formats."""

from collections.abc import Callable

from asr_bn.audio.chunks import SampleBytes, aiff_samples, au_samples, caf_samples, check_matroska, check_mp4
from asr_bn.audio.ffmpeg import decode_with_av
from asr_bn.audio.flac import decode_flac
from asr_bn.audio.formats import audio_format
from asr_bn.audio.mpeg import decode_mpeg, end_of_tags
from asr_bn.audio.ogg import decode_ogg
from asr_bn.audio.samples import Decoded
from asr_bn.audio.sndfile import decode_with_sndfile
from asr_bn.audio.sphere import decode_sphere
from asr_bn.audio.wav import decode_wav

MIN_FREQUENCY, MAX_FREQUENCY = 1000, 192_000
"""Rates of recordings, in Hz; a header with another one is corrupt, or an attack on the resampler."""


def decode(data: bytes, where: str) -> Decoded:
    """Decode to samples ``[num_samples, num_channels]`` in int16 range, and the rate.

    The first bytes tell the format.

    Raises:
        ValueError: unknown format, cut short or corrupt, empty, or a rate that no recording has.
    """
    name = check_format(data, where)
    samples, frequency = _DECODERS[name](data[end_of_tags(data) :], where)
    if len(samples) == 0:
        raise ValueError(f"{where}: no samples in it")
    if not MIN_FREQUENCY <= frequency <= MAX_FREQUENCY:
        raise ValueError(
            f"{where}: a sample frequency of {frequency} Hz, expected {MIN_FREQUENCY} to {MAX_FREQUENCY}"
        )
    return samples, frequency


def check_format(head: bytes, where: str) -> str:
    """Find the format of a file by its first bytes.

    Raises:
        ValueError: an empty file, or a format that is not read.
    """
    if not head:
        raise ValueError(f"{where}: an empty file")
    name = audio_format(head)
    if name is None:
        raise ValueError(
            f"{where}: unknown audio format (it begins with {head[:8]!r}); WAV, FLAC, OGG, MP3, AIFF, AU,"
            " CAF, SPHERE, MP4, WebM, AAC and AMR are read, others through a pipe in wav.scp"
        )
    return name


def _sized(find: Callable[[bytes, str], SampleBytes], demuxer: str) -> Callable[[bytes, str], Decoded]:
    """Make a decoder of files whose header tells how many bytes of samples follow."""
    return lambda data, where: decode_with_sndfile(find(data, where).with_true_sizes(data), where, demuxer)


def _checked(check: Callable[[bytes, str], None], demuxer: str) -> Callable[[bytes, str], Decoded]:
    """Make a decoder by FFmpeg that first checks the file, since FFmpeg takes a part of it for the whole."""

    def decoder(data: bytes, where: str) -> Decoded:
        check(data, where)
        return decode_with_av(data, demuxer, where)

    return decoder


_DECODERS: dict[str, Callable[[bytes, str], Decoded]] = {
    "wav": decode_wav,
    "w64": decode_wav,
    "flac": decode_flac,
    "ogg": decode_ogg,
    "mpeg": decode_mpeg,
    "sphere": decode_sphere,
    "aiff": _sized(aiff_samples, "aiff"),
    "au": _sized(au_samples, "au"),
    "caf": _sized(caf_samples, "caf"),
    "mp4": _checked(check_mp4, "mov"),
    "webm": _checked(check_matroska, "matroska"),
    "aac": lambda data, where: decode_with_av(data, "aac", where),
    "amr": lambda data, where: decode_with_av(data, "amr", where),
}
