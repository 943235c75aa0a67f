"""Which audio formats a client may send: those that the library reads, told by their first bytes."""

from asr_bn.audio.formats import audio_format

__all__ = ["audio_format"]
