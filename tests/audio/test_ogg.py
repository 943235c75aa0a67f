"""Ogg: chained files are read whole, and no page can be lost without a word."""

import random

import numpy as np
import pytest

from asr_bn.audio.reader import decode_audio
from tests.helpers.audio_files import SPEECH, encoded, muxed

LONG = np.tile(SPEECH, 4)
KINDS = {
    "vorbis": encoded("OGG", "VORBIS", LONG),
    "opus": encoded("OGG", "OPUS", LONG),
    "flac": muxed("ogg", "flac", LONG, piped=True),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_is_what_was_encoded(kind: str) -> None:
    assert len(decode_audio(KINDS[kind]).samples) == len(LONG)


def test_flac_in_ogg_is_bit_for_bit_what_was_encoded() -> None:
    np.testing.assert_array_equal(decode_audio(KINDS["flac"]).samples, LONG)


@pytest.mark.parametrize("kind", KINDS)
def test_chained_files_are_read_whole(kind: str) -> None:
    one = decode_audio(KINDS[kind]).samples
    np.testing.assert_array_equal(decode_audio(KINDS[kind] * 2).samples, np.concatenate([one, one]))


def test_chained_files_of_unlike_rates() -> None:
    with pytest.raises(ValueError, match="stream 2 in it has 8000 Hz"):
        decode_audio(KINDS["vorbis"] + encoded("OGG", "VORBIS", rate=8000))


def _pages(data: bytes) -> list[int]:
    starts, position = [], 0
    while position < len(data):
        starts.append(position)
        body = position + 27 + data[position + 26]
        position = body + sum(data[position + 27 : body])
    return starts


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_file(kind: str) -> None:
    data = KINDS[kind]
    for end in (len(data) // 2, len(data) - 1, _pages(data)[-1], _pages(data)[-1] + 5):
        with pytest.raises(ValueError, match="^audio: cut short"):
            decode_audio(data[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_no_damaged_bit_goes_unnoticed(kind: str) -> None:
    rng = random.Random(kind)
    for _ in range(40):
        damaged = bytearray(KINDS[kind])
        damaged[rng.randrange(4, len(damaged))] ^= 1 << rng.randrange(8)
        with pytest.raises(ValueError, match="^audio: (corrupt|cut short|cannot be decoded)"):
            decode_audio(bytes(damaged))


def test_something_else_between_chained_files() -> None:
    data = KINDS["vorbis"]
    with pytest.raises(ValueError, match=f"^audio: corrupt: no Ogg page at byte {len(data)}, but one behind"):
        decode_audio(data + b"junk" + data)
    assert len(decode_audio(data + b"TAG" + bytes(125)).samples) == len(LONG)


def test_a_missing_page() -> None:
    data = KINDS["vorbis"]
    first, second = _pages(data)[2:4]
    with pytest.raises(ValueError, match="^audio: (corrupt|cut short)"):
        decode_audio(data[:first] + data[second:])
