"""Files of tiny parts are refused before reading all their headers takes the time of an hour of speech."""

import struct

import pytest

from asr_bn.audio.reader import decode_audio

NUM_PARTS = 800_000
W64 = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
FILES = {
    "ID3 tags": b"ID3\x04\0\0\0\0\0\0" * NUM_PARTS,
    "RIFF chunks": b"RIFF" + struct.pack("<I", 8 * NUM_PARTS) + b"WAVE" + b"JUNK\0\0\0\0" * NUM_PARTS,
    "AIFF chunks": b"FORM" + struct.pack(">I", 8 * NUM_PARTS) + b"AIFF" + b"JUNK\0\0\0\0" * NUM_PARTS,
    "W64 chunks": W64 + bytes(24) + (b"junk" + bytes(12) + struct.pack("<Q", 24)) * NUM_PARTS,
    "CAF chunks": b"caff\0\1\0\0" + (b"free" + bytes(8)) * NUM_PARTS,
    "MP4 boxes": b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free" * NUM_PARTS,
    "Matroska elements": b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01" + b"\xff" * 7 + b"\xec\x80" * NUM_PARTS,
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_of_tiny_parts_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^speech: corrupt: more than \d+ parts"):
        decode_audio(FILES[kind], where="speech")


def test_a_few_tags_and_chunks_are_passed_over() -> None:
    samples = struct.pack("<4h", 1, -2, 3, -4)
    fmt = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    body = b"WAVE" + b"JUNK\0\0\0\0" * 1000 + fmt + b"data" + struct.pack("<I", len(samples)) + samples
    wav = b"ID3\x04\0\0\0\0\0\0" * 20 + b"RIFF" + struct.pack("<I", len(body)) + body
    assert decode_audio(wav).samples.tolist() == [1, -2, 3, -4]
