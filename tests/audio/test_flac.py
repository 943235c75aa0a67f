"""FLAC: unknown and wrong lengths, cut tails, lost frames; the oracle is what was encoded."""

import re

import numpy as np
import pytest

from asr_bn.audio.reader import decode_audio
from tests.helpers.audio_files import SPEECH, encoded, id3v2, muxed

LONG = np.tile(SPEECH, 3)
FLAC = encoded("FLAC", "PCM_16", LONG)


def _with_total(data: bytes, total: int) -> bytes:
    return data[:21] + bytes([data[21] & 0xF0 | total >> 32]) + total.to_bytes(5, "big")[1:] + data[26:]


def _frames(data: bytes) -> list[int]:
    """Where the frames of 4096 samples begin; all but the last share their first four bytes."""
    first = data.index(b"\xff\xf8", 86)
    return [match.start() for match in re.finditer(re.escape(data[first : first + 4]), data)]


@pytest.mark.parametrize(
    "data",
    [
        _with_total(FLAC, 0),
        muxed("flac", "flac", LONG, piped=True),
        id3v2(200) + FLAC,
        FLAC + b"TAG" + bytes(125),
        FLAC + bytes(5000),
    ],
    ids=["unknown", "FFmpeg's stream", "ID3v2", "ID3v1", "zeros"],
)
def test_whole_files(data: bytes) -> None:
    np.testing.assert_array_equal(decode_audio(data).samples, LONG)


@pytest.mark.parametrize("subtype", ["PCM_S8", "PCM_24"])
def test_unknown_length_in_other_widths(subtype: str) -> None:
    data = encoded("FLAC", subtype)
    np.testing.assert_array_equal(decode_audio(_with_total(data, 0)).samples, decode_audio(data).samples)


@pytest.mark.parametrize("left_out", [1, 3, 100, 5000])
@pytest.mark.parametrize("known", [True, False])
def test_a_cut_tail(left_out: int, known: bool) -> None:
    data = FLAC if known else _with_total(FLAC, 0)
    with pytest.raises(ValueError, match=r"^audio: (cut short: no whole frame|cannot be decoded|its header)"):
        decode_audio(data[:-left_out])


@pytest.mark.parametrize("total", [1000, len(LONG) - 1, len(LONG) + 1, 1 << 35])
def test_a_header_with_another_length(total: int) -> None:
    with pytest.raises(ValueError, match=f"promises {total} samples, its last frame ends at {len(LONG)}$"):
        decode_audio(_with_total(FLAC, total))


def test_joined_files_are_read_whole() -> None:
    both = decode_audio(FLAC + encoded("FLAC", "PCM_16")).samples
    np.testing.assert_array_equal(both, np.concatenate([LONG, SPEECH]))
    with pytest.raises(
        ValueError, match="stream 2 in it has 8000 Hz and 1 channels, the first 16000 Hz and 1$"
    ):
        decode_audio(FLAC + encoded("FLAC", "PCM_16", rate=8000))


def test_another_file_behind_something_else() -> None:
    with pytest.raises(ValueError, match="another FLAC file at byte .*, behind something else$"):
        decode_audio(FLAC + b"TAG" + bytes(125) + FLAC)


def test_a_frame_that_is_missing_or_twice_there() -> None:
    third, fourth = _frames(FLAC)[2:4]
    for data in (FLAC[:third] + FLAC[fourth:], FLAC[:fourth] + FLAC[third:]):
        with pytest.raises(ValueError, match=r"^audio: (corrupt: the MD5 of its samples|cannot be decoded)"):
            decode_audio(data)


def test_a_header_alone() -> None:
    for data in (FLAC[:30], _with_total(FLAC[:86], 0), b"fLaC" + b"\xff" * 60):
        with pytest.raises(ValueError, match="^audio: cut short"):
            decode_audio(data)
