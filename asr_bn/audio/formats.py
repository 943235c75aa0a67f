"""Which audio formats are read, told by their first bytes, for the library and the server.

A decoder that guesses may take the bytes for a playlist or a script that names other files.  So it is told
the format found here.
"""

from asr_bn.audio.mpeg import FrameHeader, end_of_tags

HEAD_BYTES = 64
"""How many bytes of a file tell its format."""
_SIGNATURES = {
    "flac": (b"fLaC",),
    "sphere": (b"NIST_1A\n",),
    "ogg": (b"OggS",),
    "webm": (b"\x1a\x45\xdf\xa3",),
    "au": (b".snd",),
    "caf": (b"caff",),
    "w64": (b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00",),
    "amr": (b"#!AMR\n", b"#!AMR-WB\n"),
}


def audio_format(data: bytes) -> str | None:
    """Return the format's name, None for anything else; ID3v2 tags in front of it are passed over.

    >>> audio_format(b"RIFF....WAVEfmt ")
    'wav'
    >>> audio_format(b"#EXTM3U") is None
    True
    """
    position = end_of_tags(data)
    head = data[position : position + HEAD_BYTES]
    if head[:4] in (b"RIFF", b"RIFX", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "wav"
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if head[4:8] == b"ftyp":
        return "mp4"
    for name, signatures in _SIGNATURES.items():
        if head.startswith(signatures):
            return name
    if len(head) >= 2 and head[0] == 0xFF and head[1] & 0xF6 == 0xF0:
        return "aac"
    return "mpeg" if position or FrameHeader.parse(head, 0) else None
