"""Which audio formats a client may send, told by their first bytes.

A decoder left to guess may take a body for a playlist or a script that names other files.  So only these
are passed on to it.
"""

_SIGNATURES = {
    "flac": (b"fLaC",),
    "sphere": (b"NIST_1A\n",),
    "ogg": (b"OggS",),
    "webm": (b"\x1a\x45\xdf\xa3",),
    "mp3": (b"ID3", b"\xff\xfb", b"\xff\xf3", b"\xff\xf2", b"\xff\xfa"),
    "au": (b".snd",),
}


def audio_format(data: bytes) -> str | None:
    """The format's name, None for anything else.

    >>> audio_format(b"RIFF....WAVEfmt ")
    'wav'
    >>> audio_format(b"#EXTM3U") is None
    True
    """
    if data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] == b"WAVE":
        return "wav"
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return "aiff"
    if data[4:8] == b"ftyp":
        return "mp4"
    for name, signatures in _SIGNATURES.items():
        if data.startswith(signatures):
            return name
    return None
