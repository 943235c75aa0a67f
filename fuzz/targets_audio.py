"""The audio reader, one target for each family of containers: samples, or a sentence that names the file."""

import re

import numpy as np

from asr_bn.audio.decoding import MAX_FREQUENCY, MIN_FREQUENCY
from asr_bn.audio.formats import audio_format
from asr_bn.audio.ogg import checksum
from asr_bn.audio.reader import decode_recording
from fuzz.targets import Target

_INTERNALS = re.compile(r"0x[0-9a-f]{6}|object at|Errno|Traceback|\n")


def _reader_of(*formats: str) -> Target:
    """A target that decodes files of these formats and passes over others."""

    def target(data: bytes) -> None:
        if audio_format(data) in formats:
            _decode(data)

    return target


def _decode(data: bytes) -> None:
    try:
        recording = decode_recording(data, "u: a.x")
    except ValueError as error:
        assert str(error).startswith("u: a.x: "), error
        assert len(str(error)) < 400, error
        assert not _INTERNALS.search(str(error)), error
    else:
        assert recording.samples.dtype in (np.int16, np.float32)
        assert min(recording.samples.shape) > 0
        assert MIN_FREQUENCY <= recording.sample_frequency <= MAX_FREQUENCY


def ogg(data: bytes) -> None:
    """Decode Ogg with the checksums that its pages should have: without them nothing behind is reached."""
    mended, position = bytearray(data), 0
    while data.startswith(b"OggS", position) and position + 27 <= len(data):
        body = position + 27 + data[position + 26]
        end = body + sum(data[position + 27 : body])
        mended[position + 22 : position + 26] = bytes(4)
        mended[position + 22 : position + 26] = checksum(bytes(mended[position:end])).to_bytes(4, "little")
        position = end
    if audio_format(data) == "ogg":
        _decode(bytes(mended))


TARGETS: dict[str, Target] = {
    "audio_wav": _reader_of("wav", "w64"),
    "audio_sphere": _reader_of("sphere"),
    "audio_flac": _reader_of("flac"),
    "audio_ogg": ogg,
    "audio_mpeg": _reader_of("mpeg"),
    "audio_chunks": _reader_of("aiff", "au", "caf"),
    "audio_ffmpeg": _reader_of("mp4", "webm", "aac", "amr"),
}
